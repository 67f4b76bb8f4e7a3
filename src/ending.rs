//! How an ownership ends: the first cause counts, everyone who waits hears of it.

use std::{
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::source::Lease;

/// Why an ownership is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Another process owns the stream, or may.
    Lost(String),
    /// The process must exit and recover: a failed sync, a file that cannot be written.
    Fatal(String),
}

/// Shared by the threads of one ownership.
#[derive(Debug, Default)]
pub struct Ending {
    /// No more reading: what is in the lanes is finished, then the ownership is given up.
    draining: AtomicBool,
    over: AtomicBool,
    /// It is over because a thread panicked.
    panicked: AtomicBool,
    cause: Mutex<Option<Cause>>,
    changed: Condvar,
}

impl Ending {
    /// Asks for a drain.
    pub fn drain(&self) {
        let _cause = self.lock();
        self.draining.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Whether reading must stop: draining, or over.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || self.is_over()
    }

    /// Whether everything must be dropped as it is.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// The ownership is lost.
    pub fn lost(&self, why: impl Into<String>) {
        self.end(Cause::Lost(why.into()));
    }

    /// The process cannot go on.
    pub fn fatal(&self, why: impl Into<String>) {
        self.end(Cause::Fatal(why.into()));
    }

    /// A thread panicked: nothing is known of what it held.
    pub fn panicked(&self, thread: &str) {
        self.panicked.store(true, Ordering::SeqCst);
        self.fatal(format!("thread {thread} panicked"));
    }

    /// Whether a thread panicked.
    pub fn has_panicked(&self) -> bool {
        self.panicked.load(Ordering::SeqCst)
    }

    /// A file operation failed for good. Without the lease that is what a successor makes of a replaced owner's files.
    pub fn failed(&self, lease: &dyn Lease, why: impl Into<String>) {
        if lease.is_held() { self.fatal(why) } else { self.lost(why) }
    }

    /// The first cause, if it is over.
    pub fn cause(&self) -> Option<Cause> {
        self.lock().clone()
    }

    /// Waits at most `timeout`, less when a drain or the end comes.
    pub fn wait(&self, timeout: Duration) {
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, |_| !self.is_draining());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn end(&self, cause: Cause) {
        let mut slot = self.lock();
        if slot.is_none() {
            tracing::debug!(?cause, "ownership ends");
            *slot = Some(cause);
        }
        self.over.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Cause>> {
        // An option is set in one step.
        self.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
