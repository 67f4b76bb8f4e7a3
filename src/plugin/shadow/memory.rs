//! A shadow's states, by key, in a lane's memory. Bounded: of what is over, those that were not asked for longest go, and
//! begin again with the state of the plugin beside the shadow.

use std::{collections::HashMap, sync::Arc};

use crate::event::Key;

/// Bytes of states and keys in each of the two halves.
const HALF_BYTES_MAX: usize = 2 << 20;
/// What an entry costs beside its texts, in bytes, about.
const ENTRY_BYTES: usize = 128;

/// States by key. When the young half is full it becomes the old one, and what is left of the old one is forgotten.
#[derive(Debug, Default)]
pub(in crate::plugin) struct Memory {
    young: HashMap<Key, Arc<str>>,
    old: HashMap<Key, Arc<str>>,
    /// Of the young half.
    bytes: usize,
}

impl Memory {
    /// The state of a key, if it is known.
    pub(in crate::plugin) fn get(&self, key: &Key) -> Option<&Arc<str>> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Keeps the state of a key.
    pub(in crate::plugin) fn set(&mut self, key: &Key, state: Arc<str>) {
        self.old.remove(key);
        self.bytes += ENTRY_BYTES + state.len();
        if let Some(before) = self.young.insert(key.clone(), state) {
            self.bytes = self.bytes.saturating_sub(ENTRY_BYTES + before.len());
        }
        if self.bytes > HALF_BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
    }

    /// Forgets a key.
    pub(in crate::plugin) fn forget(&mut self, key: &Key) {
        self.old.remove(key);
        if let Some(before) = self.young.remove(key) {
            self.bytes = self.bytes.saturating_sub(ENTRY_BYTES + before.len());
        }
    }

    /// Forgets all.
    pub(in crate::plugin) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Id;

    #[test]
    fn it_is_bounded_and_forgets_the_oldest() {
        let key = |n: usize| Key::Task(Id::parse(&format!("t{n}")).unwrap());
        let mut memory = Memory::default();
        let state: Arc<str> = "x".repeat(64 << 10).into();
        for n in 0..1000 {
            memory.set(&key(n), Arc::clone(&state));
            assert!(memory.get(&key(n)).is_some());
        }
        let known = (0..1000).filter(|n| memory.get(&key(*n)).is_some()).count();
        assert!((HALF_BYTES_MAX / state.len() / 2..=2 * HALF_BYTES_MAX / state.len()).contains(&known), "{known}");
        assert!(memory.get(&key(999)).is_some() && memory.get(&key(0)).is_none());
        memory.forget(&key(999));
        assert!(memory.get(&key(999)).is_none());
        for _ in 0..1_000_000 {
            memory.set(&key(1), "short".into());
        }
        assert!(memory.bytes < HALF_BYTES_MAX, "what is replaced costs nothing");
    }
}
