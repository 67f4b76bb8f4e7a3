//! One task as lists show it, read from its documents. Everything in them comes from producers: whatever has another type, or
//! is too long, is unknown, and never an error.

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::{decode::timestamp, event::Id, json::Members, layout};

/// Longest title, in characters.
const TITLE_CHARS_MAX: usize = 200;
/// Longest source, agent, model or status, in characters.
const NAME_CHARS_MAX: usize = 100;
/// Longest time, in bytes; none that parses is longer.
const TIME_BYTES_MAX: usize = 64;
/// Above it a number with a fraction part does not tell whole numbers apart.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// What a list says of a task; `None` is unknown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The id as the producer wrote it.
    pub task_id: Id,
    /// `created`, `running`, `completed` or `failed`.
    #[serde(serialize_with = "shared")]
    pub status: Option<Arc<str>>,
    /// Where the task came from.
    #[serde(serialize_with = "shared")]
    pub source: Option<Arc<str>>,
    /// `assigned_agent`.
    #[serde(serialize_with = "shared")]
    pub agent: Option<Arc<str>>,
    /// The task's `model`, else the first one that the plugin `usage` saw.
    #[serde(serialize_with = "shared")]
    pub model: Option<Arc<str>>,
    /// First line of the task's input.
    pub title: Option<Box<str>>,
    /// From the envelope, as stored.
    pub created_at: Option<Box<str>>,
    /// From the envelope, as stored.
    pub started_at: Option<Box<str>>,
    /// From the envelope, as stored.
    pub completed_at: Option<Box<str>>,
    /// As reported, else from start to end.
    pub duration_seconds: Option<f64>,
    /// As reported.
    pub cost_usd: Option<f64>,
    /// As reported.
    pub input_tokens: Option<u64>,
    /// As reported.
    pub output_tokens: Option<u64>,
    /// As reported.
    pub turns: Option<u64>,
    /// As reported.
    pub tool_calls: Option<u64>,
    /// Tool calls that failed, and one more when the task failed.
    pub errors: Option<u64>,
    /// Sum of all plugins' `redactions`.
    pub redactions: Option<u64>,
    /// When `metadata.json` last changed.
    #[serde(serialize_with = "as_text")]
    pub updated_at: Timestamp,
}

/// What a list of tasks can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `created_at`.
    Created,
    /// `started_at`.
    Started,
    /// `completed_at`.
    Completed,
    /// `duration_seconds`.
    Duration,
    /// `cost_usd`.
    Cost,
    /// Input and output together.
    Tokens,
    /// `errors`.
    Errors,
    /// The id alone.
    Id,
}

/// The place of what is unknown: behind everything else.
pub(super) const UNKNOWN: u64 = u64::MAX;

// === impl Field ===

impl Field {
    /// All of them, each at its own number.
    pub const ALL: [Self; 8] = [
        Self::Created,
        Self::Started,
        Self::Completed,
        Self::Duration,
        Self::Cost,
        Self::Tokens,
        Self::Errors,
        Self::Id,
    ];

    /// Its name in queries.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Duration => "duration",
            Self::Cost => "cost",
            Self::Tokens => "tokens",
            Self::Errors => "errors",
            Self::Id => "id",
        }
    }
}

// === impl Row ===

