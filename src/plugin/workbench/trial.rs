//! Runs entries through one plugin as a lane does: by key, in stream order, held events coming again, flushed when the task
//! ends, when the hold limit passes and at the end; and gathers all that comes of it, as it would stand in the files.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::{Map, Value};

use super::{Line, OnDesk, Workbench};
use crate::{
    decode::Decoder,
    event::{Entry, Event, Key, StreamId},
    lane::queue::{Ahead, KeyQueue},
    plugin::{Decided, LaneChain, Outcome, Slice, States, budget::Budget, sidecar::OnFailure, sink::EventFailure},
    route::Envelope,
};

/// What happens next at a desk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These entries were read together: one call for each key.
    Entries(Vec<Entry>),
    /// The hold limit passes: what is held is flushed.
    HoldLimit,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Trial {
    /// The events in the order given.
    pub events: Vec<Judged>,
    /// What is left of each key, by the folder that it stands in below `LOGS_DIR`.
    pub left: BTreeMap<String, Left>,
    /// What the plugin counted, by code.
    pub counts: BTreeMap<String, u64>,
    /// What it logged in calls that decided.
    pub logs: Vec<Line>,
    /// Why it failed, where it did.
    pub failures: Vec<Failure>,
    /// What it printed in calls that went well.
    pub printed: Vec<String>,
    /// Where the service would have stopped reading, and why.
    pub stop: Option<(StreamId, String)>,
}

/// An event and its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its place in the stream.
    pub id: StreamId,
    /// As sent.
    pub kind: String,
    /// The folder that it stands in below `LOGS_DIR`; empty without a valid key.
    pub place: String,
    /// Its data as the plugin got it.
    pub before: String,
    /// What became of it.
    pub judgement: Judgement,
    /// How many calls held it.
    pub held: u32,
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing yet; at a run's end there are none.
    Waiting,
    /// Written as it came.
    Pass,
    /// Written with this data, JSON text of an object.
    Replace(String),
    /// Not written, with this code.
    Drop(String),
    /// To the dead letter, with this code.
    Quarantine(String),
    /// The plugin failed on it; the class of the failure.
    Failed(String),
    /// It never came to the plugin: the service cannot decode it.
    Refused(&'static str),
}

/// What is left of a key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Left {
    /// Extra files.
    pub files: BTreeMap<String, Extra>,
    /// In `metadata.json`.
    pub annotations: Map<String, Value>,
    /// The plugin's state.
    pub state: String,
}

/// An extra file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// All of it.
    pub text: String,
    /// It was replaced at least once.
    pub replaced: bool,
}

/// Why the plugin failed on an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which event.
    pub id: StreamId,
    /// The class, as in gap records.
    pub class: &'static str,
    /// The host's words.
    pub reason: Option<String>,
    /// The guest's.
    pub message: Option<String>,
    /// What the guest printed in that call.
    pub printed: String,
    /// What it logged in that call.
    pub logs: Vec<Line>,
    /// Functions and offsets, innermost first.
    pub frames: String,
}

struct Running<'a> {
    on_desk: &'a OnDesk,
    chain: LaneChain,
    decoder: Decoder,
    keys: HashMap<Key, KeyQueue>,
    /// Keys as they came up.
    order: Vec<Key>,
    places: HashMap<StreamId, usize>,
    budget: Budget,
    trial: Trial,
}

impl Workbench {
    /// Runs entries through a plugin, with fresh states. Events larger than `event_max` bytes are refused as in the service.
    pub fn trial(&self, on_desk: &OnDesk, steps: &[Step], event_max: usize) -> Trial {
        self.live.put_on_desk(Arc::clone(&on_desk.plugin));
        drop(self.sink.take());
        let mut running = Running {
            on_desk,
            chain: LaneChain::new(Arc::clone(&self.live)),
            decoder: Decoder::new(event_max),
            keys: HashMap::new(),
            order: Vec::new(),
            places: HashMap::new(),
            budget: Budget::default(),
            trial: Trial::default(),
        };
        for step in steps {
            match step {
                Step::Entries(entries) => running.entries(entries),
                Step::HoldLimit => running.hold_limit(),
            }
        }
        running.hold_limit();
        let mut trial = running.trial;
        let notes = self.sink.take();
        trial.counts = notes.counts;
        trial.logs = notes.logs.into_iter().map(Line::from).collect();
        trial.failures = notes.failures.into_iter().map(Failure::from).collect();
        trial.printed = notes.printed;
        trial
    }
}

