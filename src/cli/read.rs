//! The grammar of what reads logs: `logs`, `ls`, `show`, `get`, `archive`, `search`, `wait` and `top`, from a running service or,
//! with `--dir`, from a folder.

use std::{path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use jiff::Timestamp;

use crate::{
    layout,
    reader::{Cursor, Field, Filter, Format, InvalidFilter, Level, Order, Pattern, TaskQuery, time},
};

/// A command that reads, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// A `LOGS_DIR`; `None`: the running service is asked.
    pub dir: Option<PathBuf>,
    /// What to do.
    pub what: Read,
}

/// A command that reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Print a task's records.
    Logs(Logs),
    /// List tasks.
    Ls(Tasks),
    /// Show a task at a glance.
    Show {
        /// The task's id.
        task: String,
        /// For machines.
        json: bool,
    },
    /// Print or save a file of a task.
    Get {
        /// The task's id.
        task: String,
        /// The file's name.
        file: String,
        /// Where to save it; `None`: standard output.
        output: Option<PathBuf>,
    },
    /// Save all files of a task in one.
    Archive(Archive),
    /// Search all tasks for a text.
    Search(Search),
    /// Wait until a task has ended.
    Wait {
        /// The task's id.
        task: String,
        /// For so long.
        timeout: Option<Duration>,
    },
    /// Show tasks as they change.
    Top(Top),
}

/// Which records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Files of records; none: the standard ones.
    pub files: Vec<String>,
    /// Values of `type` or `stage`.
    pub kinds: Vec<String>,
    /// Names of tools.
    pub tools: Vec<String>,
    /// Least severity.
    pub level: Option<String>,
    /// Earliest time.
    pub since: Option<String>,
    /// Before this time.
    pub until: Option<String>,
    /// A text that must occur.
    pub grep: Option<String>,
    /// A regular expression that must match.
    pub regex: Option<String>,
}

/// Which records to print, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// The task's id.
    pub task: String,
    /// Go on as they come, until the task has ended.
    pub follow: bool,
    /// Which ones.
    pub choice: Choice,
    /// The last so many.
    pub tail: Option<u64>,
    /// At most so many.
    pub limit: Option<u64>,
    /// Behind this place.
    pub after: Option<Cursor>,
    /// Which way.
    pub order: Order,
    /// In which form.
    pub form: Form,
}

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// For people.
    #[default]
    Pretty,
    /// One JSON document.
    Json,
    /// A JSON object a line, as HTTP has them.
    Ndjson,
    /// Markdown.
    Markdown,
    /// Records as they stand in their files.
    Raw,
}

/// Which tasks to list, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    /// Wanted values of status, source, agent and model.
    pub facets: [Vec<String>; 4],
    /// Created at this time or later.
    pub since: Option<String>,
    /// Created before this time.
    pub until: Option<String>,
    /// A text in id or title.
    pub text: Option<String>,
    /// Only those with errors.
    pub errors: bool,
    /// `created`, `-cost`, ...
    pub sort: Option<String>,
    /// At most so many.
    pub limit: Option<u64>,
    /// For machines.
    pub json: bool,
}

/// What to pack, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The task's id.
    pub task: String,
    /// Packed as.
    pub format: Format,
    /// Which records the files of records shall hold.
    pub choice: Choice,
    /// Where to save it; `None`: standard output.
    pub output: Option<PathBuf>,
}

/// What to search for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// The text, and which records.
    pub choice: Choice,
    /// Hits at most.
    pub limit: u64,
    /// For machines: a hit a line.
    pub json: bool,
}

/// Which tasks to show as they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// Which ones, and in which order.
    pub tasks: Tasks,
    /// Between two pictures.
    pub interval: Duration,
    /// So many pictures.
    pub pictures: Option<u64>,
}

/// Parameters of [`Tasks::facets`].
pub(super) const FACETS: [&str; 4] = ["status", "source", "agent", "model"];

// === impl Choice ===

impl Choice {
    /// What a reader of files asks.
    pub fn filter(&self, now: Timestamp) -> Result<Filter, InvalidFilter> {
        let moment = |text: &Option<String>| text.as_ref().map(|text| time(text, now)).transpose();
        let text = match (&self.grep, &self.regex) {
            (Some(text), _) if !text.is_empty() => Some(Pattern::literal(text)?),
            (_, Some(regex)) => Some(Pattern::regex(regex)?),
            _ => None,
        };
        Ok(Filter {
            kinds: self.kinds.clone(),
            tools: self.tools.clone(),
            level: self.level.as_ref().map(|level| Level::parse(level)).transpose()?,
            since: moment(&self.since)?,
            until: moment(&self.until)?,
            text,
        })
    }

    /// What a service is asked.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        let lists = [("file", &self.files), ("type", &self.kinds), ("tool", &self.tools)];
        let many = lists.into_iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value.clone())));
        let ones = [
            ("level", &self.level),
            ("since", &self.since),
            ("until", &self.until),
            ("q", &self.grep),
            ("regex", &self.regex),
        ];
        many.chain(ones.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)))).collect()
    }
}

// === impl Tasks ===

