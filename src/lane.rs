//! A lane: one thread with its own plugin instances. It decodes the entries of its keys, runs the chain over each key's
//! consecutive events, renders what was decided and hands slices to the committer. Held events stay here, in memory; to the
//! position they are holes.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError},
    },
    time::{Duration, Instant},
};

use cap_std::{ambient_authority, fs::Dir};

use crate::{
    committer::files,
    condemned::Condemned,
    decode::{Decoder, RecordedGaps},
    ending::Ending,
    event::{Entry, Event, Key, StreamId},
    metrics::DataPath,
    plugin::{Blocked, LaneChain, PluginHost, Slice as ChainSlice, States},
    slice::Slice,
    status::{Heartbeat, Status},
    window::Window,
};

pub(crate) mod queue;
mod render;
mod retire;

use queue::{Ahead, KeyQueue};
pub use retire::Due;

/// Entries taken up at once, so that one key's slices are long under load and the committer is not kept waiting.
const ENTRIES_MAX: usize = 2048;
/// Keys kept in memory when nothing forces it; beyond it those whose state stands in a checkpoint are forgotten.
const KEYS_MAX: usize = 16_384;
/// What plugins made beyond what came in, in bytes, that a lane gathers before it hands it over.
const SURPLUS_BYTES: usize = 8 << 20;
/// How often a lane without work looks whether it must end.
const IDLE: Duration = Duration::from_millis(500);

/// What a lane is given.
#[derive(Debug)]
pub enum Work {
    /// Entries of its keys, in stream order.
    Entries(Vec<Entry>),
    /// Keys whose time is over. Whoever asks sees by the last handle when it is done.
    Retire(Arc<[Due]>),
}

/// What a lane works with.
pub struct Lane {
    /// Its number.
    pub number: usize,
    /// Its chain.
    pub chain: LaneChain,
    /// Where the chain comes from, to wait for a change when it blocks.
    pub host: Arc<PluginHost>,
    /// `LOGS_DIR`, to load the states of keys.
    pub logs_dir: std::path::PathBuf,
    /// `HOLD_MAX`.
    pub hold_max: Duration,
    /// `MAX_EVENT`.
    pub event_max: usize,
    /// What a recording knows by gap records alone.
    pub gaps: Arc<RecordedGaps>,
    /// What must not be processed.
    pub condemned: Arc<Condemned>,
    /// Bytes in flight, of which some are held.
    pub window: Arc<Window>,
    /// What plugins made beyond what came in, on its way to the files.
    pub surplus: Arc<Window>,
    /// The last entry that the lane was given; at first the highest of those that earlier owners had.
    pub taken: StreamId,
    /// The last batch of this lane that a checkpoint covers.
    pub checkpointed: Arc<AtomicU64>,
    /// To say why nothing moves.
    pub status: Arc<Status>,
    /// Counters.
    pub metrics: Arc<DataPath>,
    /// Whether the ownership is over.
    pub ending: Arc<Ending>,
}

struct Running {
    lane: Lane,
    root: Dir,
    decoder: Decoder,
    keys: HashMap<Key, KeyQueue>,
    /// Keys with held events.
    held: HashMap<Key, Held>,
    batch: u64,
    /// The sentences that were looked at.
    sentenced: u64,
    /// Surplus of the slices that are not handed over yet.
    surplus: usize,
    heartbeat: Arc<Heartbeat>,
}

/// A key's held events.
struct Held {
    /// When they must be flushed.
    due: Instant,
    events: u32,
    /// What they cost of the window.
    bytes: usize,
}

impl Lane {
    /// Works until the other ends of `work` are gone, or the ownership is over. What is still held then stays a hole.
    pub fn run(mut self, work: Receiver<Work>, slices: SyncSender<Vec<Slice>>) {
        let root = match Dir::open_ambient_dir(&self.logs_dir, ambient_authority()) {
            Ok(root) => root,
            Err(error) => return self.ending.fatal(format!("cannot open LOGS_DIR: {error}")),
        };
        let heartbeat = self.status.heartbeat(&format!("lane-{}", self.number));
        self.chain.set_heartbeat(Arc::clone(&heartbeat));
        let decoder = Decoder::new(self.event_max).with_gaps(Arc::clone(&self.gaps));
        let (keys, held) = (HashMap::new(), HashMap::new());
        let mut running =
            Running { lane: self, root, decoder, keys, held, batch: 0, sentenced: 0, surplus: 0, heartbeat };
        running.work(&work, &slices);
        for key in running.held.keys().cloned().collect::<Vec<_>>() {
            running.let_go(&key);
        }
    }
}

