//! What the file system's notices say. They wake whoever looks, and tell how a file came by its bytes: one that was renamed
//! into place, or closed by who wrote it, needs no waiting. They are hints: late, lost or absent ones cost time only.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::SyncSender},
};

use notify::{
    Event, EventKind, RecommendedWatcher,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};

use crate::trust::SIGNATURE_SUFFIX;

/// Files remembered; more are forgotten all at once, which costs waiting.
const HEARD_MAX: usize = 10_000;

/// How a file came by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Someone has it open and writes.
    Writing,
    /// Whoever wrote it closed it.
    Closed,
    /// It was moved into place.
    Renamed,
}

/// What was heard of files, by path.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<BTreeMap<PathBuf, Arrival>>>);

/// A watcher that wakes and remembers.
pub(super) fn watcher(wake: SyncSender<()>, heard: Heard) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |notice: notify::Result<Event>| {
        match &notice {
            // Looking opens and closes files itself: that must not make it look again.
            Ok(event) if is_look(event) => return,
            Ok(event) => heard.note(event),
            Err(_) => heard.forget(),
        }
        // Full means that it is about to look.
        wake.try_send(()).ok();
    })
}

fn is_look(event: &Event) -> bool {
    matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    [".wasm", ".toml", SIGNATURE_SUFFIX].iter().any(|suffix| name.ends_with(suffix.as_bytes()))
}

// === impl Heard ===

impl Heard {
    /// How a file came by its bytes; `None`: nothing was heard.
    pub(super) fn of(&self, path: &Path) -> Option<Arrival> {
        self.lock().get(path).copied()
    }

    /// What was heard is not of these folders any more, or not all.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn note(&self, event: &Event) {
        if event.need_rescan() {
            return self.forget();
        }
        let Some(path) = event.paths.last().filter(|path| is_ours(path)) else { return };
        let mut heard = self.lock();
        match event.kind {
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => {
                heard.insert(path.clone(), Arrival::Writing);
            }
            // Opened to write, and nothing written (`touch`): it was and is moved into place.
            EventKind::Access(_) if heard.get(path) == Some(&Arrival::Renamed) => {}
            EventKind::Access(_) => {
                heard.insert(path.clone(), Arrival::Closed);
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
                heard.insert(path.clone(), Arrival::Renamed);
            }
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => {
                heard.remove(path);
            }
            _ => {}
        }
        if heard.len() > HEARD_MAX {
            heard.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arrival>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Write,
        sync::mpsc::{Receiver, sync_channel},
        time::{Duration, Instant},
    };

    use notify::{RecursiveMode, Watcher as _};

    use super::*;

    struct Ear {
        folder: tempfile::TempDir,
        heard: Heard,
        woken: Receiver<()>,
        _watcher: RecommendedWatcher,
    }

    impl Ear {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let ((wake, woken), heard) = (sync_channel(1), Heard::default());
            let mut watcher = watcher(wake, heard.clone()).unwrap();
            watcher.watch(folder.path(), RecursiveMode::NonRecursive).unwrap();
            Self { folder, heard, woken, _watcher: watcher }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn hears(&self, name: &str, expected: Option<Arrival>) {
            let end = Instant::now() + Duration::from_secs(30);
            while self.heard.of(&self.path(name)) != expected {
                assert!(Instant::now() < end, "{name}: {:?}, not {expected:?}", self.heard.of(&self.path(name)));
                self.woken.recv_timeout(Duration::from_millis(50)).ok();
            }
        }
    }

    #[test]
    fn how_a_file_came_is_heard() {
        let ear = Ear::new();
        let mut file = File::create(ear.path("a.wasm")).unwrap();
        file.write_all(b"half").unwrap();
        ear.hears("a.wasm", Some(Arrival::Writing));
        drop(file);
        ear.hears("a.wasm", Some(Arrival::Closed));
        fs::rename(ear.path("a.wasm"), ear.path("b.wasm")).unwrap();
        ear.hears("b.wasm", Some(Arrival::Renamed));
        ear.hears("a.wasm", None);
        let mut file = File::options().append(true).open(ear.path("b.wasm")).unwrap();
        file.write_all(b" more").unwrap();
        ear.hears("b.wasm", Some(Arrival::Writing));
        drop(file);
        ear.hears("b.wasm", Some(Arrival::Closed));
        fs::remove_file(ear.path("b.wasm")).unwrap();
        ear.hears("b.wasm", None);
        fs::write(ear.path("notes.txt"), "x").unwrap();
        fs::write(ear.path("c.wasm.minisig"), "x").unwrap();
        ear.hears("c.wasm.minisig", Some(Arrival::Closed));
        assert_eq!(ear.heard.of(&ear.path("notes.txt")), None);
    }

    #[test]
    fn looking_does_not_make_it_look_again() {
        let ear = Ear::new();
        fs::write(ear.path("p.wasm"), "x").unwrap();
        ear.hears("p.wasm", Some(Arrival::Closed));
        while ear.woken.recv_timeout(Duration::from_millis(100)).is_ok() {}
        assert_eq!(fs::read(ear.path("p.wasm")).unwrap(), b"x");
        assert_eq!(fs::read_dir(ear.folder.path()).unwrap().count(), 1);
        assert!(ear.woken.recv_timeout(Duration::from_millis(300)).is_err());
        fs::write(ear.path("p.wasm"), "xy").unwrap();
        assert!(ear.woken.recv_timeout(Duration::from_secs(30)).is_ok());
    }
}
