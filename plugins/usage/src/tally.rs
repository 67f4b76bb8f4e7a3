//! The count of one task, event by event. Bounded: at most [`NAMES_MAX`] tools and models, [`OPEN_CALLS_MAX`] unanswered
//! tool calls and [`SEEN_MAX`] message ids are remembered, so that the state stays far below the 64 KiB that a plugin may keep.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Tools and models kept by name; more are counted together as `other`.
pub const NAMES_MAX: usize = 64;
/// Tool calls that wait for their result; the oldest is forgotten first.
pub const OPEN_CALLS_MAX: usize = 128;
/// Message ids remembered. A message's events follow each other closely: the window is far wider than any seen.
pub const SEEN_MAX: usize = 256;
/// Longest name kept, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// What a task has used so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    status: Status,
    started_ms: Option<f64>,
    ended_ms: Option<f64>,
    duration_seconds: Option<f64>,
    cost_usd: Option<f64>,
    num_turns: Option<u64>,
    messages: u64,
    subagent_messages: u64,
    counted: Tokens,
    reported: Option<Tokens>,
    models: BTreeMap<String, ModelUse>,
    tools: BTreeMap<String, ToolUse>,
    open: VecDeque<OpenCall>,
    seen: VecDeque<u64>,
    last: Tokens,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    #[default]
    Running,
    Completed,
    Failed,
}

