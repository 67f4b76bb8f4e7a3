//! A file that a command saves: it grows beside its name and gets it when it is complete. What came of a known version is kept
//! when it breaks off, and gone on with by whoever saves the same version there again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// A file on its way.
#[derive(Debug)]
pub struct Saving {
    path: PathBuf,
    part: PathBuf,
    file: File,
    at: u64,
    /// Whether what is there is of use when it breaks off.
    keeps: bool,
    done: bool,
}

// === impl Saving ===

impl Saving {
    /// Begins to save under this name. With a version, goes on behind what there is of it.
    pub fn begin(path: &Path, version: Option<&str>) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_string_lossy().into_owned();
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let version: String =
            version.unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).take(100).collect();
        let keeps = !version.is_empty();
        let part = path.with_file_name(if keeps { format!("{name}.{version}.part") } else { format!("{name}.part") });
        // No link that somebody put there is followed: it is looked at, then opened by a name that only this command uses.
        if part.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(!keeps).open(&part)?;
        let at = file.seek(SeekFrom::End(0))?;
        Ok(Self { path: path.to_owned(), part, file, at, keeps, done: false })
    }

    /// Bytes that are there.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Where they are until it is complete.
    pub fn part(&self) -> &Path {
        &self.part
    }

    /// Forgets what is there.
    pub fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.at = self.file.seek(SeekFrom::Start(0))?;
        Ok(())
    }

    /// It is complete.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.part, &self.path)?;
        self.done = true;
        Ok(())
    }
}

impl Write for Saving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        if !self.done && (!self.keeps || self.at == 0) {
            // What is of no use to anybody; that it cannot be removed is no second error.
            drop(fs::remove_file(&self.part));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_complete_and_a_version_is_gone_on_with() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a.jsonl");
        let names = || {
            let mut names: Vec<_> = fs::read_dir(temp.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let mut saving = Saving::begin(&path, Some("\"1-2\"")).unwrap();
        saving.write_all(b"one ").unwrap();
        drop(saving);
        assert_eq!(names(), ["a.jsonl.12.part"]);
        let mut saving = Saving::begin(&path, Some("\"1-2\"")).unwrap();
        assert_eq!(saving.at(), 4);
        saving.write_all(b"two").unwrap();
        saving.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one two");
        let mut saving = Saving::begin(&path, None).unwrap();
        saving.write_all(b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one two", "not before it is complete");
        drop(saving);
        assert_eq!(names(), ["a.jsonl"]);
        std::os::unix::fs::symlink("/etc/hostname", temp.path().join("a.jsonl.part")).unwrap();
        assert!(Saving::begin(&path, None).is_err());
        assert!(Saving::begin(temp.path(), None).is_err());
    }
}
