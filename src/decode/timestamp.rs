//! Timestamps of producers: RFC 3339 in the spellings that are seen, and the time of a stream id.

use jiff::{Timestamp, civil, tz::TimeZone};

use crate::event::StreamId;

/// Longest text that is taken for a timestamp, in bytes.
const TEXT_MAX: usize = 40;

/// Milliseconds since 1970 of `2026-01-31T12:00:00.123456+00:00`, `…Z`, or without an offset (read as UTC). The text may hold
/// nothing but digits and the signs of these forms, so that one that parses is safe to store.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let plain = |byte: u8| {
        byte.is_ascii_digit() || matches!(byte, b'T' | b't' | b'Z' | b'z' | b':' | b'+' | b'-' | b'.' | b' ')
    };
    if text.len() > TEXT_MAX || !text.bytes().all(plain) {
        return None;
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp.as_millisecond());
    }
    let local: civil::DateTime = text.parse().ok()?;
    Some(TimeZone::UTC.to_timestamp(local).ok()?.as_millisecond())
}

/// The time of an id, as text and in milliseconds; ids beyond the calendar's end count as its end.
pub(crate) fn of_id(id: StreamId) -> (String, i64) {
    let ms = i64::try_from(id.ms).unwrap_or(i64::MAX);
    let timestamp = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    (timestamp.to_string(), timestamp.as_millisecond())
}
