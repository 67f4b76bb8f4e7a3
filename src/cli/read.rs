//! The grammar of what reads logs: `logs`, `ls`, `show`, `get`, `archive`, `search`, `wait` and `top`, from a running service or,
//! with `--dir`, from a folder.

use std::{path::PathBuf, time::Duration};

use clap::ArgMatches;
use jiff::Timestamp;

use crate::reader::{Cursor, Field, Filter, Format, InvalidFilter, Level, Order, Pattern, TaskQuery, time};

mod grammar;

pub(super) use grammar::grammar;

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
