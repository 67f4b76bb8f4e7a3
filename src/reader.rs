//! The read side of `LOGS_DIR`: it meets the write side only in the files, creates nothing, and shows no torn record. All
//! calls block and are made from blocking threads. Names come from [`Id`] and [`layout`] alone and are opened beneath a
//! handle of `LOGS_DIR`, which is opened anew for each request, so that a folder that appears or is mounted later is seen.

use std::{
    io::{self, Read as _},
    path::PathBuf,
    sync::Arc,
};

use cap_std::{ambient_authority, fs::Dir};

use crate::{event::Id, layout};

mod archive;
mod assembled;
mod counts;
mod cursor;
mod file;
mod filter;
mod growing;
mod index;
mod lines;
mod list;
mod overview;
mod records;
pub mod render;
mod search;
mod text;

pub use archive::{Archive, Format};
pub use assembled::TaskLogs;
pub use counts::Counts;
pub use cursor::{Cursor, InvalidCursor};
pub use file::{FileInfo, PublicFile, Section};
pub use filter::{Filter, InvalidFilter, Level, Pattern, Seen, time};
pub use growing::{Growing, Grown};
pub use index::{Change, Facets, Field, Index, Place, Row, TaskPage, TaskQuery, Values};
pub use list::Page;
pub use overview::Flow;
pub use records::{Order, Record, Records};
pub use search::{Hit, Search, Snippet};

/// What stands in `LOGS_DIR`, for reading.
#[derive(Clone, Debug)]
pub struct Logs {
    root: PathBuf,
    counted: Arc<list::Counted>,
}

/// The two sorts of folders that hold records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf {
    /// `LOGS_DIR/{task_id}`.
    Tasks,
    /// `LOGS_DIR/_webhooks/{webhook_event_id}`: flows that have not joined a task.
    Flows,
}

/// One task's or one flow's folder.
#[derive(Debug)]
pub struct Folder {
    dir: Dir,
}

/// Why something could not be read. The text names what was tried, never an id or a content.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system said no.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// What a cursor names is no more: the file was removed, replaced or cut.
    #[error("the files are not the ones that were read")]
    Gone,
    /// The files together are larger than one answer may be.
    #[error("the answer would hold {size} bytes, more than {limit}")]
    TooLarge {
        /// Bytes of the files.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

// === impl Logs ===

impl Logs {
    /// Reads below this `LOGS_DIR`, which need not exist yet.
    pub fn new(root: PathBuf) -> Self {
        Self { root, counted: Arc::default() }
    }

    /// Whether `LOGS_DIR` is there and can be listed.
    pub fn check(&self) -> Result<(), ReadError> {
        let root = Dir::open_ambient_dir(&self.root, ambient_authority()).map_err(failed("open the logs folder"))?;
        let mut entries = root.entries().map_err(failed("list the logs folder"))?;
        entries.next().transpose().map_err(failed("list the logs folder"))?;
        Ok(())
    }

    /// A task's or flow's folder, if there is one.
    pub fn folder(&self, shelf: Shelf, id: &Id) -> Result<Option<Folder>, ReadError> {
        let Some(shelf) = self.shelf(shelf)? else { return Ok(None) };
        Ok(open_folder(&shelf, &id.dir_name())?.map(|dir| Folder { dir }))
    }

    fn root(&self) -> Result<Option<Dir>, ReadError> {
        match Dir::open_ambient_dir(&self.root, ambient_authority()) {
            Ok(root) => Ok(Some(root)),
            Err(error) => absent(error, "open the logs folder"),
        }
    }

    fn shelf(&self, shelf: Shelf) -> Result<Option<Dir>, ReadError> {
        let Some(root) = self.root()? else { return Ok(None) };
        match shelf {
            Shelf::Tasks => Ok(Some(root)),
            Shelf::Flows => open_folder(&root, layout::WEBHOOKS_DIR),
        }
    }
}

// === impl Folder ===

impl Folder {
    /// A public file by name; `None` when the name is not public or there is no such regular file.
    pub fn open(&self, name: &str) -> Result<Option<PublicFile>, ReadError> {
        if !layout::is_public_file(name) {
            return Ok(None);
        }
        PublicFile::open(&self.dir, name)
    }

    /// Every public file, by name.
    pub fn files(&self) -> Result<Vec<FileInfo>, ReadError> {
        let mut files = Vec::new();
        for name in self.names()? {
            if let Some(file) = self.open(&name)? {
                files.push(file.info()?);
            }
        }
        Ok(files)
    }

    /// The names that a public file may have, of what is there, in order.
    fn names(&self) -> Result<Vec<String>, ReadError> {
        let mut names = Vec::new();
        for entry in self.dir.entries().map_err(failed("list a folder"))? {
            let name = entry.map_err(failed("list a folder"))?.file_name();
            names.extend(name.to_str().filter(|name| layout::is_public_file(name)).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// Bytes of all public files.
    pub fn size(&self) -> Result<u64, ReadError> {
        let mut size = 0;
        for entry in self.dir.entries().map_err(failed("list a folder"))? {
            let name = entry.map_err(failed("list a folder"))?.file_name();
            if let Some(file) = name.to_str().map(|name| self.open(name)).transpose()?.flatten() {
                size += file.len();
            }
        }
        Ok(size)
    }

    /// The body of `GET /tasks/{id}/logs`, checked and measured but not loaded.
    pub fn logs(&self, limit: u64) -> Result<TaskLogs, ReadError> {
        TaskLogs::prepare(self, limit)
    }

    /// Whether the task has ended, and if so whether well. Its result is written behind everything that came before it.
    pub fn ended(&self) -> Result<Option<bool>, ReadError> {
        #[derive(serde::Deserialize)]
        struct Success {
            #[serde(default)]
            success: bool,
        }
        let Some(file) = self.open(layout::FINAL_RESULT)? else { return Ok(None) };
        let len = file.len();
        let mut text = Vec::new();
        file.section(0, len).read_to_end(&mut text).map_err(failed("read a file"))?;
        Ok(Some(serde_json::from_slice::<Success>(&text).is_ok_and(|result| result.success)))
    }
}

/// A folder, if there is one of that name: a link is none that the write side made.
fn open_folder(above: &Dir, name: &str) -> Result<Option<Dir>, ReadError> {
    match above.symlink_metadata(name) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Ok(None),
        Err(error) => return absent(error, "look at a folder"),
    }
    match above.open_dir(name) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) => absent(error, "open a folder"),
    }
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> ReadError {
    move |source| ReadError::Io { action, source }
}

fn absent<T>(error: io::Error, action: &'static str) -> Result<Option<T>, ReadError> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
        _ => Err(ReadError::Io { action, source: error }),
    }
}

#[cfg(test)]
mod tests;
