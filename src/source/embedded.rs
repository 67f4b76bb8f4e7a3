//! The embedded stream: an own log in `STREAM_DIR` for a service without Redis. In reading order: `log` appends with one sync
//! for all who append at once, `cursor` reads entries back, `reader` and `publish` are the owner's two sides, `walk` only looks,
//! `letters` is what operators do with dead letters and `asked` how they ask the process that holds the stream.
//!
//! `STREAM_DIR` (0700) holds `lock` (held with flock by the one process that may append and own) and a folder per stream name:
//! `epoch`, `position` (what was published), segments `NNN.log`, `dead/` with the dead letters' segments, and `asked/` with
//! operators' requests.

use std::{
    fs::{File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::fs::FlockOperation;

use super::{Backlog, Fields, Lease, LetterPolicy, Letters, OwnRequest, Owned, SourceError, Stream};
use crate::{
    event::{Id, StreamId},
    fault,
    journal::segment::{self, SEGMENT_BYTES, SegmentError},
};

mod log;

mod cursor;

mod reader;

mod publish;
mod walk;

mod asked;
mod letters;

use asked::EmbeddedDesk;
pub use cursor::Cursor;
use letters::EmbeddedLetters;
use log::Log;
use publish::{EmbeddedPublisher, PositionFile};
use reader::EmbeddedReader;
pub use walk::EmbeddedWalk;

/// Dead letters are few: small segments.
const DEAD_SEGMENT_BYTES: u64 = 4 << 20;

/// A stream in a folder. Opening it takes no lock; the first append or ownership does. Clones share it.
#[derive(Clone)]
pub struct EmbeddedStream {
    root: PathBuf,
    dir: PathBuf,
    name: String,
    state_name: String,
    event_max: usize,
    segment_bytes: u64,
    letters: LetterPolicy,
    held: Arc<Mutex<Option<Arc<Held>>>>,
    /// Where counting the backlog stopped last time.
    counting: Arc<Mutex<Option<(StreamId, Cursor)>>>,
}

/// What only the holder of the lock has.
struct Held {
    lock: Mutex<Option<File>>,
    /// Whether the lock stands; cleared before it is given up.
    stands: AtomicBool,
    owned: AtomicBool,
    name: String,
    events: Log,
    dead: Log,
    dir: PathBuf,
    letters: LetterPolicy,
    position: Mutex<PositionFile>,
}

/// An ownership of the embedded stream: the lock.
struct EmbeddedLease(Arc<Held>);

/// The entries of a stream, or its dead letters, from the first on; for tools and tests. Reads only files, and nothing of what is
/// appended later than the end it finds.
pub fn entries(dir: &Path, name: &str, dead_letters: bool) -> Result<Cursor, SourceError> {
    let folder = folder(dir, name)?;
    Ok(Cursor::new(if dead_letters { folder.join("dead") } else { folder }))
}

fn folder(root: &Path, name: &str) -> Result<PathBuf, SourceError> {
    let id = Id::parse(name).map_err(|why| SourceError::Config(format!("REDIS_STREAM: {why}")))?;
    Ok(root.join(&*id.dir_name()))
}

// === impl EmbeddedStream ===

impl EmbeddedStream {
    /// Opens or makes the stream `name` in `dir` (0700). `event_max` is the largest event in bytes of names and values.
    pub fn open(dir: &Path, name: &str, event_max: usize) -> Result<Self, SourceError> {
        let folder = folder(dir, name)?;
        make_dir(dir)?;
        make_dir(&folder)?;
        make_dir(&folder.join("dead"))?;
        make_dir(&folder.join("asked"))?;
        let encoded = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self {
            root: dir.to_owned(),
            dir: folder,
            name: name.to_owned(),
            state_name: format!("embedded-{encoded}"),
            event_max,
            segment_bytes: SEGMENT_BYTES,
            letters: LetterPolicy::default(),
            held: Arc::default(),
            counting: Arc::default(),
        })
    }

    /// With segments of another size, in bytes.
    pub fn with_segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// With dead letters kept so; before anything else is asked of it.
    pub fn with_letters(mut self, policy: LetterPolicy) -> Self {
        self.letters = policy;
        self
    }

    /// The lock and the logs, taken if they are free; `None`: another process has them.
    fn hold(&self) -> Result<Option<Arc<Held>>, SourceError> {
        let mut slot = lock(&self.held);
        if let Some(held) = slot.as_ref().filter(|held| held.stands.load(Ordering::Acquire)) {
            return Ok(Some(Arc::clone(held)));
        }
        let path = self.root.join("lock");
        fault::point("lease::take").map_err(io_error("lock", &path))?;
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.map_err(io_error("open", &path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(io_error("lock", &path)(error.into())),
        }
        let position = PositionFile::open(&self.dir.join("position"))?;
        let held = Arc::new(Held {
            lock: Mutex::new(Some(file)),
            stands: AtomicBool::new(true),
            owned: AtomicBool::new(false),
            name: self.name.clone(),
            // A clock that stepped back must not make ids below what was published.
            events: Log::open(&self.dir, self.segment_bytes, position.low())?,
            dead: Log::open(&self.dir.join("dead"), DEAD_SEGMENT_BYTES, StreamId::MIN)?,
            dir: self.dir.clone(),
            letters: self.letters,
            position: Mutex::new(position),
        });
        // A replay that was cut short is finished or forgotten before anything else is appended.
        held.finish_replay()?;
        *slot = Some(Arc::clone(&held));
        Ok(Some(held))
    }

    /// Raises the epoch durably.
    fn raise_epoch(&self, epoch_min: u64) -> Result<u64, SourceError> {
        let (path, new) = (self.dir.join("epoch"), self.dir.join("epoch.new"));
        let current = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                SourceError::Config(format!(
                    "{} holds no number: remove it to start above the journal's",
                    path.display()
                ))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let epoch = epoch_min.max(current) + 1;
        let written = (|| {
            fault::point("log::epoch")?;
            std::fs::write(&new, format!("{epoch}\n"))?;
            File::open(&new)?.sync_all()?;
            fault::point("log::epoch_rename")?;
            std::fs::rename(&new, &path)
        })();
        written.map_err(io_error("write", &path))?;
        segment::sync_dir(&self.dir)?;
        Ok(epoch)
    }
}

impl Stream for EmbeddedStream {
    fn state_name(&self) -> String {
        self.state_name.clone()
    }

    fn try_own(&self, request: &OwnRequest) -> Result<Option<Owned>, SourceError> {
        let Some(held) = self.hold()? else { return Ok(None) };
        if held.owned.swap(true, Ordering::AcqRel) {
            return Ok(None);
        }
        let epoch = match self.raise_epoch(request.epoch_min) {
            Ok(epoch) => epoch,
            Err(error) => {
                held.owned.store(false, Ordering::Release);
                return Err(error);
            }
        };
        fault::pass("lease::taken");
        Ok(Some(Owned {
            epoch,
            reader: Box::new(EmbeddedReader::new(Arc::clone(&held), self.dir.clone())),
            publisher: Box::new(EmbeddedPublisher::new(Arc::clone(&held), self.dir.clone())),
            desk: Box::new(EmbeddedDesk::new(Arc::clone(&held))?),
            lease: Arc::new(EmbeddedLease(held)),
        }))
    }

    fn append(&self, events: Vec<Fields>) -> Result<Vec<StreamId>, SourceError> {
        for fields in &events {
            let size = cursor::size(fields);
            if size > self.event_max {
                return Err(SourceError::TooLarge { size, limit: self.event_max });
            }
        }
        let held = self.hold()?.ok_or_else(|| {
            SourceError::Config(format!(
                "the embedded stream in {} is in use by another process: publish to that one over HTTP (POST /events)",
                self.root.display()
            ))
        })?;
        held.events.append(&events)
    }

    fn backlog(&self) -> Result<Backlog, SourceError> {
        let held = lock(&self.held).as_ref().filter(|held| held.stands.load(Ordering::Acquire)).map(Arc::clone);
        if let Some(held) = &held {
            held.events.mend()?;
        }
        let (low, until) = match &held {
            Some(held) => (lock(&held.position).low(), Some(held.events.durable())),
            None => (PositionFile::read(&self.dir.join("position"))?.low(), None),
        };
        let mut counting = lock(&self.counting);
        // Going on from where `low` was: it only moves back when the position was lost.
        let (at, mut cursor) = counting.take().unwrap_or_else(|| (StreamId::MIN, Cursor::new(self.dir.clone())));
        cursor.limit(until);
        if low < at || until.is_none() {
            cursor = Cursor::new(self.dir.clone());
            cursor.limit(until);
        }
        cursor.seek(low)?;
        let first = cursor.peek()?;
        let (entries, last) = match (until, first) {
            (Some(until), None) => (0, (until.sequence > 0).then_some(until.last)),
            (None, None) => (0, (low > StreamId::MIN).then_some(low)),
            (Some(until), Some((sequence, _))) => (until.sequence + 1 - sequence, Some(until.last)),
            (None, Some(_)) => {
                let mut rest = Cursor::new(self.dir.clone());
                rest.seek(low)?;
                rest.try_fold((0, None), |(count, _), entry| Ok::<_, SourceError>((count + 1, Some(entry?.id))))?
            }
        };
        let backlog = Backlog { entries, last, first_unread: first.map(|(_, id)| id) };
        *counting = Some((low, cursor));
        Ok(backlog)
    }

    fn letters(&self) -> Result<Box<dyn Letters>, SourceError> {
        Ok(Box::new(EmbeddedLetters::new(self.clone())))
    }

    fn describe(&self) -> String {
        format!("embedded stream {} in {}", self.name, self.root.display())
    }
}

// === impl EmbeddedLease ===

impl Lease for EmbeddedLease {
    fn is_held(&self) -> bool {
        self.0.stands.load(Ordering::Acquire)
    }

    fn release(&self) {
        self.0.give_up();
    }
}

impl Drop for EmbeddedLease {
    fn drop(&mut self) {
        self.release();
    }
}

// === impl Held ===

impl Held {
    fn give_up(&self) {
        if self.stands.swap(false, Ordering::AcqRel) {
            fault::pass("lease::release");
            // Appends that are under way end first, for the next holder reads the log's end.
            self.events.close();
            self.dead.close();
            if let Err(error) = lock(&self.position).sync() {
                tracing::info!(%error, "the published position was not synced; the journal has it");
            }
            self.unlock();
        }
    }

    /// Said outright: a child process that is being started holds a copy of the file for a moment.
    fn unlock(&self) {
        if let Some(file) = lock(&self.lock).take()
            && let Err(error) = rustix::fs::flock(&file, FlockOperation::Unlock)
        {
            tracing::info!(%error, "the lock goes with the process");
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.unlock();
    }
}

fn make_dir(path: &Path) -> Result<(), SourceError> {
    let made = crate::folder::make(path, 0o700);
    made.and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o700))).map_err(io_error("make", path))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SourceError {
    let path = path.to_owned();
    move |source| SourceError::Io { action, path, source }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Sections keep their data whole at every step; what failed says so by itself.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<SegmentError> for SourceError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Io { action, path, source } => Self::Io { action, path, source },
            SegmentError::NotASegment { path } => {
                let source = io::Error::new(io::ErrorKind::InvalidData, "not a segment");
                Self::Io { action: "read", path, source }
            }
            SegmentError::TooLarge { size } => {
                Self::TooLarge { size: usize::try_from(size).unwrap_or(usize::MAX), limit: u32::MAX as usize }
            }
        }
    }
}
