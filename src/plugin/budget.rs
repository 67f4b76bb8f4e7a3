//! How many events a redactor may fail on before nothing more is read: 5 in a row, or 5 % of the last 200.

use std::collections::VecDeque;

/// Failed events in a row.
pub(super) const ROW_MAX: u32 = 5;
/// Events looked back at.
pub(super) const WINDOW: u64 = 200;
/// Failed ones among them.
pub(super) const WINDOW_MAX: usize = 10;

/// A redactor's record over its last events.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget {
    seen: u64,
    row: u32,
    /// Sequence numbers of failures in the window.
    failed: VecDeque<u64>,
    /// Never used up: on an author's desk every event is to be seen.
    lenient: bool,
}

impl Budget {
    /// One that is never used up.
    pub(super) fn lenient() -> Self {
        Self { lenient: true, ..Self::default() }
    }

    /// Events that went well.
    pub(super) fn well(&mut self, events: u64) {
        if events > 0 {
            self.seen += events;
            self.row = 0;
            self.forget();
        }
    }

    /// An event that failed; true when the budget is used up.
    pub(super) fn failed(&mut self) -> bool {
        self.seen += 1;
        self.row += 1;
        self.failed.push_back(self.seen);
        self.forget();
        self.is_spent()
    }

    /// Whether it failed too often.
    pub(super) fn is_spent(&self) -> bool {
        !self.lenient && (self.row >= ROW_MAX || self.failed.len() >= WINDOW_MAX)
    }

    /// Failed events: in a row, and among those looked back at.
    pub(super) fn failures(&self) -> (u32, usize) {
        (self.row, self.failed.len())
    }

    /// Whether nothing is on it.
    pub(super) fn is_new(&self) -> bool {
        self.row == 0 && self.failed.is_empty()
    }

    fn forget(&mut self) {
        while self.failed.front().is_some_and(|at| at + WINDOW <= self.seen) {
            self.failed.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_in_a_row() {
        let mut budget = Budget::default();
        budget.well(1000);
        for n in 1..=5 {
            assert_eq!(budget.failed(), n == 5);
        }
        assert!(budget.is_spent());
    }

    #[test]
    fn a_success_breaks_the_row_but_not_the_window() {
        let mut budget = Budget::default();
        for n in 1..=10 {
            budget.well(9);
            assert_eq!(budget.failed(), n == 10, "{n}");
        }
    }

    #[test]
    fn less_than_five_percent_goes_on_for_ever() {
        let mut budget = Budget::default();
        for _ in 0..1000 {
            budget.well(22);
            assert!(!budget.failed());
        }
        assert!(budget.failed.len() < WINDOW_MAX);
    }
}
