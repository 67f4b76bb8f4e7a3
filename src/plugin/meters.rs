//! What a plugin did, as metrics and for `GET /plugins`. Handles are made once per plugin version that goes live; labels
//! come from its manifest, never from what it says while it runs.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::{Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, histogram};

use super::{
    instance::{CallError, Class},
    state::Identity,
    verdict::{Decision, OTHER},
};
use crate::event::Event;

/// What became of events, in the order of [`Verdicts`].
pub(super) const VERDICTS: [&str; 6] = ["pass", "replace", "drop", "quarantine", "failed", "hold"];

/// Numbers of events by verdict.
pub(super) type Verdicts = [u64; VERDICTS.len()];

/// Counters of one plugin version.
pub(super) struct Meters {
    plugin: Arc<str>,
    calls: Counter,
    seconds: Histogram,
    verdicts: [(Counter, AtomicU64); VERDICTS.len()],
    counts: Vec<Counter>,
    failed_calls: AtomicU64,
    /// When a failed event was last logged, and how many were not since.
    said: Mutex<(Option<Instant>, u64)>,
}

/// What the metrics mean.
pub(super) fn describe() {
    describe_counter!("task_logger_plugin_calls_total", "Calls of a plugin, failed ones too");
    describe_counter!(
        "task_logger_plugin_events_total",
        "Events by what the plugin decided; failed: its policy applied"
    );
    describe_counter!("task_logger_plugin_failures_total", "Failed calls by class; a slice is asked again in halves");
    describe_histogram!("task_logger_plugin_seconds", "Time of a call, with making its instance");
    describe_counter!("task_logger_plugin_count_total", "What plugins count themselves, by a code of their manifest");
    describe_counter!("task_logger_plugin_refused_candidates_total", "Plugin files that were refused or taken back");
    describe_gauge!("task_logger_plugin_generation", "Generation of the chain in this process");
    describe_gauge!("task_logger_plugin_redactors", "Redactors in the chain");
}

impl Meters {
    pub(super) fn new(identity: &Identity) -> Self {
        let plugin = Arc::clone(&identity.name);
        let label = || plugin.to_string();
        let count =
            |name: &str| counter!("task_logger_plugin_count_total", "plugin" => label(), "name" => name.to_owned());
        Self {
            calls: counter!("task_logger_plugin_calls_total", "plugin" => label()),
            seconds: histogram!("task_logger_plugin_seconds", "plugin" => label()),
            verdicts: VERDICTS.map(|verdict| {
                (
                    counter!("task_logger_plugin_events_total", "plugin" => label(), "verdict" => verdict),
                    AtomicU64::new(0),
                )
            }),
            counts: identity.codes.iter().map(|code| count(code)).chain([count(OTHER)]).collect(),
            failed_calls: AtomicU64::new(0),
            said: Mutex::default(),
            plugin,
        }
    }

    /// A call, whatever came of it.
    pub(super) fn called(&self, took: Duration) {
        self.calls.increment(1);
        self.seconds.record(took);
    }

    /// A call that failed; rare, so the handle is looked up.
    pub(super) fn failed(&self, class: Class) {
        let plugin = self.plugin.to_string();
        counter!("task_logger_plugin_failures_total", "plugin" => plugin, "class" => class.as_str()).increment(1);
        self.failed_calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Logs an event on which the plugin failed: once a second, with the number of those in between. Nothing in the line is
    /// the producer's or the guest's text.
    pub(super) fn say_failed(&self, error: &CallError, event: &Event) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.0.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
            said.1 += 1;
            return;
        }
        let unsaid = said.1;
        *said = (Some(Instant::now()), 0);
        drop(said);
        let (plugin, id, hidden) = (&*self.plugin, event.id, error.hidden);
        tracing::warn!(plugin, %id, %error, hidden_bytes = hidden, unsaid, "plugin failed on an event");
    }

    /// Events whose fate is sealed.
    pub(super) fn decided(&self, verdicts: &Verdicts) {
        for ((counter, total), n) in self.verdicts.iter().zip(verdicts).filter(|(_, n)| **n > 0) {
            counter.increment(*n);
            total.fetch_add(*n, Ordering::Relaxed);
        }
    }

    /// A hold, however many events wait with it.
    pub(super) fn held(&self) {
        self.decided(&[0, 0, 0, 0, 0, 1]);
    }

    /// What the plugin counted itself.
    pub(super) fn counted(&self, counts: &[(usize, u64)]) {
        for (code, n) in counts {
            if let Some(counter) = self.counts.get(*code) {
                counter.increment(*n);
            }
        }
    }

    /// Totals of this version in this process.
    pub(super) fn totals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        VERDICTS.into_iter().zip(self.verdicts.iter().map(|(_, total)| total.load(Ordering::Relaxed)))
    }

    /// Calls that failed, of this version in this process.
    pub(super) fn failed_calls(&self) -> u64 {
        self.failed_calls.load(Ordering::Relaxed)
    }
}

/// Where a decision counts in [`Verdicts`].
pub(super) fn index(decision: &Decision) -> usize {
    match decision {
        Decision::Pass => 0,
        Decision::Replace(_) => 1,
        Decision::Drop(_) => 2,
        Decision::Quarantine(_) => 3,
        Decision::Failed(_) => 4,
    }
}
