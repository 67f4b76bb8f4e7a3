//! The agent's output as one stream: the `content` of consecutive `task:output` events is scanned as if it were one text.
//! What its end leaves open, so that a mark would stand there, is held back until it is decided; when it cannot wait any longer
//! it goes. A [`Carry`] tells the next call how the text went on, also where nothing was open.

use std::{cmp::Reverse, ops::Range};

use serde::{Deserialize, Serialize};

use task_logger_plugin::json::{NotJson, decode};

use crate::{
    event::{Counts, push_mark},
    left::{REACH, is_trivial, left},
    scan::{Context, Edge, Match, Open, Scanner},
};

/// Kind whose events are one text.
pub(crate) const KIND: &str = "task:output";
/// Most events that one decision waits for, within a call.
const PIECES_MAX: usize = 256;
/// Most text that one decision waits for, in bytes.
const BYTES_MAX: usize = 1 << 20;

/// What is kept between calls: where the rules stood. Canonical text only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carry {
    context: Option<Context>,
    /// The mark is written: what is left of the secret is blanked.
    marked: bool,
}

/// A carry as the plugin's state.
#[derive(Serialize, Deserialize)]
struct State {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    open: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    value: Option<(usize, usize)>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    left: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    marked: bool,
}

/// Text of one event, undecided.
#[derive(Debug)]
struct Piece {
    event: usize,
    text: String,
}

/// An event's decided text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) event: usize,
    /// `None`: as it was.
    pub(crate) text: Option<String>,
    pub(crate) counts: Counts,
}

/// The stream of one call.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    scanner: &'a Scanner,
    carry: Carry,
    pieces: Vec<Piece>,
}

// === impl Carry ===

impl Carry {
    /// Reads a state; one that cannot be read is none.
    pub(crate) fn parse(state: &str) -> Self {
        let Ok(state) = serde_json::from_str::<State>(state) else { return Self::default() };
        let value = state.value.map(|(index, taken)| Context::Value { index, taken });
        let context = state.open.map(Context::Text).or(value).or(state.left.map(Context::Left));
        Self { context, marked: state.marked }
    }

    /// The state, empty for none.
    pub(crate) fn state(&self) -> String {
        let mut state = State { open: None, value: None, left: None, marked: self.marked };
        match &self.context {
            None => return String::new(),
            Some(Context::Text(text)) => state.open = Some(text.clone()),
            Some(Context::Left(text)) => state.left = Some(text.clone()),
            Some(Context::Value { index, taken }) => state.value = Some((*index, *taken)),
        }
        serde_json::to_string(&state).unwrap_or_default()
    }

    /// After a text with nothing open in it.
    fn left(text: String) -> Self {
        Self { context: (!text.is_empty()).then_some(Context::Left(text)), marked: false }
    }
}

// === impl Stream ===

impl<'a> Stream<'a> {
    pub(crate) fn new(scanner: &'a Scanner, carry: Carry) -> Self {
        Self { scanner, carry, pieces: Vec::new() }
    }

    /// Whether nothing is open.
    pub(crate) fn is_idle(&self) -> bool {
        self.pieces.is_empty() && matches!(self.carry.context, None | Some(Context::Left(_)))
    }

    /// Whether a text, undecoded, has nothing to do with what was left before it.
    pub(crate) fn is_apart(&self, raw: &str) -> bool {
        match (&self.carry.context, raw.as_bytes().first()) {
            (Some(Context::Left(text)), Some(first)) => is_trivial(text, *first),
            (context, _) => context.is_none(),
        }
    }

    /// Goes past a text, undecoded, in which there is nothing.
    pub(crate) fn pass(&mut self, raw: &str) -> Result<(), NotJson> {
        if raw.is_empty() {
            return Ok(());
        }
        // What is before the last line does not matter to what it leaves.
        let line = last_line(raw);
        let last = raw.get(line..).unwrap_or_default();
        let bytes = last.as_bytes();
        if bytes.is_empty() {
            self.carry = Carry::default();
            return Ok(());
        }
        let from = bytes.len().saturating_sub(REACH);
        // What a backslash means may stand before it.
        let decoded = memchr::memchr(b'\\', &bytes[from..]).map(|_| decode(last)).transpose()?;
        let text = decoded.as_ref().map_or(bytes, |text| text.as_bytes());
        let mut tail = Vec::with_capacity(2 * REACH);
        if text.len() >= REACH {
            tail.push(b'!');
        } else if line == 0 {
            let before = self.carry.context.as_ref().and_then(|context| self.scanner.context_text(context));
            tail.extend(before.unwrap_or_default().as_bytes());
        }
        tail.extend(&text[text.len().saturating_sub(REACH)..]);
        self.carry = Carry::left(left(self.scanner.names(), &tail, 0));
        Ok(())
    }

    /// The first event that is undecided.
    pub(crate) fn held(&self) -> Option<usize> {
        self.pieces.first().map(|piece| piece.event)
    }

    pub(crate) fn into_carry(self) -> Carry {
        self.carry
    }

    /// Takes an event's text; what is decided by it goes to `out`.
    pub(crate) fn push(&mut self, event: usize, text: String, out: &mut Vec<Decided>) {
        self.pieces.push(Piece { event, text });
        let bytes: usize = self.pieces.iter().map(|piece| piece.text.len()).sum();
        self.settle(self.pieces.len() >= PIECES_MAX || bytes >= BYTES_MAX, out);
    }

    /// Decides whatever is left.
    pub(crate) fn flush(&mut self, out: &mut Vec<Decided>) {
        if !self.pieces.is_empty() {
            self.settle(true, out);
        }
    }

