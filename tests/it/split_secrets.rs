//! A secret in pieces through the running service with the bundled `redact`: whatever the pieces, and whatever is killed
//! between them, the log reads as the redaction of the whole, or at least shows nothing of the secret.

use std::{
    fs,
    time::{Duration, Instant},
};

use fastrand::Rng;
use redact::{Event, Redactor, Verdict};
use serde_json::{Value, json};

use crate::{
    checker::files_with,
    rig::{Node, Rig, eventually, let_pass, seed},
};

/// A task that says a text in pieces.
struct Speech {
    task: String,
    text: String,
    /// What no part of may be seen.
    secret: String,
    pieces: Vec<String>,
    /// Ids and timestamps of the pieces, as sent.
    sent: Vec<(String, String)>,
}

fn noise(rng: &mut Rng, length: usize) -> String {
    let mut text: String = std::iter::repeat_with(|| rng.alphanumeric()).take(length).collect();
    // Without a digit it might be a word.
    text.replace_range(1..2, "7");
    text
}

/// A few of each way to find a secret, each in 2 to 8 pieces.
fn speeches(rng: &mut Rng) -> Vec<Speech> {
    let mut speeches = Vec::new();
    for (before, length, after) in [
        ("the key is ghp_", 36, " and no more.\n"),
        ("use sk-ant-api03-", 80, "\n"),
        ("slack: xoxb-1234567890-", 24, " end"),
        ("run with DB_PASSWORD=", 24, "\nnext line"),
        ("curl -H 'Authorization: Bearer ", 30, "' http://host/ x"),
        ("at postgres://app:", 20, "@db:5432/x now"),
        ("and {\"client_secret\": \"", 30, "\", \"x\": 1}"),
        ("X-Api-Key: ", 24, "\r\nAccept: all"),
        ("AccountKey=", 40, ";EndpointSuffix=x"),
        ("-----BEGIN PRIVATE KEY-----\n", 64, "\n-----END PRIVATE KEY-----\nthat is it"),
    ] {
        for count in 2..=8 {
            let secret = noise(rng, length);
            let text = format!("{before}{secret}{after}");
            // Every second time in what announces the secret and its first letters only: in pieces of a letter or two.
            let (from, to) = match count % 2 {
                0 => (before.len().saturating_sub(12).max(1), text.len() - 1),
                _ => (before.len().saturating_sub(12).max(1), before.len() + 3),
            };
            let mut cuts: Vec<usize> = (from..to).collect();
            rng.shuffle(&mut cuts);
            cuts.truncate(count - 1);
            cuts.sort_unstable();
            let ends = cuts.iter().copied().chain([text.len()]);
            let begins = std::iter::once(0).chain(cuts.iter().copied());
            let pieces = begins.zip(ends).map(|(from, to)| text.get(from..to).unwrap().to_owned()).collect();
            speeches.push(Speech { task: format!("s{}", speeches.len()), text, secret, pieces, sent: Vec::new() });
        }
    }
    speeches
}

impl Speech {
    /// What the service has written of it: contents, ids, timestamps.
    fn written(&self, rig: &Rig) -> (String, Vec<(String, String)>) {
        let text = rig.read(&format!("{}/03-agent-output.jsonl", self.task));
        let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let outputs = records.iter().filter(|record| record["type"] == "output");
        let said = |value: &Value| value.as_str().unwrap().to_owned();
        let contents = outputs.clone().map(|record| said(&record["content"])).collect::<String>();
        (contents, outputs.map(|record| (said(&record["id"]), said(&record["timestamp"]))).collect())
    }

    /// The whole text's redaction, by the same rules.
    fn redacted(&self) -> String {
        let data = json!({"content": self.text}).to_string();
        let outcome = Redactor::new("{}").unwrap().process("", &[Event { kind: "task:output", data: &data }], true);
        let [Verdict::Replace(data)] = &outcome.verdicts[..] else { panic!("{:?}: {:?}", self.text, outcome.verdicts) };
        serde_json::from_str::<Value>(data).unwrap()["content"].as_str().unwrap().to_owned()
    }
}

/// Says piece after piece, of all tasks in turn, with `between` after each round; then the tasks end.
fn say(rig: &Rig, speeches: &mut [Speech], mut node: Node, mut between: impl FnMut(&Rig, Node, usize) -> Node) -> Node {
    for round in 0..8 {
        let mut events = Vec::new();
        for (n, speech) in speeches.iter_mut().enumerate() {
            let Some(piece) = speech.pieces.get(round) else { continue };
            let timestamp = format!("2026-01-01T00:00:{round:02}.{n:03}Z");
            speech.sent.push((String::new(), timestamp.clone()));
            events.push(json!({"type": "task:output", "task_id": speech.task, "timestamp": timestamp,
                "data": {"content": piece}}));
        }
        let ids = node.append(&events);
        let speaking = speeches.iter_mut().filter(|speech| speech.pieces.len() > round);
        for (speech, id) in speaking.zip(ids) {
            speech.sent[round].0 = id;
        }
        node = between(rig, node, round);
    }
    let ends = speeches.iter().map(|speech| json!({"type": "task:completed", "task_id": speech.task, "data": {}}));
    node.append(&ends.collect::<Vec<_>>());
    rig.settle(&node, &speeches.iter().map(|speech| speech.task.as_str()).collect::<Vec<_>>());
    node
}

