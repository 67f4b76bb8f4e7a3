//! Segment files: the framing that the journal and the embedded stream share. A segment is one file of a fixed, pre-zeroed
//! size, so that a sync overwrites allocated blocks and changes no metadata; a log is a row of segments whose sequence
//! numbers ascend without a gap.
//!
//! File: `magic 8 | salt u64 | first sequence u64 | crc32 u32 | zero u32`, then frames
//! `body length u32 | crc32 u32 | sequence u64 | body`, integers little endian. A frame's CRC covers salt, sequence and body.
//! The salt is random and new at each use of a file: what an earlier use left behind, or what a producer wrote into a body
//! to look like a frame, never checks. A header of zeros is a clean end.

use std::{
    fs::{File, OpenOptions, Permissions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags};

use crate::{fault, metrics};

mod scan;
#[cfg(test)]
mod tests;

pub use scan::{End, Frame, Scan};

/// Usual size of a segment, in bytes. 16 MiB measured slower, 256 MiB the same.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes before the first frame.
pub const FILE_HEADER: u64 = 32;
/// Bytes before a frame's body.
pub const FRAME_HEADER: u64 = 16;

const MAGIC: &[u8; 8] = b"tl-seg1\n";
const ZEROS: &[u8] = &[0; 1 << 20];

/// A file of zeros or of forgotten frames that waits to become a segment. Making one costs a write of its whole size;
/// starting a segment in it costs one small sync.
#[derive(Debug)]
pub struct Spare {
    file: File,
    path: PathBuf,
    size: u64,
}

/// The end of a log: writes frames at the tail of one segment. Nothing is durable before [`SegmentWriter::sync`].
#[derive(Debug)]
pub struct SegmentWriter {
    file: File,
    path: PathBuf,
    base: crc32fast::Hasher,
    size: u64,
    tail: u64,
    next: u64,
    staged: Vec<u8>,
    staged_frames: u64,
}

/// What went wrong with a segment file.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// A file operation failed; ask `source` whether it is worth a retry. A failed sync never is.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file does not begin as a segment does.
    #[error("{path} is not a segment")]
    NotASegment {
        /// The file.
        path: PathBuf,
    },
    /// A body of 4 GiB or more.
    #[error("a record of {size} bytes is larger than a frame")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
}

// === impl SegmentError ===

impl SegmentError {
    /// Whether the same call may succeed later: there was no room, or no permission. Never after a sync.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Io { action, source, .. } if !action.starts_with("sync") && may_pass(source))
    }
}

/// Whether an error says what may change while nothing was done: no room, no quota, no permission, a file system that is
/// read-only.
pub fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | PermissionDenied | ReadOnlyFilesystem)
}

/// The size that a segment must have to take a record of `body` bytes: `usual`, or more for a giant.
pub fn size_for(body: usize, usual: u64) -> u64 {
    usual.max(FILE_HEADER + FRAME_HEADER + body as u64)
}

/// Syncs a directory, so that names made, renamed or removed in it survive a power loss.
pub fn sync_dir(dir: &Path) -> Result<(), SegmentError> {
    let done = File::open(dir).and_then(|dir| dir.sync_all());
    done.map_err(|source| SegmentError::Io { action: "sync the directory", path: dir.to_owned(), source })
}

/// Makes what was written to a segment's file durable. Never again after it failed.
pub fn sync(file: &File, path: &Path) -> io::Result<()> {
    let synced = (|| {
        fault::segment("sync", path)?;
        file.sync_data()?;
        fault::segment("synced", path)
    })();
    synced.inspect_err(metrics::sync_failed)
}

// === impl Spare ===

