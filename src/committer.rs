//! The committer: the one owner of all files. Takes slices as they come, makes each group one journal record, synced; then
//! [`publish`] moves the stream's position, then [`apply`] writes the task files; [`checkpoint`] follows behind.
//!
//! Publishing comes before applying: an owner that was paused and replaced fails to publish, and so never applies what its
//! successor does not know.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError},
    },
    time::{Duration, Instant},
};

use crate::{
    config::Fsync,
    ending::Ending,
    event::StreamId,
    fault,
    journal::{Durable, Journal, record::Record},
    metrics::DataPath,
    position::{Position, Tracker},
    slice::Slice,
    source::{DeadLetter, Lease},
    status::{Heartbeat, Status},
};

pub mod apply;
pub mod checkpoint;
pub mod files;
pub mod group;
pub mod publish;
mod retire;
pub(crate) mod state_file;
pub mod table;
pub mod tombstones;
pub mod trim;

use checkpoint::Job;
use group::Group;
use table::Table;

/// A group is committed when it holds this many bytes, or when no more slices are ready.
const GROUP_BYTES: usize = 4 << 20;
/// A checkpoint is due after this time, ...
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);
/// ... or after this many journaled bytes, ...
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// ... but takes at most this share of the time, as one part in so many.
const CHECKPOINT_SHARE: u32 = 8;
/// Full journal segments that may wait for a checkpoint; with more the committer waits.
const SEGMENTS_MAX: usize = 8;
/// First and longest pause before a full disk is tried again.
const FULL_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A record that is durable, on its way to being published and applied.
#[derive(Debug)]
pub struct Committed {
    /// Its number in the journal.
    pub sequence: u64,
    /// What it holds.
    pub record: Record,
    /// Dead letters to copy before the position is published.
    pub dead: Vec<DeadLetter>,
    /// Bytes to give back to the window when it is applied.
    pub bytes: usize,
    /// The same of what plugins added.
    pub surplus: usize,
}

/// Records and the receipt that covers them all.
#[derive(Debug)]
pub struct Synced {
    /// The receipt.
    pub receipt: Durable,
    /// The records since the last one.
    pub commits: Vec<Committed>,
}

/// How far the files are, for those who wait for it.
#[derive(Debug, Default)]
pub struct Progress {
    applied: Mutex<u64>,
    changed: Condvar,
    covered: Mutex<StreamId>,
}

/// What the committer works with.
pub struct Committer {
    /// The journal.
    pub journal: Journal,
    /// Keys.
    pub table: Table,
    /// The position after the last record.
    pub position: Position,
    /// The live position, shared with the reader.
    pub tracker: Arc<Mutex<Tracker>>,
    /// `FSYNC`.
    pub fsync: Fsync,
    /// Where synced records go.
    pub publish: SyncSender<Synced>,
    /// Where checkpoints are made; holds one.
    pub checkpoint: SyncSender<Job>,
    /// Sequence numbers of checkpoints that are done.
    pub checkpointed: Receiver<u64>,
    /// Each lane's last batch that a checkpoint covers.
    pub lanes: Vec<Arc<AtomicU64>>,
    /// How far the files are.
    pub progress: Arc<Progress>,
    /// The ownership.
    pub lease: Arc<dyn Lease>,
    /// To say why nothing moves.
    pub status: Arc<Status>,
    /// Counters.
    pub metrics: Arc<DataPath>,
    /// Whether the ownership is over.
    pub ending: Arc<Ending>,
}

struct Running {
    committer: Committer,
    heartbeat: Arc<Heartbeat>,
    group: Group,
    /// Each lane's last batch in a written record.
    batches: Vec<u64>,
    unsynced: Vec<Committed>,
    synced_at: Instant,
    /// The checkpoint that is being made: its record, the lanes' batches, since when.
    making: Option<(u64, Vec<u64>, Instant)>,
    /// The last record that a checkpoint covers.
    checkpointed: u64,
    checkpoint_after: Instant,
    bytes_since: u64,
}

