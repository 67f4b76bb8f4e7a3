//! A record as it is given out: as JSON with its place, as a line of text, as Markdown.

use serde_json::Value;

use super::{Cursor, Record};
use crate::terminal;

/// Characters of a record's text that a line shows; the rest is counted.
const SHOWN_MAX: usize = 4000;

/// Appends `{"cursor":…,"file":…,"bytes":…,"record":…}`. With `clip` strings of more characters are cut, and the whole says so.
pub fn push_json(out: &mut Vec<u8>, record: &Record<'_>, cursor: &Cursor, clip: Option<usize>) {
    let clipped = clip.filter(|clip| record.line.len() > *clip).and_then(|clip| clipped(record.line, clip));
    // File names and cursors hold nothing that JSON escapes.
    out.extend_from_slice(
        format!("{{\"cursor\":\"{cursor}\",\"file\":\"{}\",\"bytes\":{},\"record\":", record.file, record.bytes)
            .as_bytes(),
    );
    match clipped {
        Some(text) => {
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b",\"clipped\":true}");
        }
        None => {
            out.extend_from_slice(record.line);
            out.push(b'}');
        }
    }
}

/// The record with its long strings cut; `None` when there is none.
fn clipped(line: &[u8], clip: usize) -> Option<String> {
    let mut value: Value = serde_json::from_slice(line).ok()?;
    cut_strings(&mut value, clip).then(|| value.to_string())
}

fn cut_strings(value: &mut Value, clip: usize) -> bool {
    match value {
        Value::String(text) => match text.char_indices().nth(clip) {
            Some((at, _)) => {
                text.truncate(at);
                true
            }
            None => false,
        },
        Value::Array(items) => items.iter_mut().fold(false, |cut, item| cut_strings(item, clip) | cut),
        Value::Object(members) => members.values_mut().fold(false, |cut, member| cut_strings(member, clip) | cut),
        _ => false,
    }
}

/// Appends `TIME  TYPE  text`; further lines of the text are indented. Nothing in it moves a terminal.
pub fn push_text(out: &mut String, line: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Value>(line) else {
        out.push_str("(a record that cannot be shown)\n");
        return;
    };
    let (shown, hidden) = cut(&content(&record));
    let shown = terminal::plain(&shown);
    let mut lines = shown.trim_end_matches('\n').split('\n');
    let (time, kind) = (terminal::one_line(text(&record["timestamp"]), 40), terminal::one_line(kind(&record), 40));
    out.push_str(&format!("{time}  {kind:<11}  {}\n", lines.next().unwrap_or_default()));
    for line in lines {
        out.push_str(&format!("    {line}\n"));
    }
    if hidden > 0 {
        out.push_str(&format!("    … {hidden} more characters\n"));
    }
}

/// Appends a heading and the text in a fence that nothing in it can close.
pub fn push_markdown(out: &mut String, line: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Value>(line) else { return };
    let content = terminal::plain(&content(&record));
    let (time, kind) = (terminal::one_line(text(&record["timestamp"]), 40), terminal::one_line(kind(&record), 40));
    let longest = content.split(|char| char != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let plain = |text: String| text.replace(['`', '<', '&', '[', ']', '*', '_', '\\'], " ");
    out.push_str(&format!("### {} · {}\n\n", plain(kind), plain(time)));
    if !content.is_empty() {
        out.push_str(&format!("{fence}\n{}\n{fence}\n\n", content.trim_end_matches('\n')));
    }
}

/// What a record says, by its type.
fn content(record: &Value) -> String {
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let first = |keys: &[&str]| keys.iter().map(|key| text(&record[*key])).find(|text| !text.is_empty());
    match record["type"].as_str() {
        Some("tool_call") => {
            let name = first(&["name", "tool_name"]).unwrap_or_default();
            format!("{name} {}", first(&["input", "tool_input", "content"]).unwrap_or_default())
        }
        Some("tool_result") => {
            let failed = if record["is_error"] == true { "(error) " } else { "" };
            format!("{failed}{}", first(&["content"]).unwrap_or_default())
        }
        Some("gap") => format!("{}: not written, {}", text(&record["kind"]), text(&record["reason"])),
        _ => first(&["content", "raw", "raw_output", "error", "data"]).unwrap_or_default(),
    }
}

fn kind(record: &Value) -> &str {
    record["type"].as_str().or_else(|| record["stage"].as_str()).unwrap_or("-")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn cut(text: &str) -> (String, usize) {
    match text.char_indices().nth(SHOWN_MAX) {
        None => (text.to_owned(), 0),
        Some((at, _)) => (text.get(..at).unwrap_or(text).to_owned(), text.chars().count() - SHOWN_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(line: &str, clip: Option<usize>) -> Value {
        let record = Record { file: "a.jsonl", line: line.as_bytes(), bytes: line.len() as u64 + 1 };
        let mut out = Vec::new();
        push_json(&mut out, &record, &"a.jsonl:9:5-1".parse().unwrap(), clip);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_record_stands_as_it_is_beside_its_place() {
        let line = r#"{"content":"äää","data":[{"x":"1234"}],"n":1.50}"#;
        let bytes = line.len() + 1;
        assert_eq!(
            json(line, None),
            serde_json::json!({"cursor":"a.jsonl:9:5-1","file":"a.jsonl","bytes":bytes,"record":{"content":"äää","data":[{"x":"1234"}],"n":1.5}})
        );
        assert_eq!(json(line, Some(4)), json(line, None));
        let cut = json(line, Some(3));
        assert_eq!(cut["record"], serde_json::json!({"content":"äää","data":[{"x":"123"}],"n":1.5}));
        assert_eq!(cut["clipped"], true);
    }

    #[test]
    fn text_and_markdown_hold_what_a_record_says_and_nothing_that_acts() {
        let line =
            "{\"timestamp\":\"T\",\"type\":\"output\",\"content\":\"one\\u001b[31m\\ntwo ``` `````\",\"id\":\"5-1\"}";
        let mut out = String::new();
        push_text(&mut out, line.as_bytes());
        assert_eq!(out, "T  output       one\n    two ``` `````\n");
        out.clear();
        push_markdown(&mut out, line.as_bytes());
        assert_eq!(out, "### output · T\n\n``````\none\ntwo ``` `````\n``````\n\n");
        out.clear();
        push_text(&mut out, br#"{"timestamp":"T","stage":"received","data":{"a":1},"id":"5-1"}"#);
        assert_eq!(out, "T  received     {\"a\":1}\n");
    }
}
