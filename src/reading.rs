//! The reader: takes entries from the stream as far as the window allows, notes each in the position, and routes it to its
//! lane. Reads nothing while plugins that must run do not.

use std::{
    sync::{Arc, Mutex, mpsc::SyncSender},
    time::Duration,
};

use crate::{
    committer::{describe, lock_tracker},
    ending::Ending,
    event::{Entry, StreamId, charge},
    fault,
    lane::Work,
    metrics::DataPath,
    plugin::PluginHost,
    position::{Position, Tracker},
    route::{Envelope, lane_of},
    slice::Slice,
    source::{Batch, Lease, Reader, SourceError, Want},
    status::Status,
    suspicion::{Mode, Suspicion},
    window::Window,
};

/// Longest wait for entries; a stop is noticed after it.
const WAIT: Duration = Duration::from_millis(500);
/// First and longest pause after a failed read, each with up to as much again at random.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3));

/// How often a stop is looked for while an entry runs alone.
const ALONE_WAIT: Duration = Duration::from_millis(20);
/// Between two tries to note which entry runs.
const NOTE_RETRY: Duration = Duration::from_secs(1);
const CAREFUL: &str = "the process died twice without getting on: entries run one at a time until it is known of which";

/// What the reader works with.
pub struct Reading {
    /// The stream.
    pub reader: Box<dyn Reader>,
    /// The live position.
    pub tracker: Arc<Mutex<Tracker>>,
    /// Bytes in flight.
    pub window: Arc<Window>,
    /// The ownership.
    pub lease: Arc<dyn Lease>,
    /// The plugins, which may forbid reading.
    pub host: Arc<PluginHost>,
    /// The lanes.
    pub lanes: Vec<SyncSender<Work>>,
    /// The committer, for entries that are gone.
    pub lost: SyncSender<Vec<Slice>>,
    /// `MAX_BATCH_SIZE`.
    pub batch: usize,
    /// Whether entries must run one at a time.
    pub suspicion: Arc<Suspicion>,
    /// To say why nothing moves.
    pub status: Arc<Status>,
    /// Counters.
    pub metrics: Arc<DataPath>,
    /// Whether to stop.
    pub ending: Arc<Ending>,
}

