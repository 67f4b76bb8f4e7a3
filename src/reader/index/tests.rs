//! The index against files that come, change and go, and its pages against plain ways of making them.

use std::{fs, path::Path, time::Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{table::Table, *};

mod pages;
mod size;

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

/// Writes a document as the write side does: aside, then renamed.
fn write(root: &Path, path: &str, content: &str) {
    let (path, aside) = (root.join(path), root.join(".aside"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&aside, content).unwrap();
    fs::rename(aside, path).unwrap();
}

fn listed(index: &Index) -> Vec<(String, Option<String>)> {
    index.catch_up();
    let query = TaskQuery { by: Field::Id, descending: false, limit: 1000, ..TaskQuery::default() };
    let page = index.tasks(&query).unwrap();
    let shown = |row: &Arc<Row>| (row.task_id.to_string(), row.status.as_deref().map(str::to_owned));
    page.tasks.iter().map(shown).collect()
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

#[track_caller]
fn becomes(index: &Index, expected: &[(&str, Option<&str>)]) {
    let expected: Vec<_> = expected.iter().map(|(id, status)| ((*id).to_owned(), status.map(str::to_owned))).collect();
    eventually(&format!("{expected:?}, but {:?}", listed(index)), || listed(index) == expected);
}

fn started() -> (TempDir, Index) {
    let temp = tempfile::tempdir().unwrap();
    let index = Index::start(temp.path().join("tasks"));
    (temp, index)
}

#[test]
fn tasks_of_any_process_come_change_and_go() {
    let (temp, index) = started();
    let root = temp.path().join("tasks");
    becomes(&index, &[]);
    write(&root, "b/metadata.json", r#"{"status":"created"}"#);
    write(&root, "a%2Fa/03-agent-output.jsonl", "{}\n");
    for other in ["_webhooks/w/02-webhook-flow.jsonl", ".task-logger/x/metadata.json", "%2e/metadata.json"] {
        write(&root, other, "{}");
    }
    fs::write(root.join("file"), "").unwrap();
    std::os::unix::fs::symlink("b", root.join("link")).unwrap();
    becomes(&index, &[("a/a", None), ("b", Some("created"))]);
    // A replica sees the same.
    let replica = Index::start(root.clone());
    becomes(&replica, &[("a/a", None), ("b", Some("created"))]);
    write(&root, "b/metadata.json", r#"{"status":"running"}"#);
    write(&root, "c/metadata.json", "{torn");
    for index in [&index, &replica] {
        becomes(index, &[("a/a", None), ("b", Some("running")), ("c", None)]);
    }
    fs::rename(root.join("b"), temp.path().join("gone")).unwrap();
    write(&root, "c/metadata.json", r#"{"status":"failed"}"#);
    for index in [&index, &replica] {
        becomes(index, &[("a/a", None), ("c", Some("failed"))]);
    }
    fs::rename(&root, temp.path().join("unmounted")).unwrap();
    becomes(&index, &[]);
    fs::rename(temp.path().join("unmounted"), &root).unwrap();
    becomes(&index, &[("a/a", None), ("c", Some("failed"))]);
}

#[test]
fn a_result_that_comes_behind_its_metadata_is_seen() {
    let (temp, index) = started();
    let root = temp.path().join("tasks");
    write(&root, "t/metadata.json", r#"{"status":"completed"}"#);
    becomes(&index, &[("t", Some("completed"))]);
    write(&root, "t/04-final-result.json", r#"{"metrics":{"cost_usd":2}}"#);
    eventually("the cost is known", || {
        index.catch_up();
        index.tasks(&TaskQuery::default()).unwrap().tasks[0].cost_usd == Some(2.0)
    });
}

#[test]
fn documents_are_regular_files_of_the_task_itself() {
    let (temp, index) = started();
    let root = temp.path().join("tasks");
    write(&root, "secret/metadata.json", r#"{"status":"running"}"#);
    fs::create_dir_all(root.join("link")).unwrap();
    std::os::unix::fs::symlink("../secret/metadata.json", root.join("link/metadata.json")).unwrap();
    fs::create_dir_all(root.join("folder/metadata.json")).unwrap();
    fs::create_dir_all(root.join("pipe")).unwrap();
    let pipe = root.join("pipe/metadata.json");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    becomes(&index, &[("folder", None), ("link", None), ("pipe", None), ("secret", Some("running"))]);
}

#[test]
fn what_has_changed_is_told_once_the_index_is_complete() {
    let (temp, index) = started();
    let root = temp.path().join("tasks");
    let mut early = index.changes();
    becomes(&index, &[]);
    // Told right behind being complete.
    eventually("everything is told", || matches!(early.try_recv(), Ok(Change::Everything)));
    let mut changes = index.changes();
    let mut next = |index: &Index| loop {
        index.catch_up();
        match changes.try_recv() {
            Ok(change) => return change,
            Err(error) => assert_eq!(error, broadcast::error::TryRecvError::Empty),
        }
    };
    write(&root, "t/metadata.json", r#"{"status":"created"}"#);
    assert!(matches!(next(&index), Change::Task(row) if row.status.as_deref() == Some("created")));
    write(&root, "t/metadata.json", r#"{"status":"completed"}"#);
    assert!(matches!(next(&index), Change::Task(row) if row.status.as_deref() == Some("completed")));
    // What does not change the row is no news.
    write(&root, "t/03-agent-output.jsonl", "{}\n");
    becomes(&index, &[("t", Some("completed"))]);
    fs::rename(root.join("t"), temp.path().join("gone")).unwrap();
    assert!(matches!(next(&index), Change::Removed(task) if task == id("t")));
}

#[test]
fn flows_are_listed_until_they_join() {
    let (temp, index) = started();
    let root = temp.path().join("tasks");
    for n in 0..5 {
        write(&root, &format!("_webhooks/w{n}/02-webhook-flow.jsonl"), "{}\n");
    }
    write(&root, "_webhooks/joined/.state", "");
    let flows = |after: Option<&str>, limit| {
        index.catch_up();
        let page = index.flows(after.map(id).as_ref(), limit).unwrap();
        (page.ids.iter().map(|id| id.to_string()).collect::<Vec<_>>(), page.more)
    };
    let all = || flows(None, 10).0;
    eventually("all are listed", || all() == ["w0", "w1", "w2", "w3", "w4"]);
    assert_eq!(flows(Some("w1"), 2), (vec!["w2".to_owned(), "w3".to_owned()], true));
    assert_eq!(flows(Some("w2"), 2), (vec!["w3".to_owned(), "w4".to_owned()], false));
    fs::remove_file(root.join("_webhooks/w2/02-webhook-flow.jsonl")).unwrap();
    write(&root, "_webhooks/joined/05-other-events.jsonl", "{}\n");
    fs::remove_dir_all(root.join("_webhooks/w0")).unwrap();
    eventually("one has joined", || all() == ["joined", "w1", "w3", "w4"]);
}

#[test]
fn an_index_that_is_dropped_ends_its_thread() {
    let (_temp, index) = started();
    let shared = Arc::downgrade(&index.0.0);
    drop(index);
    eventually("the thread has let go", || shared.strong_count() == 0);
}
