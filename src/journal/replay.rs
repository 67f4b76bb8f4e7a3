//! The reading end: the checkpoint and, above it, every record that a predecessor left. An epoch's records count up to where
//! the next epoch begins, whatever a paused owner appended after it was replaced.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    JournalError,
    record::Record,
    segment::{End, Scan, SegmentError, sync_dir},
};
use crate::position::Position;

const CHECKPOINT: &str = "checkpoint";

/// Up to where the journal is no longer needed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The owner that wrote it.
    pub epoch: u64,
    /// The last record that is in the files and `.state`s.
    pub sequence: u64,
    /// The position after that record.
    pub position: Position,
}

/// What a state folder holds.
#[derive(Debug, Default)]
pub struct Found {
    /// The checkpoint, if there is one.
    pub checkpoint: Option<Checkpoint>,
    /// Highest epoch seen.
    pub epoch: u64,
    segments: Vec<Segment>,
    /// Spare files of owners that are gone.
    unfinished: Vec<Segment>,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    epoch: u64,
    n: u64,
}

/// How a replay went.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Records read.
    pub records: u64,
    /// The sequence number to go on with.
    pub next_sequence: u64,
    /// Damage that was found, in words; what is behind it in the same epoch is not replayed.
    pub damage: Vec<String>,
}

// === impl Checkpoint ===

impl Checkpoint {
    /// Reads the folder's checkpoint. One that is damaged is an error: replaying without it could not know what to skip.
    pub fn read(dir: &Path) -> Result<Option<Self>, JournalError> {
        let path = dir.join(CHECKPOINT);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(JournalError::Io { action: "read", path, source }),
        };
        let damaged = |why: String| JournalError::Io {
            action: "read",
            path: path.clone(),
            source: io::Error::new(io::ErrorKind::InvalidData, why),
        };
        let (json, tail) =
            bytes.split_at_checked(bytes.len().saturating_sub(10)).ok_or_else(|| damaged("short".into()))?;
        if tail != format!("\n{:08x}\n", crc32fast::hash(json)).as_bytes() {
            return Err(damaged("wrong checksum".into()));
        }
        serde_json::from_slice(json).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// Replaces the folder's checkpoint; durable when it returns.
    pub fn write(&self, dir: &Path) -> Result<(), JournalError> {
        let (path, temp) = (dir.join(CHECKPOINT), dir.join(format!("{CHECKPOINT}-{}.new", self.epoch)));
        let written = (|| {
            let mut bytes = serde_json::to_vec(self)?;
            let crc = crc32fast::hash(&bytes);
            writeln!(bytes, "\n{crc:08x}")?;
            let mut file = std::fs::File::create(&temp)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&temp, &path)
        })();
        written.map_err(|source| JournalError::Io { action: "write", path, source })?;
        Ok(sync_dir(dir)?)
    }
}

// === impl Found ===

impl Found {
    /// Looks into a state folder.
    pub fn look(dir: &Path) -> Result<Self, JournalError> {
        let fail = |source| JournalError::Io { action: "list", path: dir.to_owned(), source };
        let checkpoint = Checkpoint::read(dir)?;
        let (mut segments, mut unfinished) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(dir).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
            if name.contains("-spare-") && name.ends_with(".new") {
                unfinished.push(Segment { path, epoch: 0, n: 0 });
                continue;
            }
            let Some((epoch, n)) = name.strip_suffix(".wal").and_then(|name| name.split_once('-')) else { continue };
            if let (Ok(epoch), Ok(n)) = (epoch.parse(), n.parse()) {
                segments.push(Segment { path, epoch, n });
            }
        }
        segments.sort_by_key(|segment| (segment.epoch, segment.n));
        let epochs = segments.iter().map(|segment| segment.epoch).chain(checkpoint.as_ref().map(|c| c.epoch));
        Ok(Self { epoch: epochs.max().unwrap_or(0), checkpoint, segments, unfinished })
    }

    /// Hands every record above the checkpoint to `each`, in order.
    pub fn replay<E: From<JournalError>>(
        &self,
        mut each: impl FnMut(u64, Record) -> Result<(), E>,
    ) -> Result<Replayed, E> {
        let done = self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.sequence);
        let mut replayed = Replayed { next_sequence: done + 1, ..Replayed::default() };
        let mut scans = Vec::new();
        for segment in &self.segments {
            match Scan::open(&segment.path, None) {
                Ok(scan) => scans.push((segment, scan.next_sequence(), scan)),
                Err(SegmentError::NotASegment { path }) => {
                    replayed.damage.push(format!("{} is not a segment", path.display()));
                }
                Err(error) => return Err(JournalError::from(error).into()),
            }
        }
        let starts: Vec<(u64, u64)> = scans.iter().map(|(segment, first, _)| (segment.epoch, *first)).collect();
        for (segment, first, mut scan) in scans {
            // Where the next epoch begins, this one was sealed.
            let sealed = starts.iter().filter(|(epoch, _)| *epoch > segment.epoch).map(|(_, first)| *first).min();
            if first > replayed.next_sequence {
                replayed.damage.push(format!("records {} to {} are missing", replayed.next_sequence, first - 1));
                replayed.next_sequence = first;
            }
            for frame in scan.by_ref() {
                let frame = frame.map_err(JournalError::from)?;
                if sealed.is_some_and(|sealed| frame.sequence >= sealed) {
                    break;
                }
                if frame.sequence < replayed.next_sequence {
                    continue;
                }
                let record = postcard::from_bytes(&frame.body)
                    .map_err(|source| JournalError::Record { action: "decode", source })?;
                each(frame.sequence, record)?;
                replayed.records += 1;
                replayed.next_sequence = frame.sequence + 1;
            }
            if let End::Corrupt { next_valid, sequence } = scan.end().map_err(JournalError::from)? {
                let (path, next) = (segment.path.display(), replayed.next_sequence);
                replayed
                    .damage
                    .push(format!("{path}: damaged before record {sequence} at {next_valid}, expected {next}"));
            }
        }
        Ok(replayed)
    }

    /// Removes the segments that were found, and files that a crash left unfinished. Only after a checkpoint of this owner
    /// covers the segments.
    pub fn remove(mut self) -> Result<(), JournalError> {
        self.segments.append(&mut self.unfinished);
        for Segment { path, .. } in self.segments {
            std::fs::remove_file(&path).map_err(|source| JournalError::Io { action: "remove", path, source })?;
        }
        Ok(())
    }
}
