//! All rows in memory, with what makes a list of them quick: the values of each facet are numbered and counted, what filters
//! look at stands together, and an order is kept for each field that anybody has sorted by.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use super::{
    row::{Field, Row, UNKNOWN},
    texts::Texts,
};
use crate::event::Id;

/// What rows are grouped by: status, source, agent, model.
pub(super) const FACETS: usize = 4;
/// Values of a facet that are listed; those with most rows.
const VALUES_MAX: usize = 100;

/// The rows.
#[derive(Default)]
pub(super) struct Table {
    by_id: HashMap<Id, u32>,
    free: Vec<u32>,
    rows: Vec<Option<Arc<Row>>>,
    pub(super) lean: Vec<Lean>,
    pub(super) texts: Texts,
    pub(super) facets: [Facet; FACETS],
    orders: [Option<BTreeSet<Placed>>; Field::ALL.len()],
}

/// What filters look at first.
#[derive(Clone, Copy, Default)]
pub(super) struct Lean {
    pub(super) live: bool,
    pub(super) errors: bool,
    /// Values by their numbers in the facets.
    pub(super) values: [u32; FACETS],
    pub(super) created: u64,
}

/// The values of a facet that some row has, numbered; number 0 is that of rows without one.
pub(super) struct Facet {
    numbers: HashMap<Arc<str>, u32>,
    values: Vec<(Arc<str>, u32)>,
    free: Vec<u32>,
}

/// A row's place in an order. `None` as id is before all ids.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Placed {
    pub(super) rank: u64,
    pub(super) id: Option<Id>,
    slot: u32,
}

// === impl Facet ===

impl Default for Facet {
    fn default() -> Self {
        Self { numbers: HashMap::new(), values: vec![("".into(), 0)], free: Vec::new() }
    }
}

impl Facet {
    /// The number of a value that some row has.
    pub(super) fn number(&self, value: &str) -> Option<u32> {
        self.numbers.get(value).copied()
    }

    /// Counts one more row with this value, and makes equal values the same one.
    fn add(&mut self, value: &mut Option<Arc<str>>) -> u32 {
        let Some(value) = value else { return self.count(0) };
        if let Some((known, number)) = self.numbers.get_key_value(&**value) {
            *value = Arc::clone(known);
            let number = *number;
            return self.count(number);
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.values.push(("".into(), 0));
            u32::try_from(self.values.len() - 1).unwrap_or(0)
        });
        self.numbers.insert(Arc::clone(value), number);
        if let Some(slot) = self.values.get_mut(number as usize) {
            *slot = (Arc::clone(value), 0);
        }
        self.count(number)
    }

    fn count(&mut self, number: u32) -> u32 {
        if let Some((_, rows)) = self.values.get_mut(number as usize) {
            *rows += 1;
        }
        number
    }

    fn remove(&mut self, number: u32) {
        let Some((value, rows)) = self.values.get_mut(number as usize) else { return };
        *rows = rows.saturating_sub(1);
        if *rows == 0 && number != 0 {
            self.numbers.remove(value);
            *value = "".into();
            self.free.push(number);
        }
    }

    /// How many numbers there are.
    pub(super) fn numbers(&self) -> usize {
        self.values.len()
    }

    /// Rows by value, those with most rows first.
    pub(super) fn counts(&self) -> Vec<(Arc<str>, u32)> {
        self.most(self.values.iter().map(|(_, rows)| *rows))
    }

    /// The same for other numbers of rows.
    pub(super) fn most(&self, rows: impl Iterator<Item = u32>) -> Vec<(Arc<str>, u32)> {
        let of_value = self.values.iter().zip(rows).skip(1).filter(|(_, rows)| *rows > 0);
        let mut counts: Vec<(&Arc<str>, u32)> = of_value.map(|((value, _), rows)| (value, rows)).collect();
        let order = |a: &(&Arc<str>, u32), b: &(&Arc<str>, u32)| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0));
        if counts.len() > VALUES_MAX {
            counts.select_nth_unstable_by(VALUES_MAX, order);
            counts.truncate(VALUES_MAX);
        }
        counts.sort_unstable_by(order);
        counts.into_iter().map(|(value, rows)| (Arc::clone(value), rows)).collect()
    }
}

// === impl Table ===

impl Table {
    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn row(&self, slot: u32) -> Option<&Arc<Row>> {
        self.rows.get(slot as usize)?.as_ref()
    }

