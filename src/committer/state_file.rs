//! The file `.state`: two slots written in turn, so that the one before stays whole until the new one is synced. Making a new
//! file at each checkpoint cost a hundred times as much as this overwrite.
//!
//! File: `magic 8 | slot size u32 | epoch u32`, then two slots `sequence u64 | length u32 | crc32 u32 | body`, integers little
//! endian; the CRC covers sequence and body. The valid slot with the higher sequence counts. The epoch is that of the owner
//! who made the file, and only that owner overwrites it: another makes a new one, so that a paused predecessor that wakes
//! finds nothing to overwrite.

use std::{
    io::{self, Read},
    os::unix::fs::FileExt,
};

use cap_std::fs::{Dir, OpenOptions};

use crate::{fault, layout::STATE_FILE};

const MAGIC: &[u8; 8] = b"tl-stat1";
const FILE_HEADER: u64 = 16;
const SLOT_HEADER: usize = 16;
/// Slots are this large or a multiple, to be overwritten in place when the state grows a little.
const SLOT_UNIT: usize = 2048;

/// How an update went.
pub(super) enum Updated {
    /// The state stands in the file, not yet synced.
    Done,
    /// There is no file that could take it: publish these bytes as a new one.
    New(Vec<u8>),
}

/// The newest valid slot's record and body; `None` if there is none, and an error of kind `NotFound` without a file.
pub(super) fn read(dir: &Dir) -> io::Result<Option<(u64, Vec<u8>)>> {
    let file = dir.read(STATE_FILE)?;
    Ok(newest(&file).map(|(sequence, body)| (sequence, body.to_vec())))
}

/// The same of a file's bytes.
pub(crate) fn newest(file: &[u8]) -> Option<(u64, &[u8])> {
    let slots = file.get(FILE_HEADER as usize..).unwrap_or_default().chunks(slot_size(file)?);
    slots.take(2).filter_map(check).max_by_key(|(sequence, _)| *sequence)
}

/// Overwrites the older slot of the directory's file, if this epoch's owner made it.
pub(super) fn update(dir: &Dir, path: &std::path::Path, epoch: u64, sequence: u64, body: &[u8]) -> io::Result<Updated> {
    let new = || Ok(Updated::New(fresh(epoch, sequence, body)));
    let file = match dir.open_with(path, OpenOptions::new().read(true).write(true)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return new(),
        opened => opened?.into_std(),
    };
    let mut old = Vec::new();
    (&file).read_to_end(&mut old)?;
    if old.get(12..16) != Some(&epoch_mark(epoch)[..]) {
        return new();
    }
    let Some(size) = slot_size(&old).filter(|size| SLOT_HEADER + body.len() <= *size) else { return new() };
    let slots = old.get(FILE_HEADER as usize..).unwrap_or_default().chunks(size);
    let valid = slots.take(2).zip(0..).filter_map(|(slot, n)| Some((check(slot)?.0, n)));
    // The newest valid slot is the one that the last checkpoint synced: it stays. One of this very checkpoint is from a try that
    // failed, and nothing has synced it.
    let target = match valid.max() {
        Some((newest, slot)) if newest == sequence => slot,
        Some((_, newest)) => 1 - newest,
        None => return new(),
    };
    fault::point("checkpoint::state")?;
    let place = at(target, size);
    fault::halves("checkpoint::state_part", &slot(sequence, body), |part, at| file.write_all_at(part, place + at))?;
    Ok(Updated::Done)
}

