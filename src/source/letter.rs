//! A dead letter as both streams store it: the circumstances first, then the original fields as they came, each under `f:`
//! and its name, in order, doubled ones included. Pure.

use bytes::Bytes;

use super::{DeadLetter, Fields};
use crate::event::{Entry, StreamId};

/// Before an original field's name, so that none is taken for one of ours.
const FIELD_PREFIX: &[u8] = b"f:";

/// The fields of the copy. `original` is `None` when the entry is gone: then `fields=gone` says so. `first_seen` is the time of
/// the entry's id, `last_seen` is now.
pub(super) fn copy(letter: &DeadLetter, stream: &str, original: Option<&Fields>) -> Fields {
    let time = |ms: u64| {
        let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        time.map_or_else(|| ms.to_string(), |time| time.to_string())
    };
    let ours = [
        ("id", letter.id.to_string()),
        ("stream", stream.to_owned()),
        ("reason", letter.reason.clone()),
        ("code", letter.code.clone()),
        ("plugin", letter.plugin.clone().unwrap_or_default()),
        ("attempts", letter.attempts.to_string()),
        ("first_seen", time(letter.id.ms)),
        ("last_seen", jiff::Timestamp::now().to_string()),
    ];
    let mut fields: Fields =
        ours.into_iter().map(|(name, value)| (Bytes::from_static(name.as_bytes()), value.into())).collect();
    match original {
        Some(original) => {
            let kept = original.iter().map(|(name, value)| ([FIELD_PREFIX, name].concat().into(), value.clone()));
            fields.extend(kept);
        }
        None => fields.push((Bytes::from_static(b"fields"), Bytes::from_static(b"gone"))),
    }
    fields
}

/// The id of the entry that a copy was made of.
pub(super) fn original(copy: &Entry) -> Option<StreamId> {
    let (_, id) = copy.fields.iter().find(|(name, _)| &name[..] == b"id")?;
    std::str::from_utf8(id).ok()?.parse().ok()
}

/// The original fields; `None` where the copy says that they are not kept.
pub(super) fn originals(copy: &Entry) -> Option<Fields> {
    if copy.fields.iter().any(|(name, _)| &name[..] == b"fields") {
        return None;
    }
    let original =
        |(name, value): &(Bytes, Bytes)| name.starts_with(FIELD_PREFIX).then(|| (name.slice(2..), value.clone()));
    Some(copy.fields.iter().filter_map(original).collect())
}
