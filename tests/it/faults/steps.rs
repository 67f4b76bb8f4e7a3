//! The list of all steps that have a failpoint, and how a test gets there. A step in the code that is missing here fails the
//! tests, and one that is never reached, too.

use std::{collections::BTreeSet, fs, path::Path};

use super::world::Source;
use crate::checker::files_below;

/// How a step is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// While events come in, at one of the first hits, so many at most.
    Running(u64),
    /// By a process that starts after one that was killed at work.
    Starting,
    /// By a process that is asked to end.
    Ending,
}

/// A step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) when: When,
    /// Rules that lead there.
    pub(super) with: &'static str,
    /// Where it exists; `None`: on both streams.
    pub(super) only: Option<Source>,
}

const fn running(name: &'static str, hits: u64) -> Step {
    Step { name, when: When::Running(hits), with: "", only: None }
}

const fn starting(name: &'static str) -> Step {
    Step { name, when: When::Starting, with: "", only: None }
}

const fn on(only: Source, step: Step) -> Step {
    Step { only: Some(only), ..step }
}

const fn with(with: &'static str, step: Step) -> Step {
    Step { with, ..step }
}

use Source::{Embedded, Redis};

pub(super) const STEPS: &[Step] = &[
    running("read::before", 8),
    running("read::after", 4),
    running("commit::formed", 6),
    // The journal: a record, ...
    running("journal::append", 6),
    running("journal::part", 6),
    running("journal::written", 6),
    with("journal::append=2*off->1*return(ENOSPC)", running("journal::cut", 1)),
    running("journal::sync", 6),
    running("journal::synced", 6),
    // ... a segment, at the beginning and under way, ...
    starting("journal::create"),
    starting("journal::zeroed"),
    starting("journal::start"),
    starting("journal::rename"),
    starting("journal::renamed"),
    with("checkpoint::begin=pause", running("journal::create", 2)),
    with("checkpoint::begin=pause", running("journal::zeroed", 2)),
    running("journal::start", 2),
    running("journal::rename", 2),
    running("journal::renamed", 2),
    running("journal::recycle", 2),
    running("journal::recycled", 2),
    starting("journal::read"),
    // Publishing.
    running("publish::bury", 2),
    running("publish::buried", 2),
    running("publish::position", 6),
    running("publish::executed", 6),
    running("publish::done", 6),
    // The task files.
    running("apply::begin", 4),
    running("apply::mkdir", 3),
    running("apply::open", 6),
    running("apply::stage", 6),
    running("apply::stage_part", 6),
    running("apply::staged", 6),
    running("apply::rename", 6),
    running("apply::renamed", 6),
    running("apply::append", 12),
    running("apply::part", 12),
    running("apply::remove", 1),
    running("apply::between", 12),
    running("apply::done", 4),
    // Checkpoints.
    running("checkpoint::begin", 2),
    running("checkpoint::state", 4),
    running("checkpoint::state_part", 4),
    running("checkpoint::syncfs", 2),
    running("checkpoint::synced", 2),
    running("checkpoint::state_renamed", 4),
    running("checkpoint::write", 2),
    running("checkpoint::part", 2),
    running("checkpoint::sync", 2),
    running("checkpoint::rename", 2),
    running("checkpoint::renamed", 2),
    running("checkpoint::done", 2),
    // Recovery.
    starting("recover::begin"),
    starting("recover::record"),
    starting("recover::applied"),
    starting("recover::cut"),
    starting("recover::states"),
    starting("recover::bury"),
    starting("recover::checkpoint"),
    starting("recover::remove"),
    starting("recover::removed"),
    // The ownership.
    running("owner::look", 3),
    starting("lease::take"),
    starting("lease::taken"),
    on(Redis, running("lease::renew", 1)),
    Step { when: When::Ending, ..running("lease::release", 1) },
    // The embedded stream.
    on(Embedded, starting("log::epoch")),
    on(Embedded, starting("log::epoch_rename")),
    on(Embedded, running("log::position", 6)),
    on(Embedded, running("log::position_part", 6)),
    on(Embedded, running("log::append", 6)),
    on(Embedded, running("log::part", 6)),
    on(Embedded, running("log::written", 6)),
    on(Embedded, with("log::append=1*return(ENOSPC)", running("log::cut", 1))),
    on(Embedded, running("log::sync", 6)),
    on(Embedded, running("log::synced", 6)),
    on(Embedded, running("log::create", 2)),
    on(Embedded, running("log::zeroed", 2)),
    on(Embedded, running("log::start", 2)),
    on(Embedded, running("log::rename", 2)),
    on(Embedded, running("log::renamed", 2)),
    on(Embedded, starting("log::repair")),
    on(Embedded, starting("log::read")),
    on(Embedded, running("dead::append", 2)),
    on(Embedded, running("dead::part", 2)),
    on(Embedded, running("dead::written", 2)),
    on(Embedded, with("dead::append=1*return(ENOSPC)", running("dead::cut", 1))),
    on(Embedded, running("dead::sync", 2)),
    on(Embedded, running("dead::synced", 2)),
    on(Embedded, running("dead::create", 1)),
    on(Embedded, running("dead::zeroed", 1)),
    on(Embedded, running("dead::start", 1)),
    on(Embedded, running("dead::rename", 1)),
    on(Embedded, running("dead::renamed", 1)),
    on(Embedded, starting("dead::repair")),
    on(Embedded, starting("dead::read")),
    on(Embedded, running("log::trim", 1)),
    // Trimming, where it is asked for.
    running("trim::begin", 3),
    running("trim::bound", 3),
    running("trim::done", 3),
    // Retention, where it is asked for.
    running("retention::walk", 3),
    running("apply::clear", 3),
    running("apply::cleared", 3),
    running("retention::free", 4),
    running("tombstones::append", 3),
    running("tombstones::part", 3),
    running("tombstones::sync", 3),
];

