//! Looking at folders cheaply: a listing, two `stat`s a task, and the documents of those that changed. Names come from
//! [`Id`]s, are opened beneath a handle of their parent without following links, and no file but a regular
//! one is read.

use std::{
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
};

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};

use super::row::Row;
use crate::{event::Id, layout};

/// Largest document that is read, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

/// A folder of folders: `LOGS_DIR`, or that of webhook flows.
pub(in crate::reader) struct Parent(OwnedFd);

/// What tells whether a folder's documents have changed. Whatever is renamed into the folder changes its own time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::reader) struct Stamp {
    folder: i64,
    metadata: i64,
    inode: u64,
    size: u64,
}

/// What a listing of a parent tells whether it is still the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) changed: i64,
    inode: u64,
}

// === impl Parent ===

impl Parent {
    /// `None` when there is no such folder.
    pub(in crate::reader) fn open(path: &Path) -> io::Result<Option<Self>> {
        // Only LOGS_DIR itself may be a link.
        there(openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()))
            .map(|found| found.map(Self))
    }

    /// A parent in this one.
    pub(super) fn child(&self, name: &str) -> io::Result<Option<Self>> {
        there(openat(&self.0, name, FOLDER, Mode::empty())).map(|found| found.map(Self))
    }

    /// When entries last came or went.
    pub(super) fn listed(&self) -> io::Result<Listed> {
        let found = fstat(&self.0)?;
        Ok(Listed { changed: changed(&found), inode: found.st_ino })
    }

    /// Gives the id of every folder that an id stands for.
    pub(super) fn list(&self, mut each: impl FnMut(Id)) -> io::Result<()> {
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let Some(id) = entry.file_name().to_str().ok().and_then(Id::from_dir_name) else { continue };
            let folder = match entry.file_type() {
                // Some file systems do not tell.
                FileType::Unknown => self.is_folder(&id)?,
                kind => kind == FileType::Directory,
            };
            if folder {
                each(id);
            }
        }
        Ok(())
    }

    fn is_folder(&self, id: &Id) -> io::Result<bool> {
        Ok(there(statat(&self.0, &*id.dir_name(), AtFlags::SYMLINK_NOFOLLOW))?.is_some_and(|found| is_folder(&found)))
    }

    /// How a task's folder stands now; `None` when there is none.
    pub(super) fn stamp(&self, id: &Id) -> io::Result<Option<Stamp>> {
        let name = id.dir_name();
        let Some(folder) = there(statat(&self.0, &*name, AtFlags::SYMLINK_NOFOLLOW))?.filter(is_folder) else {
            return Ok(None);
        };
        let metadata = format!("{name}/{}", layout::METADATA);
        let metadata = there(statat(&self.0, metadata, AtFlags::SYMLINK_NOFOLLOW))?;
        Ok(Some(Stamp::of(&folder, metadata.as_ref())))
    }

    /// The same of a webhook flow, which has no documents.
    pub(super) fn stamp_flow(&self, id: &Id) -> io::Result<Option<Stamp>> {
        let found = there(statat(&self.0, &*id.dir_name(), AtFlags::SYMLINK_NOFOLLOW))?.filter(is_folder);
        Ok(found.map(|folder| Stamp::of(&folder, None)))
    }

    /// Reads a task, and how its folder stood before that; `None` when there is none.
    pub(in crate::reader) fn read(&self, id: &Id) -> io::Result<Option<(Row, Stamp)>> {
        let Some(folder) = there(openat(&self.0, &*id.dir_name(), FOLDER, Mode::empty()))? else { return Ok(None) };
        let stood = fstat(&folder)?;
        let metadata = document(&folder, layout::METADATA)?;
        let updated = metadata.as_ref().map_or(changed(&stood), |(found, _)| changed(found));
        let updated = Timestamp::from_nanosecond(updated.into()).unwrap_or(Timestamp::UNIX_EPOCH);
        let stamp = Stamp::of(&stood, metadata.as_ref().map(|(found, _)| found));
        let text = metadata.map(|(_, text)| text).unwrap_or_default();
        let mut failed = None;
        let other = |name| match document(&folder, name) {
            Ok(found) => found.map(|(_, text)| text).unwrap_or_default(),
            Err(error) => {
                failed = Some(error);
                Vec::new()
            }
        };
        let row = Row::read(id, &text, other, updated);
        match failed {
            Some(error) => Err(error),
            None => Ok(Some((row, stamp))),
        }
    }

    /// Whether a flow's folder holds a public file: one whose flow has joined a task does not.
    pub(super) fn holds_files(&self, id: &Id) -> io::Result<bool> {
        let Some(folder) = there(openat(&self.0, &*id.dir_name(), FOLDER, Mode::empty()))? else { return Ok(false) };
        for entry in Dir::read_from(&folder)? {
            if entry?.file_name().to_str().is_ok_and(layout::is_public_file) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

// === impl Stamp ===

impl Stamp {
    fn of(folder: &Stat, metadata: Option<&Stat>) -> Self {
        let folder = changed(folder);
        match metadata {
            None => Self { folder, ..Self::default() },
            Some(found) => Self {
                folder,
                metadata: changed(found),
                inode: found.st_ino,
                size: u64::try_from(found.st_size).unwrap_or(0),
            },
        }
    }

    /// When something last changed, in nanoseconds since 1970.
    pub(super) fn newest(&self) -> i64 {
        self.folder.max(self.metadata)
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A regular file, and its text if that is not too long.
fn document(folder: &OwnedFd, name: &str) -> io::Result<Option<(Stat, Vec<u8>)>> {
    // Opening a pipe would wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Some(file) = there(openat(folder, name, flags, Mode::empty()))? else { return Ok(None) };
    let found = fstat(&file)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let size = u64::try_from(found.st_size).unwrap_or(0);
    let mut text = Vec::new();
    if size <= DOCUMENT_BYTES_MAX {
        text.reserve_exact(usize::try_from(size).unwrap_or(0) + 1);
        std::fs::File::from(file).take(DOCUMENT_BYTES_MAX).read_to_end(&mut text)?;
    }
    Ok(Some((found, text)))
}

/// What is not there, or is no folder or file of its own, is none.
fn there<T>(found: rustix::io::Result<T>) -> io::Result<Option<T>> {
    use rustix::io::Errno;
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_folder(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Directory
}

/// Nanoseconds since 1970; times that do not fit count as the nearest one that does.
fn changed(found: &Stat) -> i64 {
    let nanoseconds = i64::try_from(found.st_mtime_nsec).unwrap_or(0);
    found.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
