//! Which records a reader wants: by kind, tool, severity, time and text. One filter for a page, a stream, an archive and the
//! command line.

use std::{borrow::Cow, ops::Range};

use jiff::Timestamp;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::text;

/// Longest `q` and longest regular expression, in bytes.
const PATTERN_BYTES_MAX: usize = 1000;
/// Memory that a compiled regular expression may take, and the one of its lazily built automaton, in bytes.
const PATTERN_SIZES: (usize, usize) = (1 << 20, 4 << 20);

/// What a record must be to be wanted; empty lists and `None` want all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Values of `type`, or of `stage` in the webhook flow.
    pub kinds: Vec<String>,
    /// Names of tools.
    pub tools: Vec<String>,
    /// The least severity.
    pub level: Option<Level>,
    /// The earliest timestamp.
    pub since: Option<Timestamp>,
    /// Before this timestamp.
    pub until: Option<Timestamp>,
    /// What some text of the record must match.
    pub text: Option<Pattern>,
}

/// What some text of a record must match.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// How severe a record is: `level` when the producer says so, else by what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Level {
    /// Only when a producer says so.
    Debug,
    /// Everything else.
    #[default]
    Info,
    /// An entry that stands as a gap; what a producer calls a warning.
    Warn,
    /// A failed tool, an error.
    Error,
}

/// Why a filter cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// The regular expression is malformed.
    #[error("is no regular expression of the supported kind (linear time, without look-around and backreferences)")]
    Regex,
    /// The pattern is too long or would take too much memory.
    #[error("is longer than {PATTERN_BYTES_MAX} bytes, or needs too much memory")]
    TooLarge,
    /// Neither a timestamp nor a duration.
    #[error("is neither a time like 2026-01-31T10:00:00Z nor a duration like 15m")]
    Time,
    /// Not one of the levels.
    #[error("is none of debug, info, warn, error")]
    Level,
}

/// What a filter and a count see of a record.
#[derive(Debug, Default)]
pub struct Seen<'r> {
    /// `timestamp` as it stands.
    pub timestamp: Option<Cow<'r, str>>,
    /// `type`, or `stage`.
    pub kind: Option<Cow<'r, str>>,
    /// The tool's name.
    pub tool: Option<Cow<'r, str>>,
    /// The severity.
    pub level: Level,
}

// === impl Filter ===

impl Filter {
    /// Whether everything is wanted.
    pub fn is_empty(&self) -> bool {
        self.text.is_none() && !self.looks_at_members()
    }

    /// Whether a record is wanted.
    pub fn wants(&self, line: &[u8]) -> bool {
        if self.looks_at_members() && !self.wants_members(&Seen::of(line)) {
            return false;
        }
        self.text.as_ref().is_none_or(|pattern| pattern.is_in(line))
    }

    /// The same for a record that has been looked at.
    pub fn wants_seen(&self, seen: &Seen<'_>, line: &[u8]) -> bool {
        self.wants_members(seen) && self.text.as_ref().is_none_or(|pattern| pattern.is_in(line))
    }

    fn looks_at_members(&self) -> bool {
        !self.kinds.is_empty()
            || !self.tools.is_empty()
            || self.level.is_some()
            || self.since.is_some()
            || self.until.is_some()
    }

    fn wants_members(&self, seen: &Seen<'_>) -> bool {
        let among = |wanted: &[String], value: &Option<Cow<'_, str>>| {
            wanted.is_empty() || value.as_ref().is_some_and(|value| wanted.iter().any(|one| one == value))
        };
        among(&self.kinds, &seen.kind)
            && among(&self.tools, &seen.tool)
            && self.level.is_none_or(|least| seen.level >= least)
            && (self.since.is_none() && self.until.is_none() || self.wants_time(seen))
    }

    /// A record whose time nobody can read is in no span of time.
    fn wants_time(&self, seen: &Seen<'_>) -> bool {
        let Some(at) = seen.timestamp.as_ref().and_then(|text| text.parse::<Timestamp>().ok()) else { return false };
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

/// Reads a time as people write it: RFC 3339, or so long before `now`.
pub fn time(text: &str, now: Timestamp) -> Result<Timestamp, InvalidFilter> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let before = text.parse::<jiff::SignedDuration>().map_err(|_| InvalidFilter::Time)?;
    now.checked_sub(before.abs()).map_err(|_| InvalidFilter::Time)
}

// === impl Pattern ===

