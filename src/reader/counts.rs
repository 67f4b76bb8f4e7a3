//! What a task's records are, in numbers: how many of each kind, tool, severity and file, and how many a filter wants.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{Cursor, Filter, Folder, Order, ReadError, Records, Seen};

/// Different values that are counted by name; further ones are counted together.
const VALUES_MAX: usize = 200;
/// Longest name of a value, in characters.
const VALUE_CHARS_MAX: usize = 80;
/// The name under which further values are counted.
const OTHER: &str = "(other)";
/// Records between two looks at the clock.
const LOOK_EVERY: u64 = 1024;

/// Numbers of a task's records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All records.
    pub total: u64,
    /// Those that the filter wants.
    pub matched: u64,
    /// Bytes of all records.
    pub bytes: u64,
    /// Whether the time ran out before the end: all numbers are of what came first.
    pub partial: bool,
    /// All records by file.
    pub file: BTreeMap<String, u64>,
    /// All records by `type`, or `stage`.
    #[serde(rename = "type")]
    pub kind: BTreeMap<String, u64>,
    /// Tool calls and results by tool.
    pub tool: BTreeMap<String, u64>,
    /// All records by severity.
    pub level: BTreeMap<String, u64>,
    /// The first record's timestamp.
    pub first: Option<String>,
    /// The last one's.
    pub last: Option<String>,
}

// === impl Counts ===

impl Counts {
    /// Counts the records of these files (none: the standard ones) for at most so long.
    pub fn of(folder: &Folder, files: &[String], filter: &Filter, time: Duration) -> Result<Self, ReadError> {
        let deadline = Instant::now() + time;
        let mut records = Records::open(folder, files, Order::Ascending, &Cursor::default())?;
        let mut counts = Self::default();
        while records.step()? {
            let Some(record) = records.record() else { continue };
            let seen = Seen::of(record.line);
            counts.total += 1;
            counts.bytes += record.bytes;
            counts.matched += u64::from(filter.wants_seen(&seen, record.line));
            add(&mut counts.file, record.file);
            add(&mut counts.kind, seen.kind.as_deref().unwrap_or(OTHER));
            add(&mut counts.level, seen.level.as_str());
            if let Some(tool) = &seen.tool {
                add(&mut counts.tool, tool);
            }
            if let Some(at) = seen.timestamp {
                if counts.first.is_none() {
                    counts.first = Some(at.clone().into_owned());
                }
                let last = counts.last.get_or_insert_default();
                last.clear();
                last.push_str(&at);
            }
            if counts.total % LOOK_EVERY == 0 && Instant::now() >= deadline {
                counts.partial = true;
                break;
            }
        }
        Ok(counts)
    }
}

fn add(counts: &mut BTreeMap<String, u64>, value: &str) {
    let value = value.char_indices().nth(VALUE_CHARS_MAX).map_or(value, |(end, _)| value.get(..end).unwrap_or(value));
    match counts.get_mut(value) {
        Some(count) => *count += 1,
        None => {
            let name = if counts.len() < VALUES_MAX { value } else { OTHER };
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
}
