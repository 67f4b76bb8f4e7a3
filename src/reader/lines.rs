//! The records of one file, front to back or back to front, in memory that only a long record grows.

use std::{fs::File, io, os::unix::fs::FileExt};

use serde_json::value::RawValue;

use crate::event::StreamId;

/// Longest record that is passed on, in bytes: far above what an event can become.
pub(super) const RECORD_BYTES_MAX: usize = 64 << 20;
/// Bytes read at once.
const BLOCK: usize = 128 << 10;
/// Bytes looked at for the end of a record's `"id"`.
const ID_TAIL: usize = 64;

/// Which way a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Forward,
    Backward,
}

/// A place in a file, and the next record from there, if it is known.
#[derive(Debug)]
pub(super) struct Lines {
    file: File,
    way: Way,
    /// Reading forward: the end of what is read. Backward: its start.
    end: u64,
    /// Where the next record begins, or ends when reading backward.
    at: u64,
    /// Bytes of the file that are in memory, and where they lie.
    held: Vec<u8>,
    held_at: u64,
    head: Option<Head>,
    /// Bytes of records that were passed over: no JSON, or too long.
    pub(super) skipped: u64,
    /// Bytes read from the file.
    pub(super) read: u64,
    /// Longest record that is passed on, in bytes.
    longest: usize,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    start: u64,
    end: u64,
    id: Option<StreamId>,
}

// === impl Lines ===

impl Lines {
    /// From `at` to `end`; both must lie between records.
    pub(super) fn new(file: File, way: Way, at: u64, end: u64) -> Self {
        let (held, longest) = (Vec::new(), RECORD_BYTES_MAX);
        Self { file, way, end, at, held, held_at: at, head: None, skipped: 0, read: 0, longest }
    }

    /// Goes on to a later end of the same file.
    pub(super) fn extend(&mut self, file: File, end: u64) {
        self.file = file;
        self.end = end;
    }

    /// Where the next record begins, or ends when reading backward: everything before, or behind, is done.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Finds the next record, if it is not known yet, and tells its entry.
    pub(super) fn head(&mut self) -> io::Result<Option<Option<StreamId>>> {
        while self.head.is_none() {
            let Some((start, end)) = self.find()? else { return Ok(None) };
            let line = self.bytes(start, end).trim_ascii();
            match line.len() <= self.longest && is_record(line) {
                true => self.head = Some(Head { start, end, id: id_of(line) }),
                // A blank line is no record, and nothing is lost with it.
                false => {
                    self.skipped += u64::from(!line.is_empty());
                    self.pass(start, end);
                }
            }
        }
        Ok(self.head.map(|head| head.id))
    }

    /// The record that [`Lines::head`] found, without its newline; where it ends, its bytes with the newline, its entry.
    pub(super) fn record(&self) -> Option<(&[u8], u64, u64, Option<StreamId>)> {
        let head = self.head?;
        let line = self.bytes(head.start, head.end);
        Some((line.strip_suffix(b"\n").unwrap_or(line), head.end, head.end - head.start, head.id))
    }

    /// Goes past that record.
    pub(super) fn advance(&mut self) {
        if let Some(head) = self.head.take() {
            self.pass(head.start, head.end);
        }
    }

    fn pass(&mut self, start: u64, end: u64) {
        self.at = match self.way {
            Way::Forward => end,
            Way::Backward => start,
        };
    }

    fn bytes(&self, start: u64, end: u64) -> &[u8] {
        let index = |at: u64| usize::try_from(at - self.held_at).unwrap_or(usize::MAX);
        self.held.get(index(start)..index(end)).unwrap_or_default()
    }

    /// The next line with its newline, loaded.
    fn find(&mut self) -> io::Result<Option<(u64, u64)>> {
        match self.way {
            Way::Forward => self.find_forward(),
            Way::Backward => self.find_backward(),
        }
    }

    fn find_forward(&mut self) -> io::Result<Option<(u64, u64)>> {
        // Bytes of the line that were looked at.
        let mut seen = 0;
        loop {
            let begin = usize::try_from(self.at - self.held_at).unwrap_or(usize::MAX);
            let rest = self.held.get(begin..).unwrap_or_default();
            if let Some(length) = memchr::memchr(b'\n', rest.get(seen..).unwrap_or_default()) {
                return Ok(Some((self.at, self.at + (seen + length) as u64 + 1)));
            }
            seen = rest.len();
            let loaded = self.held_at + self.held.len() as u64;
            if loaded >= self.end {
                return Ok(None);
            }
            if seen > self.longest {
                self.skipped += 1;
                if !self.skip_to_newline(loaded)? {
                    return Ok(None);
                }
                seen = 0;
                continue;
            }
            let held = self.held.len();
            self.held.copy_within(begin.min(held).., 0);
            self.held.truncate(held - begin.min(held));
            self.held_at = self.at;
            let want = BLOCK
                .max(seen)
                .min(BLOCK + self.longest - seen)
                .min(usize::try_from(self.end - loaded).unwrap_or(usize::MAX));
            self.held.resize(seen + want, 0);
            let got = self.read_at(seen, loaded)?;
            self.held.truncate(seen + got);
        }
    }

    /// Leaves a line that is too long; `false` when it has no end.
    fn skip_to_newline(&mut self, mut from: u64) -> io::Result<bool> {
        self.held = vec![0; BLOCK];
        while from < self.end {
            let want = BLOCK.min(usize::try_from(self.end - from).unwrap_or(BLOCK));
            self.held.resize(want, 0);
            let got = self.read_at(0, from)?;
            self.held.truncate(got);
            if let Some(length) = memchr::memchr(b'\n', &self.held) {
                self.at = from + length as u64 + 1;
                self.held_at = from;
                return Ok(true);
            }
            from += got as u64;
        }
        self.at = self.end;
        self.held.clear();
        self.held_at = self.at;
        Ok(false)
    }