impl Row {
    /// Reads `metadata.json`, and what that does not tell from `other` documents, each asked for at most once.
    pub(super) fn read(
        id: &Id,
        metadata: &[u8],
        mut other: impl FnMut(&'static str) -> Vec<u8>,
        updated_at: Timestamp,
    ) -> Self {
        let metadata = Object::of(metadata);
        let annotations = metadata.object("annotations");
        let usage = annotations.object("usage");
        let title = metadata.title("input_message").or_else(|| Object::of(&other(layout::INPUT)).title("message"));
        let mut row = Self {
            task_id: id.clone(),
            status: metadata.name("status"),
            source: metadata.name("source"),
            agent: metadata.name("assigned_agent"),
            model: metadata.name("model").or_else(|| usage.first_name("models")),
            title,
            created_at: metadata.time("created_at"),
            started_at: metadata.time("started_at"),
            completed_at: metadata.time("completed_at"),
            duration_seconds: usage.number("duration_seconds"),
            cost_usd: usage.number("cost_usd"),
            input_tokens: usage.count("input_tokens"),
            output_tokens: usage.count("output_tokens"),
            turns: usage.count("num_turns"),
            tool_calls: usage.count("tool_calls"),
            errors: usage.count("tool_errors"),
            redactions: annotations.redactions(),
            updated_at,
        };
        row.complete(other);
        row
    }

    /// A task of which nothing can be read.
    pub(super) fn unknown(id: &Id) -> Self {
        Self::read(id, b"", |_| Vec::new(), Timestamp::UNIX_EPOCH)
    }

    /// Fills what only the result, or a second thought, tells.
    fn complete(&mut self, mut other: impl FnMut(&'static str) -> Vec<u8>) {
        if self.duration_seconds.is_none()
            || self.cost_usd.is_none()
            || self.input_tokens.is_none()
            || self.output_tokens.is_none()
            || self.turns.is_none()
        {
            let text = other(layout::FINAL_RESULT);
            let result = Object::of(&text);
            let metrics = result.object("metrics");
            self.duration_seconds = self.duration_seconds.or_else(|| metrics.number("duration_seconds"));
            self.cost_usd = self.cost_usd.or_else(|| metrics.number("cost_usd"));
            self.input_tokens = self.input_tokens.or_else(|| metrics.count("input_tokens"));
            self.output_tokens = self.output_tokens.or_else(|| metrics.count("output_tokens"));
            self.turns = self.turns.or_else(|| result.count("num_turns"));
        }
        if self.duration_seconds.is_none()
            && let (Some(start), Some(end)) = (milliseconds(&self.started_at), milliseconds(&self.completed_at))
            && end >= start
        {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds between two times of one calendar fit")]
            let seconds = (end - start) as f64 / 1000.0;
            self.duration_seconds = Some(seconds);
        }
        if self.status.as_deref() == Some("failed") {
            self.errors = Some(self.errors.unwrap_or(0).saturating_add(1));
        }
    }

    /// Whether more is to be expected of it.
    pub(super) fn goes_on(&self) -> bool {
        !matches!(self.status.as_deref(), Some("completed" | "failed"))
    }

    /// Its place when sorted by a field, without the id: greater values have greater places.
    pub(super) fn rank(&self, by: Field) -> u64 {
        let whole = |n: u64| n.min(UNKNOWN - 1);
        let time = |text| milliseconds(text).map(|ms| whole(ms.cast_unsigned() ^ (1 << 63)));
        // The bits of floats that are not negative are in their order.
        let number = |value: Option<f64>| value.map(|value| whole(value.to_bits()));
        let rank = match by {
            Field::Created => time(&self.created_at),
            Field::Started => time(&self.started_at),
            Field::Completed => time(&self.completed_at),
            Field::Duration => number(self.duration_seconds),
            Field::Cost => number(self.cost_usd),
            Field::Tokens => match (self.input_tokens, self.output_tokens) {
                (None, None) => None,
                (input, output) => Some(whole(input.unwrap_or(0).saturating_add(output.unwrap_or(0)))),
            },
            Field::Errors => self.errors.map(whole),
            Field::Id => Some(0),
        };
        rank.unwrap_or(UNKNOWN)
    }

    /// What a text is searched in.
    pub(super) fn searched(&self) -> String {
        format!("{}\n{}", self.task_id, self.title.as_deref().unwrap_or_default())
    }
}

/// The place of a time among the values of [`Row::rank`].
pub(super) fn rank_of_time(time: Timestamp) -> u64 {
    (time.as_millisecond().cast_unsigned() ^ (1 << 63)).min(UNKNOWN - 1)
}

fn milliseconds(text: &Option<Box<str>>) -> Option<i64> {
    timestamp::parse(text.as_deref()?)
}

fn as_text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

// Not by serde's feature: a change of its features compiles all that stands on it anew.
fn shared<S: Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_deref().serialize(serializer)
}

/// An object of a document, or nothing.
struct Object<'t> {
    text: &'t str,
    members: Members,
}

// === impl Object ===

impl<'t> Object<'t> {
    fn of(text: &'t [u8]) -> Self {
        Self::of_text(std::str::from_utf8(text).unwrap_or_default())
    }

    fn of_text(text: &'t str) -> Self {
        match Members::of(text) {
            Ok(members) => Self { text, members },
            Err(_) => Self { text: "", members: Members::default() },
        }
    }

