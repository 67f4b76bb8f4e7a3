//! The service's folder, as an installer has it: dot-named copies, synced, then renamed in an order in which no wrong pair is
//! ever live. What was there before is kept beside it, dot-named, until the new pair is live.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// What a signature's file name has behind the signed one's.
const SIGNATURE: &str = ".minisig";
/// Largest file that is copied, in bytes: the service takes none that is larger.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// A service under another user reads them.
const FILE_MODE: u32 = 0o644;

/// What went wrong in the folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file or the folder.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The service would not look at it.
    #[error("{0} is no plugin's file: NAME.wasm, of letters, digits, `.`, `_`, `-`, at most 100 characters")]
    Name(PathBuf),
    /// It was not built yet, or stands elsewhere.
    #[error("there is no {0}: build it first (`make` in the plugin's folder)")]
    Missing(PathBuf),
    /// The plugin's folder instead of what stands in it.
    #[error("{0} is a folder: name the component in it, like {0}/NAME.wasm")]
    IsFolder(PathBuf),
    /// No service reads it.
    #[error("{0} is larger than 64 MiB, which no service takes")]
    TooLarge(PathBuf),
    /// The author's own word against the component.
    #[error("{sidecar} says sha256 = \"{said}\", but the component's is {is}: correct it, or take the line out")]
    OtherDigest {
        /// The sidecar.
        sidecar: PathBuf,
        /// What it says.
        said: String,
        /// What it should say.
        is: String,
    },
    /// What was there before is safe, but not where it was.
    #[error("the folder is not as it was before: {}{}", chain(.back), by_hand(.kept))]
    NotBack {
        /// Why not.
        back: Box<FolderError>,
        /// The old files, under their names for the time being.
        kept: Vec<PathBuf>,
        /// Why it was to be put back, if that is not told elsewhere.
        #[source]
        after: Option<Box<FolderError>>,
    },
    /// Not readable as what it is.
    #[error("{path} is not valid: {reason}")]
    Sidecar {
        /// The sidecar.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The folder.
pub(super) struct Folder {
    dir: PathBuf,
}

/// Copies that are not yet seen by the service; removed when dropped, as is what was there before, unless it could not be put
/// back.
pub(super) struct Staged {
    dir: PathBuf,
    /// `NAME.wasm`.
    pub(super) file: String,
    /// In the order in which they go in.
    copies: Vec<Copy>,
    notes: Vec<String>,
    /// The old files are all that is left of what was there: they stay.
    is_kept: bool,
}

/// A file's bytes; `None`: there is no such file.
type Bytes = Option<Vec<u8>>;

struct Copy {
    name: String,
    staged: PathBuf,
    /// The file that stood there, kept under another name.
    before: Option<PathBuf>,
    digest: [u8; 32],
    /// It stands in its place.
    is_in: bool,
}

/// The new pair, in its place.
pub(super) struct Installed(Staged);

// === impl Folder ===

impl Folder {
    /// Opens the folder, made if missing.
    pub(super) fn open(dir: &Path) -> Result<Self, FolderError> {
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Copies a component, its sidecar and their signatures beside the place where they are to stand.
    pub(super) fn stage(self, component: &Path) -> Result<Staged, FolderError> {
        if component.is_dir() {
            return Err(FolderError::IsFolder(component.to_owned()));
        }
        let name = component.file_name().and_then(|name| name.to_str());
        let file = name.filter(|name| name.ends_with(".wasm") && crate::layout::is_public_file(name));
        let file = file.ok_or_else(|| FolderError::Name(component.to_owned()))?.to_owned();
        let mut staged = Staged { dir: self.dir, file, copies: Vec::new(), notes: Vec::new(), is_kept: false };
        let wasm = read(component)?.ok_or_else(|| FolderError::Missing(component.to_owned()))?;
        let signature = read(&signature_of(component))?;
        let digest = hex(&Sha256::digest(&wasm));
        let (sidecar, sidecar_signature) = staged.sidecar_for(component, &digest, signature.is_some())?;
        let toml = staged.file.replace(".wasm", ".toml");
        for (name, bytes) in [
            (format!("{toml}{SIGNATURE}"), sidecar_signature),
            (format!("{}{SIGNATURE}", staged.file), signature),
            (toml, sidecar),
            (staged.file.clone(), Some(wasm)),
        ] {
            if let Some(bytes) = bytes {
                staged.copy(name, &bytes)?;
            }
        }
        Ok(staged)
    }
}

// === impl Staged ===

impl Staged {
    /// The component's copy.
    pub(super) fn component(&self) -> PathBuf {
        self.copy_of(&self.file).unwrap_or_default()
    }

    /// The sidecar that will stand beside it: its copy, or one that stays.
    pub(super) fn sidecar(&self) -> Option<PathBuf> {
        let toml = self.file.replace(".wasm", ".toml");
        self.copy_of(&toml).or_else(|| Some(self.dir.join(toml)).filter(|path| path.is_file()))
    }

    fn copy_of(&self, name: &str) -> Option<PathBuf> {
        self.copies.iter().find(|copy| copy.name == name).map(|copy| copy.staged.clone())
    }

    /// The sidecar as it is to stand, and its signature.
    fn sidecar_for(&mut self, component: &Path, digest: &str, is_signed: bool) -> Result<(Bytes, Bytes), FolderError> {
        let own = component.with_extension("toml");
        let there = self.dir.join(self.file.replace(".wasm", ".toml"));
        let signature = read(&signature_of(&own))?;
        let (path, text, is_own) = match read(&own)? {
            Some(text) => (own, text, true),
            // A signature says which sidecar belongs to it, or that none does.
            None if is_signed => return Ok((None, None)),
            None => match read(&there)? {
                Some(text) => {
                    self.notes.push(format!("kept the settings of {}", there.display()));
                    (there.clone(), text, false)
                }
                None => (own, Vec::new(), true),
            },
        };
        if is_own && read(&there)?.is_some_and(|old| without_digest(&old) != without_digest(&text)) {
            self.notes.push(format!("replaced {}, which said something else", there.display()));
        }
        if is_signed || signature.is_some() {
            return Ok((Some(text), signature));
        }
        match said_digest(&path, &text)? {
            Some(said) if is_own && !said.eq_ignore_ascii_case(digest) => {
                Err(FolderError::OtherDigest { sidecar: path, said, is: digest.to_owned() })
            }
            Some(said) if said.eq_ignore_ascii_case(digest) => Ok((Some(text), None)),
            _ => {
                let text = [format!("sha256 = \"{digest}\"\n").as_bytes(), &without_digest(&text)].concat();
                Ok((Some(text), None))
            }
        }
    }

    fn copy(&mut self, name: String, bytes: &[u8]) -> Result<(), FolderError> {
        let staged = self.dir.join(format!(".{name}.{:016x}.new", fastrand::u64(..)));
        let digest = Sha256::digest(bytes).into();
        self.copies.push(Copy { name, staged: staged.clone(), before: None, digest, is_in: false });
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&staged)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(failed("write", &staged))
    }

    /// Puts all in their places. After an error, what was there before is back, or the error says where it is.
    pub(super) fn publish(mut self) -> Result<Installed, FolderError> {
        match self.put_all() {
            Ok(()) => Ok(Installed(self)),
            Err(error) => match self.put_back() {
                Ok(()) => Err(error),
                Err(back) => Err(self.not_back(back, Some(error))),
            },
        }
    }

    fn put_all(&mut self) -> Result<(), FolderError> {
        for at in 0..self.copies.len() {
            self.put(at)?;
        }
        sync(&self.dir)
    }

    fn put(&mut self, at: usize) -> Result<(), FolderError> {
        let copy = &mut self.copies[at];
        if copy.is_in {
            return Ok(());
        }
        let place = self.dir.join(&copy.name);
        let before = self.dir.join(format!(".{}.{:016x}.before", copy.name, fastrand::u64(..)));
        match fs::hard_link(&place, &before) {
            Ok(()) => copy.before = Some(before),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A file system without links. A copy that is not whole goes with the rest.
            Err(_) => {
                copy.before = Some(before.clone());
                fs::copy(&place, &before).map_err(failed("keep", &place))?;
            }
        }
        fs::rename(&copy.staged, &place).map_err(failed("write", &place))?;
        copy.is_in = true;
        Ok(())
    }

    /// In the opposite order: the old component under the new sidecar is refused, the new one under the old might not be. So
    /// what comes after one that cannot be put back stays, too.
    fn put_back(&mut self) -> Result<(), FolderError> {
        self.is_kept = true;
        self.copies.iter_mut().rev().try_for_each(|copy| copy.put_back(&self.dir))?;
        self.is_kept = false;
        sync(&self.dir)
    }

    fn not_back(&self, back: FolderError, after: Option<FolderError>) -> FolderError {
        let kept = self.copies.iter().filter(|copy| copy.is_in).filter_map(|copy| copy.before.clone()).collect();
        FolderError::NotBack { back: Box::new(back), kept, after: after.map(Box::new) }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for copy in &self.copies {
            // Renamed already, mostly.
            fs::remove_file(&copy.staged).ok();
            if !(self.is_kept && copy.is_in) {
                copy.before.iter().for_each(|before| drop(fs::remove_file(before)));
            }
        }
    }
}

// === impl Copy ===

impl Copy {
    /// Undoes what was done; what was not begun is left alone, even if it looks the same.
    fn put_back(&mut self, dir: &Path) -> Result<(), FolderError> {
        if !self.is_in {
            return Ok(());
        }
        let place = dir.join(&self.name);
        // Somebody else's since: not ours to take away.
        if read(&place)?.is_some_and(|now| <[u8; 32]>::from(Sha256::digest(&now)) == self.digest) {
            match &self.before {
                Some(before) => fs::rename(before, &place).map_err(failed("put back", &place))?,
                None => fs::remove_file(&place).map_err(failed("remove", &place))?,
            }
        }
        self.is_in = false;
        Ok(())
    }
}

// === impl Installed ===

impl Installed {
    /// `NAME.wasm`.
    pub(super) fn file(&self) -> &str {
        &self.0.file
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The component's path.
    pub(super) fn component(&self) -> PathBuf {
        self.0.dir.join(&self.0.file)
    }

    /// What else there is to say.
    pub(super) fn notes(&self) -> &[String] {
        &self.0.notes
    }

    /// Puts back what was there before; says what that was.
    pub(super) fn take_back(mut self) -> Result<&'static str, FolderError> {
        let had = self.0.copies.last().is_some_and(|component| component.before.is_some());
        self.0.put_back().map_err(|back| self.0.not_back(back, None))?;
        Ok(if had { "the files that were there before are back" } else { "its files are removed again" })
    }
}

fn signature_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(SIGNATURE);
    name.into()
}

