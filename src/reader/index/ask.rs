//! What is asked of the table: filters, an order, a page of it, and how many rows there are of each kind.

use std::{ops::RangeInclusive, sync::Arc};

use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    row::{self, Field, Row, UNKNOWN},
    table::{FACETS, Table},
};
use crate::event::Id;

/// Which tasks, in which order, from where on.
#[derive(Clone, Debug)]
pub struct TaskQuery {
    /// Wanted values of status, source, agent and model; an empty list wants all.
    pub facets: [Vec<String>; FACETS],
    /// Created at this time or later.
    pub since: Option<Timestamp>,
    /// Created before this time.
    pub until: Option<Timestamp>,
    /// A text that id or title hold, in whichever case.
    pub text: Option<String>,
    /// With errors, or without.
    pub errors: Option<bool>,
    /// What to sort by.
    pub by: Field,
    /// From the greatest value down.
    pub descending: bool,
    /// Rows of a page.
    pub limit: usize,
    /// The place that the page before ended at.
    pub after: Option<Place>,
}

/// A row's place in an order. As text `RANK~ID`: the value that is sorted by, as 16 hexadecimal digits that sort as it does or
/// `-` where it is unknown, and the task's id. In an order by id just the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    rank: u64,
    id: Id,
}

/// A page of tasks.
#[derive(Clone, Debug, Serialize)]
pub struct TaskPage {
    /// The rows.
    #[serde(serialize_with = "rows")]
    pub tasks: Vec<Arc<Row>>,
    /// Where the next page begins; `None` when nothing follows.
    pub next: Option<String>,
    /// Rows that the filters let through; unknown as long as the index is not complete.
    pub total: Option<usize>,
    /// Rows by value.
    pub counts: Facets,
    /// Whether all tasks have been looked at since the start.
    pub complete: bool,
}

/// Rows by value of each facet. What one facet is filtered by does not narrow its own counts, so that the other values can be
/// offered.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facets {
    /// By status.
    pub status: Values,
    /// By source.
    pub source: Values,
    /// By agent.
    pub agent: Values,
    /// By model.
    pub model: Values,
}

/// Values with their rows, those with most rows first; the rarest of many are left out.
#[derive(Clone, Debug, Default)]
pub struct Values(pub Vec<(Arc<str>, u32)>);

fn rows<S: Serializer>(rows: &[Arc<Row>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(rows.iter().map(|row| &**row))
}

// === impl Place ===

impl Place {
    /// A place in an order by this field.
    pub fn parse(text: &str, by: Field) -> Option<Self> {
        if by == Field::Id {
            return Some(Self { rank: 0, id: Id::parse(text).ok()? });
        }
        let (rank, id) = text.split_once('~')?;
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        let rank = match rank {
            "-" => UNKNOWN,
            _ if rank.len() == 16 && rank.bytes().all(hexadecimal) => u64::from_str_radix(rank, 16).ok()?,
            _ => return None,
        };
        Some(Self { rank, id: Id::parse(id).ok()? })
    }

    /// A row's place.
    pub fn of(row: &Row, by: Field) -> Self {
        Self { rank: row.rank(by), id: row.task_id.clone() }
    }

    /// The task.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Its text in that order.
    pub fn text(&self, by: Field) -> String {
        match (by, self.rank) {
            (Field::Id, _) => self.id.to_string(),
            (_, UNKNOWN) => format!("-~{}", self.id),
            (_, rank) => format!("{rank:016x}~{}", self.id),
        }
    }
}

// === impl Values ===

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (value, rows) in &self.0 {
            map.serialize_entry(&**value, rows)?;
        }
        map.end()
    }
}

// === impl TaskQuery ===

impl Default for TaskQuery {
    fn default() -> Self {
        Self {
            facets: Default::default(),
            since: None,
            until: None,
            text: None,
            errors: None,
            by: Field::Created,
            descending: true,
            limit: 100,
            after: None,
        }
    }
}

impl TaskQuery {
    fn is_filtered(&self) -> bool {
        self.facets.iter().any(|wanted| !wanted.is_empty())
            || self.since.is_some()
            || self.until.is_some()
            || self.text.is_some()
            || self.errors.is_some()
    }

