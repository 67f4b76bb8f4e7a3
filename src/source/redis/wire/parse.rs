//! Takes a RESP2 reply to XREAD of one stream apart without copying: notes where ids, names and values stand. Pure; can be fed as
//! the bytes arrive, and looks at none of them twice but for the entry it was in.

use std::ops::Range;

use bytes::Bytes;

use crate::event::{Entry, StreamId};

/// Longest line that announces a length, with its type and end.
const LINE_MAX: usize = 32;
/// Longest refusal.
const REFUSAL_MAX: usize = 64 << 10;
/// Longest string that a server sends.
const STRING_MAX: usize = 512 << 20;

/// Parses one reply.
#[derive(Debug, Default)]
pub(super) struct Parser {
    at: usize,
    /// Entries still to come; `None`: the reply's head was not read.
    left: Option<usize>,
    spans: Spans,
}

/// What is needed to go on, or what came.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing more can be said before there are so many bytes in all.
    Need(usize),
    Done(Outcome),
}

/// A whole reply.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nil: nothing came in time.
    Nothing,
    /// The reply to a handshake.
    Okay,
    Entries(Spans),
    Refused {
        code: String,
        text: String,
        end: usize,
    },
}

/// Where entries stand in the received bytes.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// Each entry's id and the number of fields up to its end.
    entries: Vec<(StreamId, usize)>,
    fields: Vec<(Range<usize>, Range<usize>)>,
    bytes: usize,
    end: usize,
}

/// The bytes are no such reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A step's value, or the number of bytes without which it cannot be had.
enum Step<T> {
    Got(T),
    Need(usize),
}

/// Unpacks a step, or returns what is needed from the function.
macro_rules! got {
    ($step:expr) => {
        match $step? {
            Step::Got(value) => value,
            Step::Need(length) => return Ok(Step::Need(length)),
        }
    };
}

// === impl Parser ===

impl Parser {
    /// Goes on with the bytes received so far, from the reply's first on.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Progress, Malformed> {
        let mut left = match self.left {
            Some(left) => left,
            None => match self.head(bytes)? {
                Step::Need(length) => return Ok(Progress::Need(length)),
                Step::Got(Err(outcome)) => return Ok(Progress::Done(outcome)),
                Step::Got(Ok(count)) => {
                    self.spans.entries.reserve(count.min(4096));
                    count
                }
            },
        };
        while left > 0 {
            let fields = self.spans.fields.len();
            match self.entry(bytes) {
                Ok(Step::Got(())) => left -= 1,
                Ok(Step::Need(length)) => {
                    self.spans.fields.truncate(fields);
                    self.left = Some(left);
                    return Ok(Progress::Need(length));
                }
                Err(malformed) => return Err(malformed),
            }
        }
        let mut spans = std::mem::take(&mut self.spans);
        spans.end = self.at;
        Ok(Progress::Done(Outcome::Entries(spans)))
    }

    /// The number of entries, or what came instead of them.
    fn head(&mut self, bytes: &[u8]) -> Result<Step<Result<usize, Outcome>>, Malformed> {
        let Some(&first) = bytes.first() else { return Ok(Step::Need(1)) };
        match first {
            b'-' => {
                let (line, end) = got!(line(bytes, 0, REFUSAL_MAX));
                let text = String::from_utf8_lossy(line.get(1..).unwrap_or_default()).into_owned();
                let (code, text) = text.split_once(' ').unwrap_or((&text, ""));
                return Ok(Step::Got(Err(Outcome::Refused { code: code.to_owned(), text: text.to_owned(), end })));
            }
            b'+' => {
                let (line, end) = got!(line(bytes, 0, LINE_MAX));
                return match line {
                    b"+OK" => {
                        self.at = end;
                        Ok(Step::Got(Err(Outcome::Okay)))
                    }
                    _ => Err(Malformed),
                };
            }
            _ => {}
        }
        let (streams, at) = got!(length(bytes, 0, b'*'));
        let Some(streams) = streams else { return Ok(Step::Got(Err(Outcome::Nothing))) };
        let (parts, at) = got!(length(bytes, at, b'*'));
        let (_, at) = got!(string(bytes, at));
        let (entries, at) = got!(length(bytes, at, b'*'));
        match (streams, parts, entries) {
            (1, Some(2), Some(entries)) if entries > 0 => {
                self.at = at;
                Ok(Step::Got(Ok(entries)))
            }
            _ => Err(Malformed),
        }
    }

    fn entry(&mut self, bytes: &[u8]) -> Result<Step<()>, Malformed> {
        let (parts, at) = got!(length(bytes, self.at, b'*'));
        let (id, at) = got!(string(bytes, at));
        let (flat, mut at) = got!(length(bytes, at, b'*'));
        let (Some(2), Some(flat)) = (parts, flat) else { return Err(Malformed) };
        if flat % 2 != 0 {
            return Err(Malformed);
        }
        let mut size = 0;
        for _ in 0..flat / 2 {
            let (name, next) = got!(string(bytes, at));
            let (value, next) = got!(string(bytes, next));
            size += name.len() + value.len();
            self.spans.fields.push((name, value));
            at = next;
        }
        let id = bytes.get(id).and_then(|id| std::str::from_utf8(id).ok()).and_then(|id| id.parse().ok());
        self.spans.entries.push((id.ok_or(Malformed)?, self.spans.fields.len()));
        self.spans.bytes += size;
        self.at = at;
        Ok(Step::Got(()))
    }
}

