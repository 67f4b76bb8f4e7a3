//! Retention: which tasks' files are old enough to go. A thread of the owner walks `LOGS_DIR` slowly and hands the keys that it
//! finds to their lanes, which hand them to the committer: it alone takes files away, in order with everything else.
//!
//! What counts is when the service wrote last, by its own clock and not by what producers say of time: a wrong timestamp in an
//! event removes nothing. A clock that jumps ahead under the running process is not believed either.

use std::{
    collections::{BinaryHeap, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        mpsc::{SyncSender, TrySendError},
    },
    time::{Duration, Instant, SystemTime},
};

use cap_std::{ambient_authority, fs::Dir};

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
    layout::{FINAL_RESULT, STATE_DIR, WEBHOOKS_DIR},
    position::Tracker,
    route,
    status::Status,
};

/// Shortest time between two walks, ...
const EVERY: Duration = Duration::from_secs(60);
/// ... which take at most this share of a core, as one part in so many.
const SHARE: u32 = 20;
/// Shortest time between two walks while there is much to remove.
const SOON: Duration = Duration::from_secs(1);
/// How often it looks whether there is something to do.
const TICK: Duration = Duration::from_secs(1);
/// Keys of one walk that are removed at most.
const WALK_MAX: usize = 4096;
/// Keys that a lane is asked for at once: it waits for the committer meanwhile.
const ASK_MAX: usize = 64;

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
    /// `STATE_DIR` and the name of the stream's folder there.
    pub state: (PathBuf, String),
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

