//! The command line: what was asked for. Flags of settings are made from the table of settings, so that a flag, its variable
//! and its line in the README cannot differ.

use std::{collections::BTreeMap, ffi::OsString, io, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::{SETTINGS, Setting, Unset};

mod dlq;
mod doctor;
mod plugin;
mod read;
mod verify;

pub use dlq::{DlqCommand, Purge, Which};
pub use plugin::{Bench, Events, Password, PluginCommand, Replay, Trial};
pub use read::{Archive, Choice, Form, Logs, Read, Reading, Search, Tasks, Top};
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
    /// Read logs.
    Read(Box<Reading>),
    /// Print a script for a shell that completes this command line.
    Completions(clap_complete::Shell),
    /// Print a manual page.
    Man {
        /// Of this command; none: of the program.
        command: Vec<String>,
    },
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
        Some(("completions", matches)) => matches.get_one("shell").copied().map_or(Action::Serve, Action::Completions),
        Some(("man", matches)) => {
            let names = matches.get_many::<String>("command").into_iter().flatten();
            Action::Man { command: names.cloned().collect() }
        }
        Some(("health", _)) => Action::Health,
        Some(("doctor", matches)) => doctor::read(matches),
        Some(("plugin", matches)) => Action::Plugin(plugin::read(matches)),
        Some(("dlq", matches)) => Action::Dlq(dlq::read(matches)),
        Some(("replay", matches)) => Action::Replay(plugin::read_replay(matches)),
        Some(("verify", matches)) => Action::Verify(verify::read(matches)),
        Some(("compile-component", _)) => Action::CompileComponent,
        Some((name, matches)) => {
            read::read(name, matches).map_or(Action::Serve, |reading| Action::Read(Box::new(reading)))
        }
        None => Action::Serve,
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
    let completions =
        Command::new("completions").about("Print a script that completes this command line, for a shell to read").arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(clap::value_parser!(clap_complete::Shell)),
        );
    let plugin = plugin::grammar(|command, names| with_settings(command, Some(names)));
    let dlq = dlq::grammar(|command, names| with_settings(command, Some(names)));
    let replay = with_settings(plugin::replay_grammar(), None);
    let doctor = with_settings(doctor::grammar(), None);
    let compile = Command::new("compile-component")
        .hide(true)
        .arg(Arg::new("rest").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true));

    let man = Command::new("man")
        .about("Print a manual page, for `man -l -`")
        .arg(Arg::new("command").value_name("COMMAND").num_args(0..).help("Of this command; none: of the program"));

    with_settings(Command::new("task-logger"), None)
        .about("Reads task events from a stream, passes them through WebAssembly plugins, writes per-task log directories and serves them over HTTP")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .subcommands([
            serve,
            demo,
            publish,
            asking("health", "Ask whether the service is well; status 0 when it is"),
            doctor,
            plugin,
            replay,
            with_settings(verify::grammar(), None),
            dlq,
            completions,
            man,
            compile,
        ])
        .subcommands(read::grammar(|command| with_settings(command, Some(&asks))))
}

/// The script by which a shell completes this command line.
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "task-logger", &mut script);
    script
}

/// The manual page of a command, `None` when there is none of that name.
pub fn man(names: &[String]) -> Option<io::Result<Vec<u8>>> {
    let mut whole = command();
    // Gives the commands below their whole names.
    whole.build();
    let found = names.iter().try_fold(&whole, |command, name| command.find_subcommand(name))?;
    let mut page = Vec::new();
    Some(clap_mangen::Man::new(found.clone()).render(&mut page).map(|()| page))
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
            ("man dlq ls", Action::Man { command: vec!["dlq".into(), "ls".into()] }),
            (
                "logs t-1 -f",
                Action::Read(Box::new(Reading {
                    dir: None,
                    what: Read::Logs(Logs { task: "t-1".into(), follow: true, ..Logs::default() }),
                })),
            ),
            (
                "wait t --timeout 90 --dir d",
                Action::Read(Box::new(Reading {
                    dir: Some("d".into()),
                    what: Read::Wait { task: "t".into(), timeout: Some(std::time::Duration::from_secs(90)) },
                })),
            ),
            ("completions fish", Action::Completions(clap_complete::Shell::Fish)),
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
    fn shells_and_readers_get_the_whole_grammar() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let script = String::from_utf8(completions(shell)).unwrap();
            assert!(
                script.contains("task-logger") && script.contains("archive") && script.contains("ndjson"),
                "{shell}"
            );
        }
        let page = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            man(&names).map(|page| String::from_utf8(page.unwrap()).unwrap())
        };
        assert!(page(&[]).unwrap().contains("task\\-logger\\-logs"));
        assert!(page(&["dlq", "ls"]).unwrap().contains("task\\-logger dlq ls"));
        assert_eq!(page(&["fly"]), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "serve --prot 1",
            "publish --stream-json",
            "publish --task-id t",
            "logs",
            "logs t --tail 1 --after 0",
            "logs t --tail 1 --order desc",
            "logs t -f --order desc",
            "logs t -q a --regex b",
            "logs t --regex (",
            "logs t --level loud",
            "logs t --since soon",
            "logs t --file metadata.json",
            "logs t -o xml",
            "logs t --limit 0",
            "ls --sort up",
            "ls --status over",
            "archive t --format rar",
            "search",
            "wait t --timeout soon",
            "completions cmd",
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
