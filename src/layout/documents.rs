//! The static documents of a task: `metadata.json`, `01-input.json`, `04-final-result.json`. A small model that changes are
//! applied to and the files are rendered from; the journal and `.state` keep the model, so rendering is deterministic.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{FINAL_RESULT, INPUT, LAYOUT_VERSION, METADATA};
use crate::{
    event::StreamId,
    json::{Members, depth},
    plugin::PluginProvenance,
};

/// Most plugin versions that a task's metadata lists; further ones are counted.
const PLUGINS_MAX: usize = 100;
/// Deepest nesting of a value: the model adds levels of its own, and no reader of JSON follows more than some hundred. What
/// is deeper is kept as its text.
pub const DEPTH_MAX: usize = 100;
/// Bytes that a plugin's annotations of a task may have; further keys are left out, and counted.
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;
/// Most superseded results that are kept.
const EARLIER_MAX: usize = 8;

/// What the static documents are rendered from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Documents {
    created: Map<String, Value>,
    /// Those of its keys that `task:started` brought; the files do not tell.
    started_keys: Vec<String>,
    annotations: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    annotations_omitted: Map<String, Value>,
    /// Writes of extra files that found no room, by file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extras_omitted: BTreeMap<String, u64>,
    created_at: Option<String>,
    started_at: Option<String>,
    completed_at: Option<String>,
    status: Status,
    plugins: Vec<PluginOf>,
    plugins_omitted: u64,
    event_ids: Vec<String>,
    /// What stood here before was removed, and the task went on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    resumed: bool,
    input: Option<Map<String, Value>>,
    result: Option<Map<String, Value>>,
}

/// How far a task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    #[default]
    Created,
    Running,
    Completed,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PluginOf {
    #[serde(flatten)]
    plugin: PluginProvenance,
    chain: String,
}

/// A lifecycle event, as far as it may be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Lifecycle {
    /// The entry.
    pub id: StreamId,
    /// Which of the four it is.
    pub stage: Stage,
    /// Its timestamp, as stored.
    pub timestamp: Arc<str>,
    /// Its data after the chain; or the reason why a gap record stands in its place.
    pub data: Result<String, String>,
}

/// The four lifecycle events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `task:created`.
    Created,
    /// `task:started`.
    Started,
    /// `task:completed`, and whether its `status` says that it failed.
    Completed {
        /// `data.status` is exactly `"failed"`, before the chain.
        failed: bool,
    },
    /// `task:failed`.
    Failed,
}

// === impl Documents ===

impl Documents {
    /// Applies a lifecycle event. Times and status come from the envelope and apply even without data.
    pub fn lifecycle(&mut self, event: &Lifecycle) {
        let at = || Some(event.timestamp.to_string());
        let data: Option<Map<String, Value>> = event.data.as_ref().ok().map(|text| object(text));
        if data.is_some() {
            self.event_ids.push(event.id.to_string());
        }
        match event.stage {
            Stage::Created => {
                self.created_at = self.created_at.take().or_else(at);
                if let Some(data) = data {
                    self.absorb_created(data);
                }
            }
            Stage::Started => {
                self.started_at = self.started_at.take().or_else(at);
                self.raise(Status::Running);
                let fresh = data.unwrap_or_default().into_iter().filter(|(_, value)| !value.is_null());
                for (key, value) in fresh {
                    if !self.created.contains_key(&key) {
                        self.started_keys.push(key.clone());
                        self.created.insert(key, value);
                    }
                }
            }
            Stage::Completed { failed } => self.end(failed, completed(data, failed, event), event),
            Stage::Failed => self.end(true, failed(data, event), event),
        }
    }

    /// Whether [`Documents::touch`] would change anything.
    pub fn would_touch(&self) -> bool {
        self.status < Status::Running
    }

    /// Notes that the task says something, so that it runs.
    pub fn touch(&mut self) {
        self.raise(Status::Running);
    }