pub(crate) fn fresh(epoch: u64, sequence: u64, body: &[u8]) -> Vec<u8> {
    // Room to grow: documents and plugin states do.
    let size = (SLOT_HEADER + body.len() + body.len() / 2).next_multiple_of(SLOT_UNIT);
    let mut file = Vec::with_capacity(FILE_HEADER as usize + SLOT_HEADER + body.len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
    file.extend_from_slice(&epoch_mark(epoch));
    file.extend_from_slice(&slot(sequence, body));
    file
}

/// The epoch's low half: two owners that meet are never so far apart.
fn epoch_mark(epoch: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = epoch.to_le_bytes();
    [a, b, c, d]
}

fn slot(sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut slot = Vec::with_capacity(SLOT_HEADER + body.len());
    slot.extend_from_slice(&sequence.to_le_bytes());
    slot.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    slot.extend_from_slice(&crc(&slot[..8], body).to_le_bytes());
    slot.extend_from_slice(body);
    slot
}

fn check(slot: &[u8]) -> Option<(u64, &[u8])> {
    let length = u32::from_le_bytes(slot.get(8..12)?.try_into().ok()?) as usize;
    let body = slot.get(SLOT_HEADER..)?.get(..length)?;
    let sequence = slot.get(..8)?;
    let valid = slot.get(12..16)? == crc(sequence, body).to_le_bytes();
    valid.then_some((u64::from_le_bytes(sequence.try_into().ok()?), body))
}

fn crc(sequence: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(sequence);
    crc.update(body);
    crc.finalize()
}

fn slot_size(file: &[u8]) -> Option<usize> {
    let size = u32::from_le_bytes(file.get(8..12)?.try_into().ok()?) as usize;
    (file.starts_with(MAGIC) && size >= SLOT_HEADER).then_some(size)
}

fn at(slot: u64, size: usize) -> u64 {
    FILE_HEADER + slot * size as u64
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cap_std::ambient_authority;

    use super::*;

    fn update_in(dir: &Dir, sequence: u64, body: &[u8]) -> bool {
        update_as(dir, 1, sequence, body)
    }

    fn update_as(dir: &Dir, epoch: u64, sequence: u64, body: &[u8]) -> bool {
        match update(dir, Path::new(STATE_FILE), epoch, sequence, body).unwrap() {
            Updated::Done => false,
            Updated::New(file) => {
                dir.write(STATE_FILE, file).unwrap();
                true
            }
        }
    }

    #[test]
    fn a_torn_update_leaves_the_state_before() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
        assert!(update_in(&dir, 1, b"one"));
        assert!(!update_in(&dir, 2, b"two, longer"));
        let before = dir.read(STATE_FILE).unwrap();
        assert!(!update_in(&dir, 3, b"three"));
        let after = dir.read(STATE_FILE).unwrap();
        assert_eq!(read(&dir).unwrap().unwrap().1, b"three");
        let changed: Vec<usize> = (0..after.len()).filter(|at| before.get(*at) != after.get(*at)).collect();
        // Any part of the write may reach the disk: all bytes up to each place, or all from it on.
        for &cut in &changed[1..] {
            for keep_head in [true, false] {
                let mut torn = before.clone();
                for &at in changed.iter().filter(|at| (**at < cut) == keep_head) {
                    torn[at] = after[at];
                }
                dir.write(STATE_FILE, &torn).unwrap();
                assert_eq!(read(&dir).unwrap().unwrap().1, b"two, longer", "cut at {cut}");
            }
        }
    }

    #[test]
    fn only_the_owner_who_made_the_file_overwrites_it() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
        assert!(update_as(&dir, 1, 1, b"one"));
        assert!(!update_as(&dir, 1, 2, b"two"));
        assert!(update_as(&dir, 2, 3, b"three"), "a successor makes a new file");
        assert!(update_as(&dir, 1, 2, b"late"), "and its predecessor could not write into that");
    }

    #[test]
    fn a_second_try_leaves_the_synced_slot_alone() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
        assert!(update_in(&dir, 1, b"synced"));
        let before = dir.read(STATE_FILE).unwrap();
        let slot = before.len();
        for _ in 0..3 {
            assert!(!update_in(&dir, 2, b"tried"));
            assert_eq!(dir.read(STATE_FILE).unwrap()[..slot], before[..]);
        }
        assert_eq!(read(&dir).unwrap().unwrap().1, b"tried");
    }

    #[test]
    fn a_state_that_grows_gets_a_new_file() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
        for (sequence, size) in [(1, 10), (2, 1000), (3, 5000), (4, 6000), (5, 20_000), (6, 0)] {
            let body = vec![b'x'; size];
            update_in(&dir, sequence, &body);
            assert_eq!(read(&dir).unwrap().unwrap().1, body);
        }
        dir.write(STATE_FILE, b"something else").unwrap();
        assert!(read(&dir).unwrap().is_none());
        assert!(update_in(&dir, 7, b"x"));
    }
}
