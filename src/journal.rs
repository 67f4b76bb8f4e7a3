//! The journal: one append-only log that makes a commit durable with one sync, before any task file is touched. Row of
//! segments `<epoch>-<n>.wal` in the stream's state folder; each owner writes under its own epoch only. [`record`] says what
//! a commit holds, [`segment`] how it stands in a file, [`replay`] how a successor reads it.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
};

use crate::{event::StreamId, fault, position::Position};

pub mod record;
pub mod replay;
pub mod segment;

use record::Record;
use segment::{SEGMENT_BYTES, SegmentError, SegmentWriter, Spare, size_for};

/// Receipt: everything up to this position stands in the synced journal. Only the journal makes one, so nothing else can
/// publish.
#[derive(Clone, Debug)]
pub struct Durable {
    epoch: u64,
    sequence: u64,
    low: StreamId,
    read: Option<u64>,
}

/// The writing end, one per ownership.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    epoch: u64,
    next_file: u64,
    writer: SegmentWriter,
    /// Full segments with the last sequence number in each, oldest first.
    full: VecDeque<(PathBuf, u64)>,
    spares: Vec<Spare>,
    /// What the last written record made of the position.
    written: Option<(u64, StreamId, Option<u64>)>,
    buffer: Vec<u8>,
}

/// What went wrong with the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A segment's file.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The state folder.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A record that cannot be encoded, or decoded although its checksum holds.
    #[error("cannot {action} a journal record")]
    Record {
        /// `encode` or `decode`.
        action: &'static str,
        /// Why not.
        #[source]
        source: postcard::Error,
    },
}

// === impl JournalError ===

impl JournalError {
    /// Whether a file is not there any more.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Segment(SegmentError::Io { source, .. }) | Self::Io { source, .. } => {
                source.kind() == io::ErrorKind::NotFound
            }
            _ => false,
        }
    }

    /// Whether the same call may succeed later, see [`SegmentError::may_pass`].
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Segment(error) => error.may_pass(),
            Self::Io { action, source, .. } => !action.starts_with("sync") && segment::may_pass(source),
            Self::Record { .. } => false,
        }
    }
}

// === impl Durable ===

impl Durable {
    /// The ownership under which it was written.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The journal's last record that is synced.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Everything at or below this id is committed: what may be published.
    pub fn low(&self) -> StreamId {
        self.low
    }

    /// Entries read up to [`Durable::low`], for lag; `None` when not known.
    pub fn read(&self) -> Option<u64> {
        self.read
    }
}

/// A receipt for a position that was found in a sealed journal or checkpoint: published again after a take-over.
pub fn recovered(epoch: u64, position: &Position) -> Durable {
    Durable { epoch, sequence: 0, low: position.low, read: position.read }
}

// === impl Journal ===

impl Journal {
    /// Starts an owner's journal; its first record gets the sequence number `first`.
    pub fn create(dir: &Path, epoch: u64, first: u64) -> Result<Self, JournalError> {
        let spare = Spare::create(dir.join(format!("{epoch}-spare-0.new")), usual_bytes(dir))?;
        let writer = spare.start(segment_path(dir, epoch, 0), first)?;
        Ok(Self {
            dir: dir.to_owned(),
            epoch,
            next_file: 1,
            writer,
            full: VecDeque::new(),
            spares: Vec::new(),
            written: None,
            buffer: Vec::new(),
        })
    }

    /// The sequence number that the next record gets.
    pub fn next_sequence(&self) -> u64 {
        self.writer.next_sequence()
    }

    /// Segments that wait for a checkpoint.
    pub fn full_segments(&self) -> usize {
        self.full.len()
    }

    /// Writes a record; not yet durable. After an error nothing is written, and the same call may be repeated.
    pub fn append(&mut self, record: &Record) -> Result<u64, JournalError> {
        self.buffer.clear();
        self.buffer = postcard::to_extend(record, std::mem::take(&mut self.buffer))
            .map_err(|source| JournalError::Record { action: "encode", source })?;
        if self.writer.room().is_none_or(|room| room < self.buffer.len() as u64) {
            self.roll()?;
        }
        let sequence = self.writer.stage(&[&self.buffer])?;
        if let Err(error) = self.writer.write() {
            let cut = self.writer.cut();
            self.writer.unstage();
            // Without room even for the zeros what is left stays: no whole frame, and the next one is written over it.
            return match cut {
                Err(cut) if !cut.may_pass() => Err(cut.into()),
                _ => Err(error.into()),
            };
        }
        self.written = Some((sequence, record.step.low, record.step.read));
        self.buffer.shrink_to(8 << 20);
        Ok(sequence)
    }

    /// Makes all written records durable and returns the receipt; `None` when there is nothing new. A failed sync must end
    /// the process: nothing is known of the file after it.
    pub fn sync(&mut self) -> Result<Option<Durable>, JournalError> {
        if self.written.is_some() {
            self.writer.sync()?;
        }
        Ok(self.receipt())
    }

    /// The sync of a bug that tests switch on: after the receipt.
    pub(crate) fn sync_late(&self) -> Result<(), JournalError> {
        Ok(self.writer.sync()?)
    }

    /// A receipt without a sync, for `FSYNC=never`.
    pub fn receipt(&mut self) -> Option<Durable> {
        let (sequence, low, read) = self.written.take()?;
        Some(Durable { epoch: self.epoch, sequence, low, read })
    }

    /// Gives back the segments whose records all stand in the checkpoint of `sequence`.
    pub fn recycle(&mut self, sequence: u64) -> Result<(), JournalError> {
        while let Some((path, _)) = self.full.front().filter(|(_, last)| *last <= sequence) {
            let path = path.clone();
            let spare = self.dir.join(format!("{}-spare-{}.new", self.epoch, self.next_file));
            let moved = fault::point("journal::recycle").and_then(|()| match self.spares.len() < 2 {
                true => std::fs::rename(&path, &spare),
                false => std::fs::remove_file(&path),
            });
            moved.map_err(|source| JournalError::Io { action: "recycle", path: path.clone(), source })?;
            fault::pass("journal::recycled");
            self.next_file += 1;
            self.full.pop_front();
            if self.spares.len() < 2 {
                self.spares.push(Spare::reuse(spare)?);
            }
        }
        Ok(())
    }

    /// Ends writing: spare files go. After a crash the next owner removes them.
    pub fn close(self) -> Result<(), JournalError> {
        Ok(self.spares.into_iter().try_for_each(Spare::remove)?)
    }

    fn roll(&mut self) -> Result<(), JournalError> {
        // A record that is written and not synced would be out of the next sync's reach.
        self.writer.sync()?;
        let size = size_for(self.buffer.len(), usual_bytes(&self.dir));
        let at = self.spares.iter().position(|spare| spare.size() >= size);
        let spare = match at {
            Some(at) => self.spares.swap_remove(at),
            None => Spare::create(self.dir.join(format!("{}-spare-{}.new", self.epoch, self.next_file)), size)?,
        };
        let next = self.writer.next_sequence();
        let writer = spare.start(segment_path(&self.dir, self.epoch, self.next_file), next)?;
        self.next_file += 1;
        let old = std::mem::replace(&mut self.writer, writer);
        self.full.push_back((old.into_path(), next - 1));
        Ok(())
    }
}

fn usual_bytes(dir: &Path) -> u64 {
    fault::segment_bytes(&segment_path(dir, 0, 0), SEGMENT_BYTES)
}

fn segment_path(dir: &Path, epoch: u64, n: u64) -> PathBuf {
    dir.join(format!("{epoch}-{n:08}.wal"))
}
