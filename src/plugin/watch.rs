//! Watches the plugin folders. The file system's notices only wake it: what counts is what it sees when it looks, so lost
//! notices, renames, replaced folders and file systems without notices cost time, never a change.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use cap_std::{ambient_authority, fs::Dir};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

mod files;
pub(super) mod listing;
mod notices;

use self::{
    files::Looks,
    notices::{Arrival, Heard},
};
use super::{
    live::{Live, Prepared, STILL},
    sidecar,
};
use crate::layout;

/// How long a file must look the same before it is taken when nothing says that it is whole.
const SETTLE: Duration = Duration::from_millis(200);
/// The same for files that were moved into place or closed by their writer: what belongs to them may come a moment later.
/// They are proven meanwhile.
const SETTLE_WHOLE: Duration = Duration::from_millis(100);
/// The least time between two looks, however many notices come.
const PAUSE: Duration = Duration::from_millis(20);
/// How often it looks while a refusal waits to be said.
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
    heard: Heard,
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
    /// The folder, and how it looks there; `None`: gone.
    looks: Option<(usize, Looks)>,
    since: Instant,
    /// Since when its sidecar looks as it does.
    sidecar_since: Instant,
    /// How long it must look the same before it is taken.
    settle: Duration,
    /// What [`Live`] made of it, until it is taken.
    prepared: Option<Prepared>,
    /// It was given to [`Live`] as it looks.
    taken: bool,
}

// === impl Watcher ===

