//! From verdicts to bytes: what each decided event leaves in its key's files.

use std::sync::Arc;

use super::queue::KeyQueue;
use crate::{
    condemned::Sentence,
    decode::{Gap, Refused},
    event::{Event, Id, Key, charge},
    json::Members,
    layout::{
        documents::{Lifecycle, Stage},
        record::{Place, file_of, place, push_event, push_gap},
    },
    metrics::DataPath,
    plugin::{Decided, Outcome},
    slice::{Lines, Slice},
    source::DeadLetter,
};

/// Adds an entry that could not be decoded: a dead letter, and a gap record if its key is valid. What the envelope says of
/// the task's life applies all the same.
pub(super) fn push_refused(slice: &mut Slice, refused: Refused, size: usize, metrics: &DataPath) {
    let Refused { entry, reason, gap, says_failed } = refused;
    metrics.dead(reason).increment(1);
    slice.ids.push(entry.id);
    slice.bytes += charge(size);
    if let Some(gap) = gap {
        if let Some(stage) = stage(&gap.kind, says_failed) {
            let data = Err(reason.to_owned());
            slice.lifecycle.push(Lifecycle { id: gap.id, stage, timestamp: Arc::clone(&gap.timestamp), data });
        }
        push_gap(lines(slice, None, file_of(place(&gap.kind))), &gap, reason);
    }
    slice.dead.push(DeadLetter {
        id: entry.id,
        fields: Some(entry.fields),
        reason: reason.to_owned(),
        code: reason.to_owned(),
        plugin: None,
        attempts: 1,
    });
}

/// Takes the decided events off the queue and adds what they leave.
pub(super) fn push_decided(slice: &mut Slice, queue: &mut KeyQueue, decided: Decided, metrics: &DataPath) {
    let Decided { outcomes, tries, effects, provenance } = decided;
    for (plugin, state) in &effects.states {
        queue.states.set(Arc::clone(plugin), Arc::clone(state));
    }
    slice.effects = effects;
    slice.provenance = Some(provenance);
    let events = queue.pop_events(outcomes.len());
    for ((event, members), (outcome, attempts)) in events.into_iter().zip(outcomes.into_iter().zip(tries)) {
        slice.ids.push(event.id);
        slice.bytes += charge(event.size);
        join(slice, queue, &event);
        let other = other_task(queue, &event);
        match outcome {
            Outcome::Pass => push_written(slice, other, &event, &event.data, &members, metrics),
            Outcome::Replace(data) => match Members::of(&data) {
                Ok(members) => push_written(slice, other, &event, &data, &members, metrics),
                // The host checks this; should it ever fail, nothing of the text may pass.
                Err(_) => {
                    let circumstances =
                        Circumstances { reason: "plugin_failed", code: "bad_data", plugin: None, attempts: 1 };
                    push_dead(slice, other, &event, circumstances, metrics);
                }
            },
            Outcome::Drop { code, .. } => {
                metrics.dropped.increment(1);
                slice.dropped += 1;
                push_missing(slice, other, &event, &code);
            }
            Outcome::Dead { reason, plugin, code } => {
                let circumstances = Circumstances { reason, code: &code, plugin: Some(&plugin), attempts };
                push_dead(slice, other, &event, circumstances, metrics);
            }
        }
    }
    slice.surplus = slice.output().saturating_sub(slice.bytes);
}

/// Adds an event that no plugin may see: a dead letter and a gap record. It joins its flow all the same.
pub(super) fn push_condemned(
    slice: &mut Slice,
    queue: &mut KeyQueue,
    event: &Event,
    sentence: Sentence,
    metrics: &DataPath,
) {
    slice.ids.push(event.id);
    slice.bytes += charge(event.size);
    join(slice, queue, event);
    let Sentence { reason, code, attempts } = sentence;
    let circumstances = Circumstances { reason, code, plugin: None, attempts };
    push_dead(slice, other_task(queue, event), event, circumstances, metrics);
}

/// A flow's first event that names a task joins it.
fn join(slice: &mut Slice, queue: &mut KeyQueue, event: &Event) {
    if let (Key::Flow(_), None, Some(task)) = (&queue.key, &queue.joined, &event.task) {
        queue.joined = Some(task.clone());
        slice.join = Some(task.clone());
    }
}

/// A flow's first task is its join for ever; a later event that names another is written there, and moves nothing.
fn other_task(queue: &KeyQueue, event: &Event) -> Option<Id> {
    event.task.clone().filter(|task| match &queue.key {
        Key::Task(_) => false,
        Key::Flow(_) => queue.joined.as_ref() != Some(task),
    })
}

fn push_written(
    slice: &mut Slice,
    other: Option<Id>,
    event: &Event,
    data: &str,
    members: &Members,
    metrics: &DataPath,
) {
    metrics.written.increment(1);
    match stage(&event.kind, event.says_failed) {
        Some(stage) => slice.lifecycle.push(Lifecycle {
            id: event.id,
            stage,
            timestamp: Arc::clone(&event.timestamp),
            data: Ok(data.to_owned()),
        }),
        None => {
            slice.touches |= event.kind.starts_with("task:");
            push_event(lines(slice, other, file_of(place(&event.kind))), event, data, members);
        }
    }
}

/// Of a death.
struct Circumstances<'c> {
    reason: &'c str,
    code: &'c str,
    plugin: Option<&'c str>,
    attempts: u32,
}

fn push_dead(
    slice: &mut Slice,
    other: Option<Id>,
    event: &Event,
    circumstances: Circumstances<'_>,
    metrics: &DataPath,
) {
    let Circumstances { reason, code, plugin, attempts } = circumstances;
    metrics.dead(reason).increment(1);
    push_missing(slice, other, event, reason);
    slice.dead.push(DeadLetter {
        id: event.id,
        // The publisher fetches them from the stream, which still has them raw.
        fields: None,
        reason: reason.to_owned(),
        code: code.to_owned(),
        plugin: plugin.map(str::to_owned),
        attempts,
    });
}

/// The gap record of an event that is not written, and its effect on the task's life.
fn push_missing(slice: &mut Slice, other: Option<Id>, event: &Event, code: &str) {
    if let Some(stage) = stage(&event.kind, event.says_failed) {
        let data = Err(code.to_owned());
        slice.lifecycle.push(Lifecycle { id: event.id, stage, timestamp: Arc::clone(&event.timestamp), data });
    }
    slice.touches |= event.kind.starts_with("task:");
    let gap = Gap {
        id: event.id,
        key: event.key.clone(),
        kind: Arc::clone(&event.kind),
        timestamp: Arc::clone(&event.timestamp),
    };
    push_gap(lines(slice, other, file_of(place(&event.kind))), &gap, code);
}

/// The lines of a file that this slice is adding to.
fn lines<'s>(slice: &'s mut Slice, task: Option<Id>, file: &'static str) -> &'s mut Vec<u8> {
    if !slice.lines.last().is_some_and(|last| last.file == file && last.task == task) {
        slice.lines.push(Lines { task, file, text: Vec::new() });
    }
    let last = slice.lines.len() - 1;
    &mut slice.lines[last].text
}

fn stage(kind: &str, says_failed: bool) -> Option<Stage> {
    match (place(kind), kind) {
        (Place::Documents, "task:created") => Some(Stage::Created),
        (Place::Documents, "task:started") => Some(Stage::Started),
        (Place::Documents, "task:completed") => Some(Stage::Completed { failed: says_failed }),
        (Place::Documents, _) => Some(Stage::Failed),
        _ => None,
    }
}
