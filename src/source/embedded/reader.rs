//! The owner's reading side of the embedded stream: the same position semantics as on Redis.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Held, cursor::Cursor, cursor::size, lock};
use crate::{
    event::StreamId,
    position::Position,
    source::{Batch, Published, Reader, SourceError, Want},
};

/// Most entries of a read under backlog, and the aim for its size in bytes.
const READ_MAX: (usize, usize) = (1000, 4 << 20);

/// Reads the log from a position.
pub(super) struct EmbeddedReader {
    held: Arc<Held>,
    dir: PathBuf,
    cursor: Cursor,
    holes: VecDeque<StreamId>,
}

// === impl EmbeddedReader ===

impl EmbeddedReader {
    pub(super) fn new(held: Arc<Held>, dir: PathBuf) -> Self {
        Self { held, cursor: Cursor::new(dir.clone()), dir, holes: VecDeque::new() }
    }

    /// Where the published position stands, or below the first entry.
    fn published_position(&self) -> Position {
        let position = lock(&self.held.position);
        let (low, read) = (position.low(), position.read_count());
        Position { low, high: low, read: if low == StreamId::MIN { Some(0) } else { read }, ..Position::default() }
    }

    fn read_holes(&mut self, want: Want) -> Result<Batch, SourceError> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        // Holes ascend, so one pass finds them all.
        let mut cursor = Cursor::new(self.dir.clone());
        cursor.limit(Some(self.held.events.durable()));
        while let Some(&hole) = self.holes.front() {
            cursor.seek(hole.previous())?;
            match cursor.peek()? {
                Some((_, id)) if id == hole => {
                    let entry = cursor.next_entry()?.map(|(_, entry)| entry);
                    bytes += entry.as_ref().map_or(0, |entry| size(&entry.fields));
                    batch.entries.extend(entry);
                }
                _ => batch.lost.push(hole),
            }
            self.holes.pop_front();
            if bytes >= want.bytes.min(READ_MAX.1) {
                break;
            }
        }
        Ok(batch)
    }
}

impl Reader for EmbeddedReader {
    fn published(&mut self) -> Result<Option<Published>, SourceError> {
        let (low, end) = (lock(&self.held.position).low(), self.held.events.durable());
        // One above the log's end is of a log that was replaced.
        Ok((low <= end.last).then_some(Published { low, is_ours: true }))
    }

    fn start(&mut self, durable: Option<&Position>) -> Result<Position, SourceError> {
        let end = self.held.events.durable();
        let position = match durable {
            // The journal knows more than the log holds: the log was replaced.
            Some(position) if end.last < position.high => {
                let published = self.published_position();
                let position = if published.low <= end.last { published } else { Position::default() };
                Position { incarnation: durable.map_or(0, |old| old.incarnation) + 1, ..position }
            }
            Some(position) => position.clone(),
            None => self.published_position(),
        };
        self.holes = position.holes.iter().copied().collect();
        self.cursor = Cursor::new(self.dir.clone());
        self.cursor.limit(Some(end));
        self.cursor.seek(position.high)?;
        Ok(position)
    }

    fn read(&mut self, want: Want, wait: Duration) -> Result<Batch, SourceError> {
        if !self.holes.is_empty() {
            return self.read_holes(want);
        }
        let deadline = Instant::now() + wait;
        loop {
            // The owner is the one who ends the process: it must recover what stands in the file.
            self.held.events.broken()?;
            let end = self.held.events.durable();
            self.cursor.limit(Some(end));
            let mut batch = Batch::default();
            let (mut bytes, limit) = (0, want.bytes.min(READ_MAX.1));
            while batch.entries.len() < want.count.max(READ_MAX.0) && (bytes < limit || batch.entries.is_empty()) {
                let Some((_, entry)) = self.cursor.next_entry()? else { break };
                bytes += size(&entry.fields);
                batch.entries.push(entry);
            }
            batch.lost_unseen = self.cursor.take_lost();
            if !batch.entries.is_empty() || batch.lost_unseen > 0 {
                return Ok(batch);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Batch { added: Some(end.sequence), ..batch });
            }
            self.held.events.wait_beyond(end.sequence, left);
        }
    }
}
