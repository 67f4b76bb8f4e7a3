//! The table of settings. Everything that knows a setting's name is made from it: environment, flags, defaults, messages,
//! the README's table.

use std::time::Duration;

use super::values::{AGE, ROOM};

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Variable name; the flag is derived from it unless `flag` says otherwise.
    pub name: &'static str,
    /// Flag without dashes, when it is not the variable's name in kebab case.
    pub flag: Option<&'static str>,
    /// What its value must look like.
    pub kind: Kind,
    /// What holds when it is unset.
    pub default: Unset,
    /// One line for `--help` and the README.
    pub help: &'static str,
}

/// What a value must look like; the rule in messages comes from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text without control characters.
    Text,
    /// A text that is never shown; may also come from the file that `NAME_FILE` names.
    Secret,
    /// A Redis URL; a secret, since it may hold a password.
    RedisUrl,
    /// An `http://` or `https://` URL.
    HttpUrl,
    /// One folder.
    Path,
    /// Folders split by `:`.
    Paths,
    /// An IP address, or `localhost`.
    Host,
    /// A whole number within bounds.
    Number(u64, u64),
    /// Bytes within bounds, with a unit.
    Size(u64, u64),
    /// Time within bounds, with a unit.
    Time(Duration, Duration),
    /// A log level, Python's names included.
    Level,
    /// `text` or `json`.
    Format,
    /// When to sync.
    Fsync,
    /// `full` or `digest`.
    Payload,
    /// `off` or `published`.
    Trim,
    /// `off`, or how long.
    Age,
    /// `off`, or how many bytes.
    Room,
    /// `none`, or manifest names split by commas.
    Names,
    /// A file with a token and its scopes a line.
    Tokens,
    /// Names of hosts split by commas.
    Hosts,
    /// Origins split by commas.
    Origins,
    /// minisign public keys and files that hold some, split by commas.
    Keys,
}

