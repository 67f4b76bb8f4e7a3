//! The journal: one append-only log that makes a commit durable with one sync, before any task file is touched.

use crate::{event::StreamId, position::Position};

pub mod segment;

/// Receipt: everything up to this position stands in the synced journal. Only the journal makes one, so nothing else can
/// publish.
#[derive(Clone, Debug)]
pub struct Durable {
    epoch: u64,
    low: StreamId,
    read: Option<u64>,
}

impl Durable {
    /// The ownership under which it was written.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Everything at or below this id is committed: what may be published.
    pub fn low(&self) -> StreamId {
        self.low
    }

    /// Entries read up to [`Durable::low`], for lag; `None` when not known.
    pub fn read(&self) -> Option<u64> {
        self.read
    }
}

/// A receipt for a position that was found in a sealed journal or checkpoint: published again after a take-over.
pub fn recovered(epoch: u64, position: &Position) -> Durable {
    Durable { epoch, low: position.low, read: position.read }
}
