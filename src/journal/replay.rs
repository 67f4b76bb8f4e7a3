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
use crate::{fault, position::Position};

const CHECKPOINT: &str = "checkpoint-";
/// Ends the names of files that are not in use yet, or not any more.
const UNUSED: &str = ".new";

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
    /// What else dead owners left: their checkpoints, files that were to become segments.
    leavings: Vec<(u64, PathBuf)>,
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
    /// Reads a checkpoint. One that is damaged is an error: replaying without it could not know what to skip.
    fn read(path: PathBuf) -> Result<Self, JournalError> {
        let bytes =
            std::fs::read(&path).map_err(|source| JournalError::Io { action: "read", path: path.clone(), source })?;
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
        serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))
    }

    /// Replaces this epoch's checkpoint; durable when it returns. Each owner has its own file and that of the highest epoch
    /// counts, so that one who was paused and replaced cannot put an old position in the place of a newer one.
    pub fn write(&self, dir: &Path) -> Result<(), JournalError> {
        let (path, temp) = (checkpoint_path(dir, self.epoch), dir.join(format!("{CHECKPOINT}{}{UNUSED}", self.epoch)));
        let written = (|| {
            let mut bytes = serde_json::to_vec(self)?;
            let crc = crc32fast::hash(&bytes);
            writeln!(bytes, "\n{crc:08x}")?;
            fault::point("checkpoint::write")?;
            let mut file = std::fs::File::create(&temp)?;
            fault::halves("checkpoint::part", &bytes, |part, _| file.write_all(part))?;
            Ok(file)
        })();
        let failed = |action| move |source| JournalError::Io { action, path: checkpoint_path(dir, self.epoch), source };
        let file = written.map_err(failed("write"))?;
        fault::point("checkpoint::sync").and_then(|()| file.sync_all()).map_err(failed("sync"))?;
        let renamed = fault::point("checkpoint::rename").and_then(|()| std::fs::rename(&temp, &path));
        renamed.map_err(failed("rename"))?;
        fault::pass("checkpoint::renamed");
        Ok(sync_dir(dir)?)
    }
}

// === impl Found ===

