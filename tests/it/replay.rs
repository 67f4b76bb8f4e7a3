//! `replay`: the bundled session's tasks through the same plugins, through changed ones, and through none that may run.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;

use crate::{
    checker::files_below,
    rig::{Node, Rig, eventually},
};

/// The session of `task-logger demo`, with made-up secrets in its places.
const SESSION: &str = include_str!("../../src/demo/session.jsonl");
const PLUGINS: [&str; 3] = ["redact", "usage", "transcript"];

/// Fills `{{name}}`, `{{name:1}}` and `{{name:2}}`.
fn session() -> String {
    let mut text = SESSION.to_owned();
    while let Some((before, rest)) = text.split_once("{{") {
        let (_, after) = rest.split_once("}}").unwrap();
        text = format!("{before}ghp_Zx8Qv2Lm5Rt7Wk1Pb4Nc6Hd9Jf3Gs0Ya2Ue5{after}");
    }
    text
}

/// Runs the session through a service and ends it. The tasks in it.
fn recorded(rig: &Rig) -> Vec<String> {
    let node = rig.spawn_owner();
    let lines: Vec<Value> = session().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let tasks: std::collections::BTreeSet<String> =
        lines.iter().filter_map(|line| line["task_id"].as_str()).map(str::to_owned).collect();
    assert_eq!(
        node.post("/events", &format!("[{}]", lines.iter().map(Value::to_string).collect::<Vec<_>>().join(","))),
        200
    );
    for task in &tasks {
        eventually("the task's end is in the files", || ended(&node, task));
    }
    eventually("everything is published", || node.json("/metrics")["queue_depth"] == 0);
    // What only a checkpoint tells: who brought which key of the metadata.
    for task in &tasks {
        eventually("the task's checkpoint", || rig.logs().join(task).join(".state").is_file());
    }
    node.terminate();
    assert!(tasks.len() >= 4);
    tasks.into_iter().collect()
}

fn ended(node: &Node, task: &str) -> bool {
    !node.json(&format!("/tasks/{task}/logs"))["final_result"].is_null()
}

fn replay(rig: &Rig, task: &str, plugins: &Path, out: &Path) -> Output {
    let (plugins, out) = (plugins.to_str().unwrap(), out.to_str().unwrap());
    rig.command(&["replay", task, "--plugins", plugins, "--out", out, "--json"]).output().unwrap()
}

