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
    /// Makes the folder of an epoch in a stream's state folder, and removes those of other epochs.
    pub(super) fn open(own: &Dir, epoch: u64) -> io::Result<Self> {
        for entry in own.entries()? {
            let name = entry?.file_name();
            if name.to_str().is_some_and(|name| name.starts_with("tmp-")) {
                remove_old(own, &name)?;
            }
        }
        let name = format!("tmp-{epoch}");
        make_dirs(own, Path::new(&name))?;
        Ok(Self { dir: own.open_dir(&name)?, tag: "a", count: 0 })
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

    /// Removes what was taken away. Returns how many directories.
    pub(super) fn free(&self) -> io::Result<u64> {
        let mut count = 0;
        for entry in self.dir.entries()? {
            let name = entry?.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(GONE)) {
                self.dir.remove_dir_all(&name)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Removes a staged file.
    pub(super) fn remove(&self, name: &str) {
        // Gone already when a successor took the folder away; what stays is removed by the next owner.
        drop(self.dir.remove_file(name));
    }
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
