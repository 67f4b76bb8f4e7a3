//! One line of a `.jsonl` file: the predecessor's keys first and in its order, then what producer and plugins added, `id`
//! last. Payloads are spliced, not re-encoded.

use super::{AGENT_OUTPUT, OTHER_EVENTS, USER_INPUTS, WEBHOOK_FLOW};
use crate::{
    decode::Gap,
    event::{Event, StreamId},
    json::{self, Members},
};

/// What an event of a kind becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `task:created|started|completed|failed`: absorbed by the static documents.
    Documents,
    /// A line of [`WEBHOOK_FLOW`].
    WebhookFlow,
    /// A line of [`AGENT_OUTPUT`].
    AgentOutput,
    /// A line of [`USER_INPUTS`].
    UserInputs,
    /// A line of [`OTHER_EVENTS`].
    Other,
}

/// Where events of a kind go.
pub fn place(kind: &str) -> Place {
    match kind.split_once(':') {
        Some(("task", "created" | "started" | "completed" | "failed")) => Place::Documents,
        Some(("task", "user_input")) => Place::UserInputs,
        Some(("task", _)) => Place::AgentOutput,
        Some(("webhook" | "response" | "notification", _)) => Place::WebhookFlow,
        _ => Place::Other,
    }
}

/// The file of a kind's lines; gap records of lifecycle events stand among the agent's output.
pub fn file_of(place: Place) -> &'static str {
    match place {
        Place::Documents | Place::AgentOutput => AGENT_OUTPUT,
        Place::WebhookFlow => WEBHOOK_FLOW,
        Place::UserInputs => USER_INPUTS,
        Place::Other => OTHER_EVENTS,
    }
}

/// Appends the record of an event whose data (as the chain left it) has these members.
pub fn push_event(line: &mut Vec<u8>, event: &Event, data: &str, members: &Members) {
    let mut record = Record::open(line, &event.timestamp);
    match place(&event.kind) {
        Place::WebhookFlow => {
            record.text("stage", &stage(event));
            record.raw("data", data);
        }
        Place::Other => {
            record.text("type", &event.kind);
            record.raw("data", data);
        }
        Place::UserInputs => {
            record.text("type", "user_response");
            record.raw("question_type", members.get(data, "question_type").unwrap_or("\"clarification\""));
            record.content(data, members);
            record.rest(data, members, &["type", "question_type"]);
        }
        Place::AgentOutput | Place::Documents => {
            record.text("type", event.suffix());
            record.content(data, members);
            record.rest(data, members, &["type"]);
        }
    }
    record.close(event.id);
}

/// Appends the record that stands for an entry that is not written.
pub fn push_gap(line: &mut Vec<u8>, gap: &Gap, reason: &str) {
    let mut record = Record::open(line, &gap.timestamp);
    record.text("type", "gap");
    record.text("kind", &gap.kind);
    record.text("reason", reason);
    record.close(gap.id);
}

/// `received` for `webhook:received`; other families keep their name: `response_immediate`.
fn stage(event: &Event) -> String {
    match event.family() {
        "webhook" => event.suffix().to_owned(),
        family => format!("{family}_{}", event.suffix()),
    }
}

/// A record that is being written.
struct Record<'l> {
    line: &'l mut Vec<u8>,
    /// Whether the producer's `content` went to `data`, because it is no string.
    structured: bool,
}

impl<'l> Record<'l> {
    fn open(line: &'l mut Vec<u8>, timestamp: &str) -> Self {
        line.extend_from_slice(b"{\"timestamp\":");
        json::push_string(line, timestamp);
        Self { line, structured: false }
    }

    fn key(&mut self, key: &str) {
        self.line.push(b',');
        json::push_string(self.line, key);
        self.line.push(b':');
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        json::push_string(self.line, text);
    }

    fn raw(&mut self, key: &str, value: &str) {
        self.key(key);
        json::push_line_safe(self.line, value);
    }

