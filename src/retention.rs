//! Retention: which tasks' files are old enough to go. A thread of the owner walks `LOGS_DIR` slowly and hands the keys that it
//! finds to their lanes, which hand them to the committer: it alone takes files away, in order with everything else.
//!
//! What counts is when the service wrote last, by its own clock and not by what producers say of time: a wrong timestamp in an
//! event removes nothing. A clock that jumps ahead under the running process is not believed either.

use std::{
    collections::{BinaryHeap, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, Weak, mpsc::SyncSender},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    committer::{
        describe,
        files::{self, FilesError, TaskFiles},
        lock_tracker,
    },
    ending::Ending,
    event::{Id, Key, StreamId},
    fault,
    lane::{Due, Work},
    layout::{FINAL_RESULT, WEBHOOKS_DIR},
    position::Tracker,
    route,
    status::Status,
};

/// Shortest time between two walks, ...
const EVERY: Duration = Duration::from_secs(60);
/// ... which take at most this share of a core, as one part in so many.
const SHARE: u32 = 20;
/// How often it looks whether there is something to do, ...
const TICK: Duration = Duration::from_secs(1);
/// ... and while keys wait to be asked for.
const SOON: Duration = Duration::from_millis(100);
/// Keys that one walk finds at most.
const WALK_MAX: usize = 16_384;
/// Keys that a lane is asked for at once: it waits for the committer meanwhile, for some milliseconds.
const ASK_MAX: usize = 256;
/// Nothing younger is removed for its room.
const YOUNG: Duration = Duration::from_secs(60);
/// Files were not written before 2020: the clock had not been set, and nobody knows how old they are.
const CLOCK_SET: Duration = Duration::from_secs(1_577_836_800);

/// `RETAIN`, `RETAIN_IDLE` and `RETAIN_BYTES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// So long after its last write a task goes that has ended.
    pub ended: Option<Duration>,
    /// The same for a task that has not, and for a flow that has not joined one.
    pub idle: Option<Duration>,
    /// When all tasks and flows together take more bytes on the disk, tasks that have ended go, those first that were written
    /// least lately.
    pub bytes: Option<u64>,
}

/// What retention works with.
pub struct Retention {
    /// When what goes.
    pub rules: Rules,
    /// The files.
    pub files: TaskFiles,
    /// `LOGS_DIR`, to list.
    pub logs_dir: PathBuf,
    /// The name of the stream's folder in it.
    pub state_name: String,
    /// The lanes.
    pub lanes: Vec<SyncSender<Work>>,
    /// The live position, ...
    pub tracker: Arc<Mutex<Tracker>>,
    /// ... and where it began: until it has no holes from before, entries of any key may come that lanes do not know of.
    pub began: StreamId,
    /// To say what cannot be done.
    pub status: Arc<Status>,
    /// Whether to stop.
    pub ending: Arc<Ending>,
}

/// What a lane is to be asked for, and what it was asked for last.
#[derive(Default)]
struct Asking {
    waiting: VecDeque<Due>,
    asked: Option<Weak<[Due]>>,
}