impl Spare {
    /// Makes a file of `size` zero bytes, mode 0640, synced. An unfinished one of the same name is overwritten; on failure
    /// nothing stays.
    pub fn create(path: PathBuf, size: u64) -> Result<Self, SegmentError> {
        let fail = |source| SegmentError::Io { action: "create", path: path.clone(), source };
        let made = (|| {
            fault::segment("create", &path)?;
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o640).open(&path)?;
            file.set_permissions(Permissions::from_mode(0o640))?;
            zero(&file, 0, size)?;
            fault::segment("zeroed", &path)?;
            file.sync_all()?;
            Ok(file)
        })();
        match made {
            Ok(file) => Ok(Self { file, path, size }),
            Err(error) => {
                // The cause is what matters: a leftover is overwritten at the next try.
                drop(std::fs::remove_file(&path));
                Err(fail(error))
            }
        }
    }

    /// Takes a file whose frames are no longer needed. It must not be read as a segment by anyone any more.
    pub fn reuse(path: PathBuf) -> Result<Self, SegmentError> {
        let opened = OpenOptions::new().read(true).write(true).open(&path).and_then(|file| {
            let size = file.metadata()?.len();
            Ok((file, size))
        });
        match opened {
            Ok((file, size)) => Ok(Self { file, path, size }),
            Err(source) => Err(SegmentError::Io { action: "open", path, source }),
        }
    }

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Removes the file.
    pub fn remove(self) -> Result<(), SegmentError> {
        std::fs::remove_file(&self.path).map_err(|source| SegmentError::Io {
            action: "remove",
            path: self.path,
            source,
        })
    }

    /// Makes it the segment `path` (same file system, must not exist) whose first frame has the sequence number
    /// `first_sequence`. Durable when it returns.
    pub fn start(self, path: PathBuf, first_sequence: u64) -> Result<SegmentWriter, SegmentError> {
        let Self { file, path: spare, size } = self;
        let salt = fastrand::u64(..);
        let begun = (|| {
            fault::segment("start", &path)?;
            file.write_all_at(&file_header(salt, first_sequence), 0)?;
            // The old header must be gone before the file has a live name.
            file.sync_data()?;
            fault::segment("rename", &path)?;
            rename_new(&spare, &path)
        })();
        if let Err(source) = begun {
            // It takes room that may be what is missing; if it stays, the next owner removes it.
            drop(std::fs::remove_file(&spare));
            return Err(SegmentError::Io { action: "start the segment", path, source });
        }
        fault::segment("renamed", &path).map_err(|source| SegmentError::Io {
            action: "sync the directory of",
            path: path.clone(),
            source,
        })?;
        sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        Ok(SegmentWriter::at(file, path, salt, size, FILE_HEADER, first_sequence))
    }
}

fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Network file systems may lack the flag; one process owns the folder, so looking first is enough there.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !to.try_exists()? => std::fs::rename(from, to),
        done => Ok(done?),
    }
}

fn zero(file: &File, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let part = ZEROS.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
        file.write_all_at(&ZEROS[..part], at)?;
        at += part as u64;
    }
    Ok(())
}

