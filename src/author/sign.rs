//! `plugin keygen` and `plugin sign`: keys and signatures in files, which minisign reads and writes, too. Secrets go into a
//! file of mode 0600 and nowhere else.

use std::{
    env,
    fs::{self, File},
    io::{self, IsTerminal as _, Read as _, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use super::minisign::{self, KeyError, SecretKey};
use crate::{cli::Password, plugin, trust::SIGNATURE_SUFFIX};

/// Holds a key's password where nobody is there to type it.
const PASSWORD_VARIABLE: &str = "PLUGIN_KEY_PASSWORD";
/// Largest file that a key or a password is read from, in bytes.
const SECRET_FILE_MAX: u64 = 64 << 10;
/// Largest file that is signed, in bytes: the service takes no larger component.
const SIGNED_BYTES_MAX: u64 = 64 << 20;

/// Why there is no key or no signature.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A file.
    #[error("cannot {attempt} {path}")]
    File {
        /// What was tried.
        attempt: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Keys are never overwritten.
    #[error("{0} is there already: keys are never overwritten")]
    Exists(PathBuf),
    /// The secret key.
    #[error("{0} {1}")]
    Key(PathBuf, KeyError),
    /// No password.
    #[error(
        "no password: type it in a terminal, or give --password-file FILE or {PASSWORD_VARIABLE}, or make the key with --unencrypted"
    )]
    NoPassword,
    /// Typed differently.
    #[error("the two passwords differ")]
    Differ,
    /// Nothing protects the key, and nobody said so.
    #[error("the password is empty: use --unencrypted for a key without one")]
    Empty,
    /// Too much to be a plugin.
    #[error("{0} is larger than 64 MiB: the service does not take it")]
    TooLarge(PathBuf),
    /// Not a component's name.
    #[error("{0} does not end in .wasm: name the component, its sidecar is signed with it")]
    Name(PathBuf),
    /// The output.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

/// Makes a pair of keys.
pub(super) fn keygen(out: &Path, password: &Password, to: &mut dyn Write) -> Result<ExitCode, SignError> {
    let public = public_of(out);
    for path in [out, &public] {
        // A dangling link is there, too.
        if fs::symlink_metadata(path).is_ok() {
            return Err(SignError::Exists(path.to_owned()));
        }
    }
    let password = match password {
        Password::None => None,
        other => Some(secret_text(other, true)?),
    };
    let keys = minisign::generate(password.as_deref().map(str::as_bytes))
        .map_err(|error| SignError::Key(out.into(), error))?;
    create(out, 0o600, keys.secret.as_bytes())?;
    if let Err(error) = create(&public, 0o644, keys.public.as_bytes()) {
        // A secret key alone is of no use, and would be in the way of the next try.
        fs::remove_file(out).ok();
        return Err(error);
    }
    writeln!(to, "key {}", keys.id)?;
    writeln!(to, "secret: {} (keep it; whoever has it can sign plugins)", out.display())?;
    writeln!(to, "public: {}", public.display())?;
    writeln!(to, "The service asks for its signatures with PLUGIN_TRUSTED_KEYS={}", keys.line)?;
    Ok(ExitCode::SUCCESS)
}

/// Signs a component and, if there is one, its sidecar, as a pair.
pub(super) fn sign(file: &Path, key: &Path, password: &Password, to: &mut dyn Write) -> Result<ExitCode, SignError> {
    let name = file.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".wasm"));
    let name = name.ok_or_else(|| SignError::Name(file.to_owned()))?;
    let sidecar = file.with_extension("toml");
    let wasm = read(file, SIGNED_BYTES_MAX)?;
    let sidecar_bytes = match read(&sidecar, SIGNED_BYTES_MAX) {
        Ok(bytes) => Some(bytes),
        Err(SignError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let text = read_text(key)?;
    let failed = |error| SignError::Key(key.to_owned(), error);
    let password =
        if minisign::is_encrypted(&text).map_err(failed)? { Some(secret_text(password, false)?) } else { None };
    let secret = SecretKey::open(&text, password.as_deref().map(str::as_bytes)).map_err(failed)?;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let comment = |name: &str| format!("timestamp:{seconds}\tfile:{}\thashed", name.replace(char::is_control, "?"));
    // The sidecar's signature first: with the component's the pair is complete.
    if let Some(bytes) = &sidecar_bytes {
        let name = sidecar.file_name().unwrap_or_default().to_string_lossy();
        put(&signature_of(&sidecar), &secret.sign(bytes, &comment(&name)))?;
        writeln!(to, "signed {} by key {}", sidecar.display(), secret.id())?;
    }
    let comment = format!("{}\t{}", comment(name), plugin::binding(sidecar_bytes.as_deref()));
    put(&signature_of(file), &secret.sign(&wasm, &comment))?;
    writeln!(to, "signed {} by key {}", file.display(), secret.id())?;
    if sidecar_bytes.is_none() {
        writeln!(to, "without a sidecar: sign again when you add {}", sidecar.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `NAME.pub` for `NAME.key`; else `.pub` is added.
fn public_of(secret: &Path) -> PathBuf {
    if secret.extension().is_some_and(|extension| extension == "key") {
        return secret.with_extension("pub");
    }
    with_suffix(secret, ".pub")
}

fn signature_of(file: &Path) -> PathBuf {
    with_suffix(file, SIGNATURE_SUFFIX)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A password: from a file, the environment, or whoever sits there.
fn secret_text(password: &Password, new: bool) -> Result<String, SignError> {
    let text = match password {
        Password::File(path) => {
            let text = read_text(path)?;
            let line = text.strip_suffix('\n').unwrap_or(&text);
            line.strip_suffix('\r').unwrap_or(line).to_owned()
        }
        _ => match env::var(PASSWORD_VARIABLE) {
            Ok(text) if !text.is_empty() => text,
            _ if io::stdin().is_terminal() => ask(new)?,
            _ => return Err(SignError::NoPassword),
        },
    };
    if text.is_empty() && new { Err(SignError::Empty) } else { Ok(text) }
}

fn ask(new: bool) -> Result<String, SignError> {
    let prompt = |text: &str| rpassword::prompt_password(text).map_err(|_| SignError::NoPassword);
    let password = prompt("Password of the key: ")?;
    if new && prompt("The same again: ")? != password {
        return Err(SignError::Differ);
    }
    Ok(password)
}

fn read(path: &Path, max: u64) -> Result<Vec<u8>, SignError> {
    let failed = |source| SignError::File { attempt: "read", path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(max + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|n| n <= max) {
        Ok(bytes)
    } else {
        Err(SignError::TooLarge(path.to_owned()))
    }
}

fn read_text(path: &Path) -> Result<String, SignError> {
    let invalid = |_| SignError::Key(path.to_owned(), KeyError::Format);
    String::from_utf8(read(path, SECRET_FILE_MAX)?).map_err(invalid)
}

/// A new file; never another's.
fn create(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), SignError> {
    let written = || -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    written().map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => SignError::Exists(path.to_owned()),
        _ => SignError::File { attempt: "create", path: path.to_owned(), source },
    })
}

/// A signature in its place, whole: a service may be looking.
fn put(path: &Path, text: &str) -> Result<(), SignError> {
    let staged = with_suffix(path, &format!(".{:016x}.tmp", fastrand::u64(..)));
    let written = fs::write(&staged, text).and_then(|()| fs::rename(&staged, path));
    written.map_err(|source| {
        // Left over at worst.
        fs::remove_file(&staged).ok();
        SignError::File { attempt: "write", path: path.to_owned(), source }
    })
}
