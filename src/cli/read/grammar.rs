//! The arguments of the commands that read.

use std::{path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, Command, value_parser};
use jiff::Timestamp;

use super::order_of;
use crate::{
    layout,
    reader::{Cursor, InvalidFilter, Level, Pattern, time},
};

/// The commands; `adjust` adds settings.
pub(in crate::cli) fn grammar(adjust: impl Fn(Command) -> Command) -> Vec<Command> {
    let dir = || option("dir", "DIR", "Read this LOGS_DIR; no service is asked").value_parser(value_parser!(PathBuf));
    let command = |name: &'static str, about: &'static str| adjust(Command::new(name).about(about).arg(dir()));
    let task = || Arg::new("task").value_name("TASK").required(true).help("The task's id");
    let json = |help: &'static str| flag("json", help);
    let output = || {
        option("output", "FILE", "Save it there, complete or not at all; `-` or none: standard output")
            .short('O')
            .value_parser(value_parser!(PathBuf))
    };
    let logs = command("logs", "Print a task's records, in the order of the stream, and how it ended")
        .arg(task())
        .arg(flag("follow", "Go on as they come, until the task ends").short('f'))
        .args(choosing())
        .arg(
            option("tail", "N", "The last N records")
                .conflicts_with_all(["after", "order"])
                .value_parser(value_parser!(u64).range(..=100_000)),
        )
        .arg(option("limit", "N", "N records at most").short('n').value_parser(value_parser!(u64).range(1..)))
        .arg(
            option("after", "CURSOR", "Begin behind this place: the `cursor` of a record")
                .value_parser(value_parser!(Cursor)),
        )
        .arg(option("order", "ORDER", "Which way").value_parser(["asc", "desc"]).conflicts_with("follow"))
        .arg(
            option("form", "FORM", "In which form; raw: records as they stand in their files")
                .long("output")
                .short('o')
                .value_parser(["pretty", "json", "ndjson", "md", "raw"])
                .default_value("pretty"),
        );
    let archive =
        command("archive", "Pack all files of a task, or with filters what is wanted of its records, into one")
            .arg(task())
            .arg(output())
            .arg(
                option("format", "FORMAT", "Else by the name of FILE, else tar.gz")
                    .value_parser(["tar.gz", "tar.zst", "zip"]),
            )
            .args(choosing());
    let search = command("search", "Search all tasks' records for a text, the newest task first")
        .arg(Arg::new("text").value_name("TEXT").required(true).help("What to look for, in any case"))
        .arg(flag("is-regex", "TEXT is a regular expression").long("regex"))
        .args(choosing().into_iter().filter(|arg| !matches!(arg.get_id().as_str(), "file" | "grep" | "regex")))
        .arg(
            option("limit", "N", "N hits at most")
                .short('n')
                .value_parser(value_parser!(u64).range(1..))
                .default_value("100"),
        )
        .arg(json("A JSON object a hit"));
    let wait = command(
        "wait",
        "Wait until a task has ended; status 0 when it completed, 1 when it failed, 75 when the time ran out",
    )
    .arg(task())
    .arg(option("timeout", "TIME", "Longest wait, like 90s or 2h").value_parser(duration));
    let top =
        listing(command("top", "Show tasks as they change; `q` ends it. Without a terminal print a table each time"))
            .arg(option("interval", "TIME", "Time between two looks, like 2s").value_parser(duration))
            .arg(option("count", "N", "End after N tables").value_parser(value_parser!(u64).range(1..)));
    vec![
        logs,
        listing(command("ls", "List tasks, the newest first")),
        command("show", "Show a task at a glance: status, times, cost, tokens, files, plugins")
            .arg(task())
            .arg(json("All that the service says, as JSON")),
        command("get", "Print a file of a task as it stands, or save it")
            .arg(task())
            .arg(Arg::new("file").value_name("FILE").required(true).help("The file's name; `show` lists them"))
            .arg(output()),
        archive,
        search,
        wait,
        top,
    ]
}

fn listing(command: Command) -> Command {
    let values = |name: &'static str, help: &'static str| {
        option(name, "NAME", help).action(ArgAction::Append).value_delimiter(',')
    };
    command
        .arg(
            option("status", "STATUS", "Only with this status; may be repeated, like the next three")
                .action(ArgAction::Append)
                .value_delimiter(',')
                .value_parser(["created", "running", "completed", "failed"]),
        )
        .arg(values("source", "Only from this source"))
        .arg(values("agent", "Only of this agent"))
        .arg(values("model", "Only of this model"))
        .args(times("Tasks created"))
        .arg(option("grep", "TEXT", "Only with this text in id or title").short('q'))
        .arg(flag("errors", "Only with errors"))
        .arg(
            option("sort", "FIELD", "created, started, completed, duration, cost, tokens, errors or id; `-` in front: the greatest first")
                .allow_hyphen_values(true)
                .value_parser(|text: &str| match order_of(text) {
                    Some(_) => Ok(text.to_owned()),
                    None => Err("it is one of created, started, completed, duration, cost, tokens, errors, id, with or without `-` in front"),
                }),
        )
        .arg(option("limit", "N", "N tasks at most").short('n').value_parser(value_parser!(u64).range(1..)))
        .arg(option("form", "FORM", "In which form").long("output").short('o').value_parser(["table", "json"]).default_value("table"))
}

/// Flags that choose records.
fn choosing() -> Vec<Arg> {
    let many = |name: &'static str, value: &'static str, help: &'static str| {
        option(name, value, help).action(ArgAction::Append).value_delimiter(',')
    };
    let file = |text: &str| match layout::is_record_file(text) {
        true => Ok(text.to_owned()),
        false => Err("a file of records is NAME.jsonl"),
    };
    let mut args = vec![
        many("file", "NAME", "Only of this file of records; may be repeated, like type and tool").value_parser(file),
        many("type", "TYPE", "Only of this type or stage"),
        many("tool", "NAME", "Only of this tool"),
        option("level", "LEVEL", "Only this severe: debug, info, warn or error")
            .value_parser(checked(|text| Level::parse(text).map(drop))),
        option("grep", "TEXT", "Only with this text, in any case")
            .short('q')
            .conflicts_with("regex")
            .value_parser(checked(|text| Pattern::literal(text).map(drop))),
        option("regex", "EXPR", "Only what this regular expression matches")
            .value_parser(checked(|text| Pattern::regex(text).map(drop))),
    ];
    args.extend(times("Records"));
    args
}

fn times(what: &str) -> [Arg; 2] {
    let moment = || checked(|text| time(text, Timestamp::now()).map(drop));
    [
        option("since", "WHEN", "")
            .help(format!("{what} at this time or later: 2026-01-31T10:00:00Z, or 15m ago"))
            .value_parser(moment()),
        option("until", "WHEN", "").help(format!("{what} before this time")).value_parser(moment()),
    ]
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// A text that is passed on as it is when it makes sense.
fn checked(
    check: impl Fn(&str) -> Result<(), InvalidFilter> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync + 'static {
    move |text| match check(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(why) => Err(format!("it {why}")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map(Duration::from_secs).ok();
    let written = || text.parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    seconds.or_else(written).ok_or_else(|| "expected a time like 90s, 15m or 2h".to_owned())
}
