//! Which lane an entry goes to. Looks at the envelope only, decides nothing about validity: `decode` does, in the lane.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;

use crate::{
    event::{Entry, Key},
    json::Members,
};

/// The envelope's fields, borrowed; doubled fields are noted, not resolved.
#[derive(Debug, Default)]
pub struct Envelope<'e> {
    /// `type`, else `event_type`.
    pub kind: Option<&'e Bytes>,
    /// `timestamp`.
    pub timestamp: Option<&'e Bytes>,
    /// `data`.
    pub data: Option<&'e Bytes>,
    /// `task_id`, top level.
    pub task: Option<&'e Bytes>,
    /// `webhook_event_id`.
    pub flow: Option<&'e Bytes>,
    /// Every other field.
    pub rest: Vec<(&'e Bytes, &'e Bytes)>,
    /// Whether any field stands twice.
    pub doubled: bool,
    /// Whether a field that makes the key stands twice.
    pub doubled_key: bool,
}

impl<'e> Envelope<'e> {
    /// Sorts an entry's fields.
    pub fn of(entry: &'e Entry) -> Self {
        let mut envelope = Self::default();
        let mut alias = None;
        for (name, value) in &entry.fields {
            let slot = match &name[..] {
                b"type" => &mut envelope.kind,
                b"timestamp" => &mut envelope.timestamp,
                b"data" => &mut envelope.data,
                b"task_id" => &mut envelope.task,
                b"webhook_event_id" => &mut envelope.flow,
                b"event_type" => &mut alias,
                _ => {
                    envelope.doubled |= envelope.rest.iter().any(|(other, _)| *other == name);
                    envelope.rest.push((name, value));
                    continue;
                }
            };
            if slot.replace(value).is_some() {
                envelope.doubled = true;
                envelope.doubled_key |= matches!(&name[..], b"type" | b"task_id" | b"webhook_event_id" | b"event_type");
            }
        }
        match (envelope.kind, alias) {
            (None, alias) => envelope.kind = alias,
            (Some(_), Some(value)) => {
                let name = entry.fields.iter().find(|(name, _)| &name[..] == b"event_type").map(|(name, _)| name);
                envelope.rest.extend(name.map(|name| (name, value)));
            }
            (Some(_), None) => {}
        }
        envelope
    }

    /// Whether events of this kind are keyed by their webhook flow.
    pub fn is_flow_kind(&self) -> bool {
        let families: [&[u8]; 3] = [b"webhook:", b"response:", b"notification:"];
        self.kind.is_some_and(|kind| families.iter().any(|family| kind.starts_with(family)))
    }

    /// `data.task_id`, for kinds that may carry the task id there: a text that is not empty.
    pub fn task_in_data(&self) -> Option<String> {
        let text = std::str::from_utf8(self.data.filter(|_| self.is_flow_kind())?).ok()?;
        let value = Members::of(text).ok()?.get(text, "task_id")?.to_owned();
        serde_json::from_str::<String>(&value).ok().filter(|id| !id.is_empty())
    }

    /// What order goes by, before it is checked.
    fn key(&self) -> Option<Cow<'e, [u8]>> {
        match (self.is_flow_kind(), self.flow, self.task) {
            (true, Some(flow), _) => Some(Cow::Borrowed(flow)),
            (_, _, Some(task)) => Some(Cow::Borrowed(task)),
            (true, None, None) => self.task_in_data().map(|id| Cow::Owned(id.into_bytes())),
            (false, _, None) => None,
        }
    }
}

/// The lane of an entry: the same one for all entries of a key. Entries without a key go anywhere.
pub fn lane_of(envelope: &Envelope<'_>, lanes: usize) -> usize {
    if lanes < 2 { 0 } else { nth(envelope.key(), lanes) }
}

/// The lane of a key.
pub fn lane_of_key(key: &Key, lanes: usize) -> usize {
    nth(Some(Cow::Borrowed(key.id().as_str().as_bytes())), lanes)
}

fn nth(key: Option<Cow<'_, [u8]>>, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    usize::try_from(hasher.finish() % lanes.max(1) as u64).unwrap_or(0)
}
