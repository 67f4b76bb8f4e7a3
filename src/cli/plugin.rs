//! The grammar of `plugin …` and of `replay`: what plugin authors and operators ask for.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, builder::PossibleValue, value_parser};

/// What is asked of a plugin, or for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginCommand {
    /// Make the folder of a new plugin.
    New {
        /// `rust`, `python`, `js` or `c`.
        lang: String,
        /// Manifest name, and the folder's.
        name: String,
        /// Where to make it; `None`: here.
        dir: Option<PathBuf>,
    },
    /// Do all that the service does before a file goes live.
    Check {
        /// `NAME.wasm`.
        file: PathBuf,
        /// For machines.
        json: bool,
    },
    /// Run events through one plugin and show what it made of them.
    Run(Trial),
    /// Run golden cases.
    Test {
        /// `NAME.wasm`.
        file: PathBuf,
        /// Folder of cases; `None`: `cases` beside the component.
        cases: Option<PathBuf>,
    },
    /// Measure.
    Bench(Bench),
    /// Check, put into the service's folder, wait until it is live.
    Install {
        /// `NAME.wasm`.
        file: PathBuf,
        /// The folder; `None`: the last one of the running service, or of `PLUGINS_DIR`.
        to: Option<PathBuf>,
        /// Longest wait for it to be live, in seconds.
        wait: u64,
    },
    /// List plugins.
    Ls {
        /// For machines.
        json: bool,
    },
    /// Lift a plugin's requirement.
    Forget {
        /// Manifest name.
        name: String,
    },
    /// Make a pair of keys.
    Keygen {
        /// Secret key to write; the public one gets `.pub` for `.key`.
        out: PathBuf,
        /// What encrypts it.
        password: Password,
    },
    /// Sign a component, and its sidecar if there is one.
    Sign {
        /// `NAME.wasm`.
        file: PathBuf,
        /// Secret key.
        key: PathBuf,
        /// What decrypts it.
        password: Password,
    },
}

/// Where a key's password comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// `PLUGIN_KEY_PASSWORD`, else asked for.
    Ask,
    /// The first line of this file.
    File(PathBuf),
    /// The key has none.
    None,
}

/// What to run a plugin on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// `NAME.wasm`.
    pub file: PathBuf,
    /// Where the events come from.
    pub events: Events,
    /// A sidecar; `None`: `NAME.toml` beside the file, if it is there.
    pub config: Option<PathBuf>,
    /// For machines.
    pub json: bool,
}

/// Recorded events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Events {
    /// Lines as `publish` takes them.
    File(PathBuf),
    /// A task's folder, as the service wrote it.
    Task(PathBuf),
}

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bench {
    /// `NAME.wasm`.
    pub file: PathBuf,
    /// Lines as `publish` takes them; `None`: made-up agent output of `bytes` each.
    pub events: Option<PathBuf>,
    /// A sidecar; `None`: `NAME.toml` beside the file, if it is there.
    pub config: Option<PathBuf>,
    /// Events in a call.
    pub batch: usize,
    /// Bytes of data of a made-up event.
    pub bytes: usize,
    /// For machines.
    pub json: bool,
}

/// A task through another set of plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The task's id below `LOGS_DIR`.
    pub task: String,
    /// Folders of plugins, as `PLUGINS_DIR` has them.
    pub plugins: String,
    /// Folder to write the new logs to; made, must be empty.
    pub out: PathBuf,
    /// For machines.
    pub json: bool,
}

