//! The owner's publishing side of the embedded stream: the position in a small file, dead letters in a log of their own, and
//! segments that were read long ago removed.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use super::{Held, cursor, cursor::Cursor, io_error, lock};
use crate::{
    event::StreamId,
    fault,
    journal::Durable,
    metrics,
    source::{DeadLetter, Publisher, SourceError, letter},
};

/// Segments that are kept although everything in them was read (1 GiB of the usual size): for a look back, and for a lost
/// journal.
const KEEP_SEGMENTS: usize = 16;

/// The published position on disk: `ms u64 | seq u64 | read u64 (MAX: not known) | crc32 u32`, overwritten in place and not
/// synced at each publish, for the journal is the truth.
pub(super) struct PositionFile {
    file: Option<File>,
    path: PathBuf,
    low: StreamId,
    read: Option<u64>,
}

/// The owner's publishing side.
pub(super) struct EmbeddedPublisher {
    held: Arc<Held>,
    dir: PathBuf,
    /// The log's last segment when old ones were last removed.
    trimmed_at: u64,
    /// Bytes that the dead letters take, as last looked at.
    letters_bytes: Option<u64>,
}

// === impl PositionFile ===

impl PositionFile {
    /// For the holder of the lock.
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        let mut position = Self::read(path)?;
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(path);
        position.file = Some(opened.map_err(io_error("open", path))?);
        Ok(position)
    }

    /// For anybody. A missing or damaged file is the stream's beginning.
    pub(super) fn read(path: &Path) -> Result<Self, SourceError> {
        let record = match std::fs::read(path) {
            Ok(record) => record,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(io_error("read", path)(error)),
        };
        let number =
            |at: usize| record.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_le_bytes);
        let valid = record.len() >= 28 && record[24..28] == crc32fast::hash(&record[..24]).to_le_bytes();
        if !valid && !record.is_empty() {
            tracing::warn!(path = %path.display(), "the published position is damaged: as if nothing was published");
        }
        let (low, read) = match valid {
            true => (StreamId { ms: number(0), seq: number(8) }, Some(number(16)).filter(|&read| read != u64::MAX)),
            false => (StreamId::MIN, None),
        };
        Ok(Self { file: None, path: path.to_owned(), low, read })
    }

    /// Everything at or below it is committed.
    pub(super) fn low(&self) -> StreamId {
        self.low
    }

    /// Entries up to it.
    pub(super) fn read_count(&self) -> Option<u64> {
        self.read
    }

    fn set(&mut self, low: StreamId, read: Option<u64>) -> Result<(), SourceError> {
        let mut record = [0; 28];
        record[..8].copy_from_slice(&low.ms.to_le_bytes());
        record[8..16].copy_from_slice(&low.seq.to_le_bytes());
        record[16..24].copy_from_slice(&read.unwrap_or(u64::MAX).to_le_bytes());
        let crc = crc32fast::hash(&record[..24]);
        record[24..].copy_from_slice(&crc.to_le_bytes());
        if let Some(file) = &self.file {
            let written = fault::point("log::position")
                .and_then(|()| fault::halves("log::position_part", &record, |part, at| file.write_all_at(part, at)));
            written.map_err(io_error("write", &self.path))?;
            fault::point("publish::executed").map_err(SourceError::interrupted)?;
        }
        (self.low, self.read) = (low, read);
        Ok(())
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data).inspect_err(metrics::sync_failed)
    }
}

// === impl EmbeddedPublisher ===

impl EmbeddedPublisher {
    pub(super) fn new(held: Arc<Held>, dir: PathBuf) -> Self {
        Self { held, dir, trimmed_at: 0, letters_bytes: None }
    }

    fn check(&self) -> Result<(), SourceError> {
        if self.held.stands.load(Ordering::Acquire) { Ok(()) } else { Err(SourceError::Fenced) }
    }

    /// Removes segments whose entries were all read, but for the last [`KEEP_SEGMENTS`] of them and those from the first on
    /// that a letter without its fields refers to.
    fn remove_old(&self, read: u64) -> Result<(), SourceError> {
        let segments = cursor::segments(&self.dir)?;
        // A segment ends where the next begins.
        let all_read = segments.windows(2).filter(|pair| pair[1] <= read.saturating_add(1)).count();
        let over = all_read.saturating_sub(KEEP_SEGMENTS);
        if over == 0 {
            return Ok(());
        }
        self.remove(&segments[..=over], self.held.lowest_needed()?).map(drop)
    }

