//! Who may do what over HTTP: tokens with scopes, from a file that is read again when it changes. Only digests are kept, and a
//! given token is compared with all of them, so that the time it takes tells nothing of any.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};

use crate::config::Secret;

/// Largest file, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// Longest name of a token: it stands in the log.
const NAME_CHARS_MAX: usize = 64;
/// What stands before a digest in place of a token.
const DIGEST_PREFIX: &str = "sha256:";

/// What a token may be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every `GET`: logs, lists, metrics, plugins.
    Read,
    /// `POST /events`.
    Ingest,
    /// Everything that changes how the service works: lifting a plugin's requirement.
    Admin,
}

/// A token, by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    name: Arc<str>,
    scopes: Vec<Scope>,
    digest: [u8; 32],
}

/// All tokens that are good at the moment.
#[derive(Debug)]
pub struct Tokens {
    /// `API_TOKEN`: good for everything.
    fixed: Option<Token>,
    /// `API_TOKENS_FILE`.
    file: Option<PathBuf>,
    listed: ArcSwap<Vec<Token>>,
    /// The file as it was when it was last read.
    seen: Mutex<Option<Stamp>>,
}

/// Which state of a file was read.
type Stamp = (u64, u64, i64, i64);

/// Why a file of tokens cannot be used. No text of it is told: a line in the wrong form may be a token.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// It is too large.
    #[error("is larger than {FILE_MAX} bytes")]
    TooLarge,
    /// It is not text.
    #[error("is no UTF-8 text")]
    NotText,
    /// A line has another form.
    #[error("line {line} {reason}")]
    Line {
        /// From 1 on.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

// === impl Scope ===

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Ingest, Self::Admin];

    /// As it stands in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Ingest => "ingest",
            Self::Admin => "admin",
        }
    }
}

// === impl Token ===

impl Token {
    /// Its name: no secret.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether it is good for that.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    fn parse(line: &str) -> Result<Self, &'static str> {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(scopes), Some(token), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err("is not of the form `NAME SCOPE[,SCOPE] TOKEN`");
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
        if name.len() > NAME_CHARS_MAX || !name.chars().all(plain) {
            return Err(
                "has a name with other characters than letters, digits, `.`, `_`, `-` and `@`, or one too long",
            );
        }
        let scope = |text: &str| Scope::ALL.into_iter().find(|scope| scope.as_str() == text);
        let Some(scopes) = scopes.split(',').map(scope).collect() else {
            return Err("has other scopes than read, ingest and admin");
        };
        let digest = match token.strip_prefix(DIGEST_PREFIX) {
            Some(hex) => unhexed(hex).ok_or("has a digest that is not 64 hexadecimal digits")?,
            None if token.len() < 8 => return Err("has a token of less than 8 characters"),
            None if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                return Err("has a token of other characters than printable ASCII");
            }
            None => digest(token.as_bytes()),
        };
        Ok(Self { name: name.into(), scopes, digest })
    }
}

// === impl Tokens ===

impl Tokens {
    /// `API_TOKEN`, and what `API_TOKENS_FILE` lists.
    pub fn new(fixed: Option<&Secret>, file: Option<&Path>) -> Result<Self, TokensError> {
        let fixed = fixed.map(|token| Token {
            name: "API_TOKEN".into(),
            scopes: Scope::ALL.to_vec(),
            digest: digest(token.expose().as_bytes()),
        });
        let tokens = Self { fixed, file: file.map(Path::to_owned), listed: ArcSwap::default(), seen: Mutex::default() };
        tokens.refresh()?;
        Ok(tokens)
    }

    /// Whether nobody is asked for a token.
    pub fn is_open(&self) -> bool {
        self.fixed.is_none() && self.file.is_none()
    }

    /// The token that was given, if it is good for anything.
    pub fn find(&self, given: &[u8]) -> Option<Token> {
        let given = digest(given);
        let listed = self.listed.load();
        // To the end, wherever it is found.
        let found =
            self.fixed.iter().chain(listed.iter()).fold(None, |found, token| match same(&given, &token.digest) {
                true => Some(token),
                false => found,
            });
        found.cloned()
    }

    /// Reads the file again if it has changed; tells whether it was. As long as it is not good, what it said before holds; the error
    /// comes once for each state of it.
    pub fn refresh(&self) -> Result<bool, TokensError> {
        let Some(path) = &self.file else { return Ok(false) };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let found = fs::metadata(path);
        let stamp = found.as_ref().ok().map(|found| (found.ino(), found.len(), found.mtime(), found.mtime_nsec()));
        // A file that is gone is told once too.
        let stamp = stamp.unwrap_or_default();
        if seen.replace(stamp) == Some(stamp) {
            return Ok(false);
        }
        self.listed.store(Arc::new(read(path)?));
        Ok(true)
    }
}

