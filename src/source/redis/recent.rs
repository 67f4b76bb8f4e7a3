//! What was read in the last hour, by id and digest of the fields: how a stream that was replaced (flushed, failed over to a
//! replica that is behind, restored) is told from the one that was read, and where the two part.
//!
//! Bounded: [`CHUNKS`] chunks of [`CHUNK_ENTRIES`] entries, 24 bytes each in memory and 32 on disk, none older than an hour. Each
//! chunk is a file of its own in the stream's state folder, `recent-<epoch>-<n>`, written as entries are read and never synced:
//! it outlives the process, not the machine's power. Entries that were read and not committed stand there, too; whoever loads
//! the files asks the journal's position which ones count.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{event::StreamId, position::Position};

/// How many chunks are kept.
const CHUNKS: usize = 16;
/// Entries in a chunk.
const CHUNK_ENTRIES: usize = 1 << 16;
/// A chunk takes no more entries after this time.
const CHUNK_AGE: Duration = Duration::from_secs(600);
/// A chunk is forgotten this long after it was begun.
const AGE_MAX: Duration = Duration::from_secs(3600);
/// Bytes of an entry in a file: id, digest, incarnation, CRC-32 of these.
const RECORD: usize = 32;
const PREFIX: &str = "recent-";

/// An entry's id and digest.
pub(super) type Seen = (StreamId, u64);

/// The entries of the last hour.
pub(super) struct Recent {
    /// The stream's state folder; `None`: in memory only.
    dir: Option<PathBuf>,
    epoch: u64,
    incarnation: u64,
    chunks: VecDeque<Chunk>,
    begun: u64,
}

struct Chunk {
    began: SystemTime,
    entries: Vec<Seen>,
    /// `None`: could not be written.
    file: Option<File>,
    path: Option<PathBuf>,
}

/// A digest of an entry's fields: names and values, their order and their borders.
pub(super) fn digest(fields: &[(Bytes, Bytes)]) -> u64 {
    // The same on every machine and in every version: it is stored.
    fields
        .iter()
        .fold(fields.len() as u64, |seed, (name, value)| xxh3_64_with_seed(value, xxh3_64_with_seed(name, seed)))
}

// === impl Recent ===

impl Recent {
    pub(super) fn new(dir: Option<PathBuf>, epoch: u64) -> Self {
        Self { dir, epoch, incarnation: 0, chunks: VecDeque::new(), begun: 0 }
    }

    /// Takes over what predecessors noted, as far as it is committed, and makes it this owner's own, so that one of them that
    /// wakes writes to files that nobody reads.
    pub(super) fn load(&mut self, position: Option<&Position>) {
        let Some(dir) = self.dir.clone() else { return };
        if let Err(error) = self.try_load(&dir, position) {
            tracing::warn!(
                %error,
                "cannot read which entries were read lately: should the stream turn out to be another one, some may be doubled"
            );
        }
    }

    fn try_load(&mut self, dir: &Path, position: Option<&Position>) -> io::Result<()> {
        let mut files: Vec<((u64, u64), PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let numbers = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
            if let Some((epoch, n)) = numbers.and_then(|(epoch, n)| Some((epoch.parse().ok()?, n.parse().ok()?)))
                && epoch < self.epoch
            {
                files.push(((epoch, n), entry.path()));
            }
        }
        files.sort();
        let mut kept = Vec::new();
        for (_, path) in &files {
            let modified = std::fs::metadata(path)?.modified()?;
            if modified.elapsed().is_ok_and(|age| age >= AGE_MAX) {
                continue;
            }
            let bytes = std::fs::read(path)?;
            // A torn record ends its file.
            let records = bytes.chunks_exact(RECORD).map_while(parse);
            kept.extend(records.filter(|((id, _), incarnation)| {
                // All of an incarnation is committed before the next one begins.
                position.is_some_and(|p| *incarnation != tag(p.incarnation) || p.is_committed(*id))
            }));
        }
        let from = kept.len().saturating_sub(CHUNKS * CHUNK_ENTRIES);
        self.write(kept.get(from..).unwrap_or_default());
        files.iter().try_for_each(|(_, path)| std::fs::remove_file(path))
    }

    /// What is noted from now on belongs to this incarnation of the stream.
    pub(super) fn set_incarnation(&mut self, incarnation: u64) {
        self.incarnation = incarnation;
    }

    /// Notes entries before anybody works on them.
    pub(super) fn note(&mut self, entries: &[Seen]) {
        let tag = tag(self.incarnation);
        self.write(&entries.iter().map(|&seen| (seen, tag)).collect::<Vec<_>>());
    }

    fn write(&mut self, mut entries: &[(Seen, u32)]) {
        while !entries.is_empty() {
            let full = |chunk: &Chunk| {
                chunk.entries.len() >= CHUNK_ENTRIES || chunk.began.elapsed().is_ok_and(|age| age >= CHUNK_AGE)
            };
            if self.chunks.back().is_none_or(full) {
                self.begin();
            }
            let Some(chunk) = self.chunks.back_mut() else { return };
            let (now, later) = entries.split_at(entries.len().min(CHUNK_ENTRIES - chunk.entries.len()));
            chunk.entries.extend(now.iter().map(|(seen, _)| *seen));
            chunk.append(&now.iter().flat_map(|&(seen, tag)| record(seen, tag)).collect::<Vec<u8>>());
            entries = later;
        }
    }

