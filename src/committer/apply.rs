//! Applying: published records go to the task files. At once when there is little to do; under load in batches, in which
//! appends to one file become one write.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{Committed, Progress, Synced, describe, files::TaskFiles};
use crate::{bell::Bell, ending::Ending, fault, metrics::DataPath, source::Lease, status::Status, window::Window};

/// Shortest time between two applies.
const BATCH: Duration = Duration::from_millis(20);
/// The same for a batch that has grown to [`HEAVY_BYTES`]: with thousands of tasks a write holds one or two events else.
const HEAVY_BATCH: Duration = Duration::from_millis(100);
const HEAVY_BYTES: usize = 256 << 10;
/// A batch is applied when it holds this many bytes of the window.
const BATCH_BYTES: usize = 8 << 20;
/// First and longest pause before files that could not be written are tried again.
const FULL_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What the applier works with.
pub struct Applying {
    /// The files.
    pub files: TaskFiles,
    /// The window that applied entries leave.
    pub window: Arc<Window>,
    /// The one that what plugins added leaves.
    pub surplus: Arc<Window>,
    /// How far the files are.
    pub progress: Arc<Progress>,
    /// Who is told.
    pub bell: Arc<Bell>,
    /// To say why nothing moves.
    pub status: Arc<Status>,
    /// Counters.
    pub metrics: Arc<DataPath>,
    /// The ownership.
    pub lease: Arc<dyn Lease>,
    /// Whether the ownership is over.
    pub ending: Arc<Ending>,
}

impl Applying {
    /// Works until the publisher is gone, or the ownership is over.
    pub fn run(mut self, published: Receiver<Synced>) {
        let mut last = Instant::now();
        loop {
            let mut commits = match published.recv_timeout(Duration::from_millis(500)) {
                Ok(synced) => synced.commits,
                Err(RecvTimeoutError::Timeout) if !self.ending.is_over() => continue,
                Err(_) => return,
            };
            let mut bytes: usize = commits.iter().map(|commit| commit.bytes).sum();
            while bytes < BATCH_BYTES {
                let pace = if bytes < HEAVY_BYTES { BATCH } else { HEAVY_BATCH };
                let Some(left) = pace.checked_sub(last.elapsed()).filter(|left| !left.is_zero()) else { break };
                match published.recv_timeout(left) {
                    Ok(synced) => {
                        bytes += synced.commits.iter().map(|commit| commit.bytes).sum::<usize>();
                        commits.extend(synced.commits);
                    }
                    Err(_) => break,
                }
            }
            last = Instant::now();
            fault::pass("apply::begin");
            if !self.apply(&commits) {
                return;
            }
            fault::pass("apply::done");
            self.metrics.apply.record(last.elapsed());
        }
    }

    fn apply(&mut self, commits: &[Committed]) -> bool {
        let mut pause = FULL_BACKOFF.0;
        loop {
            if self.ending.is_over() {
                return false;
            }
            match self.files.apply(commits.iter().flat_map(|commit| &commit.record.changes)) {
                Ok(applied) => {
                    self.metrics.files_created.increment(applied.created);
                    self.status.set_blocked("files", None);
                    self.window.give(commits.iter().map(|commit| commit.bytes).sum());
                    self.surplus.give(commits.iter().map(|commit| commit.surplus).sum());
                    let changes = commits.iter().flat_map(|commit| &commit.record.changes);
                    for change in changes {
                        self.bell.ring(&change.key);
                        if change.shows_in_lists() {
                            self.bell.ring_lists(&change.key);
                        }
                    }
                    if let Some(last) = commits.last() {
                        self.progress.reached(last.sequence);
                    }
                    return true;
                }
                Err(error) if error.may_pass() => {
                    let error = describe(error);
                    tracing::error!(error, "task files cannot be written; trying again");
                    self.status.set_blocked("files", Some(error));
                    self.ending.wait(pause);
                    pause = (pause * 2).min(FULL_BACKOFF.1);
                    if self.ending.is_draining() {
                        // The journal has it: the next start applies it.
                        self.ending.lost("stopped while task files cannot be written");
                    }
                }
                Err(error) => {
                    self.ending.failed(&*self.lease, describe(error));
                    return false;
                }
            }
        }
    }
}
