//! Real agent sessions through `publish --stream-json`, into Redis and into the embedded stream: the same trees, and nothing of
//! what was said is missing.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    checker::{Stream, files_below},
    rig::{Node, Rig, eventually},
};

/// Recorded sessions beside the repository, or where `TASK_LOGGER_SHARED` says; `None` after a message.
fn recorded() -> Option<Vec<PathBuf>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = match std::env::var_os("TASK_LOGGER_SHARED") {
        Some(folder) if !beside.is_dir() => folder.into(),
        _ => beside,
    };
    let mut files: Vec<PathBuf> = files_below(&shared.join("data"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    files.sort();
    if files.is_empty() {
        eprintln!("SKIPPED: no recorded sessions in {}", shared.display());
        return None;
    }
    Some(files)
}

/// One session, made here: a line of 983,040 bytes, and what `recorded` may lack.
fn generated(dir: &Path) -> PathBuf {
    let assistant = |blocks: Value| json!({"type": "assistant", "message": {"id": "msg_1", "role": "assistant", "model": "m", "content": blocks}});
    let text = |length: usize| {
        assistant(json!([{"type": "text", "text": format!("begin {} end", "ab \u{e4}".repeat(length))}])).to_string()
    };
    let mut long = text(195_000);
    let fill = 983_040 - long.len();
    long = long.replace("begin ", &format!("begin {} ", "f".repeat(fill - 1)));
    assert_eq!(long.len(), 983_040);
    let lines = [
        json!({"type": "system", "subtype": "init", "session_id": "s", "tools": ["Bash"]}).to_string(),
        long,
        assistant(json!([{"type": "thinking", "thinking": "a thought", "signature": "c2ln"}])).to_string(),
        assistant(json!([{"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls -la"}}])).to_string(),
        json!({"type": "user", "message": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1",
            "content": [{"type": "text", "text": "listed\u{2028}files"}]}]}}).to_string(),
        json!({"type": "result", "subtype": "success", "is_error": false, "result": "Done", "num_turns": 2, "total_cost_usd": 0.5}).to_string(),
    ];
    let path = dir.join("generated.jsonl");
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    path
}

/// Publishes each session as a task of the file's name.
fn publish(rig: &Rig, node: &Node, sessions: &[PathBuf]) -> Vec<String> {
    let mut tasks = Vec::new();
    for session in sessions {
        let task = session.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut command = rig.command(&["publish", "--stream-json", "--task-id", &task]);
        let done = command.arg(session).env("TASK_LOGGER_URL", node.url()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        tasks.push(task);
    }
    for task in &tasks {
        eventually("the session's end is in the files", || {
            !node.json(&format!("/tasks/{task}/logs"))["final_result"].is_null()
        });
    }
    tasks
}

/// The files of a folder of tasks, without what differs from run to run: ids and times.
fn tree(logs: &Path) -> BTreeMap<String, Vec<Value>> {
    let visible = files_below(logs).into_iter().filter(|path| {
        !path.strip_prefix(logs).unwrap().to_string_lossy().contains("/.")
            && !path.starts_with(logs.join(".task-logger"))
    });
    visible
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(logs).unwrap().to_str().unwrap().to_owned();
            let mut values: Vec<Value> = match name.ends_with(".jsonl") {
                true => text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
                false => vec![serde_json::from_str(&text).unwrap()],
            };
            for value in &mut values {
                let object = value.as_object_mut().unwrap();
                for key in ["id", "timestamp", "created_at", "started_at", "completed_at"] {
                    object.entry(key).and_modify(|value| *value = Value::Null);
                }
                let ids = object.get_mut("event_ids").and_then(Value::as_array_mut);
                ids.into_iter().flatten().for_each(|id| *id = Value::Null);
            }
            (name, values)
        })
        .collect()
}

/// Every text in a value.
fn texts(value: &Value, all: &mut Vec<String>) {
    match value {
        Value::String(text) => all.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| texts(value, all)),
        Value::Object(object) => object.values().for_each(|value| texts(value, all)),
        _ => {}
    }
}

/// The texts of a session's content blocks.
fn said(session: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for line in fs::read_to_string(session).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        match &line["message"]["content"] {
            Value::String(text) => all.push(text.clone()),
            Value::Array(blocks) => {
                for block in blocks {
                    for key in ["text", "thinking", "input", "content"] {
                        texts(&block[key], &mut all);
                    }
                }
            }
            _ => {}
        }
    }
    all
}

#[track_caller]
fn nothing_is_missing(tree: &BTreeMap<String, Vec<Value>>, task: &str, session: &Path) {
    let mut written = Vec::new();
    for (_, values) in tree.iter().filter(|(path, _)| path.starts_with(&format!("{task}/"))) {
        values.iter().for_each(|value| texts(value, &mut written));
    }
    // A line that is no event of its own stands as it came, under `raw`.
    let raw: Vec<Value> = written.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
    raw.iter().for_each(|line| texts(line, &mut written));
    let written = written.join("\0");
    let said = said(session);
    assert!(said.len() > 2, "{} texts in {}", said.len(), session.display());
    for text in said {
        let head: String = text.chars().take(80).collect();
        assert!(memchr::memmem::find(written.as_bytes(), text.as_bytes()).is_some(), "{task} lacks {head:?}…");
    }
}

#[test]
fn sessions_give_the_same_trees_on_both_streams_and_lack_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut sessions = recorded().unwrap_or_default();
    sessions.push(generated(folder.path()));
    let embedded = Rig::embedded();
    let node = embedded.spawn_owner();
    let tasks = publish(&embedded, &node, &sessions);
    node.terminate();
    Stream::of_embedded(&embedded.root().join("stream")).prove(&embedded, &[]);
    let from_embedded = tree(&embedded.logs());
    for (task, session) in tasks.iter().zip(&sessions) {
        nothing_is_missing(&from_embedded, task, session);
    }
    let Some(redis) = Rig::redis() else { return };
    let node = redis.spawn_owner();
    publish(&redis, &node, &sessions);
    node.terminate();
    Stream::of_redis(&mut redis.connect()).prove(&redis, &[]);
    let from_redis = tree(&redis.logs());
    assert_eq!(from_redis.keys().collect::<Vec<_>>(), from_embedded.keys().collect::<Vec<_>>());
    for (name, values) in from_redis {
        assert!(values == from_embedded[&name], "{name} differs");
    }
}
