//! Where the service stands in its stream. One position, no pending list: the highest id read and the holes below it that
//! are not yet committed. [`Position`] is the durable form, [`Tracker`] its live one.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{event::StreamId, status::PositionView};

/// The durable position. An entry at or below `high` and not in `holes` is a duplicate, whatever became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Counts the streams that stood under this name: raised when ids went backwards (flush, fail-over).
    pub incarnation: u64,
    /// Everything at or below it is committed: what is published.
    pub low: StreamId,
    /// The highest id that is committed.
    pub high: StreamId,
    /// Entries below `high` that are read and not yet committed (in flight, held), ascending.
    pub holes: Vec<StreamId>,
    /// Entries read up to `low`, counted from the stream's first; `None` when not known (an adopted group).
    pub read: Option<u64>,
    /// Entries above `low` that are committed.
    pub above: u64,
}

/// What one commit does to a [`Position`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The new incarnation.
    pub incarnation: u64,
    /// The new `low`.
    pub low: StreamId,
    /// The new highest committed id.
    pub high: StreamId,
    /// Ids between the old and the new `high` that stay open, ascending.
    pub opened: Vec<StreamId>,
    /// Ids at or below the old `high` that this commit closes.
    pub closed: Vec<StreamId>,
    /// The new count of entries read up to `low`.
    pub read: Option<u64>,
    /// The new count of committed entries above `low`.
    pub above: u64,
}

/// The live position: every entry that is read and not yet passed by `low`, in stream order.
#[derive(Debug, Default)]
pub struct Tracker {
    incarnation: u64,
    window: VecDeque<Slot>,
    high: StreamId,
    low: StreamId,
    /// Highest id ever taken in; what is at or below it and not in the window is a duplicate.
    taken: StreamId,
    read: Option<u64>,
    /// Committed entries in the window.
    above: u64,
    /// From before a restart: the old `high`, and how many entries up to it were committed between its holes.
    restored: (StreamId, u64),
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    id: StreamId,
    committed: bool,
}

// === impl Position ===

impl Position {
    /// Whether the entry was committed before.
    pub fn is_committed(&self, id: StreamId) -> bool {
        id <= self.high && self.holes.binary_search(&id).is_err()
    }

    /// Takes a committed step; the journal's replay and the checkpoint go through here.
    pub fn apply(&mut self, step: &Step) {
        if step.incarnation != self.incarnation {
            self.incarnation = step.incarnation;
            self.holes.clear();
        }
        (self.low, self.high) = (step.low, step.high);
        self.read = step.read;
        self.above = step.above;
        self.holes.retain(|id| step.closed.binary_search(id).is_err());
        self.holes.extend(&step.opened);
        self.holes.sort_unstable();
    }
}

// === impl Tracker ===

impl Tracker {
    /// Goes on from a durable position. Its holes must be taken in again with [`Tracker::take`].
    pub fn new(position: &Position) -> Self {
        Self {
            incarnation: position.incarnation,
            window: position.holes.iter().map(|&id| Slot { id, committed: false }).collect(),
            high: position.high,
            low: position.low,
            taken: position.high,
            read: position.read,
            above: 0,
            restored: (position.high, position.above),
        }
    }

    /// Notes an entry that was read. `false` for a duplicate, which must not be processed.
    pub fn take(&mut self, id: StreamId) -> bool {
        if id > self.taken {
            self.window.push_back(Slot { id, committed: false });
            self.taken = id;
            return true;
        }
        self.find(id).is_some_and(|at| !self.window[at].committed)
    }

    /// Marks entries as committed and returns what that does to the durable position. Ids not in the window are ignored.
    pub fn commit(&mut self, ids: &[StreamId]) -> Step {
        let old_high = self.high;
        let mut closed = Vec::new();
        for &id in ids {
            let Some(at) = self.find(id) else { continue };
            if !std::mem::replace(&mut self.window[at].committed, true) {
                self.above += 1;
            }
            if id <= old_high {
                closed.push(id);
            }
            self.high = self.high.max(id);
        }
        closed.sort_unstable();
        let between = self.window.partition_point(|slot| slot.id <= old_high);
        let opened = self
            .window
            .range(between..)
            .take_while(|slot| slot.id <= self.high)
            .filter(|slot| !slot.committed)
            .map(|slot| slot.id)
            .collect();
        while let Some(slot) = self.window.front().filter(|slot| slot.committed) {
            self.low = slot.id;
            self.read = self.read.map(|n| n + 1);
            self.above -= 1;
            self.window.pop_front();
        }
        let (old_high, between) = self.restored;
        if self.window.front().is_none_or(|slot| slot.id > old_high) {
            self.low = self.low.max(old_high);
            self.read = self.read.map(|n| n + between);
            self.restored.1 = 0;
        }
        let above = self.above + self.restored.1;
        Step { incarnation: self.incarnation, low: self.low, high: self.high, opened, closed, read: self.read, above }
    }

