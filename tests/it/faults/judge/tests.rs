//! The checker finds each defect that is planted in a good tree, and none in the good one.

use std::{fs, path::Path};

use super::{Defect, Entry, Id, Letter, Stream};

const EXTRAS: &[&str] = &["transcript.md"];

fn entry(seq: u64, fields: &[(&str, &str)]) -> Entry {
    let bytes = |text: &str| text.as_bytes().to_vec();
    Entry { id: Id(1, seq), fields: fields.iter().map(|(name, value)| (bytes(name), bytes(value))).collect() }
}

fn output(seq: u64) -> Entry {
    let data = format!("{{\"content\":\"mark-{seq}-end\"}}");
    entry(seq, &[("type", "task:output"), ("task_id", "t"), ("data", &data)])
}

fn webhook(seq: u64, kind: &str, flow: &str, data: &str) -> Entry {
    entry(seq, &[("type", kind), ("webhook_event_id", flow), ("data", data)])
}

fn letter(seq: u64) -> Letter {
    Letter { id: Id(1, seq), plugin: String::new(), whole: true }
}

/// A stream of one task, one flow that joins it and one that does not, and the tree that it must leave.
fn good(logs: &Path) -> Stream {
    let line = |seq: u64, text: &str| format!("{{\"timestamp\":\"T\",{text},\"id\":\"1-{seq}\"}}\n");
    let said = |seq: u64| line(seq, &format!("\"type\":\"output\",\"content\":\"mark-{seq}-end\""));
    let hook = |seq: u64, stage: &str| line(seq, &format!("\"stage\":\"{stage}\",\"data\":{{}}"));
    let put = |path: &str, text: String| {
        let path = logs.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("t/metadata.json", "{\"task_id\":\"t\",\"event_ids\":[\"1-1\",\"1-10\"]}".into());
    put("t/01-input.json", "{\"message\":null}".into());
    put("t/.state", "anything".into());
    put(
        "t/03-agent-output.jsonl",
        said(2) + &said(5) + &line(6, "\"type\":\"gap\",\"reason\":\"bad_json\"") + &said(11),
    );
    put("t/02-webhook-flow.jsonl", hook(3, "received") + &hook(4, "task_created") + &hook(9, "payload"));
    put("_webhooks/w2/02-webhook-flow.jsonl", hook(8, "received"));
    put("_webhooks/w/.state", "anything".into());
    put("t/transcript.md", "mark-2-end\nmark-5-end\nmark-11-end\n".into());
    put(".task-logger/redis-task_events/1-00000000.wal", "anything".into());
    let entries = vec![
        entry(1, &[("type", "task:created"), ("task_id", "t"), ("data", "{}")]),
        output(2),
        webhook(3, "webhook:received", "w", "{}"),
        webhook(4, "webhook:task_created", "w", "{\"task_id\":\"t\"}"),
        output(5),
        entry(6, &[("type", "task:output"), ("task_id", "t"), ("data", "no json")]),
        entry(7, &[("type", "task:output"), ("data", "{}")]),
        webhook(8, "webhook:received", "w2", "{}"),
        webhook(9, "webhook:payload", "w", "{}"),
        entry(10, &[("type", "task:started"), ("task_id", "t"), ("data", "{}")]),
        output(11),
    ];
    Stream { entries, dead: vec![letter(6), letter(7)] }
}

#[test]
fn a_good_tree_has_no_defect() {
    let logs = tempfile::tempdir().unwrap();
    assert_eq!(good(logs.path()).defects(logs.path(), EXTRAS), []);
}

/// Plants something and expects exactly these defects.
#[track_caller]
fn planted(plant: impl FnOnce(&Path, &mut Stream), expected: &[Defect]) {
    let logs = tempfile::tempdir().unwrap();
    let mut stream = good(logs.path());
    plant(logs.path(), &mut stream);
    assert_eq!(stream.defects(logs.path(), EXTRAS), expected);
}

/// Changes a file's text.
fn edit(logs: &Path, path: &str, change: impl FnOnce(String) -> String) {
    let path = logs.join(path);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let changed = change(text.clone());
    assert_ne!(text, changed, "nothing was planted");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, changed).unwrap();
}

const OUTPUT: &str = "t/03-agent-output.jsonl";
const FLOW: &str = "t/02-webhook-flow.jsonl";

fn without(seq: u64) -> impl Fn(String) -> String {
    move |text| text.split_inclusive('\n').filter(|line| !line.contains(&format!("\"1-{seq}\""))).collect()
}

fn only(text: &str, seq: u64) -> String {
    text.split_inclusive('\n').filter(|line| line.contains(&format!("\"1-{seq}\""))).collect()
}

#[test]
fn what_is_missing_is_found() {
    planted(|logs, _| edit(logs, OUTPUT, without(5)), &[Defect::Missing(Id(1, 5))]);
    planted(|logs, _| edit(logs, FLOW, without(3)), &[Defect::Missing(Id(1, 3))]);
    planted(|logs, _| edit(logs, OUTPUT, without(6)), &[Defect::Missing(Id(1, 6))]);
    planted(|logs, _| edit(logs, "t/metadata.json", |text| text.replace("\"1-1\",", "")), &[Defect::Missing(Id(1, 1))]);
    planted(|_, stream| drop(stream.dead.pop()), &[Defect::Dead(Id(1, 7))]);
    planted(|_, stream| drop(stream.dead.remove(0)), &[Defect::Dead(Id(1, 6))]);
    planted(|_, stream| stream.dead[0].whole = false, &[Defect::Dead(Id(1, 6))]);
    planted(|_, stream| stream.entries.push(output(12)), &[Defect::Missing(Id(1, 12)), Defect::Transcript(Id(1, 12))]);
}