/// Only with `TRIM=published`.
pub(super) fn is_trimming(step: &Step) -> bool {
    step.name.starts_with("trim::")
}

/// Only with `RETAIN`.
pub(super) fn is_retaining(step: &Step) -> bool {
    ["retention::", "apply::clear", "tombstones::"].iter().any(|part| step.name.starts_with(part))
}

/// The journal is never gone on with: a new owner makes a segment of its own.
const NEVER: &[&str] = &["journal::repair"];

/// The names that follow a call in a text.
fn names<'t>(text: &'t str, call: &str) -> Vec<&'t str> {
    let calls = text.split(call).skip(1);
    calls.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()).collect()
}

#[test]
fn every_step_in_the_code_is_in_the_list() {
    let (mut code, mut bugs) = (BTreeSet::new(), BTreeSet::new());
    for path in files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if path.ends_with("fault.rs") || path.parent().is_some_and(|folder| folder.ends_with("fault")) {
            continue;
        }
        for call in ["fault::point(", "fault::pass(", "fault::halves("] {
            code.extend(names(&text, call).into_iter().map(str::to_owned));
        }
        for call in ["fault::segment(", "fault::segment_halves("] {
            let each = |step| ["journal", "log", "dead"].map(|log| format!("{log}::{step}"));
            code.extend(names(&text, call).into_iter().flat_map(each));
        }
        bugs.extend(names(&text, "fault::mutated(").into_iter().map(str::to_owned));
    }
    let listed: BTreeSet<String> =
        STEPS.iter().map(|step| step.name).chain(NEVER.iter().copied()).map(str::to_owned).collect();
    assert_eq!(code.difference(&listed).collect::<Vec<_>>(), Vec::<&String>::new(), "in the code alone");
    assert_eq!(listed.difference(&code).collect::<Vec<_>>(), Vec::<&String>::new(), "in the list alone");
    let found: BTreeSet<String> = super::mutations::BUGS.iter().map(|bug| (*bug).to_owned()).collect();
    assert_eq!(bugs, found, "a bug that no test looks for, or the other way round");
}
