//! The ownership in Redis: a key that expires, and an epoch that only rises. The thread that renews the lease has its own
//! connection and is joined when the lease is released.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use redis::{Cmd, Value, cmd};
use serde::{Deserialize, Serialize};

use super::{Shared, connect::Control, lock, reply};
use crate::{
    fault,
    source::{Lease, OwnRequest, SourceError},
};

/// How long a lease outlives its owner.
const TTL: Duration = Duration::from_secs(5);
/// How much earlier the owner itself stops believing in it: clocks differ, and what it does last must end in time.
const MARGIN: Duration = Duration::from_secs(1);
/// Commands for the lease answer within this time, or the renewal counts as failed.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// Prolongs the lease if it is still ours. Without memory to spare a server refuses whatever stands in a transaction, and still runs
/// this, which needs none.
const EXTEND: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";
/// Between two tries after a failure.
const RETRY: Duration = Duration::from_millis(250);

/// What the lease's key holds, for people and for a restarted process.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// Random, new at each acquisition.
    owner: String,
    host: String,
    boot_id: String,
    state_id: String,
    /// Whether it held the lock on the state folder when it became the owner. Only then is a free lock a sign of its death:
    /// one that took over from a paused process runs without the lock, which that process takes along.
    #[serde(default)]
    locked: bool,
    chain_digest: String,
    /// When it was acquired.
    since: String,
}

/// A lease on the stream. Released when dropped.
pub(super) struct RedisLease {
    state: Arc<State>,
    renewer: Mutex<Option<JoinHandle<()>>>,
}

struct State {
    shared: Arc<Shared>,
    value: String,
    epoch: u64,
    base: Instant,
    /// Milliseconds after `base` until which it is held.
    held_until: AtomicU64,
    lost: AtomicBool,
    stop: Mutex<bool>,
    stopped: Condvar,
}

/// What one look at the keys did.
enum Seen {
    Renewed,
    /// Somebody else's, or was: the epoch has moved.
    Lost,
    /// The keys changed while we looked.
    Again,
}

/// Takes the lease with a new epoch; `None`: another process has it.
pub(super) fn acquire(shared: &Arc<Shared>, request: &OwnRequest) -> Result<Option<(u64, RedisLease)>, SourceError> {
    fault::point("lease::take").map_err(SourceError::interrupted)?;
    let mut control = Control::new(Arc::clone(&shared.server), TIMEOUT);
    let value = note(request)?;
    loop {
        let (held, epoch) = watch(shared, &mut control)?;
        if held.is_some_and(|held| !is_own_predecessor(&held, request)) {
            return Ok(None);
        }
        let epoch = epoch.unwrap_or(0).max(request.epoch_min) + 1;
        let sent = Instant::now();
        // Nil: somebody else was quicker; the next look says who.
        if execute(&mut control, &[set_lease(shared, &value), set_epoch(shared, epoch)])? {
            fault::pass("lease::taken");
            return Ok(Some((epoch, RedisLease::hold(shared, value, epoch, sent)?)));
        }
    }
}

fn note(request: &OwnRequest) -> Result<String, SourceError> {
    let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let note = Note {
        owner: format!("{:032x}", fastrand::u128(..)),
        host: read("/proc/sys/kernel/hostname"),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        state_id: request.state_id.clone(),
        locked: request.holds_local_lock,
        chain_digest: request.chain_digest.clone(),
        since: jiff::Timestamp::now().to_string(),
    };
    serde_json::to_string(&note).map_err(|error| SourceError::Config(format!("lease note: {error}")))
}

/// The lock on the state folder is ours, so whoever noted that folder is dead.
fn is_own_predecessor(held: &str, request: &OwnRequest) -> bool {
    let note = serde_json::from_str::<Note>(held);
    request.holds_local_lock && note.is_ok_and(|note| note.locked && note.state_id == request.state_id)
}

/// Watches both keys and reads them.
fn watch(shared: &Shared, control: &mut Control) -> Result<(Option<String>, Option<u64>), SourceError> {
    let mut watch = cmd("WATCH");
    watch.arg(&shared.lease_key).arg(&shared.epoch_key);
    let mut get = cmd("MGET");
    get.arg(&shared.lease_key).arg(&shared.epoch_key);
    let mut replies = control.all(&[watch, get])?;
    let wrong = || SourceError::Reply { command: "MGET" };
    let values = reply::accepted(replies.pop().ok_or_else(wrong)?)?;
    reply::accepted(replies.pop().ok_or_else(wrong)?)?;
    let Value::Array(values) = values else { return Err(wrong()) };
    let [held, epoch] = &values[..] else { return Err(wrong()) };
    let held = match held {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    };
    let epoch = match epoch {
        Value::Nil => None,
        other => Some(reply::text(other).and_then(|text| text.parse().ok()).ok_or_else(|| {
            SourceError::Config(format!("the key {} holds no number: it is not ours", shared.epoch_key))
        })?),
    };
    Ok((held, epoch))
}

/// Runs commands in a transaction; `false`: a watched key had changed.
fn execute(control: &mut Control, commands: &[Cmd]) -> Result<bool, SourceError> {
    let mut all = vec![cmd("MULTI")];
    all.extend_from_slice(commands);
    all.push(cmd("EXEC"));
    let mut executed = false;
    for reply in control.all(&all)? {
        executed = match reply::accepted(reply)? {
            Value::Array(replies) => {
                replies.into_iter().try_for_each(|reply| reply::accepted(reply).map(drop))?;
                true
            }
            _ => false,
        };
    }
    Ok(executed)
}

