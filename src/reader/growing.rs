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
mod tests {
    use std::{fs, io::Write};

    use super::*;
    use crate::{
        event::Id,
        reader::{Logs, Shelf},
    };

    #[test]
    fn a_growing_file_gives_whole_records_until_its_task_ends() {
        let temp = tempfile::tempdir().unwrap();
        let task = temp.path().join("t");
        fs::create_dir(&task).unwrap();
        let path = task.join("03-agent-output.jsonl");
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(b"{\"n\":1}\n").unwrap();
        let logs = Logs::new(temp.path().to_owned());
        let folder = || logs.folder(Shelf::Tasks, &Id::parse("t").unwrap()).unwrap().unwrap();
        let open = |at| Growing::new(folder(), folder().open("03-agent-output.jsonl").unwrap().unwrap(), at);
        let mut growing = open(2);
        let text = |grown| match grown {
            Grown::Piece(piece) => String::from_utf8(piece).unwrap(),
            other => format!("{other:?}"),
        };
        assert_eq!(text(growing.next(4).unwrap()), "n\":1");
        assert_eq!(text(growing.next(100).unwrap()), "}\n");
        assert_eq!(growing.next(100).unwrap(), Grown::Nothing);
        file.write_all(b"{\"n\":2}\n{\"n\"").unwrap();
        assert_eq!(text(growing.next(100).unwrap()), "{\"n\":2}\n");
        assert_eq!(growing.next(100).unwrap(), Grown::Nothing, "a record that has no end yet");
        file.write_all(b":3}\n").unwrap();
        fs::write(task.join("04-final-result.json"), r#"{"success":true}"#).unwrap();
        assert_eq!(text(growing.next(100).unwrap()), "{\"n\":3}\n", "what came before the end comes first");
        assert_eq!(growing.next(100).unwrap(), Grown::Ended);
        fs::write(&path, "{}\n").unwrap();
        assert!(growing.next(100).is_err(), "it got shorter");
        let mut removed = open(0);
        fs::remove_file(&path).unwrap();
        assert_eq!(text(removed.next(100).unwrap()), "{}\n");
        assert!(removed.next(100).is_err());
    }
}
