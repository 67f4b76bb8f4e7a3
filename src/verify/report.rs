//! What is told: a line of progress on a terminal, then the result in words or as one JSON object.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{finding::Findings, judge::Scope};

/// Between two lines of progress.
const EVERY: Duration = Duration::from_millis(200);

/// What was looked at.
pub(super) struct Tally {
    pub(super) entries: u64,
    /// Directories.
    pub(super) dirs: u64,
    /// Sightings of ids.
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// Records whose bytes were compared.
    pub(super) compared: u64,
    /// What cannot be known, by reason; with how many are concerned.
    unknown: BTreeMap<&'static str, u64>,
    /// A further look at the same: nothing of it counts.
    again: bool,
    shows: bool,
    shown: Instant,
    started: Instant,
}

// === impl Tally ===

impl Tally {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            entries: 0,
            dirs: 0,
            records: 0,
            bytes: 0,
            compared: 0,
            unknown: BTreeMap::new(),
            again: false,
            shows: io::stderr().is_terminal(),
            shown: now,
            started: now,
        }
    }

    /// Notes one thing that cannot be known.
    pub(super) fn unknown(&mut self, why: &'static str) {
        if !self.again {
            *self.unknown.entry(why).or_default() += 1;
        }
    }

    /// From here on the same is looked at again; returns the counts so far.
    pub(super) fn again(&mut self) -> [u64; 4] {
        self.again = true;
        [self.dirs, self.records, self.bytes, self.compared]
    }

    /// Back to these counts.
    pub(super) fn resume(&mut self, counts: [u64; 4]) {
        [self.dirs, self.records, self.bytes, self.compared] = counts;
    }

    /// Shows how far it is, now and then.
    pub(super) fn progress(&mut self, of: Option<usize>) {
        if !self.shows || self.shown.elapsed() < EVERY {
            return;
        }
        self.shown = Instant::now();
        let Self { entries, dirs, records, .. } = self;
        let of = of.map(|of| format!(" of {of}")).unwrap_or_default();
        let mut err = io::stderr();
        // Nobody is left to tell when it fails.
        drop(write!(err, "\r\x1b[Kentries {entries}, directories {dirs}{of}, records {records}").and(err.flush()));
    }

    /// Clears the line of progress.
    pub(super) fn end(&self) {
        if self.shows {
            drop(io::stderr().write_all(b"\r\x1b[K"));
        }
    }

    /// The result as one JSON object.
    pub(super) fn json(&self, findings: &Findings, scope: &Scope) -> String {
        let unknown: Vec<_> =
            self.unknown.iter().map(|(what, count)| json!({"detail": what, "count": count})).collect();
        json!({
            "checked": {
                "entries": self.entries,
                "tasks": self.dirs,
                "records": self.records,
                "compared": self.compared,
                "until": scope.until.to_string(),
            },
            "findings": findings.kept,
            "total": findings.total(),
            "by_kind": findings.by_kind.iter().map(|(kind, count)| (kind.name(), count)).collect::<BTreeMap<_, _>>(),
            "unknown": unknown,
        })
        .to_string()
    }

    /// The result in words.
    pub(super) fn text(&self, findings: &Findings, scope: &Scope, out: &mut dyn Write) -> io::Result<()> {
        let mut last = None;
        for finding in &findings.kept {
            if last != Some(&finding.task) {
                let task = finding.task.as_ref().map_or("no task".to_owned(), |task| format!("task {task}"));
                writeln!(out, "{task}")?;
                last = Some(&finding.task);
            }
            let id = finding.id.as_ref().map(|id| format!("{id} ")).unwrap_or_default();
            writeln!(out, "  {}: {}: {id}{}", finding.kind.name(), finding.file, finding.detail)?;
        }
        let hidden = findings.total() - findings.kept.len() as u64;
        if hidden > 0 {
            writeln!(out, "and {hidden} more (--limit)")?;
        }
        for (what, count) in &self.unknown {
            writeln!(out, "not known: {count} {what}")?;
        }
        let Self { entries, dirs, records, .. } = self;
        let seconds = self.started.elapsed().as_secs_f64();
        writeln!(
            out,
            "{entries} entries up to {}, {dirs} directories, {records} records in {seconds:.1} s",
            scope.until
        )?;
        if self.compared > 0 {
            writeln!(out, "{} records compared byte for byte", self.compared)?;
        }
        let kinds: Vec<_> = findings.by_kind.iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
        match findings.total() {
            0 => writeln!(out, "every one stands exactly once, in order"),
            total => writeln!(out, "{total} findings: {}", kinds.join(", ")),
        }
    }
}
