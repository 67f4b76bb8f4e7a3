//! Tombstones: which directories retention removed, and with which entries, so that a task that goes on afterwards is marked
//! `resumed`, and `verify` expects no more than what came later. Of a name only a checksum is kept: what was removed is gone.
//!
//! The file `tombstones` in the stream's state folder: records of 32 bytes,
//! `name u64 | ms u64 | seq u64 | zero u32 | crc32 u32`, integers little endian; what does not check is passed over. A file that
//! is full becomes `tombstones.old`, in the place of the one before. The journal has a removal until a checkpoint, which
//! writes its tombstone first.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use super::files::dir_of;
use crate::{
    event::{Key, StreamId},
    fault,
    journal::{JournalError, segment::sync_dir},
    metrics,
};

const FILE: &str = "tombstones";
const OLD: &str = "tombstones.old";
const RECORD: usize = 32;
/// Tombstones of a file that is full, 16 MiB; between one and two files are remembered.
const FULL: usize = 512 << 10;

/// A directory that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// [`mark`] of the directory.
    pub dir: u64,
    /// Entries of its key up to this one are gone with it.
    pub until: StreamId,
}

/// What an owner remembers of them.
#[derive(Debug, Default)]
pub struct Tombstones {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

/// Stands for a directory, by its path below `LOGS_DIR`: the first 8 bytes of its SHA-256, the same for ever.
pub fn mark(dir: &str) -> u64 {
    let digest = Sha256::digest(dir);
    digest.iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte))
}

fn mark_of(key: &Key) -> u64 {
    mark(&dir_of(key).to_string_lossy())
}

/// Every tombstone of a state folder, the highest one of each directory.
pub fn read(dir: &Path) -> io::Result<HashMap<u64, StreamId>> {
    let all = [OLD, FILE].into_iter().map(|name| records(&dir.join(name)));
    let mut found: HashMap<u64, StreamId> = HashMap::new();
    for records in all {
        for Tombstone { dir, until } in records? {
            let known = found.entry(dir).or_default();
            *known = until.max(*known);
        }
    }
    Ok(found)
}

/// Adds tombstones; durable when it returns. One that stands there already does no harm.
pub fn append(dir: &Path, new: &[Tombstone]) -> Result<(), JournalError> {
    if new.is_empty() {
        return Ok(());
    }
    let path = dir.join(FILE);
    let bytes: Vec<u8> = new.iter().flat_map(|tombstone| tombstone.to_bytes()).collect();
    let written = (|| {
        if fs::metadata(&path).is_ok_and(|found| found.len() >= (FULL * RECORD) as u64) {
            fs::rename(&path, dir.join(OLD))?;
        }
        fault::point("tombstones::append")?;
        let mut file = File::options().create(true).append(true).open(&path)?;
        fault::halves("tombstones::part", &bytes, |part, _| file.write_all(part))?;
        Ok(file)
    })();
    let file = written.map_err(|source| JournalError::Io { action: "write", path: path.clone(), source })?;
    let synced = fault::point("tombstones::sync").and_then(|()| file.sync_data()).inspect_err(metrics::sync_failed);
    synced.map_err(|source| JournalError::Io { action: "sync", path, source })?;
    Ok(sync_dir(dir)?)
}

fn records(path: &Path) -> io::Result<Vec<Tombstone>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let (mut records, mut rest) = (Vec::with_capacity(bytes.len() / RECORD), &bytes[..]);
    while let Some(record) = rest.first_chunk::<RECORD>() {
        let found = Tombstone::from_bytes(record);
        // Behind a torn one the next begins anywhere.
        rest = &rest[if found.is_some() { RECORD } else { 1 }..];
        records.extend(found);
    }
    Ok(records)
}

// === impl Tombstone ===

impl Tombstone {
    /// That of a key.
    pub fn of(key: &Key, until: StreamId) -> Self {
        Self { dir: mark_of(key), until }
    }

    fn to_bytes(self) -> [u8; RECORD] {
        let mut record = [0; RECORD];
        record[..8].copy_from_slice(&self.dir.to_le_bytes());
        record[8..16].copy_from_slice(&self.until.ms.to_le_bytes());
        record[16..24].copy_from_slice(&self.until.seq.to_le_bytes());
        let crc = crc32fast::hash(&record[..28]);
        record[28..].copy_from_slice(&crc.to_le_bytes());
        record
    }

    fn from_bytes(record: &[u8; RECORD]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(record.get(at..at + 8)?.try_into().ok()?));
        let valid = record[28..] == crc32fast::hash(&record[..28]).to_le_bytes();
        let until = StreamId { ms: number(8)?, seq: number(16)? };
        valid.then_some(Self { dir: number(0)?, until })
    }
}

// === impl Tombstones ===

impl Tombstones {
    /// Those of a state folder.
    pub fn load(dir: &Path) -> io::Result<Self> {
        let set = |name| Ok::<_, io::Error>(records(&dir.join(name))?.into_iter().map(|found| found.dir).collect());
        Ok(Self { young: set(FILE)?, old: set(OLD)? })
    }

    /// Whether the key's directory was removed before.
    pub fn contains(&self, key: &Key) -> bool {
        if self.young.is_empty() && self.old.is_empty() {
            return false;
        }
        let mark = mark_of(key);
        self.young.contains(&mark) || self.old.contains(&mark)
    }

    /// Remembers one; of too many the oldest half is forgotten.
    pub fn add(&mut self, tombstone: Tombstone) {
        if self.young.len() >= FULL {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(tombstone.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Id;

    fn of(n: u64) -> Tombstone {
        Tombstone::of(&Key::Task(Id::parse(&format!("t{n}")).unwrap()), StreamId { ms: n, seq: 1 })
    }

    #[test]
    fn what_is_whole_is_found_whatever_is_torn_between() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        append(dir, &[of(1), of(2)]).unwrap();
        for cut in 0..RECORD {
            let path = dir.join(FILE);
            let before = fs::read(&path).unwrap();
            fs::write(&path, [&before[..], &of(99).to_bytes()[..cut]].concat()).unwrap();
            append(dir, &[of(3)]).unwrap();
            let found = read(dir).unwrap();
            let expected: HashMap<u64, StreamId> = [1, 2, 3].map(|n| (of(n).dir, of(n).until)).into();
            assert_eq!(found, expected, "cut at {cut}");
            fs::write(&path, before).unwrap();
        }
    }

    #[test]
    fn bounded_everything_the_oldest_tombstones_go() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let mut known = Tombstones::default();
        let key = |n: u64| Key::Task(Id::parse(&format!("t{n}")).unwrap());
        for half in 0..3 {
            let all: Vec<Tombstone> = (0..FULL as u64).map(|n| of(half * FULL as u64 + n)).collect();
            append(dir, &all).unwrap();
            all.into_iter().for_each(|one| known.add(one));
        }
        assert_eq!(fs::read_dir(dir).unwrap().count(), 2);
        for known in [known, Tombstones::load(dir).unwrap()] {
            assert!(
                !known.contains(&key(0))
                    && known.contains(&key(FULL as u64))
                    && known.contains(&key(3 * FULL as u64 - 1))
            );
        }
    }
}
