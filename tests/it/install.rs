//! `plugin install` against a running service, one that says no, and none.

use std::{fs, path::PathBuf, process::Output};

use serde_json::{Value, json};

use crate::{
    guests,
    rig::{Node, Rig, bundled, eventually},
};

/// A plugin in its author's folder.
fn author(rig: &Rig, sidecar: &[u8], wasm: &[u8]) -> PathBuf {
    let folder = rig.root().join("author");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("mine.toml"), sidecar).unwrap();
    fs::write(folder.join("mine.wasm"), wasm).unwrap();
    folder.join("mine.wasm")
}

fn install(rig: &Rig, node: Option<&Node>, more: &[&str]) -> (Option<i32>, String) {
    let mut command = rig.command(&["plugin", "install", "author/mine.wasm"]);
    // Nobody listens on port 1.
    command.args(more).env("TASK_LOGGER_URL", node.map_or("http://127.0.0.1:1", Node::url));
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

fn folder(rig: &Rig) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(rig.plugins_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn shown(node: &Node, file: &str) -> Value {
    let report = node.json("/plugins");
    report["plugins"].as_array().unwrap().iter().find(|plugin| plugin["file"] == file).cloned().unwrap_or_default()
}

#[test]
fn a_plugin_goes_live_and_its_next_configuration_too() {
    let rig = Rig::embedded();
    let node = rig.spawn_owner();
    let (wasm, _) = bundled("transcript");
    author(&rig, b"[config]\nresult_lines = 40\n", &wasm);
    let (code, text) = install(&rig, Some(&node), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("checked transcript ") && text.contains("live after"), "{text}");
    assert_eq!(folder(&rig), ["mine.toml", "mine.wasm"]);
    let first = shown(&node, "mine.wasm");
    let bound = fs::read_to_string(rig.plugins_dir().join("mine.toml")).unwrap();
    assert!(bound.contains(first["sha256"].as_str().unwrap()) && first["state"] == "live", "{first:#}");

    author(&rig, b"[config]\nresult_lines = 41\n", &wasm);
    let (code, text) = install(&rig, Some(&node), &[]);
    assert!(code == Some(0) && text.contains("which said something else"), "{text}");
    let second = shown(&node, "mine.wasm");
    assert_ne!(second["config_hash"], first["config_hash"]);
    // The same again is live at once.
    assert_eq!(install(&rig, Some(&node), &[]).0, Some(0));
    assert_eq!(folder(&rig), ["mine.toml", "mine.wasm"]);

    let table = rig.command(&["plugin", "ls"]).env("TASK_LOGGER_URL", node.url()).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.starts_with("STATE") && table.contains("live") && table.contains("mine.wasm"), "{table}");
}

#[test]
fn without_a_service_no_folder_is_made_where_somebody_happens_to_stand() {
    let rig = Rig::embedded();
    let (wasm, sidecar) = bundled("transcript");
    let file = author(&rig, &sidecar, &wasm);
    let desk = file.parent().unwrap();
    let mut command = rig.command(&["plugin", "install", "mine.wasm", "--url", "http://127.0.0.1:1"]);
    let Output { status, stdout, .. } = command.env_remove("PLUGINS_DIR").current_dir(desk).output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    assert!(status.code() == Some(69) && text.contains("no service answers at http://127.0.0.1:1, so"), "{text}");
    let mut names: Vec<_> = fs::read_dir(desk).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["mine.toml", "mine.wasm"]);
}

#[test]
fn another_component_of_the_file_is_named_before_it_is_replaced() {
    let rig = Rig::embedded();
    rig.put_guest("mine", "");
    let node = rig.spawn_owner();
    let (wasm, sidecar) = bundled("transcript");
    author(&rig, &sidecar, &wasm);
    let (code, text) = install(&rig, Some(&node), &[]);
    assert!(code == Some(0) && text.contains("  replaces misbehave "), "{text}");
    assert!(!install(&rig, Some(&node), &[]).1.contains("replaces"), "the same again replaces nothing");
}

#[test]
fn what_the_check_refuses_is_not_written() {
    let rig = Rig::embedded();
    let node = rig.spawn_owner();
    author(&rig, b"", b"\0asm\x01\0\0\0");
    let (code, text) = install(&rig, Some(&node), &[]);
    assert!(code == Some(65) && text.contains("not a component"), "{text}");
    assert!(text.contains("nothing was written") && folder(&rig).is_empty(), "{text}");
    let (wasm, _) = bundled("transcript");
    rig.put_plugin("earlier", b"", &wasm);
    eventually("the other file is live", || shown(&node, "earlier.wasm")["state"] == "live");
    author(&rig, b"", &wasm);
    let (code, text) = install(&rig, Some(&node), &[]);
    assert!(code == Some(65) && text.contains("transcript is live from earlier.wasm already"), "{text}");
    assert_eq!(folder(&rig), ["earlier.toml", "earlier.wasm"]);
    // Beside it, not in its place.
    author(&rig, b"mode = 'shadow'\n", &wasm);
    let (code, text) = install(&rig, Some(&node), &[]);
    assert!(code == Some(0) && text.contains("in shadow, beside the chain, after"), "{text}");
    let table = rig.command(&["plugin", "ls"]).env("TASK_LOGGER_URL", node.url()).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("MODE") && table.contains("shadow"), "{table}");
}

#[test]
fn what_the_service_refuses_leaves_the_folder_as_it_was() {
    let rig = Rig::embedded();
    rig.put_guest("mine", "[config]\nrole = 'redactor'\n");
    let before = fs::read(rig.plugins_dir().join("mine.toml")).unwrap();
    let node = rig.spawn_owner();
    eventually("the guest is live", || shown(&node, "mine.wasm")["state"] == "live");
    let live = shown(&node, "mine.wasm")["pair"].clone();
    // Well by itself: only the service knows that a redactor runs under this name.
    author(&rig, b"[config]\nrole = 'standard'\n", guests::misbehave());
    let (code, text) = install(&rig, Some(&node), &[]);
    assert!(code == Some(65) && text.contains("the service refuses it: "), "{text}");
    assert!(text.contains("is a live redactor, this one is not"), "{text}");
    assert!(text.contains("the files that were there before are back"), "{text}");
    assert_eq!(fs::read(rig.plugins_dir().join("mine.toml")).unwrap(), before);
    assert_eq!(folder(&rig), ["mine.toml", "mine.wasm"]);
    eventually("the refusal is over", || shown(&node, "mine.wasm")["refused"].is_null());
    assert!(shown(&node, "mine.wasm")["pair"] == live, "what ran before ran all the time");
}

#[test]
fn without_a_service_the_files_are_there_for_the_next_start() {
    let rig = Rig::embedded();
    let (wasm, sidecar) = bundled("transcript");
    author(&rig, &sidecar, &wasm);
    let (code, text) = install(&rig, None, &[]);
    assert!(code == Some(69) && text.contains("it takes the plugin when it runs"), "{text}");
    assert_eq!(folder(&rig), ["mine.toml", "mine.wasm"]);
    let node = rig.spawn_owner();
    assert_eq!(shown(&node, "mine.wasm")["state"], json!("live"));
    // A folder that the service does not watch.
    let away = rig.root().join("away");
    let (code, text) = install(&rig, Some(&node), &["--to", away.to_str().unwrap(), "--wait", "1"]);
    assert!(code == Some(75) && text.contains("of equal names the last folder's wins"), "{text}");
    assert!(away.join("mine.wasm").is_file());
}
