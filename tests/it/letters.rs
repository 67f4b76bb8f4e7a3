//! Dead letters of a running service: what `task-logger dlq` shows and does, entries that block, entries of which the process
//! dies, and letters that take all the room.

use std::{fs, process::Output, time::Duration};

use serde_json::{Value, json};

use crate::{
    checker::files_with,
    rig::{Node, Rig, eventually, let_pass},
};

const SECRET: &str = "hunter2-that-no-one-may-see";

/// Runs a case on the embedded stream and on Redis.
fn on_both(case: impl Fn(Rig)) {
    case(Rig::embedded());
    if let Some(rig) = Rig::redis() {
        case(rig);
    }
}

fn dlq(rig: &Rig, args: &[&str]) -> Output {
    let output = rig.command(&[&["dlq"], args].concat()).stdin(std::process::Stdio::null()).output().unwrap();
    assert!(output.status.code().is_some_and(|code| code <= 1), "{args:?}: {output:?}");
    output
}

#[track_caller]
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `dlq ls --json`.
fn listed(rig: &Rig, args: &[&str]) -> Vec<Value> {
    let text = said(&dlq(rig, &[&["ls", "--json"], args].concat()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn output(task: &str, content: &str) -> Value {
    json!({"type": "task:output", "task_id": task, "data": {"content": content}})
}

fn records(rig: &Rig, path: &str) -> Vec<Value> {
    let text = fs::read_to_string(rig.logs().join(path)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until so many records stand in a task's output.
#[track_caller]
fn wait_records(rig: &Rig, task: &str, count: usize) -> Vec<Value> {
    let path = format!("{task}/03-agent-output.jsonl");
    eventually("the records are written", || records(rig, &path).len() >= count);
    let all = records(rig, &path);
    assert_eq!(all.len(), count, "{all:#?}");
    all
}

fn guest(rig: &Rig, policy: &str, mode: &str, text: &str) {
    let sidecar = format!("{policy}\n[config]\nmode = '{mode}'\nmatch = '{text}'\nname = 'guest'\nfiles = []\n");
    rig.put_guest("guest", &sidecar);
}

fn guest_rig(rig: Rig, policy: &str, mode: &str, text: &str) -> Rig {
    guest(&rig, policy, mode, text);
    rig.set("REQUIRED_PLUGINS", "guest")
}

fn live(node: &Node, version: &str) -> bool {
    node.get("/plugins").1.contains(version)
}

#[test]
fn letters_are_listed_shown_replayed_and_purged_and_their_text_stays_in_the_stream() {
    on_both(|rig| {
        let rig = guest_rig(rig, "", "quarantine", "please");
        let mut node = rig.spawn_owner();
        let bad = json!({"type": "task:output", "task_id": "a", "data": format!("\u{1b}[31mno JSON {SECRET}")});
        let ids =
            node.append(&[output("a", "first"), bad, output("a", &format!("please {SECRET}")), output("a", "last")]);
        let gaps: Vec<_> = wait_records(&rig, "a", 4).iter().map(|record| record["reason"].clone()).collect();
        assert_eq!(gaps, [Value::Null, json!("bad_json"), json!("refused"), Value::Null]);
        eventually("both are buried", || listed(&rig, &[]).len() == 2);
        let [first, second] = &listed(&rig, &[])[..] else { panic!() };
        assert_eq!((&first["id"], &first["reason"], &first["task"]), (&json!(ids[1]), &json!("bad_json"), &json!("a")));
        assert_eq!(
            (&second["plugin"], &second["code"], &second["kind"]),
            (&json!("guest"), &json!("misbehaved"), &json!("task:output"))
        );
        assert_eq!(listed(&rig, &["--reason", "refused"]).len(), 1);
        assert_eq!(listed(&rig, &["--plugin", "guest", "--since", "1h"]).len(), 1);
        assert!(listed(&rig, &["--since", "2100-01-01T00:00:00Z"]).is_empty());
        let table = said(&dlq(&rig, &["ls"]));
        assert!(table.starts_with("ID ") && table.lines().count() == 3 && !table.contains(SECRET), "{table}");
        // Into a pipe it goes as it came.
        let shown = said(&dlq(&rig, &["show", &ids[1]]));
        assert!(
            shown.contains(&format!("\ndata: \u{1b}[31mno JSON {SECRET}\n")) && shown.contains("reason: bad_json"),
            "{shown}"
        );
        let shown: Value = serde_json::from_str(&said(&dlq(&rig, &["show", "--json", &ids[2]]))).unwrap();
        assert!(shown["fields"].to_string().contains(SECRET), "{shown}");
        for args in [&["show", "1-1"][..], &["replay", "1-1"], &["purge", "1-1"], &["put", "1-1"]] {
            assert_eq!(dlq(&rig, args).status.code(), Some(1), "{args:?}");
        }
        // Beside the running service; what was wrong with the event is mended first.
        guest(&rig, "", "pass", "please");
        eventually("the other version is live", || {
            !live(&node, "\"quarantined\":1")
                && node.json("/plugins").to_string().matches("\"state\":\"live\"").count() == 1
                && said(&dlq(&rig, &["ls"])).lines().count() == 3
        });
        let_pass(Duration::from_millis(300));
        let replayed = said(&dlq(&rig, &["replay", &ids[2]]));
        let new = replayed.trim().rsplit(' ').next().unwrap().to_owned();
        let all = wait_records(&rig, "a", 5);
        assert_eq!((&all[4]["id"], &all[4]["replay_of"]), (&json!(new), &json!(ids[2])), "{all:#?}");
        assert_eq!(all[2]["reason"], "refused", "its gap stays where it was");
        assert_eq!(dlq(&rig, &["replay", &ids[2]]).status.code(), Some(1), "it is replayed once");
        assert_eq!(listed(&rig, &[]).len(), 1);
        // Also when nothing runs.
        let log = node.log();
        assert!(!log.contains(SECRET) && !node.get("/metrics").1.contains(SECRET), "{log}");
        assert!(node.is_running());
        node.terminate();
        assert_eq!(said(&dlq(&rig, &["purge", "--before", "1h"])), "0 letters removed\n");
        assert_eq!(said(&dlq(&rig, &["purge", "--all", "--yes"])), "1 letters removed\n");
        assert!(listed(&rig, &[]).is_empty());
        let shown = files_with(&rig.logs(), "no JSON");
        assert!(shown.is_empty(), "{shown:?}");
    });
}

#[test]
fn put_moves_an_entry_on_which_a_plugin_halts() {
    on_both(|rig| {
        let rig = guest_rig(rig, "on_failure = 'halt'", "trap", "please");
        let node = rig.spawn_owner();
        let ids =
            node.append(&[output("a", "first"), output("a", "please"), output("a", "third"), output("b", "fourth")]);
        eventually("nothing is read any more", || node.get("/ready?write").0 == 503);
        assert!(listed(&rig, &[]).is_empty());
        let said = said(&dlq(&rig, &["put", &ids[1], "--wait", "60"]));
        assert!(said.contains("is among the dead letters"), "{said}");
        let all = wait_records(&rig, "a", 3);
        assert_eq!(
            (&all[1]["type"], &all[1]["reason"], &all[1]["id"]),
            (&json!("gap"), &json!("operator"), &json!(ids[1]))
        );
        wait_records(&rig, "b", 1);
        eventually("events are read again", || node.get("/ready?write").0 == 200);
        let letters = listed(&rig, &[]);
        assert_eq!((letters.len(), &letters[0]["reason"]), (1, &json!("operator")));
        assert_eq!(dlq(&rig, &["put", &ids[0]]).status.code(), Some(1), "it was processed before");
        // A request outlives the process that it was made to.
        let ids = node.append(&[output("a", "please wait")]);
        eventually("nothing is read any more", || node.get("/ready?write").0 == 503);
        node.kill();
        dlq(&rig, &["put", &ids[0], "--wait", "0"]);
        let node = rig.spawn();
        assert_eq!(wait_records(&rig, "a", 4)[3]["reason"], "operator");
        node.terminate();
    });
}

#[test]
fn put_moves_an_entry_on_which_a_redactor_stopped() {
    on_both(|rig| {
        let rig = guest_rig(rig, "", "trap", "please");
        let sidecar = "[config]\nmode = 'trap'\nmatch = 'please'\nname = 'guest'\nrole = 'redactor'\nfiles = []\n";
        rig.put_guest("guest", sidecar);
        let node = rig.spawn_owner();
        let ids = node.append(&(0..5).map(|n| output("a", &format!("please {n}"))).collect::<Vec<_>>());
        node.append(&[output("a", "well")]);
        eventually("the redactor stops reading", || node.get("/ready?write").0 == 503);
        said(&dlq(&rig, &["put", &ids[2], "--wait", "60"]));
        let all = wait_records(&rig, "a", 6);
        let reasons: Vec<_> = all.iter().map(|record| record["reason"].as_str().unwrap_or("")).collect();
        assert_eq!(reasons, ["plugin_failed", "plugin_failed", "operator", "plugin_failed", "plugin_failed", ""]);
        let letters = listed(&rig, &["--reason", "plugin_failed"]);
        // Alone after it failed in larger parts: asked more than once.
        assert!(letters.iter().all(|letter| letter["attempts"].as_u64() >= Some(2)), "{letters:#?}");
        node.terminate();
    });
}

/// The note in the state folder.
fn suspect(rig: &Rig) -> Value {
    let found = crate::checker::files_below(&rig.root().join("state"));
    let note = found.iter().find(|path| path.ends_with("suspect.json"));
    note.and_then(|path| fs::read(path).ok()).and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn in_hand(rig: &Rig) -> Option<String> {
    let note = suspect(rig);
    let id = note["in_hand"].as_object()?;
    (note["ended"] == false).then(|| format!("{}-{}", id["ms"], id["seq"]))
}

/// Long in hand: the plugin does not return before its time is over, twice.
fn slow_rig(rig: Rig) -> Rig {
    guest_rig(rig, "timeout = '1s'", "loop", "please")
}

/// Kills the owner twice while it has the first of these in hand and does not get on.
fn die_twice(rig: &Rig, before: &str) {
    for _ in 0..2 {
        let node = rig.spawn_owner();
        wait_records(rig, before, 1);
        eventually("it has entries in hand", || {
            node.get("/metrics?format=prometheus").1.contains("task_logger_events_total")
        });
        let_pass(Duration::from_millis(300));
        node.kill();
    }
}

#[test]
fn an_entry_of_which_the_process_dies_three_times_alone_is_poison() {
    on_both(|rig| {
        let rig = slow_rig(rig);
        let node = rig.spawn_owner();
        node.append(&[output("before", "well")]);
        wait_records(&rig, "before", 1);
        let ids = node.append(&[output("a", "first"), output("a", "please"), output("a", "third")]);
        node.kill();
        die_twice(&rig, "before");
        for deaths in 1..=3 {
            let node = rig.spawn();
            // Until it owns the stream the note is that of the one before.
            eventually("the entry runs alone", || node.is_owner() && in_hand(&rig).as_ref() == Some(&ids[1]));
            assert!(node.json("/health")["notices"]["careful"].is_string());
            assert!(listed(&rig, &[]).is_empty(), "{deaths}");
            node.kill();
        }
        let node = rig.spawn_owner();
        let all = wait_records(&rig, "a", 3);
        assert_eq!((&all[1]["reason"], &all[2]["content"]), (&json!("poison"), &json!("third")));
        eventually("it is buried", || listed(&rig, &["--reason", "poison"]).len() == 1);
        let letter = &listed(&rig, &[])[0];
        assert_eq!((&letter["id"], &letter["attempts"]), (&json!(ids[1]), &json!(3)));
        let ids = node.append(&[output("a", "fourth")]);
        assert_eq!(wait_records(&rig, "a", 4)[3]["id"], json!(ids[0]));
        node.terminate();
    });
}

#[test]
fn innocent_kills_make_no_dead_letter() {
    let rig = slow_rig(Rig::embedded());
    let node = rig.spawn_owner();
    node.append(&[output("before", "well")]);
    wait_records(&rig, "before", 1);
    let ids = node.append(&[output("a", "please")]);
    node.kill();
    die_twice(&rig, "before");
    // Careful now, and killed again and again with the entry in hand; but each time it was told to stop before, as a
    // rolling restart whose grace is too short does.
    for _ in 0..4 {
        let node = rig.spawn();
        eventually("the entry runs alone", || node.is_owner() && in_hand(&rig).as_ref() == Some(&ids[0]));
        node.ask_to_end();
        eventually("it says that it was told", || suspect(&rig)["ended"] == true);
        node.kill();
    }
    let node = rig.spawn_owner();
    wait_records(&rig, "a", 1);
    eventually("it is buried for what it is", || !listed(&rig, &[]).is_empty());
    assert_eq!(listed(&rig, &[])[0]["reason"], "plugin_failed");
    node.terminate();
}

#[test]
fn letters_that_take_all_the_room_stop_reading_until_some_are_purged() {
    on_both(|rig| {
        let rig = rig.set("DEAD_LETTER_MAX", "1MiB").set("READ_WINDOW", "1MiB").set("MAX_EVENT", "1MiB");
        let node = rig.spawn_owner();
        let bad =
            |n: u32| json!({"type": "task:output", "task_id": "a", "data": format!("{n}{}", "x".repeat(200 << 10))});
        for n in 0..12 {
            node.append(&[bad(n)]);
        }
        node.append(&[output("a", "last")]);
        eventually("it says why nothing moves", || node.json("/health")["blocked"]["dead_letters"].is_string());
        assert_eq!(node.get("/ready?write").0, 503);
        assert!(node.metrics().contains("task_logger_dead_letters_full 1"));
        let mut seen = std::collections::BTreeSet::new();
        eventually("all are buried", || {
            for letter in listed(&rig, &[]) {
                let id = letter["id"].as_str().unwrap().to_owned();
                if seen.insert(id.clone()) {
                    said(&dlq(&rig, &["purge", &id]));
                }
            }
            seen.len() == 12
        });
        assert_eq!(wait_records(&rig, "a", 13)[12]["content"], "last");
        eventually("nothing blocks", || node.get("/ready?write").0 == 200);
        node.terminate();
    });
}

#[test]
fn a_digest_leaves_the_text_where_it_was() {
    on_both(|rig| {
        let rig = rig.set("DEAD_LETTER_PAYLOAD", "digest");
        let node = rig.spawn_owner();
        let ids = node.append(&[json!({"type": "task:output", "task_id": "a", "data": format!("no JSON {SECRET}")})]);
        eventually("it is buried", || listed(&rig, &[]).len() == 1);
        let letter = &listed(&rig, &[])[0];
        assert_eq!((&letter["payload"], &letter["task"]), (&json!("digest"), &json!("a")));
        assert_eq!(letter["sha256"].as_str().unwrap().len(), 64);
        assert!(said(&dlq(&rig, &["show", &ids[0]])).contains(SECRET), "read from the stream");
        node.terminate();
        let dead = rig.root().join("stream/task_events/dead");
        assert!(files_with(&dead, SECRET).is_empty());
    });
}

#[test]
fn a_dead_or_dropped_end_ends_its_task() {
    on_both(|rig| {
        let rig = guest_rig(rig, "", "drop", "please");
        let node = rig.spawn_owner();
        let end = |task: &str, kind: &str, data: Value| json!({"type": kind, "task_id": task, "data": data});
        node.append(&[
            output("dropped", "x"),
            end("dropped", "task:completed", json!({"result": "please"})),
            end("says-failed", "task:completed", json!({"result": "please", "status": "failed"})),
            end("dead", "task:completed", json!("no JSON")),
            end("failed", "task:failed", json!("no JSON")),
        ]);
        for (task, status, success, code) in [
            ("dropped", "completed", true, "misbehaved"),
            ("says-failed", "failed", false, "misbehaved"),
            ("dead", "completed", true, "bad_json"),
            ("failed", "failed", false, "bad_json"),
        ] {
            let read = |name: &str| -> Value {
                let text = fs::read(rig.logs().join(task).join(name)).unwrap_or_default();
                serde_json::from_slice(&text).unwrap_or_default()
            };
            eventually("the task ends", || {
                // Written one after the other.
                read("metadata.json")["status"] == status && read("04-final-result.json")["gap"] == code
            });
            let result = read("04-final-result.json");
            assert_eq!((&result["success"], &result["gap"]), (&json!(success), &json!(code)), "{task}: {result}");
            let gap = records(&rig, &format!("{task}/03-agent-output.jsonl")).pop().unwrap();
            assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!(code)), "{task}");
        }
        node.terminate();
    });
}
