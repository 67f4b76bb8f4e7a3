//! One public file as readers see it: a JSONL file ends at its last newline, whatever the writer has begun behind it.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt},
};

use cap_std::fs::Dir;
use jiff::Timestamp;
use serde::Serialize;

use super::{ReadError, absent, failed, lines};
use crate::event::StreamId;

/// JSONL files up to this many bytes have their records counted in listings; counting reads the file.
const COUNTED_BYTES_MAX: u64 = 16 << 20;
/// Bytes looked at in one step when searching the last newline.
const BLOCK: u64 = 64 << 10;
/// Bytes at the end of a record that hold its entry's id.
const RECORD_TAIL: usize = 80;

/// An opened public file with the length that is shown.
#[derive(Debug)]
pub struct PublicFile {
    file: File,
    name: String,
    len: u64,
    modified: Timestamp,
    inode: u64,
}

/// What a listing says of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileInfo {
    /// Its name.
    pub name: String,
    /// Bytes that a reader gets.
    pub size: u64,
    /// When it last changed, RFC 3339.
    pub modified: String,
    /// Records of a JSONL file; absent for other files and for large ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines: Option<u64>,
}

/// A part of a file, read front to back; an error if the file got shorter meanwhile.
#[derive(Debug)]
pub struct Section {
    file: File,
    at: u64,
    end: u64,
}

// === impl PublicFile ===

impl PublicFile {
    pub(super) fn open(dir: &Dir, name: &str) -> Result<Option<Self>, ReadError> {
        // Looked at before it is opened: opening a pipe would block.
        match dir.symlink_metadata(name) {
            Ok(found) if found.is_file() => {}
            Ok(_) => return Ok(None),
            Err(error) => return absent(error, "look at a file"),
        }
        let file = match dir.open(name) {
            Ok(file) => file.into_std(),
            Err(error) => return absent(error, "open a file"),
        };
        let found = file.metadata().map_err(failed("look at a file"))?;
        if !found.is_file() {
            return Ok(None);
        }
        let len = match is_jsonl(name) {
            true => last_newline(&file, found.len()).map_err(failed("read a file"))?,
            false => found.len(),
        };
        let nanoseconds = i32::try_from(found.mtime_nsec()).unwrap_or(0);
        let modified = Timestamp::new(found.mtime(), nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Some(Self { file, name: name.to_owned(), len, modified, inode: found.ino() }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes that a reader gets.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether a reader gets nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// When it last changed.
    pub fn modified(&self) -> Timestamp {
        self.modified
    }

    /// Changes whenever what a reader gets changes: files are only appended to, or replaced by new ones.
    pub fn etag(&self) -> String {
        format!("\"{:x}-{:x}-{:x}\"", self.len, self.modified.as_nanosecond(), self.inode)
    }

    /// The bytes from `start` to before `end`, which must lie within the length.
    pub fn section(self, start: u64, end: u64) -> Section {
        Section { file: self.file, at: start, end }
    }

    /// The same, with the file kept.
    pub fn part(&self, start: u64, end: u64) -> Result<Section, ReadError> {
        Ok(Section { file: self.handle()?, at: start, end })
    }

    /// Another handle of it.
    pub(super) fn handle(&self) -> Result<File, ReadError> {
        self.file.try_clone().map_err(failed("open a file"))
    }

    /// Whether a record ends at this offset: the one of `entry`, if that is given.
    pub(super) fn has_record_end(&self, offset: u64, entry: Option<StreamId>) -> io::Result<bool> {
        if offset == 0 || offset > self.len {
            return Ok(offset == 0);
        }
        let mut tail = [0; RECORD_TAIL];
        let want = usize::try_from(offset).map_or(RECORD_TAIL, |offset| offset.min(RECORD_TAIL));
        let tail = &mut tail[..want];
        self.file.read_exact_at(tail, offset - want as u64)?;
        let Some(line) = tail.strip_suffix(b"\n") else { return Ok(false) };
        Ok(entry.is_none_or(|entry| lines::id_of(line) == Some(entry)))
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    pub(super) fn into_file(self) -> File {
        self.file
    }

    pub(super) fn info(&self) -> Result<FileInfo, ReadError> {
        let lines = match is_jsonl(&self.name) && self.len <= COUNTED_BYTES_MAX {
            true => Some(self.count_lines().map_err(failed("read a file"))?),
            false => None,
        };
        Ok(FileInfo { name: self.name.clone(), size: self.len, modified: self.modified.to_string(), lines })
    }

    pub(super) fn count_lines(&self) -> io::Result<u64> {
        let (mut at, mut lines) = (0, 0);
        let mut block = vec![0; usize::try_from(BLOCK).unwrap_or(0)];
        while at < self.len {
            let want = usize::try_from(self.len - at).map_or(block.len(), |left| left.min(block.len()));
            let part = &mut block[..want];
            self.file.read_exact_at(part, at)?;
            lines += part.iter().filter(|byte| **byte == b'\n').map(|_| 1u64).sum::<u64>();
            at += part.len() as u64;
        }
        Ok(lines)
    }
}

fn is_jsonl(name: &str) -> bool {
    name.ends_with(".jsonl")
}

/// The length up to and with the last newline.
fn last_newline(file: &File, len: u64) -> io::Result<u64> {
    Ok(newline_between(file, 0, len)?.unwrap_or(0))
}

/// Where the last newline between two places ends.
pub(super) fn newline_between(file: &File, start: u64, len: u64) -> io::Result<Option<u64>> {
    let mut end = len;
    let mut block = Vec::new();
    while end > start {
        // Almost always the last byte is it.
        let want = if end == len { 1 } else { BLOCK.min(end - start) };
        block.resize(usize::try_from(want).unwrap_or(1), 0);
        file.read_exact_at(&mut block, end - want)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(Some(end - want + at as u64 + 1));
        }
        end -= want;
    }
    Ok(None)
}

// === impl Section ===

impl Section {
    /// Bytes not yet read.
    pub fn left(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }
}

impl Read for Section {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left()).map_or(into.len(), |left| left.min(into.len()));
        if want == 0 {
            return Ok(0);
        }
        let got = self.file.read_at(&mut into[..want], self.at)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += got as u64;
        Ok(got)
    }
}
