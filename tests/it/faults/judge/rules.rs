//! Where an entry must stand, from nothing but the stream: the design's rules, written down a second time.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{Entry, Id, Stream};

/// `MAX_EVENT`, where the tests leave it alone.
const EVENT_MAX: usize = 16 << 20;

/// What orders an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Task(String),
    Flow(String),
}

/// What must have become of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// In the dead letter only.
    Dead,
    /// A record in this directory and file (`metadata.json`: in its list of ids).
    Record { dir: String, file: String },
    /// A gap record.
    Gap { dir: String, file: String, dead: bool },
}

/// The rules applied to a stream.
pub(super) struct Rules {
    keys: HashMap<Id, Key>,
    fates: HashMap<Id, Fate>,
    may_drop: HashSet<Id>,
    /// Every directory that may be there.
    pub(super) directories: HashSet<String>,
}

/// A field's only value as text; `Err` when it stands twice or is no UTF-8.
fn only<'e>(entry: &'e Entry, name: &str) -> Result<Option<&'e str>, ()> {
    let mut values = entry.fields.iter().filter(|(key, _)| key == name.as_bytes());
    let first = values.next().map(|(_, value)| std::str::from_utf8(value).map_err(|_| ())).transpose()?;
    if values.next().is_some() { Err(()) } else { Ok(first) }
}

fn is_flow_family(kind: &str) -> bool {
    ["webhook:", "response:", "notification:"].iter().any(|family| kind.starts_with(family))
}

fn is_kind(kind: &str) -> bool {
    let name = |text: &str, more: &str| {
        text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || more.contains(c))
    };
    kind.split_once(':').is_some_and(|(family, rest)| {
        family.starts_with(|c: char| c.is_ascii_lowercase())
            && name(family, "")
            && (1..=64).contains(&rest.len())
            && name(rest, ".-")
    })
}

/// The directory name of an id; `None` for one that no directory can have.
fn encoded(id: &str) -> Option<String> {
    let mut name = String::new();
    for (at, byte) in id.bytes().enumerate() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => name.push(byte.into()),
            b'.' | b'_' | b':' | b'-' if at > 0 => name.push(byte.into()),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    let fine = !id.is_empty() && name.len() <= 200 && !id.chars().any(char::is_control);
    fine.then_some(name)
}

/// An entry's data as an object.
fn data(entry: &Entry) -> Option<Value> {
    match entry.field("data") {
        None => Some(Value::Object(serde_json::Map::new())),
        Some(bytes) => serde_json::from_slice(bytes).ok().or_else(|| mended(bytes)).filter(Value::is_object),
    }
}

/// Text whose only fault may be surrogates that stand alone: they become U+FFFD.
fn mended(bytes: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut parts = text.split("\\u");
    let mut mended = parts.next()?.to_owned();
    for part in parts {
        let code = u32::from_str_radix(part.get(..4)?, 16).ok()?;
        let lone = (0xd800..0xe000).contains(&code);
        mended += &format!("\\u{}{}", if lone { "fffd" } else { part.get(..4)? }, part.get(4..)?);
    }
    serde_json::from_str(&mended).ok()
}

fn key(entry: &Entry) -> Option<Key> {
    let task = only(entry, "task_id").ok()?;
    let flow = only(entry, "webhook_event_id").ok()?;
    if doubled(entry, &["type", "event_type"]) {
        return None;
    }
    let kind = entry.field("type").or(entry.field("event_type")).unwrap_or_default();
    let kind = std::str::from_utf8(kind).unwrap_or_default();
    if is_flow_family(kind) {
        if task.is_some_and(|task| encoded(task).is_none()) {
            return None;
        }
        if let Some(flow) = flow {
            return encoded(flow).map(|_| Key::Flow(flow.to_owned()));
        }
        let inner = || data(entry)?.get("task_id")?.as_str().map(str::to_owned);
        let task = task.map(str::to_owned).or_else(inner)?;
        return encoded(&task).map(|_| Key::Task(task));
    }
    encoded(task?).map(|_| Key::Task(task.unwrap_or_default().to_owned()))
}

/// Whether one of these fields (none: any field) stands twice.
fn doubled(entry: &Entry, among: &[&str]) -> bool {
    let mut names = HashSet::new();
    let mut looked_at =
        entry.fields.iter().filter(|(name, _)| among.is_empty() || among.iter().any(|n| n.as_bytes() == name));
    !looked_at.all(|(name, _)| names.insert(name))
}

