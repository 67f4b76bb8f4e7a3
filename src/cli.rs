//! The command line: what was asked for. Flags of settings are made from the table of settings, so that a flag, its variable
//! and its line in the README cannot differ.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::{SETTINGS, Setting, Unset};

mod dlq;
mod doctor;
mod plugin;
mod verify;

pub use dlq::{DlqCommand, Purge, Which};
pub use plugin::{Bench, Events, Password, PluginCommand, Replay, Trial};
pub use verify::Verify;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub action: Action,
    /// Values of settings' flags, by variable name.
    pub flags: BTreeMap<String, String>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the service.
    Serve,
    /// Run the service on the bundled session.
    Demo {
        /// End when the session is through.
        exit: bool,
    },
    /// Send events.
    Publish(Publish),
    /// Print a task's logs.
    Logs {
        /// The task's id.
        task: String,
        /// Go on as they grow.
        follow: bool,
    },
    /// List tasks.
    Ls,
    /// Ask whether the service is well.
    Health,
    /// Look at what the service stands on.
    Doctor {
        /// For machines.
        json: bool,
    },
    /// Of plugins.
    Plugin(PluginCommand),
    /// Run a recorded task through another set of plugins.
    Replay(Replay),
    /// Compare a stream with its files.
    Verify(Verify),
    /// Of dead letters.
    Dlq(DlqCommand),
    /// The child process that compiles a component.
    CompileComponent,
}

/// What to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// `None`: standard input.
    pub file: Option<PathBuf>,
    /// Claude Code's `--output-format stream-json` for this task; `None`: event lines.
    pub stream_json: Option<String>,
    /// With `stream_json`: also announce the task (`task:created`, `task:started`).
    pub announce: bool,
}

/// Reads the arguments, the program's name first. The error prints itself: help, version, or what is wrong.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    let mut flags = BTreeMap::new();
    collect_flags(&matches, &mut flags);
    let mut inner = &matches;
    while let Some((_, deeper)) = inner.subcommand() {
        collect_flags(deeper, &mut flags);
        inner = deeper;
    }
    Ok(Invocation { action: action(&matches), flags })
}

fn action(matches: &ArgMatches) -> Action {
    let text = |matches: &ArgMatches, name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    match matches.subcommand() {
        Some(("demo", demo)) => Action::Demo { exit: demo.get_flag("exit") },
        Some(("publish", publish)) => Action::Publish(Publish {
            file: publish.get_one::<PathBuf>("file").filter(|file| file.as_os_str() != "-").cloned(),
            stream_json: publish.get_flag("stream-json").then(|| text(publish, "task-id")),
            announce: !publish.get_flag("no-announce"),
        }),
        Some(("logs", logs)) => Action::Logs { task: text(logs, "task"), follow: logs.get_flag("follow") },
        Some(("ls", _)) => Action::Ls,
        Some(("health", _)) => Action::Health,
        Some(("doctor", matches)) => doctor::read(matches),
        Some(("plugin", matches)) => Action::Plugin(plugin::read(matches)),
        Some(("dlq", matches)) => Action::Dlq(dlq::read(matches)),
        Some(("replay", matches)) => Action::Replay(plugin::read_replay(matches)),
        Some(("verify", matches)) => Action::Verify(verify::read(matches)),
        Some(("compile-component", _)) => Action::CompileComponent,
        _ => Action::Serve,
    }
}

fn collect_flags(matches: &ArgMatches, flags: &mut BTreeMap<String, String>) {
    for id in matches.ids() {
        // A setting's argument has the variable's name as its id; all others are in lower case.
        if id.as_str().starts_with(|first: char| first.is_ascii_uppercase())
            && let Some(value) = matches.get_one::<String>(id.as_str())
        {
            flags.insert(id.as_str().to_owned(), value.clone());
        }
    }
}

