//! Entries in a log's files, in order. A frame's body is `ms u64 | seq u64 | fields u32`, then for each field
//! `name length u32 | value length u32 | name | value`, little endian; names and values are slices of what was read.
//! A frame's sequence number counts the entries ever appended.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::{Buf, Bytes};

use super::{io_error, log::Durable};
use crate::{
    event::{Entry, StreamId},
    journal::segment::{Scan, SegmentError},
    source::{Fields, SourceError},
};

/// Reads a log from a place on. Never writes; holds one open file.
#[derive(Debug)]
pub struct Cursor {
    dir: PathBuf,
    /// The open segment's first sequence number, and its reader.
    open: Option<(u64, Scan)>,
    /// Sequence number of the next entry.
    next: u64,
    peeked: Option<(u64, Entry)>,
    until: Option<Durable>,
    /// The end that was set for the open segment; `None`: the file's.
    end: Option<u64>,
    lost: u64,
}

/// Bytes of names and values.
pub(super) fn size(fields: &[(Bytes, Bytes)]) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// The body's head and the fields' heads; the bytes of names and values are appended by the caller's order.
pub(super) fn encode(id: StreamId, fields: &Fields) -> Result<Vec<u8>, SourceError> {
    let size = size(fields);
    let length = |n: usize| u32::try_from(n).map_err(|_| SourceError::TooLarge { size: n, limit: u32::MAX as usize });
    let mut body = Vec::with_capacity(20 + size + 8 * fields.len());
    body.extend_from_slice(&id.ms.to_le_bytes());
    body.extend_from_slice(&id.seq.to_le_bytes());
    body.extend_from_slice(&length(fields.len())?.to_le_bytes());
    for (name, value) in fields {
        body.extend_from_slice(&length(name.len())?.to_le_bytes());
        body.extend_from_slice(&length(value.len())?.to_le_bytes());
        body.extend_from_slice(name);
        body.extend_from_slice(value);
    }
    Ok(body)
}

/// The id of a body's entry.
pub(super) fn id_of(body: &Bytes) -> Option<StreamId> {
    let mut head = body.get(..16)?;
    Some(StreamId { ms: head.try_get_u64_le().ok()?, seq: head.try_get_u64_le().ok()? })
}

fn decode(mut body: Bytes) -> Option<Entry> {
    let id = StreamId { ms: body.try_get_u64_le().ok()?, seq: body.try_get_u64_le().ok()? };
    let count = body.try_get_u32_le().ok()? as usize;
    let mut fields = Vec::with_capacity(count.min(body.len() / 8));
    for _ in 0..count {
        let (name, value) = (body.try_get_u32_le().ok()? as usize, body.try_get_u32_le().ok()? as usize);
        if name.checked_add(value)? > body.len() {
            return None;
        }
        fields.push((body.split_to(name), body.split_to(value)));
    }
    body.is_empty().then_some(Entry { id, fields })
}

/// The segments of a log by first sequence number, ascending.
pub(super) fn segments(dir: &Path) -> Result<Vec<u64>, SourceError> {
    let listed = (|| {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let name = entry?.file_name();
            found.extend(name.to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok()));
        }
        found.sort_unstable();
        Ok(found)
    })();
    listed.map_err(io_error("list", dir))
}

/// A segment's file.
pub(super) fn segment_path(dir: &Path, first_sequence: u64) -> PathBuf {
    dir.join(format!("{first_sequence:020}.log"))
}

// === impl Cursor ===