/// What holds when a setting is unset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unset {
    /// This text, read like any value.
    Is(&'static str),
    /// Nothing, or something that follows from other settings, in words.
    Means(&'static str),
}

const fn setting(name: &'static str, kind: Kind, default: Unset, help: &'static str) -> Setting {
    Setting { name, flag: None, kind, default, help }
}

const MIB: u64 = 1 << 20;

/// Every setting, in the order of the README.
pub const SETTINGS: &[Setting] = &[
    setting(
        "REDIS_URL",
        Kind::RedisUrl,
        Unset::Means("the embedded stream"),
        "Redis that holds the stream; unset: the embedded stream in `STREAM_DIR`",
    ),
    setting("LOGS_DIR", Kind::Path, Unset::Is("./data/logs/tasks"), "Folder of the task directories"),
    setting("REDIS_STREAM", Kind::Text, Unset::Is("task_events"), "Name of the stream"),
    setting(
        "REDIS_CONSUMER_GROUP",
        Kind::Text,
        Unset::Is("task-logger"),
        "Consumer group that shows the published position",
    ),
    setting(
        "MAX_BATCH_SIZE",
        Kind::Number(1, 10_000),
        Unset::Is("10"),
        "Entries a read when the reader has caught up; reads grow under backlog",
    ),
    setting("PORT", Kind::Number(0, 65_535), Unset::Is("8090"), "HTTP port; 0: any free one"),
    setting("LOG_LEVEL", Kind::Level, Unset::Is("INFO"), "Least level of the service's own log, on stderr"),
    setting(
        "HOST",
        Kind::Host,
        Unset::Means("`127.0.0.1`; with `API_TOKEN` or `API_TOKENS_FILE` set `0.0.0.0`"),
        "Address that HTTP listens on",
    ),
    setting(
        "API_TOKEN",
        Kind::Secret,
        Unset::Means("no token"),
        "Bearer token that HTTP asks for; good for everything",
    ),
    setting(
        "API_TOKENS_FILE",
        Kind::Tokens,
        Unset::Means("no tokens"),
        "Further tokens, each with its scopes; read again when it changes",
    ),
    setting(
        "ALLOWED_HOSTS",
        Kind::Hosts,
        Unset::Means("any; on a loopback `HOST` none"),
        "Names under which HTTP may be asked, besides addresses and localhost",
    ),
    setting(
        "CORS_ORIGINS",
        Kind::Origins,
        Unset::Means("none"),
        "Origins whose pages may use the service in a browser",
    ),
    setting(
        "CLIENT_STREAMS",
        Kind::Number(1, 1_000_000),
        Unset::Is("256"),
        "Streams that one client may have open; behind a proxy all its users are one client",
    ),
    setting(
        "PLUGINS_DIR",
        Kind::Paths,
        Unset::Is("./data/plugins"),
        "Folders of plugins, split by `:`; of equal file names the last wins",
    ),
    setting(
        "REQUIRED_PLUGINS",
        Kind::Names,
        Unset::Means("redactors, once live"),
        "Plugins without which nothing is read: manifest names split by commas, or `none`",
    ),
    setting(
        "PLUGIN_TRUSTED_KEYS",
        Kind::Keys,
        Unset::Means("signatures are not asked for"),
        "Keys of which one must have signed each plugin and its sidecar",
    ),
    setting("PLUGIN_MEMORY_MAX", Kind::Size(MIB, 4096 * MIB), Unset::Is("256MiB"), "Most memory of a plugin instance"),
    setting(
        "PLUGIN_TIMEOUT_MAX",
        Kind::Time(Duration::from_millis(1), Duration::from_secs(600)),
        Unset::Is("1s"),
        "Most CPU time of a plugin call",
    ),
    setting(
        "HOLD_MAX",
        Kind::Time(Duration::ZERO, Duration::from_secs(60)),
        Unset::Is("1s"),
        "Longest time that a redactor may hold an event back",
    ),
    setting(
        "FSYNC",
        Kind::Fsync,
        Unset::Is("always"),
        "When the journal is synced; publishing waits for it except with `never`",
    ),
    setting("LANES", Kind::Number(1, 256), Unset::Means("one per core"), "Threads that run plugins"),
    setting("READ_WINDOW", Kind::Size(MIB, 4096 * MIB), Unset::Is("32MiB"), "Bytes of events in flight"),
    setting("MAX_EVENT", Kind::Size(1024, 256 * MIB), Unset::Is("16MiB"), "Largest event, all its fields together"),
    setting(
        "STATE_DIR",
        Kind::Path,
        Unset::Means("`.task-logger` in `LOGS_DIR`"),
        "Journal and last good plugins; shared by replicas",
    ),
    setting(
        "CACHE_DIR",
        Kind::Path,
        Unset::Means("`task-logger` in `$XDG_CACHE_HOME` or `~/.cache`, else in the system's temp folder"),
        "Compiled plugins, private to the user",
    ),
    setting(
        "DEAD_LETTER_PAYLOAD",
        Kind::Payload,
        Unset::Is("full"),
        "What a dead letter keeps of its entry: its fields, or their digest and size while the entry stays in the stream",
    ),
    setting(
        "DEAD_LETTER_MAX",
        Kind::Size(MIB, 1024 * 1024 * MIB),
        Unset::Is("256MiB"),
        "Bytes that the dead letters may take; when they do, nothing more is read until some are replayed or purged",
    ),
    setting(
        "TRIM",
        Kind::Trim,
        Unset::Is("off"),
        "Whether entries leave the stream once they are published, in a checkpoint, and needed by no other group",
    ),
    setting(
        "RETAIN",
        Kind::Age,
        Unset::Is("off"),
        "How long the files of a task that has ended are kept after the last write to them",
    ),
    setting(
        "RETAIN_IDLE",
        Kind::Age,
        Unset::Is("off"),
        "The same of a task that never ended, and of a webhook flow that never joined one",
    ),
    setting(
        "RETAIN_BYTES",
        Kind::Room,
        Unset::Is("off"),
        "Bytes that all tasks and flows may take on the disk; beyond it tasks that have ended go, the oldest first",
    ),
    setting("STREAM_DIR", Kind::Path, Unset::Is("./data/stream"), "The embedded stream"),
    setting(
        "SHUTDOWN_GRACE",
        Kind::Time(Duration::from_millis(1), Duration::from_secs(3600)),
        Unset::Is("25s"),
        "Longest time that a shutdown waits for work in hand",
    ),
    setting("LOG_FORMAT", Kind::Format, Unset::Is("text"), "Format of the service's own log"),
    Setting {
        name: "TASK_LOGGER_URL",
        flag: Some("url"),
        kind: Kind::HttpUrl,
        default: Unset::Means("this machine, `PORT`"),
        help: "Address of the running service, for the commands that ask it",
    },
];

/// The setting of that variable name.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

// === impl Setting ===

impl Setting {
    /// The flag, without dashes: `redis-url`.
    pub fn flag(&self) -> String {
        self.flag.map_or_else(|| self.name.to_ascii_lowercase().replace('_', "-"), str::to_owned)
    }

    /// Whether its value is never shown, and may come from a file.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret | Kind::RedisUrl)
    }

    /// Name of the variable that names a file with the value.
    pub fn file_name(&self) -> String {
        format!("{}_FILE", self.name)
    }
}

