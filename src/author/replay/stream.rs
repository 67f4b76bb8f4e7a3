//! A third source: a recording, whose entries are served once, with their own ids, to the same reader as a stream's.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::recorded::Recorded;
use crate::{
    event::StreamId,
    journal::Durable,
    position::Position,
    source::{
        Backlog, Batch, DeadLetter, Desk, Fields, Lease, Letters, OwnRequest, Owned, Publisher, Reader, SourceError,
        Stream, Want,
    },
};

/// Entries and bytes of a read.
const READ_MAX: (usize, usize) = (1000, 4 << 20);

/// A recording as a stream.
pub(super) struct RecordedStream {
    recorded: Arc<Recorded>,
    progress: Arc<Progress>,
}

/// How far it is through.
#[derive(Default)]
struct Progress {
    done: Mutex<Done>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Done {
    /// Everything at or below it is published, that is durable.
    low: StreamId,
    /// Nobody reads any more.
    ended: bool,
}

struct RecordedReader {
    recorded: Arc<Recorded>,
    progress: Arc<Progress>,
    next: usize,
}

struct RecordedPublisher(Arc<Progress>);

/// A recording has one reader, for ever.
struct Always;

/// No operator asks anything of a recording.
struct Nobody;

// === impl RecordedStream ===

impl RecordedStream {
    pub(super) fn new(recorded: Arc<Recorded>) -> Self {
        Self { recorded, progress: Arc::default() }
    }

    /// Waits at most so long for all to be published; says whether it is.
    pub(super) fn wait_through(&self, timeout: Duration) -> bool {
        let last = self.recorded.last().unwrap_or(StreamId::MIN);
        let done = self.progress.lock();
        let waited = self.progress.changed.wait_timeout_while(done, timeout, |done| done.low < last);
        let (done, _) = waited.unwrap_or_else(PoisonError::into_inner);
        done.low >= last
    }

    /// Lets the reader return at once.
    pub(super) fn end(&self) {
        self.progress.lock().ended = true;
        self.progress.changed.notify_all();
    }
}

impl Stream for RecordedStream {
    fn state_name(&self) -> String {
        "recorded".to_owned()
    }

    fn try_own(&self, request: &OwnRequest) -> Result<Option<Owned>, SourceError> {
        let (recorded, progress) = (Arc::clone(&self.recorded), Arc::clone(&self.progress));
        Ok(Some(Owned {
            epoch: request.epoch_min + 1,
            lease: Arc::new(Always),
            publisher: Box::new(RecordedPublisher(Arc::clone(&progress))),
            reader: Box::new(RecordedReader { recorded, progress, next: 0 }),
            desk: Box::new(Nobody),
        }))
    }

    fn append(&self, _events: Vec<Fields>) -> Result<Vec<StreamId>, SourceError> {
        Err(SourceError::Config("a recording takes no events in".to_owned()))
    }

    fn backlog(&self) -> Result<Backlog, SourceError> {
        Ok(Backlog { entries: self.recorded.len() as u64, last: self.recorded.last(), first_unread: None })
    }

    fn letters(&self) -> Result<Box<dyn Letters>, SourceError> {
        Err(SourceError::Config("a recording has no dead letters".to_owned()))
    }

    fn describe(&self) -> String {
        "a recording".to_owned()
    }
}

impl Lease for Always {
    fn is_held(&self) -> bool {
        true
    }

    fn release(&self) {}
}

impl Reader for RecordedReader {
    fn start(&mut self, _durable: Option<&Position>) -> Result<Position, SourceError> {
        Ok(Position::default())
    }

    fn read(&mut self, want: Want, wait: Duration) -> Result<Batch, SourceError> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        while batch.entries.len() < READ_MAX.0 && (bytes < want.bytes.min(READ_MAX.1) || batch.entries.is_empty()) {
            let entry = self.recorded.entry(self.next).map_err(|error| SourceError::Config(error.to_string()))?;
            let Some(entry) = entry else { break };
            self.next += 1;
            bytes += entry.size();
            batch.entries.push(entry);
        }
        if batch.entries.is_empty() {
            let done = self.progress.lock();
            drop(self.progress.changed.wait_timeout_while(done, wait, |done| !done.ended));
        }
        Ok(batch)
    }
}

impl Publisher for RecordedPublisher {
    fn bury(&mut self, _letters: &[DeadLetter], _may_exist: bool) -> Result<(), SourceError> {
        // The recording itself keeps what became of them: their gap records.
        Ok(())
    }

    fn publish(&mut self, receipt: &Durable) -> Result<(), SourceError> {
        self.0.lock().low = receipt.low();
        self.0.changed.notify_all();
        Ok(())
    }
}

impl Desk for Nobody {
    fn asked(&mut self) -> Result<Vec<StreamId>, SourceError> {
        Ok(Vec::new())
    }

    fn settled(&mut self, _ids: &[StreamId]) -> Result<(), SourceError> {
        Ok(())
    }
}

// === impl Progress ===

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Done> {
        // Each field is set in one step.
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