// === impl Running ===

impl Running<'_> {
    fn entries(&mut self, entries: &[Entry]) {
        let mut touched = Vec::new();
        for entry in entries {
            let kind = Envelope::of(entry).kind.map(|kind| String::from_utf8_lossy(kind).into_owned());
            let mut judged = Judged {
                id: entry.id,
                kind: kind.unwrap_or_default(),
                place: String::new(),
                before: String::new(),
                judgement: Judgement::Waiting,
                held: 0,
            };
            let size = entry.size();
            let key = match self.decoder.decode(entry.clone()) {
                Ok(item) => {
                    let key = item.event.key.clone();
                    judged.place = place(&key);
                    judged.before.clone_from(&item.event.data);
                    self.queue(&key).push_event(item, std::time::Instant::now());
                    Some(key)
                }
                Err(refused) => {
                    judged.judgement = Judgement::Refused(refused.reason);
                    let key = refused.gap.as_ref().map(|gap| gap.key.clone());
                    if let Some(key) = &key {
                        judged.place = place(key);
                        // It parts the events before it from those after it.
                        self.queue(key).push_refused(*refused, size);
                    }
                    key
                }
            };
            self.places.insert(entry.id, self.trial.events.len());
            self.trial.events.push(judged);
            touched.extend(key.filter(|key| !touched.contains(key)));
        }
        for key in touched {
            self.process(&key, false);
        }
    }

    fn hold_limit(&mut self) {
        for key in self.order.clone() {
            self.process(&key, true);
        }
    }

    fn queue(&mut self, key: &Key) -> &mut KeyQueue {
        self.keys.entry(key.clone()).or_insert_with(|| {
            self.order.push(key.clone());
            KeyQueue::new(key.clone(), States::default(), None)
        })
    }

    /// Decides as much of a key's queue as the plugin will.
    fn process(&mut self, key: &Key, flush: bool) {
        let mut flush = flush;
        while let Some(queue) = self.keys.get_mut(key) {
            let (count, full, last) = match queue.ahead() {
                Ahead::Nothing | Ahead::Condemned => return,
                Ahead::Refused => {
                    queue.pop_refused();
                    continue;
                }
                Ahead::Events { count, full, last } => (count, full, last),
            };
            let events = queue.events(count);
            let must = flush || last || events.iter().any(Event::ends_task);
            let slice = Slice { task: queue.task(), events, flush: must, states: &queue.states };
            let decided = match self.chain.process(&slice) {
                Ok(decided) => decided,
                Err(blocked) => {
                    // Only the machine's own limits end here; policies were lifted.
                    let id = events.first().map(|event| event.id).unwrap_or_default();
                    self.trial.stop.get_or_insert((id, blocked.reason));
                    self.keys.remove(key);
                    return;
                }
            };
            for event in events.get(decided.outcomes.len()..).unwrap_or_default() {
                if let Some(judged) = self.places.get(&event.id).and_then(|at| self.trial.events.get_mut(*at)) {
                    judged.held += 1;
                }
            }
            if decided.outcomes.is_empty() {
                if full && !must {
                    flush = true;
                    continue;
                }
                return;
            }
            flush = false;
            self.decided(key, decided);
        }
    }

    fn decided(&mut self, key: &Key, Decided { outcomes, effects, .. }: Decided) {
        let Some(queue) = self.keys.get_mut(key) else { return };
        for (plugin, state) in &effects.states {
            queue.states.set(Arc::clone(plugin), Arc::clone(state));
        }
        for ((event, _), outcome) in queue.pop_events(outcomes.len()).into_iter().zip(outcomes) {
            if let (Key::Flow(_), None, Some(task)) = (key, &queue.joined, &event.task) {
                queue.joined = Some(task.clone());
                join(&mut self.trial.left, &place(key), &place(&Key::Task(task.clone())));
            }
            let judgement = Judgement::from(outcome);
            watch(&mut self.trial, &mut self.budget, self.on_desk, &event, &judgement);
            if let Some(judged) = self.places.get(&event.id).and_then(|at| self.trial.events.get_mut(*at)) {
                judged.place = place(&key.home(queue.joined.as_ref()));
                judged.judgement = judgement;
            }
        }
        let home = place(&key.home(queue.joined.as_ref()));
        for write in effects.files {
            let left = self.trial.left.entry(home.clone()).or_default();
            let extra = left.files.entry(write.name.to_string()).or_default();
            if write.replace {
                *extra = Extra { text: write.text, replaced: true };
            } else {
                extra.text.push_str(&write.text);
            }
        }
        for (_, object) in effects.annotations {
            annotate(&mut self.trial.left.entry(home.clone()).or_default().annotations, object);
        }
        for (_, state) in effects.states {
            self.trial.left.entry(place(key)).or_default().state = state.to_string();
        }
    }
}

