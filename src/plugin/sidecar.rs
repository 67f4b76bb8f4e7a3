//! `NAME.toml` beside `NAME.wasm`: what the operator says of a plugin. Parsed once into values that hold, with the
//! operator's ceilings applied; unknown keys are errors.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use super::{hex, instance::Limits, kinds::Kinds};

/// CPU time of a call where the sidecar says nothing.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);
/// Memory where the sidecar says nothing, in bytes.
const MEMORY_DEFAULT: usize = 64 << 20;
/// Less cannot hold a guest's stack and one event.
const MEMORY_MIN: usize = 1 << 20;
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// Why a sidecar is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SidecarError {
    /// Not UTF-8.
    #[error("the sidecar is not UTF-8")]
    Text,
    /// Not TOML, an unknown key, a wrong type.
    #[error("the sidecar is not valid: {0}")]
    Toml(String),
    /// A value that breaks its rule.
    #[error("the sidecar's {key} = {value:?} is not valid: expected {rule}")]
    Value {
        /// Key.
        key: &'static str,
        /// As written.
        value: String,
        /// What was expected.
        rule: &'static str,
    },
    /// Two keys that do not go together.
    #[error("the sidecar says mode = \"shadow\" and required = true: what only watches cannot be required")]
    ShadowRequired,
    /// The pair does not belong together, or is half written.
    #[error("the sidecar's sha256 is {expected}, the component's is {found} (write NAME.wasm first, then NAME.toml)")]
    Digest {
        /// In the sidecar.
        expected: String,
        /// Of the bytes.
        found: String,
    },
}

/// What the operator says of a plugin.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sidecar {
    pub(super) on_failure: OnFailure,
    pub(super) required: bool,
    /// `None`: all that the manifest wants.
    pub(super) kinds: Option<Kinds>,
    pub(super) limits: Limits,
    pub(super) isolation: Isolation,
    /// It watches and decides nothing.
    pub(super) shadow: bool,
    /// `[config]` as JSON text.
    pub(super) config: String,
}

/// What becomes of an event on which a plugin fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnFailure {
    /// To the dead letter.
    #[default]
    Quarantine,
    /// As if the plugin were not there; refused for redactors.
    Skip,
    /// Nothing is read until the plugin changes.
    Halt,
}

/// How long an instance lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Isolation {
    /// One call.
    #[default]
    Call,
    /// Until it is worn out or replaced.
    Reuse,
}

/// The operator's ceilings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceilings {
    pub(super) memory: usize,
    pub(super) timeout: Duration,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    on_failure: OnFailure,
    required: bool,
    kinds: Option<Vec<String>>,
    timeout: Option<String>,
    memory: Option<String>,
    isolation: Isolation,
    mode: Mode,
    sha256: Option<String>,
    config: toml::Table,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Enforce,
    Shadow,
}

// === impl OnFailure ===

impl OnFailure {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Quarantine => "quarantine",
            Self::Skip => "skip",
            Self::Halt => "halt",
        }
    }
}

// === impl Sidecar ===

impl Sidecar {
    /// Parses the text of a sidecar (`None`: there is none) for a component with this digest.
    pub(super) fn parse(text: Option<&[u8]>, sha256: &str, ceilings: Ceilings) -> Result<Self, SidecarError> {
        let text = std::str::from_utf8(text.unwrap_or_default()).map_err(|_| SidecarError::Text)?;
        let raw: Raw = toml::from_str(text).map_err(|error| SidecarError::Toml(told(&error, text)))?;
        if let Some(expected) = raw.sha256
            && !expected.eq_ignore_ascii_case(sha256)
        {
            let expected = expected.chars().take(64).collect();
            return Err(SidecarError::Digest { expected, found: sha256.to_owned() });
        }
        let shadow = matches!(raw.mode, Mode::Shadow);
        if shadow && raw.required {
            return Err(SidecarError::ShadowRequired);
        }
        let kinds = match raw.kinds {
            Some(kinds) => Some(Kinds::parse(&kinds).map_err(|value| SidecarError::Value {
                key: "kinds",
                value,
                rule: "kinds like \"task:output\", \"task:*\" or \"*\"",
            })?),
            None => None,
        };
        let timeout = match raw.timeout {
            Some(value) => duration(&value).filter(|timeout| *timeout >= TIMEOUT_MIN).ok_or(SidecarError::Value {
                key: "timeout",
                value,
                rule: "a duration like \"500ms\", \"2s\" or \"1m\"",
            })?,
            None => TIMEOUT_DEFAULT,
        };
        let memory = match raw.memory {
            Some(value) => size(&value).filter(|memory| *memory >= MEMORY_MIN).ok_or(SidecarError::Value {
                key: "memory",
                value,
                rule: "a size like \"64MiB\" or \"1GiB\", at least 1MiB",
            })?,
            None => MEMORY_DEFAULT,
        };
        let limits = Limits { timeout: timeout.min(ceilings.timeout), memory: memory.min(ceilings.memory) };
        let config = Value::Object(object(&raw.config)?).to_string();
        let Raw { on_failure, required, isolation, .. } = raw;
        Ok(Self { on_failure, required, kinds, limits, isolation, shadow, config })
    }

    /// Digest of `[config]`, hex.
    pub(super) fn config_hash(&self) -> String {
        hex(&Sha256::digest(self.config.as_bytes()))
    }
}

/// `NAME.toml` of `NAME.wasm`.
pub(super) fn name_of(file: &str) -> String {
    format!("{}.toml", file.strip_suffix(".wasm").unwrap_or(file))
}

