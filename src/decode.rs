//! Stream fields to events. Pure: no I/O, no clock. What cannot be decoded becomes a [`Refused`] with a stable reason and,
//! if the key is valid, what a gap record needs.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    event::{Entry, Event, Id, Key, StreamId},
    json::{self, Members, NotAnObject},
    route::Envelope,
};

pub(crate) mod timestamp;

/// Longest suffix of a kind, in characters.
const SUFFIX_MAX: usize = 64;
/// Stands for a kind that could not be read, in gap records.
pub const UNKNOWN_KIND: &str = "unknown";

/// An event with its data's members.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The event.
    pub event: Event,
    /// The members of its data.
    pub members: Members,
}

/// An entry that goes to the dead letter.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// The entry, with its original fields.
    pub entry: Entry,
    /// A stable code.
    pub reason: &'static str,
    /// Where its gap record goes; `None` without a valid key.
    pub gap: Option<Gap>,
    /// It is known to be a `task:completed` whose `status` is `failed`: of a recording only.
    pub says_failed: bool,
}

/// Entries of a recording that are known by their gap records alone, with the reasons that those give. A stream has none.
pub type RecordedGaps = HashMap<StreamId, &'static str>;

/// What of a refused or dropped entry may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The entry.
    pub id: StreamId,
    /// The key that orders it.
    pub key: Key,
    /// Its kind if valid, else [`UNKNOWN_KIND`].
    pub kind: Arc<str>,
    /// The producer's if it parses, else the id's time.
    pub timestamp: Arc<str>,
}

/// Decodes entries; keeps the last texts to share them between events.
#[derive(Debug, Default)]
pub struct Decoder {
    event_max: usize,
    gaps: Arc<RecordedGaps>,
    kinds: Vec<Arc<str>>,
    timestamp: Option<(Arc<str>, i64)>,
}

// === impl Decoder ===

impl Decoder {
    /// A decoder that refuses entries whose fields are together larger than `event_max` bytes.
    pub fn new(event_max: usize) -> Self {
        Self { event_max, ..Self::default() }
    }

    /// The same for a recording in which these entries are gaps.
    #[must_use]
    pub fn with_gaps(self, gaps: Arc<RecordedGaps>) -> Self {
        Self { gaps, ..self }
    }

    /// Decodes an entry, or says why not.
    pub fn decode(&mut self, entry: Entry) -> Result<Decoded, Box<Refused>> {
        let decoded = self.try_decode(&entry);
        if let Some(reason) = self.gaps.get(&entry.id) {
            return Err(Box::new(recorded_gap(entry, decoded, reason)));
        }
        match decoded {
            Ok(decoded) => Ok(decoded),
            Err((reason, gap)) => Err(Box::new(Refused { entry, reason, gap, says_failed: false })),
        }
    }

    fn try_decode(&mut self, entry: &Entry) -> Result<Decoded, (&'static str, Option<Gap>)> {
        let envelope = Envelope::of(entry);
        let size = entry.size();
        let kind = envelope.kind.and_then(|kind| self.kind(kind));
        let (timestamp, timestamp_ms, odd_timestamp) = self.timestamp(&envelope, entry.id);
        let key = key(&envelope, size <= self.event_max);
        let gap = || match &key {
            Ok((key, _)) if !envelope.doubled_key => Some(Gap {
                id: entry.id,
                key: key.clone(),
                kind: kind.clone().unwrap_or_else(|| UNKNOWN_KIND.into()),
                timestamp: Arc::clone(&timestamp),
            }),
            _ => None,
        };
        if size > self.event_max {
            return Err(("too_large", gap()));
        }
        if envelope.doubled {
            return Err(("duplicate_field", gap()));
        }
        let Some(kind) = kind.clone() else {
            return Err((if envelope.kind.is_some() { "bad_type" } else { "no_type" }, gap()));
        };
        let (key, task) = match &key {
            Ok((key, task)) => (key.clone(), task.clone()),
            Err(reason) => return Err((reason, None)),
        };
        let text = match envelope.data {
            Some(data) => std::str::from_utf8(data).map_err(|_| ("bad_utf8", gap()))?,
            None => "{}",
        };
        let members_of = |data: &str| {
            Members::of(data).map_err(|error| match error {
                NotAnObject::NotJson => ("bad_json", gap()),
                NotAnObject::OtherValue => ("not_an_object", gap()),
            })
        };
        let mended = json::mend_surrogates(text);
        if json::has_line_breaks(&mended) {
            // Taking them out of what is no JSON could make it JSON that says something else.
            members_of(&mended)?;
        }
        let data = json::on_one_line(mended).into_owned();
        let members = members_of(&data)?;
        let (data, members) = merge(data, members, &envelope, odd_timestamp).map_err(|reason| (reason, gap()))?;
        let task = match task.map_or_else(|| task_in(&envelope, &data, &members), |task| Ok(Some(task))) {
            Ok(task) => task,
            Err(reason) => return Err((reason, gap())),
        };
        let says_failed = &*kind == "task:completed"
            && members
                .get(&data, "status")
                .is_some_and(|text| serde_json::from_str::<&str>(text).is_ok_and(|status| status == "failed"));
        let event = Event { id: entry.id, kind, key, task, timestamp, timestamp_ms, data, says_failed, size };
        Ok(Decoded { event, members })
    }

