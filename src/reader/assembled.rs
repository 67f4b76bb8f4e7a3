//! The body of `GET /tasks/{id}/logs`: one object with a key for each file that exists. The files are read twice in constant
//! memory, first to check and measure (so the length and the number of skipped records are known before the first byte),
//! then to send. Records are passed on as they stand; one that is no JSON is skipped and counted.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use serde_json::value::RawValue;

use super::{Folder, PublicFile, ReadError, Section, failed};
use crate::layout;

/// Longest record that is sent, in bytes, and longest static file: far above what an event can become.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// Keys in the order of the body, their files, and whether these hold a record a line.
const PARTS: [(&str, &str, bool); 6] = [
    ("metadata", layout::METADATA, false),
    ("input", layout::INPUT, false),
    ("webhook_flow", layout::WEBHOOK_FLOW, true),
    ("agent_output", layout::AGENT_OUTPUT, true),
    ("user_inputs", layout::USER_INPUTS, true),
    ("final_result", layout::FINAL_RESULT, false),
];

/// A body that is ready to be sent.
pub struct TaskLogs {
    reader: Box<dyn Read + Send>,
    len: u64,
    skipped: u64,
}

/// The records of a file, a line each.
struct Lines<R> {
    from: R,
    limit: u64,
    line: Vec<u8>,
    skipped: u64,
    blank: bool,
}

/// Records without a flaw: only the newlines become commas.
struct Joined(Section);

/// Records among flaws: the good ones, joined by commas.
struct Filtered {
    lines: Lines<BufReader<Section>>,
    ready: Cursor<Vec<u8>>,
    first: bool,
}

// === impl TaskLogs ===

impl Default for TaskLogs {
    fn default() -> Self {
        Self { reader: Box::new(io::empty()), len: 0, skipped: 0 }
    }
}

impl TaskLogs {
    pub(super) fn prepare(folder: &Folder, limit: u64) -> Result<Self, ReadError> {
        let mut found = Vec::new();
        let mut size = 0;
        for (key, name, lines) in PARTS {
            if let Some(file) = folder.open(name)? {
                size += file.len();
                found.push((key, file, lines));
            }
        }
        if size > limit {
            return Err(ReadError::TooLarge { size, limit });
        }
        let mut logs = Self::default();
        let mut open = "{";
        for (key, file, lines) in found {
            let added = match lines {
                true => logs.add_lines(open, key, &file)?,
                false => logs.add_static(open, key, &file)?,
            };
            if added {
                open = ",";
            }
        }
        logs.push_text(if open == "{" { "{}".to_owned() } else { "}".to_owned() });
        Ok(logs)
    }

    /// Length of the body in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: there is at least an empty object.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Records and static files that are no JSON and were left out.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The body.
    pub fn into_reader(self) -> Box<dyn Read + Send> {
        self.reader
    }

    fn add_static(&mut self, open: &str, key: &str, file: &PublicFile) -> Result<bool, ReadError> {
        let mut text = Vec::new();
        if file.len() <= RECORD_BYTES_MAX {
            file.part(0, file.len())?.read_to_end(&mut text).map_err(failed("read a file"))?;
        }
        if !is_json(&text) {
            self.skipped += 1;
            return Ok(false);
        }
        self.push_text(format!("{open}\"{key}\":"));
        self.push(file.part(0, file.len())?, file.len());
        Ok(true)
    }

    fn add_lines(&mut self, open: &str, key: &str, file: &PublicFile) -> Result<bool, ReadError> {
        let mut lines = Lines::new(BufReader::new(file.part(0, file.len())?), RECORD_BYTES_MAX);
        let (mut records, mut bytes) = (0, 0);
        while let Some(line) = lines.next().map_err(failed("read a file"))? {
            records += 1;
            bytes += line.len() as u64;
        }
        self.skipped += lines.skipped;
        self.push_text(format!("{open}\"{key}\":["));
        let joined = bytes + u64::saturating_sub(records, 1);
        if records > 0 && lines.skipped == 0 && !lines.blank {
            self.push(Joined(file.part(0, file.len())?), joined);
        } else if records > 0 {
            let lines = Lines::new(BufReader::new(file.part(0, file.len())?), RECORD_BYTES_MAX);
            self.push(Filtered { lines, ready: Cursor::default(), first: true }, joined);
        }
        self.push_text("]".to_owned());
        Ok(true)
    }

    pub(super) fn push_text(&mut self, text: String) {
        let len = text.len() as u64;
        self.push(Cursor::new(text), len);
    }

    pub(super) fn push(&mut self, part: impl Read + Send + 'static, len: u64) {
        let before = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        self.reader = Box::new(before.chain(part.take(len)));
        self.len += len;
    }
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(text).is_ok()
}

// === impl Lines ===

impl<R: BufRead> Lines<R> {
    fn new(from: R, limit: u64) -> Self {
        Self { from, limit, line: Vec::new(), skipped: 0, blank: false }
    }

    /// The next line that is JSON, without its newline.
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            self.line.clear();
            let got = (&mut self.from).take(self.limit).read_until(b'\n', &mut self.line)?;
            if got == 0 {
                return Ok(None);
            }
            let ended = self.line.pop_if(|last| *last == b'\n').is_some();
            if !ended && got as u64 == self.limit {
                self.line = Vec::new();
                self.from.skip_until(b'\n')?;
                self.skipped += 1;
            } else if self.line.trim_ascii().is_empty() {
                // A blank line is no record: the predecessor's readers pass over it too.
                self.blank = true;
            } else if is_json(&self.line) {
                break;
            } else {
                self.skipped += 1;
            }
        }
        Ok(Some(&self.line))
    }
}

// === impl Joined ===

impl Read for Joined {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.0.read(into)?;
        // A newline cannot stand inside a record, so each one is between two.
        into[..got].iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b',');
        Ok(got)
    }
}

// === impl Filtered ===

impl Read for Filtered {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let got = self.ready.read(into)?;
            if got > 0 || into.is_empty() {
                return Ok(got);
            }
            let mut buffer = std::mem::take(&mut self.ready).into_inner();
            buffer.clear();
            let Some(line) = self.lines.next()? else { return Ok(0) };
            if !std::mem::replace(&mut self.first, false) {
                buffer.push(b',');
            }
            buffer.extend_from_slice(line);
            self.ready = Cursor::new(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_too_long_is_passed_over_in_bounded_memory() {
        let long = format!("\"{}\"\n", "x".repeat(100));
        for (text, good, skipped) in [
            (format!("1\n{long}2\n"), vec!["1", "2"], 1),
            (format!("{long}{long}3\n"), vec!["3"], 2),
            // With its newline as long as the limit, and a byte longer.
            ("12345678\n1\n".to_owned(), vec!["1"], 1),
            ("1234567\n1\n".to_owned(), vec!["1234567", "1"], 0),
            ("1\n12345678".to_owned(), vec!["1"], 1),
        ] {
            let mut lines = Lines::new(text.as_bytes(), 8);
            let mut found = Vec::new();
            while let Some(line) = lines.next().unwrap() {
                found.push(String::from_utf8(line.to_vec()).unwrap());
            }
            assert_eq!((found, lines.skipped), (good.into_iter().map(str::to_owned).collect(), skipped), "{text}");
            assert!(lines.line.capacity() < 100);
        }
    }
}