    /// Keys of `metadata.json` that `task:started` brought, as producers name them.
    pub fn started_keys(&self) -> &[String] {
        &self.started_keys
    }

    /// Those of a key whose directory was removed.
    pub fn resumed() -> Self {
        Self { resumed: true, ..Self::default() }
    }

    /// Whether what stood here before was removed.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Whether nothing was noted yet: the task has no `metadata.json`.
    pub fn is_new(&self) -> bool {
        *self == Self { resumed: self.resumed, ..Self::default() }
    }

    /// Merges an object under `annotations.<plugin>`; null removes a key.
    pub fn annotate(&mut self, plugin: &str, object: Map<String, Value>) {
        let slot = self.annotations.entry(plugin).or_insert_with(|| json!({}));
        let mut size = slot.to_string().len();
        let mut omitted = 0;
        if let Value::Object(annotations) = slot {
            for (key, value) in object {
                let before = annotations.get(&key).map_or(0, |old| old.to_string().len());
                let after = value.to_string().len();
                match value {
                    Value::Null => drop(annotations.shift_remove(&key)),
                    _ if size + key.len() + after > ANNOTATIONS_BYTES_MAX && after > before => omitted += 1,
                    value => {
                        size = (size + key.len() + after).saturating_sub(before);
                        annotations.insert(key, value);
                    }
                }
            }
        }
        if omitted > 0 {
            let known = self.annotations_omitted.get(plugin).and_then(Value::as_u64).unwrap_or(0);
            self.annotations_omitted.insert(plugin.to_owned(), (known + omitted).into());
        }
    }

    /// Notes a write to an extra file that found no room.
    pub fn omit_extra(&mut self, file: &str) {
        *self.extras_omitted.entry(file.to_owned()).or_default() += 1;
    }

    /// Whether something of this extra file was left out.
    pub fn is_cut(&self, file: &str) -> bool {
        self.extras_omitted.contains_key(file)
    }

    /// Notes that an extra file was written anew, whole. Returns whether that was news.
    pub fn is_whole(&mut self, file: &str) -> bool {
        self.extras_omitted.remove(file).is_some()
    }

    /// Notes which plugins processed the task. Returns whether that was news.
    pub fn processed_by(&mut self, plugins: &[PluginProvenance], chain: &str) -> bool {
        let mut news = false;
        for plugin in plugins {
            let of = PluginOf { plugin: plugin.clone(), chain: chain.to_owned() };
            if self.plugins.contains(&of) {
                continue;
            }
            news = true;
            match self.plugins.len() < PLUGINS_MAX {
                true => self.plugins.push(of),
                false => self.plugins_omitted += 1,
            }
        }
        news
    }

    /// Takes over what a webhook flow noted before it joined.
    pub fn join(&mut self, flow: &Self) {
        self.resumed |= flow.resumed;
        for (plugin, object) in &flow.annotations {
            if let Value::Object(object) = object {
                self.annotate(plugin, object.clone());
            }
        }
        for (file, n) in &flow.extras_omitted {
            *self.extras_omitted.entry(file.clone()).or_default() += n;
        }
        for of in &flow.plugins {
            self.processed_by(std::slice::from_ref(&of.plugin), &of.chain);
        }
    }

