//! The writing side of a log: segments of entries, appended by many threads at once with one sync for all that wait for it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use super::{
    cursor::{self, Cursor},
    io_error, lock,
};
use crate::{
    event::StreamId,
    fault,
    journal::segment::{self, Scan, SegmentError, SegmentWriter},
    source::{Fields, SourceError},
};

/// A log that this process may append to.
pub(super) struct Log {
    dir: PathBuf,
    segment_bytes: u64,
    state: Mutex<State>,
    /// Something became durable, failed, or was closed.
    moved: Condvar,
}

struct State {
    writer: Option<SegmentWriter>,
    /// First sequence number of the writer's segment.
    segment: u64,
    /// The last id that was given out.
    last: StreamId,
    durable: Durable,
    /// Appends whose frames are staged.
    waiting: Vec<Arc<Waiter>>,
    /// A thread writes and syncs for all that was staged before it.
    busy: bool,
    closed: bool,
    /// Counts writes that failed: what was staged before is gone.
    failures: u64,
    /// An append failed for want of room, for a body of this size: nothing was taken in since.
    wanting: Option<usize>,
    /// A sync failed: nothing more is known of the file.
    broken: Option<Failure>,
}

/// How far a log is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Durable {
    /// The last entry's sequence number: the number of entries ever appended.
    pub(super) sequence: u64,
    /// The last entry's id.
    pub(super) last: StreamId,
    /// First sequence number of the last segment.
    pub(super) segment: u64,
    /// Offset behind the last entry in it.
    pub(super) tail: u64,
}

type Waiter = OnceLock<Result<(), Failure>>;

/// A failure that several appends share.
#[derive(Clone, Debug)]
struct Failure {
    action: &'static str,
    path: PathBuf,
    source: Arc<std::io::Error>,
}

// === impl Log ===

impl Log {
    /// Opens the log in `dir`, repairs its torn tail, and goes on with ids above `floor`.
    pub(super) fn open(dir: &Path, segment_bytes: u64, floor: StreamId) -> Result<Self, SourceError> {
        remove_unfinished(dir).map_err(io_error("clean", dir))?;
        let segments = cursor::segments(dir)?;
        let mut durable = Durable { last: floor, ..Durable::default() };
        let mut writer = None;
        if let Some(&segment) = segments.last() {
            let resumed = SegmentWriter::resume(cursor::segment_path(dir, segment))?;
            durable = Durable { sequence: resumed.next_sequence() - 1, segment, tail: resumed.tail(), last: floor };
            // The last one may have been started and not written to.
            for &first in segments.iter().rev().take(2) {
                let last = last_id(dir, first)?;
                durable.last = durable.last.max(last.unwrap_or_default());
                if last.is_some() {
                    break;
                }
            }
            writer = Some(resumed);
        }
        let state = State {
            writer,
            segment: durable.segment,
            last: durable.last,
            durable,
            waiting: Vec::new(),
            busy: false,
            closed: false,
            failures: 0,
            wanting: None,
            broken: None,
        };
        Ok(Self { dir: dir.to_owned(), segment_bytes, state: Mutex::new(state), moved: Condvar::new() })
    }

    /// The failed sync after which nothing more is known of the log, if there was one.
    pub(super) fn broken(&self) -> Result<(), SourceError> {
        lock(&self.state).broken.clone().map_or(Ok(()), |failure| Err(failure.into_source_error()))
    }

    /// Tries again what the last append failed at, so that the stream can say when it takes events again.
    pub(super) fn mend(&self) -> Result<(), SourceError> {
        let mut state = lock(&self.state);
        state.check(&self.dir)?;
        match state.wanting {
            // An append that is under way finds out by itself.
            Some(body) if !state.busy && state.waiting.is_empty() => match &state.writer {
                Some(writer) if state.fits(body) => writer.touch(body)?,
                _ => self.roll(&mut state, body)?,
            },
            _ => return Ok(()),
        }
        state.wanting = None;
        Ok(())
    }

    /// How far readers may go.
    pub(super) fn durable(&self) -> Durable {
        lock(&self.state).durable
    }

    /// Waits until there is more than `sequence` entries, or for `wait`.
    pub(super) fn wait_beyond(&self, sequence: u64, wait: Duration) {
        let state = lock(&self.state);
        // The result is what the caller looks at anyway.
        drop(self.moved.wait_timeout_while(state, wait, |state| state.durable.sequence <= sequence && !state.closed));
    }

