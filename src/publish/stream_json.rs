//! Claude Code's `--output-format stream-json` as events of one task, line by line.
//!
//! | line | events |
//! |---|---|
//! | the first, whatever it is | `task:created`, `task:started` before its own |
//! | `assistant`, a block at a time | `text` → `task:output`, `thinking` → `task:thinking`, `tool_use` → `task:tool_call` |
//! | `user`, a block at a time | `tool_result` → `task:tool_result` |
//! | `result` | `task:completed` |
//! | everything else, also unknown blocks | `task:raw_output` with the line (the block) as `raw` |
//! | end of input without a `result` | `task:failed` |
//!
//! Nothing is dropped: what a block has beside the keys that are mapped is kept under its own name.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// Tool calls without a result that are remembered, to name the tool in its result.
const OPEN_CALLS_MAX: usize = 4096;

/// An event as a producer writes it.
pub type Event = Map<String, Value>;

/// Turns lines into events.
#[derive(Debug)]
pub struct Translator {
    task: String,
    announce: bool,
    began: bool,
    ended: bool,
    /// Names of tools by the id of the call.
    open_calls: HashMap<String, String>,
}

// === impl Translator ===

impl Translator {
    /// For a task; with `announce` the first line is preceded by `task:created` and `task:started`.
    pub fn new(task: impl Into<String>, announce: bool) -> Self {
        Self { task: task.into(), announce, began: false, ended: false, open_calls: HashMap::new() }
    }

    /// The events of a line, in order. A blank line has none.
    pub fn line(&mut self, line: &[u8], events: &mut Vec<Event>) {
        if line.trim_ascii().is_empty() {
            return;
        }
        self.begin(events);
        let parsed = parse(line);
        let before = events.len();
        if let Some(Value::Object(object)) = parsed {
            match object.get("type").and_then(Value::as_str) {
                Some("assistant") => self.assistant(object, events),
                Some("user") => self.user(object, events),
                Some("result") => self.result(object, events),
                _ => {}
            }
        }
        if events.len() == before {
            self.raw(&String::from_utf8_lossy(line), Map::new(), events);
        }
    }

    /// In place of a line that is too large to be an event.
    pub fn too_large(&mut self, number: u64, events: &mut Vec<Event>) {
        self.begin(events);
        let data = object(json!({"raw": "", "error": "too_large", "line": number}));
        self.push("task:raw_output", data, events);
    }

    /// The events of the input's end.
    pub fn end(&mut self, events: &mut Vec<Event>) {
        self.begin(events);
        if !self.ended {
            self.ended = true;
            self.push("task:failed", object(json!({"error": "stream ended"})), events);
        }
    }

    fn begin(&mut self, events: &mut Vec<Event>) {
        if !self.began {
            self.began = true;
            if self.announce {
                self.push("task:created", object(json!({"source": "stream-json"})), events);
                self.push("task:started", Map::new(), events);
            }
        }
    }

    fn assistant(&mut self, mut line: Event, events: &mut Vec<Event>) {
        let Some(Value::Object(mut message)) = line.shift_remove("message") else { return };
        let common = object(json!({
            "message_id": message.shift_remove("id"),
            "model": message.shift_remove("model"),
            "usage": message.shift_remove("usage"),
            "parent_tool_use_id": line.shift_remove("parent_tool_use_id"),
        }));
        for block in blocks(message.shift_remove("content")) {
            let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
            let (event, data) = match (kind, block.get(kind)) {
                ("text", Some(Value::String(_))) => ("task:output", renamed(block, &[("text", "content")])),
                ("thinking", Some(Value::String(_))) => ("task:thinking", renamed(block, &[("thinking", "content")])),
                ("tool_use", _) => {
                    self.remember(&block);
                    ("task:tool_call", renamed(block, &[("name", "name"), ("input", "input"), ("id", "_tool_use_id")]))
                }
                _ => {
                    self.raw(&text(Value::Object(block)), common.clone(), events);
                    continue;
                }
            };
            self.push(event, merged(data, &common), events);
        }
    }

    fn user(&mut self, mut line: Event, events: &mut Vec<Event>) {
        let Some(Value::Object(mut message)) = line.shift_remove("message") else { return };
        let blocks = blocks(message.shift_remove("content"));
        let is_result = |block: &Event| block.get("type").is_some_and(|kind| kind == "tool_result");
        if !blocks.iter().any(is_result) {
            return;
        }
        let common = object(json!({"parent_tool_use_id": line.shift_remove("parent_tool_use_id")}));
        // The tool's own, structured account; it stands once a line.
        let mut account = line.shift_remove("tool_use_result");
        for mut block in blocks {
            if !is_result(&block) {
                self.raw(&text(Value::Object(block)), common.clone(), events);
                continue;
            }
            let id = block.shift_remove("tool_use_id").unwrap_or_default();
            let mut data = Map::new();
            if let Some(name) = id.as_str().and_then(|id| self.open_calls.remove(id)) {
                data.insert("name".into(), name.into());
            }
            let (content, structured) = flattened(block.shift_remove("content"));
            data.insert("content".into(), content.into());
            data.insert("is_error".into(), block.shift_remove("is_error").unwrap_or(Value::Bool(false)));
            data.insert("_tool_use_id".into(), id);
            if let Some(structured) = structured {
                data.insert("content_blocks".into(), structured);
            }
            if let Some(account) = account.take() {
                data.insert("tool_use_result".into(), account);
            }
            block.shift_remove("type");
            let data = merged(merged(data, &block), &common);
            self.push("task:tool_result", data, events);
        }
    }