#[track_caller]
fn whole_though_cut_and_killed(rig: Rig, test: &str) {
    // Restarts take longer than a second on a busy machine: only the tasks' ends end the wait.
    let rig = rig.with_bundled(&["redact"]).set("HOLD_MAX", "60s");
    let mut rng = Rng::with_seed(seed(test));
    let mut speeches = speeches(&mut rng);
    let node = rig.spawn_owner();
    let node = say(&rig, &mut speeches, node, |rig, node, round| {
        let_pass(Duration::from_millis(rng.u64(0..100)));
        match round {
            0 | 3 => node.kill(),
            1 | 4 => drop(node.terminate()),
            _ => return node,
        }
        rig.spawn_owner()
    });
    for speech in &speeches {
        let (contents, records) = speech.written(&rig);
        assert_eq!(contents, speech.redacted(), "{:?}", speech.pieces);
        assert_eq!(records, speech.sent, "ids, timestamps and their number: {:?}", speech.pieces);
        assert_eq!(files_with(&rig.logs(), &speech.secret), Vec::<std::path::PathBuf>::new());
    }
    node.terminate();
}

#[test]
fn a_secret_in_pieces_is_redacted_as_the_whole_over_kills_on_the_embedded_stream() {
    whole_though_cut_and_killed(Rig::embedded(), "a_secret_in_pieces_on_the_embedded_stream");
}

#[test]
fn a_secret_in_pieces_is_redacted_as_the_whole_over_kills_on_redis() {
    let Some(rig) = Rig::redis() else { return };
    whole_though_cut_and_killed(rig, "a_secret_in_pieces_on_redis");
}

#[test]
fn a_secret_whose_pieces_come_too_late_shows_no_part_of_itself() {
    let rig = Rig::embedded().with_bundled(&["redact"]).set("HOLD_MAX", "50ms");
    let mut rng = Rng::with_seed(seed("a_secret_whose_pieces_come_too_late"));
    let mut speeches = speeches(&mut rng);
    let node = rig.spawn_owner();
    let node = say(&rig, &mut speeches, node, |rig, node, round| {
        eventually("nothing is held any more", || node.json("/metrics")["events"]["held"] == 0);
        let_pass(Duration::from_millis(100));
        match round {
            2 => node.kill(),
            4 => drop(node.terminate()),
            _ => return node,
        }
        rig.spawn_owner()
    });
    for speech in &speeches {
        let (contents, records) = speech.written(&rig);
        let chars: Vec<char> = speech.secret.chars().collect();
        for window in chars.windows(4).map(|window| window.iter().collect::<String>()) {
            assert!(!contents.contains(&window), "{window:?} of {:?} is in {contents:?}", speech.pieces);
        }
        assert_eq!(records, speech.sent, "ids, timestamps and their number: {:?}", speech.pieces);
    }
    node.terminate();
}

#[test]
fn a_held_event_stops_nothing_while_entries_run_one_at_a_time() {
    for rig in [Some(Rig::embedded()), Rig::redis()].into_iter().flatten() {
        // The longest there is: with each waited for in turn, all are never held at once.
        let rig = rig.with_bundled(&["redact"]).set("HOLD_MAX", "1m");
        let output =
            |task: &str, text: &str| json!({"type": "task:output", "task_id": task, "data": {"content": text}});
        let all_held = |node: &Node| eventually("all are held", || node.json("/metrics")["events"]["held"] == 6);
        let tasks = ["a", "b", "c", "d", "e", "f"];
        let mut node = rig.spawn_owner();
        node.append(&tasks.map(|task| output(task, "the key is AKIAIOSFOD")));
        for _ in 0..2 {
            all_held(&node);
            node.kill();
            node = rig.spawn_owner();
        }
        // Each is done with as soon as it is held: the notice in /health may be gone before it is looked at.
        all_held(&node);
        assert!(node.log().contains("mode=Careful"));
        node.append(&tasks.map(|task| output(task, "NN7EXAMPLE and no more")));
        rig.settle(&node, &tasks);
        for task in tasks {
            let said = rig.read(&format!("{task}/03-agent-output.jsonl"));
            assert!(said.contains("and no more") && !said.contains("AKIA"), "{said}");
        }
        assert_eq!(node.json("/metrics")["events"]["held"], 0);
        node.terminate();
    }
}

/// How long after an event was taken in its record stands in the task's file, in the middle of some.
fn delay(rig: &Rig, node: &Node, task: &str, contents: &str, count: usize) -> Duration {
    let file = rig.logs().join(task).join("03-agent-output.jsonl");
    let mut delays: Vec<Duration> = (0..count)
        .map(|_| {
            let ids = node.append(&[json!({"type": "task:output", "task_id": task, "data": {"content": contents}})]);
            let began = Instant::now();
            let id = format!("\"id\":\"{}\"", ids[0]);
            eventually("the record is there", || fs::read_to_string(&file).is_ok_and(|text| text.contains(&id)));
            began.elapsed()
        })
        .collect();
    delays.sort_unstable();
    delays[count / 2]
}

#[test]
fn what_ends_no_partial_match_is_not_delayed_and_what_does_by_hold_max_at_most() {
    let plain = Rig::embedded();
    let node = plain.spawn_owner();
    let without = delay(&plain, &node, "t", "The build is green.", 21);
    node.terminate();
    let rig = Rig::embedded().with_bundled(&["redact"]);
    let node = rig.spawn_owner();
    let clean = delay(&rig, &node, "clean", "The build is green.", 21);
    let found = delay(&rig, &node, "found", "it is password=hunter2hunter2 \n", 21);
    let held = delay(&rig, &node, "held", "it begins with ghp_0123456", 3);
    eprintln!("without plugins {without:?}, clean {clean:?}, redacted {found:?}, held {held:?}");
    // HOLD_MAX is a second: what waited for it would take far more than this.
    for delay in [clean, found] {
        assert!(delay < without + Duration::from_millis(200), "{delay:?}, {without:?} without plugins");
    }
    assert!(held > Duration::from_millis(500) && held < Duration::from_millis(2000), "{held:?}");
    node.terminate();
}