#[test]
fn what_is_doubled_is_found() {
    let twice = |text: String| {
        text.split_inclusive('\n').map(|line| line.repeat(if line.contains("1-5") { 2 } else { 1 })).collect()
    };
    planted(|logs, _| edit(logs, OUTPUT, twice), &[Defect::Doubled(Id(1, 5)), Defect::Order(Id(1, 5))]);
    // In JSONL and in metadata.
    let also = |text: String| text.replace("\"1-10\"", "\"1-10\",\"1-11\"");
    planted(|logs, _| edit(logs, "t/metadata.json", also), &[Defect::Doubled(Id(1, 11))]);
    // Left behind in the flow's directory after the join.
    let stale = |logs: &Path, _: &mut Stream| {
        let received = only(&fs::read_to_string(logs.join(FLOW)).unwrap(), 3);
        edit(logs, "_webhooks/w/02-webhook-flow.jsonl", |_| received);
    };
    planted(stale, &[Defect::Doubled(Id(1, 3))]);
    planted(|_, stream| stream.dead.push(letter(7)), &[Defect::Dead(Id(1, 7))]);
}

#[test]
fn what_is_out_of_order_is_found() {
    let swapped = |text: String| {
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        lines.swap(0, 1);
        lines.concat()
    };
    planted(|logs, _| edit(logs, OUTPUT, swapped), &[Defect::Order(Id(1, 2))]);
    planted(|logs, _| edit(logs, FLOW, swapped), &[Defect::Order(Id(1, 3))]);
    let ids = |text: String| text.replace("\"1-1\",\"1-10\"", "\"1-10\",\"1-1\"");
    planted(|logs, _| edit(logs, "t/metadata.json", ids), &[Defect::Order(Id(1, 1))]);
    let page = [Defect::Transcript(Id(1, 2)), Defect::Transcript(Id(1, 5))];
    planted(|logs, _| edit(logs, "t/transcript.md", swapped), &page);
}

#[test]
fn what_is_foreign_is_found() {
    let unknown = |text: String| text.replace("\"1-11\"", "\"1-12\"");
    let defects = [Defect::Missing(Id(1, 11)), Defect::ForeignId(Id(1, 12))];
    planted(|logs, _| edit(logs, OUTPUT, unknown), &defects);
    for path in ["u/03-agent-output.jsonl", "_webhooks/w3/02-webhook-flow.jsonl"] {
        let dir = Path::new(path).parent().unwrap().to_owned();
        planted(|logs, _| edit(logs, path, |_| "{}\n".into()), &[Defect::Foreign(dir)]);
    }
    for path in ["t/notes.txt", "t/tmp123", ".task-logger/redis-task_events/tmp-1/a1", "note"] {
        planted(|logs, _| edit(logs, path, |_| "x".into()), &[Defect::Foreign(path.into())]);
    }
    planted(|_, stream| stream.dead.push(letter(99)), &[Defect::ForeignId(Id(1, 99))]);
    planted(|_, stream| stream.dead.push(letter(5)), &[Defect::NotDead(Id(1, 5))]);
    planted(
        |logs, _| edit(logs, "t/transcript.md", |text| text + "mark-2-end\n"),
        &[Defect::Foreign("t/transcript.md".into())],
    );
}

#[test]
fn what_is_torn_is_found() {
    let torn = |text: String| text.split_at(text.len() - 10).0.to_owned();
    planted(|logs, _| edit(logs, OUTPUT, torn), &[Defect::Missing(Id(1, 11)), Defect::Torn(OUTPUT.into(), 4)]);
    planted(|logs, _| edit(logs, OUTPUT, |text| text.replacen('\n', "\n\n", 1)), &[Defect::Torn(OUTPUT.into(), 2)]);
    planted(|logs, _| edit(logs, "t/01-input.json", torn_json), &[Defect::Torn("t/01-input.json".into(), 0)]);
}

fn torn_json(text: String) -> String {
    text.split_at(text.len() - 1).0.to_owned()
}

#[test]
fn what_stands_at_the_wrong_place_is_found() {
    let moved = |from: &'static str, to: &'static str, seq: u64| {
        move |logs: &Path, _: &mut Stream| {
            let line = only(&fs::read_to_string(logs.join(from)).unwrap(), seq);
            edit(logs, from, without(seq));
            edit(logs, to, |text| text + &line);
        }
    };
    planted(moved(OUTPUT, "t/03-user-inputs.jsonl", 11), &[Defect::Misplaced(Id(1, 11))]);
    planted(moved(OUTPUT, "t/05-other-events.jsonl", 6), &[Defect::Misplaced(Id(1, 6))]);
    planted(moved(FLOW, "_webhooks/w/02-webhook-flow.jsonl", 9), &[Defect::Misplaced(Id(1, 9))]);
    planted(moved(FLOW, "_webhooks/w2/02-webhook-flow.jsonl", 9), &[Defect::Misplaced(Id(1, 9))]);
    // The wrong way round: a gap where the event stands, the event where a gap must stand.
    let gap = |text: String| text.replace("\"type\":\"output\",\"content\":\"mark-5-end\"", "\"type\":\"gap\"");
    planted(|logs, _| edit(logs, OUTPUT, gap), &[Defect::Gap(Id(1, 5))]);
    planted(|logs, _| edit(logs, OUTPUT, |text| text.replace("\"gap\"", "\"output\"")), &[Defect::Gap(Id(1, 6))]);
    // Another event's text under the right id.
    let mixed = |text: String| text.replace("mark-5-end", "mark-2-end");
    planted(|logs, _| edit(logs, OUTPUT, mixed), &[Defect::Content(Id(1, 5))]);
}
