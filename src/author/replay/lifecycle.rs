//! The lifecycle events of a task from its static documents, which absorbed them: the inverse of `layout::documents`, as far
//! as there is one. Pure.
//!
//! The documents name the absorbed ids, but not which is which: the first is taken for `task:created`, the next for
//! `task:started`, the last ones for the ends; what is left in between added nothing that can be told apart.

use serde_json::{Map, Value};

use super::recorded::Told;
use crate::event::StreamId;

/// What `metadata.json` adds by itself; a producer's value of such a name stands as `_field.NAME`.
const OF_METADATA: [&str; 13] = [
    "annotations",
    "annotations_omitted",
    "extras_omitted",
    "task_id",
    "created_at",
    "started_at",
    "completed_at",
    "status",
    "plugins",
    "plugins_omitted",
    "layout_version",
    "event_ids",
    "resumed",
];
/// The same for `04-final-result.json`.
const OF_RESULT: [&str; 6] = ["success", "completed_at", "status", "earlier", "metrics", "gap"];
/// Metrics that stand at the top of a `task:completed`; the others come from its `usage`.
const METRICS: [&str; 4] = ["cost_usd", "duration_seconds", "input_tokens", "output_tokens"];

/// What the folder says.
#[derive(Default)]
pub(super) struct Files {
    pub(super) metadata: Map<String, Value>,
    pub(super) input: Option<Map<String, Value>>,
    pub(super) result: Option<Map<String, Value>>,
    /// Keys of the metadata that came with `task:started`; the documents themselves do not tell.
    pub(super) started_keys: Vec<String>,
    /// Id, kind and timestamp of each gap record: a lifecycle event may be among them.
    pub(super) gaps: Vec<(StreamId, String, String)>,
}

/// The events that the documents absorbed, by their ids. Gaps are not among them: they have records.
pub(super) fn events(files: Files) -> Result<Vec<(StreamId, Told)>, String> {
    let Files { mut metadata, input, result, started_keys, gaps } = files;
    let ids = ids(&metadata)?;
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
    let (created_at, started_at) = (text("created_at"), text("started_at"));
    let ends: Vec<Told> = ends(result).into_iter().filter_map(end).collect();

    let is_gap =
        |kind: &str, at: &Option<String>| gaps.iter().any(|(_, gap, time)| gap == kind && Some(time) == at.as_ref());
    let has_created = input.is_some();
    let has_started = started_at.is_some() && !is_gap("task:started", &started_at);
    let wanted = usize::from(has_created) + usize::from(has_started) + ends.len();
    let Some(more) = ids.len().checked_sub(wanted) else {
        return Err(format!(
            "metadata.json names {} absorbed events, but the documents are made of {wanted}",
            ids.len()
        ));
    };

    let mut known = data_of_metadata(&mut metadata);
    let mut created = Map::new();
    let mut started = Map::new();
    if has_created {
        if has_started {
            for key in started_keys {
                started.extend(known.shift_remove(&key).map(|value| (key, value)));
            }
        }
        created = known;
    } else {
        started = known;
    }

    let mut told = Vec::with_capacity(ids.len());
    let event = |kind: &str, timestamp: Option<String>, data: Map<String, Value>| Told {
        kind: Some(kind.to_owned()),
        timestamp,
        data: Value::Object(data).to_string(),
    };
    if has_created {
        told.push(event("task:created", created_at, created));
    }
    if has_started {
        told.push(event("task:started", started_at, started));
    }
    let filler = if has_started || !has_created { "task:started" } else { "task:created" };
    told.extend((0..more).map(|_| event(filler, None, Map::new())));
    told.extend(ends);
    Ok(ids.into_iter().zip(told).collect())
}

/// Gap records of ends that said `failed`: the results that they left say so.
pub(super) fn failed_gaps(files: &Files) -> Vec<StreamId> {
    let results = ends(files.result.clone());
    let failed = |time: &str| {
        let is = |result: &Map<String, Value>| {
            result.contains_key("gap")
                && result.get("success") == Some(&Value::Bool(false))
                && result.get("completed_at").and_then(Value::as_str) == Some(time)
        };
        results.iter().any(is)
    };
    let ends = files.gaps.iter().filter(|(_, kind, time)| kind == "task:completed" && failed(time));
    ends.map(|(id, ..)| *id).collect()
}

