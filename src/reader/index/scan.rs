//! The thread that keeps the index fresh.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    Change, Shared, lock,
    look::{Parent, Stamp},
    row::{Field, Row},
    shelf::{News, Shelf},
};
use crate::{
    event::{Id, Key},
    layout,
};

/// Shortest pause between two looks around, ...
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// ... the shortest when nobody has asked lately, ...
const PAUSE_UNASKED: Duration = Duration::from_secs(10);
const ASKED_LATELY: Duration = Duration::from_secs(60);
/// ... and the longest.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// So many times as long as a look around took is the pause after it, ...
const PAUSE_SHARE: u32 = 49;
/// ... and so many times as long as hints took is the pause after these, at least `HINT_PAUSE`.
const HINT_SHARE: u32 = 9;
const HINT_PAUSE: Duration = Duration::from_millis(5);
/// A look around that takes no longer is worth one for each question.
const QUICK: Duration = Duration::from_millis(5);
/// Folders looked at between two looks into the queue.
const STRIDE: usize = 256;

/// The thread's state.
pub(super) struct Scanner {
    shared: Arc<Shared>,
    tasks: Shelf,
    flows: Shelf,
    /// When the last look around ended, and how long it took.
    looked: Instant,
    pub(super) cost: Duration,
    /// Tasks that could not be read, in this look around and in the one before.
    unreadable: (u64, u64),
}

/// Which folders are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Tasks,
    Flows,
}

/// What a look at a folder found.
enum Found {
    Task(Box<Row>, Stamp),
    /// Whether it waits for a task to join.
    Flow(Id, Stamp, bool),
    Gone(Sort, Id),
}

/// The index was dropped.
pub(super) struct Stopped;

// === impl Scanner ===

