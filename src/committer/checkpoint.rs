//! Checkpoints: task files and `.state`s made durable, so that the journal before them is no longer needed. Off the hot path.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};

use super::{
    Progress, describe,
    files::TaskFiles,
    tombstones::{self, Tombstone},
};
use crate::{
    ending::Ending, event::Key, fault, journal::replay::Checkpoint, metrics::DataPath, position::Position,
    source::Lease, status::Status,
};

/// Pause before one that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A checkpoint to make.
#[derive(Debug)]
pub struct Job {
    /// The last record it covers.
    pub sequence: u64,
    /// The position after that record.
    pub position: Position,
    /// The `.state`s of keys that changed.
    pub states: Vec<(Key, Vec<u8>)>,
    /// Directories that were removed.
    pub removed: Vec<Tombstone>,
}

/// What the checkpointer works with.
pub struct Checkpointing {
    /// The files.
    pub files: TaskFiles,
    /// The stream's state folder.
    pub state_dir: PathBuf,
    /// The ownership's epoch.
    pub epoch: u64,
    /// How far the files are.
    pub progress: Arc<Progress>,
    /// To say why nothing moves.
    pub status: Arc<Status>,
    /// Counters.
    pub metrics: Arc<DataPath>,
    /// The ownership.
    pub lease: Arc<dyn Lease>,
    /// Whether the ownership is over.
    pub ending: Arc<Ending>,
}

impl Checkpointing {
    /// Works until the committer is gone, or the ownership is over.
    pub fn run(mut self, jobs: Receiver<Job>, done: SyncSender<u64>) {
        loop {
            let job = match jobs.recv_timeout(Duration::from_millis(500)) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) if !self.ending.is_over() => continue,
                Err(_) => return,
            };
            if !self.progress.wait(job.sequence, &self.ending, None) {
                return;
            }
            let started = Instant::now();
            loop {
                match self.make(&job) {
                    Ok(()) => break,
                    Err(Failed::Passing(error)) => {
                        tracing::error!(error, "checkpoint cannot be written; trying again");
                        self.status.set_blocked("checkpoint", Some(error));
                        self.ending.wait(RETRY);
                        if self.ending.is_draining() {
                            return;
                        }
                    }
                    Err(Failed::Fatal(error)) => return self.ending.failed(&*self.lease, error),
                }
            }
            self.status.set_blocked("checkpoint", None);
            self.progress.cover(job.position.low);
            fault::pass("checkpoint::done");
            self.metrics.checkpoint.record(started.elapsed());
            if done.send(job.sequence).is_err() {
                return;
            }
        }
    }

    fn make(&mut self, job: &Job) -> Result<(), Failed> {
        fault::pass("checkpoint::begin");
        self.files.store(&job.states, job.sequence).map_err(|error| match error.may_pass() {
            true => Failed::Passing(describe(error)),
            false => Failed::Fatal(describe(error)),
        })?;
        // Before the journal forgets that they were.
        let noted = tombstones::append(&self.state_dir, &job.removed);
        let checkpoint = Checkpoint { epoch: self.epoch, sequence: job.sequence, position: job.position.clone() };
        noted.and_then(|()| checkpoint.write(&self.state_dir)).map_err(|error| match error.may_pass() {
            true => Failed::Passing(describe(error)),
            false => Failed::Fatal(describe(error)),
        })
    }
}

enum Failed {
    Passing(String),
    Fatal(String),
}