    fn raw(&self, key: &str) -> Option<&'t str> {
        self.members.get(self.text, key)
    }

    fn object(&self, key: &str) -> Object<'t> {
        Object::of_text(self.raw(key).unwrap_or_default())
    }

    fn name(&self, key: &str) -> Option<Arc<str>> {
        name(self.raw(key)?)
    }

    fn first_name(&self, key: &str) -> Option<Arc<str>> {
        let all: Vec<&serde_json::value::RawValue> = serde_json::from_str(self.raw(key)?).ok()?;
        name(all.first()?.get())
    }

    fn title(&self, key: &str) -> Option<Box<str>> {
        let message = text(self.raw(key)?)?;
        let line = message.lines().map(str::trim).find(|line| !line.is_empty())?;
        Some(cut(line, TITLE_CHARS_MAX).into())
    }

    fn time(&self, key: &str) -> Option<Box<str>> {
        let time = text(self.raw(key)?)?;
        (!time.is_empty() && time.len() <= TIME_BYTES_MAX).then(|| time.into())
    }

    fn number(&self, key: &str) -> Option<f64> {
        number(self.raw(key)?)
    }

    fn count(&self, key: &str) -> Option<u64> {
        count(self.raw(key)?)
    }

    /// Of annotations: what all plugins say that they redacted, as a number or as numbers by rule.
    fn redactions(&self) -> Option<u64> {
        let of_plugin = |annotations: &'t str| {
            let raw = Object::of_text(annotations).raw("redactions")?;
            let by_rule = Object::of_text(raw);
            let rules = by_rule.members.iter(by_rule.text).filter_map(|(_, raw)| count(raw));
            count(raw).or_else(|| rules.reduce(u64::saturating_add))
        };
        let all = self.members.iter(self.text).filter_map(|(_, annotations)| of_plugin(annotations));
        all.reduce(u64::saturating_add)
    }
}

fn text(raw: &str) -> Option<Cow<'_, str>> {
    // serde takes no `Cow` apart without a copy; short texts without an escape are most of them.
    match raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        Some(_) => serde_json::from_str(raw).ok().map(Cow::Owned),
        None => None,
    }
}

fn name(raw: &str) -> Option<Arc<str>> {
    let name = text(raw)?;
    (!name.is_empty()).then(|| cut(&name, NAME_CHARS_MAX).into())
}

fn number(raw: &str) -> Option<f64> {
    let number: f64 = serde_json::from_str(raw).ok()?;
    // Also gives zero one sign.
    (number.is_finite() && number >= 0.0).then_some(number.abs())
}

fn count(raw: &str) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, not negative, and it fits")]
    let whole = |number: f64| (number.fract() == 0.0 && number <= WHOLE_MAX).then_some(number as u64);
    serde_json::from_str(raw).ok().or_else(|| number(raw).and_then(whole))
}

