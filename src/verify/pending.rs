//! What the journal holds and the files may not show yet. A published entry is safe from its record on; until it is applied, it
//! is read from there, exactly as the next start would write it.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Read, Seek as _, SeekFrom},
    path::Path,
};

use bytes::Bytes;

use crate::{
    committer::{files::dir_of, tombstones},
    event::{Id, Key, StreamId},
    journal::{
        JournalError,
        record::{Change, FileOp, Record},
        replay::Found,
    },
};

/// Looks at a journal whose segments are being recycled.
const TRIES: usize = 20;

/// The journal above its checkpoint, by directory. As large as what the journal holds there: what two seconds bring, 512 MiB at
/// the very most.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// How often ids went backwards (the stream was replaced).
    pub(super) incarnation: u64,
    /// The last owner.
    pub(super) epoch: u64,
    /// Whether there is a journal at all.
    pub(super) known: bool,
    /// What of it cannot be read, in words.
    pub(super) damage: Vec<String>,
    dirs: HashMap<Box<str>, Dir>,
}

/// What is pending for a directory.
#[derive(Debug, Default)]
pub(super) struct Dir {
    files: HashMap<Box<str>, Tail>,
    /// Everything that records name, static files and extras included.
    pub(super) named: HashSet<Box<str>>,
    /// The model of the static documents.
    pub(super) documents: Option<Bytes>,
    joined: Option<Id>,
    /// What stands there goes away, with entries up to this one.
    pub(super) cleared: Option<StreamId>,
}

/// Bytes that go to a file, by offset; or that it goes away.
#[derive(Debug, Default)]
pub(super) struct Tail {
    parts: Vec<(u64, Bytes)>,
    gone: bool,
}

// === impl Pending ===

impl Pending {
    /// Reads the journal of a state folder, which a running owner may be writing.
    pub(super) fn read(dir: &Path) -> Result<Self, JournalError> {
        if !dir.try_exists().unwrap_or(true) {
            return Ok(Self::default());
        }
        // While the journal moves on under us, a part of it may be gone between two looks.
        for _ in 0..TRIES {
            let before = at(dir)?;
            match Self::try_read(dir) {
                Ok(pending) if pending.damage.is_empty() => return Ok(pending),
                // A segment was given away since it was listed.
                Err(error) if error.is_gone() => {}
                read if at(dir)? == before => return read,
                _ => {}
            }
        }
        Self::try_read(dir)
    }

    fn try_read(dir: &Path) -> Result<Self, JournalError> {
        let found = Found::look(dir)?;
        let position = found.checkpoint.as_ref().map(|checkpoint| &checkpoint.position);
        let mut pending = Self {
            incarnation: position.map_or(0, |position| position.incarnation),
            epoch: found.epoch,
            known: found.epoch > 0,
            ..Self::default()
        };
        let replayed = found.replay(|_, record: Record| -> Result<(), JournalError> {
            pending.incarnation = pending.incarnation.max(record.step.incarnation);
            record.changes.into_iter().for_each(|change| pending.take(change));
            Ok(())
        })?;
        pending.damage = replayed.damage;
        Ok(pending)
    }

    fn take(&mut self, change: Change) {
        let name = dir_of(&change.key).to_string_lossy().into_owned();
        let dir = self.dirs.entry(name.into()).or_default();
        for op in change.files {
            match op {
                FileOp::Append { file, offset, bytes } => dir.file(&file).append(offset, bytes),
                FileOp::Replace { file, .. } => *dir.file(&file) = Tail::default(),
                FileOp::Remove { file } => *dir.file(&file) = Tail { gone: true, ..Tail::default() },
                FileOp::Clear { until } => *dir = Dir { cleared: Some(until), ..Dir::default() },
            }
        }
        if change.documents.is_some() && matches!(change.key, Key::Task(_)) {
            dir.documents = change.documents;
        }
        if change.joined.is_some() {
            dir.joined = change.joined;
        }
    }

