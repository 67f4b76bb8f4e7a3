//! Where a reader stands in a task: for each file of records how many bytes lie before it. Plain text, and the same value
//! wherever one goes on reading: `next` of a page, `id:` of server-sent events, `?after=`, a record's permalink.
//!
//! `03-agent-output.jsonl:18234:1700000000000-0,02-webhook-flow.jsonl:1200` stands behind 18,234 bytes of the first file and
//! 1,200 of the second; other files have not been begun. The first part is the file of the record that the cursor stands right
//! behind, with that record's entry in the stream: it proves that the file is still the one that was read. Numbers of records
//! are no part of it: at the end of a large file nobody knows them without reading it all. `0` is the beginning.

use std::{fmt, str::FromStr};

use crate::{event::StreamId, layout};

/// Longest text that is taken for a cursor, in bytes.
const CURSOR_BYTES_MAX: usize = 2048;
/// Files that a cursor may name.
const PARTS_MAX: usize = 16;

/// A position between records; [`Cursor::default`] is the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    parts: Vec<(String, u64)>,
    id: Option<StreamId>,
}

/// A text that is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: FILE:OFFSET[:ID][,FILE:OFFSET...] or 0")]
pub struct InvalidCursor;

// === impl Cursor ===

impl Cursor {
    /// Behind `offset` bytes of `file`, where the record of entry `id` ends, and behind so many bytes of the others.
    pub(super) fn new<'f>(
        (file, offset, id): (&str, u64, Option<StreamId>),
        others: impl Iterator<Item = (&'f str, u64)>,
    ) -> Self {
        let first = std::iter::once((file.to_owned(), offset));
        let others = others.filter(|(other, offset)| *other != file && *offset > 0);
        Self { parts: first.chain(others.map(|(file, offset)| (file.to_owned(), offset))).collect(), id }
    }

    /// Bytes of a file that lie before it.
    pub fn offset(&self, file: &str) -> u64 {
        self.parts.iter().find(|(name, _)| name == file).map_or(0, |(_, offset)| *offset)
    }

    /// The file and the end of the record that it stands behind, and that record's entry where the record tells it.
    pub fn record(&self) -> Option<(&str, u64, Option<StreamId>)> {
        self.parts.first().map(|(file, offset)| (&**file, *offset, self.id))
    }

    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(file, _)| &**file)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(((file, offset), others)) = self.parts.split_first() else { return f.write_str("0") };
        write!(f, "{file}:{offset}")?;
        if let Some(id) = self.id {
            write!(f, ":{id}")?;
        }
        others.iter().try_for_each(|(file, offset)| write!(f, ",{file}:{offset}"))
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        if text == "0" {
            return Ok(Self::default());
        }
        if text.len() > CURSOR_BYTES_MAX {
            return Err(InvalidCursor);
        }
        let mut cursor = Self::default();
        for part in text.split(',') {
            let mut fields = part.split(':');
            let (file, offset) = fields.next().zip(fields.next()).ok_or(InvalidCursor)?;
            if let Some(id) = fields.next() {
                if !cursor.parts.is_empty() {
                    return Err(InvalidCursor);
                }
                cursor.id = Some(id.parse().map_err(|_| InvalidCursor)?);
            }
            let known = cursor.parts.iter().any(|(other, _)| other == file);
            let plain = !offset.is_empty() && offset.bytes().all(|byte| byte.is_ascii_digit());
            if fields.next().is_some() || known || !plain || !layout::is_record_file(file) {
                return Err(InvalidCursor);
            }
            cursor.parts.push((file.to_owned(), offset.parse().map_err(|_| InvalidCursor)?));
            if cursor.parts.len() > PARTS_MAX {
                return Err(InvalidCursor);
            }
        }
        Ok(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        for text in [
            "0",
            "a.jsonl:0",
            "03-agent-output.jsonl:18234:1700000000000-0",
            "03-agent-output.jsonl:18234:1700000000000-0,02-webhook-flow.jsonl:1200",
            "extra.jsonl:5,03-agent-output.jsonl:9",
            "a.jsonl:18446744073709551615",
        ] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        let cursor: Cursor = "a.jsonl:7:5-1,b.jsonl:3".parse().unwrap();
        assert_eq!((cursor.offset("a.jsonl"), cursor.offset("b.jsonl"), cursor.offset("c.jsonl")), (7, 3, 0));
        assert_eq!(cursor.record(), Some(("a.jsonl", 7, Some(StreamId { ms: 5, seq: 1 }))));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let many = (0..=PARTS_MAX).map(|n| format!("f{n}.jsonl:1")).collect::<Vec<_>>().join(",");
        for text in [
            "",
            "1",
            ",",
            "a.jsonl",
            "a.jsonl:",
            "a.jsonl:+1",
            "a.jsonl:-1",
            "a.jsonl:1:",
            "a.jsonl:1:x",
            "a.jsonl:1:5-1:2",
            "a.jsonl:1,a.jsonl:2",
            "a.jsonl:1,b.jsonl:2:5-1",
            "metadata.json:1",
            "../x.jsonl:1",
            ".state.jsonl:1",
            "a.jsonl:18446744073709551616",
            &many,
            &"a".repeat(CURSOR_BYTES_MAX + 1),
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text}");
        }
    }
}