impl Pattern {
    /// A text that must occur, whatever its case.
    pub fn literal(text: &str) -> Result<Self, InvalidFilter> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(InvalidFilter::TooLarge);
        }
        Self::build(RegexBuilder::new(&regex::escape(text)).case_insensitive(true))
    }

    /// A regular expression of linear time.
    pub fn regex(text: &str) -> Result<Self, InvalidFilter> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(InvalidFilter::TooLarge);
        }
        Self::build(&mut RegexBuilder::new(text))
    }

    fn build(builder: &mut RegexBuilder) -> Result<Self, InvalidFilter> {
        let built = builder.size_limit(PATTERN_SIZES.0).dfa_size_limit(PATTERN_SIZES.1).build();
        built.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => InvalidFilter::TooLarge,
            _ => InvalidFilter::Regex,
        })
    }

    /// Whether some text of the record matches: its strings as they were before they became JSON, and its numbers; not its
    /// keys, not its `id` and `timestamp`.
    pub fn is_in(&self, line: &[u8]) -> bool {
        self.find(line, |_, _| ())
    }

    /// The same; the first text that matches is shown with where it does.
    pub fn find(&self, line: &[u8], mut found: impl FnMut(&str, Range<usize>)) -> bool {
        let mut hit = false;
        text::each(line, &mut |text| {
            if let Some(at) = self.0.find(text) {
                found(text, at.range());
                hit = true;
            }
            !hit
        });
        hit
    }
}

// === impl Level ===

impl Level {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// Reads a name, in any case.
    pub fn parse(text: &str) -> Result<Self, InvalidFilter> {
        Self::of_name(text).ok_or(InvalidFilter::Level)
    }

    fn of_name(text: &str) -> Option<Self> {
        let is = |name: &str| text.eq_ignore_ascii_case(name);
        match () {
            () if is("debug") || is("trace") => Some(Self::Debug),
            () if is("info") || is("notice") => Some(Self::Info),
            () if is("warn") || is("warning") => Some(Self::Warn),
            () if is("error") || is("fatal") || is("critical") => Some(Self::Error),
            () => None,
        }
    }
}

// === impl Seen ===

impl<'r> Seen<'r> {
    /// Looks at a record's own members; what has another form than expected is not there.
    pub fn of(line: &'r [u8]) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Members<'r> {
            #[serde(borrow)]
            timestamp: Option<&'r RawValue>,
            #[serde(borrow, rename = "type")]
            kind: Option<&'r RawValue>,
            #[serde(borrow)]
            stage: Option<&'r RawValue>,
            #[serde(borrow)]
            name: Option<&'r RawValue>,
            #[serde(borrow)]
            tool_name: Option<&'r RawValue>,
            #[serde(borrow)]
            tool: Option<&'r RawValue>,
            #[serde(borrow)]
            level: Option<&'r RawValue>,
            #[serde(borrow)]
            is_error: Option<&'r RawValue>,
        }
        let Ok(members) = serde_json::from_slice::<Members<'_>>(line) else { return Self::default() };
        let kind = members.kind.and_then(string).or_else(|| members.stage.and_then(string));
        let of_tool = matches!(kind.as_deref(), Some("tool_call" | "tool_result"));
        let tool = [members.name.filter(|_| of_tool), members.tool_name, members.tool];
        let level = match members.level.and_then(string).and_then(|name| Level::of_name(&name)) {
            Some(level) => level,
            None if members.is_error.is_some_and(|value| value.get() == "true") => Level::Error,
            None => match kind.as_deref() {
                Some("error") => Level::Error,
                Some("gap") => Level::Warn,
                _ => Level::Info,
            },
        };
        Self {
            timestamp: members.timestamp.and_then(string),
            kind,
            tool: tool.into_iter().flatten().find_map(string),
            level,
        }
    }
}

