//! Where an entry must stand, from nothing but its fields: the design's rules, written down a second time, so that a mistake in
//! `route`, `decode` or `layout` is found and not repeated.

use crate::{
    decode::timestamp,
    event::{Entry, Id, StreamId},
    json::{Members, mend_surrogates},
    layout::{AGENT_OUTPUT, METADATA, OTHER_EVENTS, USER_INPUTS, WEBHOOK_FLOW},
};

/// A file that holds entries, one per line or (the first) in a list of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    Metadata,
    Flow,
    Agent,
    Inputs,
    Other,
}

/// A lifecycle event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Created,
    Started,
    Ended { failed: bool },
}

/// What an entry's fields say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// It has no valid key: in the dead letter only.
    Keyless,
    /// It stands in the directory of its key.
    Keyed(Keyed),
}

/// Of an entry with a valid key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keyed {
    /// The directory of its key.
    pub(super) dir: String,
    /// For a flow: the task that the entry names.
    pub(super) names: Option<Id>,
    /// Where its record stands; that of its gap is [`File::of_gap`].
    pub(super) file: File,
    /// What its record says of its kind, and of its time.
    pub(super) label: u32,
    pub(super) timestamp: u32,
    pub(super) stage: Option<Stage>,
    /// A `task:*` event.
    pub(super) of_task: bool,
    /// It cannot be decoded: a gap stands in its place.
    pub(super) bad: bool,
}

/// Checksum of a text of a record; what is compared, and kept for each entry.
pub(super) fn mark(text: &str) -> u32 {
    crc32fast::hash(text.as_bytes())
}

// === impl File ===

impl File {
    pub(super) const ALL: [Self; 5] = [Self::Metadata, Self::Flow, Self::Agent, Self::Inputs, Self::Other];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Metadata => METADATA,
            Self::Flow => WEBHOOK_FLOW,
            Self::Agent => AGENT_OUTPUT,
            Self::Inputs => USER_INPUTS,
            Self::Other => OTHER_EVENTS,
        }
    }

    /// Where the gap record of one that is not written stands.
    pub(super) fn of_gap(self) -> Self {
        if self == Self::Metadata { Self::Agent } else { self }
    }

    fn of(kind: Option<&str>) -> Self {
        match kind.and_then(|kind| kind.split_once(':')) {
            Some(("task", "created" | "started" | "completed" | "failed")) => Self::Metadata,
            Some(("task", "user_input")) => Self::Inputs,
            Some(("task", _)) => Self::Agent,
            Some(("webhook" | "response" | "notification", _)) => Self::Flow,
            _ => Self::Other,
        }
    }
}

/// What a record of this kind has as `type` or `stage`; gap records give the kind itself.
pub(super) fn label(kind: &str) -> String {
    match kind.split_once(':') {
        Some(("task", "created" | "started" | "completed" | "failed")) => kind.to_owned(),
        Some(("task", "user_input")) => "user_response".to_owned(),
        Some(("task", suffix)) | Some(("webhook", suffix)) => suffix.to_owned(),
        Some((family @ ("response" | "notification"), suffix)) => format!("{family}_{suffix}"),
        _ => kind.to_owned(),
    }
}

