//! Publishing: dead letters are copied, then the stream's position moves, both after the journal's sync. Only then do the
//! records go on to the files.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};

use super::{Synced, describe, trim::Trimming};
use crate::{
    condemned::{self, Condemned},
    ending::Ending,
    event::StreamId,
    fault,
    journal::Durable,
    metrics::DataPath,
    source::{DeadLetter, Publisher, SourceError},
    status::Status,
};

/// First and longest pause after a failed try, each with up to as much again at random.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// A position that stands still is published again after this time: others may have moved or destroyed the group.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// While the service ends, a stream that could not be reached for this long is left to the next owner.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// Groups that one publish may cover.
const GROUPS_MAX: usize = 64;

/// What the publisher works with.
pub struct Publishing {
    /// The stream.
    pub publisher: Box<dyn Publisher>,
    /// What was condemned, to say when it is buried.
    pub condemned: Arc<Condemned>,
    /// With `TRIM=published`.
    pub trimming: Option<Trimming>,
    /// To say why nothing moves.
    pub status: Arc<Status>,
    /// Counters.
    pub metrics: Arc<DataPath>,
    /// Whether the ownership is over.
    pub ending: Arc<Ending>,
}

impl Publishing {
    /// Works until the committer is gone, or the ownership is over.
    pub fn run(mut self, synced: Receiver<Synced>, apply: SyncSender<Synced>) {
        let mut published: Option<(Durable, Instant)> = None;
        loop {
            let mut all = match synced.recv_timeout(Duration::from_millis(500)) {
                Ok(synced) => synced,
                Err(RecvTimeoutError::Timeout) if !self.ending.is_over() => {
                    if let Some((receipt, at)) = &mut published
                        && at.elapsed() >= fault::every("publish::again", AGAIN_AFTER)
                    {
                        let receipt = receipt.clone();
                        *at = Instant::now();
                        if !self.persist("the position", |publisher, _| publisher.publish(&receipt)) {
                            return;
                        }
                    }
                    if let Some((receipt, _)) = &published
                        && !self.trim(receipt.low())
                    {
                        return;
                    }
                    continue;
                }
                Err(_) => return,
            };
            let mut groups = 1;
            while let Some(next) = synced.try_recv().ok().filter(|_| groups < GROUPS_MAX) {
                groups += 1;
                all.receipt = next.receipt;
                all.commits.extend(next.commits);
            }
            let started = Instant::now();
            let dead: Vec<DeadLetter> = all.commits.iter_mut().flat_map(|commit| commit.dead.drain(..)).collect();
            if !dead.is_empty() {
                if !self.persist("dead letters", |publisher, again| bury(publisher, &dead, again)) {
                    return;
                }
                self.count_letters(false);
            }
            if fault::mutated("mutation::apply_before_publish") {
                let early = Synced { receipt: all.receipt.clone(), commits: std::mem::take(&mut all.commits) };
                if apply.send(early).is_err() {
                    return;
                }
            }
            let receipt = all.receipt.clone();
            if !self.persist("the position", |publisher, _| publish(publisher, &receipt)) {
                return;
            }
            let low = receipt.low();
            self.condemned.published(&condemned::ids(&dead), low);
            self.metrics.publish.record(started.elapsed());
            published = Some((receipt, Instant::now()));
            fault::pass("publish::done");
            if apply.send(all).is_err() || !self.trim(low) {
                return;
            }
        }
    }

    /// `false` when the ownership ends.
    fn trim(&mut self, low: StreamId) -> bool {
        let Some(trimming) = &mut self.trimming else { return true };
        let trimmed = trimming.pass(&mut *self.publisher, low);
        if trimmed.is_err() {
            self.ending.lost("another process owns the stream");
        }
        trimmed.is_ok()
    }

    fn count_letters(&self, full: bool) {
        self.metrics.letters_full.set(if full { 1.0 } else { 0.0 });
        if let Some(bytes) = self.publisher.letters_bytes() {
            #[expect(clippy::cast_precision_loss, reason = "a size")]
            self.metrics.letters_bytes.set(bytes as f64);
        }
    }

    /// Tries until it is done; `false` when the ownership ends.
    fn persist(
        &mut self,
        what: &str,
        mut act: impl FnMut(&mut dyn Publisher, bool) -> Result<(), SourceError>,
    ) -> bool {
        let (mut pause, started) = (BACKOFF.0, Instant::now());
        let mut again = false;
        loop {
            if self.ending.is_over() {
                return false;
            }
            match act(&mut *self.publisher, again) {
                Ok(()) => {
                    if again {
                        self.status.set_blocked("publish", None);
                        self.status.set_blocked("dead_letters", None);
                    }
                    return true;
                }
                Err(SourceError::Fenced) => {
                    self.ending.lost("another process owns the stream");
                    return false;
                }
                Err(error) if error.is_fatal() => {
                    self.ending.fatal(describe(error));
                    return false;
                }
                Err(error) => {
                    if matches!(error, SourceError::LettersFull { .. }) {
                        if !again {
                            tracing::error!("{error}; nothing is published until then");
                        }
                        self.status.set_blocked("dead_letters", Some(error.to_string()));
                        self.count_letters(true);
                    } else {
                        tracing::warn!(error = describe(error), "cannot publish {what}; trying again");
                        self.status.set_blocked("publish", Some(format!("cannot publish {what} to the stream")));
                    }
                    again = true;
                    self.ending.wait(pause + pause.mul_f64(fastrand::f64()));
                    pause = (pause * 2).min(BACKOFF.1);
                    if self.ending.is_draining() && started.elapsed() > DRAIN_MAX {
                        // What is journaled is safe: the next owner publishes it.
                        self.ending.lost("stopped while the stream could not be reached");
                        return false;
                    }
                }
            }
        }
    }
}

fn bury(publisher: &mut dyn Publisher, dead: &[DeadLetter], again: bool) -> Result<(), SourceError> {
    fault::point("publish::bury").map_err(SourceError::interrupted)?;
    publisher.bury(dead, again)?;
    fault::point("publish::buried").map_err(SourceError::interrupted)
}

fn publish(publisher: &mut dyn Publisher, receipt: &Durable) -> Result<(), SourceError> {
    fault::point("publish::position").map_err(SourceError::interrupted)?;
    publisher.publish(receipt)
}
