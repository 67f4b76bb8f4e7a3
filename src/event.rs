//! The vocabulary of the data path: stream ids, entries as they stand in the stream, ids that may become paths, keys, and
//! decoded events. Everything here is built by fallible constructors; no raw string goes further than `decode`.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Longest encoded id, in bytes: with a suffix it stays below the 255 bytes of a file name.
pub const ID_BYTES_MAX: usize = 200;

/// The kinds that the spec names; the set is open.
pub const KINDS: [&str; 10] = [
    "webhook:received",
    "webhook:validated",
    "webhook:matched",
    "webhook:task_created",
    "task:created",
    "task:started",
    "task:output",
    "task:user_input",
    "task:completed",
    "task:failed",
];

/// Position of an entry in its stream; orders everything. Text form `MS-SEQ`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId {
    /// Milliseconds since 1970 for ids that the server made.
    pub ms: u64,
    /// Sequence within the millisecond.
    pub seq: u64,
}

/// An entry as the stream holds it: raw bytes, fields in order, doubles included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the stream.
    pub id: StreamId,
    /// Field names and values.
    pub fields: Vec<(Bytes, Bytes)>,
}

/// An id that may name a directory: not empty, no control characters, encoded form at most [`ID_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Arc<str>);

/// Why a text is no [`Id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The empty text.
    #[error("id is empty")]
    Empty,
    /// Contains U+0000..U+001F or U+007F..U+009F.
    #[error("id contains a control character")]
    Control,
    /// Longer than [`ID_BYTES_MAX`] bytes when encoded.
    #[error("encoded id is longer than {ID_BYTES_MAX} bytes")]
    TooLong,
}

/// What order and plugin state go by: a task, or a webhook flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// A task, by its id.
    Task(Id),
    /// A webhook flow, by its `webhook_event_id`.
    Flow(Id),
}

/// A decoded entry with a valid key.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its place in the stream.
    pub id: StreamId,
    /// `family:suffix`, checked against the pattern of the README; an open set.
    pub kind: Arc<str>,
    /// The key that orders it.
    pub key: Key,
    /// The task that the entry names, if it does. For a flow this is what joins.
    pub task: Option<Id>,
    /// The timestamp as stored: the producer's text when it parses, else the id's time.
    pub timestamp: Arc<str>,
    /// The same in whole milliseconds since 1970.
    pub timestamp_ms: i64,
    /// JSON text of an object, on one line; unknown top-level fields merged in.
    pub data: String,
    /// For `task:completed`: whether `data.status` is exactly `"failed"`, read before the chain.
    pub says_failed: bool,
    /// Size of the entry's fields together, in bytes.
    pub size: usize,
}

/// What an entry costs in memory beside its bytes while it is in flight: handles, members, its share of lines and records.
const ENTRY_OVERHEAD: usize = 1024;

// === impl Entry ===