impl Running {
    fn work(&mut self, work: &Receiver<Work>, slices: &SyncSender<Vec<Slice>>) {
        let mut open = true;
        while open && !self.lane.ending.is_over() {
            let mut touched = Vec::new();
            let mut decided = Vec::new();
            match work.recv_timeout(self.next_flush()) {
                Ok(first) => {
                    self.heartbeat.beat();
                    let (mut taken, mut next) = (0, Ok(first));
                    while let Ok(given) = next {
                        match given {
                            Work::Entries(batch) => taken += self.take(batch, &mut touched, &mut decided),
                            Work::Retire(due) => {
                                if self.retire(&due, slices).is_break() {
                                    return self.heartbeat.idle();
                                }
                                // Events that are taken already do not wait for more of it.
                                taken = ENTRIES_MAX;
                            }
                        }
                        next = if taken < ENTRIES_MAX { work.try_recv() } else { Err(TryRecvError::Empty) };
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.lane.chain.refresh(),
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
            self.batch += 1;
            self.condemn(&mut touched);
            for key in touched {
                if self.process(&key, false, &mut decided, slices).is_break() {
                    return self.heartbeat.idle();
                }
            }
            let now = Instant::now();
            let due: Vec<Key> =
                self.held.iter().filter(|(_, held)| held.due <= now).map(|(key, _)| key.clone()).collect();
            for key in due.into_iter().filter(|_| open) {
                if self.process(&key, true, &mut decided, slices).is_break() {
                    return self.heartbeat.idle();
                }
            }
            if !decided.is_empty() && self.hand_over(decided, slices).is_break() {
                return;
            }
            self.forget_keys();
        }
    }

    /// Decodes a batch into its keys' queues. Entries without a key are decided at once.
    fn take(&mut self, batch: Vec<Entry>, touched: &mut Vec<Key>, decided: &mut Vec<Slice>) -> usize {
        let (count, now) = (batch.len(), Instant::now());
        for entry in batch {
            self.lane.taken = self.lane.taken.max(entry.id);
            let size = entry.size();
            match self.decoder.decode(entry) {
                Ok(item) => {
                    let key = item.event.key.clone();
                    match self.lane.condemned.sentence(item.event.id) {
                        Some(sentence) => self.queue(key, touched).push_condemned(item.event, sentence),
                        None => self.queue(key, touched).push_event(item, now),
                    }
                }
                Err(refused) => match refused.gap.as_ref().map(|gap| gap.key.clone()) {
                    Some(key) => self.queue(key, touched).push_refused(*refused, size),
                    None => {
                        let mut slice = Slice::empty(self.lane.number, self.batch + 1, None);
                        render::push_refused(&mut slice, *refused, size, &self.lane.metrics);
                        decided.push(slice);
                    }
                },
            }
        }
        count
    }

    /// Looks for events that wait and were condemned meanwhile.
    fn condemn(&mut self, touched: &mut Vec<Key>) {
        let condemned = &self.lane.condemned;
        let version = condemned.version();
        if std::mem::replace(&mut self.sentenced, version) == version {
            return;
        }
        for queue in self.keys.values_mut() {
            if queue.condemn(|id| condemned.sentence(id)) && !std::mem::replace(&mut queue.touched, true) {
                touched.push(queue.key.clone());
            }
        }
    }

    fn queue(&mut self, key: Key, touched: &mut Vec<Key>) -> &mut KeyQueue {
        let queue = self.keys.entry(key).or_insert_with_key(|key| match files::load(&self.root, key) {
            // Without a `.state` the directory was made by another key's event (a flow that joined) and no checkpoint came
            // since: there is no plugin state to lose.
            Ok((state, _)) => KeyQueue::new(key.clone(), state.states, state.joined),
            Err(error) => {
                // Going on without the state could let a redactor miss what it had begun to see.
                self.lane.ending.fatal(format!("cannot load the state of {key}: {error}"));
                KeyQueue::new(key.clone(), States::default(), None)
            }
        });
        if !std::mem::replace(&mut queue.touched, true) {
            touched.push(queue.key.clone());
        }
        queue
    }

    /// Decides as much of a key's queue as the chain will. `flush`: its held events have waited long enough.
    fn process(
        &mut self,
        key: &Key,
        flush: bool,
        decided: &mut Vec<Slice>,
        slices: &SyncSender<Vec<Slice>>,
    ) -> ControlFlow<()> {
        if let Some(queue) = self.keys.get_mut(key) {
            queue.touched = false;
        }
        self.let_go(key);
        let mut flush = flush;
        loop {
            if self.surplus > SURPLUS_BYTES {
                self.hand_over(std::mem::take(decided), slices)?;
                // A checkpoint covers a batch as a whole.
                self.batch += 1;
            }
            let Some(queue) = self.keys.get_mut(key) else { return ControlFlow::Continue(()) };
            let mut slice = Slice::empty(self.lane.number, self.batch, Some(key.clone()));
            match queue.ahead() {
                Ahead::Nothing => break,
                Ahead::Refused => {
                    if let Some((refused, size)) = queue.pop_refused() {
                        render::push_refused(&mut slice, refused, size, &self.lane.metrics);
                    }
                }
                Ahead::Condemned => {
                    if let Some((event, sentence)) = queue.pop_condemned() {
                        render::push_condemned(&mut slice, queue, &event, sentence, &self.lane.metrics);
                    }
                }
                Ahead::Events { count, full, last } => {
                    let events = queue.events(count);
                    let task = queue.task();
                    let must = flush || last || events.iter().any(Event::ends_task);
                    let chain_slice = ChainSlice { task, events, flush: must, states: &queue.states };
                    let outcome = loop {
                        self.heartbeat.beat();
                        let seen = self.lane.host.wait_changed(0, Duration::ZERO);
                        match self.lane.chain.process(&chain_slice) {
                            Ok(outcome) => break Some(outcome),
                            // What blocks is to go: then the plugins have another chance.
                            Err(_) if events.iter().any(|event| self.lane.condemned.sentence(event.id).is_some()) => {
                                self.lane.host.lift_stops();
                                break None;
                            }
                            Err(blocked) => {
                                if wait_for_plugins(&self.lane, &self.heartbeat, &blocked, seen).is_break() {
                                    return ControlFlow::Break(());
                                }
                            }
                        }
                    };
                    let Some(outcome) = outcome else {
                        queue.condemn(|id| self.lane.condemned.sentence(id));
                        continue;
                    };
                    if outcome.outcomes.is_empty() {
                        if full && !must {
                            flush = true;
                            continue;
                        }
                        break;
                    }
                    render::push_decided(&mut slice, queue, outcome, &self.lane.metrics);
                    flush = false;
                }
            }
            queue.batch = self.batch;
            self.surplus += slice.surplus;
            decided.push(slice);
        }
        self.hold(key);
        ControlFlow::Continue(())
    }

    /// Notes what of a key's queue waits for later events.
    fn hold(&mut self, key: &Key) {
        let Some(queue) = self.keys.get(key) else { return };
        let Some(since) = queue.waiting_since() else { return };
        let due = (since + self.lane.hold_max).max(Instant::now() + Duration::from_millis(1));
        let (events, bytes) = queue.waiting();
        self.lane.window.hold(bytes);
        self.lane.metrics.held.increment(f64::from(events));
        self.held.insert(key.clone(), Held { due, events, bytes });
    }

    /// A key's held events are decided again, or will be by another owner.
    fn let_go(&mut self, key: &Key) {
        if let Some(Held { events, bytes, .. }) = self.held.remove(key) {
            self.lane.window.release(bytes);
            self.lane.metrics.held.decrement(f64::from(events));
        }
    }

    /// Gives slices to the committer, and waits while too much of what plugins made is on its way to the files.
    fn hand_over(&mut self, decided: Vec<Slice>, slices: &SyncSender<Vec<Slice>>) -> ControlFlow<()> {
        // Waiting for the committer is not standing still: what holds it up says so itself.
        self.heartbeat.idle();
        let surplus = &self.lane.surplus;
        surplus.take(std::mem::take(&mut self.surplus));
        if slices.send(decided).is_err() {
            return ControlFlow::Break(());
        }
        while surplus.free(IDLE) == 0 {
            if self.lane.ending.is_over() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// How long to wait for entries.
    fn next_flush(&self) -> Duration {
        let now = Instant::now();
        self.held.values().map(|held| held.due).min().map_or(IDLE, |due| due.saturating_duration_since(now).min(IDLE))
    }

    /// Forgets keys that stand in a checkpoint, when there are many.
    fn forget_keys(&mut self) {
        if self.keys.len() > KEYS_MAX {
            let checkpointed = self.lane.checkpointed.load(Ordering::Acquire);
            self.keys.retain(|_, queue| queue.batch > checkpointed || !queue.is_empty());
        }
    }
}

/// Waits until the plugins are others than those that block. Breaks when the lane must end: what it holds then stays in the
/// stream.
fn wait_for_plugins(lane: &Lane, heartbeat: &Heartbeat, blocked: &Blocked, seen: u64) -> ControlFlow<()> {
    heartbeat.idle();
    if lane.ending.is_draining() {
        return ControlFlow::Break(());
    }
    lane.status.set_blocked("plugins", Some(blocked.reason.clone()));
    lane.host.wait_changed(seen, Duration::from_millis(200));
    ControlFlow::Continue(())
}