impl Tasks {
    /// What an index is asked, but for the page.
    pub fn of_index(&self, now: Timestamp) -> Result<TaskQuery, InvalidFilter> {
        let moment = |text: &Option<String>| text.as_ref().map(|text| time(text, now)).transpose();
        let (by, descending) = self.sort.as_deref().and_then(order_of).unwrap_or((Field::Created, true));
        Ok(TaskQuery {
            facets: self.facets.clone(),
            since: moment(&self.since)?,
            until: moment(&self.until)?,
            text: self.text.clone().filter(|text| !text.is_empty()),
            errors: self.errors.then_some(true),
            by,
            descending,
            ..TaskQuery::default()
        })
    }

    /// What a service is asked, but for the page.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        let facets = FACETS.into_iter().zip(&self.facets);
        let many = facets.flat_map(|(name, values)| values.iter().map(move |value| (name, value.clone())));
        let ones = [("since", &self.since), ("until", &self.until), ("q", &self.text), ("sort", &self.sort)];
        let errors = self.errors.then(|| ("errors", "true".to_owned()));
        many.chain(ones.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)))).chain(errors).collect()
    }
}

/// The command of this name, if it is one of these.
pub(super) fn read(name: &str, matches: &ArgMatches) -> Option<Reading> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let task = || text("task").unwrap_or_default();
    let path = |name: &str| matches.get_one::<PathBuf>(name).filter(|path| path.as_os_str() != "-").cloned();
    let json = || matches.get_flag("json");
    let seconds = |name: &str| matches.get_one::<Duration>(name).copied();
    let what = match name {
        "logs" => Read::Logs(Logs {
            task: task(),
            follow: matches.get_flag("follow"),
            choice: choice(matches),
            tail: matches.get_one("tail").copied(),
            limit: matches.get_one("limit").copied(),
            after: matches.get_one("after").cloned(),
            order: matches
                .get_one::<String>("order")
                .filter(|order| *order == "desc")
                .map_or_else(Order::default, |_| Order::Descending),
            form: form(matches),
        }),
        "ls" => Read::Ls(tasks(matches)),
        "show" => Read::Show { task: task(), json: json() },
        "get" => Read::Get { task: task(), file: text("file").unwrap_or_default(), output: path("output") },
        "archive" => {
            let output = path("output");
            let named = output.as_ref().and_then(|path| format_of(&path.to_string_lossy()));
            let asked = text("format").and_then(|format| Format::parse(&format));
            let format = asked.or(named).unwrap_or(Format::TarGz);
            Read::Archive(Archive { task: task(), format, choice: choice(matches), output })
        }
        "search" => {
            let (text, regex) = (text("text"), matches.get_flag("is-regex"));
            let (grep, regex) = if regex { (None, text) } else { (text, None) };
            let choice = Choice { grep, regex, ..choice(matches) };
            Read::Search(Search { choice, limit: matches.get_one("limit").copied().unwrap_or_default(), json: json() })
        }
        "wait" => Read::Wait { task: task(), timeout: seconds("timeout") },
        "top" => Read::Top(Top {
            tasks: tasks(matches),
            interval: seconds("interval").unwrap_or(Duration::from_secs(1)),
            pictures: matches.get_one("count").copied(),
        }),
        _ => return None,
    };
    Some(Reading { dir: matches.get_one::<PathBuf>("dir").cloned(), what })
}

fn choice(matches: &ArgMatches) -> Choice {
    // `search` has some of these only.
    let text = |name: &str| matches.try_get_one::<String>(name).ok().flatten().cloned();
    Choice {
        files: many(matches, "file"),
        kinds: many(matches, "type"),
        tools: many(matches, "tool"),
        level: text("level"),
        since: text("since"),
        until: text("until"),
        grep: text("grep"),
        regex: text("regex"),
    }
}

fn tasks(matches: &ArgMatches) -> Tasks {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    Tasks {
        facets: FACETS.map(|facet| many(matches, facet)),
        since: text("since"),
        until: text("until"),
        text: text("grep"),
        errors: matches.get_flag("errors"),
        sort: text("sort"),
        limit: matches.get_one("limit").copied(),
        json: form(matches) == Form::Json,
    }
}

fn many(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches.try_get_many::<String>(name).ok().flatten().into_iter().flatten().cloned().collect()
}

fn form(matches: &ArgMatches) -> Form {
    match matches.get_one::<String>("form").map(String::as_str) {
        Some("json") => Form::Json,
        Some("ndjson") => Form::Ndjson,
        Some("md") => Form::Markdown,
        Some("raw") => Form::Raw,
        _ => Form::Pretty,
    }
}

/// The commands; `adjust` adds settings.
pub(super) fn grammar(adjust: impl Fn(Command) -> Command) -> Vec<Command> {
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

fn order_of(text: &str) -> Option<(Field, bool)> {
    let (name, descending) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
    Field::ALL.into_iter().find(|field| field.name() == name).map(|field| (field, descending))
}

/// What a file of this name is packed as.
fn format_of(name: &str) -> Option<Format> {
    match name {
        _ if name.ends_with(".tar.gz") || name.ends_with(".tgz") => Some(Format::TarGz),
        _ if name.ends_with(".tar.zst") => Some(Format::TarZst),
        _ if name.ends_with(".zip") => Some(Format::Zip),
        _ => None,
    }
}
