//! Compiled components on disk, so that a start does not compile again. A directory of this user alone; a file's name says
//! which component and engine it is for and what its bytes must be. What runs is mapped from a copy on the same disk that has
//! no name and was checked as it was copied: it costs no memory of its own, and nobody can cut or change it under the service,
//! which would end that.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::fs::{MemfdFlags, OFlags, memfd_create};
use sha2::{Digest, Sha256};
use wasmtime::{Engine, component::Component};

use super::hex;

/// Files kept; the least recently written go first.
const FILES_MAX: usize = 64;
const SUFFIX: &str = ".cwasm";
const STAGED_SUFFIX: &str = ".tmp";
/// A file that was being written when its process ended is removed after this long.
const STAGED_SECONDS_MAX: u64 = 3600;

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

/// A file to compile into; gone when dropped, unless it was kept.
pub(super) struct Staged {
    file: File,
    /// `None`: in memory.
    path: Option<PathBuf>,
}

// === impl Cache ===

impl Cache {
    /// Opens or creates the directory, mode 0700.
    pub(super) fn open(dir: &Path, compatibility: &str, plugins: &[PathBuf]) -> Result<Self, CacheError> {
        let io = |source| CacheError::Io { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let dir = fs::canonicalize(dir).map_err(io)?;
        if !is_private(&fs::metadata(&dir).map_err(io)?) {
            return Err(CacheError::Shared(dir));
        }
        if plugins.iter().filter_map(|folder| fs::canonicalize(folder).ok()).any(|folder| dir.starts_with(folder)) {
            return Err(CacheError::InPlugins(dir));
        }
        let cache = Self { dir, compatibility: compatibility.to_owned() };
        drop(cache.stage().map_err(io)?);
        Ok(cache)
    }

    /// A component compiled before; `None` if there is none that is whole.
    pub(super) fn get(&self, engine: &Engine, sha256: &str) -> Option<Component> {
        let begins = format!("{}-", self.key(sha256));
        for entry in fs::read_dir(&self.dir).ok()?.filter_map(Result::ok) {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let digest = name.strip_prefix(&begins).and_then(|rest| rest.strip_suffix(SUFFIX));
            if let Some(component) = digest.and_then(|digest| self.checked(engine, name, digest)) {
                return Some(component);
            }
        }
        None
    }

    fn checked(&self, engine: &Engine, name: &str, digest: &str) -> Option<Component> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let path = self.dir.join(name);
        let mut file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(&path).ok()?;
        let meta = file.metadata().ok()?;
        if !meta.is_file() || !is_private(&meta) {
            return None;
        }
        let (mut copy, found) = self.copy(&mut file).ok()?;
        if found != digest {
            // Cut short or damaged: compiled again.
            fs::remove_file(&path).ok();
            return None;
        }
        copy.load(engine).ok()
    }

    /// A copy without a name, and its digest, hex.
    fn copy(&self, from: &mut File) -> io::Result<(Staged, String)> {
        let mut to = self.stage()?;
        if let Some(path) = to.path.take() {
            fs::remove_file(path)?;
        }
        from.seek(SeekFrom::Start(0))?;
        let (mut digest, mut buffer) = (Sha256::new(), vec![0; 256 << 10]);
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok((to, hex(&digest.finalize()))),
                n => {
                    digest.update(&buffer[..n]);
                    to.file.write_all(&buffer[..n])?;
                }
            }
        }
    }

    /// A file to compile into. Under a name of its own: other hosts may share the directory, with the same process ids.
    pub(super) fn stage(&self) -> io::Result<Staged> {
        let path = self.dir.join(format!("{:016x}{STAGED_SUFFIX}", fastrand::u64(..)));
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Staged { file, path: Some(path) })
    }

    /// Keeps what was compiled, and gives a copy to run. Failing to is not an error: the next start compiles again.
    pub(super) fn keep(&self, staged: &mut Staged, sha256: &str) -> io::Result<Staged> {
        let (copy, digest) = self.copy(&mut staged.file)?;
        if let Some(path) = &staged.path {
            // Not synced: a file that a power loss cut short does not fit its name.
            fs::rename(path, self.dir.join(format!("{}-{digest}{SUFFIX}", self.key(sha256))))?;
            staged.path = None;
        }
        self.prune();
        Ok(copy)
    }

    fn key(&self, sha256: &str) -> String {
        hex(&Sha256::new().chain_update(sha256).chain_update(&self.compatibility).finalize())
    }

    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in entries.filter_map(Result::ok) {
            let Ok(modified) = entry.metadata().and_then(|meta| meta.modified()) else { continue };
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(SUFFIX) {
                files.push((modified, entry.path()));
            } else if name.ends_with(STAGED_SUFFIX)
                && modified.elapsed().is_ok_and(|age| age.as_secs() > STAGED_SECONDS_MAX)
            {
                fs::remove_file(entry.path()).ok();
            }
        }
        files.sort();
        for (_, path) in files.iter().rev().skip(FILES_MAX) {
            // Another process may have been faster.
            fs::remove_file(path).ok();
        }
    }
}

// === impl Staged ===

impl Staged {
    /// One in memory, where there is no directory.
    pub(super) fn in_memory() -> io::Result<Self> {
        let file = File::from(memfd_create("compiled", MemfdFlags::CLOEXEC)?);
        Ok(Self { file, path: None })
    }

    /// The file, to write into.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// What was compiled into it by this program.
    pub(super) fn load(&mut self, engine: &Engine) -> wasmtime::Result<Component> {
        load(engine, &mut self.file)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Left over at worst, until the next prune.
            fs::remove_file(path).ok();
        }
    }
}

/// Of this user, and written by nobody else.
fn is_private(meta: &fs::Metadata) -> bool {
    meta.uid() == rustix::process::geteuid().as_raw() && meta.permissions().mode() & 0o022 == 0
}

/// Makes a component of what a compiler of this program wrote: mapped, or read where mapping for execution is not allowed.
fn load(engine: &Engine, file: &mut File) -> wasmtime::Result<Component> {
    // This very file, whatever has its name by now.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    #[allow(
        unsafe_code,
        reason = "deserialize runs what it is given: the bytes come from our own compiler, in a file that it wrote for this \
                  process or a copy, checked by its digest, of one in a 0700 directory of this user; never from a plugin \
                  folder; such a file has no name or loses it right away, and is not changed while it is mapped"
    )]
    // SAFETY: see the reason above; wasmtime checks version and settings itself.
    unsafe {
        if let Ok(component) = Component::deserialize_file(engine, path) {
            return Ok(component);
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut bytes)?;
        Component::deserialize(engine, bytes)
    }
}