    /// Removes all of these segments but the last, up to the first that may hold an entry at or above `bound`. Returns how many
    /// entries they had.
    fn remove(&self, segments: &[u64], bound: Option<StreamId>) -> Result<u64, SourceError> {
        let mut removed = 0;
        for pair in segments.windows(2) {
            if let Some(bound) = bound {
                let mut next = Cursor::new(self.dir.clone());
                next.limit(Some(self.held.events.durable()));
                next.start_at(pair[1]);
                if next.peek()?.is_none_or(|(_, begins)| begins > bound) {
                    break;
                }
            }
            let path = cursor::segment_path(&self.dir, pair[0]);
            let gone = fault::point("log::trim").and_then(|()| std::fs::remove_file(&path));
            gone.map_err(io_error("remove", &path))?;
            removed += pair[1] - pair[0];
        }
        Ok(removed)
    }

    /// Which of the letters stand in the dead letter log. None is older than its entry.
    fn buried(&self, letters: &[DeadLetter]) -> Result<HashSet<StreamId>, SourceError> {
        let wanted: HashSet<StreamId> = letters.iter().map(|letter| letter.id).collect();
        let Some(oldest) = wanted.iter().min() else { return Ok(wanted) };
        let mut found = HashSet::new();
        let mut cursor = Cursor::new(self.dir.join("dead"));
        cursor.limit(Some(self.held.dead.durable()));
        cursor.seek(StreamId { ms: oldest.ms, seq: 0 }.previous())?;
        for copy in cursor {
            found.extend(letter::original(&copy?).filter(|id| wanted.contains(id)));
        }
        // Those that operators removed since were there.
        found.extend(self.held.removed()?.into_iter().filter(|id| wanted.contains(id)));
        Ok(found)
    }
}

impl Publisher for EmbeddedPublisher {
    fn bury(&mut self, letters: &[DeadLetter], may_exist: bool) -> Result<(), SourceError> {
        self.check()?;
        let buried = if may_exist { self.buried(letters)? } else { HashSet::new() };
        let mut missing: Vec<&DeadLetter> = letters.iter().filter(|letter| !buried.contains(&letter.id)).collect();
        // In the order of the log, so that one cursor finds them all.
        missing.sort_by_key(|letter| letter.id);
        let mut cursor = Cursor::new(self.dir.clone());
        cursor.limit(Some(self.held.events.durable()));
        let (mut copies, mut written) = (Vec::new(), 0);
        for letter in missing {
            let fields = match &letter.fields {
                Some(fields) => Some(fields.clone()),
                None => {
                    cursor.seek(letter.id.previous())?;
                    let found = cursor.peek()?.is_some_and(|(_, id)| id == letter.id);
                    if found { cursor.next_entry()?.map(|(_, entry)| entry.fields) } else { None }
                }
            };
            let copy = letter::copy(letter, &self.held.name, fields.as_ref(), self.held.letters.digest);
            let (bytes, max) = (self.held.dead.bytes()? + written, self.held.letters.bytes_max);
            let size = letter::size(&copy) as u64;
            if bytes > 0 && bytes + size > max {
                // Those before it stand there; the next try looks for them.
                self.held.dead.append(&copies)?;
                self.letters_bytes = Some(bytes);
                return Err(SourceError::LettersFull { bytes, max });
            }
            written += size;
            self.letters_bytes = Some(bytes + size);
            copies.push(copy);
        }
        self.held.dead.append(&copies).map(drop)
    }

    fn letters_bytes(&self) -> Option<u64> {
        self.letters_bytes
    }

    fn oldest_needed(&mut self) -> Result<Option<StreamId>, SourceError> {
        self.held.lowest_needed()
    }

    fn publish(&mut self, receipt: &Durable) -> Result<(), SourceError> {
        self.check()?;
        lock(&self.held.position).set(receipt.low(), receipt.read())?;
        let segment = self.held.events.durable().segment;
        if segment != self.trimmed_at
            && let Some(read) = receipt.read()
        {
            self.remove_old(read)?;
            self.trimmed_at = segment;
        }
        Ok(())
    }
    fn trim(&mut self, until: StreamId) -> Result<u64, SourceError> {
        self.check()?;
        // There are no other groups. A segment that holds something newer stays whole.
        self.remove(&cursor::segments(&self.dir)?, Some(until))
    }
}