impl Reading {
    /// Reads until a drain is asked for or the ownership is over. The lanes end when this does.
    pub fn run(mut self) {
        let mut pause = BACKOFF.0;
        while !self.ending.is_draining() {
            if !self.lease.is_held() {
                return self.ending.lost("the lease ran out");
            }
            let seen = self.host.wait_changed(0, Duration::ZERO);
            if let Err(blocked) = self.host.gate() {
                self.status.set_blocked("plugins", Some(blocked.reason));
                self.host.wait_changed(seen, WAIT);
                continue;
            }
            self.status.set_blocked("plugins", None);
            let bytes = self.window.free(WAIT);
            if bytes == 0 {
                continue;
            }
            let read = fault::point("read::before").map_err(SourceError::interrupted);
            match read.and_then(|()| self.reader.read(Want { count: self.batch, bytes }, WAIT)) {
                Ok(batch) => {
                    if pause != BACKOFF.0 {
                        self.status.set_blocked("read", None);
                        pause = BACKOFF.0;
                    }
                    if self.hand_on(batch).is_none() {
                        return;
                    }
                }
                Err(error) if error.is_fatal() => return self.ending.fatal(describe(error)),
                Err(error) => {
                    tracing::warn!(error = describe(error), "cannot read the stream; trying again");
                    self.metrics.redis_reconnects.increment(1);
                    self.status.set_blocked("read", Some("the stream cannot be read".into()));
                    self.ending.wait(pause + pause.mul_f64(fastrand::f64()));
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
        }
    }

    /// Sends a batch's entries to their lanes; `None` when a lane is gone.
    fn hand_on(&mut self, batch: Batch) -> Option<()> {
        if !batch.entries.is_empty() {
            fault::pass("read::after");
        }
        if let Some(position) = batch.restarted {
            return self.restart(&position);
        }
        if batch.lost_unseen > 0 {
            tracing::error!(entries = batch.lost_unseen, "entries were trimmed from the stream before they were read");
            self.metrics.lost.increment(batch.lost_unseen);
            lock_tracker(&self.tracker).skip(batch.lost_unseen);
        }
        if !batch.lost.is_empty() {
            tracing::error!(
                entries = batch.lost.len(),
                "entries were removed from the stream while they were in flight"
            );
            self.metrics.lost.increment(batch.lost.len() as u64);
            self.close(batch.lost)?;
        }
        if let Some(added) = batch.added {
            lock_tracker(&self.tracker).set_read(added);
        }
        match self.suspicion.mode() {
            Mode::Calm => self.route(batch.entries, &batch.repeated),
            Mode::Wary => {
                if let Some(last) = batch.entries.last().map(|entry| entry.id) {
                    let low = lock_tracker(&self.tracker).low();
                    self.noted(|suspicion| suspicion.taken(last, low))?;
                }
                self.route(batch.entries, &batch.repeated)
            }
            Mode::Careful => {
                self.status.set_notice("careful", Some(CAREFUL.to_owned()));
                for entry in batch.entries {
                    self.alone(entry, &batch.repeated)?;
                }
                if self.suspicion.mode() != Mode::Careful {
                    self.status.set_notice("careful", None);
                }
                Some(())
            }
        }
    }

    /// Runs one entry with its id noted, and waits until nothing is in flight but what plugins hold, which waits for entries
    /// that are still to be read; `None` when it is time to stop.
    fn alone(&mut self, entry: Entry, repeated: &[StreamId]) -> Option<()> {
        let (id, low) = (entry.id, lock_tracker(&self.tracker).low());
        self.noted(|suspicion| suspicion.in_hand(id, low))?;
        self.route(vec![entry], repeated)?;
        while !self.window.wait_settled(ALONE_WAIT) {
            if self.ending.is_draining() {
                return None;
            }
        }
        self.suspicion.passed(id);
        Some(())
    }

    /// Notes something before anything goes on; `None` when it is time to stop.
    fn noted(&self, note: impl Fn(&Suspicion) -> std::io::Result<()>) -> Option<()> {
        while let Err(error) = note(&self.suspicion) {
            tracing::error!(%error, "cannot note in STATE_DIR which entry runs; trying again");
            self.status.set_blocked("suspicion", Some("STATE_DIR cannot be written".into()));
            self.ending.wait(NOTE_RETRY);
            if self.ending.is_draining() {
                return None;
            }
        }
        self.status.set_blocked("suspicion", None);
        Some(())
    }

    /// Notes entries in the position and sends each to its lane, but those whose effect is committed; `None` when a lane is gone.
    fn route(&mut self, entries: Vec<Entry>, committed: &[StreamId]) -> Option<()> {
        let mut routed: Vec<Vec<Entry>> = vec![Vec::new(); self.lanes.len()];
        let (mut bytes, mut repeated) = (0, Vec::new());
        {
            let mut tracker = lock_tracker(&self.tracker);
            for entry in entries {
                if !tracker.take(entry.id) {
                    self.metrics.duplicate.increment(1);
                    continue;
                }
                if committed.binary_search(&entry.id).is_ok() {
                    self.metrics.duplicate.increment(1);
                    repeated.push(entry.id);
                    continue;
                }
                bytes += charge(entry.size());
                let envelope = Envelope::of(&entry);
                let kind = envelope.kind.map(|kind| std::str::from_utf8(kind).unwrap_or_default());
                self.metrics.events(kind.unwrap_or_default()).increment(1);
                let lane = lane_of(&envelope, self.lanes.len());
                routed.get_mut(lane)?.push(entry);
            }
        }
        self.window.take(bytes);
        if !repeated.is_empty() {
            self.close(repeated)?;
        }
        for (lane, entries) in self.lanes.iter().zip(routed) {
            if !entries.is_empty() {
                lane.send(Work::Entries(entries)).ok()?;
            }
        }
        Some(())
    }

    /// Closes entries that leave nothing: they are gone, or what they leave stands there.
    fn close(&self, ids: Vec<StreamId>) -> Option<()> {
        self.lost.send(vec![Slice::closing(ids)]).ok()
    }

    /// The stream was replaced: waits until all in flight is committed, then begins anew.
    fn restart(&mut self, position: &Position) -> Option<()> {
        tracing::error!(
            incarnation = position.incarnation,
            from = %position.high,
            "the stream is not the one that was read so far: it was flushed, restored, or failed over; reading on where they part"
        );
        while lock_tracker(&self.tracker).open() > 0 {
            if self.ending.is_draining() {
                return None;
            }
            self.ending.wait(Duration::from_millis(20));
        }
        lock_tracker(&self.tracker).restart(position.incarnation, position.low, position.read);
        Some(())
    }
}