/// The whole grammar.
pub fn command() -> Command {
    let asks = ["TASK_LOGGER_URL", "API_TOKEN", "HOST", "PORT"];
    let publishes = [&asks[..], &["REDIS_URL", "REDIS_STREAM", "MAX_EVENT"]].concat();
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let asking = |name: &'static str, about: &'static str| with_settings(Command::new(name).about(about), Some(&asks));

    let serve = with_settings(Command::new("serve").about("Run the service (the default)"), None);
    let demo = with_settings(Command::new("demo"), None)
        .about("Run the service in a fresh folder on a bundled session, and show what became of it")
        .arg(flag("exit", "End with the session; status 0 when all of it went well"));
    let publish = with_settings(Command::new("publish"), Some(&publishes))
        .about("Send events, one JSON object a line: into Redis with REDIS_URL, else to the running service")
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("`-` or none: standard input"),
        )
        .arg(
            flag("stream-json", "Lines are Claude Code's --output-format stream-json, of one task").requires("task-id"),
        )
        .arg(Arg::new("task-id").long("task-id").value_name("ID").requires("stream-json").help("The task's id"))
        .arg(
            flag("no-announce", "Send no task:created and task:started: another producer does").requires("stream-json"),
        );
    let logs = asking("logs", "Print a task's logs")
        .arg(Arg::new("task").value_name("TASK").required(true).help("The task's id"))
        .arg(flag("follow", "Go on as they grow, until the task ends").short('f'));
    let plugin = plugin::grammar(|command, names| with_settings(command, Some(names)));
    let dlq = dlq::grammar(|command, names| with_settings(command, Some(names)));
    let replay = with_settings(plugin::replay_grammar(), None);
    let doctor = with_settings(doctor::grammar(), None);
    let compile = Command::new("compile-component")
        .hide(true)
        .arg(Arg::new("rest").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true));

    with_settings(Command::new("task-logger"), None)
        .about("Reads task events from a stream, passes them through WebAssembly plugins, writes per-task log directories and serves them over HTTP")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .subcommands([
            serve,
            demo,
            publish,
            logs,
            asking("ls", "List tasks"),
            asking("health", "Ask whether the service is well; status 0 when it is"),
            doctor,
            plugin,
            replay,
            with_settings(verify::grammar(), None),
            dlq,
            compile,
        ])
}

/// Adds the flags of these settings (`None`: of all).
fn with_settings(command: Command, names: Option<&[&str]>) -> Command {
    let wanted = SETTINGS.iter().filter(|setting| names.is_none_or(|names| names.contains(&setting.name)));
    wanted.fold(command, |command, setting| command.args(arguments(setting)))
}