fn read(path: &Path) -> Result<Vec<Token>, TokensError> {
    let file = fs::File::open(path).map_err(TokensError::Read)?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(TokensError::Read)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(TokensError::TooLarge);
    }
    parse(std::str::from_utf8(&bytes).map_err(|_| TokensError::NotText)?)
}

/// A token a line; empty lines and those that begin with `#` are none.
fn parse(text: &str) -> Result<Vec<Token>, TokensError> {
    let mut tokens: Vec<Token> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let refused = |reason| TokensError::Line { line: at + 1, reason };
        let token = Token::parse(line).map_err(refused)?;
        if tokens.iter().any(|known| known.digest == token.digest) {
            return Err(refused("has a token that an earlier line has"));
        }
        tokens.push(token);
    }
    Ok(tokens)
}

fn digest(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

fn unhexed(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (byte, digits) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let digit = |at: usize| digits.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "page read s3cret-page\n";

    #[test]
    fn tokens_are_good_for_their_scopes() {
        let hex = "8C6976E5B5410415BDE908BD4DEE15DFB167A9C873FC4BB8A81F6F2AB448A918"; // of `admin`
        let text = format!("# who\n\n{PAGE}ci.prod@x read,ingest  another-one\nroot admin sha256:{hex}\n");
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("tokens");
        fs::write(&path, text).unwrap();
        let tokens = Tokens::new(Some(&Secret::new("all")), Some(&path)).unwrap();
        assert!(!tokens.is_open() && Tokens::new(None, None).unwrap().is_open());
        let scopes = |given: &str| {
            tokens.find(given.as_bytes()).map(|token| {
                let scopes = Scope::ALL.into_iter().filter(|scope| token.allows(*scope)).map(Scope::as_str);
                format!("{} {}", token.name(), scopes.collect::<Vec<_>>().join(","))
            })
        };
        assert_eq!(scopes("s3cret-page").as_deref(), Some("page read"));
        assert_eq!(scopes("another-one").as_deref(), Some("ci.prod@x read,ingest"));
        assert_eq!(scopes("admin").as_deref(), Some("root admin"));
        assert_eq!(scopes("all").as_deref(), Some("API_TOKEN read,ingest,admin"));
        for bad in ["", "s3cret-pag", "s3cret-page ", hex, &format!("sha256:{hex}"), "page"] {
            assert_eq!(scopes(bad), None, "{bad}");
        }
    }

    #[test]
    fn lines_of_another_form_are_named_by_their_number_alone() {
        for bad in [
            "SECRETTOKEN",
            "name SECRETTOKEN",
            "name read SECRETTOKEN more",
            "na/me read SECRETTOKEN",
            "name write SECRETTOKEN",
            "name read,,ingest SECRETTOKEN",
            "name READ SECRETTOKEN",
            "name read short",
            "name read sha256:SECRET",
            "name read sëcrettoken",
            "again read s3cret-page",
        ] {
            let error = parse(&format!("{PAGE}{bad}\n")).unwrap_err().to_string();
            assert!(error.starts_with("line 2 ") && !error.contains("SECRET"), "{bad}: {error}");
        }
        assert!(parse("").unwrap().is_empty());
        assert!(parse(&format!("{} read SECRETTOKEN", "n".repeat(65))).is_err());
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_a_bad_one_changes_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("tokens");
        assert!(matches!(Tokens::new(None, Some(&path)), Err(TokensError::Read(_))));
        let replace = |text: &str| {
            fs::write(temp.path().join("new"), text).unwrap();
            fs::rename(temp.path().join("new"), &path).unwrap();
        };
        replace(PAGE);
        let tokens = Tokens::new(None, Some(&path)).unwrap();
        let good = |token: &str| tokens.find(token.as_bytes()).is_some();
        assert!(good("s3cret-page") && !tokens.refresh().unwrap());
        replace("page read s3cret-next\n");
        assert!(tokens.refresh().unwrap());
        assert!(good("s3cret-next") && !good("s3cret-page"));
        replace("nonsense\n");
        assert!(tokens.refresh().is_err() && good("s3cret-next"));
        assert!(!tokens.refresh().unwrap(), "told once");
        fs::remove_file(&path).unwrap();
        assert!(tokens.refresh().is_err() && good("s3cret-next"));
        assert!(!tokens.refresh().unwrap());
        replace("");
        assert!(tokens.refresh().unwrap() && !good("s3cret-next") && !tokens.is_open());
        replace(&"#".repeat(FILE_MAX as usize + 1));
        assert!(matches!(tokens.refresh(), Err(TokensError::TooLarge)));
    }
}
