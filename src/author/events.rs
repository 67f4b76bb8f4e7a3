//! Events for a desk, from lines as `publish` takes them. A blank line ends a call, as if the events after it were read later;
//! a second one lets the hold limit pass. A line's own `id` (`MS-SEQ`) is its place in the stream; others are numbered on.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{
    event::{Entry, StreamId},
    ingest::{self, IngestError},
    plugin::workbench::Step,
    publish::lines::{Lines, Next},
    source::Fields,
};

/// The first id that is made up: 2023-11-14T22:13:20Z, the same every day.
const FIRST: StreamId = StreamId { ms: 1_700_000_000_000, seq: 1 };
/// Longest line taken, as a multiple of the largest event: JSON can need six bytes for one.
const LINE_FACTOR: usize = 6;

/// Why events cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The file.
    #[error("cannot read {path}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line that `publish` would refuse, too.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a file of events; `-` is standard input.
pub(super) fn read(path: &Path, event_max: usize) -> Result<Vec<Step>, EventsError> {
    let failed = |source| EventsError::Read { path: path.to_owned(), source };
    let input: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).map_err(failed)?),
    };
    parse(input, path, event_max)
}

fn parse(input: impl Read, path: &Path, event_max: usize) -> Result<Vec<Step>, EventsError> {
    let mut lines = Lines::new(input, event_max.saturating_mul(LINE_FACTOR));
    let (mut steps, mut entries, mut line) = (Vec::new(), Vec::new(), Vec::new());
    let mut last: Option<StreamId> = None;
    loop {
        let next = lines.next(&mut line).map_err(|source| EventsError::Read { path: path.to_owned(), source })?;
        let wrong = |reason: String| EventsError::Line { path: path.to_owned(), line: lines.number(), reason };
        match next {
            Next::Line if line.trim_ascii().is_empty() => match entries.is_empty() {
                false => steps.push(Step::Entries(std::mem::take(&mut entries))),
                true if steps.is_empty() => {}
                true => steps.push(Step::HoldLimit),
            },
            Next::Line => {
                let text = std::str::from_utf8(&line).map_err(|_| wrong("not UTF-8".to_owned()))?;
                let mut fields = ingest::fields_as_written(text).map_err(|error| match error {
                    IngestError::NotJson { .. } => wrong("not valid JSON".to_owned()),
                    _ => wrong("not a JSON object with fields".to_owned()),
                })?;
                let id = own_id(&mut fields).unwrap_or_else(|| last.map_or(FIRST, StreamId::next));
                if let Some(last) = last.filter(|last| id <= *last) {
                    return Err(wrong(format!("its id {id} is not above {last}, the one before")));
                }
                last = Some(id);
                entries.push(Entry { id, fields });
            }
            Next::TooLong => return Err(wrong("too long".to_owned())),
            Next::End => {
                if !entries.is_empty() {
                    steps.push(Step::Entries(entries));
                }
                steps.dedup_by(|b, a| *a == Step::HoldLimit && *b == Step::HoldLimit);
                return Ok(steps);
            }
        }
    }
}

/// Takes the line's own stream id out; an `id` that is none is the producer's and stays.
fn own_id(fields: &mut Fields) -> Option<StreamId> {
    let at = fields.iter().position(|(name, _)| name == "id")?;
    let id = std::str::from_utf8(&fields.get(at)?.1).ok()?.parse().ok()?;
    fields.remove(at);
    Some(id)
}

/// The same entries read in other portions: `Some(n)` at a time, or all at once. Where the hold limit passes stays.
pub(super) fn cut(steps: &[Step], size: Option<usize>) -> Vec<Step> {
    let mut out = Vec::new();
    let mut run: Vec<Entry> = Vec::new();
    let close = |run: &mut Vec<Entry>, out: &mut Vec<Step>| {
        let entries = std::mem::take(run);
        match size {
            Some(size) => out.extend(entries.chunks(size.max(1)).map(|chunk| Step::Entries(chunk.to_vec()))),
            None if entries.is_empty() => {}
            None => out.push(Step::Entries(entries)),
        }
    };
    for step in steps {
        match step {
            Step::Entries(entries) => run.extend(entries.iter().cloned()),
            Step::HoldLimit => {
                close(&mut run, &mut out);
                out.push(Step::HoldLimit);
            }
        }
    }
    close(&mut run, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> String {
        let steps = parse(text.as_bytes(), Path::new("e"), 1000).unwrap();
        draw(&steps)
    }

    fn draw(steps: &[Step]) -> String {
        let one = |step: &Step| match step {
            Step::Entries(entries) => entries
                .iter()
                .map(|entry| entry.id.to_string().replace("1700000000000-", ""))
                .collect::<Vec<_>>()
                .join(" "),
            Step::HoldLimit => "limit".to_owned(),
        };
        steps.iter().map(one).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn blank_lines_part_calls_and_ids_are_counted_on() {
        let line = "{\"type\":\"task:output\"}";
        assert_eq!(shape(""), "");
        assert_eq!(shape(&format!("\n\n{line}\n{line}\n\n{line}")), "1 2 | 3");
        assert_eq!(shape(&format!("{line}\n\n\n\n{line}\n")), "1 | limit | 2");
        let own = "{\"id\":\"1700000000000-7\",\"type\":\"x:y\"}";
        assert_eq!(shape(&format!("{line}\n{own}\n{line}")), "1 7 8");
        assert_eq!(shape("{\"id\":\"mine\",\"type\":\"x:y\"}"), "1", "not a stream id: the producer's own field");
    }

    #[test]
    fn what_publish_would_refuse_is_refused_with_its_line() {
        for (text, reason) in [
            ("\n{", "e, line 2: not valid JSON"),
            ("[1]", "e, line 1: not a JSON object with fields"),
            (
                "{\"a\":1}\n{\"a\":1,\"id\":\"5-1\"}",
                "e, line 2: its id 5-1 is not above 1700000000000-1, the one before",
            ),
        ] {
            assert_eq!(parse(text.as_bytes(), Path::new("e"), 1000).unwrap_err().to_string(), reason);
        }
        assert!(parse(&b"\xff"[..], Path::new("e"), 1000).unwrap_err().to_string().contains("not UTF-8"));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(7000));
        assert!(parse(long.as_bytes(), Path::new("e"), 1000).unwrap_err().to_string().contains("too long"));
    }

    #[test]
    fn portions_never_cross_the_hold_limit() {
        let line = "{\"type\":\"task:output\"}\n";
        let text = format!("{line}{line}\n{line}\n\n{line}{line}");
        let steps = parse(text.as_bytes(), Path::new("e"), 1000).unwrap();
        assert_eq!(draw(&steps), "1 2 | 3 | limit | 4 5");
        assert_eq!(draw(&cut(&steps, Some(1))), "1 | 2 | 3 | limit | 4 | 5");
        assert_eq!(draw(&cut(&steps, Some(3))), "1 2 3 | limit | 4 5");
        assert_eq!(draw(&cut(&steps, None)), "1 2 3 | limit | 4 5");
    }
}
