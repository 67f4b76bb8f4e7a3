//! Shadow mode: a plugin runs beside the chain, on what the plugin of its name is given (or, without one, on what it would
//! be given at its place), and decides nothing. This file keeps what it came to: how often its verdict differs, bounded
//! samples of where, and how much time it took, for `GET /plugins` and the metrics.
//!
//! * Nothing that it asks for has an effect: no data, no files, no annotations, no log lines. Its own counts go into its own
//!   series.
//! * Its state of a key lives in the lane's memory ([`memory`]) and begins with the state of the plugin beside it. It is lost
//!   at a restart, and when it is suspended.
//! * It is asked about what was decided, after that, with the same `flush`. Where it holds and the plugin beside it did not,
//!   that event's verdict is `hold`, and it is asked about that event and the rest once more, with `flush`. What the plugin
//!   beside it holds it never sees before it is decided.
//! * Its failures count as verdict `failed` and touch no event, budget or reading.
//! * A call may take [`TIMEOUT_MAX`]; all calls and comparisons together a quarter of one lane's time. One that takes more is
//!   suspended for a while; it is not asked about the events in between, which are counted.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use metrics::counter;
use serde_json::{Map, Value, json};

use super::loader::Plugin;
use crate::{
    event::Event,
    metrics::{SHADOW_DIFFERENCES, SHADOW_SKIPPED},
};

pub(super) mod difference;
pub(super) mod memory;

use difference::Fate;

/// CPU time of a shadow's call, whatever its sidecar says.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_millis(100);
/// Samples kept of a shadow, the latest ones.
const SAMPLES_MAX: usize = 16;
/// The least time between two samples once that many are kept: looking for where two texts differ takes time.
const SAMPLE_PAUSE: Duration = Duration::from_millis(250);
/// One part in so many of a lane's time may go to a shadow.
const SHARE: u32 = 4;
/// Time that it may take at once.
const BURST: Duration = Duration::from_secs(1);
/// How long it is suspended.
const COOL_OFF: Duration = Duration::from_secs(30);

/// What a shadow came to, over all lanes. Lives with the plugin version.
#[derive(Debug, Default)]
pub(super) struct Record(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    compared: u64,
    skipped: u64,
    /// By verdict of the chain and verdict of the shadow.
    differences: BTreeMap<(&'static str, &'static str), u64>,
    samples: VecDeque<Value>,
    sampled: Option<Instant>,
    purse: Purse,
}

/// The time that a shadow may take.
#[derive(Debug)]
struct Purse {
    left: Duration,
    filled: Option<Instant>,
    /// Until when it is suspended.
    until: Option<Instant>,
    suspensions: u64,
}

// === impl Record ===

impl Record {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        // Counters and whole values only: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may be asked now.
    pub(super) fn may_ask(&self, now: Instant) -> bool {
        !self.notes().purse.is_closed(now)
    }

    /// It took this long; true when that suspends it.
    pub(super) fn took(&self, now: Instant, time: Duration) -> bool {
        self.notes().purse.pay(now, time)
    }

    /// Events that it was not asked about.
    pub(super) fn skipped(&self, plugin: &Plugin, events: u64) {
        self.notes().skipped += events;
        counter!(SHADOW_SKIPPED, "plugin" => plugin.name().to_string()).increment(events);
    }

    /// An event on which it came to the same.
    pub(super) fn agreed(&self) {
        self.notes().compared += 1;
    }

    /// An event on which it came to something else; true if a sample of it is wanted.
    pub(super) fn differed(&self, plugin: &Plugin, chain: &'static str, shadow: &'static str, now: Instant) -> bool {
        counter!(SHADOW_DIFFERENCES, "plugin" => plugin.name().to_string(), "enforced" => chain, "shadow" => shadow)
            .increment(1);
        let mut notes = self.notes();
        notes.compared += 1;
        *notes.differences.entry((chain, shadow)).or_default() += 1;
        let wanted = notes.samples.len() < SAMPLES_MAX
            || notes.sampled.is_none_or(|at| now.saturating_duration_since(at) >= SAMPLE_PAUSE);
        if wanted {
            notes.sampled = Some(now);
        }
        wanted
    }

    /// Keeps a sample: who, what, and where; see [`difference`] for what that may show.
    pub(super) fn sample(&self, event: &Event, chain: &Fate<'_>, shadow: &Fate<'_>, places: Vec<Value>) {
        let mut sample = Map::new();
        sample.insert("id".to_owned(), json!(event.id.to_string()));
        sample.insert("kind".to_owned(), json!(&*event.kind));
        sample.insert("enforced".to_owned(), json!(chain.shown()));
        sample.insert("shadow".to_owned(), json!(shadow.shown()));
        if !places.is_empty() {
            sample.insert("differs_at".to_owned(), Value::Array(places));
        }
        let mut notes = self.notes();
        if notes.samples.len() == SAMPLES_MAX {
            notes.samples.pop_front();
        }
        notes.samples.push_back(Value::Object(sample));
    }

    /// For `GET /plugins`.
    pub(super) fn report(&self, now: Instant) -> Value {
        let mut notes = self.notes();
        let suspended = notes.purse.is_closed(now).then(|| {
            let left = notes.purse.until.map(|until| until.saturating_duration_since(now)).unwrap_or_default();
            json!({
                "reason": format!("it took more than 1/{SHARE} of a lane's time"),
                "seconds_left": left.as_secs(),
            })
        });
        let differences: BTreeMap<String, u64> =
            notes.differences.iter().map(|((chain, shadow), n)| (format!("{chain} -> {shadow}"), *n)).collect();
        json!({
            "compared": notes.compared,
            "differed": notes.differences.values().sum::<u64>(),
            "differences": differences,
            "skipped": notes.skipped,
            "suspended": suspended,
            "suspensions": notes.purse.suspensions,
            "samples": notes.samples,
        })
    }
}

// === impl Purse ===

impl Default for Purse {
    fn default() -> Self {
        Self { left: BURST, filled: None, until: None, suspensions: 0 }
    }
}

impl Purse {
    fn is_closed(&mut self, now: Instant) -> bool {
        if self.until.is_some_and(|until| until <= now) {
            *self = Self { suspensions: self.suspensions, ..Self::default() };
        }
        self.until.is_some()
    }

    fn pay(&mut self, now: Instant, time: Duration) -> bool {
        let since = self.filled.map(|at| now.saturating_duration_since(at)).unwrap_or_default();
        self.filled = Some(now);
        self.left = (self.left + since / SHARE).min(BURST).saturating_sub(time);
        if !self.left.is_zero() || self.until.is_some() {
            return false;
        }
        self.until = Some(now + COOL_OFF);
        self.suspensions += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_time_is_its_own() {
        let mut purse = Purse::default();
        let start = Instant::now();
        // 240 ms of each second, for ever.
        for second in 1..1000 {
            assert!(!purse.pay(start + Duration::from_secs(second), Duration::from_millis(240)), "{second}");
        }
        // Half of each second: soon too much.
        let start = start + Duration::from_secs(1000);
        let spent = (1..10).find(|second| purse.pay(start + Duration::from_secs(*second), BURST / 2));
        let end = start + Duration::from_secs(spent.unwrap());
        assert!(purse.is_closed(end + COOL_OFF / 2));
        assert!(!purse.is_closed(end + COOL_OFF) && purse.left == BURST && purse.suspensions == 1);
        assert!(purse.pay(end + COOL_OFF, BURST), "at once, too");
    }
}
