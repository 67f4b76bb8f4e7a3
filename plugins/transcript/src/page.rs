//! The page of one task: what an event adds to it. Append-only and a pure function of the events in order, so that any
//! slicing of them writes the same bytes.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::markdown::{clock, code, embedded, fenced, head, quoted};

/// Tool calls remembered by id, so that a result can name its tool.
const CALLS_MAX: usize = 64;
/// Longest id or name that is remembered, in bytes.
const NAME_BYTES_MAX: usize = 100;
/// Longest argument shown in its line, in characters; longer ones get a block.
const INLINE_MAX: usize = 120;

/// The sidecar's `[config]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Lines of a tool's result that are shown.
    pub result_lines: usize,
    /// Lines of a tool's argument that are shown.
    pub argument_lines: usize,
    /// Whether thinking is shown (collapsed).
    pub thinking: bool,
}

/// The page as it is continued by a slice of events.
pub struct Page<'a> {
    config: &'a Config,
    task: &'a str,
    state: State,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    /// Whether the page has its title.
    begun: bool,
    /// Who spoke last: a new heading stands where the speaker changes.
    speaker: Speaker,
    calls: VecDeque<(String, String)>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Speaker {
    #[default]
    Nobody,
    Agent,
    Other,
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self { result_lines: 40, argument_lines: 80, thinking: true }
    }
}

// === impl Page ===

impl<'a> Page<'a> {
    /// Goes on where the state says; a state that cannot be read begins a new page.
    pub fn resume(config: &'a Config, task: &'a str, state: &str) -> Self {
        Self { config, task, state: serde_json::from_str(state).unwrap_or_default() }
    }

    /// What to keep for the next slice.
    pub fn into_state(self) -> String {
        if self.state.begun { serde_json::to_string(&self.state).unwrap_or_default() } else { String::new() }
    }

    /// Appends what an event adds to the page. Kinds and shapes that say nothing to a reader add nothing.
    pub fn add(&mut self, kind: &str, ms: f64, data: &str, out: &mut String) {
        let Some(suffix) = kind.strip_prefix("task:") else { return };
        if !matches!(
            suffix,
            "created" | "user_input" | "thinking" | "output" | "tool_call" | "tool_result" | "completed" | "failed"
        ) || (suffix == "thinking" && !self.config.thinking)
        {
            return;
        }
        let Ok(Value::Object(data)) = serde_json::from_str(data) else { return };
        if !self.state.begun {
            self.state.begun = true;
            out.push_str("# Task ");
            code(self.task, 200, out);
            out.push('\n');
        }
        match suffix {
            "created" => self.created(&data, ms, out),
            "user_input" => self.user_input(&data, ms, out),
            "thinking" => self.thinking(&data, ms, out),
            "output" => self.output(&data, ms, out),
            "tool_call" => self.tool_call(&data, ms, out),
            "tool_result" => self.tool_result(&data, ms, out),
            "completed" => self.completed(&data, ms, out),
            _ => self.failed(&data, ms, out),
        }
    }

    fn created(&mut self, data: &Map<String, Value>, ms: f64, out: &mut String) {
        let facts = [("source", "Source"), ("assigned_agent", "Agent"), ("model", "Model"), ("session_id", "Session")];
        out.push_str("\n- Created: ");
        out.push_str(&clock(ms));
        out.push_str(" UTC\n");
        for (key, label) in facts {
            if let Some(value) = data.get(key).and_then(Value::as_str).filter(|value| !value.is_empty()) {
                out.push_str("- ");
                out.push_str(label);
                out.push_str(": ");
                code(value, 200, out);
                out.push('\n');
            }
        }
        let input = text_of(data.get("input_message"));
        if !input.trim().is_empty() {
            self.heading("Input", ms, out);
            quoted(&input, out);
        }
    }

    fn user_input(&mut self, data: &Map<String, Value>, ms: f64, out: &mut String) {
        self.heading("User", ms, out);
        if let Some(question) = data.get("question_type").and_then(Value::as_str) {
            out.push_str("Answers a question of type ");
            code(question, 100, out);
            out.push_str(".\n\n");
        }
        quoted(&text_of(data.get("content")), out);
    }

    fn thinking(&mut self, data: &Map<String, Value>, ms: f64, out: &mut String) {
        let text = text_of(data.get("content").or_else(|| data.get("thinking")));
        if text.trim().is_empty() {
            return;
        }
        self.agent(ms, out);
        out.push_str("\n<details><summary>Thinking</summary>\n\n");
        quoted(&text, out);
        out.push_str("\n</details>\n");
    }

    fn output(&mut self, data: &Map<String, Value>, ms: f64, out: &mut String) {
        let text = text_of(data.get("content"));
        if text.trim().is_empty() {
            return;
        }
        self.agent(ms, out);
        out.push('\n');
        embedded(&text, out);
    }

