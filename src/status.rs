//! What the service says of itself: one value shared by the data path, which writes it, and HTTP, which reads it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use serde::Serialize;

use crate::event::StreamId;

/// Shared state; every part is cheap to read.
#[derive(Debug)]
pub struct Status {
    started: Instant,
    /// Whether this process owns the stream, and which one.
    pub role: ArcSwap<Role>,
    /// Heartbeats of the threads whose standstill makes `/health` answer 503.
    heartbeats: Mutex<BTreeMap<String, std::sync::Arc<Heartbeat>>>,
    /// Why events are not being taken in, by the part that says so. Empty: they are.
    blocked: Mutex<BTreeMap<&'static str, String>>,
    /// What a person should know without anything being blocked (degraded plugins, no redactor, memory only).
    notices: Mutex<BTreeMap<&'static str, String>>,
    /// The stream after the published position.
    pub backlog: ArcSwap<BacklogView>,
    /// Where the owner stands in the stream.
    position: Mutex<PositionView>,
}

/// The owner's position, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct PositionView {
    /// Everything at or below it is committed.
    pub low: StreamId,
    /// The highest id committed.
    pub high: StreamId,
    /// Entries that are read and not committed: in flight, held.
    pub open: u64,
}

/// The process's part in the stream.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Role {
    /// `owner`, `standby` or `starting`.
    pub role: &'static str,
    /// The ownership's epoch; 0 for a standby.
    pub epoch: u64,
    /// The stream, without secrets.
    pub stream: String,
}

/// The stream as last seen; refreshed every second by the owner, from the group by a standby.
#[derive(Clone, Debug, Default)]
pub struct BacklogView {
    /// Entries after `low`: unread, in flight, held.
    pub depth: u64,
    /// Entries not yet read.
    pub lag: u64,
    /// Age of the oldest entry after `low`, by its id, in seconds.
    pub lag_seconds: f64,
    /// The published position.
    pub low: StreamId,
    /// The highest id committed.
    pub high: StreamId,
}

/// A thread's sign of life. It beats when it moves, and says when it waits for something that has its own deadline.
#[derive(Debug)]
pub struct Heartbeat {
    started: Instant,
    /// Milliseconds since `started` of the last beat; `u64::MAX`: idle, waiting for work.
    last: AtomicU64,
}

const IDLE: u64 = u64::MAX;

// === impl Status ===

impl Default for Status {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            role: ArcSwap::from_pointee(Role { role: "starting", ..Role::default() }),
            heartbeats: Mutex::default(),
            blocked: Mutex::default(),
            notices: Mutex::default(),
            backlog: ArcSwap::default(),
            position: Mutex::default(),
        }
    }
}

impl Status {
    /// How long the process runs.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// A heartbeat under a name; the same one for the same name.
    pub fn heartbeat(&self, name: &str) -> std::sync::Arc<Heartbeat> {
        let mut all = lock(&self.heartbeats);
        std::sync::Arc::clone(
            all.entry(name.to_owned()).or_insert_with(|| {
                std::sync::Arc::new(Heartbeat { started: Instant::now(), last: AtomicU64::new(IDLE) })
            }),
        )
    }

    /// Forgets a heartbeat whose thread has ended.
    pub fn forget_heartbeat(&self, name: &str) {
        lock(&self.heartbeats).remove(name);
    }

    /// Threads that have work and have not moved for `limit`, with the time since.
    pub fn stalled(&self, limit: Duration) -> Vec<(String, Duration)> {
        let all = lock(&self.heartbeats);
        all.iter().filter_map(|(name, beat)| Some((name.clone(), beat.silent().filter(|d| *d > limit)?))).collect()
    }

    /// Every heartbeat with the time since its last beat; `None`: idle.
    pub fn heartbeats(&self) -> Vec<(String, Option<Duration>)> {
        lock(&self.heartbeats).iter().map(|(name, beat)| (name.clone(), beat.silent())).collect()
    }

    /// Says why a part does not take events in, or with `None` that it does again.
    pub fn set_blocked(&self, part: &'static str, reason: Option<String>) {
        set(&self.blocked, part, reason);
    }

    /// Every reason why events are not being taken in.
    pub fn blocked(&self) -> BTreeMap<&'static str, String> {
        lock(&self.blocked).clone()
    }

    /// Notes where the owner stands.
    pub fn set_position(&self, position: PositionView) {
        *lock(&self.position) = position;
    }

    /// Where the owner stands.
    pub fn position(&self) -> PositionView {
        *lock(&self.position)
    }

    /// Says something that a person should know, or with `None` that it is over.
    pub fn set_notice(&self, part: &'static str, notice: Option<String>) {
        set(&self.notices, part, notice);
    }

    /// What a person should know.
    pub fn notices(&self) -> BTreeMap<&'static str, String> {
        lock(&self.notices).clone()
    }
}

fn set(map: &Mutex<BTreeMap<&'static str, String>>, part: &'static str, text: Option<String>) {
    let mut map = lock(map);
    match text {
        Some(text) => map.insert(part, text),
        None => map.remove(part),
    };
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every section below is a single operation, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Heartbeat ===

impl Heartbeat {
    /// The thread moved, or took up work.
    pub fn beat(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(IDLE - 1);
        self.last.store(now, Ordering::Relaxed);
    }

    /// The thread waits for work.
    pub fn idle(&self) {
        self.last.store(IDLE, Ordering::Relaxed);
    }

    fn silent(&self) -> Option<Duration> {
        match self.last.load(Ordering::Relaxed) {
            IDLE => None,
            last => Some(self.started.elapsed().saturating_sub(Duration::from_millis(last))),
        }
    }
}