/// Notes where the service would stop reading.
fn watch(trial: &mut Trial, budget: &mut Budget, on_desk: &OnDesk, event: &Event, judgement: &Judgement) {
    let Judgement::Failed(class) = judgement else { return budget.well(1) };
    let spent = budget.failed();
    if trial.stop.is_some() {
        return;
    }
    let name = on_desk.name();
    if on_desk.policy == OnFailure::Halt {
        trial.stop = Some((event.id, format!("plugin {name} failed on an event ({class}) and its policy is to halt")));
    } else if on_desk.plugin.is_redactor() && spent {
        trial.stop = Some((event.id, format!("redactor {name} failed on too many events")));
    }
}

fn place(key: &Key) -> String {
    match key {
        Key::Task(id) => id.as_str().to_owned(),
        Key::Flow(id) => format!("_webhooks/{id}"),
    }
}

/// Moves what a flow left to the task that it joins, as the committer does.
fn join(left: &mut BTreeMap<String, Left>, flow: &str, task: &str) {
    let Some(mut from) = left.remove(flow) else { return };
    let to = left.entry(task.to_owned()).or_default();
    for (name, extra) in std::mem::take(&mut from.files) {
        match (to.files.get_mut(&name), extra.replaced) {
            (None, _) => drop(to.files.insert(name, extra)),
            (Some(there), false) => there.text.push_str(&extra.text),
            // The task's own stays.
            (Some(_), true) => {}
        }
    }
    annotate(&mut to.annotations, std::mem::take(&mut from.annotations));
    if !from.state.is_empty() {
        // A flow keeps its own state for ever.
        left.insert(flow.to_owned(), from);
    }
}

fn annotate(annotations: &mut Map<String, Value>, object: Map<String, Value>) {
    for (key, value) in object {
        match value {
            Value::Null => drop(annotations.shift_remove(&key)),
            value => drop(annotations.insert(key, value)),
        }
    }
}

// === impl Judgement ===

impl From<Outcome> for Judgement {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Pass => Self::Pass,
            Outcome::Replace(data) => Self::Replace(data),
            Outcome::Drop { code, .. } => Self::Drop(code),
            Outcome::Dead { reason: "refused", code, .. } => Self::Quarantine(code),
            Outcome::Dead { code, .. } => Self::Failed(code),
        }
    }
}

// === impl Failure ===

impl From<EventFailure> for Failure {
    fn from(EventFailure { id, error, said }: EventFailure) -> Self {
        Self {
            id,
            class: error.class.as_str(),
            reason: error.reason,
            message: said.message,
            printed: said.printed,
            logs: said.logs.into_iter().map(Line::from).collect(),
            frames: error.frames,
        }
    }
}
