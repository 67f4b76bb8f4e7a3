//! Entries that are not to be processed: an operator said so, or the process died of them. Shared by those who condemn, the
//! lanes that make dead letters of them, and the publisher that knows when they are buried.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    committer::describe,
    ending::Ending,
    event::StreamId,
    source::{DeadLetter, Desk, SourceError},
};

/// How often the owner looks what operators ask for.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Why an entry is condemned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// The dead letter's reason: `operator` or `poison`.
    pub reason: &'static str,
    /// Its finer code.
    pub code: &'static str,
    /// How often the entry was tried.
    pub attempts: u32,
}

/// What is condemned now. Costs a lane nothing while that is nothing.
#[derive(Debug, Default)]
pub struct Condemned {
    /// Raised with each sentence; 0: there never was one.
    version: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sentences: BTreeMap<StreamId, Sentence>,
    /// Disposed of, durably.
    done: Vec<StreamId>,
    /// The published position.
    low: StreamId,
}

/// The owner's thread that hears what operators ask for.
pub struct Hearing {
    /// Where they ask.
    pub desk: Box<dyn Desk>,
    /// What they condemn.
    pub condemned: Arc<Condemned>,
    /// Whether to stop.
    pub ending: Arc<Ending>,
}

// === impl Sentence ===

impl Sentence {
    /// An operator's.
    pub const OPERATOR: Self = Self { reason: "operator", code: "operator", attempts: 0 };

    /// That of an entry of which the process died so often.
    pub fn poison(deaths: u32) -> Self {
        Self { reason: "poison", code: "died", attempts: deaths }
    }
}

// === impl Condemned ===

impl Condemned {
    /// With everything at or below the published position disposed of.
    pub fn new(low: StreamId) -> Self {
        Self { inner: Mutex::new(Inner { low, ..Inner::default() }), ..Self::default() }
    }

    /// Condemns an entry, unless it is disposed of.
    pub fn condemn(&self, id: StreamId, sentence: Sentence) {
        let mut inner = self.lock();
        if id <= inner.low {
            inner.done.push(id);
        } else if inner.sentences.insert(id, sentence) != Some(sentence) {
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Changes with each sentence.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The entry's sentence.
    pub fn sentence(&self, id: StreamId) -> Option<Sentence> {
        if self.version() == 0 {
            return None;
        }
        self.lock().sentences.get(&id).copied()
    }

    /// Letters stand in the dead letter stream, and the position was published.
    pub fn published(&self, buried: &[StreamId], low: StreamId) {
        let mut inner = self.lock();
        inner.low = low;
        if inner.sentences.is_empty() {
            return;
        }
        let Inner { sentences, done, .. } = &mut *inner;
        done.extend(buried.iter().filter(|id| sentences.remove(id).is_some()));
        // Others were decided before they were condemned.
        let above = sentences.split_off(&low.next());
        done.extend(std::mem::replace(sentences, above).into_keys());
    }

    /// Entries that are disposed of since the last call.
    fn take_done(&self) -> Vec<StreamId> {
        std::mem::take(&mut self.lock().done)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each use leaves whole values.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ids of letters, to be told of when they are buried.
pub fn ids(letters: &[DeadLetter]) -> Vec<StreamId> {
    letters.iter().map(|letter| letter.id).collect()
}

// === impl Hearing ===

impl Hearing {
    /// Works until a drain is asked for or the ownership is over.
    pub fn run(mut self) {
        while !self.ending.is_draining() {
            match self.hear() {
                Ok(()) => {}
                // Whoever publishes hears of it, too, and ends the ownership.
                Err(SourceError::Fenced) => return,
                Err(error) => tracing::debug!(error = describe(error), "cannot look what operators ask for"),
            }
            self.ending.wait(LOOK_EVERY);
        }
    }

    fn hear(&mut self) -> Result<(), SourceError> {
        for id in self.desk.asked()? {
            self.condemned.condemn(id, Sentence::OPERATOR);
        }
        let done = self.condemned.take_done();
        // If that fails they are asked for again, and found to be done.
        if done.is_empty() { Ok(()) } else { self.desk.settled(&done) }
    }
}