/// Why a walk could not be made.
#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error("cannot list {path}")]
    List {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Files(#[from] FilesError),
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
    /// Works until a drain is asked for or the ownership is over.
    pub fn run(mut self) {
        let clock = (SystemTime::now(), Instant::now());
        let (mut next, mut settled) = (Instant::now(), false);
        while !self.ending.is_draining() {
            let freed = self.files.free().map_err(RetentionError::from);
            settled = settled || self.is_settled();
            if freed.is_ok() && settled && next <= Instant::now() {
                let started = Instant::now();
                // A clock that was put ahead makes nothing old.
                let now = SystemTime::now().min(clock.0 + clock.1.elapsed());
                let more = self.pass(now);
                let pause = if matches!(more, Ok(true)) { SOON } else { fault::every("retention::every", EVERY) };
                next = Instant::now() + pause.max(started.elapsed() * SHARE);
                self.tell(more.err());
            } else if let Err(error) = freed {
                self.tell(Some(error));
            }
            self.ending.wait(fault::every("retention::every", TICK));
        }
    }

    /// Whether no entry is left that earlier owners had read and not committed.
    fn is_settled(&self) -> bool {
        let tracker = lock_tracker(&self.tracker);
        tracker.open() == 0 || tracker.low() >= self.began
    }

    fn tell(&self, error: Option<RetentionError>) {
        if let Some(error) = error {
            let error = describe(error);
            tracing::warn!(error, "old tasks cannot be removed; trying again");
            self.status.set_notice("retention", Some(format!("old tasks cannot be removed: {error}")));
        }
    }

    /// Looks at everything once and asks for what is due. Returns whether there is more.
    fn pass(&mut self, now: SystemTime) -> Result<bool, RetentionError> {
        fault::pass("retention::walk");
        if let Some(other) = self.other_stream()? {
            // Whose a directory is does not show, and another owner may be writing to it.
            let notice = format!("nothing is removed: {} is of another stream with the same LOGS_DIR", other.display());
            self.status.set_notice("retention", Some(notice));
            return Ok(false);
        }
        let mut walk = Walk::default();
        for key in self.keys()? {
            if self.ending.is_draining() {
                return Ok(false);
            }
            self.look(&key?, now, &mut walk)?;
        }
        let Walk { mut due, mut room, oldest } = walk;
        let bound = self.rules.bytes.unwrap_or(u64::MAX);
        for ended in oldest.into_sorted_vec() {
            if room <= bound || due.len() >= WALK_MAX {
                break;
            }
            room = room.saturating_sub(ended.room);
            due.push(Due { key: ended.key, written: ended.written });
        }
        let more = due.len() >= WALK_MAX;
        let over = (room > bound && !more).then(|| {
            format!("tasks that have not ended, and flows, take {room} bytes: more than RETAIN_BYTES, and they stay")
        });
        self.status.set_notice("retention", over);
        self.ask(due);
        Ok(more)
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
                Ok(entry) => Id::from_dir_name(entry.file_name().to_str()?).map(|id| Ok(key(id))),
                Err(error) => Some(Err(failed(error))),
            }))
        };
        let tasks = list(self.logs_dir.clone(), Key::Task)?;
        Ok(tasks.chain(list(self.logs_dir.join(WEBHOOKS_DIR), Key::Flow)?))
    }

    fn look(&self, key: &Key, now: SystemTime, walk: &mut Walk) -> Result<(), RetentionError> {
        let Some(written) = self.files.written(key)? else { return Ok(()) };
        let age = now.duration_since(written).unwrap_or_default();
        let Rules { ended, idle, bytes } = self.rules;
        let over = |limit: Option<Duration>| limit.is_some_and(|limit| age >= limit);
        let may_end = bytes.is_some() || over(ended) || over(idle);
        let is_due = match key {
            _ if !may_end || walk.due.len() >= WALK_MAX => false,
            Key::Flow(_) => match self.joined(key)? {
                // Nothing of it is left but where its later events go; that lives as long as the task.
                Some(task) => {
                    let quiet = over(ended) || over(idle) || (ended.is_none() && idle.is_none());
                    quiet && self.files.written(&Key::Task(task))?.is_none()
                }
                None => over(idle),
            },
            Key::Task(_) => over(if self.files.has(key, FINAL_RESULT)? { ended } else { idle }),
        };
        if is_due {
            walk.due.push(Due { key: key.clone(), written });
        } else if bytes.is_some() {
            let room = self.files.room(key)?;
            walk.room += room;
            if matches!(key, Key::Task(_)) && self.files.has(key, FINAL_RESULT)? {
                walk.oldest.push(Ended { written, room, key: key.clone() });
                if walk.oldest.len() > WALK_MAX {
                    walk.oldest.pop();
                }
            }
        }
        Ok(())
    }

    fn joined(&self, flow: &Key) -> Result<Option<Id>, RetentionError> {
        let failed = |source| RetentionError::List { path: self.logs_dir.join(files::dir_of(flow)), source };
        let root = Dir::open_ambient_dir(&self.logs_dir, ambient_authority()).map_err(failed)?;
        Ok(files::load(&root, flow).map_err(failed)?.0.joined)
    }

    /// The folder of another stream that has the same `LOGS_DIR`.
    fn other_stream(&self) -> Result<Option<PathBuf>, RetentionError> {
        let (state_dir, name) = &self.state;
        for dir in [state_dir.clone(), self.logs_dir.join(STATE_DIR)] {
            let failed = |source| RetentionError::List { path: dir.clone(), source };
            let entries = match std::fs::read_dir(&dir) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.map_err(failed)?,
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let other = entry.file_name().to_string_lossy().into_owned();
                if other != *name && (other.starts_with("redis-") || other.starts_with("embedded-")) {
                    return Ok(Some(entry.path()));
                }
            }
        }
        Ok(None)
    }

    /// Asks the lanes, as far as they have room.
    fn ask(&self, due: Vec<Due>) {
        let mut of_lanes: HashMap<usize, Vec<Due>> = HashMap::new();
        for due in due {
            of_lanes.entry(route::lane_of_key(&due.key, self.lanes.len())).or_default().push(due);
        }
        for (lane, due) in of_lanes {
            let Some(lane) = self.lanes.get(lane) else { continue };
            for some in due.chunks(ASK_MAX) {
                match lane.try_send(Work::Retire(some.to_vec())) {
                    Ok(()) => {}
                    // What comes in goes first; the next walk finds the rest.
                    Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => break,
                }
            }
        }
    }
}