    /// The model as far as the files tell it, for a task whose `.state` is lost.
    pub fn from_files(metadata: Option<Vec<u8>>, input: Option<Vec<u8>>, result: Option<Vec<u8>>) -> Self {
        let parse = |file: Option<Vec<u8>>| -> Option<Map<String, Value>> { serde_json::from_slice(&file?).ok() };
        let mut created = parse(metadata).unwrap_or_default();
        let mut take = |key: &str| created.shift_remove(key);
        fn read<T: serde::de::DeserializeOwned>(value: Option<Value>) -> Option<T> {
            serde_json::from_value(value?).ok()
        }
        Self {
            annotations: read(take("annotations")).unwrap_or_default(),
            annotations_omitted: read(take("annotations_omitted")).unwrap_or_default(),
            extras_omitted: read(take("extras_omitted")).unwrap_or_default(),
            created_at: read(take("created_at")),
            started_at: read(take("started_at")),
            completed_at: read(take("completed_at")),
            status: read(take("status")).unwrap_or_default(),
            plugins: read(take("plugins")).unwrap_or_default(),
            plugins_omitted: read(take("plugins_omitted")).unwrap_or_default(),
            event_ids: read(take("event_ids")).unwrap_or_default(),
            resumed: read(take("resumed")).unwrap_or_default(),
            input: parse(input),
            result: parse(result),
            started_keys: Vec::new(),
            created: {
                for derived in ["task_id", "layout_version"] {
                    created.shift_remove(derived);
                }
                // A producer's values under our names were renamed when they were written.
                created
                    .into_iter()
                    .map(|(key, value)| (key.strip_prefix("_field.").map_or(key.clone(), str::to_owned), value))
                    .collect()
            },
        }
    }

    /// The files as they should stand, for the task of this id.
    pub fn render(&self, task: &str) -> Vec<(&'static str, Vec<u8>)> {
        let mut files = vec![(METADATA, pretty(&self.metadata(task)))];
        files.extend(self.input.as_ref().map(|input| (INPUT, pretty(input))));
        files.extend(self.result.as_ref().map(|result| (FINAL_RESULT, pretty(result))));
        files
    }

    fn metadata(&self, task: &str) -> Map<String, Value> {
        let mut metadata = Map::new();
        for (key, value) in &self.created {
            let key = match &**key {
                // The id is the same one; a producer's other values of our keys are kept beside them.
                "task_id" if value == task => continue,
                "annotations"
                | "annotations_omitted"
                | "extras_omitted"
                | "task_id"
                | "created_at"
                | "started_at"
                | "completed_at"
                | "status"
                | "plugins"
                | "plugins_omitted"
                | "layout_version"
                | "event_ids"
                | "resumed" => format!("_field.{key}"),
                _ => key.clone(),
            };
            metadata.insert(key, value.clone());
        }
        if !self.annotations.is_empty() {
            metadata.insert("annotations".into(), self.annotations.clone().into());
        }
        if !self.annotations_omitted.is_empty() {
            metadata.insert("annotations_omitted".into(), self.annotations_omitted.clone().into());
        }
        if !self.extras_omitted.is_empty() {
            metadata.insert("extras_omitted".into(), json!(self.extras_omitted));
        }
        metadata.insert("task_id".into(), task.into());
        for (key, at) in
            [("created_at", &self.created_at), ("started_at", &self.started_at), ("completed_at", &self.completed_at)]
        {
            metadata.extend(at.as_ref().map(|at| (key.to_owned(), Value::from(at.as_str()))));
        }
        metadata.insert("status".into(), json!(self.status));
        metadata.insert("plugins".into(), json!(self.plugins));
        if self.plugins_omitted > 0 {
            metadata.insert("plugins_omitted".into(), self.plugins_omitted.into());
        }
        metadata.insert("layout_version".into(), LAYOUT_VERSION.into());
        metadata.insert("event_ids".into(), json!(self.event_ids));
        if self.resumed {
            metadata.insert("resumed".into(), true.into());
        }
        metadata
    }

    fn absorb_created(&mut self, data: Map<String, Value>) {
        let message = data.get("input_message").cloned().unwrap_or(Value::Null);
        let input = self.input.get_or_insert_default();
        if !message.is_null() || !input.contains_key("message") {
            input.insert("message".into(), message);
        }
        for (key, value) in data {
            // A second `task:created` adds to the first; it never blanks what that said.
            if !value.is_null() || !self.created.contains_key(&key) {
                self.created.insert(key, value);
            }
        }
    }