    /// What is pending for a directory.
    pub(super) fn dir(&self, dir: &str) -> Option<&Dir> {
        self.dirs.get(dir)
    }

    /// Directories with something pending.
    pub(super) fn dirs(&self) -> impl Iterator<Item = &str> {
        self.dirs.keys().map(|dir| &**dir)
    }

    /// Directories that go away, with the last entry that goes with each.
    pub(super) fn removed(&self) -> impl Iterator<Item = (u64, StreamId)> {
        self.dirs.iter().filter_map(|(dir, found)| Some((tombstones::mark(dir), found.cleared?)))
    }

    /// The task that a flow joins in what is pending.
    pub(super) fn joined(&self, dir: &str) -> Option<Id> {
        self.dirs.get(dir)?.joined.clone()
    }
}

/// Where the journal stands: changes when anything of it may have been removed.
fn at(dir: &Path) -> Result<Option<(u64, u64)>, JournalError> {
    let checkpoint = Found::look(dir)?.checkpoint;
    Ok(checkpoint.map(|checkpoint| (checkpoint.epoch, checkpoint.sequence)))
}

// === impl Dir ===

impl Dir {
    fn file(&mut self, name: &str) -> &mut Tail {
        self.named.insert(name.into());
        self.files.entry(name.into()).or_default()
    }

    /// What is pending for a file.
    pub(super) fn tail(&self, file: &str) -> Option<&Tail> {
        self.files.get(file)
    }

    /// Files that will be there.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter(|(_, tail)| !tail.gone).map(|(name, _)| &**name)
    }
}

// === impl Tail ===

impl Tail {
    fn append(&mut self, offset: u64, bytes: Bytes) {
        // Offsets only ascend; should a record go back, what it says replaces what stood there.
        self.parts.retain(|(at, _)| *at < offset);
        if let Some((at, last)) = self.parts.last_mut() {
            last.truncate(usize::try_from(offset - *at).unwrap_or(usize::MAX));
        }
        self.parts.push((offset, bytes));
        self.gone &= self.parts.is_empty();
    }

    /// Whether the file goes away.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Up to where the file itself must have its bytes; `None`: the journal does not say.
    pub(super) fn begins(&self) -> Option<u64> {
        self.parts.first().map(|(at, _)| *at)
    }
}

/// A file's bytes with what is pending for it in the place of what stands there.
pub(super) struct Overlaid<'t> {
    file: Option<File>,
    at: u64,
    parts: std::slice::Iter<'t, (u64, Bytes)>,
    next: Option<&'t (u64, Bytes)>,
}

impl<'t> Overlaid<'t> {
    pub(super) fn new(file: Option<File>, tail: Option<&'t Tail>) -> Self {
        let mut parts = tail.map(|tail| &tail.parts[..]).unwrap_or_default().iter();
        let next = parts.next();
        Self { file, at: 0, parts, next }
    }

    fn read_file(&mut self, into: &mut [u8], until: u64) -> io::Result<usize> {
        let Some(file) = &mut self.file else { return Ok(0) };
        let most = usize::try_from(until - self.at).unwrap_or(usize::MAX).min(into.len());
        let read = file.read(&mut into[..most])?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Read for Overlaid<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some((offset, bytes)) = self.next else { return self.read_file(into, u64::MAX) };
            if self.at < *offset {
                let read = self.read_file(into, *offset)?;
                if read > 0 || into.is_empty() {
                    return Ok(read);
                }
                // The file ends before: what is missing there is missing.
                self.at = *offset;
            }
            let done = usize::try_from(self.at - offset).unwrap_or(usize::MAX).min(bytes.len());
            let count = (bytes.len() - done).min(into.len());
            if count > 0 || into.is_empty() {
                into[..count].copy_from_slice(&bytes[done..done + count]);
                self.at += count as u64;
                return Ok(count);
            }
            self.next = self.parts.next();
            if let Some(file) = &mut self.file {
                file.seek(SeekFrom::Start(self.at))?;
            }
        }
    }
}
