//! Watches the plugin folders. The file system's notices only wake it: what counts is what it sees when it looks, so lost
//! notices, renames, replaced folders and file systems without notices cost time, never a change.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use cap_std::{
    ambient_authority,
    fs::{Dir, MetadataExt, OpenOptions, OpenOptionsExt},
};
use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use rustix::fs::OFlags;

use super::{
    live::{Live, STILL},
    loader::{COMPONENT_BYTES_MAX, Candidate, SIDECAR_BYTES_MAX},
};
use crate::layout;

/// How long a file must look the same before it is read.
const SETTLE: Duration = Duration::from_millis(200);
/// The least time between two looks, however many notices come.
const PAUSE: Duration = Duration::from_millis(20);
/// How often it looks while something settles.
const STEP: Duration = Duration::from_millis(100);
/// How often it looks when nothing seems to happen.
const RESCAN: Duration = Duration::from_secs(2);
/// Files looked at in a folder.
const ENTRIES_MAX: usize = 10_000;

/// The thread that watches; joined by [`Watcher::join`].
pub(super) struct Watcher {
    wake: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

/// What is known of the folders.
struct Watch {
    live: Arc<Live>,
    folders: Vec<Folder>,
    files: BTreeMap<String, Seen>,
    /// Names that no plugin can have; said once.
    odd: BTreeSet<PathBuf>,
    notices: Option<RecommendedWatcher>,
}

struct Folder {
    path: PathBuf,
    /// Device and inode of the folder under watch: a replaced one must be watched anew.
    watched: Option<(u64, u64)>,
    /// It could not be read, but is there: nothing is concluded from that. Said once.
    unreadable: bool,
}

/// A file as it was last looked at.
struct Seen {
    looks: Looks,
    since: Instant,
    /// It was given to [`Live`] as it looks.
    taken: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Looks {
    Gone,
    /// Folder, component, sidecar.
    There(usize, Result<Print, String>, Option<Result<Print, String>>),
}

/// What changes when a file is written or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print {
    dev: u64,
    ino: u64,
    len: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

// === impl Watcher ===

impl Watcher {
    /// Loads what is there, then watches.
    pub(super) fn start(live: Arc<Live>, folders: &[PathBuf]) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let mut watch = Watch::new(Arc::clone(&live), folders, wake.clone());
        watch.look();
        watch.take(Duration::ZERO);
        live.first();
        live.say_refused(|_| true);
        let thread = thread::Builder::new().name("plugin-watch".to_owned()).spawn(move || watch.run(&woken))?;
        Ok(Self { wake, thread: Some(thread) })
    }

    /// Makes it look now.
    pub(super) fn wake(&self) {
        // Full means that it is about to.
        self.wake.try_send(()).ok();
    }

    /// Ends the thread; `live.stop` must be set.
    pub(super) fn join(mut self) {
        self.wake();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            drop(thread.join());
        }
    }
}

// === impl Watch ===

impl Watch {
    fn new(live: Arc<Live>, folders: &[PathBuf], wake: SyncSender<()>) -> Self {
        let notices = notices(wake);
        let notices = notices
            .inspect_err(
                |error| tracing::warn!(%error, "no notices of file changes; plugin folders are looked at every 2 s"),
            )
            .ok();
        let folders =
            folders.iter().map(|path| Folder { path: path.clone(), watched: None, unreadable: false }).collect();
        Self { live, folders, files: BTreeMap::new(), odd: BTreeSet::new(), notices }
    }

    fn run(mut self, woken: &Receiver<()>) {
        loop {
            let settling = self.files.values().any(|seen| !seen.taken);
            let timeout = if settling || self.live.has_unsaid() { STEP } else { RESCAN };
            if let Err(RecvTimeoutError::Disconnected) = woken.recv_timeout(timeout) {
                return;
            }
            thread::sleep(PAUSE);
            if self.live.stop.load(Ordering::Relaxed) {
                return;
            }
            self.look();
            self.take(SETTLE);
            self.live.say_refused(|refused| refused.since.elapsed() >= STILL);
        }
    }