fn ids(metadata: &Map<String, Value>) -> Result<Vec<StreamId>, String> {
    let listed = metadata.get("event_ids").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let parsed: Option<Vec<StreamId>> = listed.iter().map(|id| id.as_str()?.parse().ok()).collect();
    let mut ids = parsed.ok_or("metadata.json has event_ids that are no stream ids")?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// What producers said, without what the service added.
fn data_of_metadata(metadata: &mut Map<String, Value>) -> Map<String, Value> {
    for own in OF_METADATA {
        metadata.shift_remove(own);
    }
    renamed_back(std::mem::take(metadata), &OF_METADATA)
}

fn renamed_back(document: Map<String, Value>, own: &[&str]) -> Map<String, Value> {
    let back = |key: String| match key.strip_prefix("_field.") {
        Some(name) if own.contains(&name) => name.to_owned(),
        _ => key,
    };
    document.into_iter().map(|(key, value)| (back(key), value)).collect()
}

/// The results in the order in which they came.
fn ends(result: Option<Map<String, Value>>) -> Vec<Map<String, Value>> {
    let Some(mut last) = result else { return Vec::new() };
    let earlier = match last.shift_remove("earlier") {
        Some(Value::Array(earlier)) => earlier,
        _ => Vec::new(),
    };
    let earlier = earlier.into_iter().filter_map(|result| match result {
        Value::Object(result) => Some(result),
        _ => None,
    });
    earlier.chain([last]).collect()
}

/// The event that ended the task with this result; `None` for a gap, which has a record of its own.
fn end(mut result: Map<String, Value>) -> Option<Told> {
    if result.contains_key("gap") {
        return None;
    }
    let timestamp = result.get("completed_at").and_then(Value::as_str).map(str::to_owned);
    let failed = result.get("success") == Some(&Value::Bool(false));
    let metrics = result.shift_remove("metrics");
    let kind = if metrics.is_some() { "task:completed" } else { "task:failed" };
    let mut data = Map::new();
    for key in ["result", "error"] {
        data.extend(result.shift_remove(key).filter(|value| !value.is_null()).map(|value| (key.to_owned(), value)));
    }
    if let Some(Value::Object(metrics)) = metrics {
        data.extend(metrics.into_iter().filter(|(key, value)| METRICS.contains(&&**key) && !value.is_null()));
        data.insert("status".to_owned(), if failed { "failed" } else { "completed" }.into());
    }
    for own in OF_RESULT {
        result.shift_remove(own);
    }
    for (key, value) in renamed_back(result, &OF_RESULT) {
        // That it failed counts before the chain; a plugin may have changed the text of it.
        if key != "status" || !failed || kind == "task:failed" {
            data.insert(key, value);
        }
    }
    Some(Told { kind: Some(kind.to_owned()), timestamp, data: Value::Object(data).to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::layout::{
        FINAL_RESULT, INPUT, METADATA,
        documents::{Documents, Lifecycle, Stage},
    };

    fn object(value: &[u8]) -> Map<String, Value> {
        serde_json::from_slice(value).unwrap()
    }

    fn rendered(documents: &Documents) -> Files {
        let files: std::collections::HashMap<_, _> = documents.render("t").into_iter().collect();
        let file = |name: &str| files.get(name).map(|bytes| object(bytes));
        Files {
            metadata: file(METADATA).unwrap(),
            input: file(INPUT),
            result: file(FINAL_RESULT),
            started_keys: documents.started_keys().to_vec(),
            gaps: Vec::new(),
        }
    }

    fn again(told: Vec<(StreamId, Told)>) -> Documents {
        let mut documents = Documents::default();
        for (id, told) in told {
            let data: Value = serde_json::from_str(&told.data).unwrap();
            let stage = match told.kind.as_deref().unwrap() {
                "task:created" => Stage::Created,
                "task:started" => Stage::Started,
                "task:completed" => Stage::Completed { failed: data["status"] == "failed" },
                _ => Stage::Failed,
            };
            let timestamp = told.timestamp.unwrap_or_default().into();
            documents.lifecycle(&Lifecycle { id, stage, timestamp, data: Ok(told.data) });
        }
        documents
    }

    #[test]
    fn what_comes_back_makes_the_same_documents() {
        let created = json!({"task_id":"t","input_message":"hi","status":"new","source":"s","n":1.5});
        let started = json!({"session_id":"x","source":"other"});
        let completed = json!({"status":"completed","result":"r","cost_usd":0.5,"usage":{"input_tokens":3,"cache_read_input_tokens":1},"num_turns":2});
        let failed_one = json!({"status":"failed","result":"late","duration_seconds":600.0});
        let failed = json!({"error":"e","status":"odd"});
        use Stage::{Completed, Created, Failed, Started};
        let stories: [&[(Stage, &Value)]; 7] = [
            &[(Created, &created), (Started, &started), (Completed { failed: false }, &completed)],
            &[(Created, &created), (Created, &json!({"session_id":"s","x":null})), (Started, &started)],
            &[(Started, &started), (Failed, &failed)],
            &[(Created, &created), (Completed { failed: false }, &completed), (Failed, &failed)],
            &[(Created, &created), (Started, &started), (Completed { failed: true }, &failed_one)],
            &[(Created, &json!({})), (Started, &json!({"input_message":"late"}))],
            &[(Completed { failed: false }, &json!({"status":"done","success":1,"metrics":[]}))],
        ];
        for story in stories {
            let mut documents = Documents::default();
            for (seq, (stage, data)) in (1..).zip(story) {
                let id = StreamId { ms: 1, seq };
                let timestamp = format!("T{seq}").into();
                documents.lifecycle(&Lifecycle { id, stage: *stage, timestamp, data: Ok(data.to_string()) });
            }
            let told = events(rendered(&documents)).unwrap();
            let text = |documents: &Documents| {
                let files = documents.render("t").into_iter();
                files.map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap())).collect::<Vec<_>>()
            };
            assert_eq!(text(&again(told)), text(&documents), "{story:?}");
        }
    }

    #[test]
    fn a_result_that_is_a_gap_is_no_event_here() {
        let mut documents = Documents::default();
        let gap = Lifecycle {
            id: StreamId { ms: 1, seq: 1 },
            stage: Stage::Completed { failed: true },
            timestamp: "T".into(),
            data: Err("refused".into()),
        };
        documents.lifecycle(&gap);
        let files = || Files {
            gaps: vec![
                (gap.id, "task:completed".into(), "T".into()),
                (StreamId::MIN, "task:output".into(), "T".into()),
            ],
            ..rendered(&documents)
        };
        assert_eq!(failed_gaps(&files()), [gap.id]);
        assert!(events(files()).unwrap().is_empty());
    }
}
