//! Which plugins must run before anything is read, and what is remembered of that over restarts, with the bytes of each
//! plugin that last ran well. Lives in `STATE_DIR/plugins`, 0700.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    last_good,
    loader::{Candidate, Plugin},
};
use crate::{config::Required, folder};

const DIR: &str = "plugins";
const LIST: &str = "required.json";
const PAIR_SUFFIX: &str = ".last-good";
const PREVIOUS_SUFFIX: &str = ".before";
const SPOILED_SUFFIX: &str = ".taken-back";

/// Why the memory of plugins failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {attempt} {path}: {source}")]
pub struct MemoryError {
    attempt: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The requirement and its memory.
#[derive(Debug)]
pub(super) struct Requirements {
    mode: Required,
    memory: Memory,
    known: BTreeMap<String, Known>,
}

/// What is remembered of a plugin that was live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// It was a redactor: only a redactor of its name takes its place.
    redactor: bool,
    /// Its sidecar said `required = true`.
    sidecar: bool,
    /// Its file, for the last good bytes.
    file: String,
}

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    dir: PathBuf,
}

// === impl Requirements ===

impl Requirements {
    /// Opens the memory below `STATE_DIR`.
    pub(super) fn open(mode: Required, state_dir: &Path) -> Result<Self, MemoryError> {
        let memory = Memory::open(state_dir)?;
        let known = memory.read_known()?;
        Ok(Self { mode, memory, known })
    }

    /// Nothing is required and nothing remembered: an author's desk.
    pub(super) fn nothing() -> Self {
        Self { mode: Required::None, memory: Memory { dir: PathBuf::new() }, known: BTreeMap::new() }
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// A plugin went live.
    pub(super) fn learn(&mut self, plugin: &Plugin) -> Result<(), MemoryError> {
        let name = plugin.name().to_string();
        let known = Known {
            // Once a redactor, always one, until forgotten.
            redactor: plugin.is_redactor() || self.known.get(&name).is_some_and(|known| known.redactor),
            sidecar: plugin.sidecar.required,
            file: plugin.file.clone(),
        };
        let worth = known.redactor || known.sidecar;
        let changed = if worth {
            self.known.insert(name, known.clone()) != Some(known)
        } else {
            self.known.remove(&name).is_some()
        };
        if changed { self.memory.write_known(&self.known) } else { Ok(()) }
    }

    /// Drops what is remembered of a name; false if nothing was.
    pub(super) fn forget(&mut self, name: &str) -> Result<bool, MemoryError> {
        let Some(known) = self.known.remove(name) else { return Ok(false) };
        self.memory.write_known(&self.known)?;
        self.memory.remove(&known.file)?;
        Ok(true)
    }

    /// Whether the operator's list names it: forgetting does not lift that.
    pub(super) fn is_listed(&self, name: &str) -> bool {
        matches!(&self.mode, Required::List(names) if names.iter().any(|listed| listed == name))
    }

    /// Whether nothing is required, by the operator's word.
    pub(super) fn is_none(&self) -> bool {
        self.mode == Required::None
    }

    /// Required names, sorted.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = match &self.mode {
            Required::None => Vec::new(),
            Required::Redactors => self.known.keys().map(String::as_str).collect(),
            Required::List(names) => {
                let own = self.known.iter().filter(|(_, known)| known.sidecar).map(|(name, _)| name.as_str());
                names.iter().map(String::as_str).chain(own).collect()
            }
        };
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Required names that these plugins do not satisfy.
    pub(super) fn missing<'a>(&'a self, live: &[Arc<Plugin>]) -> Vec<&'a str> {
        let is_met = |name: &str| {
            let redactor = self.known.get(name).is_some_and(|known| known.redactor);
            live.iter().any(|plugin| **plugin.name() == *name && (plugin.is_redactor() || !redactor))
        };
        self.names().into_iter().filter(|name| !is_met(name)).collect()
    }

    /// The file that a required plugin came from, if it was ever live.
    pub(super) fn file_of(&self, name: &str) -> Option<&str> {
        self.known.get(name).map(|known| known.file.as_str())
    }

    /// Whether a file's last good bytes stand for a requirement.
    pub(super) fn needs_file(&self, file: &str) -> bool {
        self.names().into_iter().any(|name| self.file_of(name) == Some(file))
    }
}

/// Lifts a requirement where no service runs: drops what `STATE_DIR` remembers of a name; false if nothing was.
///
/// # Errors
/// The directory cannot be read or written.
pub fn forget_in(state_dir: &Path, name: &str) -> Result<bool, MemoryError> {
    Requirements::open(Required::Redactors, state_dir)?.forget(name)
}

/// Takes over what the service of `STATE_DIR` requires, for a host of another state folder; nothing if there was no service.
///
/// # Errors
/// What is required cannot be read, or not be written.
pub fn inherit_requirements(state_dir: &Path, to: &Path) -> Result<(), MemoryError> {
    // Not opened as the service does, which would make the folder.
    let known = Memory { dir: state_dir.join(DIR) }.read_known()?;
    if known.is_empty() { Ok(()) } else { Memory::open(to)?.write_known(&known) }
}

