//! Reads a segment's frames in order and says how they end. Never writes.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{FILE_HEADER, FRAME_HEADER, MAGIC, SegmentError, salted};
use crate::fault;

/// Read at once, in bytes; a larger frame is read whole.
const CHUNK: u64 = 1 << 20;

/// A valid frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// One more than that of the frame before it.
    pub sequence: u64,
    /// Where its header stands in the file.
    pub offset: u64,
    /// What was staged; a slice of the chunk that was read.
    pub body: Bytes,
}

/// How a segment's valid frames end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With zeros, with the file, or with what an earlier use of the file left behind.
    Clean,
    /// With a frame that was not wholly written and nothing of this segment behind it: never synced, nothing is lost.
    Torn,
    /// Valid frames of this segment stand behind something unreadable: damage, or a power loss between several frames that
    /// no sync had followed.
    Corrupt {
        /// Offset of the first valid frame behind the damage.
        next_valid: u64,
        /// Its sequence number: the difference to what was expected is the number of frames lost.
        sequence: u64,
    },
}

/// Iterates over a segment's frames up to the first that is not valid. I/O errors end the iteration.
#[derive(Debug)]
pub struct Scan {
    file: File,
    path: PathBuf,
    base: crc32fast::Hasher,
    salt: u64,
    size: u64,
    /// Offset of the next frame.
    at: u64,
    next: u64,
    chunk: Bytes,
    /// Offset of the chunk in the file.
    chunk_at: u64,
    done: bool,
}

// === impl Scan ===