fn file(kind: Option<&str>) -> &'static str {
    match kind.unwrap_or("unknown:").split_once(':') {
        Some(("task", "created" | "started" | "completed" | "failed")) => "metadata.json",
        Some(("task", "user_input")) => "03-user-inputs.jsonl",
        Some(("task", _)) => "03-agent-output.jsonl",
        Some(("webhook" | "response" | "notification", _)) => "02-webhook-flow.jsonl",
        _ => "05-other-events.jsonl",
    }
}

impl Rules {
    pub(super) fn of(stream: &Stream) -> Self {
        let refused: HashSet<Id> =
            stream.dead.iter().filter(|letter| !letter.plugin.is_empty()).map(|l| l.id).collect();
        let mut rules =
            Self { keys: HashMap::new(), fates: HashMap::new(), may_drop: HashSet::new(), directories: HashSet::new() };
        let joins = joins(stream);
        for entry in &stream.entries {
            let fate = rules.decide(entry, &joins, refused.contains(&entry.id));
            rules.fates.insert(entry.id, fate);
        }
        rules
    }

    fn decide(&mut self, entry: &Entry, joins: &HashMap<String, String>, refused: bool) -> Fate {
        let Some(key) = key(entry) else { return Fate::Dead };
        let kind = entry.field("type").or(entry.field("event_type")).and_then(|kind| std::str::from_utf8(kind).ok());
        let kind = kind.filter(|kind| is_kind(kind));
        let bad = undecodable(entry, kind);
        let home = match &key {
            Key::Task(task) => task.clone(),
            Key::Flow(flow) => {
                let named = named_task(entry).filter(|_| !bad);
                self.directories.extend(encoded(flow).map(|name| format!("_webhooks/{name}")));
                match named.or_else(|| joins.get(flow).cloned()) {
                    Some(task) => task,
                    None => format!("\u{0}{flow}"),
                }
            }
        };
        let dir = match home.strip_prefix('\u{0}') {
            Some(flow) => format!("_webhooks/{}", encoded(flow).unwrap_or_default()),
            None => encoded(&home).unwrap_or_default(),
        };
        self.directories.insert(dir.clone());
        self.keys.insert(entry.id, key);
        if entry.field("data").is_some_and(|data| memchr::memmem::find(data, b"please-drop").is_some()) {
            self.may_drop.insert(entry.id);
        }
        let file = file(kind).to_owned();
        match bad || refused {
            true if file == "metadata.json" => Fate::Gap { dir, file: "03-agent-output.jsonl".into(), dead: true },
            true => Fate::Gap { dir, file, dead: true },
            false => Fate::Record { dir, file },
        }
    }

    pub(super) fn key(&self, id: Id) -> Option<Key> {
        self.keys.get(&id).cloned()
    }

    pub(super) fn fate(&self, id: Id) -> Fate {
        self.fates.get(&id).cloned().unwrap_or(Fate::Dead)
    }

    /// Whether a plugin of the tests drops it: its data says `please-drop`.
    pub(super) fn may_drop(&self, id: Id) -> bool {
        self.may_drop.contains(&id)
    }
}

fn undecodable(entry: &Entry, kind: Option<&str>) -> bool {
    let utf8 = entry
        .fields
        .iter()
        .all(|(name, value)| std::str::from_utf8(name).is_ok() && std::str::from_utf8(value).is_ok());
    let named_badly = kind.is_some_and(is_flow_family)
        && data(entry)
            .and_then(|data| data.get("task_id")?.as_str().map(str::to_owned))
            .is_some_and(|task| !task.is_empty() && encoded(&task).is_none())
        && entry.field("task_id").is_none();
    let size: usize = entry.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    size > EVENT_MAX || kind.is_none() || !utf8 || doubled(entry, &[]) || data(entry).is_none() || named_badly
}

/// The task that an event names: its own field, else its data.
fn named_task(entry: &Entry) -> Option<String> {
    let field = entry.field("task_id").and_then(|task| std::str::from_utf8(task).ok()).map(str::to_owned);
    field.or_else(|| data(entry)?.get("task_id")?.as_str().map(str::to_owned)).filter(|task| !task.is_empty())
}

/// The task that each flow joins: the first one that any of its good events names.
fn joins(stream: &Stream) -> HashMap<String, String> {
    let mut joins = HashMap::new();
    for entry in &stream.entries {
        let kind = entry.field("type").or(entry.field("event_type")).and_then(|kind| std::str::from_utf8(kind).ok());
        if let (Some(Key::Flow(flow)), Some(task)) = (key(entry), named_task(entry))
            && !undecodable(entry, kind.filter(|kind| is_kind(kind)))
        {
            joins.entry(flow).or_insert(task);
        }
    }
    joins
}
