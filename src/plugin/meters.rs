//! What a plugin did, as metrics and for `GET /plugins`. Handles are made once per plugin version that goes live and go on
//! over versions; the totals beside them are the version's own. Labels come from its manifest, never from what it says
//! while it runs, and of a process the first so many.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use serde_json::{Map, Value, json};

use super::{
    instance::{CallError, Class, Wear},
    state::{Identity, Staged},
    verdict::{Decision, OTHER},
};
use crate::{
    event::Event,
    metrics::{ENFORCING, PluginSeries, SHADOW},
};

/// What became of events, in the order of [`Verdicts`].
pub(super) const VERDICTS: [&str; 6] = ["pass", "replace", "drop", "quarantine", "failed", "hold"];
/// Names and codes of plugins that get series of their own in a process; all later ones share [`OTHER`].
const LABELS_MAX: usize = 4096;

/// Lines of a plugin version that a second of the service's log has room for: a call may write 256, and there may be thousands
/// of calls a second.
const LOG_LINES_PER_SECOND: u32 = 100;

/// Numbers of events by verdict.
pub(super) type Verdicts = [u64; VERDICTS.len()];

/// Counters of one plugin version.
pub(super) struct Meters {
    series: &'static PluginSeries,
    /// Of the series.
    label: String,
    plugin: Arc<str>,
    calls: Counted,
    seconds: Histogram,
    nanos: AtomicU64,
    slowest: AtomicU64,
    bytes_in: Counted,
    bytes_out: Counted,
    verdicts: [Counted; VERDICTS.len()],
    /// By the manifest's codes, in their order, then `other`.
    counts: Vec<Counted>,
    codes: Vec<Arc<str>>,
    failures: [AtomicU64; Class::ALL.len()],
    memory: (Gauge, AtomicU64),
    instances: Arc<Level>,
    held: Arc<Level>,
    /// When a failed event was last logged, and how many were not since.
    said: Mutex<(Option<Instant>, u64)>,
    logged: Mutex<LogQuota>,
}

/// A series over all versions, and this version's part of it.
struct Counted(Counter, AtomicU64);

/// How many lines of a plugin were logged in this second.
#[derive(Debug, Default)]
struct LogQuota {
    second: Option<Instant>,
    lines: u32,
    /// Since the last line that was logged.
    omitted: u64,
    all_omitted: u64,
}

/// A number that goes up and down: a series, which others may add to, and one's own part of it.
#[derive(Debug)]
pub(super) struct Level(Gauge, AtomicU64);

/// Part of a [`Level`] for as long as it lives.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Level>,
    n: u64,
}

// === impl Meters ===

impl Meters {
    pub(super) fn new(identity: &Identity, shadow: bool) -> Self {
        let series = if shadow { &SHADOW } else { &ENFORCING };
        let plugin = Arc::clone(&identity.name);
        let name = bounded(&plugin, &plugin);
        let label = || name.clone();
        let count = |code: &str| {
            let code = bounded(&format!("{plugin}/{code}"), code);
            Counted::new(counter!(series.count, "plugin" => label(), "name" => code))
        };
        let memory = gauge!(series.memory, "plugin" => label());
        memory.set(0.0);
        // Shown from the start: what first appears with its first failure looks like none.
        for class in Class::ALL {
            counter!(series.failures, "plugin" => label(), "class" => class.as_str()).increment(0);
        }
        Self {
            calls: Counted::new(counter!(series.calls, "plugin" => label())),
            seconds: histogram!(series.seconds, "plugin" => label()),
            nanos: AtomicU64::new(0),
            slowest: AtomicU64::new(0),
            bytes_in: Counted::new(counter!(series.bytes_in, "plugin" => label())),
            bytes_out: Counted::new(counter!(series.bytes_out, "plugin" => label())),
            verdicts: VERDICTS
                .map(|verdict| Counted::new(counter!(series.events, "plugin" => label(), "verdict" => verdict))),
            counts: identity.codes.iter().map(|code| count(code)).chain([count(OTHER)]).collect(),
            codes: identity.codes.iter().map(Arc::clone).chain([OTHER.into()]).collect(),
            failures: [const { AtomicU64::new(0) }; Class::ALL.len()],
            memory: (memory, AtomicU64::new(0)),
            instances: Arc::new(Level::new(gauge!(series.instances, "plugin" => label()))),
            held: Arc::new(Level::new(gauge!(series.held, "plugin" => label()))),
            said: Mutex::default(),
            logged: Mutex::default(),
            label: name,
            series,
            plugin,
        }
    }

