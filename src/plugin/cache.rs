//! Compiled components on disk, so that a start does not compile again. A directory of this user alone, read whole and
//! checked before it is run; without such a directory every start compiles.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use sha2::{Digest, Sha256};
use wasmtime::{Engine, component::Component};

use super::hex;

/// Files kept; the least recently written go first.
const FILES_MAX: usize = 64;
const SUFFIX: &str = ".cwasm";
const DIGEST_BYTES: usize = 32;

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheError {
    /// An I/O failure.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What stands in it is run: no one else may write it.
    #[error("{0} belongs to another user or can be written by others")]
    Shared(PathBuf),
    /// Plugins' folder is written by others.
    #[error("{0} is inside a plugin folder")]
    InPlugins(PathBuf),
}

/// A private directory of compiled components.
pub(super) struct Cache {
    dir: PathBuf,
    /// Of the engine: a component compiled by another does not load.
    compatibility: String,
}

// === impl Cache ===

impl Cache {
    /// Opens or creates the directory, mode 0700.
    pub(super) fn open(dir: &Path, compatibility: &str, plugins: &[PathBuf]) -> Result<Self, CacheError> {
        let io = |source| CacheError::Io { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let dir = fs::canonicalize(dir).map_err(io)?;
        let meta = fs::metadata(&dir).map_err(io)?;
        if meta.uid() != rustix::process::geteuid().as_raw() || meta.permissions().mode() & 0o022 != 0 {
            return Err(CacheError::Shared(dir));
        }
        if plugins.iter().filter_map(|folder| fs::canonicalize(folder).ok()).any(|folder| dir.starts_with(folder)) {
            return Err(CacheError::InPlugins(dir));
        }
        let cache = Self { dir, compatibility: compatibility.to_owned() };
        cache.probe().map_err(io)?;
        Ok(cache)
    }

    /// A component compiled before; `None` if there is none that is whole.
    pub(super) fn get(&self, engine: &Engine, sha256: &str) -> Option<Component> {
        let mut bytes = Vec::new();
        let mut file = File::open(self.path(sha256)).ok()?;
        let meta = file.metadata().ok()?;
        if meta.uid() != rustix::process::geteuid().as_raw() || meta.permissions().mode() & 0o022 != 0 {
            return None;
        }
        file.read_to_end(&mut bytes).ok()?;
        let (digest, compiled) = bytes.split_at_checked(DIGEST_BYTES)?;
        if Sha256::digest(compiled)[..] != *digest {
            return None;
        }
        load(engine, compiled).ok()
    }

    /// Keeps a compiled component. Failing to is not an error: the next start compiles again.
    pub(super) fn put(&self, sha256: &str, compiled: &[u8]) -> io::Result<()> {
        let path = self.path(sha256);
        let staged = path.with_extension(format!("{:016x}.tmp", fastrand::u64(..)));
        let written = self.stage(&staged, compiled).and_then(|()| fs::rename(&staged, &path));
        if written.is_err() {
            // Left over at worst; the next prune does not see it as an entry.
            fs::remove_file(&staged).ok();
        }
        self.prune();
        written
    }

    /// Under a name of its own: other hosts may share the directory, with the same process ids.
    fn stage(&self, path: &Path, compiled: &[u8]) -> io::Result<()> {
        let mut file = private(path)?;
        file.write_all(&Sha256::digest(compiled))?;
        file.write_all(compiled)?;
        file.sync_all()
    }

    fn probe(&self) -> io::Result<()> {
        let path = self.dir.join(format!("probe.{:016x}.tmp", fastrand::u64(..)));
        private(&path)?;
        fs::remove_file(&path)
    }

    fn path(&self, sha256: &str) -> PathBuf {
        let key = Sha256::new().chain_update(sha256).chain_update(&self.compatibility).finalize();
        self.dir.join(format!("{}{SUFFIX}", hex(&key)))
    }

    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let mut files: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let ours = entry.file_name().to_str()?.ends_with(SUFFIX);
                ours.then_some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        files.sort();
        for (_, path) in files.iter().rev().skip(FILES_MAX) {
            // Another process may have been faster.
            fs::remove_file(path).ok();
        }
    }
}

/// Makes a component of what a compiler of this program wrote.
pub(super) fn load(engine: &Engine, compiled: &[u8]) -> wasmtime::Result<Component> {
    #[allow(
        unsafe_code,
        reason = "deserialize runs what it is given: the bytes come from our own compiler, through a pipe or through a \
                  file in a 0700 directory of this user whose digest was checked; never from a plugin folder"
    )]
    // SAFETY: see the reason above; wasmtime checks version and settings itself.
    unsafe {
        Component::deserialize(engine, compiled)
    }
}

fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}
