//! The write side's hand on `LOGS_DIR`: applies committed changes, loads and stores `.state`s. Every path is a validated name
//! opened beneath the root's handle. No fsync here but [`TaskFiles::sync`], which the checkpoint calls.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use cap_std::{
    ambient_authority,
    fs::{Dir, OpenOptions},
};

mod clear;
mod load;
mod staging;

use super::state_file::{self, Updated};
pub use clear::other_stream;
pub use load::load;
use staging::{Staging, make_dirs};

use crate::{
    event::Key,
    fault, folder,
    journal::{
        record::{Change, FileName, FileOp},
        segment::may_pass,
    },
    layout::{self, STATE_FILE, WEBHOOKS_DIR, documents::Documents},
    metrics,
};

/// A task directory's mode.
const DIR_MODE: u32 = 0o750;
/// A file's mode.
const FILE_MODE: u32 = 0o640;

/// What went wrong with the files of `LOGS_DIR`.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct FilesError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// What an apply did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Applied {
    /// Files that did not exist before.
    pub created: u64,
    /// Bytes that should have stood in files and did not.
    pub missing: u64,
}

/// Task files, open as long as they are in use.
#[derive(Debug)]
pub struct TaskFiles {
    root: Dir,
    /// Kept open from the start on: `syncfs` reports errors since the handle was opened.
    root_file: File,
    logs_dir: PathBuf,
    staging: Staging,
    epoch: u64,
    open: HashMap<(Key, FileName), Handle>,
    open_max: usize,
    clock: u64,
    dirs: HashMap<Key, u64>,
}

#[derive(Debug)]
struct Handle {
    file: File,
    used: u64,
}

// === impl FilesError ===

impl FilesError {
    /// Whether the same call may succeed later: there was no room, or no permission. Never after a sync.
    pub fn may_pass(&self) -> bool {
        self.action != "sync" && may_pass(&self.source)
    }
}

/// The directory of a key, relative to `LOGS_DIR`.
pub fn dir_of(key: &Key) -> PathBuf {
    match key {
        Key::Task(id) => PathBuf::from(&*id.dir_name()),
        Key::Flow(id) => Path::new(WEBHOOKS_DIR).join(&*id.dir_name()),
    }
}

// === impl TaskFiles ===

impl TaskFiles {
    /// Opens `LOGS_DIR` (made if missing) for the owner of an epoch. Staging folders of other epochs of this stream are
    /// removed: their owners can publish no static file any more.
    pub fn open(logs_dir: &Path, state_name: &str, epoch: u64, open_max: usize) -> Result<Self, FilesError> {
        let fail = |action| move |source| FilesError { action, path: logs_dir.to_owned(), source };
        folder::make(logs_dir, DIR_MODE).map_err(fail("create"))?;
        let root = Dir::open_ambient_dir(logs_dir, ambient_authority()).map_err(fail("open"))?;
        let root_file = File::open(logs_dir).map_err(fail("open"))?;
        let own = Path::new(layout::STATE_DIR).join(state_name);
        make_dirs(&root, &own).map_err(fail("create the state folder of"))?;
        let own = root.open_dir(&own).map_err(fail("open the state folder of"))?;
        let staging = Staging::open(&own, epoch).map_err(fail("make staging of"))?;
        Ok(Self {
            root,
            root_file,
            logs_dir: logs_dir.to_owned(),
            staging,
            epoch,
            open: HashMap::new(),
            open_max,
            clock: 0,
            dirs: HashMap::new(),
        })
    }

    /// The same folders for another thread, with nothing open; `tag` must be its own.
    pub fn sibling(&self, tag: &'static str) -> Result<Self, FilesError> {
        let fail = |source| FilesError { action: "open", path: self.logs_dir.clone(), source };
        Ok(Self {
            root: self.root.try_clone().map_err(fail)?,
            root_file: self.root_file.try_clone().map_err(fail)?,
            logs_dir: self.logs_dir.clone(),
            staging: self.staging.sibling(tag).map_err(fail)?,
            epoch: self.epoch,
            open: HashMap::new(),
            open_max: self.open_max,
            clock: 0,
            dirs: HashMap::new(),
        })
    }

