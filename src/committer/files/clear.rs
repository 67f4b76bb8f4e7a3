//! What retention does to a key's directory: looks how old it is, takes it away in one step, and frees its room afterwards.

use std::{io, time::SystemTime};

use cap_std::fs::MetadataExt as _;

use super::{FilesError, TaskFiles, dir_of};
use crate::{event::Key, fault, layout::STATE_FILE};

// === impl TaskFiles ===

impl TaskFiles {
    /// Takes a key's directory away, of which nothing is open: for readers it is gone at once. Its room is free after
    /// [`TaskFiles::free`].
    pub(super) fn clear(&mut self, key: &Key) -> Result<(), FilesError> {
        self.dirs.remove(key);
        let path = dir_of(key);
        let taken = fault::point("apply::clear").and_then(|()| self.staging.take_away(&self.root, &path));
        let gone = match taken {
            // Gone already: a replay, or a hand that was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.root.try_exists(&path) {
                Ok(false) => Ok(()),
                _ => Err(error),
            },
            taken => taken,
        };
        gone.map_err(|error| self.failed("remove", key, "", error))?;
        fault::pass("apply::cleared");
        Ok(())
    }

    /// Frees the room of what was taken away. Returns how many directories.
    pub fn free(&mut self) -> Result<u64, FilesError> {
        fault::pass("retention::free");
        self.staging.free().map_err(|source| FilesError {
            action: "free what was removed of",
            path: self.logs_dir.clone(),
            source,
        })
    }

    /// When something of the key was written last, as its checkpoint tells: to the second or two. `None` without a directory.
    pub fn written(&self, key: &Key) -> Result<Option<SystemTime>, FilesError> {
        let failed = |error| self.failed("inspect", key, STATE_FILE, error);
        let dir = dir_of(key);
        for path in [dir.join(STATE_FILE), dir] {
            match self.root.metadata(path).and_then(|found| found.modified()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => return found.map(|at| Some(at.into_std())).map_err(failed),
            }
        }
        Ok(None)
    }

    /// Whether the key has this file.
    pub fn has(&self, key: &Key, name: &str) -> Result<bool, FilesError> {
        self.root.try_exists(dir_of(key).join(name)).map_err(|error| self.failed("inspect", key, name, error))
    }

    /// What the key's files take on the disk, in bytes.
    pub fn room(&self, key: &Key) -> Result<u64, FilesError> {
        let room = (|| {
            let mut room = 0;
            for entry in self.root.read_dir(dir_of(key))? {
                room += entry?.metadata()?.blocks() * 512;
            }
            Ok(room)
        })();
        match room {
            Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => Ok(0),
            room => room.map_err(|error| self.failed("inspect", key, "", error)),
        }
    }
}