    /// Appends entries in order; durable when it returns. After an error some of them may stand in the log.
    pub(super) fn append(&self, events: &[Fields]) -> Result<Vec<StreamId>, SourceError> {
        let mut state = lock(&self.state);
        let mut ids = Vec::with_capacity(events.len());
        let failures = state.failures;
        for fields in events {
            // A thread that syncs has taken the staged frames' segment along: a new one is only begun between syncs.
            loop {
                state.check(&self.dir)?;
                if !state.busy || state.fits(cursor::size(fields) + 20 + 8 * fields.len()) {
                    break;
                }
                state = self.moved.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            let id = state.next_id();
            let body = cursor::encode(id, fields)?;
            if !state.fits(body.len())
                && let Err(error) = self.roll(&mut state, body.len())
            {
                state.wanting = Some(body.len());
                return Err(error);
            }
            let Some(writer) = state.writer.as_mut() else { return Err(closed(&self.dir)) };
            writer.stage(&[&body])?;
            state.last = id;
            ids.push(id);
        }
        if events.is_empty() {
            return Ok(ids);
        }
        if state.failures != failures {
            // The first of them were dropped while the last waited for room.
            return Err(SourceError::Io {
                action: "write to",
                path: self.dir.clone(),
                source: std::io::Error::other("an append at the same time failed"),
            });
        }
        let waiter: Arc<Waiter> = Arc::default();
        state.waiting.push(Arc::clone(&waiter));
        loop {
            if let Some(done) = waiter.get() {
                return done.clone().map(|()| ids).map_err(Failure::into_source_error);
            }
            if state.busy {
                state = self.moved.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
                continue;
            }
            state.busy = true;
            let begun = state.write();
            // Only those whose frames are taken along: others come while the file is synced.
            let waiting = std::mem::take(&mut state.waiting);
            let result = match begun {
                Ok((durable, file)) => {
                    drop(state);
                    let synced = segment::sync(&file, &cursor::segment_path(&self.dir, durable.segment));
                    state = lock(&self.state);
                    match synced {
                        Ok(()) => {
                            state.durable = durable;
                            Ok(())
                        }
                        Err(source) => {
                            let path = cursor::segment_path(&self.dir, durable.segment);
                            let failure = Failure { action: "sync", path, source: Arc::new(source) };
                            state.broken = Some(failure.clone());
                            Err(failure)
                        }
                    }
                }
                Err(failure) => Err(failure),
            };
            for waiter in waiting {
                // Each is set once: it was taken off the list.
                drop(waiter.set(result.clone()));
            }
            state.busy = false;
            self.moved.notify_all();
        }
    }

    /// Removes entries by their ids, durably, and returns how many there were. Segments that hold one of them are written anew
    /// without it; one that holds nothing else goes. Appends wait meanwhile: for logs of small segments.
    pub(super) fn remove(&self, ids: &BTreeSet<StreamId>) -> Result<u64, SourceError> {
        let mut state = lock(&self.state);
        while state.busy || !state.waiting.is_empty() {
            state = self.moved.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        state.check(&self.dir)?;
        let mut removed = 0;
        for first in cursor::segments(&self.dir)? {
            let path = cursor::segment_path(&self.dir, first);
            let mut kept = Vec::new();
            let mut found = 0;
            let scan = match Scan::open(&path, Some(first)) {
                // Readers pass it over, too.
                Err(SegmentError::NotASegment { .. }) => continue,
                scan => scan?,
            };
            for frame in scan {
                let body = frame?.body;
                match cursor::id_of(&body).is_some_and(|id| ids.contains(&id)) {
                    true => found += 1,
                    false => kept.push(body),
                }
            }
            if found == 0 {
                continue;
            }
            removed += found;
            if first == state.segment {
                self.roll(&mut state, 0)?;
                state.durable = Durable { segment: state.segment, tail: segment::FILE_HEADER, ..state.durable };
            }
            self.rewrite(first, &kept)?;
        }
        segment::sync_dir(&self.dir)?;
        Ok(removed)
    }

    /// Puts a segment with these frames in the place of one. They are numbered anew from its first on, so that numbers may be
    /// missing between it and the next.
    fn rewrite(&self, first: u64, kept: &[Bytes]) -> Result<(), SourceError> {
        let path = cursor::segment_path(&self.dir, first);
        if kept.is_empty() {
            return std::fs::remove_file(&path).map_err(io_error("remove", &path));
        }
        let frames: u64 = kept.iter().map(|body| segment::FRAME_HEADER + body.len() as u64).sum();
        let staged = format!("{first:020}.part");
        let part = self.dir.join(&staged);
        drop(std::fs::remove_file(&part));
        let mut writer = SegmentWriter::create(&self.dir, &staged, segment::FILE_HEADER + frames, first)?;
        for body in kept {
            writer.stage(&[body])?;
        }
        writer.write()?;
        writer.sync()?;
        std::fs::rename(&part, &path).map_err(io_error("replace", &path))
    }

    /// Bytes that its files take; of the last one what is written.
    pub(super) fn bytes(&self) -> Result<u64, SourceError> {
        let durable = self.durable();
        let mut bytes = durable.tail.saturating_sub(segment::FILE_HEADER);
        for first in cursor::segments(&self.dir)?.into_iter().filter(|&first| first != durable.segment) {
            let path = cursor::segment_path(&self.dir, first);
            bytes += std::fs::metadata(&path).map_err(io_error("look at", &path))?.len();
        }
        Ok(bytes)
    }

    /// No more appends; those under way end first.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        self.moved.notify_all();
        while state.busy || !state.waiting.is_empty() {
            state = self.moved.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        state.writer = None;
    }

    /// Ends the writer's segment and begins one in which a body of that size fits.
    fn roll(&self, state: &mut State, body: usize) -> Result<(), SourceError> {
        let first = match state.writer.is_some() {
            true => {
                let (durable, file) = match state.write() {
                    Ok(written) => written,
                    Err(failure) => {
                        // What others staged is gone with it.
                        state.answer(&Err(failure.clone()));
                        self.moved.notify_all();
                        return Err(failure.into_source_error());
                    }
                };
                let path = cursor::segment_path(&self.dir, durable.segment);
                if let Err(source) = segment::sync(&file, &path) {
                    let failure = Failure { action: "sync", path, source: Arc::new(source) };
                    state.broken = Some(failure.clone());
                    return Err(failure.into_source_error());
                }
                // Readers may have it, whether or not the new segment can be made.
                state.durable = durable;
                self.moved.notify_all();
                durable.sequence + 1
            }
            false => 1,
        };
        let size =
            segment::size_for(body, fault::segment_bytes(&cursor::segment_path(&self.dir, first), self.segment_bytes));
        let name = cursor::segment_path(Path::new(""), first);
        state.writer = Some(SegmentWriter::create(&self.dir, &name.to_string_lossy(), size, first)?);
        state.segment = first;
        Ok(())
    }
}

/// Segments that a crash left half made.
fn remove_unfinished(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "new" || extension == "part") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The last entry's id in one segment.
fn last_id(dir: &Path, first: u64) -> Result<Option<StreamId>, SourceError> {
    let mut cursor = Cursor::new(dir.to_owned());
    cursor.start_at(first);
    cursor.try_fold(None, |_, entry| Ok(Some(entry?.id)))
}

fn closed(dir: &Path) -> SourceError {
    SourceError::Config(format!("the embedded stream in {} was given up by this process", dir.display()))
}

// === impl State ===

impl State {
    fn check(&self, dir: &Path) -> Result<(), SourceError> {
        match &self.broken {
            Some(failure) => Err(failure.clone().into_source_error()),
            None if self.closed => Err(closed(dir)),
            None => Ok(()),
        }
    }

    /// Tells those who wait what became of their frames.
    fn answer(&mut self, result: &Result<(), Failure>) {
        for waiter in self.waiting.drain(..) {
            // Each is set once: it was taken off the list.
            drop(waiter.set(result.clone()));
        }
    }

    fn fits(&self, body: usize) -> bool {
        self.writer.as_ref().and_then(SegmentWriter::room).is_some_and(|room| room >= body as u64)
    }

    /// Above all before, whatever the clock does.
    fn next_id(&self) -> StreamId {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
        match now > self.last.ms {
            true => StreamId { ms: now, seq: 0 },
            false => self.last.next(),
        }
    }

    /// Writes what is staged; returns what is durable once the file is synced.
    fn write(&mut self) -> Result<(Durable, std::fs::File), Failure> {
        let (segment, last) = (self.segment, self.last);
        let Some(writer) = &mut self.writer else {
            let source = std::io::Error::other("closed");
            return Err(Failure { action: "write to", path: PathBuf::new(), source: Arc::new(source) });
        };
        if let Err(error) = writer.write() {
            // Nothing of it may become an entry later: those who appended are told that it failed.
            if let Err(error) = writer.cut() {
                tracing::warn!(%error, "the log's end was not cleaned; the next append overwrites it");
            }
            self.wanting = Some(writer.staged());
            writer.unstage();
            self.failures += 1;
            return Err(error.into());
        }
        self.wanting = None;
        let file = writer.try_clone_file()?;
        Ok((Durable { sequence: writer.next_sequence() - 1, last, segment, tail: writer.tail() }, file))
    }
}

// === impl Failure ===

impl From<SegmentError> for Failure {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Io { action, path, source } => Self { action, path, source: Arc::new(source) },
            other => Self {
                action: "write to",
                path: PathBuf::new(),
                source: Arc::new(std::io::Error::other(other.to_string())),
            },
        }
    }
}

impl Failure {
    fn into_source_error(self) -> SourceError {
        let Self { action, path, source } = self;
        SourceError::Io { action, path, source: std::io::Error::new(source.kind(), source.to_string()) }
    }
}
