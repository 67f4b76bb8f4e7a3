//! The list of all steps that have a failpoint, and how a test gets there. A step in the code that is missing here fails the
//! tests, and one that is never reached, too.

use super::world::Source;

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

pub(super) const STEPS: &[Step] =
    &[running("journal::sync", 6), running("publish::done", 6), running("apply::part", 12)];