impl Scanner {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (tasks, flows) = (Shelf::default(), Shelf::default());
        Self { shared, tasks, flows, looked: Instant::now(), cost: Duration::MAX, unreadable: (0, 0) }
    }

    pub(super) fn run(mut self) {
        // Ends with the index.
        let Err(Stopped) = self.keep_fresh();
    }

    fn keep_fresh(&mut self) -> Result<Infallible, Stopped> {
        self.look_around()?;
        let mut hints_at = self.looked;
        loop {
            let asked = self.wait(hints_at)?;
            let begun = Instant::now();
            if asked && self.cost <= QUICK || begun >= self.due() {
                self.look_around()?;
            } else {
                self.hints()?;
            }
            let now = Instant::now();
            hints_at = now + (HINT_SHARE * (now - begun)).max(HINT_PAUSE);
        }
    }

    /// When to look around again.
    fn due(&self) -> Instant {
        let last = lock(&self.shared.queue).last_asked;
        let asked = self.shared.changes.receiver_count() > 0 || last.is_some_and(|last| last.elapsed() < ASKED_LATELY);
        let least = if asked { PAUSE_MIN } else { PAUSE_UNASKED };
        self.looked + self.cost.saturating_mul(PAUSE_SHARE).clamp(least, PAUSE_MAX)
    }

    /// Waits until there is something to do. Returns whether somebody asked.
    fn wait(&self, hints_at: Instant) -> Result<bool, Stopped> {
        let due = self.due();
        let mut queue = lock(&self.shared.queue);
        loop {
            if queue.stop {
                return Err(Stopped);
            }
            let now = Instant::now();
            let hinted = queue.overflowed || !queue.touched.is_empty();
            let until = if hinted { due.min(hints_at) } else { due };
            if queue.asked > queue.served || now >= until {
                return Ok(queue.asked > queue.served);
            }
            let woken = self.shared.wake.wait_timeout(queue, until - now);
            queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Looks at what was hinted at, and lets those go on who asked before.
    fn hints(&mut self) -> Result<(), Stopped> {
        let asked = self.take_hints()?;
        self.serve(asked);
        Ok(())
    }

    /// Looks at what was hinted at. Returns how many had asked before that.
    fn take_hints(&mut self) -> Result<u64, Stopped> {
        let (touched, overflowed, asked) = {
            let mut queue = lock(&self.shared.queue);
            if queue.stop {
                return Err(Stopped);
            }
            (std::mem::take(&mut queue.touched), std::mem::take(&mut queue.overflowed), queue.asked)
        };
        if overflowed {
            self.tasks.doubt();
            self.flows.doubt();
        }
        if !touched.is_empty() {
            let (mut tasks, mut flows) = (Vec::new(), Vec::new());
            for key in touched {
                match key {
                    Key::Task(id) => tasks.push(id),
                    Key::Flow(id) => flows.push(id),
                }
            }
            // What cannot be read now is met again by the next look around.
            if let Ok(Some(root)) = Parent::open(&self.shared.root) {
                self.look_at(Sort::Tasks, &root, &tasks);
                if let Ok(Some(parent)) = root.child(layout::WEBHOOKS_DIR) {
                    self.look_at(Sort::Flows, &parent, &flows);
                }
            }
        }
        Ok(asked)
    }

    fn serve(&self, asked: u64) {
        let mut queue = lock(&self.shared.queue);
        queue.served = queue.served.max(asked);
        drop(queue);
        self.shared.served.notify_all();
    }

    pub(super) fn look_around(&mut self) -> Result<(), Stopped> {
        let begun = Instant::now();
        // Whoever asks while it takes long need not wait for its end.
        let patient_until = (self.cost <= QUICK).then(|| begun + 4 * QUICK);
        let asked = self.take_hints()?;
        let outcome = self.look_at_everything(patient_until)?;
        let first = !self.shared.is_complete();
        let mut broken = lock(&self.shared.broken);
        match outcome {
            Ok(()) => {
                *broken = None;
                if first {
                    // The order that most ask for.
                    self.shared.write_table().order(Field::Created);
                    self.shared.complete.store(true, Ordering::Release);
                    self.tell(Change::Everything);
                    tracing::debug!(milliseconds = begun.elapsed().as_millis(), "all tasks are indexed");
                }
            }
            Err(error) => {
                if broken.is_none() {
                    tracing::warn!(%error, "cannot list the tasks; those that are known stay listed");
                }
                *broken = Some(Arc::new(error));
            }
        }
        drop(broken);
        if self.unreadable.0 > 0 && self.unreadable.1 == 0 {
            tracing::warn!(tasks = self.unreadable.0, "tasks cannot be read: they are listed by their id alone");
        }
        self.unreadable = (0, self.unreadable.0);
        self.looked = Instant::now();
        // That all had to be read says nothing of the next time.
        self.cost = if first { Duration::ZERO } else { self.looked - begun };
        self.serve(asked);
        Ok(())
    }

    fn look_at_everything(&mut self, patient_until: Option<Instant>) -> Result<io::Result<()>, Stopped> {
        let root = match Parent::open(&self.shared.root) {
            Ok(root) => root,
            Err(error) => return Ok(Err(error)),
        };
        let flows = match root.as_ref().map(|root| root.child(layout::WEBHOOKS_DIR)).transpose() {
            Ok(flows) => flows.flatten(),
            Err(error) => return Ok(Err(error)),
        };
        for (sort, parent) in [(Sort::Tasks, root), (Sort::Flows, flows)] {
            let Some(parent) = parent else {
                let gone = self.shelf(sort).all();
                self.apply(gone.into_iter().map(|id| Found::Gone(sort, id)).collect());
                continue;
            };
            let News { appeared, gone } = match self.shelf(sort).list(&parent) {
                Ok(news) => news,
                Err(error) => return Ok(Err(error)),
            };
            self.apply(gone.into_iter().map(|id| Found::Gone(sort, id)).collect());
            for ids in [self.shelf(sort).due(), appeared] {
                for ids in ids.chunks(STRIDE) {
                    self.look_at(sort, &parent, ids);
                    if patient_until.is_none_or(|until| Instant::now() >= until) {
                        self.hints()?;
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    /// Looks at folders, and reads those that have changed.
    fn look_at(&mut self, sort: Sort, parent: &Parent, ids: &[Id]) {
        let mut all = Vec::new();
        for id in ids {
            let shelf = self.shelf(sort);
            let known = shelf.knows(id);
            match look(shelf, sort, parent, id) {
                Ok(found) => all.extend(found),
                Err(error) => {
                    tracing::debug!(%error, task = %id, "cannot read a task");
                    self.unreadable.0 += 1;
                    // It does not hide the others; the stamp fits nothing, so that it is tried again.
                    if sort == Sort::Tasks && !known {
                        all.push(Found::Task(Box::new(Row::unknown(id)), Stamp::default()));
                    }
                }
            }
        }
        self.apply(all);
    }

    fn shelf(&mut self, sort: Sort) -> &mut Shelf {
        match sort {
            Sort::Tasks => &mut self.tasks,
            Sort::Flows => &mut self.flows,
        }
    }

    fn apply(&mut self, all: Vec<Found>) {
        if all.is_empty() {
            return;
        }
        let mut changes = Vec::new();
        let mut table = self.shared.write_table();
        let mut flows = self.shared.flows.write().unwrap_or_else(PoisonError::into_inner);
        for found in all {
            match found {
                Found::Task(row, stamp) => {
                    self.tasks.put(row.task_id.clone(), stamp, row.goes_on());
                    changes.extend(table.put(*row).map(Change::Task));
                }
                Found::Flow(id, stamp, waits) => {
                    self.flows.put(id.clone(), stamp, waits);
                    match waits {
                        true => drop(flows.insert(id)),
                        false => drop(flows.remove(&id)),
                    }
                }
                Found::Gone(Sort::Tasks, id) => {
                    self.tasks.remove(&id);
                    if table.remove(&id) {
                        changes.push(Change::Removed(id));
                    }
                }
                Found::Gone(Sort::Flows, id) => {
                    self.flows.remove(&id);
                    flows.remove(&id);
                }
            }
        }
        drop((table, flows));
        if self.shared.is_complete() {
            changes.into_iter().for_each(|change| self.tell(change));
        }
    }

    fn tell(&self, change: Change) {
        // An error says that nobody listens.
        drop(self.shared.changes.send(change));
    }
}

/// `None`: it stands as it was read.
fn look(shelf: &Shelf, sort: Sort, parent: &Parent, id: &Id) -> io::Result<Option<Found>> {
    let gone = || Some(Found::Gone(sort, id.clone()));
    if shelf.knows(id) || sort == Sort::Flows {
        let stamp = if sort == Sort::Tasks { parent.stamp(id) } else { parent.stamp_flow(id) };
        match stamp? {
            None => return Ok(gone()),
            Some(stamp) if !shelf.is_news(id, &stamp) => return Ok(None),
            Some(stamp) if sort == Sort::Flows => {
                return Ok(Some(Found::Flow(id.clone(), stamp, parent.holds_files(id)?)));
            }
            Some(_) => {}
        }
    }
    Ok(parent.read(id)?.map_or_else(gone, |(row, stamp)| Some(Found::Task(Box::new(row), stamp))))
}