    fn result(&mut self, mut line: Event, events: &mut Vec<Event>) {
        self.ended = true;
        line.shift_remove("type");
        let said = line.shift_remove("is_error").and_then(|value| value.as_bool());
        let failed = said.unwrap_or_else(|| {
            line.get("subtype").and_then(Value::as_str).is_some_and(|subtype| subtype.starts_with("error"))
        });
        let result = line
            .shift_remove("result")
            .or_else(|| line.get("errors").cloned().map(|errors| flattened(Some(errors)).0.into()));
        let usage = line.shift_remove("usage").unwrap_or_default();
        let duration = line.shift_remove("duration_ms").and_then(|ms| ms.as_f64()).map(|ms| ms / 1000.0);
        let data = object(json!({
            "status": if failed { "failed" } else { "completed" },
            "result": result,
            "input_tokens": usage.get("input_tokens"),
            "output_tokens": usage.get("output_tokens"),
            "usage": usage,
            "num_turns": line.shift_remove("num_turns"),
            "duration_seconds": duration,
            "cost_usd": line.shift_remove("total_cost_usd"),
        }));
        self.push("task:completed", merged(data, &line), events);
    }

    fn raw(&self, raw: &str, common: Event, events: &mut Vec<Event>) {
        let data = merged(object(json!({ "raw": raw })), &common);
        self.push("task:raw_output", data, events);
    }

    fn remember(&mut self, call: &Event) {
        if let (Some(Value::String(id)), Some(Value::String(name))) = (call.get("id"), call.get("name")) {
            // Only an input that never answers its calls comes here; its results go without a name.
            if self.open_calls.len() >= OPEN_CALLS_MAX {
                self.open_calls.clear();
            }
            self.open_calls.insert(id.clone(), name.clone());
        }
    }

    fn push(&self, kind: &str, data: Event, events: &mut Vec<Event>) {
        let now = jiff::Timestamp::now();
        events.push(object(json!({
            "type": kind,
            "timestamp": format!("{now:.3}"),
            "task_id": self.task,
            "data": data,
        })));
    }
}

/// A line's value; lone surrogates, which JSON can write and UTF-8 cannot, become U+FFFD.
fn parse(line: &[u8]) -> Option<Value> {
    if let Ok(value) = serde_json::from_slice(line) {
        return Some(value);
    }
    let text = std::str::from_utf8(line).ok()?;
    serde_json::from_str(&mend_surrogates(text)?).ok()
}

/// The text with lone surrogate escapes replaced; `None` when there are none.
fn mend_surrogates(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let unit = |at: usize| -> Option<u16> {
        let hex = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
    };
    let mut mended = Vec::with_capacity(bytes.len());
    let (mut at, mut changed) = (0, false);
    while let Some(&byte) = bytes.get(at) {
        let length = match (byte, unit(at)) {
            (b'\\', Some(0xd800..=0xdbff)) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => 12,
            (b'\\', Some(0xd800..=0xdfff)) => {
                mended.extend_from_slice(b"\\ufffd");
                (at, changed) = (at + 6, true);
                continue;
            }
            (b'\\', _) => 2,
            _ => 1,
        };
        mended.extend_from_slice(bytes.get(at..(at + length).min(bytes.len()))?);
        at += length;
    }
    changed.then(|| String::from_utf8(mended).ok())?
}

/// A message's content: blocks, or a text that stands for one block.
fn blocks(content: Option<Value>) -> Vec<Event> {
    match content {
        Some(Value::Array(blocks)) => blocks
            .into_iter()
            .map(|block| match block {
                Value::Object(block) => block,
                other => object(json!({ "type": "text", "text": text(other) })),
            })
            .collect(),
        Some(Value::String(text)) => vec![object(json!({ "type": "text", "text": text }))],
        _ => Vec::new(),
    }
}

/// A tool result's content as one text, and as it came when that was not a text.
fn flattened(content: Option<Value>) -> (String, Option<Value>) {
    match content {
        None | Some(Value::Null) => (String::new(), None),
        Some(Value::String(text)) => (text, None),
        Some(Value::Array(blocks)) => {
            let texts: Vec<_> =
                blocks.iter().filter_map(|block| block.as_str().or_else(|| block.get("text")?.as_str())).collect();
            (texts.join("\n"), Some(Value::Array(blocks)))
        }
        Some(other) => (other.to_string(), Some(other)),
    }
}

/// The block with the named keys first, under their new names, and without its `type`.
fn renamed(mut block: Event, names: &[(&str, &str)]) -> Event {
    block.shift_remove("type");
    let mut data: Event =
        names.iter().filter_map(|(old, new)| Some(((*new).to_owned(), block.shift_remove(*old)?))).collect();
    for (key, value) in block {
        data.entry(key).or_insert(value);
    }
    data
}

/// `more` added to `data`, which wins.
fn merged(mut data: Event, more: &Event) -> Event {
    for (key, value) in more {
        data.entry(key.clone()).or_insert_with(|| value.clone());
    }
    data
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn object(value: Value) -> Event {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests;