fn arguments(setting: &Setting) -> Vec<Arg> {
    let default = match setting.default {
        Unset::Is(text) => text.to_owned(),
        Unset::Means(words) => words.replace('`', ""),
    };
    let help = format!("{} [{}; default: {default}]", setting.help.replace('`', ""), setting.name);
    let argument = |name: String, flag: String| {
        Arg::new(name).long(flag).help_heading("Settings").hide_short_help(false).num_args(1).allow_hyphen_values(true)
    };
    let mut arguments =
        vec![argument(setting.name.into(), setting.flag()).value_name(setting.kind.placeholder()).help(help)];
    if setting.is_secret() {
        let help = format!("File that holds it [{}]", setting.file_name());
        let flag = format!("{}-file", setting.flag());
        arguments.push(argument(setting.file_name(), flag).value_name("FILE").help(help));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::StreamId;

    fn parsed(line: &str) -> Invocation {
        parse(line.split_whitespace().map(OsString::from)).unwrap()
    }

    #[test]
    fn the_grammar_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn serving_is_the_default() {
        assert_eq!(parsed("task-logger").action, Action::Serve);
        let with = parsed("task-logger --port 1 --redis-url redis://h serve --port 2 --api-token-file /t");
        assert_eq!(with.action, Action::Serve);
        let flags: Vec<_> = with.flags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(flags, [("API_TOKEN_FILE", "/t"), ("PORT", "2"), ("REDIS_URL", "redis://h")]);
    }

    #[test]
    fn every_setting_is_a_flag_of_serve() {
        for setting in SETTINGS {
            let flags = parsed(&format!("task-logger serve --{} x", setting.flag())).flags;
            assert_eq!(flags.get(setting.name).map(String::as_str), Some("x"));
        }
    }

    #[test]
    fn commands_are_read() {
        let publish = |file: Option<&str>, task: Option<&str>, announce| {
            Action::Publish(Publish { file: file.map(PathBuf::from), stream_json: task.map(str::to_owned), announce })
        };
        for (line, action) in [
            ("demo --exit", Action::Demo { exit: true }),
            ("publish", publish(None, None, true)),
            ("publish -", publish(None, None, true)),
            ("publish events.jsonl --url http://h", publish(Some("events.jsonl"), None, true)),
            ("publish --stream-json --task-id t-1", publish(None, Some("t-1"), true)),
            ("publish --stream-json --task-id t-1 --no-announce", publish(None, Some("t-1"), false)),
            ("logs t-1 -f", Action::Logs { task: "t-1".into(), follow: true }),
            ("ls", Action::Ls),
            ("health", Action::Health),
            ("doctor", Action::Doctor { json: false }),
            ("doctor --json --logs-dir l", Action::Doctor { json: true }),
            ("plugin ls", Action::Plugin(PluginCommand::Ls { json: false })),
            ("plugin ls --json", Action::Plugin(PluginCommand::Ls { json: true })),
            ("plugin forget redact", Action::Plugin(PluginCommand::Forget { name: "redact".into() })),
            (
                "plugin new --lang js my-plugin",
                Action::Plugin(PluginCommand::New { lang: "js".into(), name: "my-plugin".into(), dir: None }),
            ),
            (
                "plugin bench p.wasm --batch 3",
                Action::Plugin(PluginCommand::Bench(Bench {
                    file: "p.wasm".into(),
                    events: None,
                    config: None,
                    batch: 3,
                    bytes: 1024,
                    json: false,
                })),
            ),
            (
                "plugin sign p.wasm --password-file s",
                Action::Plugin(PluginCommand::Sign {
                    file: "p.wasm".into(),
                    key: "plugin.key".into(),
                    password: Password::File("s".into()),
                }),
            ),
            (
                "plugin keygen --out k -W",
                Action::Plugin(PluginCommand::Keygen { out: "k".into(), password: Password::None }),
            ),
            (
                "replay t-1 --plugins a:b --out o --json",
                Action::Replay(Replay { task: "t-1".into(), plugins: "a:b".into(), out: "o".into(), json: true }),
            ),
            (
                "verify --json --task t-1 --limit 3 --content --since 5-0",
                Action::Verify(Verify {
                    json: true,
                    task: Some("t-1".into()),
                    limit: 3,
                    content: true,
                    since: Some(StreamId { ms: 5, seq: 0 }),
                }),
            ),
            ("dlq ls --reason bad_json", {
                let which = Which { reason: Some("bad_json".into()), ..Which::default() };
                Action::Dlq(DlqCommand::Ls(which))
            }),
            (
                "dlq purge --before 2026-01-01T00:00:00Z --yes",
                Action::Dlq(DlqCommand::Purge {
                    what: Purge::Before("2026-01-01T00:00:00Z".parse().unwrap()),
                    yes: true,
                }),
            ),
            (
                "dlq put 5-1",
                Action::Dlq(DlqCommand::Put { id: "5-1".parse().unwrap(), wait: std::time::Duration::from_secs(10) }),
            ),
            ("compile-component --any thing", Action::CompileComponent),
        ] {
            assert_eq!(parsed(&format!("task-logger {line}")).action, action, "{line}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "serve --prot 1",
            "publish --stream-json",
            "publish --task-id t",
            "logs",
            "fly",
            "plugin",
            "plugin new --lang cobol p",
            "plugin run p.wasm",
            "replay t",
            "verify --since yesterday",
            "dlq",
            "dlq show x",
            "dlq purge",
            "dlq purge --all 1-0",
            "dlq ls --since soon",
        ] {
            let args = format!("task-logger {line}");
            assert!(parse(args.split_whitespace().map(OsString::from)).is_err(), "{line}");
        }
    }
}
