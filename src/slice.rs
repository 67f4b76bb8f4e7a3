//! What a lane hands to the committer: events of one key that are decided, rendered, and not yet durable.

use std::{
    sync::{Arc, mpsc::SyncSender},
    time::SystemTime,
};

use serde_json::Value;

use crate::{
    event::{Id, Key, StreamId},
    layout::documents::Lifecycle,
    plugin::{Effects, Provenance},
    source::DeadLetter,
};

/// Decided events of one key, in stream order.
#[derive(Debug)]
pub struct Slice {
    /// The lane that decided, and the number of its batch: says up to where the lane's memory is durable.
    pub lane: usize,
    /// Counts the lane's batches.
    pub batch: u64,
    /// The key; `None` for an entry without a valid one, which leaves nothing in `LOGS_DIR`.
    pub key: Option<Key>,
    /// The task that this slice's last event joins its flow to.
    pub join: Option<Id>,
    /// The entries decided.
    pub ids: Vec<StreamId>,
    /// Their size in the window.
    pub bytes: usize,
    /// What it makes beyond that, in bytes: a plugin may make much of little.
    pub surplus: usize,
    /// Lines, rendered.
    pub lines: Vec<Lines>,
    /// Lifecycle events, in order with nothing else: documents know no lines.
    pub lifecycle: Vec<Lifecycle>,
    /// Whether the task is seen to run (a `task:*` event other than the four).
    pub touches: bool,
    /// What the plugins asked for.
    pub effects: Effects,
    /// Which chain decided; `None` when no event went through it.
    pub provenance: Option<Arc<Provenance>>,
    /// Entries that are dead.
    pub dead: Vec<DeadLetter>,
    /// How many events were dropped by plugins.
    pub dropped: u64,
    /// Set: nothing was decided; the key's directory is to go away.
    pub retire: Option<Retire>,
}

/// What retention asks for.
#[derive(Debug)]
pub struct Retire {
    /// The lane had this entry last: those of the key up to it are all decided.
    pub until: StreamId,
    /// When the key was written last. If that was later, it stays.
    pub written: SystemTime,
    /// It goes only if this key, a task that its flow had joined, has none any more.
    pub after: Option<Key>,
    /// Where keys are named whose directory goes away.
    pub accepted: SyncSender<Key>,
}

/// Consecutive lines for one file.
#[derive(Debug)]
pub struct Lines {
    /// The task whose directory they go to, if it is not the key's own: a late event of a flow that names another task.
    pub task: Option<Id>,
    /// A standard file.
    pub file: &'static str,
    /// Whole lines.
    pub text: Vec<u8>,
}

impl Slice {
    /// A slice that only closes entries: they are gone from the stream, and leave nothing.
    pub fn closing(ids: Vec<StreamId>) -> Self {
        Self { ids, ..Self::empty(usize::MAX, 0, None) }
    }

    /// A slice with nothing decided.
    pub fn empty(lane: usize, batch: u64, key: Option<Key>) -> Self {
        Self {
            lane,
            batch,
            key,
            join: None,
            ids: Vec::new(),
            bytes: 0,
            surplus: 0,
            lines: Vec::new(),
            lifecycle: Vec::new(),
            touches: false,
            effects: Effects::default(),
            provenance: None,
            dead: Vec::new(),
            dropped: 0,
            retire: None,
        }
    }

    /// Bytes of what is to be written.
    pub fn output(&self) -> usize {
        let lines: usize = self.lines.iter().map(|lines| lines.text.len()).sum();
        let lifecycle = self.lifecycle.iter().map(|event| event.data.as_ref().map_or(0, String::len));
        let effects = &self.effects;
        let files = effects.files.iter().map(|write| write.text.len());
        let states = effects.states.iter().map(|(_, state)| state.len());
        let annotations = effects.annotations.iter().map(|(_, object)| object.iter().map(weight).sum());
        lines + lifecycle.chain(files).chain(states).chain(annotations).sum::<usize>()
    }
}

/// What a member stands for in memory, roughly: its texts, and its values.
fn weight((key, value): (&String, &Value)) -> usize {
    let inner = match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(|value| weight((&String::new(), value))).sum(),
        Value::Object(object) => object.iter().map(weight).sum(),
        _ => 0,
    };
    key.len() + size_of::<Value>() + inner
}