// === impl Memory ===

impl Memory {
    fn open(state_dir: &Path) -> Result<Self, MemoryError> {
        let dir = state_dir.join(DIR);
        let create = || {
            folder::make(state_dir, 0o750)?;
            folder::make(&dir, 0o700)
        };
        create().map_err(failed("create", &dir))?;
        Ok(Self { dir })
    }

    /// Keeps the bytes of a plugin that went live, and those that were kept before it for [`Memory::take_back`].
    pub(super) fn keep(&self, candidate: &Candidate) -> Result<(), MemoryError> {
        let path = self.path(&candidate.file, PAIR_SUFFIX);
        let head = last_good::head(candidate).map_err(failed("encode", &path))?;
        let known = || File::open(&path).ok();
        if !known().is_some_and(|file| last_good::is_same(file, &head, &candidate.wasm)) {
            // The same pair signed anew is not a version after it.
            if known().is_some_and(|file| last_good::pair_of(file).as_ref() != Some(&candidate.pair())) {
                let previous = self.path(&candidate.file, PREVIOUS_SUFFIX);
                fs::rename(&path, &previous).map_err(failed("rename", &path))?;
            }
            self.write(&path, |file| last_good::write(file, &head, &candidate.wasm))?;
        }
        self.unlink(&self.path(&candidate.file, SPOILED_SUFFIX))
    }

    /// A pair failed on too many events: the bytes before it are the last good ones, and it is not to be taken again.
    pub(super) fn take_back(&self, file: &str, pair: &str) -> Result<(), MemoryError> {
        let path = self.path(file, PAIR_SUFFIX);
        self.write(&self.path(file, SPOILED_SUFFIX), |file| file.write_all(pair.as_bytes()))?;
        match fs::rename(self.path(file, PREVIOUS_SUFFIX), &path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("rename", &path)(error)),
            _ => Ok(()),
        }
    }

    /// The pair of a file that was taken back, if one was.
    pub(super) fn spoiled(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.path(file, SPOILED_SUFFIX)).ok()
    }

    /// Gives a pair that was taken back another chance.
    pub(super) fn unspoil(&self, file: &str) -> Result<(), MemoryError> {
        self.unlink(&self.path(file, SPOILED_SUFFIX))
    }

    /// The last good bytes of a file, if there are any.
    pub(super) fn last_good(&self, file: &str, dir: &Path) -> Result<Option<Candidate>, MemoryError> {
        let path = self.path(file, PAIR_SUFFIX);
        let file_of = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let (wasm, sidecar, signatures) = last_good::read(file_of).map_err(failed("read", &path))?;
        Ok(Some(Candidate { file: file.to_owned(), dir: dir.to_owned(), wasm, sidecar, signatures }))
    }

    /// Forgets all bytes of a file.
    pub(super) fn remove(&self, file: &str) -> Result<(), MemoryError> {
        [PAIR_SUFFIX, PREVIOUS_SUFFIX, SPOILED_SUFFIX]
            .iter()
            .try_for_each(|suffix| self.unlink(&self.path(file, suffix)))
    }

    fn unlink(&self, path: &Path) -> Result<(), MemoryError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
            _ => Ok(()),
        }
    }

    fn read_known(&self) -> Result<BTreeMap<String, Known>, MemoryError> {
        let path = self.dir.join(LIST);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        // Not knowing what is required must not read as nothing is.
        serde_json::from_slice(&text).map_err(|error| failed("read", &path)(error.into()))
    }

    fn write_known(&self, known: &BTreeMap<String, Known>) -> Result<(), MemoryError> {
        let path = self.dir.join(LIST);
        let text = serde_json::to_vec_pretty(known).map_err(|error| failed("write", &path)(error.into()))?;
        self.write(&path, |file| file.write_all(&text))
    }

    fn write(&self, path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), MemoryError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        // Other hosts may share the directory, with the same process ids.
        name.push(format!(".{:016x}.tmp", fastrand::u64(..)));
        let staged = self.dir.join(name);
        let publish = || -> io::Result<()> {
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
            fill(&mut file)?;
            file.sync_all()?;
            fs::rename(&staged, path)?;
            File::open(&self.dir)?.sync_all()
        };
        publish().map_err(|error| {
            // Left over at worst.
            fs::remove_file(&staged).ok();
            failed("write", path)(error)
        })
    }

    fn path(&self, file: &str, suffix: &str) -> PathBuf {
        // File names are checked by the watcher: letters, digits, `.`, `_`, `-`.
        self.dir.join(format!("{file}{suffix}"))
    }
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MemoryError {
    let path = path.to_owned();
    move |source| MemoryError { attempt, path, source }
}