pub(super) fn read(matches: &ArgMatches) -> PluginCommand {
    let Some((name, matches)) = matches.subcommand() else { return PluginCommand::Ls { json: false } };
    let file = || path(matches, "file").unwrap_or_default();
    let json = || matches.get_flag("json");
    match name {
        "new" => PluginCommand::New {
            lang: language(&text(matches, "lang")),
            name: text(matches, "name"),
            dir: path(matches, "dir"),
        },
        "check" => PluginCommand::Check { file: file(), json: json() },
        "run" => PluginCommand::Run(Trial {
            file: file(),
            events: match (path(matches, "events"), path(matches, "task")) {
                (_, Some(task)) => Events::Task(task),
                (events, None) => Events::File(events.unwrap_or_default()),
            },
            config: path(matches, "config"),
            json: json(),
        }),
        "test" => PluginCommand::Test { file: file(), cases: path(matches, "cases") },
        "bench" => PluginCommand::Bench(Bench {
            file: file(),
            events: path(matches, "events"),
            config: path(matches, "config"),
            batch: number(matches, "batch"),
            bytes: number(matches, "bytes"),
            json: json(),
        }),
        "install" => PluginCommand::Install {
            file: file(),
            to: path(matches, "to"),
            wait: u64::try_from(number(matches, "wait")).unwrap_or(u64::MAX),
        },
        "forget" => PluginCommand::Forget { name: text(matches, "name") },
        "keygen" => PluginCommand::Keygen {
            out: path(matches, "out").unwrap_or_default(),
            password: if matches.get_flag("unencrypted") { Password::None } else { password(matches) },
        },
        "sign" => PluginCommand::Sign {
            file: file(),
            key: path(matches, "key").unwrap_or_default(),
            password: password(matches),
        },
        _ => PluginCommand::Ls { json: json() },
    }
}

pub(super) fn read_replay(matches: &ArgMatches) -> Replay {
    Replay {
        task: text(matches, "task"),
        plugins: text(matches, "plugins"),
        out: path(matches, "out").unwrap_or_default(),
        json: matches.get_flag("json"),
    }
}