/// The component's digest that a sidecar names, if it can be read and names one.
pub(super) fn pinned(text: &[u8]) -> Option<String> {
    let table: toml::Table = toml::from_str(std::str::from_utf8(text).ok()?).ok()?;
    table.get("sha256")?.as_str().map(str::to_owned)
}

/// An error in one line, with its own line and key. Other text of the sidecar is not shown: it may be a secret's.
pub(crate) fn told(error: &toml::de::Error, text: &str) -> String {
    let message: String = error.message().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return message };
    let line = before.matches('\n').count();
    let key = text.lines().nth(line).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
    let is_key = |key: &&str| {
        !key.is_empty() && key.len() <= 64 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    match key.filter(is_key) {
        Some(key) => format!("line {}, {key}: {message}", line + 1),
        None => format!("line {}: {message}", line + 1),
    }
}

fn object(table: &toml::Table) -> Result<Map<String, Value>, SidecarError> {
    table.iter().map(|(key, value)| Ok((key.clone(), json(value)?))).collect()
}

fn json(value: &toml::Value) -> Result<Value, SidecarError> {
    Ok(match value {
        toml::Value::String(text) => Value::String(text.clone()),
        toml::Value::Integer(n) => Value::Number((*n).into()),
        toml::Value::Float(n) => Value::Number(Number::from_f64(*n).ok_or_else(|| SidecarError::Value {
            key: "config",
            value: n.to_string(),
            rule: "numbers that JSON can express",
        })?),
        toml::Value::Boolean(flag) => Value::Bool(*flag),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => Value::Array(items.iter().map(json).collect::<Result<_, _>>()?),
        toml::Value::Table(table) => Value::Object(object(table)?),
    })
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    Some((number.parse().ok()?, unit.trim()))
}

fn duration(text: &str) -> Option<Duration> {
    let (n, unit) = split(text)?;
    match unit {
        "ms" => Some(Duration::from_millis(n)),
        "s" => Some(Duration::from_secs(n)),
        "m" | "min" => n.checked_mul(60).map(Duration::from_secs),
        _ => None,
    }
}

fn size(text: &str) -> Option<usize> {
    let (n, unit) = split(text)?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return None,
    };
    usize::try_from(n).ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CEILINGS: Ceilings = Ceilings { memory: 128 << 20, timeout: Duration::from_secs(5) };

    fn parse(text: &str) -> Result<Sidecar, SidecarError> {
        Sidecar::parse(Some(text.as_bytes()), "ab12", CEILINGS)
    }

    #[test]
    fn nothing_means_defaults() {
        let sidecar = Sidecar::parse(None, "ab12", CEILINGS).unwrap();
        assert_eq!(sidecar, parse("").unwrap());
        assert_eq!(sidecar.config, "{}");
        assert_eq!(sidecar.limits, Limits { timeout: Duration::from_secs(1), memory: 64 << 20 });
        assert_eq!((sidecar.on_failure, sidecar.isolation), (OnFailure::Quarantine, Isolation::Call));
        assert!(!sidecar.shadow && parse("mode = 'shadow'").unwrap().shadow);
    }

    #[test]
    fn all_keys() {
        let sidecar = parse(
            "on_failure = 'halt'\nrequired = true\nkinds = ['task:*']\ntimeout = '250ms'\nmemory = '32MiB'\n\
             isolation = 'reuse'\nmode = 'enforce'\nsha256 = 'AB12'\n[config]\nb = 1.5\na = ['x', {t = 2026-01-02}]\n",
        )
        .unwrap();
        assert_eq!((sidecar.on_failure, sidecar.required), (OnFailure::Halt, true));
        assert_eq!(sidecar.limits, Limits { timeout: Duration::from_millis(250), memory: 32 << 20 });
        assert!(sidecar.kinds.as_ref().unwrap().wants("task:x") && !sidecar.kinds.unwrap().wants("webhook:x"));
        assert_eq!(sidecar.config, r#"{"a":["x",{"t":"2026-01-02"}],"b":1.5}"#);
    }

    #[test]
    fn ceilings_win() {
        let limits = parse("timeout = '1m'\nmemory = '4GiB'").unwrap().limits;
        assert_eq!(limits, Limits { timeout: CEILINGS.timeout, memory: CEILINGS.memory });
    }

    #[test]
    fn bad_values_say_what_is_wrong() {
        for (text, message) in [
            ("nosuch = 1", "unknown field `nosuch`"),
            ("timeout = '5'", "expected a duration like"),
            ("timeout = '0s'", "expected a duration like"),
            ("memory = '64 apples'", "expected a size like"),
            ("memory = '99999999999999999999GiB'", "expected a size like"),
            ("kinds = ['task:*:x']", "expected kinds like"),
            ("on_failure = 'ignore'", "unknown variant `ignore`"),
            ("mode = 'watch'", "unknown variant `watch`"),
            ("mode = 'shadow'\nrequired = true", "cannot be required"),
            ("sha256 = 'ff'", "the component's is ab12"),
            ("[config]\nx = nan", "numbers that JSON can express"),
            ("= 1", "not valid: line 1: "),
            ("\nisolation = 'call'\ntimeout = 5", "line 3, timeout: invalid type"),
            ("timeout = ", "line 1, timeout: "),
            ("[config]\ntoken = hunter2", "line 2, token: "),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(message) && !error.contains('\n'), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert_eq!(Sidecar::parse(Some(b"\xff"), "ab12", CEILINGS), Err(SidecarError::Text));
    }
}
