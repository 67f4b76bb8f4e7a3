//! A dead letter as both streams store it: the circumstances first, then the original fields as they came, each under `f:`
//! and its name, in order, doubled ones included; or in their place their digest, or that they are gone. Pure.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{DeadLetter, Fields};
use crate::event::{Entry, StreamId};

/// Before an original field's name, so that none is taken for one of ours.
const FIELD_PREFIX: &[u8] = b"f:";
/// The field of a replayed entry that names the entry which it repeats.
pub const REPLAY_OF: &str = "replay_of";

/// A letter, read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// Its own id, in the dead letter stream.
    pub at: StreamId,
    /// The id of the entry that it is about.
    pub id: StreamId,
    /// The stream of that entry.
    pub stream: String,
    /// Why it is dead: a stable code.
    pub reason: String,
    /// A finer code.
    pub code: String,
    /// The plugin that refused it or failed on it; empty: none.
    pub plugin: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When the entry was made, by its id; RFC 3339.
    pub first_seen: String,
    /// When it was buried; RFC 3339.
    pub last_seen: String,
    /// What it keeps of the entry.
    pub payload: Payload,
}

/// What a letter keeps of its entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// Its fields.
    Fields(Fields),
    /// Their digest; the entry itself stays in the stream.
    Digest {
        /// See [`digest`].
        sha256: String,
        /// Bytes of names and values.
        size: u64,
    },
    /// The entry was gone from the stream when it was buried.
    Gone,
}

/// The fields of the copy. `original` is `None` when the entry is gone: then `fields=gone` says so. `first_seen` is the time of
/// the entry's id, `last_seen` is now, both to the millisecond so that they compare as texts. `as_digest`: only digest and size of the original fields are kept.
pub(super) fn copy(letter: &DeadLetter, stream: &str, original: Option<&Fields>, as_digest: bool) -> Fields {
    let time = |ms: u64| {
        let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        time.map_or_else(|| ms.to_string(), |time| format!("{time:.3}"))
    };
    let ours = [
        ("id", letter.id.to_string()),
        ("stream", stream.to_owned()),
        ("reason", letter.reason.clone()),
        ("code", letter.code.clone()),
        ("plugin", letter.plugin.clone().unwrap_or_default()),
        ("attempts", letter.attempts.to_string()),
        ("first_seen", time(letter.id.ms)),
        ("last_seen", format!("{:.3}", jiff::Timestamp::now())),
    ];
    let mut fields: Fields =
        ours.into_iter().map(|(name, value)| (Bytes::from_static(name.as_bytes()), value.into())).collect();
    match original {
        Some(original) if as_digest => {
            fields.push((Bytes::from_static(b"sha256"), digest(original).into()));
            fields.push((Bytes::from_static(b"size"), size(original).to_string().into()));
        }
        Some(original) => {
            let kept = original.iter().map(|(name, value)| ([FIELD_PREFIX, name].concat().into(), value.clone()));
            fields.extend(kept);
        }
        None => fields.push((Bytes::from_static(b"fields"), Bytes::from_static(b"gone"))),
    }
    fields
}

/// SHA-256, in hex, over the fields in order: of each the name's length in bytes (u32, big endian), the name, the value's
/// length, the value.
pub fn digest(fields: &Fields) -> String {
    let mut hash = Sha256::new();
    for part in fields.iter().flat_map(|(name, value)| [name, value]) {
        hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of names and values.
pub(super) fn size(fields: &Fields) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// The id of the entry that a copy was made of.
pub(super) fn original(copy: &Entry) -> Option<StreamId> {
    text(copy, "id")?.parse().ok()
}

/// The id of the entry that a letter without its fields refers to: it must stay in the stream.
pub(super) fn refers_to(copy: &Entry) -> Option<StreamId> {
    text(copy, "sha256").and_then(|_| original(copy))
}

/// Reads a letter. `None`: it is none of ours.
pub(super) fn read(copy: &Entry) -> Option<Letter> {
    let owned = |name: &str| text(copy, name).unwrap_or_default().to_owned();
    let payload = match (text(copy, "sha256"), text(copy, "fields")) {
        (Some(sha256), _) => {
            Payload::Digest { sha256: sha256.to_owned(), size: text(copy, "size")?.parse().unwrap_or(0) }
        }
        (None, Some("gone")) => Payload::Gone,
        _ => {
            let kept = copy.fields.iter().filter(|(name, _)| name.starts_with(FIELD_PREFIX));
            Payload::Fields(kept.map(|(name, value)| (name.slice(FIELD_PREFIX.len()..), value.clone())).collect())
        }
    };
    Some(Letter {
        at: copy.id,
        id: original(copy)?,
        stream: owned("stream"),
        reason: owned("reason"),
        code: owned("code"),
        plugin: owned("plugin"),
        attempts: text(copy, "attempts").and_then(|text| text.parse().ok()).unwrap_or(1),
        first_seen: owned("first_seen"),
        last_seen: owned("last_seen"),
        payload,
    })
}

/// The fields of a letter's replay: those of the entry, and `replay_of` with its id. An entry that was a replay itself keeps
/// the id of the first one.
pub(super) fn replayed(id: StreamId, mut fields: Fields) -> Fields {
    if !fields.iter().any(|(name, _)| &name[..] == REPLAY_OF.as_bytes()) {
        fields.push((Bytes::from_static(REPLAY_OF.as_bytes()), id.to_string().into()));
    }
    fields
}

/// One of our own fields, which stand before all others; the first of that name.
fn text<'c>(copy: &'c Entry, name: &str) -> Option<&'c str> {
    let (_, value) = copy.fields.iter().find(|(field, _)| &field[..] == name.as_bytes())?;
    std::str::from_utf8(value).ok()
}

/// The original fields; `None` where the copy says that they are not kept.
pub(super) fn originals(copy: &Entry) -> Option<Fields> {
    if copy.fields.iter().any(|(name, _)| &name[..] == b"fields" || &name[..] == b"sha256") {
        return None;
    }
    let original =
        |(name, value): &(Bytes, Bytes)| name.starts_with(FIELD_PREFIX).then(|| (name.slice(2..), value.clone()));
    Some(copy.fields.iter().filter_map(original).collect())
}