    fn raise(&mut self, status: Status) {
        if self.status < status {
            self.status = status;
        }
    }

    fn end(&mut self, failed: bool, mut result: Map<String, Value>, event: &Lifecycle) {
        self.status = if failed { Status::Failed } else { Status::Completed };
        self.completed_at = Some(event.timestamp.to_string());
        if let Some(mut earlier) = self.result.take() {
            let mut kept = match earlier.shift_remove("earlier") {
                Some(Value::Array(kept)) => kept,
                _ => Vec::new(),
            };
            kept.push(earlier.into());
            if kept.len() > EARLIER_MAX {
                kept.remove(0);
            }
            result.insert("earlier".into(), kept.into());
        }
        self.result = Some(result);
    }
}

/// The members of an event's data.
fn object(text: &str) -> Map<String, Value> {
    let members = Members::of(text).unwrap_or_default();
    let value = |raw: &str| match depth(raw) <= DEPTH_MAX {
        true => serde_json::from_str(raw).unwrap_or_else(|_| raw.into()),
        false => raw.into(),
    };
    members.iter(text).map(|(key, raw)| (key.to_owned(), value(raw))).collect()
}

fn completed(data: Option<Map<String, Value>>, failed: bool, event: &Lifecycle) -> Map<String, Value> {
    let Some(mut data) = data else { return gap(!failed, event) };
    let mut take = |key: &str| data.shift_remove(key).unwrap_or(Value::Null);
    let result = take("result");
    let mut metrics = Map::new();
    for key in ["cost_usd", "duration_seconds", "input_tokens", "output_tokens"] {
        metrics.insert(key.to_owned(), take(key));
    }
    for key in ["input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"] {
        let used = data.get("usage").and_then(|usage| usage.get(key)).cloned().unwrap_or(Value::Null);
        if metrics.get(key).is_none_or(Value::is_null) && !used.is_null() {
            metrics.insert(key.to_owned(), used);
        }
    }
    let mut document = Map::new();
    document.insert("success".into(), (!failed).into());
    document.insert("result".into(), result);
    document.insert("metrics".into(), metrics.into());
    finish(document, data, if failed { "failed" } else { "completed" }, event)
}

fn failed(data: Option<Map<String, Value>>, event: &Lifecycle) -> Map<String, Value> {
    let Some(mut data) = data else { return gap(false, event) };
    let mut document = Map::new();
    document.insert("success".into(), false.into());
    document.insert("error".into(), data.shift_remove("error").unwrap_or(Value::Null));
    finish(document, data, "failed", event)
}

/// Adds what every result ends with, and whatever else the producer said.
fn finish(
    mut document: Map<String, Value>,
    data: Map<String, Value>,
    status: &str,
    event: &Lifecycle,
) -> Map<String, Value> {
    document.insert("completed_at".into(), (*event.timestamp).into());
    document.insert("status".into(), status.into());
    for (key, value) in data {
        let key = match &*key {
            // Said above, from the envelope.
            "status" if value == status => continue,
            "success" | "completed_at" | "status" | "earlier" | "metrics" | "gap" => format!("_field.{key}"),
            _ => key,
        };
        document.insert(key, value);
    }
    document
}

fn gap(success: bool, event: &Lifecycle) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("success".into(), success.into());
    document.insert("gap".into(), event.data.as_ref().err().map_or(Value::Null, |code| code.as_str().into()));
    document.insert("completed_at".into(), (*event.timestamp).into());
    document
}

/// Indented by two, no newline at the end, as the predecessor wrote them; raw UTF-8 but for line separators.
fn pretty(document: &Map<String, Value>) -> Vec<u8> {
    let text = serde_json::to_string_pretty(document).unwrap_or_default();
    let mut file = Vec::with_capacity(text.len());
    crate::json::push_line_safe(&mut file, &text);
    file
}

#[cfg(test)]
mod tests;
