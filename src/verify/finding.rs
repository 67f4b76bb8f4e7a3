//! What was found, counted in full and kept up to a limit.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::event::{Id, StreamId};

/// Findings kept in all, whatever the limit for each task.
const KEPT_MAX: usize = 100_000;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The entry, its gap record or its dead letter stands nowhere.
    Missing,
    /// It stands more than once.
    Doubled,
    /// A record stands after a later one of its key.
    OutOfOrder,
    /// A record whose id the stream never had, or a file or directory that no entry explains.
    Foreign,
    /// A line that is no record, or a file that is not whole JSON.
    Torn,
    /// `metadata.json` or `04-final-result.json` does not say what the entries come to.
    WrongState,
    /// A record in another file or directory than its kind's and key's.
    Misplaced,
    /// A record whose time, type or content is not its entry's, or a gap where a record must stand, or the other way round.
    WrongRecord,
    /// A file has fewer bytes than were written to it, or is gone.
    Short,
    /// Files of the service's own that cannot be read.
    Unreadable,
    /// What an owner that is gone left behind.
    Leftover,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Finding {
    /// The task; `None`: the flow has not joined one, or it is about no task.
    pub task: Option<String>,
    /// Relative to `LOGS_DIR`.
    pub file: String,
    /// The entry.
    pub id: Option<String>,
    /// What is wrong.
    pub kind: Kind,
    /// In words.
    pub detail: String,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) by_kind: BTreeMap<Kind, u64>,
    /// Kept ones, in the order found.
    pub(super) kept: Vec<Finding>,
    /// Directories with findings.
    pub(super) dirs: HashSet<Box<str>>,
    /// Per directory and kind.
    counts: BTreeMap<(Box<str>, Kind), u64>,
    limit: usize,
    /// `--task`: nothing else is noted.
    only: Option<Box<str>>,
}

// === impl Findings ===

impl Findings {
    /// Keeps at most `limit` of a directory and kind; with `only` those of one directory.
    pub(super) fn new(limit: usize, only: Option<&str>) -> Self {
        Self { limit, only: only.map(Into::into), ..Self::default() }
    }

    /// With nothing in it, for the same.
    pub(super) fn empty(&self) -> Self {
        Self::new(self.limit, self.only.as_deref())
    }

    /// Another directory to look at again.
    pub(super) fn suspect(&mut self, dir: &str) {
        if !self.dirs.contains(dir) {
            self.dirs.insert(dir.into());
        }
    }

    /// Notes one. `dir`: the directory that it is about; empty for none.
    pub(super) fn add(&mut self, kind: Kind, dir: &str, file: &str, id: Option<StreamId>, detail: impl Into<String>) {
        if self.only.as_deref().is_some_and(|only| only != dir) {
            return;
        }
        *self.by_kind.entry(kind).or_default() += 1;
        self.suspect(dir);
        let count = self.counts.entry((dir.into(), kind)).or_default();
        *count += 1;
        if *count > self.limit as u64 || self.kept.len() >= KEPT_MAX {
            return;
        }
        let task = Id::from_dir_name(dir).map(|id| id.as_str().to_owned());
        let path = if dir.is_empty() || file.is_empty() { format!("{dir}{file}") } else { format!("{dir}/{file}") };
        let finding = Finding { task, file: path, id: id.map(|id| id.to_string()), kind, detail: detail.into() };
        self.kept.push(finding);
    }

    pub(super) fn total(&self) -> u64 {
        self.by_kind.values().sum()
    }

    /// Takes others in.
    pub(super) fn absorb(&mut self, other: Self) {
        for (kind, count) in other.by_kind {
            *self.by_kind.entry(kind).or_default() += count;
        }
        for (of, count) in other.counts {
            *self.counts.entry(of).or_default() += count;
        }
        self.dirs.extend(other.dirs);
        self.kept.extend(other.kept);
        self.kept.truncate(KEPT_MAX);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_kind.is_empty()
    }
}

// === impl Kind ===

impl Kind {
    /// As in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Doubled => "doubled",
            Self::OutOfOrder => "out_of_order",
            Self::Foreign => "foreign",
            Self::Torn => "torn",
            Self::WrongState => "wrong_state",
            Self::Misplaced => "misplaced",
            Self::WrongRecord => "wrong_record",
            Self::Short => "short",
            Self::Unreadable => "unreadable",
            Self::Leftover => "leftover",
        }
    }
}