    /// Asks a table that keeps the order.
    pub(super) fn page(&self, table: &Table) -> TaskPage {
        let found = self.is_filtered().then(|| Found::by(self, table));
        let after = self.after.as_ref().map(|place| (place.rank, &place.id));
        let in_order = table.in_order(self.by, self.descending, after);
        let mut wanted = in_order.filter(|(_, slot)| found.as_ref().is_none_or(|found| found.has(*slot)));
        let mut tasks = Vec::new();
        let mut last = None;
        for (rank, slot) in wanted.by_ref().take(self.limit) {
            if let Some(row) = table.row(slot) {
                tasks.push(Arc::clone(row));
                last = Some(Place { rank, id: row.task_id.clone() });
            }
        }
        let more = wanted.next().is_some();
        let (total, [status, source, agent, model]) = match found {
            None => (table.len(), table.facets.each_ref().map(|facet| Values(facet.counts()))),
            Some(found) => (found.total, found.counts),
        };
        TaskPage {
            tasks,
            next: last.filter(|_| more).map(|place| place.text(self.by)),
            total: Some(total),
            counts: Facets { status, source, agent, model },
            complete: true,
        }
    }
}

/// What the filters let through.
struct Found {
    bits: Vec<u64>,
    total: usize,
    counts: [Values; FACETS],
}

// === impl Found ===

impl Found {
    fn by(query: &TaskQuery, table: &Table) -> Self {
        let wanted = Wanted::of(query, table);
        let mut counts = table.facets.each_ref().map(|facet| vec![0_u32; facet.numbers()]);
        let mut bits = vec![0_u64; table.lean.len().div_ceil(64)];
        let mut total = 0;
        for (slot, lean) in table.lean.iter().enumerate() {
            if !lean.live
                || !wanted.created.contains(&lean.created)
                || wanted.errors.is_some_and(|errors| errors != lean.errors)
            {
                continue;
            }
            let mut missed = None;
            let misses = wanted
                .values
                .iter()
                .zip(lean.values)
                .enumerate()
                .filter(|(_, (wanted, value))| wanted.as_ref().is_some_and(|wanted| !wanted.contains(value)));
            let misses = misses.inspect(|(facet, _)| missed = Some(*facet)).take(2).count();
            // One who misses two counts nowhere.
            if misses > 1 || wanted.text.as_ref().is_some_and(|bits| !has(bits, slot)) {
                continue;
            }
            for (facet, (counts, value)) in counts.iter_mut().zip(lean.values).enumerate() {
                if missed.is_none_or(|missed| missed == facet)
                    && let Some(count) = counts.get_mut(value as usize)
                {
                    *count += 1;
                }
            }
            if misses == 0 {
                total += 1;
                if let Some(word) = bits.get_mut(slot / 64) {
                    *word |= 1 << (slot % 64);
                }
            }
        }
        let mut counts = counts.into_iter();
        let counts =
            table.facets.each_ref().map(|facet| Values(facet.most(counts.next().unwrap_or_default().into_iter())));
        Self { bits, total, counts }
    }

    fn has(&self, slot: u32) -> bool {
        has(&self.bits, slot as usize)
    }
}

/// A query in the table's terms.
struct Wanted {
    values: [Option<Vec<u32>>; FACETS],
    created: RangeInclusive<u64>,
    errors: Option<bool>,
    /// Slots whose text holds what is searched.
    text: Option<Vec<u64>>,
}

// === impl Wanted ===

impl Wanted {
    fn of(query: &TaskQuery, table: &Table) -> Self {
        let mut values = query.facets.iter().zip(&table.facets).map(|(wanted, facet)| {
            let numbers = || wanted.iter().filter_map(|value| facet.number(value)).collect();
            (!wanted.is_empty()).then(numbers)
        });
        let created = match (query.since, query.until) {
            (None, None) => 0..=UNKNOWN,
            // What is not known to be created at any time lies in no span of time.
            (since, until) => {
                let until = until.map_or(UNKNOWN, row::rank_of_time);
                since.map_or(0, row::rank_of_time)..=until.saturating_sub(1)
            }
        };
        Self {
            values: std::array::from_fn(|_| values.next().flatten()),
            created,
            errors: query.errors,
            text: query.text.as_ref().map(|text| table.texts.find(text)),
        }
    }
}

fn has(bits: &[u64], slot: usize) -> bool {
    bits.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
}