    /// A call with so much event data, whatever came of it.
    pub(super) fn called(&self, took: Duration, bytes: usize) {
        self.calls.add(1);
        self.seconds.record(took);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
        self.slowest.fetch_max(nanos, Relaxed);
        self.bytes_in.add(bytes as u64);
    }

    /// What a call that went well gave, and the memory of its instance after it.
    pub(super) fn answered(&self, decisions: &[Decision], staged: &Staged, memory: usize) {
        let data = decisions.iter().map(|decision| if let Decision::Replace(data) = decision { data.len() } else { 0 });
        let files = staged.files.iter().map(|file| file.text.len());
        let out = data.chain(files).sum::<usize>();
        if out > 0 {
            self.bytes_out.add(out as u64);
        }
        let (gauge, most) = &self.memory;
        if most.fetch_max(memory as u64, Relaxed) < memory as u64 {
            gauge.set(memory as f64);
        }
    }

    /// A call that failed; rare, so the handle is looked up.
    pub(super) fn failed(&self, class: Class) {
        counter!(self.series.failures, "plugin" => self.label.clone(), "class" => class.as_str()).increment(1);
        if let Some(total) = self.failures.get(class as usize) {
            total.fetch_add(1, Relaxed);
        }
    }

    /// A kept instance that was given up.
    pub(super) fn recycled(&self, wear: Wear) {
        counter!(self.series.recycled, "plugin" => self.label.clone(), "reason" => wear.as_str()).increment(1);
    }