// === impl Progress ===

impl Progress {
    /// The files hold everything up to a record.
    pub fn reached(&self, sequence: u64) {
        *self.lock() = sequence;
        self.changed.notify_all();
    }

    /// A checkpoint holds everything up to a position.
    pub fn cover(&self, low: StreamId) {
        *self.covered.lock().unwrap_or_else(PoisonError::into_inner) = low;
    }

    /// What was covered belongs to a stream that is gone.
    pub fn forget_cover(&self) {
        self.cover(StreamId::MIN);
    }

    /// Up to where everything stands in the last checkpoint.
    pub fn covered(&self) -> StreamId {
        *self.covered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the files hold everything up to a record; `false` if the ownership ended before.
    pub fn wait(&self, sequence: u64, ending: &Ending, heartbeat: Option<&Heartbeat>) -> bool {
        let mut applied = self.lock();
        while *applied < sequence {
            if ending.is_over() {
                return false;
            }
            heartbeat.inspect(|heartbeat| heartbeat.beat());
            let waited = self.changed.wait_timeout(applied, Duration::from_millis(100));
            applied = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, u64> {
        // A number cannot be left half changed.
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Committer ===

impl Committer {
    /// Works until all lanes are gone, or the ownership is over.
    pub fn run(self, slices: Receiver<Vec<Slice>>) {
        let heartbeat = self.status.heartbeat("committer");
        let now = Instant::now();
        let batches = vec![0; self.lanes.len()];
        let checkpointed = self.journal.next_sequence() - 1;
        let mut running = Running {
            committer: self,
            heartbeat,
            group: Group::default(),
            batches,
            unsynced: Vec::new(),
            synced_at: now,
            making: None,
            checkpointed,
            checkpoint_after: now + fault::every("checkpoint::every", CHECKPOINT_EVERY),
            bytes_since: 0,
        };
        if let Err(error) = running.work(&slices) {
            let Committer { lease, ending, .. } = &running.committer;
            ending.failed(&**lease, error);
        }
        running.heartbeat.idle();
        if let Err(error) = running.committer.journal.close() {
            tracing::warn!(error = describe(error), "cannot remove spare segments; the next owner does");
        }
    }
}

impl Running {
    fn work(&mut self, slices: &Receiver<Vec<Slice>>) -> Result<(), String> {
        loop {
            while self.committer.journal.full_segments() >= SEGMENTS_MAX && !self.committer.ending.is_over() {
                // The files cannot keep up with the journal.
                self.checkpoint(true)?;
            }
            self.heartbeat.idle();
            let received = slices.recv_timeout(self.next_deadline());
            self.heartbeat.beat();
            if self.committer.ending.is_over() {
                return Ok(());
            }
            match received {
                Ok(batch) => {
                    self.take(batch)?;
                    while self.group.size < GROUP_BYTES {
                        match slices.try_recv() {
                            Ok(batch) => self.take(batch)?,
                            Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                        }
                    }
                    self.commit()?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Fsync::Interval(interval) = self.committer.fsync
                && self.synced_at.elapsed() >= interval
            {
                self.sync()?;
            }
            self.checkpoint(false)?;
        }
        self.sync()?;
        self.checkpoint(true)
    }

    fn next_deadline(&self) -> Duration {
        let until_checkpoint = self.checkpoint_after.saturating_duration_since(Instant::now());
        let until_sync = match self.committer.fsync {
            Fsync::Interval(interval) if !self.unsynced.is_empty() => interval.saturating_sub(self.synced_at.elapsed()),
            _ => until_checkpoint,
        };
        until_sync.min(until_checkpoint).clamp(Duration::from_millis(1), CHECKPOINT_EVERY)
    }

    fn take(&mut self, batch: Vec<Slice>) -> Result<(), String> {
        for mut slice in batch {
            if let Some((retire, key)) = slice.retire.take().zip(slice.key.as_ref()) {
                self.retire(key, &retire);
                if let Some(last) = self.batches.get_mut(slice.lane) {
                    *last = slice.batch;
                }
                continue;
            }
            if let (Some(key), Some(_)) = (&slice.key, &slice.join) {
                // What the flow wrote moves to its task: it must stand in the files first.
                if self.group.touches(key) {
                    self.commit()?;
                }
                // With `FSYNC=interval` a record that nobody has synced would be waited for in vain.
                if !self.unsynced.is_empty() {
                    self.sync()?;
                }
                let changed = self.committer.table.entry(key).map_err(describe)?.changed;
                let Committer { progress, ending, .. } = &self.committer;
                if !progress.wait(changed, ending, Some(&self.heartbeat)) {
                    return Ok(());
                }
            }
            if let Some(last) = self.batches.get_mut(slice.lane) {
                *last = slice.batch;
            }
            self.group.add(slice, &mut self.committer.table).map_err(describe)?;
            if self.group.size >= GROUP_BYTES {
                self.commit()?;
            }
        }
        Ok(())
    }

    /// Journals the group.
    fn commit(&mut self) -> Result<(), String> {
        let group = std::mem::take(&mut self.group);
        if group.is_empty() {
            return Ok(());
        }
        if !self.committer.lease.is_held() {
            self.committer.ending.lost("the lease ran out");
        }
        // From the end on slices are dropped, and what follows a dropped one must not be journaled before it.
        if self.committer.ending.is_over() {
            return Ok(());
        }
        let (bytes, surplus, size) = (group.bytes, group.surplus, group.size as u64);
        let step = {
            let mut tracker = self.tracker();
            let step = tracker.commit(&group.ids);
            self.committer.status.set_position(tracker.view());
            step
        };
        fault::pass("commit::formed");
        let (record, dead) = group.into_record(step, &mut self.committer.table).map_err(describe)?;
        let Some(sequence) = self.append(&record)? else { return Ok(()) };
        for change in &record.changes {
            self.committer.table.mark(&change.key, sequence);
        }
        self.committer.position.apply(&record.step);
        self.committer.metrics.commits.increment(1);
        self.committer.metrics.commit_bytes.increment(size);
        self.bytes_since += size;
        self.unsynced.push(Committed { sequence, record, dead, bytes, surplus });
        match self.committer.fsync {
            Fsync::Interval(interval) if self.synced_at.elapsed() < interval => Ok(()),
            _ => self.sync(),
        }
    }

    /// Writes a record, again and again while the disk is full. `None` when the ownership ends meanwhile.
    fn append(&mut self, record: &Record) -> Result<Option<u64>, String> {
        let mut pause = FULL_BACKOFF.0;
        loop {
            match self.committer.journal.append(record) {
                Ok(sequence) => {
                    self.committer.status.set_blocked("disk", None);
                    return Ok(Some(sequence));
                }
                Err(error) if error.may_pass() => {
                    let error = describe(error);
                    tracing::error!(error, "journal cannot be written; trying again");
                    self.committer.status.set_blocked("disk", Some(error));
                    self.heartbeat.beat();
                    self.committer.ending.wait(pause);
                    if self.committer.ending.is_draining() {
                        self.committer.ending.lost("stopped while the journal cannot be written");
                        return Ok(None);
                    }
                    pause = (pause * 2).min(FULL_BACKOFF.1);
                }
                Err(error) => return Err(describe(error)),
            }
        }
    }

    /// Syncs what is written and hands it on.
    fn sync(&mut self) -> Result<(), String> {
        self.synced_at = Instant::now();
        let journal = &mut self.committer.journal;
        let receipt = match self.committer.fsync {
            Fsync::Never => journal.receipt(),
            _ => {
                if fault::mutated("mutation::publish_before_sync") {
                    return self.publish_unsynced();
                }
                let receipt = journal.sync().map_err(describe)?;
                self.committer.metrics.fsync.record(self.synced_at.elapsed());
                receipt
            }
        };
        let Some(receipt) = receipt else { return Ok(()) };
        self.hand_on(receipt)
    }

    /// A bug for the tests to find.
    #[cold]
    fn publish_unsynced(&mut self) -> Result<(), String> {
        if let Some(receipt) = self.committer.journal.receipt() {
            self.hand_on(receipt)?;
        }
        self.committer.journal.sync_late().map_err(describe)
    }

    fn hand_on(&mut self, receipt: Durable) -> Result<(), String> {
        let commits = std::mem::take(&mut self.unsynced);
        // A stream that cannot be reached fills this queue; that is the publisher's to say.
        self.heartbeat.idle();
        let sent = self.committer.publish.send(Synced { receipt, commits });
        self.heartbeat.beat();
        match sent {
            Err(_) if !self.committer.ending.is_over() => Err("the publisher is gone".into()),
            _ => Ok(()),
        }
    }

    /// Starts a checkpoint when one is due, and takes note of one that is done. `wait`: makes one now and waits for it. Only
    /// between groups: what the table holds must stand in the journal.
    fn checkpoint(&mut self, wait: bool) -> Result<(), String> {
        if self.committer.ending.is_over() {
            return Ok(());
        }
        self.finish_checkpoint(wait)?;
        let due = self.checkpoint_after <= Instant::now() || self.bytes_since >= CHECKPOINT_BYTES;
        if self.making.is_some() || !(due || wait) {
            return Ok(());
        }
        self.sync()?;
        let sequence = self.committer.journal.next_sequence() - 1;
        let states = self.committer.table.take_dirty();
        let removed = self.committer.table.take_removed();
        self.checkpoint_after = Instant::now() + fault::every("checkpoint::every", CHECKPOINT_EVERY);
        if states.is_empty() && removed.is_empty() && self.bytes_since == 0 && !wait {
            return Ok(());
        }
        self.bytes_since = 0;
        self.making = Some((sequence, self.batches.clone(), Instant::now()));
        let job = Job { sequence, position: self.committer.position.clone(), states, removed };
        if self.committer.checkpoint.send(job).is_err() && !self.committer.ending.is_over() {
            return Err("the checkpointer is gone".into());
        }
        self.finish_checkpoint(wait)
    }

    fn finish_checkpoint(&mut self, wait: bool) -> Result<(), String> {
        let Some((_, _, since)) = &self.making else { return Ok(()) };
        let since = *since;
        let done = loop {
            match self.committer.checkpointed.recv_timeout(if wait {
                Duration::from_millis(100)
            } else {
                Duration::ZERO
            }) {
                Ok(done) => break done,
                Err(RecvTimeoutError::Timeout) if wait && !self.committer.ending.is_over() => self.heartbeat.beat(),
                Err(_) => return Ok(()),
            }
        };
        let took = since.elapsed();
        self.checkpoint_after = self.checkpoint_after.max(Instant::now() + took * CHECKPOINT_SHARE);
        if let Some((sequence, batches, _)) = self.making.take().filter(|(sequence, _, _)| *sequence <= done) {
            match self.committer.journal.recycle(sequence) {
                // What is left over is recycled with the next checkpoint.
                Err(error) if error.may_pass() => {
                    tracing::warn!(error = describe(error), "cannot recycle a journal segment; trying again later");
                }
                recycled => recycled.map_err(describe)?,
            }
            self.checkpointed = sequence;
            self.committer.table.trim(sequence);
            for (lane, batch) in self.committer.lanes.iter().zip(batches) {
                lane.store(batch, Ordering::Release);
            }
        }
        Ok(())
    }

    fn tracker(&self) -> std::sync::MutexGuard<'_, Tracker> {
        lock_tracker(&self.committer.tracker)
    }
}

/// Locks the live position. Each use is one call that cannot panic halfway.
pub fn lock_tracker(tracker: &Mutex<Tracker>) -> std::sync::MutexGuard<'_, Tracker> {
    tracker.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with its causes, for the one line that says why the process ends.
pub fn describe(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