    /// Adds or replaces a row. Returns it if that was news.
    pub(super) fn put(&mut self, mut row: Row) -> Option<Arc<Row>> {
        let slot = match self.by_id.get(&row.task_id) {
            Some(slot) if self.row(*slot).is_some_and(|old| **old == row) => return None,
            Some(slot) => *slot,
            None => self.new_slot(&row.task_id),
        };
        let at = slot as usize;
        let old = self.rows.get_mut(at).and_then(Option::take);
        self.uncount(at);
        for (by, order) in Field::ALL.into_iter().zip(&mut self.orders) {
            let Some(order) = order else { continue };
            let rank = row.rank(by);
            let before = old.as_ref().map(|old| old.rank(by));
            if before != Some(rank) {
                if let Some(rank) = before {
                    order.remove(&Placed { rank, id: Some(row.task_id.clone()), slot });
                }
                order.insert(Placed { rank, id: Some(row.task_id.clone()), slot });
            }
        }
        let values = [&mut row.status, &mut row.source, &mut row.agent, &mut row.model];
        let mut numbers = [0; FACETS];
        for ((facet, value), number) in self.facets.iter_mut().zip(values).zip(&mut numbers) {
            *number = facet.add(value);
        }
        let lean = Lean {
            live: true,
            errors: row.errors.is_some_and(|errors| errors > 0),
            values: numbers,
            created: row.rank(Field::Created),
        };
        if old.as_ref().is_none_or(|old| old.title != row.title) {
            self.texts.put(at, &row.searched());
        }
        let row = Arc::new(row);
        if let (Some(place), Some(place_of_lean)) = (self.rows.get_mut(at), self.lean.get_mut(at)) {
            (*place, *place_of_lean) = (Some(Arc::clone(&row)), lean);
        }
        Some(row)
    }

    /// Takes a row out. Returns whether it was there.
    pub(super) fn remove(&mut self, id: &Id) -> bool {
        let Some(slot) = self.by_id.remove(id) else { return false };
        let at = slot as usize;
        if let Some(old) = self.rows.get_mut(at).and_then(Option::take) {
            for (by, order) in Field::ALL.into_iter().zip(&mut self.orders) {
                if let Some(order) = order {
                    order.remove(&Placed { rank: old.rank(by), id: Some(id.clone()), slot });
                }
            }
        }
        self.uncount(at);
        self.texts.put(at, "");
        self.free.push(slot);
        true
    }

    fn new_slot(&mut self, id: &Id) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.rows.push(None);
            self.lean.push(Lean::default());
            // More rows than that would need a terabyte.
            u32::try_from(self.rows.len() - 1).unwrap_or(u32::MAX)
        });
        self.by_id.insert(id.clone(), slot);
        slot
    }

    fn uncount(&mut self, at: usize) {
        if let Some(lean) = self.lean.get_mut(at).filter(|lean| lean.live) {
            for (facet, number) in self.facets.iter_mut().zip(lean.values) {
                facet.remove(number);
            }
            *lean = Lean::default();
        }
    }

    /// Whether an order by this field is kept.
    pub(super) fn is_ordered(&self, by: Field) -> bool {
        self.orders.get(by as usize).is_some_and(Option::is_some)
    }

    /// Keeps an order by this field from now on.
    pub(super) fn order(&mut self, by: Field) {
        let slots = 0_u32..;
        let placed = self.rows.iter().zip(slots).filter_map(|(row, slot)| {
            let row = row.as_ref()?;
            Some(Placed { rank: row.rank(by), id: Some(row.task_id.clone()), slot })
        });
        let placed = placed.collect();
        if let Some(order) = self.orders.get_mut(by as usize) {
            *order = Some(placed);
        }
    }

    /// The slots in an order, after a place of it; what is unknown comes last whichever way.
    pub(super) fn in_order(
        &self,
        by: Field,
        descending: bool,
        after: Option<(u64, &Id)>,
    ) -> Box<dyn Iterator<Item = (u64, u32)> + '_> {
        let Some(order) = self.orders.get(by as usize).and_then(Option::as_ref) else {
            return Box::new(std::iter::empty());
        };
        let out = |placed: &Placed| (placed.rank, placed.slot);
        let unknown = Placed { rank: UNKNOWN, id: None, slot: 0 };
        let place = |slot| after.map(|(rank, id)| Placed { rank, id: Some(id.clone()), slot });
        if !descending {
            let after = place(u32::MAX).map_or(Bound::Unbounded, Bound::Excluded);
            return Box::new(order.range((after, Bound::Unbounded)).map(out));
        }
        let before = place(0);
        match before {
            Some(before) if before.rank == UNKNOWN => Box::new(order.range(unknown..before).rev().map(out)),
            before => {
                let known = before.unwrap_or_else(|| unknown.clone());
                Box::new(order.range(..known).rev().chain(order.range(unknown..).rev()).map(out))
            }
        }
    }
}
