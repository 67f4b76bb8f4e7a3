//! From texts to a checked [`Config`]: precedence, rules, cross-checks.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use super::{
    Config, Fsync, Required, Secret,
    near_miss::near_miss,
    table::{self, Kind, Setting, Unset},
    values,
};
use crate::{layout, retention::Rules, source::LetterPolicy, tokens::Tokens, trust::TrustedKeys};

/// Largest file that a secret is read from, in bytes.
const SECRET_FILE_MAX: u64 = 64 * 1024;

/// Where values come from. Made from the process by `main`, by hand in tests.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// Values of flags, by variable name (`API_TOKEN_FILE` for `--api-token-file`).
    pub flags: BTreeMap<String, String>,
    /// The environment.
    pub env: BTreeMap<OsString, OsString>,
}

/// Everything that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Invalid(pub Vec<Problem>);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A value breaks its rule.
    Value {
        /// The variable.
        name: String,
        /// As it was given; `[secret]` for secrets.
        value: String,
        /// What was expected.
        rule: String,
    },
    /// A variable that is all but one of ours. Its value is not shown: it may be a secret.
    NearMiss {
        /// As it was given.
        name: String,
        /// What it was probably meant to be.
        meant: String,
    },
}

/// Settings by name while they are taken; collects the problems.
struct Taking<'a> {
    input: &'a Input,
    problems: Vec<Problem>,
}

/// Checks everything and resolves defaults.
pub fn resolve(input: &Input) -> Result<Config, Invalid> {
    let mut take = Taking { input, problems: Vec::new() };
    take.near_misses();

    let redis_url = take.optional("REDIS_URL", values::redis_url).map(Secret::new);
    let logs_dir = take.path("LOGS_DIR");
    let stream = take.or("REDIS_STREAM", values::text, String::new());
    let group = take.or("REDIS_CONSUMER_GROUP", values::text, String::new());
    let batch = to_usize(take.number("MAX_BATCH_SIZE").unwrap_or_default());
    let port = u16::try_from(take.number("PORT").unwrap_or_default()).unwrap_or_default();
    let log_level = take.or("LOG_LEVEL", values::level, tracing::Level::INFO);
    let api_token = take.optional("API_TOKEN", values::token).map(Secret::new);
    let api_tokens = take.tokens_file();
    let open = IpAddr::V4(if api_token.is_some() || api_tokens.is_some() {
        Ipv4Addr::UNSPECIFIED
    } else {
        Ipv4Addr::LOCALHOST
    });
    let host = take.or("HOST", values::host, open);
    let allowed_hosts = take.or("ALLOWED_HOSTS", values::hosts, Vec::new());
    let cors_origins = take.or("CORS_ORIGINS", values::origins, Vec::new());
    let client_streams = take.number("CLIENT_STREAMS").map_or(1, to_usize);
    let plugins_dirs = take.or("PLUGINS_DIR", values::paths, Vec::new());
    let required = take.or("REQUIRED_PLUGINS", values::names, Required::Redactors);
    let trusted_keys = take.trusted_keys();
    let plugin_memory_max = take.size("PLUGIN_MEMORY_MAX");
    let plugin_timeout_max = take.time("PLUGIN_TIMEOUT_MAX");
    let hold_max = take.time("HOLD_MAX");
    let fsync = take.or("FSYNC", values::fsync, Fsync::Always);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let lanes = take.number("LANES").map_or(cores.min(256), to_usize);
    let read_window = take.size("READ_WINDOW");
    let event_max = take.size("MAX_EVENT");
    let state_dir = take.optional("STATE_DIR", values::path).unwrap_or_else(|| logs_dir.join(layout::STATE_DIR));
    let cache_dir = take.optional("CACHE_DIR", values::path).unwrap_or_else(|| cache_dir_default(input));
    let letters = LetterPolicy {
        digest: take.or("DEAD_LETTER_PAYLOAD", values::payload, false),
        bytes_max: take.size("DEAD_LETTER_MAX") as u64,
    };
    let trim = take.or("TRIM", values::trim, false);
    let retain = Rules {
        ended: take.age("RETAIN"),
        idle: take.age("RETAIN_IDLE"),
        bytes: take.optional("RETAIN_BYTES", values::room).flatten(),
    };
    let stream_dir = take.path("STREAM_DIR");
    let shutdown_grace = take.time("SHUTDOWN_GRACE");
    let log_json = take.or("LOG_FORMAT", values::format, false);
    let url = take.optional("TASK_LOGGER_URL", values::http_url);

    let config = Config {
        redis_url,
        logs_dir,
        stream,
        group,
        batch,
        host,
        port,
        log_level,
        log_json,
        plugins_dirs,
        required,
        trusted_keys,
        fsync,
        lanes,
        read_window,
        event_max,
        hold_max,
        state_dir,
        cache_dir,
        stream_dir,
        letters,
        trim,
        retain,
        api_token,
        api_tokens,
        allowed_hosts,
        cors_origins,
        client_streams,
        url,
        shutdown_grace,
        plugin_memory_max,
        plugin_timeout_max,
    };
    take.cross_check(&config);
    if take.problems.is_empty() { Ok(config) } else { Err(Invalid(take.problems)) }
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// `$XDG_CACHE_HOME/task-logger`, `~/.cache/task-logger`, or a folder of this user's below the system's temp folder.
fn cache_dir_default(input: &Input) -> PathBuf {
    let folder = |name: &str| {
        let value = input.env.get(std::ffi::OsStr::new(name)).map(PathBuf::from);
        // The XDG rules: a path that is not absolute is ignored.
        value.filter(|path| path.is_absolute() && path != Path::new("/"))
    };
    folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache"))).map_or_else(
        || {
            let uid = rustix::process::getuid().as_raw();
            std::env::temp_dir().join(format!("task-logger-{uid}"))
        },
        |cache| cache.join("task-logger"),
    )
}