    /// Notes what is in the folders, and since when it looks so.
    fn look(&mut self) {
        let mut now: BTreeMap<String, Looks> = BTreeMap::new();
        for at in 0..self.folders.len() {
            self.follow(at);
            match self.list(at) {
                Ok(files) => {
                    self.folders[at].unreadable = false;
                    now.extend(files);
                }
                Err(error) => {
                    let folder = &mut self.folders[at];
                    if !std::mem::replace(&mut folder.unreadable, true) {
                        tracing::error!(folder = %folder.path.display(), %error, "cannot read a plugin folder; what runs stays");
                    }
                    let kept =
                        self.files.iter().filter(|(_, seen)| matches!(seen.looks, Looks::There(dir, ..) if dir == at));
                    now.extend(kept.map(|(file, seen)| (file.clone(), seen.looks.clone())));
                }
            }
        }
        for (file, seen) in &mut self.files {
            let looks = now.remove(file).unwrap_or(Looks::Gone);
            if seen.looks != looks {
                *seen = Seen { looks, since: Instant::now(), taken: false };
            } else if seen.taken && self.live.wants_again(file) {
                seen.taken = false;
            }
        }
        self.files
            .extend(now.into_iter().map(|(file, looks)| (file, Seen { looks, since: Instant::now(), taken: false })));
    }

    /// Gives what has settled to the host.
    fn take(&mut self, settle: Duration) {
        let ready: Vec<String> = self
            .files
            .iter()
            .filter(|(_, seen)| !seen.taken && seen.since.elapsed() >= settle)
            .map(|(file, _)| file.clone())
            .collect();
        for file in ready {
            if self.live.stop.load(Ordering::Relaxed) {
                return;
            }
            let Some(seen) = self.files.get_mut(&file) else { continue };
            let Looks::There(at, wasm, sidecar) = seen.looks.clone() else {
                self.live.remove(&file);
                self.files.remove(&file);
                continue;
            };
            let path = self.folders[at].path.clone();
            let read = wasm.and_then(|wasm| read_pair(&path, &file, &wasm, sidecar));
            match read {
                // It changed under the reader: the next look notes that.
                Ok(None) => {}
                Ok(Some(candidate)) => {
                    seen.taken = true;
                    self.live.consider(&file, path, Ok(candidate));
                }
                Err(reason) => {
                    seen.taken = true;
                    self.live.consider(&file, path, Err(reason));
                }
            }
        }
    }

    fn list(&mut self, at: usize) -> io::Result<Vec<(String, Looks)>> {
        let path = self.folders[at].path.clone();
        let dir = match Dir::open_ambient_dir(&path, ambient_authority()) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in dir.entries()?.take(ENTRIES_MAX) {
            let name = entry?.file_name();
            let Some(file) = name.to_str().filter(|name| name.ends_with(".wasm") && !name.starts_with('.')) else {
                continue;
            };
            if !layout::is_public_file(file) {
                if self.odd.insert(path.join(file)) && self.odd.len() < ENTRIES_MAX {
                    tracing::warn!(
                        ?file,
                        "ignored: a plugin's file name is letters, digits, `.`, `_`, `-`, at most 100"
                    );
                }
                continue;
            }
            let sidecar = match look_at(&dir, &sidecar_of(file)) {
                Ok(None) => None,
                Ok(Some(print)) => Some(Ok(print)),
                Err(reason) => Some(Err(reason)),
            };
            match look_at(&dir, file) {
                Ok(Some(print)) => files.push((file.to_owned(), Looks::There(at, Ok(print), sidecar))),
                Err(reason) => files.push((file.to_owned(), Looks::There(at, Err(reason), sidecar))),
                // Gone since it was listed.
                Ok(None) => {}
            }
        }
        Ok(files)
    }

    /// Keeps the notices on the folder that has the path now.
    fn follow(&mut self, at: usize) {
        use std::os::unix::fs::MetadataExt as _;
        let folder = &mut self.folders[at];
        let Some(notices) = &mut self.notices else { return };
        let now = std::fs::metadata(&folder.path).ok().map(|meta| (meta.dev(), meta.ino()));
        if folder.watched == now {
            return;
        }
        if folder.watched.take().is_some() {
            // The old folder may be gone with its watch.
            notices.unwatch(&folder.path).ok();
        }
        if now.is_some() {
            match notices.watch(&folder.path, RecursiveMode::NonRecursive) {
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(folder = %folder.path.display(), %error, "no notices of changes here; looked at every 2 s");
                }
            }
            folder.watched = now;
        }
    }
}