/// A line without its end, and where the next begins.
fn line(bytes: &[u8], at: usize, max: usize) -> Result<Step<(&[u8], usize)>, Malformed> {
    let rest = bytes.get(at..).unwrap_or_default();
    let rest = rest.get(..max).unwrap_or(rest);
    match rest.iter().position(|&byte| byte == b'\r') {
        Some(end) => match rest.get(end + 1) {
            Some(b'\n') => Ok(Step::Got((rest.get(..end).unwrap_or_default(), at + end + 2))),
            Some(_) => Err(Malformed),
            None if rest.len() < max => Ok(Step::Need(at + rest.len() + 1)),
            None => Err(Malformed),
        },
        None if rest.len() < max => Ok(Step::Need(at + rest.len() + 1)),
        None => Err(Malformed),
    }
}

/// The number that an array or string begins with; `None`: nil.
fn length(bytes: &[u8], at: usize, kind: u8) -> Result<Step<(Option<usize>, usize)>, Malformed> {
    let (line, next) = got!(line(bytes, at, LINE_MAX));
    let digits = match line.split_first() {
        Some((first, b"-1")) if *first == kind => return Ok(Step::Got((None, next))),
        Some((first, digits)) if *first == kind && !digits.is_empty() => digits,
        _ => return Err(Malformed),
    };
    let mut number = 0_usize;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(Malformed);
        }
        number = number.checked_mul(10).and_then(|n| n.checked_add(usize::from(digit - b'0'))).ok_or(Malformed)?;
    }
    if number > STRING_MAX { Err(Malformed) } else { Ok(Step::Got((Some(number), next))) }
}

/// Where a string stands, and what is behind it.
fn string(bytes: &[u8], at: usize) -> Result<Step<(Range<usize>, usize)>, Malformed> {
    let (length, at) = got!(length(bytes, at, b'$'));
    let end = at + length.ok_or(Malformed)?;
    match bytes.get(end..end + 2) {
        Some(b"\r\n") => Ok(Step::Got((at..end, end + 2))),
        Some(_) => Err(Malformed),
        None => Ok(Step::Need(end + 2)),
    }
}

// === impl Outcome ===

impl Outcome {
    /// Where a reply without entries ends; those with entries are still needed.
    pub(super) fn end(&self) -> Option<usize> {
        match self {
            Self::Entries(_) => None,
            Self::Nothing => Some(b"*-1\r\n".len()),
            Self::Okay => Some(b"+OK\r\n".len()),
            Self::Refused { end, .. } => Some(*end),
        }
    }
}

// === impl Spans ===

impl Spans {
    pub(super) fn last(&self) -> Option<StreamId> {
        self.entries.last().map(|(id, _)| *id)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of names and values.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The reply's length.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// The entries as slices of the received bytes.
    pub(super) fn slice(&self, received: &Bytes) -> Vec<Entry> {
        let mut from = 0;
        let entries = self.entries.iter().map(|&(id, to)| {
            let fields = self.fields.get(from..to).unwrap_or_default();
            from = to;
            let fields = fields.iter().map(|(n, v)| (received.slice(n.clone()), received.slice(v.clone()))).collect();
            Entry { id, fields }
        });
        entries.collect()
    }
}
