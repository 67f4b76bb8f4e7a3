//! Replies as the source needs them: entries with their fields in order and doubled ones kept, ids, counters, refusals. Pure.

use bytes::Bytes;
use redis::{RedisError, Value};

use crate::{
    event::{Entry, StreamId},
    source::SourceError,
};

/// A flat list of names and values, as XINFO answers.
pub(super) struct Info(Vec<Value>);

/// Whether a retry can help: a key of another type, or a refused login, stays so.
pub(super) fn classify(error: RedisError) -> SourceError {
    let refused = error.kind() == redis::ErrorKind::AuthenticationFailed
        || error.code().is_some_and(|code| matches!(code, "WRONGTYPE" | "NOAUTH" | "WRONGPASS" | "NOPERM"));
    match refused {
        true => SourceError::Config(format!("redis refuses: {error}")),
        false => SourceError::Redis(error),
    }
}

/// Turns a refusal into an error.
pub(super) fn accepted(reply: Value) -> Result<Value, SourceError> {
    match reply {
        Value::ServerError(error) => Err(classify(error.into())),
        reply => Ok(reply),
    }
}

/// The refusal's first word and text, if it is one.
pub(super) fn refusal(reply: &Value) -> Option<(&str, &str)> {
    match reply {
        Value::ServerError(error) => Some((error.code(), error.details().unwrap_or(""))),
        _ => None,
    }
}

/// The text of a string reply.
pub(super) fn text(reply: &Value) -> Option<&str> {
    match reply {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Okay => Some("OK"),
        _ => None,
    }
}

/// A number, also one that is sent as text.
pub(super) fn integer(reply: &Value) -> Option<i64> {
    match reply {
        Value::Int(number) => Some(*number),
        other => text(other)?.parse().ok(),
    }
}

/// A stream id.
pub(super) fn id(reply: &Value) -> Option<StreamId> {
    text(reply)?.parse().ok()
}

/// The entries of an XRANGE reply. Entries whose bodies are gone are left out.
pub(super) fn entries(command: &'static str, reply: Value) -> Result<Vec<Entry>, SourceError> {
    let wrong = || SourceError::Reply { command };
    match accepted(reply)? {
        Value::Nil => Ok(Vec::new()),
        Value::Array(entries) => {
            let entries = entries.into_iter().filter(|entry| *entry != Value::Nil);
            entries.map(|value| entry(value).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

fn entry(value: Value) -> Option<Entry> {
    let Value::Array(pair) = value else { return None };
    let mut pair = pair.into_iter();
    let id = id(&pair.next()?)?;
    let Value::Array(flat) = pair.next()? else { return None };
    let mut fields = Vec::with_capacity(flat.len() / 2);
    let mut flat = flat.into_iter();
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        fields.push((bytes(name)?, bytes(value)?));
    }
    Some(Entry { id, fields })
}

fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(Bytes::from(bytes)),
        _ => None,
    }
}

/// The entries' part of an XREAD reply for one stream; `None`: nothing came.
pub(super) fn stream(reply: Value) -> Result<Option<Value>, SourceError> {
    let wrong = || SourceError::Reply { command: "XREAD" };
    match accepted(reply)? {
        Value::Nil => Ok(None),
        Value::Array(mut streams) if streams.len() == 1 => match streams.pop() {
            Some(Value::Array(mut pair)) if pair.len() == 2 => Ok(pair.pop()),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

/// The id of the last entry, without unpacking the rest.
pub(super) fn last_id(entries: &Value) -> Option<StreamId> {
    match entries {
        Value::Array(entries) => match entries.last()? {
            Value::Array(pair) => id(pair.first()?),
            _ => None,
        },
        _ => None,
    }
}

/// Number of entries, and bytes of their names and values.
pub(super) fn measure(entries: &Value) -> (usize, usize) {
    let Value::Array(entries) = entries else { return (0, 0) };
    let flat = entries.iter().map(|entry| match entry {
        Value::Array(pair) => match pair.get(1) {
            Some(Value::Array(flat)) => &flat[..],
            _ => &[],
        },
        _ => &[],
    });
    let bytes = flat.flatten().map(|part| if let Value::BulkString(part) = part { part.len() } else { 0 }).sum();
    (entries.len(), bytes)
}

/// Bytes of names and values.
pub(super) fn size(fields: &[(Bytes, Bytes)]) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len()).sum()
}

// === impl Info ===

impl Info {
    /// From the reply to XINFO STREAM, or one group of XINFO GROUPS.
    pub(super) fn new(reply: Value) -> Option<Self> {
        match reply {
            Value::Array(flat) => Some(Self(flat)),
            _ => None,
        }
    }

    /// The group of this name from the reply to XINFO GROUPS.
    pub(super) fn group(reply: Value, name: &str) -> Option<Self> {
        let Value::Array(groups) = reply else { return None };
        groups.into_iter().filter_map(Self::new).find(|group| group.get("name").and_then(text) == Some(name))
    }

    /// A value by its name.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name)).map(|pair| &pair[1])
    }

    /// A stream id by its name.
    pub(super) fn id(&self, name: &str) -> Option<StreamId> {
        id(self.get(name)?)
    }

    /// A count by its name; `None` where the server does not know it, or says something impossible.
    pub(super) fn count(&self, name: &str) -> Option<u64> {
        u64::try_from(integer(self.get(name)?)?).ok()
    }
}