    /// The published position: everything at or below it is committed.
    pub fn low(&self) -> StreamId {
        self.low
    }

    /// What is shown of it.
    pub fn view(&self) -> PositionView {
        PositionView { low: self.low, high: self.high, open: self.window.len() as u64 - self.above }
    }

    /// Entries read up to `low`.
    pub fn read(&self) -> Option<u64> {
        self.read
    }

    /// Counts entries that the stream lost before they could be read: they are behind us, too.
    pub fn skip(&mut self, entries: u64) {
        self.read = self.read.map(|read| read + entries);
    }

    /// Corrects the count of entries read, when the stream says it and nothing is open.
    pub fn set_read(&mut self, read: u64) {
        if self.window.is_empty() {
            self.read = Some(read);
        }
    }

    /// Entries that are read and not committed.
    pub fn open(&self) -> u64 {
        self.window.len() as u64 - self.above
    }

    /// Starts over below a stream whose ids went backwards. Only when nothing is open.
    pub fn restart(&mut self, incarnation: u64, at: StreamId, read: Option<u64>) {
        *self = Self { incarnation, high: at, low: at, taken: at, read, ..Self::default() };
    }

    fn find(&self, id: StreamId) -> Option<usize> {
        self.window.binary_search_by_key(&id, |slot| slot.id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> StreamId {
        StreamId { ms, seq: 0 }
    }

    #[test]
    fn steps_replayed_give_the_live_position() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut durable = Position { read: Some(0), ..Position::default() };
        let mut tracker = Tracker::new(&durable);
        let (mut next, mut open) = (0, Vec::new());
        for _ in 0..500 {
            if random.u8(..) < 10 {
                // A restart: what was read above the durable high is read again.
                tracker = Tracker::new(&durable);
                next = durable.high.ms;
                open.retain(|&id| id <= durable.high);
                assert!(open.iter().all(|&id| tracker.take(id)));
            }
            for _ in 0..random.usize(0..5) {
                next += 1;
                assert!(tracker.take(id(next)));
                open.push(id(next));
            }
            random.shuffle(&mut open);
            let done: Vec<_> = open.drain(..random.usize(0..=open.len())).collect();
            durable.apply(&tracker.commit(&done));
            let mut holes: Vec<_> = open.iter().copied().filter(|&id| id <= durable.high).collect();
            holes.sort_unstable();
            assert_eq!(durable.holes, holes);
            assert!(durable.read.is_some_and(|n| n <= durable.low.ms));
            if open.is_empty() {
                assert_eq!((durable.read, durable.above), (Some(next), 0));
            }
            assert_eq!(tracker.low(), durable.low);
            assert!(open.iter().all(|&id| id > tracker.low()));
            assert_eq!(tracker.open(), open.len() as u64);
        }
    }

    #[test]
    fn a_restart_takes_the_holes_again_and_nothing_else() {
        let position =
            Position { high: id(9), holes: vec![id(3), id(7)], read: Some(2), above: 5, ..Position::default() };
        let mut tracker = Tracker::new(&position);
        assert!(!tracker.take(id(2)) && tracker.take(id(3)) && !tracker.take(id(8)) && tracker.take(id(7)));
        assert!(tracker.take(id(10)));
        let step = tracker.commit(&[id(3), id(10)]);
        assert_eq!((step.high, &step.opened[..], &step.closed[..]), (id(10), &[][..], &[id(3)][..]));
        assert_eq!((tracker.low(), step.above), (id(3), 6));
        tracker.commit(&[id(7)]);
        assert_eq!((tracker.low(), tracker.open(), tracker.read()), (id(10), 0, Some(10)));
    }
}