fn read(path: &Path) -> Result<Bytes, FolderError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed("read", path))?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(FolderError::TooLarge(path.to_owned())),
        false => Ok(Some(bytes)),
    }
}

fn said_digest(path: &Path, text: &[u8]) -> Result<Option<String>, FolderError> {
    let invalid = |reason: String| FolderError::Sidecar { path: path.to_owned(), reason };
    let text = std::str::from_utf8(text).map_err(|_| invalid("not UTF-8".to_owned()))?;
    let table: toml::Table =
        toml::from_str(text).map_err(|error| invalid(crate::plugin::sidecar_told(&error, text)))?;
    Ok(table.get("sha256").map(|said| said.as_str().unwrap_or_default().to_owned()))
}

/// The sidecar without a top-level `sha256`, which stands on a line of its own before the first table.
fn without_digest(text: &[u8]) -> Vec<u8> {
    let mut in_table = false;
    let mut kept = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let start = line.trim_ascii_start();
        in_table |= start.starts_with(b"[");
        let is_digest = start.strip_prefix(b"sha256").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"="));
        if in_table || !is_digest {
            kept.extend_from_slice(line);
        }
    }
    kept
}

fn sync(dir: &Path) -> Result<(), FolderError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::Io { action, path, source }
}

/// An error and its causes.
fn chain(error: &FolderError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}

fn by_hand(kept: &[PathBuf]) -> String {
    let kept: Vec<String> = kept.iter().map(|path| path.display().to_string()).collect();
    if kept.is_empty() {
        String::new()
    } else {
        format!("; the old files are kept, rename them by hand: {}", kept.join(", "))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
