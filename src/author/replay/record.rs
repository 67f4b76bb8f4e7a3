//! From a record back to the event that left it: the inverse of `layout::record`, as far as there is one. Pure. What comes out
//! leaves the same record again; where several events leave one record, the likeliest is taken.

use super::recorded::Told;
use crate::{
    decode::UNKNOWN_KIND,
    event::StreamId,
    json::{self, Members},
    layout,
};

/// Families that keep their name in a flow's `stage`; every other stage is a `webhook:`.
const STAGED_FAMILIES: [&str; 2] = ["response", "notification"];

/// What a gap record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) kind: String,
    pub(super) timestamp: String,
    pub(super) reason: String,
}

/// The id that ends a record.
pub(super) fn id(line: &str) -> Option<StreamId> {
    let members = Members::of(line).ok()?;
    text(members.get(line, "id")?)?.parse().ok()
}

/// The gap that a line records, if it is one: an event `task:gap` has a `content`, too.
pub(super) fn gap(line: &str) -> Option<Gap> {
    let members = Members::of(line).ok()?;
    let member = |key: &str| members.get(line, key).and_then(text);
    if member("type")? != "gap" || members.contains("content") || members.contains("data") {
        return None;
    }
    Some(Gap { kind: member("kind")?, timestamp: member("timestamp")?, reason: member("reason")? })
}

/// The event that left a line of this file.
pub(super) fn told(file: &str, line: &str) -> Option<Told> {
    if let Some(gap) = gap(line) {
        // Said so that the task's status is what it was; of the event itself nothing else is known.
        let kind = Some(gap.kind).filter(|kind| kind != UNKNOWN_KIND);
        return Some(Told { kind, timestamp: Some(gap.timestamp), data: "{}".to_owned() });
    }
    let members = Members::of(line).ok()?;
    let member = |key: &str| members.get(line, key).and_then(text);
    let timestamp = Some(member("timestamp")?);
    let (kind, data) = match file {
        layout::WEBHOOK_FLOW => (flow_kind(&member("stage")?), members.get(line, "data")?.to_owned()),
        layout::OTHER_EVENTS => (member("type")?, members.get(line, "data")?.to_owned()),
        layout::USER_INPUTS => ("task:user_input".to_owned(), task_data(line, &members)),
        _ => (format!("task:{}", member("type")?), task_data(line, &members)),
    };
    Some(Told { kind: Some(kind), timestamp, data })
}

fn flow_kind(stage: &str) -> String {
    let staged = STAGED_FAMILIES.iter().find_map(|family| {
        let suffix = stage.strip_prefix(family)?.strip_prefix('_')?;
        Some(format!("{family}:{suffix}"))
    });
    staged.unwrap_or_else(|| format!("webhook:{stage}"))
}

/// The data of a task's event, whose members stand in the record itself.
fn task_data(line: &str, members: &Members) -> String {
    let all: Vec<(&str, &str)> = members.iter(line).collect();
    let structured = structured(&all);
    let mut data = Vec::with_capacity(line.len());
    for (at, (key, value)) in all.iter().enumerate() {
        let value = match *key {
            "timestamp" | "type" | "id" => continue,
            // A record always has one: most events without come from tools.
            "content" if *value == "\"\"" => continue,
            "content" => structured.as_ref().map_or(*value, |(_, content)| content),
            "data" if structured.as_ref().is_some_and(|(place, _)| *place == at) => continue,
            _ => value,
        };
        let key = match *key {
            "_field.timestamp" | "_field.type" | "_field.id" => key.trim_start_matches("_field."),
            "_field.data" if structured.is_some() => "data",
            key => key,
        };
        data.push(if data.is_empty() { b'{' } else { b',' });
        json::push_string(&mut data, key);
        data.push(b':');
        data.extend_from_slice(value.as_bytes());
    }
    if data.is_empty() {
        data.push(b'{');
    }
    data.push(b'}');
    // Pieces of one text, cut at characters.
    String::from_utf8(data).unwrap_or_else(|_| "{}".to_owned())
}

/// A `content` that was no string stands as its text, and itself under `data` right after. The place of that `data`, and the
/// value's text.
fn structured(all: &[(&str, &str)]) -> Option<(usize, String)> {
    let place = all.windows(2).position(|pair| pair[0].0 == "content" && pair[1].0 == "data")? + 1;
    let (_, value) = all.get(place)?;
    let content = text(all.get(place - 1)?.1)?;
    let mut safe = Vec::with_capacity(content.len());
    json::push_line_safe(&mut safe, &content);
    (safe == value.as_bytes() && !value.starts_with('"')).then_some((place, content))
}

fn text(value: &str) -> Option<String> {
    serde_json::from_str(value).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        event::{Event, Id, Key},
        layout::record::{file_of, place, push_event},
    };

    fn written(kind: &str, data: &str) -> String {
        let event = Event {
            id: StreamId { ms: 7, seq: 1 },
            kind: kind.into(),
            key: Key::Task(Id::parse("t").unwrap()),
            task: None,
            timestamp: Arc::from("2026-01-01T00:00:00Z"),
            timestamp_ms: 0,
            data: data.to_owned(),
            says_failed: false,
            size: 0,
        };
        let mut line = Vec::new();
        push_event(&mut line, &event, data, &Members::of(data).unwrap());
        line.pop();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn what_comes_back_leaves_the_same_record() {
        for (kind, data) in [
            ("task:output", r#"{"task_id":"t","content":"a\nb","n":1.50,"u":{"a":[1, 2]}}"#),
            ("task:output", r#"{"content":"","n":1e5}"#),
            ("task:tool_call", r#"{"name":"Bash","input":{"command":"ls"}}"#),
            ("task:thinking", r#"{"type":"x","id":"toolu","timestamp":1,"content":{"k": [1]},"data":2}"#),
            ("task:output", "{\"content\":[\"a\u{2028}b\"],\"x\":\"\u{85}\"}"),
            ("task:output", r#"{"content":null}"#),
            ("task:output", r#"{"content":"5","data":5}"#),
            ("task:output", r#"{"data":5,"content":"5"}"#),
            ("task:output", r#"{"content":"x","data":{"a":1},"_field.data":3}"#),
            ("task:gap", r#"{"kind":"k","reason":"r"}"#),
            ("task:custom.thing", "{}"),
            ("task:user_input", r#"{"content":"yes","question_type":"plan","more":true}"#),
            ("task:user_input", r#"{"content":"yes"}"#),
            ("webhook:received", "{\"provider\": \"g\u{2028}\"}"),
            ("webhook:response_x", "{}"),
            ("response:immediate", r#"{"a":1}"#),
            ("notification:ops", "{}"),
            ("knowledge:query", r#"{"n":41.5}"#),
        ] {
            let line = written(kind, data);
            let told = told(file_of(place(kind)), &line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(written(told.kind.as_deref().unwrap(), &told.data), line, "{kind} {data}");
            assert_eq!(id(&line), Some(StreamId { ms: 7, seq: 1 }));
            assert_eq!(gap(&line), None);
        }
    }

    #[test]
    fn gaps_are_told_from_events() {
        let line = r#"{"timestamp":"T","type":"gap","kind":"task:output","reason":"bad_json","id":"7-1"}"#;
        let expected = Gap { kind: "task:output".into(), timestamp: "T".into(), reason: "bad_json".into() };
        assert_eq!(gap(line), Some(expected));
        let unknown = line.replace("task:output", UNKNOWN_KIND);
        assert_eq!(told(layout::OTHER_EVENTS, &unknown).unwrap().kind, None);
    }
}
