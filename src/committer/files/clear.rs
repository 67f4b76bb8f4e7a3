//! What retention does to a key's directory: looks how old it is, takes it away in one step, and frees its room afterwards.

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use cap_std::fs::MetadataExt as _;
use rustix::fs::{Access, AtFlags};

use super::{FilesError, TaskFiles, dir_of, load};
use crate::{
    event::{Id, Key},
    fault,
    layout::{self, METADATA, STATE_FILE, WEBHOOK_FLOW},
};

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

    /// Frees the room of what was taken away, as long as `goes_on`. What cannot be removed stays; the first reason is returned
    /// when all was tried.
    pub fn free(&self, goes_on: &dyn Fn() -> bool) -> Result<(), FilesError> {
        fault::pass("retention::free");
        let freed = self.staging.free(goes_on);
        freed.map_err(|source| FilesError { action: "free what was removed of", path: self.logs_dir.clone(), source })
    }

    /// When something of the key was written last, as its checkpoint tells: to the second or two. `None` where there is no
    /// directory, or one that the service has not made.
    pub fn written(&self, key: &Key) -> Result<Option<SystemTime>, FilesError> {
        let failed = |error| self.failed("inspect", key, STATE_FILE, error);
        let dir = dir_of(key);
        let found = |path: &Path| match self.root.symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(Some).map_err(failed),
        };
        let Some(itself) = found(&dir)?.filter(|found| found.is_dir()) else { return Ok(None) };
        let told = match found(&dir.join(STATE_FILE))? {
            Some(state) => state,
            // None yet, or it was lost: then what the service writes first shows whose it is.
            None if [METADATA, WEBHOOK_FLOW].iter().any(|name| matches!(found(&dir.join(name)), Ok(Some(_)))) => itself,
            None => return Ok(None),
        };
        told.modified().map(|at| Some(at.into_std())).map_err(failed)
    }

    /// Whether a key's directory can be taken away: what is journaled must be possible, or nothing else gets on.
    pub fn may_clear(&self, key: &Key) -> Result<(), FilesError> {
        let failed = |error| self.failed("remove", key, "", error);
        let dir = dir_of(key);
        if self.root.symlink_metadata(&dir).map_err(failed)?.dev() != self.root.dir_metadata().map_err(failed)?.dev() {
            return Err(failed(io::ErrorKind::CrossesDevices.into()));
        }
        let access = Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::accessat(&self.root, &dir, access, AtFlags::EACCESS).map_err(|error| failed(error.into()))
    }

    /// Whether the key has this file.
    pub fn has(&self, key: &Key, name: &str) -> Result<bool, FilesError> {
        self.root.try_exists(dir_of(key).join(name)).map_err(|error| self.failed("inspect", key, name, error))
    }

    /// The task that a flow joined.
    pub fn joined(&self, flow: &Key) -> Result<Option<Id>, FilesError> {
        let loaded = load(&self.root, flow).map_err(|error| self.failed("load the state of", flow, "", error))?;
        Ok(loaded.0.joined)
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

/// The folder of another stream that has the same `LOGS_DIR`: each owner makes one there.
pub fn other_stream(logs_dir: &Path, own: &str) -> io::Result<Option<PathBuf>> {
    let entries = match std::fs::read_dir(logs_dir.join(layout::STATE_DIR)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != own && (name.starts_with("redis-") || name.starts_with("embedded-")) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}