/// `plugin`; `adjust` adds the settings that a subcommand of this name heeds.
pub(super) fn grammar(adjust: impl Fn(Command, &[&'static str]) -> Command) -> Command {
    let asks = &["TASK_LOGGER_URL", "API_TOKEN", "HOST", "PORT"][..];
    let proves = &["CACHE_DIR", "PLUGIN_MEMORY_MAX", "PLUGIN_TIMEOUT_MAX"][..];
    let trusts = &["PLUGIN_TRUSTED_KEYS"][..];
    let command = |name: &'static str, about: &'static str| Command::new(name).about(about);
    let config = || file_option("config", "FILE", "Sidecar; NAME.toml beside the component without it");
    Command::new("plugin")
        .about("Write, test, measure, sign and install plugins; ask the running service for its own")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            command("new", "Make a folder with a new plugin that builds and passes its own test")
                .arg(
                    Arg::new("lang")
                        .long("lang")
                        .value_name("LANGUAGE")
                        .required(true)
                        .value_parser([
                            PossibleValue::new("rust").alias("rs"),
                            PossibleValue::new("python").alias("py"),
                            // The template's README says what to do for TypeScript.
                            PossibleValue::new("js").aliases(["javascript", "ts", "typescript"]),
                            PossibleValue::new("c"),
                        ])
                        .help("Language of the template"),
                )
                .arg(file_option("dir", "DIR", "Where to make the folder; here without it"))
                .arg(Arg::new("name").value_name("NAME").required(true).help("[a-z][a-z0-9-]{0,39}")),
        )
        .subcommand(adjust(
            command("check", "Do all that the service does before a file goes live, and say what is wrong")
                .arg(component())
                .arg(json()),
            &[proves, trusts].concat(),
        ))
        .subcommand(adjust(
            command("run", "Run events through a plugin and show what it makes of them")
                .arg(component())
                .arg(file_option("events", "FILE", "Lines as `publish` takes them").required_unless_present("task"))
                .arg(file_option("task", "DIR", "A task's folder, as the service wrote it").conflicts_with("events"))
                .arg(config())
                .arg(json()),
            proves,
        ))
        .subcommand(adjust(
            command("test", "Run golden cases; BLESS=1 rewrites what they expect").arg(component()).arg(file_option(
                "cases",
                "DIR",
                "Folder of cases; `cases` beside the component without it",
            )),
            proves,
        ))
        .subcommand(adjust(
            command("bench", "Measure a plugin: calls, compiling, instances, memory, fuel")
                .arg(component())
                .arg(file_option("events", "FILE", "Lines as `publish` takes them; made-up ones without it"))
                .arg(config())
                .arg(count("batch", "Events in a call", "16"))
                .arg(count("bytes", "Bytes of data of a made-up event", "1024"))
                .arg(json()),
            proves,
        ))
        .subcommand(adjust(
            command("install", "Check a plugin, put it into the service's folder and wait until it is live")
                .arg(component())
                .arg(file_option(
                    "to",
                    "DIR",
                    "The folder; without it the last one of the running service, or of PLUGINS_DIR",
                ))
                .arg(count("wait", "Longest wait for it to be live, in seconds", "60")),
            &[proves, trusts, asks, &["PLUGINS_DIR"]].concat(),
        ))
        .subcommand(adjust(command("ls", "List plugins and what is wrong with them").arg(json()), asks))
        .subcommand(adjust(
            command("forget", "Lift the requirement of a plugin that is gone for good")
                .arg(Arg::new("name").value_name("NAME").required(true).help("The name in its manifest")),
            asks,
        ))
        .subcommand(
            command("keygen", "Make a pair of keys to sign plugins with")
                .arg(file_option("out", "FILE", "Secret key; the public one ends in .pub").default_value("plugin.key"))
                .arg(password_file())
                .arg(
                    Arg::new("unencrypted")
                        .long("unencrypted")
                        .short('W')
                        .action(ArgAction::SetTrue)
                        .conflicts_with("password-file")
                        .help("Do not encrypt the secret key: whoever reads the file can sign"),
                ),
        )
        .subcommand(
            command("sign", "Sign a component, and its sidecar if there is one")
                .arg(component())
                .arg(file_option("key", "FILE", "Secret key").default_value("plugin.key"))
                .arg(password_file()),
        )
}

/// `replay`.
pub(super) fn replay_grammar() -> Command {
    Command::new("replay")
        .about("Run a recorded task through another set of plugins, and show what differs")
        .arg(Arg::new("task").value_name("TASK").required(true).help("The task's id below LOGS_DIR"))
        .arg(Arg::new("plugins").long("plugins").value_name("DIRS").required(true).help("As PLUGINS_DIR has them"))
        .arg(
            file_option("out", "DIR", "Where to write the new logs: a folder that is empty or not there")
                .required(true),
        )
        .arg(json())
}

fn component() -> Arg {
    Arg::new("file")
        .value_name("FILE")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help("NAME.wasm, with NAME.toml beside it if there is one")
}

fn file_option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).value_parser(value_parser!(PathBuf)).help(help)
}

fn count(name: &'static str, help: &'static str, default: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("N").value_parser(value_parser!(usize)).default_value(default).help(help)
}

fn password_file() -> Arg {
    let help =
        "File with the key's password; without it PLUGIN_KEY_PASSWORD from the environment, else it is asked for";
    file_option("password-file", "FILE", help)
}

fn json() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON")
}

/// The template's name of an alias.
fn language(given: &str) -> String {
    match given {
        "rs" => "rust",
        "py" => "python",
        "javascript" | "ts" | "typescript" => "js",
        name => name,
    }
    .to_owned()
}

fn text(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().unwrap_or_default()
}

fn path(matches: &ArgMatches, name: &str) -> Option<PathBuf> {
    matches.get_one::<PathBuf>(name).cloned()
}

fn password(matches: &ArgMatches) -> Password {
    path(matches, "password-file").map_or(Password::Ask, Password::File)
}

fn number(matches: &ArgMatches, name: &str) -> usize {
    matches.get_one::<usize>(name).copied().unwrap_or_default()
}