impl Cursor {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, open: None, next: 1, peeked: None, until: None, end: None, lost: 0 }
    }

    /// Begins at a sequence number.
    pub(super) fn start_at(&mut self, sequence: u64) {
        *self = Self { until: self.until, next: sequence, ..Self::new(std::mem::take(&mut self.dir)) };
    }

    /// How far a live log may be read.
    pub(super) fn limit(&mut self, until: Option<Durable>) {
        self.until = until;
    }

    /// Entries that were passed over because they are damaged or trimmed, since the last call.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Goes behind `id`: forwards from where it stands, or from the segment that holds it.
    pub(super) fn seek(&mut self, id: StreamId) -> Result<(), SourceError> {
        if self.open.is_none() {
            for &first in segments(&self.dir)?.iter().rev() {
                let mut start = Self::new(self.dir.clone());
                start.limit(self.until);
                start.next = first;
                let begins = start.peek()?;
                *self = Self { lost: 0, ..start };
                if begins.is_some_and(|(_, begins)| begins <= id) {
                    break;
                }
            }
        }
        while self.peek()?.is_some_and(|(_, at)| at <= id) {
            self.peeked = None;
        }
        // What was passed over on the way is not this reader's loss.
        self.lost = 0;
        Ok(())
    }

    /// Sequence number and id of the next entry.
    pub(super) fn peek(&mut self) -> Result<Option<(u64, StreamId)>, SourceError> {
        if self.peeked.is_none() {
            self.peeked = self.advance()?;
        }
        Ok(self.peeked.as_ref().map(|(sequence, entry)| (*sequence, entry.id)))
    }

    /// The next entry with its sequence number; `None` at the end, for now.
    pub(super) fn next_entry(&mut self) -> Result<Option<(u64, Entry)>, SourceError> {
        match self.peeked.take() {
            Some(peeked) => Ok(Some(peeked)),
            None => self.advance(),
        }
    }

    fn advance(&mut self) -> Result<Option<(u64, Entry)>, SourceError> {
        loop {
            if self.until.is_some_and(|until| self.next > until.sequence) {
                return Ok(None);
            }
            if let Some((first, scan)) = &mut self.open {
                let end = self.until.filter(|until| until.segment == *first).map(|until| until.tail);
                if end != self.end {
                    match end {
                        Some(end) => scan.set_end(end),
                        None => scan.reset_end()?,
                    }
                    self.end = end;
                }
                if let Some(frame) = scan.next() {
                    let frame = frame?;
                    self.next = frame.sequence + 1;
                    match decode(frame.body) {
                        Some(entry) => return Ok(Some((frame.sequence, entry))),
                        // Its CRC is right, so it was written so: nothing of ours.
                        None => self.lost += 1,
                    }
                    continue;
                }
            }
            if !self.open_next()? {
                return Ok(None);
            }
        }
    }

    /// Opens the segment of the next entry, or the one after a loss. `false`: there is none.
    fn open_next(&mut self) -> Result<bool, SourceError> {
        let current = self.open.as_ref().map(|(first, _)| *first);
        let segments = segments(&self.dir)?;
        let holding = segments.iter().rev().find(|&&first| first <= self.next);
        let behind = segments.iter().find(|&&first| first > self.next);
        let Some(&first) = holding.filter(|&&first| current.is_none_or(|current| first > current)).or(behind) else {
            return Ok(false);
        };
        match Scan::open(&segment_path(&self.dir, first), Some(first)) {
            Ok(mut scan) => {
                // Up to the next entry, for a cursor that begins within the segment.
                while scan.next_sequence() < self.next && scan.next().transpose()?.is_some() {}
                self.lost += first.saturating_sub(self.next);
                self.next = self.next.max(first);
                (self.open, self.end) = (Some((first, scan)), None);
                Ok(true)
            }
            Err(SegmentError::NotASegment { path }) if behind.is_some_and(|&behind| behind > first) => {
                tracing::error!(path = %path.display(), "a segment of the embedded stream is damaged: its entries are lost");
                let behind = behind.copied().unwrap_or(first);
                self.lost += behind - self.next;
                self.next = behind;
                self.open_next()
            }
            // Trimmed by the running service since it was listed.
            Err(SegmentError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && !self::segments(&self.dir)?.contains(&first) =>
            {
                self.open_next()
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Iterator for Cursor {
    type Item = Result<Entry, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().map(|entry| entry.map(|(_, entry)| entry)).transpose()
    }
}