impl Scan {
    /// Opens a segment. With `first_sequence` it must begin with that frame, else [`SegmentError::NotASegment`].
    pub fn open(path: &Path, first_sequence: Option<u64>) -> Result<Self, SegmentError> {
        let opened = (|| {
            fault::segment("read", path)?;
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            let mut header = [0; FILE_HEADER as usize];
            if size >= FILE_HEADER {
                file.read_exact_at(&mut header, 0)?;
            }
            Ok((file, size, header))
        })();
        let (file, size, header) =
            opened.map_err(|source| SegmentError::Io { action: "read", path: path.to_owned(), source })?;
        let (salt, next) = (u64_at(&header, 8), u64_at(&header, 16));
        let valid = header[..8] == *MAGIC && u32_at(&header, 24) == crc32fast::hash(&header[..24]);
        if !valid || first_sequence.is_some_and(|first| first != next) {
            return Err(SegmentError::NotASegment { path: path.to_owned() });
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            base: salted(salt),
            salt,
            size,
            at: FILE_HEADER,
            next,
            chunk: Bytes::new(),
            chunk_at: 0,
            done: false,
        })
    }

    /// Goes on at a frame whose place is known, for instance after the last one that was read.
    pub fn seek(&mut self, offset: u64, sequence: u64) {
        (self.at, self.next, self.done) = (offset, sequence, false);
    }

    /// Where the bytes end that may be read, for a reader behind a live writer: never more than what the writer has synced.
    pub fn set_end(&mut self, end: u64) {
        (self.size, self.done) = (end, false);
    }

    /// Reads up to the end of the file again, as it is now: the writer has gone on to another segment.
    pub fn reset_end(&mut self) -> Result<(), SegmentError> {
        let length = self.file.metadata().map(|metadata| metadata.len());
        self.set_end(length.map_err(|source| SegmentError::Io { action: "read", path: self.path.clone(), source })?);
        Ok(())
    }

    /// Offset behind the last frame returned.
    pub fn tail(&self) -> u64 {
        self.at
    }

    /// The sequence number expected at [`Scan::tail`].
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    pub(super) fn salt(&self) -> u64 {
        self.salt
    }

    /// How the frames end. Call it when the iteration is over; it looks at the rest of the file.
    pub fn end(&mut self) -> Result<End, SegmentError> {
        self.classify().map_err(|source| SegmentError::Io { action: "read", path: self.path.clone(), source })
    }

    /// The frame at `offset`, if one of this segment stands there that ends within the file.
    fn frame_at(&mut self, offset: u64) -> io::Result<Option<Frame>> {
        let Some(room) = self.size.checked_sub(offset + FRAME_HEADER) else { return Ok(None) };
        self.load(offset, FRAME_HEADER)?;
        let header = self.loaded(offset, FRAME_HEADER);
        let (length, crc, sequence) = (u64::from(u32_at(&header, 0)), u32_at(&header, 4), u64_at(&header, 8));
        if length > room || sequence < self.next {
            return Ok(None);
        }
        self.load(offset, FRAME_HEADER + length)?;
        let body = self.loaded(offset, FRAME_HEADER + length).slice(FRAME_HEADER as usize..);
        let mut actual = self.base.clone();
        actual.update(&sequence.to_le_bytes());
        actual.update(&body);
        Ok((actual.finalize() == crc).then_some(Frame { sequence, offset, body }))
    }

    fn classify(&mut self) -> io::Result<End> {
        let (at, room) = (self.at, self.size.saturating_sub(self.at));
        // No frame is shorter than its header, so this many at most can stand in the rest.
        let sequences = self.next..self.next.saturating_add(room / FRAME_HEADER + 1);
        let mut offset = at;
        let mut torn = false;
        while offset < self.size {
            let part = CHUNK.min(self.size - offset);
            self.load(offset, part)?;
            let bytes = self.loaded(offset, part);
            if offset == at {
                torn = self.looks_begun(&bytes);
            }
            for start in 0..bytes.len().saturating_sub(FRAME_HEADER as usize - 1) {
                if sequences.contains(&u64_at(&bytes, start + 8))
                    && let Some(frame) = self.frame_at(offset + start as u64)?
                {
                    return Ok(End::Corrupt { next_valid: frame.offset, sequence: frame.sequence });
                }
            }
            // Chunks overlap, for a header may stand across their border.
            offset += if part == CHUNK { CHUNK - FRAME_HEADER + 1 } else { part };
        }
        Ok(if torn { End::Torn } else { End::Clean })
    }

    /// Whether the bytes at the tail are the remains of a frame that was begun: not zeros, and not the inside of an old use.
    fn looks_begun(&self, bytes: &[u8]) -> bool {
        let header = &bytes[..bytes.len().min(FRAME_HEADER as usize)];
        if header.len() < FRAME_HEADER as usize {
            return header.iter().any(|&byte| byte != 0);
        }
        // The sequence number survives all but a tear within the header's own 16 bytes; then its length or CRC is left.
        u64_at(header, 8) == self.next || (u64_at(header, 8) == 0 && header[..8].iter().any(|&byte| byte != 0))
    }

    /// Makes sure that the chunk holds the bytes; the caller has checked that the file does.
    fn load(&mut self, offset: u64, length: u64) -> io::Result<()> {
        if offset >= self.chunk_at && offset + length <= self.chunk_at + self.chunk.len() as u64 {
            return Ok(());
        }
        let length = length.max(CHUNK).min(self.size - offset);
        let mut buffer = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut buffer, offset)?;
        (self.chunk, self.chunk_at) = (Bytes::from(buffer), offset);
        Ok(())
    }

    fn loaded(&self, offset: u64, length: u64) -> Bytes {
        let from = (offset - self.chunk_at) as usize;
        self.chunk.slice(from..from + length as usize)
    }
}

impl Iterator for Scan {
    type Item = Result<Frame, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        match self.frame_at(self.at) {
            Ok(Some(frame)) if frame.sequence == self.next => {
                self.at = frame.offset + FRAME_HEADER + frame.body.len() as u64;
                self.next += 1;
                Some(Ok(frame))
            }
            Ok(_) => {
                self.done = true;
                None
            }
            Err(source) => {
                self.done = true;
                Some(Err(SegmentError::Io { action: "read", path: self.path.clone(), source }))
            }
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_le_bytes)
}