/// Token counts as the model's API names them; cache reads and writes have prices of their own and stay apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Tokens {
    input_tokens: u64,
    output_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct ModelUse {
    messages: u64,
    #[serde(flatten)]
    tokens: Tokens,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct ToolUse {
    calls: u64,
    results: u64,
    errors: u64,
    seconds: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OpenCall {
    id: u64,
    tool: String,
    ms: f64,
}

// === impl Tally ===

impl Tally {
    /// Whether an event can change the count: spares most events their parsing.
    pub fn wants(kind: &str, data: &str) -> bool {
        match kind {
            "task:created" | "task:started" | "task:completed" | "task:failed" | "task:tool_call"
            | "task:tool_result" => true,
            _ => kind.starts_with("task:") && data.contains("\"message_id\""),
        }
    }

    /// The count that [`Tally::to_state`] wrote; an empty one for anything else.
    pub fn from_state(state: &str) -> Self {
        serde_json::from_str(state).unwrap_or_default()
    }

    /// The count as the plugin's state.
    pub fn to_state(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Counts one event; whether anything changed. Odd shapes count for nothing.
    pub fn add(&mut self, kind: &str, ms: f64, data: &str) -> bool {
        let Ok(Value::Object(data)) = serde_json::from_str(data) else { return false };
        // JSON, and so the state, has no NaN.
        let ms = if ms.is_finite() { ms } else { 0.0 };
        let mut changed = self.started_ms.is_none();
        if changed {
            self.started_ms = Some(ms);
        }
        changed |= self.message(&data);
        match kind {
            "task:tool_call" => self.call(&data, ms),
            "task:tool_result" => self.result(&data, ms),
            "task:completed" => self.completed(&data, ms),
            "task:failed" => self.end(Status::Failed, ms),
            _ => return changed,
        }
        true
    }

    /// Every event of a message repeats the message's id and usage: it counts once, with the largest numbers that its
    /// consecutive events showed.
    fn message(&mut self, data: &Map<String, Value>) -> bool {
        let Some(id) = data.get("message_id").and_then(Value::as_str) else { return false };
        let id = fnv(id);
        let usage = data.get("usage").map(Tokens::read).unwrap_or_default();
        let again = self.seen.back() == Some(&id);
        if !again && self.seen.contains(&id) {
            return false;
        }
        let gain = if again { usage.above(self.last) } else { usage };
        if again && gain == Tokens::default() {
            return false;
        }
        let model = bounded(&mut self.models, data.get("model").and_then(Value::as_str).unwrap_or("unknown"));
        model.tokens.add(gain);
        self.counted.add(gain);
        if again {
            self.last.add(gain);
            return true;
        }
        model.messages += 1;
        self.messages += 1;
        if data.get("parent_tool_use_id").is_some_and(|parent| !parent.is_null()) {
            self.subagent_messages += 1;
        }
        self.last = usage;
        self.seen.push_back(id);
        if self.seen.len() > SEEN_MAX {
            self.seen.pop_front();
        }
        true
    }

    fn call(&mut self, data: &Map<String, Value>, ms: f64) {
        let name = data.get("name").and_then(Value::as_str).unwrap_or("unknown");
        bounded(&mut self.tools, name).calls += 1;
        if let Some(id) = tool_id(data) {
            self.open.push_back(OpenCall { id: fnv(id), tool: short(name).to_owned(), ms });
            if self.open.len() > OPEN_CALLS_MAX {
                self.open.pop_front();
            }
        }
    }

    fn result(&mut self, data: &Map<String, Value>, ms: f64) {
        let id = tool_id(data).map(fnv);
        let at = self.open.iter().position(|call| Some(call.id) == id);
        let call = at.and_then(|at| self.open.remove(at));
        let named = data.get("name").and_then(Value::as_str).unwrap_or("unknown");
        let tool = bounded(&mut self.tools, call.as_ref().map_or(named, |call| &call.tool));
        tool.results += 1;
        if data.get("is_error").and_then(Value::as_bool) == Some(true) {
            tool.errors += 1;
        }
        if let Some(call) = call {
            tool.seconds += (ms - call.ms).max(0.0) / 1000.0;
        }
    }

    fn completed(&mut self, data: &Map<String, Value>, ms: f64) {
        let failed = data.get("status").and_then(Value::as_str) == Some("failed");
        self.end(if failed { Status::Failed } else { Status::Completed }, ms);
        self.cost_usd = data.get("cost_usd").and_then(amount).or(self.cost_usd);
        self.duration_seconds = data.get("duration_seconds").and_then(amount).or(self.duration_seconds);
        self.num_turns = data.get("num_turns").and_then(Value::as_u64).or(self.num_turns);
        let totals = data.get("usage").filter(|usage| usage.is_object()).map(Tokens::read);
        // Older producers put the two totals beside the result.
        let flat = || Tokens::read(&Value::Object(data.clone()));
        self.reported = totals.or_else(|| data.get("output_tokens").and_then(amount).map(|_| flat())).or(self.reported);
    }

    fn end(&mut self, status: Status, ms: f64) {
        self.status = status;
        self.ended_ms = Some(ms);
    }

    fn tokens(&self) -> Tokens {
        self.reported.unwrap_or(self.counted)
    }

    fn elapsed_seconds(&self) -> Option<f64> {
        Some(((self.ended_ms? - self.started_ms?) / 1000.0).max(0.0))
    }

    /// `usage.json`: indented JSON with a newline at its end. The agent's own totals are taken when it gave them, the sum
    /// over messages stands beside them as a check.
    pub fn report(&self) -> String {
        let mut tools = Map::new();
        for (name, tool) in &self.tools {
            tools.insert(
                name.clone(),
                json!({ "calls": tool.calls, "results": tool.results, "errors": tool.errors, "seconds": rounded(tool.seconds) }),
            );
        }
        let report = json!({
            "status": self.status,
            "started_at_ms": self.started_ms.map(whole),
            "ended_at_ms": self.ended_ms.map(whole),
            "elapsed_seconds": self.elapsed_seconds().map(rounded),
            "duration_seconds": self.duration_seconds,
            "cost_usd": self.cost_usd,
            "num_turns": self.num_turns,
            "tokens": self.tokens(),
            "tokens_from": if self.reported.is_some() { "result" } else { "messages" },
            "messages": { "count": self.messages, "subagents": self.subagent_messages, "tokens": self.counted },
            "models": self.models,
            "tools": tools,
        });
        let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The annotation for `metadata.json`: one flat object.
    pub fn summary(&self) -> String {
        let tokens = self.tokens();
        json!({
            "cost_usd": self.cost_usd,
            "input_tokens": tokens.input_tokens,
            "output_tokens": tokens.output_tokens,
            "cache_creation_input_tokens": tokens.cache_creation_input_tokens,
            "cache_read_input_tokens": tokens.cache_read_input_tokens,
            "num_turns": self.num_turns,
            "messages": self.messages,
            "tool_calls": self.tools.values().map(|tool| tool.calls).sum::<u64>(),
            "tool_errors": self.tools.values().map(|tool| tool.errors).sum::<u64>(),
            "models": self.models.keys().collect::<Vec<_>>(),
            "duration_seconds": self.duration_seconds.or_else(|| self.elapsed_seconds().map(rounded)),
        })
        .to_string()
    }
}

// === impl Tokens ===

impl Tokens {
    fn read(usage: &Value) -> Self {
        // A count is a whole number; a producer that writes 3.0 means 3.
        let field = |name: &str| usage.get(name).and_then(amount).map_or(0, whole);
        Self {
            input_tokens: field("input_tokens"),
            output_tokens: field("output_tokens"),
            cache_creation_input_tokens: field("cache_creation_input_tokens"),
            cache_read_input_tokens: field("cache_read_input_tokens"),
        }
    }

    fn add(&mut self, other: Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cache_creation_input_tokens =
            self.cache_creation_input_tokens.saturating_add(other.cache_creation_input_tokens);
        self.cache_read_input_tokens = self.cache_read_input_tokens.saturating_add(other.cache_read_input_tokens);
    }

    fn above(self, base: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_sub(base.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(base.output_tokens),
            cache_creation_input_tokens: self
                .cache_creation_input_tokens
                .saturating_sub(base.cache_creation_input_tokens),
            cache_read_input_tokens: self.cache_read_input_tokens.saturating_sub(base.cache_read_input_tokens),
        }
    }
}

/// The id that pairs a call with its result, under any of the names that producers use.
fn tool_id(data: &Map<String, Value>) -> Option<&str> {
    ["tool_use_id", "_tool_use_id", "id"].iter().find_map(|key| data.get(*key)?.as_str())
}

fn bounded<'a, T: Default>(map: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    let name = short(name);
    let known = map.contains_key(name) || map.len() < NAMES_MAX;
    map.entry(if known { name } else { "other" }.to_owned()).or_default()
}

fn short(name: &str) -> &str {
    name.get(..name.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or_default()
}

fn amount(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite() && *number >= 0.0)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and amounts are not negative")]
fn whole(number: f64) -> u64 {
    number as u64
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// FNV-1a: stable over versions, which a state must be.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests;