/// Why a walk could not be made.
#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error("cannot list {path}")]
    List {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// What a walk found.
#[derive(Debug, Default)]
struct Walk {
    /// What is due by its age.
    due: Vec<Due>,
    /// What all takes, but for what is due, in bytes; with `RETAIN_BYTES` only.
    room: u64,
    /// Tasks that have ended and are not due, written least lately, the latest on top.
    oldest: BinaryHeap<Ended>,
    /// Directories that could not be looked at, or cannot be removed; and why the first of them.
    spared: (u64, Option<FilesError>),
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ended {
    written: SystemTime,
    room: u64,
    key: Key,
}

// === impl Rules ===

impl Rules {
    /// Whether anything is ever removed.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

// === impl Retention ===

impl Retention {
    /// Works until a drain is asked for or the ownership is over; without rules only until what earlier owners took away is
    /// removed.
    pub fn run(self) {
        let clock = (SystemTime::now(), Instant::now());
        let mut lanes: Vec<Asking> = self.lanes.iter().map(|_| Asking::default()).collect();
        let (mut next, mut settled) = (Instant::now(), false);
        while !self.ending.is_draining() {
            let freed = self.files.free(&|| !self.ending.is_draining());
            if let Err(error) = &freed {
                tracing::warn!(error = describe(error), "what was removed still takes room; trying again");
            }
            if !self.rules.any() {
                return;
            }
            settled = settled || self.is_settled();
            if lanes.iter().any(Asking::is_busy) {
                lanes.iter_mut().zip(&self.lanes).for_each(|(asking, lane)| asking.ask(lane));
            } else if settled && next <= Instant::now() {
                let started = Instant::now();
                // A clock that was put ahead makes nothing old.
                let now = SystemTime::now().min(clock.0 + clock.1.elapsed());
                match self.walk(now) {
                    Ok(due) => {
                        for due in due {
                            let lane = route::lane_of_key(&due.key, lanes.len());
                            lanes[lane].waiting.push_back(due);
                        }
                    }
                    Err(error) => {
                        let error = describe(error);
                        tracing::warn!(error, "old tasks cannot be removed; trying again");
                        self.status.set_notice("retention", Some(format!("old tasks cannot be removed: {error}")));
                    }
                }
                next = Instant::now() + fault::every("retention::every", EVERY.max(started.elapsed() * SHARE));
                continue;
            }
            let pause = if lanes.iter().any(Asking::is_busy) { SOON } else { TICK };
            self.ending.wait(fault::every("retention::every", pause));
        }
    }

    /// Whether no entry is left that earlier owners had read and not committed.
    fn is_settled(&self) -> bool {
        let tracker = lock_tracker(&self.tracker);
        tracker.open() == 0 || tracker.low() >= self.began
    }

    /// Looks at everything once. Returns what is due.
    fn walk(&self, now: SystemTime) -> Result<Vec<Due>, RetentionError> {
        fault::pass("retention::walk");
        let list = |source| RetentionError::List { path: self.logs_dir.clone(), source };
        if let Some(other) = files::other_stream(&self.logs_dir, &self.state_name).map_err(list)? {
            // Whose a directory is does not show, and another owner may be writing to it.
            let notice = format!("nothing is removed: {} is of another stream with the same LOGS_DIR", other.display());
            self.status.set_notice("retention", Some(notice));
            return Ok(Vec::new());
        }
        let mut walk = Walk::default();
        for key in self.keys()? {
            if self.ending.is_draining() {
                return Ok(Vec::new());
            }
            if let Err(error) = self.look(&key?, now, &mut walk) {
                walk.spare(error);
            }
            if walk.due.len() >= WALK_MAX {
                break;
            }
        }
        let Walk { mut due, mut room, oldest, spared } = walk;
        let bound = self.rules.bytes.unwrap_or(u64::MAX);
        for ended in oldest.into_sorted_vec() {
            if room <= bound || due.len() >= WALK_MAX {
                break;
            }
            room = room.saturating_sub(ended.room);
            due.push(Due { key: ended.key, written: ended.written, after: None });
        }
        let notice = if let (count, Some(error)) = spared {
            let error = describe(error);
            Some(format!("{count} directories cannot be looked at or removed, the first of them: {error}"))
        } else if room > bound && due.len() < WALK_MAX {
            let rest = "tasks that have not ended or just did, and flows, take";
            Some(format!("{rest} {room} bytes: more than RETAIN_BYTES, and they stay"))
        } else {
            None
        };
        self.status.set_notice("retention", notice);
        Ok(due)
    }

    /// Keys that have a directory, as they are listed.
    fn keys(&self) -> Result<impl Iterator<Item = Result<Key, RetentionError>> + use<>, RetentionError> {
        let list = |path: PathBuf, key: fn(Id) -> Key| {
            let failed = {
                let path = path.clone();
                move |source| RetentionError::List { path: path.clone(), source }
            };
            let entries = match std::fs::read_dir(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                entries => Some(entries.map_err(&failed)?),
            };
            Ok::<_, RetentionError>(entries.into_iter().flatten().filter_map(move |entry| match entry {
                Ok(entry) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                    Id::from_dir_name(entry.file_name().to_str()?).map(|id| Ok(key(id)))
                }
                Ok(_) => None,
                Err(error) => Some(Err(failed(error))),
            }))
        };
        let tasks = list(self.logs_dir.clone(), Key::Task)?;
        Ok(tasks.chain(list(self.logs_dir.join(WEBHOOKS_DIR), Key::Flow)?))
    }

    fn look(&self, key: &Key, now: SystemTime, walk: &mut Walk) -> Result<(), FilesError> {
        let Some(written) = self.files.written(key)? else { return Ok(()) };
        let age = match written.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) if since >= CLOCK_SET => now.duration_since(written).unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let Rules { ended, idle, bytes } = self.rules;
        let over = |limit: Option<Duration>| limit.is_some_and(|limit| age >= limit);
        let is_over = over(ended) || over(idle);
        let has_ended = || Ok::<_, FilesError>(matches!(key, Key::Task(_)) && self.files.has(key, FINAL_RESULT)?);
        let mut after = None;
        let is_due = match key {
            Key::Task(_) if is_over => over(if has_ended()? { ended } else { idle }),
            Key::Flow(_) if is_over || (bytes.is_some() && age >= YOUNG) => match self.files.joined(key)? {
                // Nothing of it is left but where its later events go; that lives as long as the task.
                Some(task) => {
                    let task = after.insert(Key::Task(task));
                    (is_over || (ended.is_none() && idle.is_none())) && self.files.written(task)?.is_none()
                }
                None => over(idle),
            },
            _ => false,
        };
        if is_due {
            self.files.may_clear(key)?;
            walk.due.push(Due { key: key.clone(), written, after });
        } else if bytes.is_some() {
            let room = self.files.room(key)?;
            walk.room += room;
            if age >= YOUNG && has_ended()? {
                self.files.may_clear(key)?;
                walk.oldest.push(Ended { written, room, key: key.clone() });
                if walk.oldest.len() > WALK_MAX {
                    walk.oldest.pop();
                }
            }
        }
        Ok(())
    }
}

// === impl Walk ===

impl Walk {
    fn spare(&mut self, error: FilesError) {
        self.spared.0 += 1;
        self.spared.1.get_or_insert(error);
    }
}

// === impl Asking ===

impl Asking {
    fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || self.is_asked()
    }

    fn is_asked(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.strong_count() > 0)
    }

    /// Asks for the next ones when the lane is done with those before.
    fn ask(&mut self, lane: &SyncSender<Work>) {
        if self.is_asked() || self.waiting.is_empty() {
            return;
        }
        let count = self.waiting.len().min(ASK_MAX);
        let due: Arc<[Due]> = self.waiting.drain(..count).collect();
        self.asked = Some(Arc::downgrade(&due));
        // What does not fit is found by the next walk: events go first.
        drop(lane.try_send(Work::Retire(due)));
    }
}
