//! The grammar of `doctor`.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::Action;

pub(super) fn grammar() -> Command {
    Command::new("doctor")
        .about(
            "Look at what the service stands on (Redis, disks, folders, limits) and say what to do; takes its settings",
        )
        .after_help(
            "Changes nothing. Measures syncs with a file of its own in STATE_DIR, which is gone afterwards.\n\
             Status 0: nothing fails; 1: something does; 2: the settings are wrong, so that it could not look.",
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("For machines"))
}

pub(super) fn read(matches: &ArgMatches) -> Action {
    Action::Doctor { json: matches.get_flag("json") }
}