    fn begin(&mut self) {
        let old = |chunk: &Chunk| chunk.began.elapsed().is_ok_and(|age| age >= AGE_MAX);
        while self.chunks.len() >= CHUNKS || self.chunks.front().is_some_and(old) {
            if let Some(Chunk { path: Some(path), .. }) = self.chunks.pop_front()
                && let Err(error) = std::fs::remove_file(&path)
            {
                tracing::debug!(%error, path = %path.display(), "cannot remove");
            }
        }
        let path = self.dir.as_ref().map(|dir| dir.join(format!("{PREFIX}{}-{}", self.epoch, self.begun)));
        self.begun += 1;
        // Digests of raw entries are nobody else's to see.
        let file = path.as_ref().map(|path| OpenOptions::new().create(true).append(true).mode(0o600).open(path));
        let file = file.transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot note on disk which entries were read lately");
            None
        });
        self.chunks.push_back(Chunk { began: SystemTime::now(), entries: Vec::new(), file, path });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.iter().all(|chunk| chunk.entries.is_empty())
    }

    /// The digest of an entry that was read lately.
    pub(super) fn find(&self, id: StreamId) -> Option<u64> {
        let all = self.chunks.iter().rev().flat_map(|chunk| chunk.entries.iter().rev());
        all.into_iter().find(|(seen, _)| *seen == id).map(|(_, digest)| *digest)
    }

    /// Everything, ascending.
    pub(super) fn sorted(&self) -> Vec<Seen> {
        let mut all: Vec<Seen> = self.chunks.iter().flat_map(|chunk| &chunk.entries).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

// === impl Chunk ===

impl Chunk {
    fn append(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(bytes)
        {
            tracing::warn!(%error, "cannot note on disk which entries were read lately");
            self.file = None;
        }
    }
}

/// Incarnations are told apart by their low bits.
fn tag(incarnation: u64) -> u32 {
    (incarnation & u64::from(u32::MAX)) as u32
}

fn record((id, digest): Seen, tag: u32) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    let words = [id.ms, id.seq, digest].into_iter().flat_map(u64::to_le_bytes).chain(tag.to_le_bytes());
    record.iter_mut().zip(words).for_each(|(byte, word)| *byte = word);
    let (words, crc) = record.split_at_mut(RECORD - 4);
    crc.copy_from_slice(&crc32fast::hash(words).to_le_bytes());
    record
}

fn parse(record: &[u8]) -> Option<(Seen, u32)> {
    let (words, crc) = record.split_at_checked(RECORD - 4)?;
    let word = |at: usize| Some(u64::from_le_bytes(words.get(at..at + 8)?.try_into().ok()?));
    let sound = crc32fast::hash(words).to_le_bytes() == crc;
    let tag = u32::from_le_bytes(words.get(24..)?.try_into().ok()?);
    let id = StreamId { ms: word(0)?, seq: word(8)? };
    sound.then_some(((id, word(16)?), tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> StreamId {
        StreamId { ms, seq: 0 }
    }

    #[test]
    fn a_successor_knows_what_was_committed_and_a_dead_owners_pen_writes_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Recent::new(Some(dir.path().to_owned()), 3);
        first.set_incarnation(1);
        first.note(&[(id(900), 9)]);
        first.set_incarnation(2);
        first.note(&[(id(10), 1), (id(11), 2), (id(12), 3), (id(13), 4)]);
        let torn = OpenOptions::new().append(true).open(dir.path().join("recent-3-0"));
        torn.unwrap().write_all(&record((id(14), 5), 2)[..20]).unwrap();
        let position = Position { incarnation: 2, high: id(12), holes: vec![id(11)], ..Position::default() };
        let mut second = Recent::new(Some(dir.path().to_owned()), 4);
        second.load(Some(&position));
        assert_eq!(second.sorted(), [(id(10), 1), (id(12), 3), (id(900), 9)]);
        assert_eq!((second.find(id(12)), second.find(id(13))), (Some(3), None));
        first.note(&[(id(15), 6)]);
        let mut third = Recent::new(Some(dir.path().to_owned()), 5);
        third.load(Some(&position));
        assert_eq!(third.sorted(), second.sorted());
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(dir.path().join("recent-5-0")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        // Without a journal nothing is known to be committed.
        let mut other = Recent::new(Some(dir.path().to_owned()), 6);
        other.load(None);
        assert_eq!((other.sorted(), std::fs::read_dir(dir.path()).unwrap().count()), (vec![], 0));
    }

    #[test]
    fn bounded_everything_the_oldest_entries_are_forgotten_with_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut recent = Recent::new(Some(dir.path().to_owned()), 1);
        let total = (CHUNKS + 3) * CHUNK_ENTRIES;
        for from in (0..total as u64).step_by(10_000) {
            recent.note(&(from..(from + 10_000).min(total as u64)).map(|n| (id(n), n)).collect::<Vec<_>>());
        }
        let kept = recent.sorted();
        assert_eq!((kept.len(), kept[0].0), (CHUNKS * CHUNK_ENTRIES, id(3 * CHUNK_ENTRIES as u64)));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), CHUNKS);
    }

    #[test]
    fn a_digest_knows_borders_and_order() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            digest(&pairs.iter().map(|(n, v)| (Bytes::from(*n), Bytes::from(*v))).collect::<Vec<_>>())
        };
        let all = [
            of(&[]),
            of(&[("a", "bc")]),
            of(&[("ab", "c")]),
            of(&[("a", "b"), ("c", "")]),
            of(&[("c", ""), ("a", "b")]),
        ];
        for (at, digest) in all.iter().enumerate() {
            assert!(!all[..at].contains(digest), "{all:x?}");
        }
        assert_eq!(of(&[("type", "task:output")]), 0xf51f_60e1_0497_af59, "stored: must never change");
    }
}
