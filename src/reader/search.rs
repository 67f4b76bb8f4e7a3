//! Searching the records of one task after another for a text, within bounds of time and bytes.

use std::time::Instant;

use serde::Serialize;

use super::{Cursor, Filter, Folder, Order, ReadError, Records, Seen, filter::Pattern};

/// Characters that are shown before and behind what matched, and of it.
const AROUND: usize = 80;
const MATCH_MAX: usize = 200;
/// Records between two looks at the clock.
const LOOK_EVERY: u32 = 256;

/// A record that holds the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// The task's id.
    pub task_id: String,
    /// The record's file.
    pub file: String,
    /// Right behind the record.
    pub cursor: String,
    /// The record's own time.
    pub timestamp: Option<String>,
    /// Its `type`, or `stage`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Where it matches.
    pub snippet: Snippet,
}

/// A piece of the text that matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snippet {
    /// What stands before it.
    pub before: String,
    /// What matches.
    #[serde(rename = "match")]
    pub matched: String,
    /// What follows.
    pub after: String,
}

/// What a search may still cost, and what it has found.
#[derive(Debug)]
pub struct Search {
    /// The text.
    pub pattern: Pattern,
    /// What else a record must be; its own text is not looked at.
    pub filter: Filter,
    /// Hits that are wanted.
    pub limit: usize,
    /// Bytes that may be read.
    pub bytes_max: u64,
    /// When it ends.
    pub deadline: Instant,
    /// What was found.
    pub hits: Vec<Hit>,
    /// Bytes read so far.
    pub bytes: u64,
}

// === impl Search ===

impl Search {
    /// Begins one.
    pub fn new(pattern: Pattern, filter: Filter, limit: usize, bytes_max: u64, deadline: Instant) -> Self {
        Self { pattern, filter, limit, bytes_max, deadline, hits: Vec::new(), bytes: 0 }
    }

    /// Searches a task behind a cursor. `Some`: where it had to end before the task did.
    pub fn task(&mut self, folder: &Folder, id: &str, after: &Cursor) -> Result<Option<Cursor>, ReadError> {
        let mut records = Records::open(folder, &[], Order::Ascending, after)?;
        let (before, mut passed) = (self.bytes, 0_u32);
        loop {
            let going = records.step()?;
            self.bytes = before + records.bytes_read();
            if !going {
                return Ok(None);
            }
            if let Some(record) = records.record()
                && let Some(snippet) = self.snippet(record.line)
            {
                let seen = Seen::of(record.line);
                self.hits.push(Hit {
                    task_id: id.to_owned(),
                    file: record.file.to_owned(),
                    cursor: records.cursor().to_string(),
                    timestamp: seen.timestamp.map(Into::into),
                    kind: seen.kind.map(Into::into),
                    snippet,
                });
            }
            passed += 1;
            if self.is_over(passed % LOOK_EVERY == 0) {
                return Ok(Some(records.cursor()));
            }
        }
    }

    /// Whether it has found enough, or may cost no more. Looking at the clock has its price, too.
    pub fn is_over(&self, look: bool) -> bool {
        self.hits.len() >= self.limit || self.bytes >= self.bytes_max || look && Instant::now() >= self.deadline
    }

    fn snippet(&self, line: &[u8]) -> Option<Snippet> {
        let mut snippet = None;
        self.pattern.find(line, |text, at| {
            let part = |range| text.get(range).unwrap_or_default();
            let (head, found, tail) = (part(0..at.start), part(at.start..at.end), part(at.end..text.len()));
            let skip = head.chars().count().saturating_sub(AROUND);
            snippet = Some(Snippet {
                before: head.chars().skip(skip).collect(),
                matched: found.chars().take(MATCH_MAX).collect(),
                after: tail.chars().take(AROUND).collect(),
            });
        });
        snippet.filter(|_| self.filter.wants(line))
    }
}