    fn tool_call(&mut self, data: &Map<String, Value>, ms: f64, out: &mut String) {
        let name = data.get("name").and_then(Value::as_str).unwrap_or("unknown");
        if let Some(id) = tool_id(data).filter(|id| id.len() <= NAME_BYTES_MAX && name.len() <= NAME_BYTES_MAX) {
            self.state.calls.push_back((id.to_owned(), name.to_owned()));
            if self.state.calls.len() > CALLS_MAX {
                self.state.calls.pop_front();
            }
        }
        self.agent(ms, out);
        out.push_str("\n**Tool** ");
        code(name, 100, out);
        out.push_str("\n\n");
        match data.get("input").or_else(|| data.get("tool_input")) {
            Some(Value::Object(arguments)) => {
                for (key, value) in arguments {
                    self.argument(key, &text_of(Some(value)), out);
                }
            }
            None | Some(Value::Null) => {}
            Some(other) => self.argument("input", &text_of(Some(other)), out),
        }
    }

    fn argument(&self, key: &str, value: &str, out: &mut String) {
        out.push_str("- ");
        code(key, 60, out);
        out.push(':');
        if !value.contains('\n') && value.chars().nth(INLINE_MAX).is_none() {
            out.push(' ');
            code(value, INLINE_MAX, out);
            out.push('\n');
            return;
        }
        out.push_str("\n\n");
        self.cut("", value, self.config.argument_lines, out);
        out.push('\n');
    }

    fn tool_result(&mut self, data: &Map<String, Value>, ms: f64, out: &mut String) {
        let id = tool_id(data);
        let at = self.state.calls.iter().position(|(known, _)| Some(known.as_str()) == id);
        let called = at.and_then(|at| self.state.calls.remove(at)).map(|(_, name)| name);
        self.agent(ms, out);
        let error = data.get("is_error").and_then(Value::as_bool) == Some(true);
        out.push_str(if error { "\n**❌ Error** " } else { "\n**Result** " });
        code(called.as_deref().or_else(|| data.get("name")?.as_str()).unwrap_or("unknown"), 100, out);
        out.push_str("\n\n");
        self.cut("", &text_of(data.get("content")), self.config.result_lines, out);
    }

    fn cut(&self, language: &str, text: &str, lines: usize, out: &mut String) {
        let (shown, more) = head(text, lines);
        fenced(language, shown, out);
        if more > 0 {
            out.push_str("\n… ");
            out.push_str(&more.to_string());
            out.push_str(if more == 1 { " more line\n" } else { " more lines\n" });
        }
    }

    fn completed(&mut self, data: &Map<String, Value>, ms: f64, out: &mut String) {
        let failed = data.get("status").and_then(Value::as_str) == Some("failed");
        self.heading(if failed { "❌ Failed" } else { "Result" }, ms, out);
        let result = text_of(data.get("result"));
        if !result.trim().is_empty() {
            embedded(&result, out);
            out.push('\n');
        }
        let usage = data.get("usage").and_then(Value::as_object).unwrap_or(data);
        let count = |map: &Map<String, Value>, key: &str| map.get(key).and_then(Value::as_f64);
        let mut facts = Vec::new();
        if let Some(cost) = count(data, "cost_usd") {
            facts.push(format!("${cost:.4}"));
        }
        if let Some(turns) = count(data, "num_turns") {
            facts.push(format!("{turns} turns"));
        }
        if let Some(seconds) = count(data, "duration_seconds") {
            facts.push(format!("{seconds:.1} s"));
        }
        for (key, label) in [
            ("input_tokens", "input"),
            ("output_tokens", "output"),
            ("cache_creation_input_tokens", "cache write"),
            ("cache_read_input_tokens", "cache read"),
        ] {
            if let Some(tokens) = count(usage, key) {
                facts.push(format!("{tokens} {label} tokens"));
            }
        }
        if !facts.is_empty() {
            out.push('*');
            out.push_str(&facts.join(" · "));
            out.push_str("*\n");
        }
    }

    fn failed(&mut self, data: &Map<String, Value>, ms: f64, out: &mut String) {
        self.heading("❌ Failed", ms, out);
        fenced("", &text_of(data.get("error")), out);
    }

    fn heading(&mut self, title: &str, ms: f64, out: &mut String) {
        self.state.speaker = Speaker::Other;
        out.push_str("\n## ");
        out.push_str(title);
        out.push_str(" · ");
        out.push_str(&clock(ms));
        out.push_str("\n\n");
    }

    fn agent(&mut self, ms: f64, out: &mut String) {
        if self.state.speaker != Speaker::Agent {
            self.heading("Agent", ms, out);
            // The heading's blank line is the first block's.
            out.pop();
            self.state.speaker = Speaker::Agent;
        }
    }
}

/// The text in a value: strings as they are, a list of content blocks joined, anything else as JSON.
fn text_of(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) if !blocks.is_empty() && blocks.iter().all(|block| block.get("type").is_some()) => {
            let texts: Vec<String> = blocks
                .iter()
                .map(|block| match (block.get("text"), block.get("type").and_then(Value::as_str)) {
                    (Some(text), _) => text_of(Some(text)),
                    (None, Some(kind)) => format!("[{kind}]"),
                    (None, None) => "[?]".to_owned(),
                })
                .collect();
            texts.join("\n")
        }
        Some(other) => serde_json::to_string_pretty(other).unwrap_or_default(),
    }
}

fn tool_id(data: &Map<String, Value>) -> Option<&str> {
    ["tool_use_id", "_tool_use_id", "id"].iter().find_map(|key| data.get(*key)?.as_str())
}

#[cfg(test)]
mod tests;