/// A JSON string's text, borrowed where it holds no escape.
fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'t>(#[serde(borrow)] Cow<'t, str>);
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        false => Some(Cow::Borrowed(inner)),
        true => serde_json::from_str::<Text<'_>>(value.get()).ok().map(|text| text.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOL: &[u8] = br#"{"timestamp":"2026-01-01T00:00:10Z","type":"tool_result","content":"line one\nSay \"hi\" \u00e9","name":"Bash","is_error":true,"code":503,"id":"5-1"}"#;
    const STAGE: &[u8] = br#"{"timestamp":"x","stage":"received","data":{"level":"debug","name":"n"},"id":"5-2"}"#;
    const GAP: &[u8] =
        br#"{"timestamp":"2026-01-01T00:00:20Z","type":"gap","kind":"task:output","reason":"bad_json","id":"5-3"}"#;

    #[test]
    fn records_are_chosen_by_what_they_are() {
        let of = |set: &dyn Fn(&mut Filter)| {
            let mut filter = Filter::default();
            set(&mut filter);
            [TOOL, STAGE, GAP].map(|line| {
                assert_eq!(filter.wants(line), filter.wants_seen(&Seen::of(line), line));
                filter.wants(line)
            })
        };
        assert_eq!(of(&|_| {}), [true, true, true]);
        assert_eq!(of(&|filter| filter.kinds = vec!["tool_result".into(), "received".into()]), [true, true, false]);
        assert_eq!(of(&|filter| filter.tools = vec!["Bash".into()]), [true, false, false]);
        assert_eq!(of(&|filter| filter.level = Some(Level::Warn)), [true, false, true]);
        assert_eq!(of(&|filter| filter.level = Some(Level::Error)), [true, false, false]);
        assert_eq!(of(&|filter| filter.since = "2026-01-01T00:00:20Z".parse().ok()), [false, false, true]);
        assert_eq!(of(&|filter| filter.until = "2026-01-01T00:00:20Z".parse().ok()), [true, false, false]);
    }

    #[test]
    fn text_is_searched_as_people_read_it() {
        let found = |text: &str| [TOOL, STAGE, GAP].map(|line| Pattern::literal(text).unwrap().is_in(line));
        assert_eq!(found("say \"HI\""), [true, false, false]);
        assert_eq!(found("one\nsay"), [true, false, false]);
        assert_eq!(found("É"), [true, false, false]);
        assert_eq!(found("503"), [true, false, false]);
        assert_eq!(found("bad_json"), [false, false, true]);
        // Keys, ids and timestamps are not what one searches.
        assert_eq!(found("content"), [false; 3]);
        assert_eq!(found("5-1"), [false; 3]);
        assert_eq!(found("2026"), [false; 3]);
        let regex = |text: &str| Pattern::regex(text).map(|pattern| pattern.is_in(TOOL));
        assert_eq!(regex("^line .ne$"), Ok(false));
        assert_eq!(regex("(?m)^line .ne$"), Ok(true));
        assert_eq!(regex("(a)\\1"), Err(InvalidFilter::Regex));
        assert_eq!(regex("("), Err(InvalidFilter::Regex));
        assert_eq!(regex("(\\w{1000}){1000}"), Err(InvalidFilter::TooLarge));
        assert_eq!(regex(&"a".repeat(PATTERN_BYTES_MAX + 1)), Err(InvalidFilter::TooLarge));
    }

    #[test]
    fn the_first_text_that_matches_is_shown() {
        let mut shown = Vec::new();
        let pattern = Pattern::literal("hi").unwrap();
        assert!(pattern.find(TOOL, |text, at| shown.push((text.to_owned(), at))));
        assert_eq!(shown, [("line one\nSay \"hi\" é".to_owned(), 14..16)]);
    }

    #[test]
    fn times_are_absolute_or_so_long_ago() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let read = |text: &str| time(text, now).map(|at| at.to_string());
        assert_eq!(read("15m").as_deref(), Ok("2026-01-01T11:45:00Z"));
        assert_eq!(read("1h30m").as_deref(), Ok("2026-01-01T10:30:00Z"));
        assert_eq!(read("2025-12-31T23:00:00+01:00").as_deref(), Ok("2025-12-31T22:00:00Z"));
        for wrong in ["", "yesterday", "15", "99999999999999h"] {
            assert_eq!(read(wrong), Err(InvalidFilter::Time), "{wrong}");
        }
    }

    #[test]
    fn members_of_another_form_are_not_there() {
        let seen = Seen::of(br#"{"timestamp":5,"type":["x"],"stage":null,"tool_name":{},"level":7,"is_error":"true"}"#);
        assert!(seen.timestamp.is_none() && seen.kind.is_none() && seen.tool.is_none());
        assert_eq!(seen.level, Level::Info);
        assert_eq!(Seen::of(b"[1]").level, Level::Info);
        assert_eq!(Seen::of(br#"{"type":"a\u0062","level":"WARNING"}"#).kind.as_deref(), Some("ab"));
    }
}