/// At most so many characters; a text that was longer ends with `…`.
fn cut(text: &str, chars: usize) -> Cow<'_, str> {
    match text.char_indices().nth(chars) {
        None => Cow::Borrowed(text),
        Some(_) => Cow::Owned(text.chars().take(chars - 1).chain(['…']).collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn row(metadata: &str, input: &str, result: &str) -> Row {
        let id = Id::parse("t").unwrap();
        let other = |name| if name == layout::INPUT { input.into() } else { result.into() };
        Row::read(&id, metadata.as_bytes(), other, Timestamp::UNIX_EPOCH)
    }

    fn shown(metadata: &str, input: &str, result: &str) -> Value {
        serde_json::to_value(row(metadata, input, result)).unwrap()
    }

    #[test]
    fn a_row_holds_what_the_documents_tell() {
        let metadata = r#"{"source":"github","assigned_agent":"brain","input_message":"\n  Fix \"it\"  \nplease",
            "annotations":{"usage":{"cost_usd":0.5,"duration_seconds":17.42,"input_tokens":13313,"output_tokens":482.0,
            "models":["m-1","m-2"],"num_turns":5,"tool_calls":4,"tool_errors":1},"redact":{"redactions":{"a":2,"b":3}},
            "other":{"redactions":4}},"created_at":"2026-01-01T00:00:00Z","status":"failed"}"#;
        let expected = json!({"task_id": "t", "status": "failed", "source": "github", "agent": "brain", "model": "m-1",
            "title": "Fix \"it\"", "created_at": "2026-01-01T00:00:00Z", "started_at": null, "completed_at": null,
            "duration_seconds": 17.42, "cost_usd": 0.5, "input_tokens": 13313, "output_tokens": 482, "turns": 5,
            "tool_calls": 4, "errors": 2, "redactions": 9, "updated_at": "1970-01-01T00:00:00Z"});
        assert_eq!(shown(metadata, r#"{"message":"not asked for"}"#, r#"{"num_turns":9}"#), expected);
    }

    #[test]
    fn the_other_documents_fill_what_the_metadata_lacks() {
        let metadata = r#"{"status":"completed","started_at":"2026-01-01T00:00:01.500Z","completed_at":"2026-01-01T01:00:00+01:00"}"#;
        let shown = shown(
            metadata,
            r#"{"message":"hello"}"#,
            r#"{"metrics":{"cost_usd":1,"input_tokens":2,"output_tokens":3},"num_turns":4}"#,
        );
        let taken = ["title", "cost_usd", "input_tokens", "output_tokens", "turns", "duration_seconds", "errors"];
        let taken: Vec<_> = taken.iter().map(|key| shown[key].clone()).collect();
        // It would have ended before it began: that is no duration.
        assert_eq!(json!(taken), json!(["hello", 1.0, 2, 3, 4, null, null]));
        let ended =
            r#"{"status":"completed","started_at":"2026-01-01T00:00:01.500Z","completed_at":"2026-01-01T00:00:04Z"}"#;
        assert_eq!(row(ended, "", "").duration_seconds, Some(2.5));
    }

    #[test]
    fn what_has_another_type_is_unknown() {
        let unknown = json!({"task_id": "t", "status": null, "source": null, "agent": null, "model": null, "title": null,
            "created_at": null, "started_at": null, "completed_at": null, "duration_seconds": null, "cost_usd": null,
            "input_tokens": null, "output_tokens": null, "turns": null, "tool_calls": null, "errors": null,
            "redactions": null, "updated_at": "1970-01-01T00:00:00Z"});
        let wrong = [
            "",
            "{",
            "[]",
            "7",
            "null",
            "\"status\"",
            "{\"status\":NaN}",
            "\u{0}",
            "{\"status\":\"\\ud800\"}",
            r#"{"status":7,"source":["a"],"assigned_agent":{"a":1},"model":true,"input_message":{"text":"x"},"created_at":1,
                "started_at":[],"annotations":{"usage":{"cost_usd":"0.5","duration_seconds":-1,"input_tokens":1.5,
                "output_tokens":1e300,"num_turns":null,"tool_calls":[3],"tool_errors":-2,"models":[]},
                "redact":{"redactions":"7"},"x":7,"y":{"redactions":{"a":{}}}}}"#,
            r#"{"annotations":[],"status":"","source":"","created_at":"","input_message":" \n\t\n"}"#,
            r#"{"annotations":{"usage":{"cost_usd":1e999,"models":"m"}}}"#,
        ];
        for metadata in wrong {
            assert_eq!(shown(metadata, metadata, metadata), unknown, "{metadata:.100}");
        }
        let deep = format!("{{\"x\":{}{},\"status\":\"running\"}}", "[".repeat(50_000), "]".repeat(50_000));
        assert_eq!(row(&deep, "", "").status.as_deref(), Some("running"));
    }

    #[test]
    fn texts_of_producers_are_cut() {
        let long = "é".repeat(5000);
        let metadata = json!({"status": long, "source": long, "model": long, "input_message": long, "created_at": long,
            "assigned_agent": "é".repeat(NAME_CHARS_MAX)});
        let row = row(&metadata.to_string(), "", "");
        let chars = |text: Option<&str>| text.map(|text| (text.chars().count(), text.ends_with('…')));
        assert_eq!(chars(row.status.as_deref()), Some((NAME_CHARS_MAX, true)));
        assert_eq!(chars(row.agent.as_deref()), Some((NAME_CHARS_MAX, false)));
        assert_eq!(chars(row.title.as_deref()), Some((TITLE_CHARS_MAX, true)));
        assert_eq!(row.created_at, None);
    }

    #[test]
    fn ranks_are_in_the_order_of_values() {
        let of = |by, metadata: &str| row(metadata, "", "").rank(by);
        let times =
            ["1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00.001Z"];
        let times = times.map(|time| of(Field::Created, &json!({"created_at": time}).to_string()));
        assert!(times.is_sorted() && times[3] < UNKNOWN);
        assert_eq!(of(Field::Created, r#"{"created_at":"yesterday"}"#), UNKNOWN);
        let costs = ["0", "-0.0", "1e-9", "0.5", "3", "1e300"];
        let costs =
            costs.map(|cost| of(Field::Cost, &format!(r#"{{"annotations":{{"usage":{{"cost_usd":{cost}}}}}}}"#)));
        assert!(costs.is_sorted() && costs[0] == costs[1] && costs[5] < UNKNOWN);
        let tokens = format!(r#"{{"annotations":{{"usage":{{"input_tokens":{0},"output_tokens":{0}}}}}}}"#, u64::MAX);
        assert_eq!(of(Field::Tokens, &tokens), UNKNOWN - 1);
    }
}