    /// It took too much time and gets less, or none.
    pub(super) fn suspended(&self) {
        counter!(self.series.suspended, "plugin" => self.label.clone()).increment(1);
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

    /// Whether a line of the plugin may be logged now. `Some`: yes, and so many were left out since the last one.
    pub(super) fn may_log(&self, now: Instant) -> Option<u64> {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }

    /// Events whose fate is sealed.
    pub(super) fn decided(&self, verdicts: &Verdicts) {
        for (counted, n) in self.verdicts.iter().zip(verdicts).filter(|(_, n)| **n > 0) {
            counted.add(*n);
        }
    }

    /// A hold, however many events wait with it.
    pub(super) fn held(&self) {
        self.decided(&[0, 0, 0, 0, 0, 1]);
    }

    /// What the plugin counted itself.
    pub(super) fn counted(&self, counts: &[(usize, u64)]) {
        for (code, n) in counts {
            if let Some(counted) = self.counts.get(*code) {
                counted.add(*n);
            }
        }
    }

    /// An instance that lives now.
    pub(super) fn instance(&self) -> Share {
        Level::share(&self.instances, 1)
    }

    /// Events that wait now.
    pub(super) fn holding(&self, events: u64) -> Share {
        Level::share(&self.held, events)
    }

    /// The label that stands for it in series.
    pub(super) fn label(&self) -> String {
        self.label.clone()
    }

    /// All of this version in this process, for `GET /plugins`.
    pub(super) fn report(&self) -> Map<String, Value> {
        let events: Map<String, Value> =
            VERDICTS.into_iter().zip(&self.verdicts).map(|(verdict, n)| (verdict.to_owned(), json!(n.get()))).collect();
        let counts = self.codes.iter().zip(&self.counts).filter(|(_, n)| n.get() > 0);
        let counts: Map<String, Value> = counts.map(|(code, n)| (code.to_string(), json!(n.get()))).collect();
        let failures = Class::ALL.iter().zip(&self.failures).map(|(class, n)| (class, n.load(Relaxed)));
        let failures: Map<String, Value> =
            failures.filter(|(_, n)| *n > 0).map(|(class, n)| (class.as_str().to_owned(), json!(n))).collect();
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let (calls, nanos) = (self.calls.get(), self.nanos.load(Relaxed));
        let cost = json!({
            "calls": calls,
            "mean_us": micros(nanos.checked_div(calls).unwrap_or(0)),
            "slowest_us": micros(self.slowest.load(Relaxed)),
            "bytes_in": self.bytes_in.get(),
            "bytes_out": self.bytes_out.get(),
            "memory_bytes": self.memory.1.load(Relaxed),
            "instances": self.instances.get(),
        });
        let failed: u64 = self.failures.iter().map(|n| n.load(Relaxed)).sum();
        let pairs = [
            ("events", Value::Object(events)),
            ("failed_calls", json!(failed)),
            ("failures", Value::Object(failures)),
            ("counts", Value::Object(counts)),
            ("held_events", json!(self.held.get())),
            ("log_lines_omitted", json!(self.logged.lock().unwrap_or_else(PoisonError::into_inner).all_omitted)),
            ("cost", cost),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// A label's text in this process; `whole` is what tells it from others.
fn bounded(whole: &str, text: &str) -> String {
    static LABELS: Mutex<Labels> = Mutex::new(Labels(BTreeSet::new()));
    LABELS.lock().unwrap_or_else(PoisonError::into_inner).take(whole, text)
}

/// Labels that have series of their own.
struct Labels(BTreeSet<String>);

impl Labels {
    fn take(&mut self, whole: &str, text: &str) -> String {
        if self.0.len() < LABELS_MAX {
            self.0.insert(whole.to_owned());
        }
        if self.0.contains(whole) { text.to_owned() } else { OTHER.to_owned() }
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

// === impl LogQuota ===

impl LogQuota {
    fn take(&mut self, now: Instant) -> Option<u64> {
        if self.second.is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1)) {
            (self.second, self.lines) = (Some(now), 0);
        }
        if self.lines >= LOG_LINES_PER_SECOND {
            self.omitted += 1;
            self.all_omitted += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.omitted))
    }
}

// === impl Counted ===

impl Counted {
    fn new(series: Counter) -> Self {
        Self(series, AtomicU64::new(0))
    }

    fn add(&self, n: u64) {
        self.0.increment(n);
        self.1.fetch_add(n, Relaxed);
    }

    fn get(&self) -> u64 {
        self.1.load(Relaxed)
    }
}

// === impl Level ===

impl Level {
    pub(super) fn new(series: Gauge) -> Self {
        Self(series, AtomicU64::new(0))
    }

    /// Adds to it until the share is dropped.
    pub(super) fn share(level: &Arc<Self>, n: u64) -> Share {
        level.0.increment(n as f64);
        level.1.fetch_add(n, Relaxed);
        Share { of: Arc::clone(level), n }
    }

    pub(super) fn get(&self) -> u64 {
        self.1.load(Relaxed)
    }
}

// === impl Share ===

impl Drop for Share {
    fn drop(&mut self) {
        self.of.0.decrement(self.n as f64);
        self.of.1.fetch_sub(self.n, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_a_bounded_set() {
        let names: Vec<String> = (0..LABELS_MAX + 100).map(|n| format!("code{n}")).collect();
        let mut known = Labels(BTreeSet::new());
        let labels: BTreeSet<String> = names.iter().map(|name| known.take(&format!("p/{name}"), name)).collect();
        assert_eq!(labels.len(), LABELS_MAX + 1);
        assert!(labels.contains(OTHER));
        assert_eq!(known.take("p/code0", "code0"), "code0", "who came first keeps its series");
    }

    #[test]
    fn a_second_has_room_for_so_many_lines_and_the_others_are_counted() {
        let (mut quota, start) = (LogQuota::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for _ in 0..LOG_LINES_PER_SECOND {
            assert_eq!(quota.take(at(0)), Some(0));
        }
        assert_eq!((quota.take(at(1)), quota.take(at(999))), (None, None));
        assert_eq!((quota.take(at(1000)), quota.take(at(1000))), (Some(2), Some(0)), "told once");
        assert_eq!(quota.all_omitted, 2);
    }

    #[test]
    fn shares_are_given_back() {
        let identity = Identity { name: "shares".into(), redactor: false, codes: Vec::new(), files: Vec::new() };
        let meters = Meters::new(&identity, false);
        let (one, two) = (meters.holding(3), meters.holding(4));
        assert_eq!(meters.report()["held_events"], 7);
        drop(one);
        assert_eq!(meters.report()["held_events"], 4);
        drop(two);
        assert_eq!(meters.report()["held_events"], 0);
    }
}