fn set_lease(shared: &Shared, value: &str) -> Cmd {
    let mut set = cmd("SET");
    set.arg(&shared.lease_key).arg(value).arg("PX").arg(TTL.as_millis() as u64);
    set
}

fn set_epoch(shared: &Shared, epoch: u64) -> Cmd {
    let mut set = cmd("SET");
    set.arg(&shared.epoch_key).arg(epoch);
    set
}

// === impl RedisLease ===

impl RedisLease {
    fn hold(shared: &Arc<Shared>, value: String, epoch: u64, sent: Instant) -> Result<Self, SourceError> {
        let state = Arc::new(State {
            shared: Arc::clone(shared),
            value,
            epoch,
            base: sent,
            held_until: AtomicU64::new((TTL - MARGIN).as_millis() as u64),
            lost: AtomicBool::new(false),
            stop: Mutex::new(false),
            stopped: Condvar::new(),
        });
        let renewing = Arc::clone(&state);
        let renewer = std::thread::Builder::new().name("lease".to_owned()).spawn(move || renewing.run());
        let renewer =
            renewer.map_err(|source| SourceError::Io { action: "start a thread for", path: "lease".into(), source })?;
        Ok(Self { state, renewer: Mutex::new(Some(renewer)) })
    }
}

impl Lease for RedisLease {
    fn is_held(&self) -> bool {
        let now = self.state.base.elapsed().as_millis() as u64;
        !self.state.lost.load(Ordering::Acquire) && now < self.state.held_until.load(Ordering::Acquire)
    }

    fn release(&self) {
        self.state.lost.store(true, Ordering::Release);
        *lock(&self.state.stop) = true;
        self.state.stopped.notify_all();
        if let Some(renewer) = lock(&self.renewer).take()
            && renewer.join().is_err()
        {
            tracing::error!("the thread that renews the lease panicked");
        }
    }
}

impl Drop for RedisLease {
    fn drop(&mut self) {
        self.release();
    }
}

// === impl State ===

impl State {
    fn run(&self) {
        let mut control = Control::new(Arc::clone(&self.shared.server), TIMEOUT);
        let mut pause = TTL / 3;
        while !self.wait(pause) {
            let sent = Instant::now();
            pause = match self.renew(&mut control) {
                Ok(Seen::Renewed) => {
                    let until = (sent - self.base + TTL - MARGIN).as_millis() as u64;
                    self.held_until.store(until, Ordering::Release);
                    TTL / 3
                }
                Ok(Seen::Again) => Duration::ZERO,
                Ok(Seen::Lost) => {
                    self.lost.store(true, Ordering::Release);
                    tracing::warn!(epoch = self.epoch, "another process took the stream over");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot renew the lease");
                    // Jittered, so that the processes of a failed server do not come back in step.
                    RETRY.mul_f64(0.5 + fastrand::f64())
                }
            };
        }
        if let Err(error) = self.give_up(&mut control) {
            tracing::info!(%error, "the lease was not released and expires by itself");
        }
    }

    /// Waits; `true` when it is time to stop.
    fn wait(&self, pause: Duration) -> bool {
        let guard = lock(&self.stop);
        let waited = self.stopped.wait_timeout_while(guard, pause, |stop| !*stop);
        waited.map_or(true, |(stop, _)| *stop)
    }

    fn renew(&self, control: &mut Control) -> Result<Seen, SourceError> {
        fault::point("lease::renew").map_err(SourceError::interrupted)?;
        let (held, epoch) = watch(&self.shared, control)?;
        let mut ours = false;
        let commands = match held {
            Some(held) if held == self.value => {
                ours = true;
                let mut expire = cmd("PEXPIRE");
                expire.arg(&self.shared.lease_key).arg(TTL.as_millis() as u64);
                // A lost epoch is put back before anybody could take a lower one.
                let restore = epoch.is_none_or(|epoch| epoch < self.epoch);
                std::iter::once(expire).chain(restore.then(|| set_epoch(&self.shared, self.epoch))).collect()
            }
            // Expired while we could not reach the server, or flushed: with no higher epoch, nobody was owner in between.
            None if epoch.is_none_or(|epoch| epoch <= self.epoch) => {
                vec![set_lease(&self.shared, &self.value), set_epoch(&self.shared, self.epoch)]
            }
            _ => return Ok(Seen::Lost),
        };
        match execute(control, &commands) {
            Ok(true) => Ok(Seen::Renewed),
            Ok(false) => Ok(Seen::Again),
            Err(SourceError::Redis(error)) if ours && error.code() == Some("OOM") => {
                let mut extend = cmd("EVAL");
                extend.arg(EXTEND).arg(1).arg(&self.shared.lease_key).arg(&self.value).arg(TTL.as_millis() as u64);
                let extended = control.one(&extend)?;
                Ok(if reply::integer(&extended) == Some(1) { Seen::Renewed } else { Seen::Again })
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes the lease if it is still ours.
    fn give_up(&self, control: &mut Control) -> Result<(), SourceError> {
        fault::point("lease::release").map_err(SourceError::interrupted)?;
        let (held, _) = watch(&self.shared, control)?;
        if held.is_some_and(|held| held == self.value) {
            let mut delete = cmd("DEL");
            delete.arg(&self.shared.lease_key);
            execute(control, &[delete])?;
        }
        Ok(())
    }
}