fn file_header(salt: u64, first_sequence: u64) -> [u8; FILE_HEADER as usize] {
    let mut header = [0; FILE_HEADER as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&salt.to_le_bytes());
    header[16..24].copy_from_slice(&first_sequence.to_le_bytes());
    let crc = crc32fast::hash(&header[..24]);
    header[24..28].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The CRC of every frame begins with the salt.
fn salted(salt: u64) -> crc32fast::Hasher {
    let mut base = crc32fast::Hasher::new();
    base.update(&salt.to_le_bytes());
    base
}

// === impl SegmentWriter ===

impl SegmentWriter {
    /// Makes a new segment at once, without a spare. Costs a write of `size` bytes. A crash in between leaves `name.new`, which
    /// the owner of the folder removes when it opens it.
    pub fn create(dir: &Path, name: &str, size: u64, first_sequence: u64) -> Result<Self, SegmentError> {
        let unfinished = dir.join(format!("{name}.new"));
        let started = Spare::create(unfinished.clone(), size)?.start(dir.join(name), first_sequence);
        started.inspect_err(|_| drop(std::fs::remove_file(&unfinished)))
    }

    /// Goes on in a segment after its last valid frame. What stands behind that frame is a torn write: it is overwritten with
    /// zeros and synced, so that no later frame can make it valid again.
    pub fn resume(path: PathBuf) -> Result<Self, SegmentError> {
        let mut scan = Scan::open(&path, None)?;
        for frame in scan.by_ref() {
            frame?;
        }
        let (salt, tail, next) = (scan.salt(), scan.tail(), scan.next_sequence());
        let repaired = (|| {
            fault::segment("repair", &path)?;
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            let size = file.metadata()?.len();
            let mut at = tail;
            let mut buffer = vec![0; ZEROS.len()];
            let mut dirty = false;
            while at < size {
                let part = buffer.len().min(usize::try_from(size - at).unwrap_or(usize::MAX));
                file.read_exact_at(&mut buffer[..part], at)?;
                if buffer[..part] != ZEROS[..part] {
                    file.write_all_at(&ZEROS[..part], at)?;
                    dirty = true;
                }
                at += part as u64;
            }
            if dirty {
                file.sync_data()?;
            }
            Ok((file, size))
        })();
        match repaired {
            Ok((file, size)) => Ok(Self::at(file, path, salt, size, tail, next)),
            Err(source) => Err(SegmentError::Io { action: "repair", path, source }),
        }
    }

    fn at(file: File, path: PathBuf, salt: u64, size: u64, tail: u64, next: u64) -> Self {
        Self { file, path, base: salted(salt), size, tail, next, staged: Vec::new(), staged_frames: 0 }
    }

    /// The segment's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next frame will stand: everything before it is written.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// The sequence number that the next staged frame gets.
    pub fn next_sequence(&self) -> u64 {
        self.next + self.staged_frames
    }

    /// The largest body for which one more frame fits, in bytes; `None` when not even an empty one does. A larger one may
    /// still be written (the file grows, which costs its sync more), but belongs into the next segment.
    pub fn room(&self) -> Option<u64> {
        self.size.checked_sub(self.tail + self.staged.len() as u64 + FRAME_HEADER)
    }

    /// Bytes of frames that are staged.
    pub fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Adds a frame to what the next [`SegmentWriter::write`] writes; the body comes in parts. Returns its sequence number.
    pub fn stage(&mut self, body: &[&[u8]]) -> Result<u64, SegmentError> {
        let size: u64 = body.iter().map(|part| part.len() as u64).sum();
        let length = u32::try_from(size).map_err(|_| SegmentError::TooLarge { size })?;
        let sequence = self.next_sequence();
        let mut crc = self.base.clone();
        crc.update(&sequence.to_le_bytes());
        body.iter().for_each(|part| crc.update(part));
        self.staged.extend_from_slice(&length.to_le_bytes());
        self.staged.extend_from_slice(&crc.finalize().to_le_bytes());
        self.staged.extend_from_slice(&sequence.to_le_bytes());
        body.iter().for_each(|part| self.staged.extend_from_slice(part));
        self.staged_frames += 1;
        Ok(sequence)
    }

    /// Forgets what is staged and not written.
    pub fn unstage(&mut self) {
        self.staged.clear();
        self.staged_frames = 0;
    }

    /// Writes what is staged at the tail with one positioned write. On failure the tail stays, and so does what is staged: the
    /// same bytes are written by the next call. Call [`SegmentWriter::cut`] when there may be none.
    pub fn write(&mut self) -> Result<(), SegmentError> {
        let written = (|| {
            fault::segment("append", &self.path)?;
            fault::segment_halves("part", &self.path, &self.staged, |part, at| {
                self.file.write_all_at(part, self.tail + at)
            })?;
            fault::segment("written", &self.path)
        })();
        written.map_err(|source| self.failed("write to", source))?;
        self.tail += self.staged.len() as u64;
        self.next += self.staged_frames;
        self.size = self.size.max(self.tail);
        self.unstage();
        // One giant record must not keep its memory for ever.
        self.staged.shrink_to(4 << 20);
        Ok(())
    }

    /// Makes the last good end a clean one again after a failed write. What is staged stays staged.
    pub fn cut(&mut self) -> Result<(), SegmentError> {
        let cut = (|| {
            fault::segment("cut", &self.path)?;
            let length = self.file.metadata()?.len();
            if length > self.size {
                self.file.set_len(self.size)?;
            }
            // Within the segment nothing is cut off: its blocks are what makes the next write succeed.
            zero(&self.file, self.tail, length.min(self.size).min(self.tail + self.staged.len() as u64))
        })();
        cut.map_err(|source| self.failed("cut", source))
    }

    /// Writes zeros where the next frame will stand, one with a body of so many bytes, to see whether it could.
    pub fn touch(&self, body: usize) -> Result<(), SegmentError> {
        let end = self.size.min(self.tail + FRAME_HEADER + body as u64);
        let touched = (|| {
            fault::segment("append", &self.path)?;
            fault::segment("part", &self.path)?;
            zero(&self.file, self.tail, end)?;
            fault::segment("written", &self.path)
        })();
        touched.map_err(|source| self.failed("write to", source))
    }

    /// Makes all that is written durable (fdatasync). After a failure nothing is known of it: never sync again, exit and
    /// recover from the file.
    pub fn sync(&self) -> Result<(), SegmentError> {
        sync(&self.file, &self.path).map_err(|source| self.failed("sync", source))
    }

    /// A second handle on the file, to sync it from another thread.
    pub fn try_clone_file(&self) -> Result<File, SegmentError> {
        self.file.try_clone().map_err(|source| self.failed("open", source))
    }

    /// Ends writing; the file can become a [`Spare`] once its frames are no longer needed.
    pub fn into_path(self) -> PathBuf {
        self.path
    }

    fn failed(&self, action: &'static str, source: io::Error) -> SegmentError {
        SegmentError::Io { action, path: self.path.clone(), source }
    }
}
