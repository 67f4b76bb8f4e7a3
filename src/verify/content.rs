//! `--content`: the line that the layout would write for an entry that no plugin processed, as a checksum by row.

use crate::{
    decode::{Decoded, Decoder},
    event::Entry,
    layout::record::{Place, place, push_event},
};

/// Checksums of lines, in the order of the rows; 0 for one that has no line to compare.
#[derive(Debug)]
pub(super) struct Lines {
    decoder: Decoder,
    line: Vec<u8>,
    sums: Vec<u32>,
}

/// The checksum of a line as it is kept; never 0.
pub(super) fn sum(line: &[u8]) -> u32 {
    crc32fast::hash(line).max(1)
}

impl Lines {
    pub(super) fn new(event_max: usize) -> Self {
        Self { decoder: Decoder::new(event_max), line: Vec::new(), sums: Vec::new() }
    }

    /// Takes the next entry in.
    pub(super) fn push(&mut self, entry: &Entry, gap: bool) {
        self.line.clear();
        if let Ok(Decoded { event, members }) = self.decoder.decode(entry.clone())
            && !gap
            && place(&event.kind) != Place::Documents
        {
            push_event(&mut self.line, &event, &event.data, &members);
        }
        self.sums.push(if self.line.is_empty() { 0 } else { sum(&self.line) });
    }

    /// Whether a line is the one of this row; true where there is nothing to compare.
    pub(super) fn agree(&self, row: usize, line: &[u8]) -> bool {
        self.sums.get(row).is_none_or(|expected| *expected == 0 || *expected == sum(line))
    }
}
