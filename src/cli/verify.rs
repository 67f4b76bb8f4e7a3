//! The grammar of `verify`.

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::event::StreamId;

/// Findings of a task and kind that are told without `--limit`.
const LIMIT: &str = "20";

/// What to compare, and how to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    /// For machines.
    pub json: bool,
    /// One task only.
    pub task: Option<String>,
    /// Most findings of a task and kind that are told.
    pub limit: usize,
    /// Compare records byte for byte where no plugin ran.
    pub content: bool,
    /// Entries below it need not be there.
    pub since: Option<StreamId>,
}

pub(super) fn read(matches: &ArgMatches) -> Verify {
    Verify {
        json: matches.get_flag("json"),
        task: matches.get_one("task").cloned(),
        limit: matches.get_one("limit").copied().unwrap_or_default(),
        content: matches.get_flag("content"),
        since: matches.get_one("since").copied(),
    }
}

pub(super) fn grammar() -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    Command::new("verify")
        .about("Prove that every entry of the stream stands exactly once, in order, in LOGS_DIR; status 1 when not, 2 when it cannot be seen")
        .arg(flag("json", "Print one JSON object"))
        .arg(Arg::new("task").long("task").value_name("ID").help("Look at this task only"))
        .arg(
            Arg::new("limit")
                .long("limit")
                .value_name("N")
                .value_parser(clap::value_parser!(usize))
                .default_value(LIMIT)
                .help("Most findings of a task and kind that are told; all are counted"),
        )
        .arg(flag("content", "Also compare records byte for byte where no plugin processed the task"))
        .arg(
            Arg::new("since")
                .long("since")
                .value_name("ID")
                .value_parser(clap::value_parser!(StreamId))
                .help("Entries below this id need not be there: another consumer had them"),
        )
}