// === impl Kind ===

impl Kind {
    /// The rule, as messages end with it.
    pub fn rule(self) -> String {
        match self {
            Self::Text => "expected a text without control characters".into(),
            Self::Secret => "expected a text of printable ASCII without spaces".into(),
            Self::RedisUrl => {
                "expected redis://, rediss://, redis+unix://, redis-sentinel:// or rediss-sentinel:// and what follows"
                    .into()
            }
            Self::HttpUrl => "expected http://HOST:PORT or https://HOST:PORT".into(),
            Self::Path => "expected a folder".into(),
            Self::Paths => "expected folders split by `:`".into(),
            Self::Host => "expected an IP address or localhost".into(),
            Self::Number(min, max) => format!("expected a whole number from {min} to {max}"),
            Self::Size(min, max) => {
                format!(
                    "expected bytes, or a number with KiB, MiB, GiB, TiB, KB, MB, GB or TB, from {} to {}",
                    size(min),
                    size(max)
                )
            }
            Self::Time(min, max) => {
                format!("expected a number with its unit ms, s, m, h or d, from {} to {}", time(min), time(max))
            }
            Self::Level => "expected TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL or NOTSET".into(),
            Self::Format => "expected text or json".into(),
            Self::Fsync => "expected always, interval:MS with 1 to 60000 milliseconds, or never".into(),
            Self::Payload => "expected full or digest".into(),
            Self::Trim => "expected off or published".into(),
            Self::Age => format!(
                "expected off, or a number with its unit ms, s, m, h or d, from {} to {}",
                time(AGE.0),
                time(AGE.1)
            ),
            Self::Room => format!(
                "expected off, or bytes, or a number with KiB, MiB, GiB, TiB, KB, MB, GB or TB, from {}",
                size(ROOM.0)
            ),
            Self::Names => "expected none, or names like `redact` ([a-z][a-z0-9-]{0,39}) split by commas".into(),
            Self::Tokens => "expected a file of lines `NAME SCOPE[,SCOPE] TOKEN`, or `sha256:HEX` in place of the token; scopes are read, ingest, admin".into(),
            Self::Hosts => "expected names of hosts without port, split by commas".into(),
            Self::Origins => "expected origins like https://logs.example, split by commas".into(),
            Self::Keys => "expected minisign public keys (RW…) or files that hold some, split by commas".into(),
        }
    }

    /// What stands for the value in `--help`.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Text => "NAME",
            Self::Secret => "TOKEN",
            Self::RedisUrl | Self::HttpUrl => "URL",
            Self::Path => "DIR",
            Self::Paths => "DIR[:DIR]",
            Self::Host => "IP",
            Self::Number(..) => "N",
            Self::Size(..) | Self::Room => "SIZE",
            Self::Time(..) | Self::Age => "TIME",
            Self::Level => "LEVEL",
            Self::Format => "FORMAT",
            Self::Fsync => "WHEN",
            Self::Payload | Self::Trim => "WHAT",
            Self::Names => "NAMES",
            Self::Tokens => "FILE",
            Self::Hosts => "HOSTS",
            Self::Origins => "ORIGINS",
            Self::Keys => "KEYS",
        }
    }
}

fn size(bytes: u64) -> String {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift))
        .map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

fn time(time: Duration) -> String {
    let ms = time.as_millis();
    [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")]
        .into_iter()
        .find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit))
        .map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}

/// The README's table of settings, as markdown; a test compares the two.
pub fn readme_table() -> String {
    let mut table = String::from("| Variable | Flag | Default | What it is | Takes |\n|---|---|---|---|---|\n");
    for setting in SETTINGS {
        let default = match setting.default {
            Unset::Is(text) => format!("`{text}`"),
            Unset::Means(words) => words.to_owned(),
        };
        let file = if setting.is_secret() { format!(" (or `{}`)", setting.file_name()) } else { String::new() };
        let (name, flag, help, rule) = (setting.name, setting.flag(), setting.help, setting.kind.rule());
        let rule = rule.strip_prefix("expected ").unwrap_or(&rule);
        table.push_str(&format!("| `{name}`{file} | `--{flag}` | {default} | {help} | {rule} |\n"));
    }
    table
}