impl Watcher {
    /// Loads what is there, then watches.
    pub(super) fn start(live: Arc<Live>, folders: &[PathBuf]) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let mut watch = Watch::new(Arc::clone(&live), folders, wake.clone());
        watch.look();
        watch.take_all();
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
        let heard = Heard::default();
        let notices = notices::watcher(wake, heard.clone())
            .inspect_err(
                |error| tracing::warn!(%error, "no notices of file changes; plugin folders are looked at every 2 s"),
            )
            .ok();
        let folders =
            folders.iter().map(|path| Folder { path: path.clone(), watched: None, unreadable: false }).collect();
        Self { live, folders, files: BTreeMap::new(), odd: BTreeSet::new(), heard, notices }
    }

    fn run(mut self, woken: &Receiver<()>) {
        loop {
            let unsaid = if self.live.has_unsaid() { STEP } else { RESCAN };
            let timeout = self.files.values().filter(|seen| !seen.taken).map(Seen::left).fold(unsaid, Duration::min);
            if let Err(RecvTimeoutError::Disconnected) = woken.recv_timeout(timeout) {
                return;
            }
            thread::sleep(PAUSE);
            if self.live.stop.load(Ordering::Relaxed) {
                return;
            }
            self.look();
            self.prepare();
            self.take();
            self.live.say_refused(|refused| refused.since.elapsed() >= STILL);
        }
    }

    /// Notes what is in the folders, and since when it looks so.
    fn look(&mut self) {
        let mut now: BTreeMap<String, (usize, Looks)> = BTreeMap::new();
        for at in 0..self.folders.len() {
            self.follow(at);
            match self.list(at) {
                Ok(files) => {
                    self.folders[at].unreadable = false;
                    now.extend(files.into_iter().map(|(file, looks)| (file, (at, looks))));
                }
                Err(error) => {
                    let folder = &mut self.folders[at];
                    if !std::mem::replace(&mut folder.unreadable, true) {
                        tracing::error!(folder = %folder.path.display(), %error, "cannot read a plugin folder; what runs stays");
                    }
                    let there = |seen: &Seen| seen.looks.clone().filter(|(dir, _)| *dir == at);
                    now.extend(self.files.iter().filter_map(|(file, seen)| Some((file.clone(), there(seen)?))));
                }
            }
        }
        for (file, seen) in &mut self.files {
            let looks = now.remove(file);
            if seen.looks != looks {
                let sidecar =
                    |looks: &Option<(usize, Looks)>| looks.as_ref().map(|(at, looks)| (*at, looks.sidecar.clone()));
                let same = sidecar(&seen.looks) == sidecar(&looks);
                let sidecar_since = if same { seen.sidecar_since } else { Instant::now() };
                *seen = Seen { sidecar_since, ..Seen::new(looks) };
            } else if seen.taken && self.live.wants_again(file) {
                seen.taken = false;
            }
        }
        self.files.extend(now.into_iter().map(|(file, looks)| (file, Seen::new(Some(looks)))));
    }

    /// Proves what is whole already, so that it is ready when it has settled.
    fn prepare(&mut self) {
        for (file, seen) in &mut self.files {
            let Some((at, looks)) = seen.looks.as_ref().filter(|_| !seen.taken && seen.prepared.is_none()) else {
                continue;
            };
            if self.live.stop.load(Ordering::Relaxed) {
                return;
            }
            let folder = &self.folders[*at].path;
            if is_whole(&self.heard, folder, file, looks) {
                // Nothing if it changed under the reader: the next look notes that.
                seen.prepared = prove(&self.live, folder, file, looks);
                let moved = self.heard.of(&folder.join(sidecar::name_of(file))) == Some(Arrival::Renamed);
                let whole = moved || seen.sidecar_since.elapsed() >= SETTLE_WHOLE;
                // Where the one names the other there is no other version to wait for.
                let bound = seen.prepared.as_ref().is_some_and(Prepared::is_bound);
                seen.settle = if whole && bound { Duration::ZERO } else { SETTLE_WHOLE };
            }
        }
    }

    /// Gives what has settled to the host.
    fn take(&mut self) {
        let is_ready = |(_, seen): &(&String, &Seen)| !seen.taken && seen.left().is_zero();
        let ready: Vec<String> = self.files.iter().filter(is_ready).map(|(file, _)| file.clone()).collect();
        for file in ready {
            if self.live.stop.load(Ordering::Relaxed) {
                return;
            }
            let Some(seen) = self.files.get_mut(&file) else { continue };
            let Some((at, looks)) = &seen.looks else {
                self.live.remove(&file);
                self.files.remove(&file);
                continue;
            };
            let folder = &self.folders[*at].path;
            // It may have changed while it was proven: then it settles anew.
            let prepared = match seen.prepared.take() {
                Some(prepared) if files::is_still(folder, &file, looks) => Some(prepared),
                Some(_) => None,
                None => prove(&self.live, folder, &file, looks),
            };
            if let Some(prepared) = prepared {
                seen.taken = true;
                self.live.take(&file, folder.clone(), prepared);
            }
        }
    }

    /// Takes everything as it is.
    fn take_all(&mut self) {
        for (file, seen) in &mut self.files {
            let Some((at, looks)) = &seen.looks else { continue };
            let folder = &self.folders[*at].path;
            if let Some(prepared) = prove(&self.live, folder, file, looks) {
                seen.taken = true;
                self.live.take(file, folder.clone(), prepared);
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
            let bytes = name.as_encoded_bytes();
            if !bytes.ends_with(b".wasm") || bytes.starts_with(b".") {
                continue;
            }
            let Some(file) = name.to_str().filter(|name| layout::is_public_file(name)) else {
                if self.odd.len() < ENTRIES_MAX && self.odd.insert(path.join(&name)) {
                    tracing::warn!(
                        file = ?name,
                        "ignored: a plugin's file name is letters, digits, `.`, `_`, `-`, at most 100"
                    );
                }
                continue;
            };
            // Gone since it was listed, else.
            if let Some(looks) = files::look_at(&dir, file) {
                files.push((file.to_owned(), looks));
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
            self.heard.forget();
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

// === impl Seen ===

impl Seen {
    fn new(looks: Option<(usize, Looks)>) -> Self {
        let now = Instant::now();
        Self { looks, since: now, sidecar_since: now, settle: SETTLE, prepared: None, taken: false }
    }

    fn left(&self) -> Duration {
        self.settle.saturating_sub(self.since.elapsed())
    }
}

/// Whether all that belongs to a file is known to be whole.
fn is_whole(heard: &Heard, folder: &Path, file: &str, looks: &Looks) -> bool {
    let is_whole = |name: &String| heard.of(&folder.join(name)).is_some_and(|arrival| arrival != Arrival::Writing);
    let is_old = |name: &String| heard.of(&folder.join(name)).is_none();
    let [wasm, beside @ ..] = files::names(file);
    // What nothing was heard of did not change: something else did, or notices do not come.
    looks.wasm.is_ok()
        && (is_whole(&wasm) || beside.iter().any(is_whole) && is_old(&wasm))
        && beside.iter().all(|name| is_whole(name) || is_old(name))
}

/// Reads a file and proves it; `None` if it changed meanwhile.
fn prove(live: &Live, folder: &Path, file: &str, looks: &Looks) -> Option<Prepared> {
    let read = files::read_all(folder, file, looks).transpose()?;
    Some(live.prepare(file, folder, read))
}