/// The rules applied to an entry. `event_max` is `MAX_EVENT`: what is larger may have been taken when that was larger, so it
/// only says where the key may be looked for.
pub(super) fn rule(entry: &Entry, event_max: usize) -> Ruling {
    let utf8 = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    let large = entry.size() > event_max;
    let type_bytes = field(entry, "type").or(field(entry, "event_type"));
    let is_flow = type_bytes.is_some_and(|kind| {
        [&b"webhook:"[..], b"response:", b"notification:"].iter().any(|family| kind.starts_with(family))
    });
    let kind = type_bytes.and_then(|kind| std::str::from_utf8(kind).ok()).filter(|kind| is_kind(kind));
    let data = match field(entry, "data") {
        None => Some("{}".into()),
        Some(bytes) => std::str::from_utf8(bytes).ok().map(mend_surrogates),
    };
    let members = data.as_deref().and_then(|data| Members::of(data).ok());
    let member = |name: &str| members.as_ref().zip(data.as_deref()).and_then(|(members, data)| members.get(data, name));
    let inner = || {
        let text: String = serde_json::from_str(member("task_id")?).ok()?;
        Some(text).filter(|id| !id.is_empty())
    };
    let keys = ["type", "event_type", "task_id", "webhook_event_id"];
    if keys.iter().any(|name| count(entry, name) > 1) {
        return Ruling::Keyless;
    }
    let id = |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| Id::parse(text).ok());
    let (task_bytes, flow_bytes) = (field(entry, "task_id"), field(entry, "webhook_event_id"));
    let task = task_bytes.map(id);
    if task == Some(None) {
        return Ruling::Keyless;
    }
    let (task, mut bad_inner) = (task.flatten(), false);
    let mut names = None;
    let dir = match (is_flow, flow_bytes) {
        (true, Some(flow)) => {
            let Some(flow) = id(flow) else { return Ruling::Keyless };
            names = task.or_else(|| {
                let named = Id::parse(&inner()?).ok();
                bad_inner = named.is_none();
                named
            });
            format!("_webhooks/{}", flow.dir_name())
        }
        (true, None) => {
            // What is too large is not looked into.
            let found = task.or_else(|| inner().filter(|_| !large).and_then(|id| Id::parse(&id).ok()));
            let Some(task) = found else { return Ruling::Keyless };
            task.dir_name().into_owned()
        }
        (false, _) => {
            let Some(task) = task else { return Ruling::Keyless };
            task.dir_name().into_owned()
        }
    };
    let texts = entry.fields.iter().filter(|(name, _)| !matches!(&name[..], b"webhook_event_id"));
    let bad = kind.is_none()
        || members.is_none()
        || bad_inner
        || texts.into_iter().any(|(name, value)| !utf8(name) || !utf8(value))
        || doubled(entry);
    let (file, bad) = (File::of(kind), bad);
    let stage = match kind {
        Some("task:created") => Some(Stage::Created),
        Some("task:started") => Some(Stage::Started),
        Some("task:completed") => Some(Stage::Ended { failed: !bad && member("status") == Some("\"failed\"") }),
        Some("task:failed") => Some(Stage::Ended { failed: true }),
        _ => None,
    };
    Ruling::Keyed(Keyed {
        dir,
        names: names.filter(|_| !bad),
        file,
        label: mark(&label(kind.unwrap_or("unknown"))),
        timestamp: mark(&time(entry)),
        stage,
        of_task: kind.is_some_and(|kind| kind.starts_with("task:")),
        bad,
    })
}

/// The timestamp that a record of the entry must have: the producer's if it parses, else the id's time.
fn time(entry: &Entry) -> String {
    let sent = field(entry, "timestamp").and_then(|text| std::str::from_utf8(text).ok());
    match sent.filter(|text| timestamp::parse(text).is_some()) {
        Some(sent) => sent.to_owned(),
        None => of_id(entry.id),
    }
}

/// The time of an id.
pub(super) fn of_id(id: StreamId) -> String {
    timestamp::of_id(id).0
}

fn field<'e>(entry: &'e Entry, name: &str) -> Option<&'e [u8]> {
    entry.fields.iter().find(|(key, _)| key == name.as_bytes()).map(|(_, value)| &value[..])
}

fn count(entry: &Entry, name: &str) -> usize {
    entry.fields.iter().filter(|(key, _)| key == name.as_bytes()).count()
}

/// Whether any field stands twice.
fn doubled(entry: &Entry) -> bool {
    let fields = &entry.fields;
    fields.iter().enumerate().any(|(at, (name, _))| fields.iter().take(at).any(|(other, _)| other == name))
}

fn is_kind(kind: &str) -> bool {
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    kind.split_once(':').is_some_and(|(family, suffix)| {
        family.starts_with(|c: char| c.is_ascii_lowercase())
            && family.len() <= 64
            && family.chars().all(lower)
            && (1..=64).contains(&suffix.len())
            && suffix.chars().all(|c| lower(c) || c == '.' || c == '-')
    })
}
