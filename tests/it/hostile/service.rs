//! Hostile guests in a running service: its memory stays flat, what they leave in the files can be read again, and other
//! tasks' events are unharmed.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::components::Hostile;
use crate::{
    checker::Stream,
    rig::{Node, Rig},
};

fn event(kind: &str, task: &str, data: Value) -> Value {
    json!({"type": kind, "task_id": task, "data": data})
}

#[test]
fn what_is_deeply_nested_can_be_read_after_a_restart() {
    const DEPTHS: [usize; 9] = [2, 99, 101, 124, 126, 127, 128, 300, 100_000];
    let rig = Rig::embedded();
    for (mode, kind) in [("annotate-deep", "task:output"), ("replace-deep", "task:created")] {
        for depth in [98, 127] {
            let sidecar = format!(
                "[config]\nmode = '{mode}'\nname = '{mode}-{depth}'\nkinds = ['{kind}']\nmatch = '{mode}-{depth}'\nfiles = []\ndepth = {depth}\n"
            );
            rig.put_guest(&format!("{mode}-{depth}"), &sidecar);
        }
    }
    let tasks: Vec<String> = DEPTHS.iter().map(|depth| format!("d{depth}")).chain(["guests".to_owned()]).collect();
    let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();
    let rig = rig.set("REQUIRED_PLUGINS", "annotate-deep-98,annotate-deep-127,replace-deep-98,replace-deep-127");
    let node = rig.spawn_owner();
    for (depth, task) in DEPTHS.iter().zip(&tasks) {
        let nested = format!("{{\"deep\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        // As the wire has it: JSON in a string, so that the request itself is not deep.
        for kind in ["task:created", "task:output", "task:completed"] {
            node.append(&[event(kind, task, Value::from(nested.clone()))]);
        }
    }
    for text in ["annotate-deep-98", "annotate-deep-127"] {
        node.append(&[event("task:output", "guests", json!({"content": text}))]);
    }
    for text in ["replace-deep-98", "replace-deep-127"] {
        node.append(&[event("task:created", "guests", json!({"content": text}))]);
    }
    rig.settle(&node, &tasks);
    // From the journal, then from the checkpoint: the models are read again, and changed.
    node.kill();
    let node = rig.spawn_owner();
    node.append(&tasks.iter().map(|task| event("task:started", task, json!({"note": "killed"}))).collect::<Vec<_>>());
    rig.settle(&node, &tasks);
    let mut logs = node.log();
    node.terminate();
    let node = rig.spawn_owner();
    node.append(&tasks.iter().map(|task| event("task:failed", task, json!({"error": "e"}))).collect::<Vec<_>>());
    rig.settle(&node, &tasks);
    logs += &node.log();
    for (depth, task) in DEPTHS.iter().zip(&tasks) {
        let metadata: Value = serde_json::from_str(&rig.read(&format!("{task}/metadata.json"))).unwrap();
        let nested = format!("{}{}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        // Nothing is lost: what is too deep for readers stands there as its text.
        let kept = metadata["deep"].as_str().map_or_else(|| metadata["deep"].to_string(), str::to_owned);
        assert_eq!(kept, nested, "{task}");
        assert_eq!((&metadata["note"], &metadata["status"]), (&json!("killed"), &json!("failed")), "{task}");
        let (status, body) = node.get(&format!("/tasks/{task}/logs"));
        assert_eq!(status, 200, "{task}: {body:.300}");
    }
    let metadata: Value = serde_json::from_str(&rig.read("guests/metadata.json")).unwrap();
    assert!(metadata["annotations"]["annotate-deep-98"]["deep"].is_array(), "{metadata}");
    assert!(metadata["annotations"]["annotate-deep-127"].is_null(), "{metadata}");
    assert!(metadata["deep"].is_string(), "{metadata}");
    node.terminate();
    assert!(!logs.contains("cannot be read") && !logs.contains("another format"), "{logs}");
}

/// Resident memory of a process now and at most, in KiB.
fn memory(node: &Node) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Modes whose damage would add up, and their roles.
const FLOODS: [(&str, &str); 9] = [
    ("log-flood", "standard"),
    ("memory", "standard"),
    ("recurse", "standard"),
    ("trap", "redactor"),
    ("state-flood", "standard"),
    ("annotate-flood", "standard"),
    ("big-file", "standard"),
    ("count-flood", "standard"),
    ("remember-and-trap", "standard"),
];

#[test]
fn the_memory_stays_flat_over_two_hundred_rounds_of_the_worst() {
    let rig = Rig::embedded();
    for (mode, role) in FLOODS {
        let sidecar = format!(
            "timeout = '50ms'\n[config]\nmode = '{mode}'\nname = '{mode}'\nrole = '{role}'\nmatch = 'poison-{mode}-'\nfiles = ['{mode}.txt']\nuntil = 'nowhere'\n"
        );
        rig.put_guest(mode, &sidecar);
    }
    let table =
        "(loop $on (br_if $on (i32.ne (table.grow $t (ref.null func) (i32.const 65536)) (i32.const -1)))) unreachable";
    let table = Hostile {
        name: "table",
        file: "table.txt",
        core: "(table $t 1 funcref)",
        misdeed: table,
        ..Hostile::default()
    };
    rig.put_plugin("table", b"", &table.build());
    let names: Vec<&str> = FLOODS.iter().map(|(mode, _)| *mode).chain(["table"]).collect();
    let rig = rig.set("REQUIRED_PLUGINS", &names.join(","));
    let node = rig.spawn_owner();
    let mut after_warming = (0, 0);
    let began = Instant::now();
    for round in 0..200 {
        let task = format!("t{}", round % 20);
        let mut events = vec![event("task:output", &task, json!({"content": "mark-before-end"}))];
        let mode = names[round % names.len()];
        let text = if mode == "table" { "Poison".to_owned() } else { format!("poison-{mode}-") };
        events.push(event("task:output", &task, json!({"content": text})));
        // What redactors fail on is rare: more would stop reading, as it should.
        events.extend((0..10).map(|_| event("task:output", "others", json!({"content": "mark-other-end"}))));
        node.append(&events);
        rig.settle(&node, &[&task]);
        if round == 60 {
            after_warming = memory(&node);
        }
    }
    rig.settle(&node, &["others"]);
    let (end, most) = memory(&node);
    eprintln!("after 60 rounds {after_warming:?} KiB, after 200 {end} KiB, at most {most} KiB; {:?}", began.elapsed());
    assert!(end < after_warming.0 + (24 << 10), "{after_warming:?} KiB, then {end} KiB");
    // Ten plugins of 64 MiB each are never all at work in two lanes.
    assert!(most < 500 << 10, "{most} KiB");
    assert_eq!(rig.read("others/03-agent-output.jsonl").matches("mark-other-end").count(), 2000, "others are unharmed");
    node.terminate();
    Stream::of_embedded(&rig.root().join("stream")).prove(&rig, &["big-file.txt"]);
}

#[test]
fn bounded_everything_a_plugin_that_makes_much_of_little_waits_for_the_disk() {
    let rig = Rig::embedded().set("LANES", "1");
    rig.put_guest("amplify", "[config]\nmode = 'amplify'\nname = 'amplify'\nmatch = 'more'\nfiles = []\n");
    let rig = rig.set("REQUIRED_PLUGINS", "amplify");
    let node = rig.spawn_owner();
    // 7 MiB of each, 840 MiB together, from 120 tasks that all come in one batch.
    let events: Vec<Value> =
        (0..120).map(|n| event("task:output", &format!("t{n}"), json!({"content": "more"}))).collect();
    node.append(&events);
    let tasks: Vec<String> = (0..120).map(|n| format!("t{n}")).collect();
    rig.settle(&node, &tasks.iter().map(String::as_str).collect::<Vec<_>>());
    let (_, most) = memory(&node);
    eprintln!("at most {most} KiB");
    assert!(most < 600 << 10, "{most} KiB");
    let length = fs::metadata(rig.logs().join("t7/03-agent-output.jsonl")).unwrap().len();
    assert!(length > 7 << 20, "{length}");
    node.terminate();
}

#[test]
fn bounded_everything_annotations_without_end_are_cut_and_counted() {
    let rig = Rig::embedded();
    rig.put_guest("notes", "[config]\nmode = 'annotate-flood'\nname = 'notes'\nmatch = 'note'\nfiles = []\n");
    let rig = rig.set("REQUIRED_PLUGINS", "notes");
    let node = rig.spawn_owner();
    for _ in 0..30 {
        node.append(&[event("task:output", "t", json!({"content": "note"}))]);
        rig.settle(&node, &["t"]);
    }
    let metadata: Value = serde_json::from_str(&rig.read("t/metadata.json")).unwrap();
    assert!(metadata.to_string().len() < 300 << 10);
    assert_eq!(metadata["annotations_omitted"]["notes"], 26, "four of them fit");
    node.terminate();
}

#[test]
fn a_log_that_is_flooded_delays_nothing() {
    let rig = Rig::embedded();
    rig.put_guest("log", "timeout = '50ms'\n[config]\nmode = 'log-flood'\nname = 'log'\nmatch = 'flood'\nfiles = []\n");
    let rig = rig.set("REQUIRED_PLUGINS", "log");
    let node = rig.spawn_owner();
    let began = Instant::now();
    for _ in 0..20 {
        node.append(&[
            event("task:output", "bad", json!({"content": "flood"})),
            event("task:output", "good", json!({"content": "mark-good-end"})),
        ]);
    }
    rig.settle(&node, &["bad", "good"]);
    assert!(began.elapsed() < Duration::from_secs(30));
    // What a failed call wanted to log is not logged at all.
    assert!(node.log().len() < 64 << 10, "{}", node.log().len());
    assert!(!node.log().contains("llll"));
    node.terminate();
}
