//! Staging: files are written aside, in a folder of the owner's epoch, and renamed into place. A successor takes the folder away,
//! so a paused owner that wakes can publish none any more.

use std::{ffi::OsStr, io, io::Write, path::Path};

use cap_std::fs::{Dir, DirBuilder, DirBuilderExt, OpenOptions, OpenOptionsExt};

use super::{DIR_MODE, FILE_MODE};
use crate::fault;

/// How often the removal of a staging folder is tried while its owner goes on writing.
const TRIES: u32 = 1000;
/// Begins the names of directories that were taken away.
const GONE: &str = "gone-";

/// An owner's staging folder.
#[derive(Debug)]
pub(super) struct Staging {
    dir: Dir,
    /// Keeps the names of several users of one folder apart.
    tag: &'static str,
    count: u64,
}

// === impl Staging ===

impl Staging {
    /// Makes the folder of an epoch in a stream's state folder, and removes those of other epochs; what they had taken away is
    /// kept until there is time to remove it.
    pub(super) fn open(own: &Dir, epoch: u64) -> io::Result<Self> {
        let name = format!("tmp-{epoch}");
        make_dirs(own, Path::new(&name))?;
        let mut staging = Self { dir: own.open_dir(&name)?, tag: "a", count: 0 };
        for entry in own.entries()? {
            let old = entry?.file_name();
            if old.to_str().is_some_and(|old| old.starts_with("tmp-") && old != name) {
                staging.inherit(own, &old)?;
                remove_old(own, &old)?;
            }
        }
        Ok(staging)
    }

    /// Takes over what an old owner had taken away.
    fn inherit(&mut self, own: &Dir, old: &OsStr) -> io::Result<()> {
        let entries = match own.read_dir(old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let gone = entry?.file_name();
            if is_gone(&gone) {
                match self.take_away(own, &Path::new(old).join(gone)) {
                    // Its owner, or another successor, was faster.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The same folder for another thread; `tag` must be its own.
    pub(super) fn sibling(&self, tag: &'static str) -> io::Result<Self> {
        Ok(Self { dir: self.dir.try_clone()?, tag, count: 0 })
    }

    /// Writes a file aside and returns its name. A part of one does not stay: its room may be what is missing.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<String> {
        self.count += 1;
        let name = format!("{}{}", self.tag, self.count);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(FILE_MODE);
        let written = (|| {
            fault::point("apply::stage")?;
            let mut file = self.dir.open_with(&name, &options)?;
            fault::halves("apply::stage_part", bytes, |part, _| file.write_all(part))?;
            fault::point("apply::staged")
        })();
        match written {
            Ok(()) => Ok(name),
            Err(error) => {
                self.remove(&name);
                Err(error)
            }
        }
    }

    /// Gives a staged file its place beneath a root, or removes it.
    pub(super) fn publish(&self, name: &str, root: &Dir, path: &Path) -> io::Result<()> {
        let renamed = fault::point("apply::rename").and_then(|()| self.dir.rename(name, root, path));
        if renamed.is_err() {
            self.remove(name);
        }
        fault::pass("apply::renamed");
        renamed
    }

    /// Takes a directory out of the root, to be removed later: it may be large.
    pub(super) fn take_away(&mut self, root: &Dir, path: &Path) -> io::Result<()> {
        self.count += 1;
        root.rename(path, &self.dir, format!("{GONE}{}{}", self.tag, self.count))
    }

    /// Removes what was taken away, file by file as long as `goes_on`. Tries all, and returns the first error.
    pub(super) fn free(&self, goes_on: &dyn Fn() -> bool) -> io::Result<()> {
        let mut failed = None;
        for entry in self.dir.entries()? {
            let name = entry?.file_name();
            if is_gone(&name) {
                failed = failed.or(self.free_one(&name, goes_on).err());
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn free_one(&self, name: &OsStr, goes_on: &dyn Fn() -> bool) -> io::Result<()> {
        let gone = self.dir.open_dir(name)?;
        for entry in gone.entries()? {
            if !goes_on() {
                return Ok(());
            }
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => gone.remove_dir_all(entry.file_name())?,
                false => entry.remove_file()?,
            }
        }
        self.dir.remove_dir(name)
    }

    /// Gives a new directory its place beneath a root, and makes those above it; one that is there stays.
    pub(super) fn make_dir(&mut self, root: &Dir, path: &Path) -> io::Result<()> {
        if root.try_exists(path)? {
            return Ok(());
        }
        if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
            make_dirs(root, above)?;
        }
        self.count += 1;
        let name = format!("{}{}", self.tag, self.count);
        make_dirs(&self.dir, Path::new(&name))?;
        let moved = self.dir.rename(&name, root, path);
        if moved.is_err() {
            drop(self.dir.remove_dir(&name));
        }
        match moved {
            // Made by a hand meanwhile.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            moved => moved,
        }
    }

    /// Removes a staged file.
    pub(super) fn remove(&self, name: &str) {
        // Gone already when a successor took the folder away; what stays is removed by the next owner.
        drop(self.dir.remove_file(name));
    }
}

fn is_gone(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(GONE))
}

/// Removes an old owner's folder; it may still be writing into it.
fn remove_old(own: &Dir, name: &OsStr) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match own.remove_dir_all(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !own.try_exists(name)? => return Ok(()),
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => tries += 1,
            Ok(()) => return Ok(()),
        }
    }
}

/// Makes folders beneath a root, those above them too.
pub(super) fn make_dirs(root: &Dir, path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(DIR_MODE);
    root.create_dir_with(path, &builder)
}

#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;

    use super::*;

    fn names(dir: &Dir) -> Vec<String> {
        let mut names: Vec<_> =
            dir.entries().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn one_writer_a_replaced_owner_makes_and_takes_no_directory() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
        root.create_dir("own").unwrap();
        let own = root.open_dir("own").unwrap();
        let mut first = Staging::open(&own, 1).unwrap();
        for path in ["a", "_webhooks/a", "b", "b"] {
            first.make_dir(&root, Path::new(path)).unwrap();
            root.write(Path::new(path).join("x"), "x").unwrap();
        }
        first.take_away(&root, Path::new("a")).unwrap();
        let mut second = Staging::open(&own, 2).unwrap();
        assert_eq!(names(&own), ["tmp-2"]);
        assert_eq!(names(&second.dir).len(), 1, "what was taken away waits for the next owner");
        assert!(first.make_dir(&root, Path::new("a")).is_err());
        assert!(first.take_away(&root, Path::new("b")).is_err());
        assert_eq!(names(&root), ["_webhooks", "b", "own"]);
        second.free(&|| false).unwrap();
        assert_eq!(names(&second.dir).len(), 1, "it was asked to stop");
        second.take_away(&root, Path::new("b")).unwrap();
        second.free(&|| true).unwrap();
        assert_eq!(names(&second.dir), Vec::<String>::new());
    }
}
