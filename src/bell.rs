//! Hints from the applier to whoever follows a task: its files have changed, look now. A hint may be missed, and another
//! process gives none: who follows looks on its own account, too, only later.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::watch;

use crate::event::Key;

/// The keys that are followed in this process.
#[derive(Default)]
pub struct Bell {
    followed: Mutex<HashMap<Key, watch::Sender<()>>>,
    /// How many: what rings need not lock when nobody listens.
    keys: AtomicUsize,
    lists: OnceLock<Box<Hears>>,
}

/// What is told of keys.
type Hears = dyn Fn(&Key) + Send + Sync;

/// Hears of one key's changes, as long as it lives.
#[derive(Debug)]
pub struct Listener {
    bell: Arc<Bell>,
    key: Key,
    rung: Option<watch::Receiver<()>>,
}

// === impl Bell ===

impl Bell {
    /// Hears of a key's changes from now on.
    pub fn listen(self: &Arc<Self>, key: Key) -> Listener {
        let mut followed = self.lock();
        let rung = followed.entry(key.clone()).or_insert_with(|| watch::Sender::new(())).subscribe();
        self.keys.store(followed.len(), Ordering::Release);
        Listener { bell: Arc::clone(self), key, rung: Some(rung) }
    }

    /// A key's files have changed.
    pub fn ring(&self, key: &Key) {
        if self.keys.load(Ordering::Acquire) > 0
            && let Some(rung) = self.lock().get(key)
        {
            rung.send_replace(());
        }
    }

    /// Tells whoever keeps lists of all keys, from now on. There is one: the first stays.
    pub fn tell_lists(&self, hears: impl Fn(&Key) + Send + Sync + 'static) {
        drop(self.lists.set(Box::new(hears)));
    }

    /// What a list shows of a key has changed.
    pub fn ring_lists(&self, key: &Key) {
        if let Some(hears) = self.lists.get() {
            hears(key);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, watch::Sender<()>>> {
        // Each use is one call that leaves a whole map.
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("keys", &self.keys).finish_non_exhaustive()
    }
}

// === impl Listener ===

impl Listener {
    /// Waits for the first change since the last call.
    pub async fn heard(&mut self) {
        match &mut self.rung {
            // The sender lives as long as this does.
            Some(rung) => drop(rung.changed().await),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.rung = None;
        let mut followed = self.bell.lock();
        if followed.get(&self.key).is_some_and(|rung| rung.receiver_count() == 0) {
            followed.remove(&self.key);
        }
        self.bell.keys.store(followed.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Id;

    fn key(text: &str) -> Key {
        Key::Task(Id::parse(text).unwrap())
    }

    #[test]
    fn lists_hear_of_every_key() {
        let (bell, heard) = (Bell::default(), Arc::<Mutex<Vec<Key>>>::default());
        bell.ring_lists(&key("early"));
        let hears = Arc::clone(&heard);
        bell.tell_lists(move |key| hears.lock().unwrap().push(key.clone()));
        bell.tell_lists(|_| panic!("the first stays"));
        bell.ring_lists(&key("a"));
        bell.ring_lists(&key("b"));
        assert_eq!(*heard.lock().unwrap(), [key("a"), key("b")]);
    }

    #[tokio::test]
    async fn who_listens_hears_of_its_key_and_leaves_nothing_behind() {
        let bell = Arc::<Bell>::default();
        bell.ring(&key("a"));
        let (mut one, mut two, mut other) = (bell.listen(key("a")), bell.listen(key("a")), bell.listen(key("b")));
        bell.ring(&key("a"));
        bell.ring(&key("a"));
        one.heard().await;
        two.heard().await;
        tokio::select! {
            biased;
            () = one.heard() => panic!("rung once for what was heard"),
            () = other.heard() => panic!("rung for another key"),
            () = std::future::ready(()) => {}
        }
        drop((one, two));
        assert_eq!(bell.lock().len(), 1);
        drop(other);
        assert_eq!((bell.lock().len(), bell.keys.load(Ordering::Acquire)), (0, 0));
    }
}
