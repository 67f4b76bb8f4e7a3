//! An index of all tasks, in memory, made of the files of `LOGS_DIR` alone and never of records: a row a task, filters, orders.
//!
//! A thread keeps it fresh. What this process writes is hinted at by [`Index::touched`] and looked at within milliseconds. What
//! others write is found by looking: at the listing when `LOGS_DIR` itself has changed, at tasks that go on, and at a share of all
//! others each time, for at most one fiftieth of a core. Who asks waits until what was hinted at before is in; where looking
//! around is quick it is done for each question. Nothing is kept on the disk: 100,000 tasks are read in seconds.

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::broadcast;

use super::{Page, ReadError, failed};
use crate::event::{Id, Key};

mod ask;
pub(super) mod look;
mod row;
mod scan;
mod shelf;
mod table;
mod texts;

pub use ask::{Facets, Place, TaskPage, TaskQuery, Values};
pub use row::{Field, Row};

/// How long a question waits for what was hinted at before it, and for a look around that is quick.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it waits for the first look at everything.
const FIRST_PATIENCE: Duration = Duration::from_millis(300);
/// Keys that hints wait for at most; beyond it everything is looked at.
const HINTS_MAX: usize = 16_384;
/// Changes that a slow listener may be behind.
const CHANGES_MAX: usize = 1024;

/// The index; it goes on as long as a clone of this lives.
#[derive(Clone)]
pub struct Index(Arc<Alive>);

/// Something that happened to the index.
#[derive(Clone, Debug)]
pub enum Change {
    /// A task appeared or its row changed.
    Task(Arc<Row>),
    /// A task is gone.
    Removed(Id),
    /// So much happened that it is not told one by one.
    Everything,
}

struct Alive(Arc<Shared>);

/// What the thread and those who ask share.
struct Shared {
    root: PathBuf,
    table: RwLock<table::Table>,
    /// Webhook flows that have not joined a task.
    flows: RwLock<BTreeSet<Id>>,
    queue: Mutex<Queue>,
    /// Rings for the thread: something is in the queue.
    wake: Condvar,
    /// Rings for those who ask: something was served.
    served: Condvar,
    complete: AtomicBool,
    broken: Mutex<Option<Arc<std::io::Error>>>,
    changes: broadcast::Sender<Change>,
}

/// What the thread is to do.
#[derive(Default)]
struct Queue {
    stop: bool,
    /// Keys that have changed.
    touched: HashSet<Key>,
    /// Some were too many to note.
    overflowed: bool,
    /// Questions so far, and how many of them have what they wait for.
    asked: u64,
    served: u64,
    last_asked: Option<Instant>,
}

// === impl Index ===

impl Index {
    /// Begins to index `LOGS_DIR`, which need not exist yet.
    pub fn start(root: PathBuf) -> Self {
        let shared = Arc::new(Shared::new(root));
        let scanner = scan::Scanner::new(Arc::clone(&shared));
        if let Err(error) = std::thread::Builder::new().name("index".to_owned()).spawn(move || scanner.run()) {
            tracing::error!(%error, "cannot start the index: lists of tasks stay empty");
            *lock(&shared.broken) = Some(Arc::new(error));
        }
        Self(Arc::new(Alive(shared)))
    }

    /// A key's files have changed. Cheap, and never waits for the file system.
    pub fn touched(&self, key: &Key) {
        let mut queue = lock(&self.0.0.queue);
        if queue.touched.len() >= HINTS_MAX {
            queue.overflowed = true;
        } else if !queue.touched.contains(key) {
            let first = queue.touched.is_empty();
            queue.touched.insert(key.clone());
            if first {
                self.0.0.wake.notify_one();
            }
        }
    }

    /// Waits, within bounds, until what was hinted at is in. Blocks.
    pub fn catch_up(&self) {
        let shared = &*self.0.0;
        let mut queue = lock(&shared.queue);
        queue.asked += 1;
        queue.last_asked = Some(Instant::now());
        let mine = queue.asked;
        shared.wake.notify_one();
        let first = !shared.is_complete();
        let behind = |queue: &mut Queue| queue.served < mine || first && !shared.is_complete();
        let patience = if first { FIRST_PATIENCE } else { PATIENCE };
        drop(shared.served.wait_timeout_while(queue, patience, behind));
    }

    /// A page of tasks, as far as they are known. Does not wait for the file system.
    pub fn tasks(&self, query: &TaskQuery) -> Result<TaskPage, ReadError> {
        let shared = &*self.0.0;
        shared.sound()?;
        let complete = shared.is_complete();
        let mut table = shared.read_table();
        if !table.is_ordered(query.by) {
            drop(table);
            shared.write_table().order(query.by);
            table = shared.read_table();
        }
        let mut page = query.page(&table);
        if !complete {
            page.total = None;
            page.complete = false;
        }
        Ok(page)
    }

    /// Whether some task has this value of a facet, by its place in [`TaskQuery::facets`].
    pub fn knows(&self, facet: usize, value: &str) -> bool {
        self.0.0.read_table().facets.get(facet).is_some_and(|facet| facet.number(value).is_some())
    }

    /// A page of the webhook flows that have not joined a task, by id.
    pub fn flows(&self, after: Option<&Id>, limit: usize) -> Result<Page, ReadError> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.0.0.sound()?;
        let flows = self.0.0.flows.read().unwrap_or_else(PoisonError::into_inner);
        let mut rest = flows.range((after.map_or(Unbounded, Excluded), Unbounded));
        let ids = rest.by_ref().take(limit).cloned().collect();
        Ok(Page { ids, more: rest.next().is_some() })
    }

    /// Whether all tasks have been looked at since the start.
    pub fn is_complete(&self) -> bool {
        self.0.0.is_complete()
    }

    /// Tells of a change that did not happen.
    #[cfg(test)]
    pub(crate) fn announce(&self, change: Change) {
        drop(self.0.0.changes.send(change));
    }

    /// What happens from now on. Nothing is told before the index is complete; then, [`Change::Everything`].
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.0.changes.subscribe()
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("complete", &self.is_complete()).finish_non_exhaustive()
    }
}

// === impl Alive ===

impl Drop for Alive {
    fn drop(&mut self) {
        lock(&self.0.queue).stop = true;
        // The thread ends by itself: it may be waiting for a slow file system.
        self.0.wake.notify_one();
    }
}

// === impl Shared ===

impl Shared {
    fn new(root: PathBuf) -> Self {
        Self {
            root,
            table: RwLock::default(),
            flows: RwLock::default(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            served: Condvar::new(),
            complete: AtomicBool::new(false),
            broken: Mutex::new(None),
            changes: broadcast::Sender::new(CHANGES_MAX),
        }
    }

    fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// An error when `LOGS_DIR` could not be read the last time.
    fn sound(&self) -> Result<(), ReadError> {
        match &*lock(&self.broken) {
            None => Ok(()),
            Some(error) => Err(failed("list the logs folder")(std::io::Error::new(error.kind(), Arc::clone(error)))),
        }
    }

    fn read_table(&self) -> RwLockReadGuard<'_, table::Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_table(&self) -> RwLockWriteGuard<'_, table::Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic between two of its fields leaves nothing that a later look does not mend.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