impl Found {
    /// Looks into a state folder.
    pub fn look(dir: &Path) -> Result<Self, JournalError> {
        let fail = |source| JournalError::Io { action: "list", path: dir.to_owned(), source };
        let (mut segments, mut leavings, mut newest) = (Vec::new(), Vec::new(), None);
        for entry in std::fs::read_dir(dir).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if let Some(epoch) = name.strip_prefix(CHECKPOINT).and_then(|epoch| epoch.parse::<u64>().ok()) {
                newest = newest.max(Some(epoch));
                leavings.push((epoch, path));
                continue;
            }
            if let Some(name) = name.strip_suffix(UNUSED) {
                let of = name.strip_prefix(CHECKPOINT).or(name.split_once("-spare-").map(|(epoch, _)| epoch));
                leavings.extend(of.and_then(|epoch| epoch.parse().ok()).map(|epoch: u64| (epoch, path)));
                continue;
            }
            let Some((epoch, n)) = name.strip_suffix(".wal").and_then(|name| name.split_once('-')) else { continue };
            if let (Ok(epoch), Ok(n)) = (epoch.parse(), n.parse()) {
                segments.push(Segment { path, epoch, n });
            }
        }
        let checkpoint = newest.map(|epoch| Checkpoint::read(checkpoint_path(dir, epoch))).transpose()?;
        segments.sort_by_key(|segment| (segment.epoch, segment.n));
        let epochs = segments.iter().map(|segment| segment.epoch).chain(checkpoint.as_ref().map(|c| c.epoch));
        Ok(Self { epoch: epochs.max().unwrap_or(0), checkpoint, segments, leavings })
    }

    /// Whether there never was a journal here, or all of it is gone.
    pub fn is_empty(&self) -> bool {
        self.checkpoint.is_none() && self.segments.is_empty()
    }

    /// Puts all of it into a folder beside, from where nothing reads it.
    pub fn set_aside(self, dir: &Path, epoch: u64) -> Result<PathBuf, JournalError> {
        let aside = dir.join(format!("aside-{epoch}"));
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { action: "set aside", path, source }
        };
        std::fs::create_dir_all(&aside).map_err(fail(&aside))?;
        let leavings = self.leavings.into_iter().map(|(_, path)| path);
        for path in self.segments.into_iter().map(|segment| segment.path).chain(leavings) {
            let name = path.file_name().map(PathBuf::from).unwrap_or_default();
            match std::fs::rename(&path, aside.join(name)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(fail(&path)(source)),
                _ => {}
            }
        }
        sync_dir(dir)?;
        Ok(aside)
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
        if let (None, Some((segment, first, _))) = (&self.checkpoint, scans.first()) {
            // A journal's first record has a number of its own, and its first segment the number 0.
            replayed.next_sequence = *first;
            if segment.n > 0 {
                replayed
                    .damage
                    .push(format!("{} is the first segment: those before it are missing", segment.path.display()));
            }
        }
        for (segment, first, mut scan) in scans {
            // Where the next epoch begins, this one was sealed.
            let sealed = starts.iter().filter(|(epoch, _)| *epoch > segment.epoch).map(|(_, first)| *first).min();
            let sealed = sealed.filter(|_| !fault::mutated("mutation::no_seal"));
            if sealed.is_some_and(|sealed| first >= sealed) {
                // Begun by a paused owner after it was replaced.
                continue;
            }
            if first > replayed.next_sequence {
                replayed.damage.push(format!("records {} to {} are missing", replayed.next_sequence, first - 1));
                replayed.next_sequence = first;
            }
            for frame in scan.by_ref() {
                fault::pass("recover::record");
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

    /// Removes what was found of owners before this epoch. Only after a checkpoint of this owner covers the segments.
    pub fn remove(self, epoch: u64) -> Result<(), JournalError> {
        let leavings = self.leavings.into_iter().filter(|(of, _)| *of < epoch).map(|(_, path)| path);
        for path in self.segments.into_iter().map(|segment| segment.path).chain(leavings) {
            match fault::point("recover::remove").and_then(|()| std::fs::remove_file(&path)) {
                // An owner that is being replaced gives its own files away, too.
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(JournalError::Io { action: "remove", path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn checkpoint_path(dir: &Path, epoch: u64) -> PathBuf {
    dir.join(format!("{CHECKPOINT}{epoch}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::StreamId, journal::segment::SegmentWriter, position::Step};

    fn record(seq: u64) -> Vec<u8> {
        let step = Step { low: StreamId { ms: 1, seq }, ..Step::default() };
        postcard::to_stdvec(&Record { step, ..Record::default() }).unwrap()
    }

    fn segment(dir: &Path, name: &str, first: u64, marks: &[u64]) {
        let mut writer = SegmentWriter::create(dir, name, 1 << 16, first).unwrap();
        for &mark in marks {
            writer.stage(&[&record(mark)]).unwrap();
        }
        writer.write().unwrap();
    }

    fn replayed(dir: &Path) -> (Vec<(u64, u64)>, Replayed) {
        let mut seen = Vec::new();
        let each = |sequence, record: Record| -> Result<(), JournalError> {
            seen.push((sequence, record.step.low.seq));
            Ok(())
        };
        let replayed = Found::look(dir).unwrap().replay(each).unwrap();
        (seen, replayed)
    }

    #[test]
    fn what_a_paused_owner_writes_after_it_was_replaced_does_not_count() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        // The third record and a whole segment came when epoch 2 had begun behind the second one.
        segment(dir, "1-00000000.wal", 1, &[10, 20, 31]);
        segment(dir, "1-00000001.wal", 9, &[91]);
        segment(dir, "2-00000000.wal", 3, &[30, 40]);
        let (seen, end) = replayed(dir);
        assert_eq!(seen, [(1, 10), (2, 20), (3, 30), (4, 40)]);
        assert_eq!((end.next_sequence, end.damage), (5, Vec::new()));
        let checkpoint = |epoch, sequence| Checkpoint { epoch, sequence, position: Position::default() };
        checkpoint(2, 3).write(dir).unwrap();
        checkpoint(1, 2).write(dir).unwrap();
        assert_eq!(Found::look(dir).unwrap().checkpoint, Some(checkpoint(2, 3)));
        assert_eq!(replayed(dir).0, [(4, 40)]);
    }

    #[test]
    fn what_dead_owners_left_is_removed_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        segment(dir, "1-00000000.wal", 1, &[10]);
        for name in ["1-spare-3.new", "checkpoint-1.new", "2-spare-0.new", "id", "lock", "id-0123.new"] {
            std::fs::write(dir.join(name), "x").unwrap();
        }
        let checkpoint = |epoch| Checkpoint { epoch, sequence: 1, position: Position::default() };
        checkpoint(1).write(dir).unwrap();
        let found = Found::look(dir).unwrap();
        checkpoint(2).write(dir).unwrap();
        found.remove(2).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["2-spare-0.new", "checkpoint-2", "id", "id-0123.new", "lock"]);
    }
}