    /// `content` is always a string: readers join it. Another JSON value stands as its text, and itself under `data`.
    fn content(&mut self, data: &str, members: &Members) {
        match members.get(data, "content") {
            None => self.text("content", ""),
            Some(value) if value.starts_with('"') => self.raw("content", value),
            Some(value) => {
                self.text("content", value);
                self.raw("data", value);
                self.structured = true;
            }
        }
    }

    /// Every member that is not written yet. One that has a standard key's name and another value is kept as `_field.NAME`.
    fn rest(&mut self, data: &str, members: &Members, standard: &[&str]) {
        for (key, value) in members.iter(data) {
            match key {
                "content" | "question_type" if key == "content" || standard.contains(&key) => {}
                "timestamp" | "id" => self.raw(&format!("_field.{key}"), value),
                "data" if self.structured => self.raw("_field.data", value),
                "type" => self.raw("_field.type", value),
                _ => self.raw(key, value),
            }
        }
    }

    fn close(self, id: StreamId) {
        self.line.extend_from_slice(b",\"id\":\"");
        self.line.extend_from_slice(id.to_string().as_bytes());
        self.line.extend_from_slice(b"\"}\n");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Id, Key};

    #[track_caller]
    fn check(kind: &str, data: &str, expected: &str) {
        let key = Key::Task(Id::parse("t").unwrap());
        let event = Event {
            id: StreamId { ms: 7, seq: 1 },
            kind: kind.into(),
            key,
            task: None,
            timestamp: "T".into(),
            timestamp_ms: 0,
            data: data.into(),
            says_failed: false,
            size: 0,
        };
        let mut line = Vec::new();
        push_event(&mut line, &event, data, &Members::of(data).unwrap());
        assert_eq!(String::from_utf8(line).unwrap(), format!("{expected}\n"));
    }

    #[test]
    fn records_have_the_predecessors_keys_first_and_the_id_last() {
        check(
            "task:output",
            r#"{"task_id":"t","content":"a\nb"}"#,
            r#"{"timestamp":"T","type":"output","content":"a\nb","task_id":"t","id":"7-1"}"#,
        );
        check(
            "task:thinking",
            r#"{"type":"x","id":"toolu","timestamp":1,"content":{"k": [1]},"data":2}"#,
            r#"{"timestamp":"T","type":"thinking","content":"{\"k\": [1]}","data":{"k": [1]},"_field.type":"x","_field.id":"toolu","_field.timestamp":1,"_field.data":2,"id":"7-1"}"#,
        );
        check("task:custom.thing", "{}", r#"{"timestamp":"T","type":"custom.thing","content":"","id":"7-1"}"#);
        check(
            "task:user_input",
            r#"{"content":"yes"}"#,
            r#"{"timestamp":"T","type":"user_response","question_type":"clarification","content":"yes","id":"7-1"}"#,
        );
        check(
            "webhook:received",
            "{\"provider\": \"g\u{2028}\"}",
            r#"{"timestamp":"T","stage":"received","data":{"provider": "g\u2028"},"id":"7-1"}"#,
        );
        check("response:immediate", "{}", r#"{"timestamp":"T","stage":"response_immediate","data":{},"id":"7-1"}"#);
        check("knowledge:query", "{}", r#"{"timestamp":"T","type":"knowledge:query","data":{},"id":"7-1"}"#);
    }

    #[test]
    fn gaps_say_kind_and_reason_only() {
        let key = Key::Task(Id::parse("t").unwrap());
        let kind = Arc::from("task:output");
        let gap = Gap { id: StreamId { ms: 7, seq: 1 }, key, kind, timestamp: "T".into() };
        let mut line = Vec::new();
        push_gap(&mut line, &gap, "bad_json");
        let expected = r#"{"timestamp":"T","type":"gap","kind":"task:output","reason":"bad_json","id":"7-1"}"#;
        assert_eq!(String::from_utf8(line).unwrap(), format!("{expected}\n"));
    }
}
