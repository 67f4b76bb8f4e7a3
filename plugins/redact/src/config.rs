//! The sidecar's `[config]`: rules switched off, names and values of one's own, and what is never redacted.

use serde::Deserialize;

use crate::CODES;

/// Shortest configured value, in bytes: shorter ones would mask ordinary text.
pub const VALUE_BYTES_MIN: usize = 8;
/// Most configured values and names.
pub const ENTRIES_MAX: usize = 1000;

/// As it stands in the sidecar.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Rules that are off, by kind.
    pub disable: Vec<String>,
    /// Further names whose values are secret.
    pub keys: Vec<String>,
    /// Secrets themselves.
    pub values: Vec<String>,
    /// Patterns of what is never redacted, each for the whole of a secret.
    pub allow: Vec<String>,
}

/// A configuration that can be compiled.
pub(crate) struct Checked {
    pub(crate) disable: Vec<String>,
    /// Each in its parts, in lower case.
    pub(crate) keys: Vec<Vec<String>>,
    pub(crate) values: Vec<String>,
    pub(crate) allow: Vec<regex_lite::Regex>,
}

/// A configuration that cannot be used. Never holds a configured value.
#[derive(Debug)]
pub enum ConfigError {
    /// `disable` names a rule that there is not.
    UnknownRule(String),
    /// `keys` has an entry without two letters or digits.
    Key(String),
    /// An entry of `values`, by its index, is shorter than [`VALUE_BYTES_MIN`].
    ShortValue(usize),
    /// An entry of `allow` is no pattern.
    Pattern(String, regex_lite::Error),
    /// More than [`ENTRIES_MAX`] entries, or patterns too large to compile.
    TooLarge,
}

// === impl Config ===

impl std::fmt::Debug for Config {
    /// Without the configured values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("disable", &self.disable).field("keys", &self.keys).finish_non_exhaustive()
    }
}

// === impl Checked ===

impl Checked {
    pub(crate) fn new(raw: Config) -> Result<Self, ConfigError> {
        if raw.keys.len().max(raw.values.len()).max(raw.allow.len()) > ENTRIES_MAX {
            return Err(ConfigError::TooLarge);
        }
        if let Some(unknown) = raw.disable.iter().find(|code| !CODES.contains(&code.as_str())) {
            return Err(ConfigError::UnknownRule(unknown.clone()));
        }
        if let Some(index) = raw.values.iter().position(|value| value.len() < VALUE_BYTES_MIN) {
            return Err(ConfigError::ShortValue(index));
        }
        let keys = raw.keys.iter().map(|key| {
            let parts = key.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
            let parts: Vec<String> = parts.map(str::to_ascii_lowercase).collect();
            if parts.iter().map(String::len).sum::<usize>() < 2 {
                Err(ConfigError::Key(key.clone()))
            } else {
                Ok(parts)
            }
        });
        let allow = raw.allow.iter().map(|pattern| {
            // A pattern speaks of the whole secret, never of a part of it.
            let whole = format!("^(?:{pattern})$");
            regex_lite::Regex::new(&whole).map_err(|error| ConfigError::Pattern(pattern.clone(), error))
        });
        Ok(Self {
            keys: keys.collect::<Result<_, _>>()?,
            allow: allow.collect::<Result<_, _>>()?,
            disable: raw.disable,
            values: raw.values,
        })
    }
}

// === impl ConfigError ===

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownRule(code) => {
                write!(f, "disable: there is no rule {code:?}; the rules are {}", CODES.join(" "))
            }
            Self::Key(key) => write!(f, "keys: {key:?} needs two letters or digits"),
            Self::ShortValue(index) => write!(f, "values: entry {index} is shorter than {VALUE_BYTES_MIN} bytes"),
            Self::Pattern(pattern, error) => write!(f, "allow: {pattern:?}: {error}"),
            Self::TooLarge => write!(f, "more than {ENTRIES_MAX} entries, or too large to compile"),
        }
    }
}

impl std::error::Error for ConfigError {}
