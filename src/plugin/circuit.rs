//! What keeps a standard plugin that runs into its time limit again and again from stalling a lane: for a while it is asked
//! about one event at a time, with little time. Events that it handles as quickly as others do still pass through it; those
//! it would have hung on take its policy soon. A redactor has none of this: its budget stops reading.

use std::time::{Duration, Instant};

use super::budget::Budget;

/// How long it lasts. At its end one more timeout is enough to begin it again.
const COOL_OFF: Duration = Duration::from_secs(60);
/// The time left for a call: this part of the usual.
const PART: u32 = 20;
/// But not less: the clock that ends calls ticks every 10 ms.
const TIME_MIN: Duration = Duration::from_millis(20);

/// A standard plugin's record of timeouts, over all lanes.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    budget: Budget,
    until: Option<Instant>,
    /// It was throttled before: one more timeout is enough.
    warned: bool,
}

impl Circuit {
    /// Events that did not time out.
    pub(super) fn well(&mut self, events: u64) {
        if self.is_new() {
            return;
        }
        self.budget.well(events);
        if self.until.is_none() {
            self.warned = false;
        }
    }

    /// An event that timed out by itself; true when that begins a cool-off.
    pub(super) fn timed_out(&mut self, now: Instant) -> bool {
        let spent = self.budget.failed();
        if self.is_open(now) || !(spent || self.warned) {
            return false;
        }
        self.until = Some(now + COOL_OFF);
        true
    }

    /// Whether a cool-off lasts.
    pub(super) fn is_open(&mut self, now: Instant) -> bool {
        if self.until.is_some_and(|until| until <= now) {
            *self = Self { warned: true, ..Self::default() };
        }
        self.until.is_some()
    }

    /// How long the cool-off will last.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// Events that timed out: in a row, and of those last looked back at.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    fn is_new(&self) -> bool {
        !self.warned && self.budget.is_new()
    }
}

/// The time of a call during a cool-off.
pub(super) fn short(timeout: Duration) -> Duration {
    (timeout / PART).max(TIME_MIN).min(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_closes_and_opens_sooner() {
        let mut circuit = Circuit::default();
        let start = Instant::now();
        for n in 1..=5 {
            assert!(!circuit.is_open(start));
            assert_eq!(circuit.timed_out(start), n == 5, "{n}");
        }
        assert!(circuit.is_open(start) && !circuit.timed_out(start), "it begins once");
        assert_eq!(circuit.left(start), Some(COOL_OFF));
        circuit.well(1000);
        assert!(circuit.is_open(start + COOL_OFF / 2), "good events do not end it");
        let later = start + COOL_OFF;
        assert!(!circuit.is_open(later));
        assert_eq!(circuit.left(later), None);
        assert!(circuit.timed_out(later), "one more is enough");
        let later = later + COOL_OFF;
        assert!(!circuit.is_open(later));
        circuit.well(1);
        assert!(!circuit.timed_out(later), "a good event earned it the whole budget again");
    }

    #[test]
    fn there_is_always_some_time() {
        assert_eq!(short(Duration::from_secs(1)), Duration::from_millis(50));
        assert_eq!(short(Duration::from_millis(100)), TIME_MIN);
        assert_eq!(short(Duration::from_millis(5)), Duration::from_millis(5));
    }
}
