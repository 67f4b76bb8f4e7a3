//! One line of a `.jsonl` file, taken apart as far as it is compared.

use std::borrow::Cow;

use super::rules::{File, label, mark};
use crate::{event::StreamId, json::Members};

/// What a record says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) id: StreamId,
    /// The reason, for a gap.
    pub(super) gap: Option<String>,
    pub(super) timestamp: u32,
    pub(super) label: u32,
}

/// Reads a line without its newline; the error says why it is no record.
pub(super) fn read(line: &[u8], file: File) -> Result<Told, &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "is not UTF-8")?;
    let members = Members::of(line).map_err(|_| "is no JSON object")?;
    let mut keys = members.iter(line);
    let (first, timestamp) = keys.next().ok_or("has no members")?;
    let (second, what) = keys.next().ok_or("has too few members")?;
    let rest: Vec<(&str, &str)> = keys.collect();
    let id = rest.last().filter(|(key, _)| *key == "id").ok_or("does not end with its id")?;
    let id = text(id.1).and_then(|id| id.parse().ok()).ok_or("has an id that is none")?;
    let timestamp = text(timestamp).filter(|_| first == "timestamp").ok_or("does not begin with its timestamp")?;
    let what = text(what).ok_or("has no type")?;
    let kind = |at: usize, name: &str| rest.get(at).filter(|(key, _)| *key == name).and_then(|(_, value)| text(value));
    // A record has its content between type and id, so it is no gap whatever its data says.
    if let ("type", "gap", 3, Some(kind), Some(reason)) =
        (second, &*what, rest.len(), kind(0, "kind"), kind(1, "reason"))
    {
        let gap = Some(reason.into_owned());
        return Ok(Told { id, gap, timestamp: mark(&timestamp), label: mark(&label(&kind)) });
    }
    let expected = if file == File::Flow { "stage" } else { "type" };
    if second != expected {
        return Err("has no type");
    }
    Ok(Told { id, gap: None, timestamp: mark(&timestamp), label: mark(&what) })
}

/// A JSON text's value, if it is a string.
pub(super) fn text(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(json).ok().map(Cow::Owned)
}
