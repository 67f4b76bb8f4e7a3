//! `TRIM=published`: takes entries out of the stream once their effect stands in a checkpoint and their position is published.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Progress, describe};
use crate::{
    event::StreamId,
    fault,
    metrics::DataPath,
    source::{Publisher, SourceError},
    status::Status,
};

/// Time between two looks when there was little to take away.
const EVERY: Duration = Duration::from_secs(1);
/// The same while there is much; with a call's bound this is some 100,000 entries a second at most.
const SOON: Duration = Duration::from_millis(100);
/// Entries of one call that are much.
const MUCH: u64 = 1000;

/// What trimming works with, on the publisher's thread.
pub struct Trimming {
    /// What checkpoints cover.
    pub progress: Arc<Progress>,
    /// To say that it fails, which holds nothing up.
    pub status: Arc<Status>,
    /// Counters.
    pub metrics: Arc<DataPath>,
    /// When to look next.
    pub next: Instant,
    /// The position that was published last.
    pub published: StreamId,
}

// === impl Trimming ===

impl Trimming {
    /// Trims if it is time to. Fails with [`SourceError::Fenced`] only: whatever else is wrong is told, and tried again.
    pub fn pass(&mut self, publisher: &mut dyn Publisher, published: StreamId) -> Result<(), SourceError> {
        if published < self.published {
            // Ids went backwards: checkpoints so far cover the stream that was.
            self.progress.forget_cover();
        }
        self.published = published;
        if Instant::now() < self.next {
            return Ok(());
        }
        self.next = Instant::now() + fault::every("trim::every", EVERY);
        match trim(publisher, published.min(self.progress.covered())) {
            Ok(removed) => {
                self.metrics.trimmed.increment(removed);
                self.status.set_notice("trim", None);
                if removed >= MUCH {
                    self.next = Instant::now() + SOON;
                }
                Ok(())
            }
            Err(SourceError::Fenced) => Err(SourceError::Fenced),
            Err(error) => {
                let error = describe(error);
                tracing::warn!(error, "the stream cannot be trimmed; trying again");
                self.status.set_notice("trim", Some(format!("the stream cannot be trimmed: {error}")));
                Ok(())
            }
        }
    }
}

fn trim(publisher: &mut dyn Publisher, until: StreamId) -> Result<u64, SourceError> {
    fault::point("trim::begin").map_err(SourceError::interrupted)?;
    if until == StreamId::MIN {
        return Ok(0);
    }
    let until = publisher.oldest_needed()?.map_or(until, |needed| needed.min(until));
    fault::point("trim::bound").map_err(SourceError::interrupted)?;
    let removed = publisher.trim(until)?;
    fault::pass("trim::done");
    Ok(removed)
}