/// Wakes whoever looks when something changes.
fn notices(wake: SyncSender<()>) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |notice: notify::Result<notify::Event>| {
        // Looking opens and closes files itself: that must not make it look again.
        let is_look = |event: &notify::Event| matches!(event.kind, EventKind::Access(kind) if !is_written(kind));
        if !notice.as_ref().is_ok_and(is_look) {
            wake.try_send(()).ok();
        }
    })
}

fn is_written(kind: AccessKind) -> bool {
    matches!(kind, AccessKind::Close(AccessMode::Write))
}

fn sidecar_of(file: &str) -> String {
    format!("{}.toml", file.strip_suffix(".wasm").unwrap_or(file))
}

/// `None`: not there. Links are followed inside the folder only.
fn look_at(dir: &Dir, name: &str) -> Result<Option<Print>, String> {
    match dir.metadata(name) {
        Ok(meta) if meta.is_file() => Ok(Some(print(&meta))),
        Ok(_) => Err(format!("{name} is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {name} (links must stay in the folder): {error}")),
    }
}

fn print(meta: &cap_std::fs::Metadata) -> Print {
    Print {
        dev: meta.dev(),
        ino: meta.ino(),
        len: meta.len(),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        ctime: (meta.ctime(), meta.ctime_nsec()),
    }
}

/// Both files whole; `None` if they are not the ones that were looked at.
fn read_pair(
    path: &Path,
    file: &str,
    wasm: &Print,
    sidecar: Option<Result<Print, String>>,
) -> Result<Option<Candidate>, String> {
    let failed = |error: io::Error| format!("cannot read {file}: {error}");
    let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(failed)?;
    let Some(wasm) = read(&dir, file, wasm, COMPONENT_BYTES_MAX)? else { return Ok(None) };
    let sidecar = match sidecar {
        None => None,
        Some(print) => match read(&dir, &sidecar_of(file), &print?, SIDECAR_BYTES_MAX)? {
            Some(bytes) => Some(bytes.into()),
            None => return Ok(None),
        },
    };
    Ok(Some(Candidate { file: file.to_owned(), dir: path.to_owned(), wasm: wasm.into(), sidecar }))
}

fn read(dir: &Dir, name: &str, looked: &Print, max: u64) -> Result<Option<Vec<u8>>, String> {
    if looked.len > max {
        return Err(format!("{name} is larger than {} KiB", max >> 10));
    }
    let failed = |error: io::Error| format!("cannot read {name}: {error}");
    let mut options = OpenOptions::new();
    // A pipe put in the file's place must not block the open.
    options.read(true).custom_flags(OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed());
    let file = match dir.open_with(name, &options) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if print(&file.metadata().map_err(failed)?) != *looked {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(looked.len).unwrap_or(0));
    (&file).take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    let is_same = print(&file.metadata().map_err(failed)?) == *looked;
    Ok(is_same.then_some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn looking_does_not_make_it_look_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("p.wasm"), "x").unwrap();
        let (wake, woken) = sync_channel(1);
        let mut notices = notices(wake).unwrap();
        notices.watch(folder.path(), RecursiveMode::NonRecursive).unwrap();
        let dir = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        assert_eq!(dir.entries().unwrap().count(), 1);
        let print = look_at(&dir, "p.wasm").unwrap().unwrap();
        assert_eq!(read(&dir, "p.wasm", &print, 1).unwrap(), Some(b"x".to_vec()));
        assert_eq!(woken.recv_timeout(Duration::from_millis(300)), Err(RecvTimeoutError::Timeout));
        fs::write(folder.path().join("p.wasm"), "xy").unwrap();
        assert_eq!(woken.recv_timeout(Duration::from_secs(30)), Ok(()));
        assert_eq!(read(&dir, "p.wasm", &print, 2).unwrap(), None, "not the file that was looked at");
        let print = look_at(&dir, "p.wasm").unwrap().unwrap();
        assert!(read(&dir, "p.wasm", &print, 1).unwrap_err().contains("larger than"));
    }
}