    /// `[a-z][a-z0-9_]*:[a-z0-9_.-]{1,64}`, shared with earlier events of the same kind.
    fn kind(&mut self, text: &[u8]) -> Option<Arc<str>> {
        if let Some(known) = self.kinds.iter().find(|known| known.as_bytes() == text) {
            return Some(Arc::clone(known));
        }
        let text = std::str::from_utf8(text).ok()?;
        let (family, suffix) = text.split_once(':')?;
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let valid = family.starts_with(|first: char| first.is_ascii_lowercase())
            && family.len() <= SUFFIX_MAX
            && family.bytes().all(lower)
            && (1..=SUFFIX_MAX).contains(&suffix.len())
            && suffix.bytes().all(|byte| lower(byte) || matches!(byte, b'.' | b'-'));
        let kind: Arc<str> = valid.then(|| text.into())?;
        if self.kinds.len() < 64 {
            self.kinds.push(Arc::clone(&kind));
        }
        Some(kind)
    }

    /// The timestamp to store, its milliseconds, and the producer's text if it does not parse.
    fn timestamp<'e>(&mut self, envelope: &Envelope<'e>, id: StreamId) -> (Arc<str>, i64, Option<&'e str>) {
        let sent = envelope.timestamp.and_then(|text| std::str::from_utf8(text).ok());
        if let (Some(sent), Some((text, ms))) = (sent, &self.timestamp)
            && **text == *sent
        {
            return (Arc::clone(text), *ms, None);
        }
        match sent.and_then(|text| Some((text, timestamp::parse(text)?))) {
            Some((text, ms)) => {
                let text: Arc<str> = text.into();
                self.timestamp = Some((Arc::clone(&text), ms));
                (text, ms, None)
            }
            None => {
                let (text, ms) = timestamp::of_id(id);
                (text.into(), ms, sent)
            }
        }
    }
}

/// What a recording has a gap record for, refused with the reason that it gives.
fn recorded_gap(entry: Entry, decoded: Result<Decoded, (&'static str, Option<Gap>)>, reason: &'static str) -> Refused {
    let (gap, says_failed) = match decoded {
        Ok(Decoded { event, .. }) => {
            let Event { id, key, kind, timestamp, says_failed, .. } = event;
            (Some(Gap { id, key, kind, timestamp }), says_failed)
        }
        Err((_, gap)) => (gap, false),
    };
    Refused { entry, reason, gap, says_failed }
}

/// The key and the task that the envelope names.
fn key(envelope: &Envelope<'_>, look_into_data: bool) -> Result<(Key, Option<Id>), &'static str> {
    let parse = |bytes: &[u8]| -> Result<Id, &'static str> {
        Id::parse(std::str::from_utf8(bytes).map_err(|_| "bad_utf8")?).map_err(|_| "bad_id")
    };
    let task = envelope.task.map(|task| parse(task)).transpose()?;
    if envelope.is_flow_kind() {
        if let Some(flow) = envelope.flow {
            return Ok((Key::Flow(parse(flow)?), task));
        }
        let inner = || envelope.task_in_data().filter(|_| look_into_data);
        let task = match task {
            Some(task) => task,
            None => Id::parse(&inner().ok_or("no_key")?).map_err(|_| "bad_id")?,
        };
        return Ok((Key::Task(task.clone()), Some(task)));
    }
    let task = task.ok_or("no_key")?;
    Ok((Key::Task(task.clone()), Some(task)))
}

/// The task that a flow's event names in its data; an empty text names none.
fn task_in(envelope: &Envelope<'_>, data: &str, members: &Members) -> Result<Option<Id>, &'static str> {
    if !envelope.is_flow_kind() {
        return Ok(None);
    }
    match members.get(data, "task_id").and_then(|text| serde_json::from_str::<String>(text).ok()) {
        Some(id) if !id.is_empty() => Id::parse(&id).map(Some).map_err(|_| "bad_id"),
        _ => Ok(None),
    }
}

/// Moves unknown top-level fields, and a timestamp that does not parse, into the data, so that plugins see every text of the
/// producer that is stored.
fn merge(
    data: String,
    members: Members,
    envelope: &Envelope<'_>,
    odd_timestamp: Option<&str>,
) -> Result<(String, Members), &'static str> {
    if odd_timestamp.is_none() && envelope.rest.is_empty() && envelope.timestamp.is_none_or(|text| text.is_ascii()) {
        return Ok((data, members));
    }
    let mut added: Vec<(String, &str)> = Vec::new();
    if let Some(text) = envelope.timestamp {
        std::str::from_utf8(text).map_err(|_| "bad_utf8")?;
    }
    if let Some(text) = odd_timestamp {
        added.push(("_timestamp".to_owned(), text));
    }
    for (name, value) in &envelope.rest {
        let name = std::str::from_utf8(name).map_err(|_| "bad_utf8")?;
        let value = std::str::from_utf8(value).map_err(|_| "bad_utf8")?;
        added.push((name.to_owned(), value));
    }
    let Some(open) = data.trim_end().strip_suffix('}') else { return Ok((data, members)) };
    let mut merged = open.to_owned().into_bytes();
    let mut empty = members.iter(&data).next().is_none();
    let mut names = HashSet::new();
    for (name, value) in added {
        // Until it is free: of two members of one name readers see one.
        let mut name = name;
        while members.contains(&name) || names.contains(&name) {
            name.insert_str(0, "_field.");
        }
        if !std::mem::replace(&mut empty, false) {
            merged.push(b',');
        }
        json::push_string(&mut merged, &name);
        merged.push(b':');
        json::push_string(&mut merged, value);
        names.insert(name);
    }
    merged.push(b'}');
    let merged = String::from_utf8(merged).map_err(|_| "bad_utf8")?;
    let members = Members::of(&merged).map_err(|_| "bad_json")?;
    Ok((merged, members))
}

#[cfg(test)]
mod tests;