    /// Applies changes in order; appends to one file that follow each other become one write. Repeating it, or repeating it
    /// after a part was done, gives the same files.
    pub fn apply<'c>(&mut self, changes: impl IntoIterator<Item = &'c Change>) -> Result<Applied, FilesError> {
        self.clock += 1;
        let mut applied = Applied::default();
        let mut order: Vec<&Key> = Vec::new();
        let mut by_key: HashMap<&Key, Vec<&Change>> = HashMap::new();
        for change in changes {
            let of_key = by_key.entry(&change.key).or_default();
            if of_key.is_empty() {
                order.push(&change.key);
            }
            of_key.push(change);
        }
        let cleared: HashSet<&Key> =
            order.iter().copied().filter(|key| by_key.get(key).is_some_and(|all| all.iter().any(clears))).collect();
        if !cleared.is_empty() {
            self.open.retain(|(key, _), _| !cleared.contains(key));
        }
        for key in order {
            let of_key = by_key.get(key).map_or(&[][..], Vec::as_slice);
            if let Err(error) = self.apply_to(key, of_key, &mut applied) {
                // It may be that too much is open.
                self.open.clear();
                return Err(error);
            }
            self.close_old();
        }
        Ok(applied)
    }

    fn apply_to(&mut self, key: &Key, changes: &[&Change], applied: &mut Applied) -> Result<(), FilesError> {
        let mut runs: Vec<Run<'_>> = Vec::new();
        let cleared = changes.iter().rposition(clears);
        // What was done before goes away with the directory.
        let changes = changes.get(cleared.unwrap_or(0)..).unwrap_or_default();
        if cleared.is_some() {
            self.clear(key)?;
        }
        for op in changes.iter().flat_map(|change| &change.files) {
            let last = runs.iter_mut().rev().find(|run| run.file == op.file());
            match (op, last) {
                (FileOp::Append { offset, bytes, .. }, Some(run)) if run.end() == Some(*offset) => {
                    run.parts.push(bytes)
                }
                (FileOp::Append { file, offset, bytes }, _) => {
                    runs.push(Run { file, kind: Kind::At(*offset), parts: vec![bytes] });
                }
                (FileOp::Replace { file, bytes, .. }, _) => {
                    runs.push(Run { file, kind: Kind::Whole, parts: vec![bytes] });
                }
                (FileOp::Remove { file }, _) => runs.push(Run { file, kind: Kind::Gone, parts: Vec::new() }),
                // Done above.
                (FileOp::Clear { .. }, _) => {}
            }
        }
        for run in &runs {
            match run.kind {
                Kind::At(offset) => self.append(key, run.file, offset, &run.parts, applied)?,
                Kind::Whole => self.replace(key, run.file, &join(&run.parts), applied)?,
                Kind::Gone => self.remove(key, run.file)?,
            }
            fault::pass("apply::between");
        }
        let model = changes.iter().rev().find_map(|change| change.documents.as_ref());
        if let (Key::Task(id), Some(model)) = (key, model) {
            let documents: Documents =
                serde_json::from_slice(model).map_err(|error| self.failed("render", key, "", error.into()))?;
            for (name, bytes) in documents.render(id.as_str()) {
                self.replace(key, &FileName::Borrowed(name), &bytes, applied)?;
            }
        }
        Ok(())
    }

    fn append(
        &mut self,
        key: &Key,
        name: &FileName,
        offset: u64,
        parts: &[&bytes::Bytes],
        applied: &mut Applied,
    ) -> Result<(), FilesError> {
        let at = (key.clone(), name.clone());
        let failed = |this: &Self, error| this.failed("write", key, name, error);
        let mut file = match self.open.remove(&at) {
            Some(handle) => handle.file,
            None => self.open_for_append(key, name, applied)?,
        };
        let mut there = file.metadata().map_err(|error| failed(self, error))?;
        if there.nlink() == 0 {
            // Removed under our handle: what is written to that one nobody sees.
            file = self.open_for_append(key, name, applied)?;
            there = file.metadata().map_err(|error| failed(self, error))?;
        }
        if there.len() < offset {
            // Someone cut or removed the file: what is left of the hole is a blank line that readers pass over.
            let (path, bytes) = (self.logs_dir.join(dir_of(key)).join(&**name), offset - there.len());
            tracing::error!(path = %path.display(), bytes, "file is shorter than what was written to it: lines are lost");
            applied.missing += bytes;
            file.write_all_at(b"\n", offset - 1).map_err(|error| failed(self, error))?;
        }
        let joined;
        let bytes = match parts {
            [one] => &one[..],
            many => {
                joined = join(many);
                &joined
            }
        };
        let written = fault::point("apply::append")
            .and_then(|()| fault::halves("apply::part", bytes, |part, at| file.write_all_at(part, offset + at)));
        written.map_err(|error| failed(self, error))?;
        self.open.insert(at, Handle { file, used: self.clock });
        Ok(())
    }

    fn open_for_append(&mut self, key: &Key, name: &FileName, applied: &mut Applied) -> Result<File, FilesError> {
        let path = dir_of(key).join(&**name);
        let mut options = OpenOptions::new();
        options.write(true);
        let opened = match fault::point("apply::open").and_then(|()| self.root.open_with(&path, &options)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Made in staging and moved: a paused owner that wakes cannot bring back what its successor moved away.
                self.make_dir(key)?;
                applied.created += 1;
                let temp = self.staging.write(b"").map_err(|error| self.failed("stage", key, name, error))?;
                self.staging
                    .publish(&temp, &self.root, &path)
                    .map_err(|error| self.failed("create", key, name, error))?;
                self.root.open_with(&path, &options)
            }
            opened => opened,
        };
        Ok(opened.map_err(|error| self.failed("open", key, name, error))?.into_std())
    }

    /// Writes a file whole: staged and renamed, so that readers see the old or the new one.
    fn replace(&mut self, key: &Key, name: &FileName, bytes: &[u8], applied: &mut Applied) -> Result<(), FilesError> {
        self.open.remove(&(key.clone(), name.clone()));
        if !self.dirs.contains_key(key) {
            self.make_dir(key)?;
        }
        let path = dir_of(key).join(&**name);
        let fresh = !self.root.try_exists(&path).map_err(|error| self.failed("inspect", key, name, error))?;
        applied.created += u64::from(fresh);
        let temp = self.staging.write(bytes).map_err(|error| self.failed("stage", key, name, error))?;
        match self.staging.publish(&temp, &self.root, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The directory was removed since it was made.
                self.make_dir(key)?;
                let temp = self.staging.write(bytes).map_err(|error| self.failed("stage", key, name, error))?;
                self.staging.publish(&temp, &self.root, &path)
            }
            done => done,
        }
        .map_err(|error| self.failed("publish", key, name, error))
    }

    fn remove(&mut self, key: &Key, name: &FileName) -> Result<(), FilesError> {
        self.open.remove(&(key.clone(), name.clone()));
        match fault::point("apply::remove").and_then(|()| self.root.remove_file(dir_of(key).join(&**name))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed("remove", key, name, error)),
            _ => Ok(()),
        }
    }

    /// Makes the key's directory in staging and moves it, as files are: a paused owner that wakes must not bring one back that
    /// was removed since.
    fn make_dir(&mut self, key: &Key) -> Result<(), FilesError> {
        let made = fault::point("apply::mkdir").and_then(|()| self.staging.make_dir(&self.root, &dir_of(key)));
        made.map_err(|error| self.failed("create", key, "", error))?;
        self.dirs.insert(key.clone(), self.clock);
        Ok(())
    }

    /// Cuts files that are longer than their committed length, after a replay. Returns how many.
    pub fn cut(&mut self, key: &Key, lengths: impl IntoIterator<Item = (FileName, u64)>) -> Result<u64, FilesError> {
        let mut cut = 0;
        for (name, length) in lengths {
            let path = dir_of(key).join(&*name);
            let file = match self.root.open_with(&path, OpenOptions::new().write(true)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(|error| self.failed("open", key, &name, error))?,
            };
            if file.metadata().map_err(|error| self.failed("inspect", key, &name, error))?.len() > length {
                let done = fault::point("recover::cut").and_then(|()| file.set_len(length));
                done.map_err(|error| self.failed("cut", key, &name, error))?;
                cut += 1;
            }
        }
        Ok(cut)
    }

    /// A file's first `length` bytes; shorter when someone cut it.
    pub fn read(&self, key: &Key, name: &str, length: u64) -> Result<Vec<u8>, FilesError> {
        let mut bytes = Vec::new();
        match self.root.open(dir_of(key).join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => {
                let file = opened.map_err(|error| self.failed("open", key, name, error))?;
                file.take(length).read_to_end(&mut bytes).map_err(|error| self.failed("read", key, name, error))?;
            }
        }
        Ok(bytes)
    }

    /// Writes `.state`s of the journal's record `sequence`, then everything of `LOGS_DIR`'s file system to disk. A power loss
    /// on the way leaves the old states or the new ones.
    pub fn store(&mut self, states: &[(Key, Vec<u8>)], sequence: u64) -> Result<(), FilesError> {
        let mut staged = Vec::new();
        let stored = self.store_staged(states, sequence, &mut staged);
        if stored.is_err() {
            staged.iter().for_each(|(temp, ..)| self.staging.remove(temp));
        }
        stored
    }

    fn store_staged<'s>(
        &mut self,
        states: &'s [(Key, Vec<u8>)],
        sequence: u64,
        staged: &mut Vec<(String, &'s Key, PathBuf)>,
    ) -> Result<(), FilesError> {
        for (key, bytes) in states {
            let path = dir_of(key).join(STATE_FILE);
            let updated = state_file::update(&self.root, &path, self.epoch, sequence, bytes)
                .map_err(|error| self.failed("write", key, STATE_FILE, error))?;
            if let Updated::New(file) = updated {
                let temp = self.staging.write(&file).map_err(|error| self.failed("stage", key, STATE_FILE, error))?;
                staged.push((temp, key, path));
            }
        }
        self.sync()?;
        if staged.is_empty() {
            return Ok(());
        }
        for (temp, key, path) in &*staged {
            self.make_dir(key)?;
            self.staging
                .publish(temp, &self.root, path)
                .map_err(|error| self.failed("publish", key, STATE_FILE, error))?;
            fault::pass("checkpoint::state_renamed");
        }
        self.sync()
    }

    /// Syncs the whole file system: one call where thousands of files are dirty. A failure must end the process.
    pub fn sync(&self) -> Result<(), FilesError> {
        let synced = (|| {
            fault::point("checkpoint::syncfs")?;
            rustix::fs::syncfs(&self.root_file)?;
            fault::point("checkpoint::synced")
        })()
        .inspect_err(metrics::sync_failed);
        synced.map_err(|source| FilesError { action: "sync", path: self.logs_dir.clone(), source })
    }

    /// Closes what was not used for longest when too much is open.
    fn close_old(&mut self) {
        if self.open.len() > self.open_max {
            let mut used: Vec<u64> = self.open.values().map(|handle| handle.used).collect();
            let middle = used.len() / 2;
            let (_, bound, _) = used.select_nth_unstable(middle);
            let bound = *bound;
            self.open.retain(|_, handle| handle.used > bound);
        }
        if self.dirs.len() > self.open_max {
            self.dirs.clear();
        }
    }

    fn failed(&self, action: &'static str, key: &Key, name: &str, source: io::Error) -> FilesError {
        FilesError { action, path: self.logs_dir.join(dir_of(key)).join(name), source }
    }
}

fn clears(change: &&Change) -> bool {
    change.files.iter().any(|op| op.cleared().is_some())
}

/// Appends (or another operation) to one file that are done at once.
struct Run<'c> {
    file: &'c FileName,
    kind: Kind,
    parts: Vec<&'c bytes::Bytes>,
}

#[derive(Clone, Copy)]
enum Kind {
    At(u64),
    Whole,
    Gone,
}

impl Run<'_> {
    fn end(&self) -> Option<u64> {
        match self.kind {
            Kind::At(offset) => Some(offset + self.parts.iter().map(|part| part.len() as u64).sum::<u64>()),
            Kind::Whole | Kind::Gone => None,
        }
    }
}

fn join(parts: &[&bytes::Bytes]) -> Vec<u8> {
    let mut all = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| all.extend_from_slice(part));
    all
}