impl Entry {
    /// Its fields together, in bytes.
    pub fn size(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// What an entry of this size counts for in the window: it stands in memory as fields, as an event and as a line, though not
/// all at once.
pub fn charge(size: usize) -> usize {
    2 * size + ENTRY_OVERHEAD
}

// === impl StreamId ===

impl StreamId {
    /// Below every id an entry can have.
    pub const MIN: Self = Self { ms: 0, seq: 0 };
    /// Above every id.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// The largest id below this one.
    pub fn previous(self) -> Self {
        match self.seq.checked_sub(1) {
            Some(seq) => Self { ms: self.ms, seq },
            None => Self { ms: self.ms.saturating_sub(1), seq: if self.ms == 0 { 0 } else { u64::MAX } },
        }
    }

    /// The smallest id above this one.
    pub fn next(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self { ms: self.ms, seq },
            None => Self { ms: self.ms.saturating_add(1), seq: 0 },
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// A text that is no stream id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a stream id: expected MS-SEQ")]
pub struct InvalidStreamId;

impl FromStr for StreamId {
    type Err = InvalidStreamId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ms, seq) = text.split_once('-').ok_or(InvalidStreamId)?;
        let parse = |part: &str| match part.bytes().all(|b| b.is_ascii_digit()) {
            true => part.parse().map_err(|_| InvalidStreamId),
            false => Err(InvalidStreamId),
        };
        Ok(Self { ms: parse(ms)?, seq: parse(seq)? })
    }
}

// === impl Id ===

impl Id {
    /// Checks a text from outside.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if text.is_empty() {
            return Err(InvalidId::Empty);
        }
        if text.len() <= ID_BYTES_MAX && text.bytes().enumerate().all(stands_for_itself) {
            return Ok(Self(text.into()));
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidId::Control);
        }
        if encode(text).len() > ID_BYTES_MAX {
            return Err(InvalidId::TooLong);
        }
        Ok(Self(text.into()))
    }

    /// The id as the producer wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory's name: every byte that `[A-Za-z0-9][A-Za-z0-9._:-]*` does not allow at its place becomes `%XX`.
    pub fn dir_name(&self) -> Cow<'_, str> {
        encode(&self.0)
    }

    /// The id that a directory name stands for; `None` for a name that [`Id::dir_name`] never makes.
    pub fn from_dir_name(name: &str) -> Option<Self> {
        let mut bytes = Vec::with_capacity(name.len());
        let mut rest = name.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            if first == b'%' {
                let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(hex, 16).ok()?);
                rest = tail.get(2..)?;
            } else {
                bytes.push(first);
                rest = tail;
            }
        }
        let id = Self::parse(std::str::from_utf8(&bytes).ok()?).ok()?;
        (id.dir_name() == name).then_some(id)
    }
}

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn encode(text: &str) -> Cow<'_, str> {
    let allowed =
        |(at, byte): (usize, u8)| byte.is_ascii_alphanumeric() || (at > 0 && matches!(byte, b'.' | b'_' | b':' | b'-'));
    if text.bytes().enumerate().all(allowed) {
        return Cow::Borrowed(text);
    }
    let mut name = String::with_capacity(text.len() + 8);
    for (at, byte) in text.bytes().enumerate() {
        if stands_for_itself((at, byte)) {
            name.push(char::from(byte));
        } else {
            name.push('%');
            name.push(char::from(HEX[usize::from(byte >> 4)]));
            name.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    Cow::Owned(name)
}

/// Whether a byte at its place needs no encoding.
fn stands_for_itself((at, byte): (usize, u8)) -> bool {
    byte.is_ascii_alphanumeric() || (at > 0 && matches!(byte, b'.' | b'_' | b':' | b'-'))
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

// === impl Key ===

impl Key {
    /// The key in whose directory its files stand: itself, or the task that its flow joined.
    pub fn home(&self, joined: Option<&Id>) -> Self {
        match (self, joined) {
            (Self::Flow(_), Some(task)) => Self::Task(task.clone()),
            _ => self.clone(),
        }
    }

    /// The id, whichever kind of key it is.
    pub fn id(&self) -> &Id {
        match self {
            Self::Task(id) | Self::Flow(id) => id,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(id) => write!(f, "task {id}"),
            Self::Flow(id) => write!(f, "flow {id}"),
        }
    }
}

// === impl Event ===

impl Event {
    /// The part of the kind before the colon.
    pub fn family(&self) -> &str {
        self.kind.split_once(':').map_or(&*self.kind, |(family, _)| family)
    }

    /// The part of the kind after the colon.
    pub fn suffix(&self) -> &str {
        self.kind.split_once(':').map_or("", |(_, suffix)| suffix)
    }

    /// Whether it ends its task, which forbids plugins to hold.
    pub fn ends_task(&self) -> bool {
        matches!(&*self.kind, "task:completed" | "task:failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_directory_names_and_back() {
        for (id, name) in [
            ("task-1.a:b_c", "task-1.a:b_c"),
            ("../escape", "%2E./escape".replace('/', "%2F").as_str()),
            (".hidden", "%2Ehidden"),
            ("_webhooks", "%5Fwebhooks"),
            ("a/b", "a%2Fb"),
            ("50%", "50%25"),
            ("é", "%C3%A9"),
        ] {
            let parsed = Id::parse(id).unwrap();
            assert_eq!(parsed.dir_name(), name);
            assert_eq!(Id::from_dir_name(name), Some(parsed));
        }
        assert_eq!(Id::parse(""), Err(InvalidId::Empty));
        assert_eq!(Id::parse("a\nb"), Err(InvalidId::Control));
        assert_eq!(Id::parse(&"x".repeat(201)), Err(InvalidId::TooLong));
        for foreign in ["%2e", "a%2", "_x", "%41", ".state"] {
            assert_eq!(Id::from_dir_name(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn stream_ids_order_and_parse() {
        let id: StreamId = "1700000000000-3".parse().unwrap();
        assert_eq!(id, StreamId { ms: 1_700_000_000_000, seq: 3 });
        assert!(id < id.next() && id.next().to_string() == "1700000000000-4");
        for bad in ["", "1", "-", "1-", "+1-2", "1-2-3", "a-b"] {
            assert!(bad.parse::<StreamId>().is_err(), "{bad}");
        }
    }
}