/// The path with its existing part resolved and `.` and `..` taken out of the rest, to compare places.
fn place(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let Ok(real) = ancestor.canonicalize() {
            let mut place = real;
            for part in path.strip_prefix(ancestor).unwrap_or(Path::new("")).components() {
                match part {
                    Component::ParentDir => drop(place.pop()),
                    Component::Normal(name) => place.push(name),
                    _ => {}
                }
            }
            return place;
        }
    }
    path.to_owned()
}

// === impl Input ===

impl Input {
    /// The process's environment, with these flags.
    pub fn process(flags: BTreeMap<String, String>) -> Self {
        Self { flags, env: std::env::vars_os().collect() }
    }

    /// An environment by hand, without flags.
    pub fn from_env<K: Into<OsString>, V: Into<OsString>>(env: impl IntoIterator<Item = (K, V)>) -> Self {
        let env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { flags: BTreeMap::new(), env }
    }
}

// === impl Taking ===

impl Taking<'_> {
    fn near_misses(&mut self) {
        for (name, value) in &self.input.env {
            if let (Some(name), false) = (name.to_str(), value.is_empty())
                && let Some(meant) = near_miss(name)
            {
                self.problems.push(Problem::NearMiss { name: name.to_owned(), meant });
            }
        }
    }

    /// The text of a setting and the name it came under. Empty means unset, everywhere.
    fn text(&mut self, setting: &Setting) -> Option<String> {
        let flag = |name: &str| self.input.flags.get(name).filter(|value| !value.is_empty()).cloned();
        let file_name = setting.file_name();
        if let Some(value) = flag(setting.name) {
            return Some(value);
        }
        if setting.is_secret()
            && let Some(path) = flag(&file_name)
        {
            return self.file(&file_name, &path);
        }
        if let Some(value) = self.env(setting.name, setting.is_secret()) {
            return Some(value);
        }
        if setting.is_secret()
            && let Some(path) = self.env(&file_name, false)
        {
            return self.file(&file_name, &path);
        }
        match setting.default {
            Unset::Is(text) => Some(text.to_owned()),
            Unset::Means(_) => None,
        }
    }

    fn env(&mut self, name: &str, secret: bool) -> Option<String> {
        let value = self.input.env.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty())?;
        match value.to_str() {
            Some(text) => Some(text.to_owned()),
            None => {
                let shown = if secret { "[secret]".into() } else { value.to_string_lossy().into_owned() };
                self.refuse(name, shown, "expected UTF-8".into());
                None
            }
        }
    }

    /// A secret's file; one line end at its end is not part of the secret.
    fn file(&mut self, name: &str, path: &str) -> Option<String> {
        let read = std::fs::metadata(path).and_then(|meta| match meta.len() > SECRET_FILE_MAX {
            true => Err(std::io::Error::other(format!("larger than {SECRET_FILE_MAX} bytes"))),
            false => std::fs::read_to_string(path),
        });
        match read {
            Ok(text) => {
                let line = text.strip_suffix('\n').unwrap_or(&text);
                let line = line.strip_suffix('\r').unwrap_or(line);
                if line.is_empty() {
                    self.refuse(name, path.to_owned(), "expected a file that is not empty".into());
                    return None;
                }
                Some(line.to_owned())
            }
            Err(error) => {
                self.refuse(name, path.to_owned(), format!("expected a file that can be read ({error})"));
                None
            }
        }
    }

    fn optional<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let setting = table::find(name)?;
        let text = self.text(setting)?;
        let value = read(&text);
        if value.is_none() {
            let shown = if setting.is_secret() { "[secret]".into() } else { text };
            self.refuse(name, shown, setting.kind.rule());
        }
        value
    }

    /// The value, or `unset` when there is none (or a bad one, which ends in an error anyway).
    fn or<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Option<T>, unset: T) -> T {
        self.optional(name, read).unwrap_or(unset)
    }

    fn path(&mut self, name: &'static str) -> PathBuf {
        self.or(name, values::path, PathBuf::new())
    }

    /// Every bad key by itself: a list that is cut short must not pass for a shorter list.
    fn trusted_keys(&mut self) -> TrustedKeys {
        const NAME: &str = "PLUGIN_TRUSTED_KEYS";
        let Some(setting) = table::find(NAME) else { return TrustedKeys::default() };
        let Some(text) = self.text(setting) else { return TrustedKeys::default() };
        match TrustedKeys::read(&text) {
            Ok(keys) => return keys,
            Err(bad) if bad.is_empty() => self.refuse(NAME, text, setting.kind.rule()),
            Err(bad) => {
                for key in bad {
                    self.refuse(NAME, key.item, format!("{}; it {}", setting.kind.rule(), key.reason));
                }
            }
        }
        TrustedKeys::default()
    }

    /// The file's content is checked here, with everything else, and read where it is used.
    fn tokens_file(&mut self) -> Option<PathBuf> {
        const NAME: &str = "API_TOKENS_FILE";
        let path = self.optional(NAME, values::path)?;
        if let Err(error) = Tokens::new(None, Some(&path)) {
            let rule = table::find(NAME).map(|setting| setting.kind.rule()).unwrap_or_default();
            self.refuse(NAME, path.display().to_string(), format!("{rule}; it {error}"));
        }
        Some(path)
    }

    fn number(&mut self, name: &'static str) -> Option<u64> {
        let Some(Kind::Number(min, max)) = table::find(name).map(|setting| setting.kind) else { return None };
        self.optional(name, |text| values::number(text, min, max))
    }

    fn size(&mut self, name: &'static str) -> usize {
        let Some(Kind::Size(min, max)) = table::find(name).map(|setting| setting.kind) else { return 0 };
        to_usize(self.or(name, |text| values::size(text, min, max), 0))
    }

    fn time(&mut self, name: &'static str) -> Duration {
        let Some(Kind::Time(min, max)) = table::find(name).map(|setting| setting.kind) else { return Duration::ZERO };
        self.or(name, |text| values::time(text, min, max), Duration::ZERO)
    }

    /// `None`: for ever.
    fn age(&mut self, name: &'static str) -> Option<Duration> {
        self.optional(name, values::age).flatten()
    }

    fn cross_check(&mut self, config: &Config) {
        let logs = place(&config.logs_dir);
        let state = place(&config.state_dir);
        let cache = place(&config.cache_dir);
        let stream = place(&config.stream_dir);
        let shown = |path: &Path| path.display().to_string();

        let below = |path: &Path, folder: &Path| path.starts_with(folder);
        if below(&cache, &logs) {
            self.refuse("CACHE_DIR", shown(&config.cache_dir), "expected a folder outside LOGS_DIR".into());
        }
        if below(&stream, &logs) {
            self.refuse("STREAM_DIR", shown(&config.stream_dir), "expected a folder outside LOGS_DIR".into());
        }
        // What does not begin with a dot is a task's directory there.
        if let Ok(inner) = state.strip_prefix(&logs)
            && !inner.components().next().is_some_and(|first| first.as_os_str().to_string_lossy().starts_with('.'))
        {
            let rule = "expected a folder outside LOGS_DIR, or one in it whose name begins with a dot";
            self.refuse("STATE_DIR", shown(&config.state_dir), rule.into());
        }
        for folder in &config.plugins_dirs {
            let plugins = place(folder);
            if below(&plugins, &logs) {
                self.refuse("PLUGINS_DIR", shown(folder), "expected folders outside LOGS_DIR".into());
            }
            if below(&cache, &plugins) {
                self.refuse("CACHE_DIR", shown(&config.cache_dir), "expected a folder outside PLUGINS_DIR".into());
            }
        }
        // A window that broke its own rule is 0 here.
        if config.read_window > 0 && config.event_max > config.read_window {
            let rule = "expected at most READ_WINDOW, so that the largest event can be read";
            self.refuse("MAX_EVENT", config.event_max.to_string(), rule.into());
        }
    }

    fn refuse(&mut self, name: &str, value: String, rule: String) {
        self.problems.push(Problem::Value { name: name.to_owned(), value, rule });
    }
}

// === impl Invalid ===

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { name, value, rule } => write!(f, "{name}={value:?} is not valid: {rule}"),
            Self::NearMiss { name, meant } => write!(
                f,
                "{name} is not a setting: did you mean {meant}? (if it belongs to another program, set it empty here)"
            ),
        }
    }
}