    fn settle(&mut self, now: bool, out: &mut Vec<Decided>) {
        let before =
            self.carry.context.as_ref().and_then(|context| self.scanner.context_text(context)).unwrap_or_default();
        let base = before.len();
        let mut text = String::with_capacity(base + self.pieces.iter().map(|piece| piece.text.len()).sum::<usize>());
        text.push_str(before);
        let ranges: Vec<Range<usize>> = self
            .pieces
            .iter()
            .map(|piece| {
                let start = text.len();
                text.push_str(&piece.text);
                start..text.len()
            })
            .collect();
        let mut found = self.scanner.scan(&text, Edge::Open);
        // A secret whose mark is out is blanked as it comes: nothing to wait for.
        let running = found.opens.iter().any(|open| open.start < base) && self.carry.marked;
        let waiting = found.opens.iter().map(|open| open.start).min().filter(|_| !running);
        let hold = match (now, waiting) {
            (false, Some(start)) => hold_from(&ranges, start.max(base), base, &found.matches),
            _ => self.pieces.len(),
        };
        if hold == 0 {
            return;
        }
        let carry = if hold < self.pieces.len() {
            let at = ranges[hold].start;
            Carry::left(self.left_at(&text, at, &found.matches))
        } else {
            self.carry_on(&text, base, &mut found.matches, &found.opens)
        };
        for (piece, range) in self.pieces.drain(..hold).zip(ranges) {
            out.push(decide(&piece, &text, range, base, self.carry.marked, &found.matches));
        }
        self.carry = carry;
    }

    /// Ends with something open: redacts what is there of it, and keeps how it goes on.
    fn carry_on(&self, text: &str, base: usize, matches: &mut Vec<Match>, opens: &[Open]) -> Carry {
        let running = opens.iter().filter(|open| self.carry.marked && open.start < base);
        // What is redacted goes on, before what might begin in it.
        if let Some(open) = running.max_by_key(|open| (open.redact.is_some(), open.context.len())) {
            *matches = vec![Match { from: 0, start: 0, end: text.len(), code: "" }];
            return Carry { context: Some(open.context.clone()), marked: true };
        }
        let certain = opens.iter().filter(|open| open.redact.is_some()).min_by_key(|open| open.redact);
        let Some(open) = certain else {
            // Of several at one place the longest tells most: `sb_secret` is a name, and the beginning of a token too.
            let open = opens.iter().min_by_key(|open| (open.start, open.named, Reverse(open.context.len())));
            let Some(open) = open else { return Carry::left(self.left_at(text, text.len(), matches)) };
            return Carry { context: Some(open.context.clone()), marked: false };
        };
        let start = open.redact.unwrap_or(text.len());
        let first = matches.iter().position(|found| found.end > start).unwrap_or(matches.len());
        let (start, code) = match matches.get(first) {
            Some(found) if found.start < start => (found.start, found.code),
            _ => (start, open.code),
        };
        matches.truncate(first);
        matches.push(Match { from: start, start, end: text.len(), code });
        Carry { context: Some(open.context.clone()), marked: true }
    }

    fn left_at(&self, text: &str, at: usize, matches: &[Match]) -> String {
        let secret = matches.iter().map(|found| found.end).filter(|end| *end <= at).max();
        left(self.scanner.names(), &text.as_bytes()[..at], secret.unwrap_or_default())
    }
}

/// Where the last line of a text begins, undecoded.
fn last_line(raw: &str) -> usize {
    let bytes = raw.as_bytes();
    // The backslash of a line's end is not escaped itself.
    let is_escape = |at: usize| bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0;
    let is_end = |at: &usize| bytes.get(at + 1) == Some(&b'n') && is_escape(*at);
    memchr::memrchr_iter(b'\\', bytes).find(is_end).map_or(0, |at| at + 2)
}

/// The first piece to hold: the one that `start` lies in, or an earlier one that a match shares with it.
fn hold_from(ranges: &[Range<usize>], start: usize, base: usize, matches: &[Match]) -> usize {
    let piece_of = |at: usize| ranges.iter().position(|range| at < range.end).unwrap_or(ranges.len());
    let mut hold = piece_of(start);
    while let Some(boundary) = ranges.get(hold).map(|range| range.start).filter(|_| hold > 0) {
        match matches.iter().find(|found| found.from < boundary && found.end > boundary) {
            Some(found) => hold = piece_of(found.from.max(base)).min(hold - 1),
            None => break,
        }
    }
    hold
}

/// A piece with its part of the matches replaced: the mark where a match begins, nothing where it goes on.
fn decide(piece: &Piece, text: &str, range: Range<usize>, base: usize, marked: bool, matches: &[Match]) -> Decided {
    let mut counts = Counts::new();
    let mut out = String::new();
    let mut copied = range.start;
    let mut changed = false;
    for found in matches.iter().filter(|found| found.end > range.start && found.start < range.end) {
        changed = true;
        out.push_str(text.get(copied..found.start.max(range.start)).unwrap_or_default());
        // What began in the text that a context stands for has its mark there, or gets it now.
        let begins = if found.start < base { !marked && range.start == base } else { found.start >= range.start };
        if begins {
            push_mark(&mut out, found.code);
            counts.push(found.code);
        }
        copied = found.end.min(range.end);
    }
    if !changed {
        return Decided { event: piece.event, text: None, counts };
    }
    out.push_str(text.get(copied..range.end).unwrap_or_default());
    Decided { event: piece.event, text: Some(out), counts }
}