fn told(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// Public files of a task's folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, String> {
    let visible =
        files_below(folder).into_iter().filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
    visible.map(|path| (path.strip_prefix(folder).unwrap().to_owned(), fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn the_same_plugins_give_the_same_files_byte_for_byte() {
    let rig = Rig::embedded().with_bundled(&PLUGINS);
    let tasks = recorded(&rig);
    let mut gaps = 0;
    for task in &tasks {
        let out = rig.root().join(format!("again-{task}"));
        let output = replay(&rig, task, &rig.plugins_dir(), &out);
        let report = told(&output);
        let (before, after) = (contents(&rig.logs().join(task)), contents(&out.join(task)));
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        for (file, text) in &before {
            assert_eq!(text, &after[file], "{task}: {}", file.display());
        }
        assert!(report["same"] == true && output.status.code() == Some(0), "{report:#}");
        let records: usize = before
            .iter()
            .filter(|(file, _)| file.extension().unwrap() == "jsonl")
            .map(|(_, text)| text.lines().count())
            .sum();
        assert!(report["events"].as_u64().unwrap() as usize >= records + 3, "{report:#}");
        gaps += report["gaps"].as_u64().unwrap();
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1, "only the task's folder is left in --out");
    }
    assert_eq!(gaps, 1, "the malformed event of the session stays a gap");
}

#[test]
fn a_changed_plugin_shows_what_it_changes() {
    let rig = Rig::embedded().with_bundled(&PLUGINS).set("REQUIRED_PLUGINS", "redact");
    let task = recorded(&rig).remove(0);
    let other = rig.root().join("other");
    copy(&rig.plugins_dir(), &other);
    fs::write(other.join("transcript.toml"), "isolation = 'reuse'\n[config]\nthinking = false\n").unwrap();
    fs::remove_file(other.join("usage.wasm")).unwrap();
    let out = rig.root().join("out");
    let output = replay(&rig, &task, &other, &out);
    let report = told(&output);
    assert_eq!(output.status.code(), Some(2), "{report:#}");
    let file = |name: &str| {
        report["files"].as_array().unwrap().iter().find(|file| file["file"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(file("usage.json")["change"], "removed");
    assert_eq!(file("transcript.md")["change"], "changed");
    assert!(file("transcript.md")["differences"].to_string().contains("Thinking"), "{report:#}");
    assert_eq!(file("03-agent-output.jsonl")["change"], "same");
    assert!(file("metadata.json")["differences"].to_string().contains("/plugins/"), "{report:#}");
    // The same for people.
    let (plugins, out) = (other.to_str().unwrap(), rig.root().join("out-2"));
    let mut command = rig.command(&["replay", &task, "--plugins", plugins, "--out", out.to_str().unwrap()]);
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(
        text.contains("- usage.json") && text.contains("~ transcript.md") && text.contains("the logs differ"),
        "{text}"
    );
}

#[test]
fn records_of_a_changed_redactor_are_compared_by_id() {
    let rig = Rig::embedded().with_bundled(&["redact"]);
    let task = recorded(&rig).remove(0);
    let other = rig.root().join("other");
    copy(&rig.plugins_dir(), &other);
    fs::write(other.join("drop.wasm"), crate::guests::misbehave()).unwrap();
    fs::write(other.join("drop.toml"), "[config]\nmode = 'drop'\nname = 'drop'\nkinds = ['task:thinking']\n").unwrap();
    let report = told(&replay(&rig, &task, &other, &rig.root().join("out")));
    let files = report["files"].as_array().unwrap();
    let agent = files.iter().find(|file| file["file"] == "03-agent-output.jsonl").unwrap();
    assert!(agent["records"]["changed"].as_u64().unwrap() > 0, "{agent:#}");
    assert_eq!((&agent["records"]["added"], &agent["records"]["removed"]), (&0.into(), &0.into()));
    for part in agent["differences"].as_array().unwrap() {
        assert_eq!((&part["before"]["type"], &part["after"]["type"]), (&"thinking".into(), &"gap".into()));
        assert_eq!((&part["before"]["id"], &part["at"]), (&part["after"]["id"], &part["before"]["id"]));
    }
}

#[test]
fn fail_closed_a_replay_without_what_must_run_writes_nothing() {
    let rig = Rig::embedded().with_bundled(&["redact"]);
    let task = recorded(&rig).remove(0);
    let out = rig.root().join("out");
    let fails = |plugins: &Path, task: &str, why: &str| {
        let output = replay(&rig, task, plugins, &out);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && output.stdout.is_empty() && text.contains(why), "{text}");
        assert!(!out.is_dir() || fs::read_dir(&out).unwrap().count() == 0, "something is left: {text}");
    };
    let other = rig.root().join("other");
    fs::create_dir(&other).unwrap();
    fails(&other, &task, "there is no plugin in");
    fails(&rig.root().join("nowhere"), &task, "is no folder");
    fails(&rig.plugins_dir(), "no-such-task", "no task \"no-such-task\"");
    // Not the one that is required.
    fs::write(other.join("x.wasm"), crate::guests::misbehave()).unwrap();
    fails(&other, &task, "What the service requires is required here, too");
    // One that would not run.
    copy(&rig.plugins_dir(), &other);
    fs::write(other.join("x.wasm"), b"no plugin").unwrap();
    fails(&other, &task, "x.wasm is refused");
    // One that stops.
    fs::write(other.join("x.wasm"), crate::guests::misbehave()).unwrap();
    fs::write(other.join("x.toml"), "on_failure = 'halt'\n[config]\nmode = 'trap'\nmatch = 'claude'\n").unwrap();
    fails(&other, &task, "stopped: ");
    fs::create_dir_all(out.join("mine")).unwrap();
    let output = replay(&rig, &task, &rig.plugins_dir(), &out);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not empty"));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
