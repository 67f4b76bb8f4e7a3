//! Settings: every variable is also a flag. All problems are reported at once, each with name, value and rule.
//!
//! Two stages: [`resolve()`] first takes each value by itself (flag, else variable, else file for secrets, else default), then
//! looks at all of them together. Neither has a side effect; secrets' files are read.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use crate::{retention::Rules, source::LetterPolicy, trust::TrustedKeys};

mod near_miss;
mod resolve;
mod table;
mod values;

pub use resolve::{Input, Invalid, Problem, resolve};
pub use table::{Kind, SETTINGS, Setting, Unset, readme_table};

/// The service's settings, checked and resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// `REDIS_URL`; `None`: the embedded stream.
    pub redis_url: Option<Secret>,
    /// `LOGS_DIR`.
    pub logs_dir: PathBuf,
    /// `REDIS_STREAM`.
    pub stream: String,
    /// `REDIS_CONSUMER_GROUP`.
    pub group: String,
    /// `MAX_BATCH_SIZE`, entries a read when caught up.
    pub batch: usize,
    /// `HOST`.
    pub host: IpAddr,
    /// `PORT`.
    pub port: u16,
    /// `LOG_LEVEL`, as a tracing filter.
    pub log_level: tracing::Level,
    /// `LOG_FORMAT`: `text` or `json`.
    pub log_json: bool,
    /// `PLUGINS_DIR`, folders split by `:`; of equal file names the last wins.
    pub plugins_dirs: Vec<PathBuf>,
    /// `REQUIRED_PLUGINS`.
    pub required: Required,
    /// `PLUGIN_TRUSTED_KEYS`; empty: signatures are not asked for.
    pub trusted_keys: TrustedKeys,
    /// `FSYNC`.
    pub fsync: Fsync,
    /// `LANES`.
    pub lanes: usize,
    /// `READ_WINDOW`, bytes in flight.
    pub read_window: usize,
    /// `MAX_EVENT`, bytes of all fields of an entry.
    pub event_max: usize,
    /// `HOLD_MAX`.
    pub hold_max: Duration,
    /// `STATE_DIR`.
    pub state_dir: PathBuf,
    /// `CACHE_DIR`.
    pub cache_dir: PathBuf,
    /// `STREAM_DIR`, the embedded stream.
    pub stream_dir: PathBuf,
    /// `DEAD_LETTER_PAYLOAD` and `DEAD_LETTER_MAX`.
    pub letters: LetterPolicy,
    /// `TRIM=published`.
    pub trim: bool,
    /// `RETAIN`, `RETAIN_IDLE` and `RETAIN_BYTES`.
    pub retain: Rules,
    /// `API_TOKEN`.
    pub api_token: Option<Secret>,
    /// `API_TOKENS_FILE`.
    pub api_tokens: Option<PathBuf>,
    /// `ALLOWED_HOSTS`, in lower case.
    pub allowed_hosts: Vec<String>,
    /// `CORS_ORIGINS`.
    pub cors_origins: Vec<String>,
    /// `CLIENT_STREAMS`.
    pub client_streams: usize,
    /// `TASK_LOGGER_URL`: the running service, for commands that ask it; without a slash at its end.
    pub url: Option<String>,
    /// `SHUTDOWN_GRACE`.
    pub shutdown_grace: Duration,
    /// `PLUGIN_MEMORY_MAX`, bytes: the operator's ceiling.
    pub plugin_memory_max: usize,
    /// `PLUGIN_TIMEOUT_MAX`, CPU time a call: the operator's ceiling.
    pub plugin_timeout_max: Duration,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Which plugins must run before anything is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Required {
    /// Unset: redactors, once live.
    Redactors,
    /// `none`.
    None,
    /// Exactly these manifest names, plus sidecars that say `required = true`.
    List(Vec<String>),
}

/// When the journal is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before every publish.
    Always,
    /// At most this long after a write; publishing waits for it.
    Interval(Duration),
    /// Never: a power loss may lose what was published.
    Never,
}

// === impl Config ===

impl Config {
    /// Where a command finds the running service: `TASK_LOGGER_URL`, else this machine.
    pub fn service_url(&self) -> String {
        if let Some(url) = &self.url {
            return url.clone();
        }
        match self.host {
            IpAddr::V4(host) if host.is_unspecified() => format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port),
            IpAddr::V6(host) if host.is_unspecified() => format!("http://[::1]:{}", self.port),
            IpAddr::V4(host) => format!("http://{host}:{}", self.port),
            IpAddr::V6(host) => format!("http://[{host}]:{}", self.port),
        }
    }

    /// What is allowed but should be known at start.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.api_token.is_none() && self.api_tokens.is_none() && !self.host.is_loopback() {
            warnings.push(format!("HOST={} without API_TOKEN: everybody who reaches it reads all logs", self.host));
        }
        if self.fsync == Fsync::Never {
            warnings.push("FSYNC=never: a power loss may lose what was published".to_owned());
        }
        if self.required == Required::None {
            warnings.push("REQUIRED_PLUGINS=none: events are written raw when no redactor is live".to_owned());
        }
        if self.redis_url.is_none() {
            let dir = self.stream_dir.display();
            warnings.push(format!("REDIS_URL is unset: events come from the embedded stream in {dir}"));
        }
        warnings
    }
}

// === impl Secret ===

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests;