    fn find_backward(&mut self) -> io::Result<Option<(u64, u64)>> {
        loop {
            if self.at <= self.end {
                return Ok(None);
            }
            let length = usize::try_from(self.at.saturating_sub(self.held_at)).unwrap_or(0).min(self.held.len());
            // The line's own newline is the last byte.
            let before = self.held.get(..length.saturating_sub(1)).unwrap_or_default();
            if let Some(newline) = memchr::memrchr(b'\n', before) {
                return Ok(Some((self.held_at + newline as u64 + 1, self.at)));
            }
            if length > 0 && self.held_at == self.end {
                return Ok(Some((self.held_at, self.at)));
            }
            if length > self.longest {
                self.skipped += 1;
                self.at = self.line_start(self.held_at)?;
                self.held.clear();
                self.held_at = self.at;
                continue;
            }
            let base = if length == 0 { self.at } else { self.held_at };
            let want = BLOCK.max(length).min(BLOCK + self.longest - length);
            let want = want.min(usize::try_from(base - self.end).unwrap_or(usize::MAX));
            self.held.truncate(length);
            let mut block = vec![0; want];
            let start = base - want as u64;
            self.file.read_exact_at(&mut block, start)?;
            self.read += want as u64;
            block.extend_from_slice(&self.held);
            self.held = block;
            self.held_at = start;
        }
    }

    /// Where the line begins that `from` lies in.
    fn line_start(&mut self, mut from: u64) -> io::Result<u64> {
        let mut block = Vec::new();
        while from > self.end {
            let want = BLOCK.min(usize::try_from(from - self.end).unwrap_or(BLOCK));
            block.resize(want, 0);
            self.file.read_exact_at(&mut block, from - want as u64)?;
            self.read += want as u64;
            if let Some(newline) = memchr::memrchr(b'\n', &block) {
                return Ok(from - want as u64 + newline as u64 + 1);
            }
            from -= want as u64;
        }
        Ok(self.end)
    }

    /// Fills what is held from `begin` on with what stands at `at`; never nothing.
    fn read_at(&mut self, begin: usize, at: u64) -> io::Result<usize> {
        let into = self.held.get_mut(begin..).unwrap_or_default();
        let got = self.file.read_at(into, at)?;
        if got == 0 {
            // The file got shorter while it was read.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read += got as u64;
        Ok(got)
    }
}

fn is_record(line: &[u8]) -> bool {
    !line.is_empty() && serde_json::from_slice::<&RawValue>(line).is_ok()
}

/// The entry that a record tells: `"id"` is its last key.
pub(super) fn id_of(line: &[u8]) -> Option<StreamId> {
    let tail = line.get(line.len().saturating_sub(ID_TAIL)..)?.strip_suffix(b"\"}")?;
    let start = memchr::memmem::rfind(tail, b",\"id\":\"")? + b",\"id\":\"".len();
    std::str::from_utf8(tail.get(start..)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LONGEST: usize = 5 * BLOCK;

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn all(text: &str, way: Way) -> Vec<String> {
        let len = text.len() as u64;
        let (at, end) = if way == Way::Forward { (0, len) } else { (len, 0) };
        let mut lines = Lines::new(file(text), way, at, end);
        lines.longest = LONGEST;
        let mut found = Vec::new();
        while lines.head().unwrap().is_some() {
            let (line, end, bytes, _) = lines.record().unwrap();
            assert_eq!(&text.as_bytes()[(end - bytes) as usize..end as usize], [line, b"\n"].concat());
            found.push(String::from_utf8(line.to_vec()).unwrap());
            lines.advance();
        }
        found
    }

    #[test]
    fn both_ways_meet_the_same_records_whatever_their_length() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..30 {
            let mut text = String::new();
            let mut good = Vec::new();
            for n in 0..rng.usize(..40) {
                match rng.u8(..8) {
                    0 => text.push('\n'),
                    1 => text.push_str("{torn\n"),
                    _ => {
                        let fill = [3, 1000, BLOCK - 20, BLOCK, 3 * BLOCK][rng.usize(..5)];
                        let line = format!("{{\"n\":{n},\"t\":\"{}\"}}", "x".repeat(rng.usize(..fill)));
                        text.push_str(&line);
                        text.push('\n');
                        good.push(line);
                    }
                }
            }
            assert!(all(&text, Way::Forward) == good);
            good.reverse();
            assert!(all(&text, Way::Backward) == good);
        }
    }

    #[test]
    fn a_record_that_is_too_long_is_passed_over_either_way() {
        for more in [0, 1, BLOCK, 2 * BLOCK, 9 * BLOCK] {
            let long = format!("\"{}\"", "x".repeat(LONGEST + more));
            let text = format!("1\n{long}\n2\n{long}\n");
            assert!(all(&text, Way::Forward) == ["1", "2"]);
            assert!(all(&text, Way::Backward) == ["2", "1"]);
        }
    }

    #[test]
    fn a_records_entry_is_its_last_key() {
        let id = |text: &str| id_of(text.as_bytes()).map(|id| id.to_string());
        assert_eq!(id(r#"{"a":1,"id":"5-1"}"#).as_deref(), Some("5-1"));
        assert_eq!(
            id(&format!(r#"{{"a":"{}","id":"18446744073709551615-18446744073709551615"}}"#, "é".repeat(90))).as_deref(),
            Some("18446744073709551615-18446744073709551615")
        );
        for none in [r#"{"id":5}"#, r#"{"id":"5-1","b":1}"#, r#"{"a":1,"id":"x"}"#, "{}", "1", ""] {
            assert_eq!(id(none), None, "{none}");
        }
    }
}
