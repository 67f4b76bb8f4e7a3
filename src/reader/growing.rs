//! A file of records that grows while it is read: whole records as they are appended, until the task has ended.

use std::{fs::File, io, os::unix::fs::FileExt, os::unix::fs::MetadataExt};

use super::{Folder, PublicFile, ReadError, failed, file::newline_between};

/// An opened file, and the folder that tells when nothing is to come.
#[derive(Debug)]
pub struct Growing {
    folder: Folder,
    file: File,
    at: u64,
    /// Up to here the file is known to hold whole records.
    good: u64,
}

/// What a look at a growing file finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Grown {
    /// The next bytes, never none; they may end within a record, of which the rest follows.
    Piece(Vec<u8>),
    /// Nothing new yet.
    Nothing,
    /// Nothing new, and the task has ended.
    Ended,
}

// === impl Growing ===

impl Growing {
    /// Reads a folder's file from `at` on.
    pub fn new(folder: Folder, file: PublicFile, at: u64) -> Self {
        let good = file.len();
        Self { folder, file: file.into_file(), at, good }
    }

    /// Up to `most` bytes that were not read before; an error when the file was removed, replaced or cut.
    pub fn next(&mut self, most: usize) -> Result<Grown, ReadError> {
        if self.at < self.good {
            return self.piece(most);
        }
        // Before the file is looked at: what stands in it when the task has ended is all that there will be.
        let ended = self.folder.ended()?.is_some();
        self.look().map_err(failed("read a file that grows"))?;
        match self.at < self.good {
            true => self.piece(most),
            false if ended => Ok(Grown::Ended),
            false => Ok(Grown::Nothing),
        }
    }

    fn look(&mut self) -> io::Result<()> {
        let found = self.file.metadata()?;
        if found.nlink() == 0 || found.len() < self.at {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = newline_between(&self.file, self.at, found.len())? {
            self.good = end;
        }
        Ok(())
    }

    fn piece(&mut self, most: usize) -> Result<Grown, ReadError> {
        let left = usize::try_from(self.good - self.at).unwrap_or(usize::MAX);
        let mut piece = vec![0; left.min(most)];
        self.file.read_exact_at(&mut piece, self.at).map_err(failed("read a file that grows"))?;
        self.at += piece.len() as u64;
        Ok(Grown::Piece(piece))
    }
}

#[cfg(test)]
mod tests;
