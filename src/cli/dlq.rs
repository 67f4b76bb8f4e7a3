//! The grammar of `dlq …`: dead letters in the hands of operators.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use jiff::Timestamp;

use crate::event::StreamId;

/// Settings that say which stream is meant, and how its letters are kept.
const STREAM: &[&str] = &["REDIS_URL", "REDIS_STREAM", "STREAM_DIR", "MAX_EVENT"];

/// What is asked of the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DlqCommand {
    /// List them.
    Ls(Which),
    /// Show what is kept of an entry.
    Show {
        /// The entry.
        id: StreamId,
        /// For machines.
        json: bool,
    },
    /// Append entries anew and remove their letters.
    Replay {
        /// The entries.
        ids: Vec<StreamId>,
    },
    /// Put an entry of the stream among them.
    Put {
        /// The entry.
        id: StreamId,
        /// Longest wait for the owner to do it.
        wait: Duration,
    },
    /// Remove letters for good.
    Purge {
        /// Which ones.
        what: Purge,
        /// Without being asked.
        yes: bool,
    },
}

/// Which letters to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// With this reason.
    pub reason: Option<String>,
    /// Of this plugin.
    pub plugin: Option<String>,
    /// Buried at this time or later.
    pub since: Option<Timestamp>,
    /// For machines.
    pub json: bool,
}

/// Which letters to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// All of them.
    All,
    /// Those buried before this time.
    Before(Timestamp),
    /// Those of these entries.
    Of(Vec<StreamId>),
}

pub(super) fn read(matches: &ArgMatches) -> DlqCommand {
    let Some((name, matches)) = matches.subcommand() else { return DlqCommand::Ls(Which::default()) };
    let ids = || matches.get_many::<StreamId>("id").into_iter().flatten().copied().collect::<Vec<_>>();
    let id = || ids().first().copied().unwrap_or(StreamId::MIN);
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let time = |name: &str| matches.get_one::<Timestamp>(name).copied();
    match name {
        "show" => DlqCommand::Show { id: id(), json: matches.get_flag("json") },
        "replay" => DlqCommand::Replay { ids: ids() },
        "put" => {
            let seconds = matches.get_one::<u64>("wait").copied().unwrap_or_default();
            DlqCommand::Put { id: id(), wait: Duration::from_secs(seconds) }
        }
        "purge" => DlqCommand::Purge {
            what: match (matches.get_flag("all"), time("before")) {
                (true, _) => Purge::All,
                (false, Some(before)) => Purge::Before(before),
                (false, None) => Purge::Of(ids()),
            },
            yes: matches.get_flag("yes"),
        },
        _ => DlqCommand::Ls(Which {
            reason: text("reason"),
            plugin: text("plugin"),
            since: time("since"),
            json: matches.get_flag("json"),
        }),
    }
}

/// `dlq`; `adjust` adds settings.
pub(super) fn grammar(adjust: impl Fn(Command, &[&'static str]) -> Command) -> Command {
    let command = |name: &'static str, about: &'static str| adjust(Command::new(name).about(about), STREAM);
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let json = || flag("json", "For machines");
    let id =
        || Arg::new("id").value_name("ID").value_parser(value_parser!(StreamId)).help("The entry's id in the stream");
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("dlq")
        .about("Handle dead letters: entries that could not be processed")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            command("ls", "List them")
                .arg(option("reason", "REASON", "Only with this reason"))
                .arg(option("plugin", "NAME", "Only of this plugin"))
                .arg(option("since", "WHEN", "Only those buried since: a time, or an age like 2h").value_parser(when))
                .arg(json()),
        )
        .subcommand(command("show", "Print what is kept of an entry, as it came").arg(id().required(true)).arg(json()))
        .subcommand(
            command("replay", "Append entries anew, each with replay_of and its old id, and remove their letters")
                .arg(id().required(true).num_args(1..)),
        )
        .subcommand(
            command("put", "Have the owner put an entry of the stream among them, for instance one that blocks")
                .arg(id().required(true))
                .arg(
                    option("wait", "SECONDS", "Longest wait for it; what was asked for stands, whoever waits")
                        .value_parser(value_parser!(u64))
                        .default_value("10"),
                ),
        )
        .subcommand(
            command("purge", "Remove letters for good")
                .arg(id().num_args(0..).required_unless_present_any(["all", "before"]))
                .arg(flag("all", "All of them").conflicts_with_all(["id", "before"]))
                .arg(
                    option("before", "WHEN", "Those buried before: a time, or an age like 30d")
                        .value_parser(when)
                        .conflicts_with("id"),
                )
                .arg(flag("yes", "Do not ask")),
        )
}

/// A time in RFC 3339, or so long ago.
fn when(text: &str) -> Result<Timestamp, String> {
    let rule = || "expected a time like 2026-02-10T09:00:00Z, or an age with its unit s, m, h or d".to_owned();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let unit = text.chars().last().and_then(|unit| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        'd' => Some(86_400),
        _ => None,
    });
    let number = text.get(..text.len().saturating_sub(1)).and_then(|number| number.parse::<u64>().ok());
    let seconds = unit.zip(number).and_then(|(unit, number)| number.checked_mul(unit)).ok_or_else(rule)?;
    Timestamp::now().checked_sub(Duration::from_secs(seconds)).map_err(|_| rule())
}
