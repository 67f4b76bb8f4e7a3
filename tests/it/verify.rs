//! `task-logger verify` finds each defect that is planted in a tree which a real service made, exactly that one, and none in
//! the good tree.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use fastrand::Rng;
use serde_json::Value;

use crate::{
    checker::{files_below, verify},
    rig::{Rig, add, seed},
};

const OUTPUT: &str = "t/03-agent-output.jsonl";
const FLOW: &str = "t/02-webhook-flow.jsonl";
const METADATA: &str = "t/metadata.json";

/// A tree, a copy of it, and the ids of the entries by their labels.
struct Planted {
    rig: Rig,
    good: PathBuf,
    ids: BTreeMap<String, String>,
    /// What was not found as expected; told at the end, all at once.
    wrong: RefCell<Vec<String>>,
}

type Expected<'e> = &'e [(&'e str, &'e str, &'e str)];

/// A task with everything in it, one that failed, and flows: one joined, one not. The service has ended in order.
fn planted() -> Option<Planted> {
    let rig = Rig::redis()?;
    let mut redis = rig.connect();
    let mut ids = BTreeMap::new();
    let mut put = |label: &str, fields: &[(&str, &str)]| {
        ids.insert(label.to_owned(), add(&mut redis, fields));
    };
    let task = |kind: &'static str, task: &'static str, data: &'static str| {
        [("type", kind), ("task_id", task), ("timestamp", "2026-02-10T09:00:01Z"), ("data", data)]
    };
    let hook = |kind: &'static str, flow: &'static str, data: &'static str| {
        [("type", kind), ("webhook_event_id", flow), ("data", data)]
    };
    put("received", &hook("webhook:received", "w", "{}"));
    put("joins", &hook("webhook:task_created", "w", "{\"task_id\":\"t\"}"));
    put("created", &task("task:created", "t", "{\"input_message\":\"do it\",\"source\":\"dashboard\"}"));
    put("started", &task("task:started", "t", "{}"));
    put("o1", &task("task:output", "t", "{\"content\":\"one\"}"));
    put("bad", &task("task:output", "t", "no json"));
    put("o2", &task("task:output", "t", "{\"content\":\"two\"}"));
    put("keyless", &[("type", "task:output"), ("data", "{}")]);
    put("u-output", &task("task:output", "u", "{\"content\":\"of u\"}"));
    put("asked", &task("task:user_input", "t", "{\"content\":\"yes\"}"));
    put("later", &hook("webhook:payload", "w", "{\"n\":1}"));
    put("alone", &hook("webhook:received", "w2", "{}"));
    put("asked2", &task("task:user_input", "t", "{\"content\":\"no\"}"));
    put("query", &task("knowledge:query", "t", "{\"q\":\"?\"}"));
    put("o3", &task("task:thinking", "t", "{\"content\":\"three\"}"));
    put("u-failed", &task("task:failed", "u", "{\"error\":\"x\"}"));
    put("done", &[("type", "task:completed"), ("task_id", "t"), ("timestamp", "2026-02-10T09:00:09Z"), ("data", "{}")]);
    put("elsewhere", &hook("webhook:payload", "w", "{\"task_id\":\"u\"}"));
    let node = rig.spawn_owner();
    rig.wait_published(&mut redis);
    node.terminate();
    let good = rig.root().join("good");
    copy(&rig.logs(), &good).unwrap();
    Some(Planted { rig, good, ids, wrong: RefCell::default() })
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if to.try_exists()? {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name()))?,
            false => drop(fs::copy(entry.path(), to.join(entry.file_name()))?),
        }
    }
    Ok(())
}

// === impl Planted ===

impl Planted {
    fn id<'a>(&'a self, label: &'a str) -> &'a str {
        self.ids.get(label).map_or(label, String::as_str)
    }

    fn found(&self, args: &[&str]) -> BTreeSet<(String, String, String)> {
        let verdict = verify(&self.rig, args);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let findings = verdict["findings"].as_array().unwrap().iter();
        findings.map(|finding| (text(&finding["kind"]), text(&finding["file"]), text(&finding["id"]))).collect()
    }

    /// Plants something in the good tree and expects exactly these findings: kind, file, label of the entry.
    fn expect(&self, what: &str, plant: impl FnOnce(&Path), expected: Expected<'_>) {
        self.expect_with(&[], what, plant, expected);
    }

    fn expect_with(&self, args: &[&str], what: &str, plant: impl FnOnce(&Path), expected: Expected<'_>) {
        copy(&self.good, &self.rig.logs()).unwrap();
        plant(&self.rig.logs());
        let expected: BTreeSet<_> = expected
            .iter()
            .map(|(kind, file, label)| ((*kind).to_owned(), (*file).to_owned(), self.id(label).to_owned()))
            .collect();
        let found = self.found(args);
        if found != expected {
            self.wrong.borrow_mut().push(format!("{what}:\n  found {found:?}\n  not {expected:?}"));
        }
    }

    #[track_caller]
    fn done(self) {
        let wrong = self.wrong.take();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Lines of a file without the one of an entry.
    fn without(&self, label: &str) -> impl Fn(String) -> String {
        let id = format!("\"{}\"", self.id(label));
        move |text| text.split_inclusive('\n').filter(|line| !line.contains(&id)).collect()
    }

    /// The line of an entry.
    fn line(&self, path: &str, label: &str) -> String {
        let text = fs::read_to_string(self.good.join(path)).unwrap();
        text.split_inclusive('\n').filter(|line| line.contains(&format!("\"{}\"", self.id(label)))).collect()
    }
}

/// Changes a file's text.
fn edit(logs: &Path, path: &str, change: impl FnOnce(String) -> String) {
    let path = logs.join(path);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let changed = change(text.clone());
    assert_ne!(text, changed, "nothing was planted in {}", path.display());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, changed).unwrap();
}

#[test]
fn verify_finds_what_is_planted_in_records() {
    let Some(tree) = planted() else { return };
    tree.expect("nothing", |_| {}, &[]);
    tree.expect_with(&["--content"], "nothing", |_| {}, &[]);
    let short = |file: &'static str| ("short", file, "");

    for (file, label) in [
        (OUTPUT, "o2"),
        (OUTPUT, "bad"),
        (FLOW, "later"),
        ("t/03-user-inputs.jsonl", "asked"),
        ("t/05-other-events.jsonl", "query"),
        ("u/02-webhook-flow.jsonl", "elsewhere"),
        ("_webhooks/w2/02-webhook-flow.jsonl", "alone"),
    ] {
        let planted = |logs: &Path| edit(logs, file, tree.without(label));
        tree.expect(label, planted, &[("missing", file, label), short(file)]);
    }
    let twice = |logs: &Path| {
        let line = tree.line(OUTPUT, "o2");
        edit(logs, OUTPUT, |text| text.replace(&line, &line.repeat(2)));
    };
    tree.expect("a line twice", twice, &[("doubled", OUTPUT, "o2")]);
    let stale = |logs: &Path| edit(logs, "_webhooks/w/02-webhook-flow.jsonl", |_| tree.line(FLOW, "received"));
    let left = "_webhooks/w/02-webhook-flow.jsonl";
    tree.expect(
        "a flow's record left behind",
        stale,
        &[("misplaced", left, "received"), ("doubled", FLOW, "received")],
    );
    let also = |logs: &Path| {
        let (done, query) = (tree.id("done"), tree.id("query"));
        edit(logs, METADATA, |text| text.replace(&format!("\"{done}\""), &format!("\"{query}\", \"{done}\"")));
    };
    // Which of the two counts is not known; one of them is told.
    tree.expect(
        "absorbed and written",
        also,
        &[("misplaced", METADATA, "query"), ("doubled", "t/05-other-events.jsonl", "query")],
    );

    let swapped = |file: &'static str, a: &'static str, b: &'static str| {
        let (a, b) = (tree.line(file, a), tree.line(file, b));
        move |logs: &Path| edit(logs, file, |text| text.replace(&format!("{a}{b}"), &format!("{b}{a}")))
    };
    tree.expect("two lines swapped", swapped(OUTPUT, "o2", "o3"), &[("out_of_order", OUTPUT, "o2")]);
    tree.expect("two of a flow swapped", swapped(FLOW, "received", "joins"), &[("out_of_order", FLOW, "received")]);
    let ids = |logs: &Path| {
        // With their quotes: an id may be another one's beginning.
        let (a, b) = (format!("\"{}\"", tree.id("created")), format!("\"{}\"", tree.id("started")));
        edit(logs, METADATA, |text| text.replace(&a, "\0").replace(&b, &a).replace('\0', &b));
    };
    tree.expect("ids of documents swapped", ids, &[("out_of_order", METADATA, "created")]);

    let unknown = |logs: &Path| {
        let id = tree.id("o2").to_owned();
        edit(logs, OUTPUT, |text| text.replace(&id, &format!("{id}99")));
    };
    let strange = format!("{}99", tree.id("o2"));
    tree.expect("an id that never was", unknown, &[("missing", OUTPUT, "o2"), ("foreign", OUTPUT, &strange)]);
    let beyond = |logs: &Path| edit(logs, OUTPUT, |text| text.replace(tree.id("o2"), "99999999999999-0"));
    tree.expect("an id to come", beyond, &[("missing", OUTPUT, "o2"), ("foreign", OUTPUT, "99999999999999-0")]);

    let moved = |from: &'static str, to: &'static str, label: &'static str| {
        let line = tree.line(from, label);
        let without = tree.without(label);
        move |logs: &Path| {
            edit(logs, from, without);
            edit(logs, to, |text| text + &line);
        }
    };
    let u_output = "u/03-agent-output.jsonl";
    tree.expect("to another task", moved(OUTPUT, u_output, "o3"), &[("misplaced", u_output, "o3"), short(OUTPUT)]);
    let inputs = "t/03-user-inputs.jsonl";
    tree.expect("to another file", moved(OUTPUT, inputs, "o3"), &[("misplaced", inputs, "o3"), short(OUTPUT)]);
    let flow = "_webhooks/w2/02-webhook-flow.jsonl";
    tree.expect("to another flow", moved(FLOW, flow, "later"), &[("misplaced", flow, "later"), short(FLOW)]);
    tree.expect(
        "to its flow's own task",
        moved("u/02-webhook-flow.jsonl", FLOW, "elsewhere"),
        &[("misplaced", FLOW, "elsewhere"), short("u/02-webhook-flow.jsonl")],
    );

    let torn = |logs: &Path| edit(logs, OUTPUT, |text| text.split_at(text.len() - 10).0.to_owned());
    tree.expect("a cut line", torn, &[("missing", OUTPUT, "o3"), ("torn", OUTPUT, ""), short(OUTPUT)]);
    tree.expect(
        "a blank line",
        |logs| edit(logs, OUTPUT, |text| text.replacen('\n', "\n\n", 1)),
        &[("torn", OUTPUT, "")],
    );
    let nul = |logs: &Path| edit(logs, OUTPUT, |text| text.replacen("\"one\"", "\"\0ne\"", 1));
    tree.expect("a NUL", nul, &[("missing", OUTPUT, "o1"), ("torn", OUTPUT, "")]);

    let gap = |logs: &Path| {
        let gap = tree.line(OUTPUT, "bad").replace(tree.id("bad"), tree.id("o2")).replace("bad_json", "plugin_failed");
        edit(logs, OUTPUT, |text| text.replace(&tree.line(OUTPUT, "o2"), &gap));
    };
    tree.expect("a failed plugin's gap without its letter", gap, &[("missing", "t/dead letter", "o2")]);
    let record = |logs: &Path| {
        let record = tree.line(OUTPUT, "o2").replace(tree.id("o2"), tree.id("bad"));
        edit(logs, OUTPUT, |text| text.replace(&tree.line(OUTPUT, "bad"), &record));
    };
    tree.expect("a record and a letter", record, &[("doubled", OUTPUT, "bad"), short(OUTPUT)]);
    let time = |logs: &Path| edit(logs, inputs, |text| text.replacen("09:00:01", "09:00:02", 1));
    tree.expect("another time", time, &[("wrong_record", inputs, "asked")]);
    let kind = |logs: &Path| edit(logs, OUTPUT, |text| text.replacen("\"thinking\"", "\"thought_\"", 1));
    tree.expect("another type", kind, &[("wrong_record", OUTPUT, "o3")]);
    let text = |logs: &Path| edit(logs, OUTPUT, |text| text.replacen("\"two\"", "\"owt\"", 1));
    tree.expect("another text, not asked for", text, &[]);
    tree.expect_with(&["--content"], "another text", text, &[("wrong_record", OUTPUT, "o2")]);
    tree.expect_with(&["--task", "u"], "another task's defect", twice, &[]);
    tree.expect_with(&["--task", "t"], "this task's", twice, &[("doubled", OUTPUT, "o2")]);
    tree.expect_with(&["--task", "w"], "no task", twice, &[]);
    tree.done();
}

#[test]
fn verify_finds_what_is_planted_in_documents_files_and_letters() {
    let Some(tree) = planted() else { return };
    let replaced = |file: &'static str, from: &'static str, to: &'static str| {
        move |logs: &Path| edit(logs, file, |text| text.replacen(from, to, 1))
    };
    let result = "t/04-final-result.json";
    let wrong = |file: &'static str| [("wrong_state", file, "")];
    tree.expect("status", replaced(METADATA, "\"completed\"", "\"failed\""), &wrong(METADATA));
    tree.expect("completed_at", replaced(METADATA, "09:00:09", "09:00:08"), &wrong(METADATA));
    tree.expect("created_at", replaced(METADATA, "\"created_at\": \"2026", "\"created_at\": \"2025"), &wrong(METADATA));
    tree.expect("success", replaced(result, "true", "false"), &wrong(result));
    tree.expect("when it ended", replaced(result, "09:00:09", "09:00:08"), &wrong(result));
    tree.expect("of another task", replaced(METADATA, "\"task_id\": \"t\"", "\"task_id\": \"x\""), &wrong(METADATA));
    for file in [METADATA, "t/01-input.json", result, "u/metadata.json"] {
        let cut = |logs: &Path| edit(logs, file, |text| text.split_at(text.len() - 1).0.to_owned());
        let mut expected = vec![("torn", file, "")];
        match file {
            METADATA => expected.extend(["created", "started", "done"].map(|id| ("missing", METADATA, id))),
            "u/metadata.json" => expected.push(("missing", file, "u-failed")),
            _ => {}
        }
        tree.expect(file, cut, &expected);
    }
    let gone = |file: &'static str| move |logs: &Path| fs::remove_file(logs.join(file)).unwrap();
    tree.expect("no input", gone("t/01-input.json"), &wrong("t/01-input.json"));
    tree.expect("no result", gone(result), &wrong(result));
    let absorbed = ["created", "started", "done"].map(|id| ("missing", METADATA, id));
    tree.expect("no metadata", gone(METADATA), &[&absorbed[..], &[("missing", METADATA, "")]].concat());
    let inputs = "t/03-user-inputs.jsonl";
    let lines = ["asked", "asked2"].map(|id| ("missing", inputs, id));
    tree.expect("no file", gone(inputs), &[&lines[..], &[("short", inputs, "")]].concat());

    for path in ["t/notes.txt", "t/tmp123", "_webhooks/w/x.json", "note", "_other/x", "_webhooks/x"] {
        let told = if path == "_other/x" { "_other" } else { path };
        tree.expect(path, |logs| edit(logs, path, |_| "x".into()), &[("foreign", told, "")]);
    }
    for path in ["v/03-agent-output.jsonl", "_webhooks/w3/02-webhook-flow.jsonl"] {
        let dir = Path::new(path).parent().unwrap().to_str().unwrap();
        tree.expect(path, |logs| edit(logs, path, |_| "{}\n".into()), &[("foreign", dir, "")]);
    }
    let directory = |logs: &Path| fs::create_dir(logs.join("t/extra.txt")).unwrap();
    tree.expect("a directory in a task's", directory, &[("foreign", "t/extra.txt", "")]);
    let staging = ".task-logger/redis-task_events/tmp-0";
    tree.expect("staging", |logs| edit(logs, &format!("{staging}/a1"), |_| "x".into()), &[("leftover", staging, "")]);
    let damaged = |logs: &Path| {
        let path = logs.join("t/.state");
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(40);
        fs::write(path, bytes).unwrap();
    };
    tree.expect("a damaged .state", damaged, &[("unreadable", "t/.state", "")]);

    // What the stream has, and the files do not know of.
    let mut redis = tree.rig.connect();
    let dead = |redis: &mut redis::Connection| -> Vec<(String, Vec<(String, String)>)> {
        redis::cmd("XRANGE").arg("{task_events}:dead").arg("-").arg("+").query(redis).unwrap()
    };
    let mut letters = dead(&mut redis);
    assert_eq!(letters.len(), 2);
    // Two lanes bury them in any order.
    letters.sort_by_key(|(_, fields)| fields.iter().find(|(name, _)| name == "id").map(|(_, id)| id.clone()));
    let copies = |redis: &mut redis::Connection, fields: &[(String, String)]| {
        let id: String = redis::cmd("XADD").arg("{task_events}:dead").arg("*").arg(fields).query(redis).unwrap();
        id
    };
    let remove = |redis: &mut redis::Connection, id: &str| {
        redis::cmd("XDEL").arg("{task_events}:dead").arg(id).exec(redis).unwrap();
    };
    let twice = copies(&mut redis, &letters[0].1);
    tree.expect("a letter twice", |_| {}, &[("doubled", "t/dead letter", "bad")]);
    remove(&mut redis, &twice);
    let mut other = letters[0].1.clone();
    other[0].1 = tree.id("o1").to_owned();
    let of_good = copies(&mut redis, &other);
    tree.expect(
        "a letter of a good one",
        |_| {},
        &[("doubled", OUTPUT, "o1"), ("wrong_record", "t/dead letter", "o1")],
    );
    remove(&mut redis, &of_good);
    other[0].1 = format!("{}77", tree.id("o1"));
    let strange = other[0].1.clone();
    let of_none = copies(&mut redis, &other);
    tree.expect("a letter of none", |_| {}, &[("foreign", "dead letter", &strange)]);
    remove(&mut redis, &of_none);
    // Removed ones are counted by the stream, so nothing can be said of them; a lost stream has counted nothing.
    remove(&mut redis, &letters[0].0);
    tree.expect("a removed letter", |_| {}, &[]);
    redis::cmd("DEL").arg("{task_events}:dead").exec(&mut redis).unwrap();
    tree.expect("no letters", |_| {}, &[("missing", "t/dead letter", "bad"), ("missing", "dead letter", "keyless")]);
    tree.done();
}

#[test]
fn verify_takes_what_a_trimmed_stream_does_not_know_for_unknown() {
    let Some(tree) = planted() else { return };
    let mut redis = tree.rig.connect();
    let trim = |redis: &mut redis::Connection, label: &str| {
        redis::cmd("XTRIM").arg("task_events").arg("MINID").arg(tree.id(label)).exec(redis).unwrap();
    };
    for label in ["joins", "o1", "later", "done"] {
        trim(&mut redis, label);
        let verdict = verify(&tree.rig, &["--content"]);
        assert_eq!(verdict["total"], 0, "trimmed below {label}: {verdict}");
        assert!(!verdict["unknown"].as_array().unwrap().is_empty(), "{verdict}");
    }
    let twice = |logs: &Path| {
        let line = tree.line(OUTPUT, "o2");
        edit(logs, OUTPUT, |text| text.replace(&line, &line.repeat(2)));
    };
    tree.expect("a trimmed one twice", twice, &[("doubled", "t", "o2")]);
    redis::cmd("XTRIM").arg("task_events").arg("MAXLEN").arg(0).exec(&mut redis).unwrap();
    tree.expect("an empty stream", |_| {}, &[]);
    // A stream that was replaced: its ids begin anew, and a service has read them.
    redis::cmd("FLUSHALL").exec(&mut redis).unwrap();
    add(&mut redis, &[("type", "task:output"), ("task_id", "t"), ("data", "{\"content\":\"new\"}")]);
    let node = tree.rig.spawn_owner();
    tree.rig.wait_published(&mut redis);
    node.terminate();
    let verdict = verify(&tree.rig, &[]);
    assert_eq!(verdict["total"], 0, "{verdict}");
    drop(redis);
    assert_eq!(
        tree.rig.command(&["verify", "--redis-url", "redis://127.0.0.1:1"]).output().unwrap().status.code(),
        Some(2)
    );
    tree.done();
}

#[test]
fn verify_asks_for_nothing_that_another_consumer_had() {
    let Some(rig) = Rig::redis() else { return };
    let mut redis = rig.connect();
    let event = |kind: &'static str| [("type", kind), ("task_id", "t"), ("data", "{\"content\":\"x\"}")];
    add(&mut redis, &event("task:created"));
    let had = add(&mut redis, &event("task:output"));
    redis::cmd("XGROUP").arg("CREATE").arg("task_events").arg("task-logger").arg(&had).exec(&mut redis).unwrap();
    add(&mut redis, &event("task:output"));
    let node = rig.spawn_owner();
    rig.wait_published(&mut redis);
    node.terminate();
    let verdict = verify(&rig, &["--content"]);
    assert_eq!((&verdict["total"], &verdict["checked"]["entries"]), (&0.into(), &3.into()), "{verdict}");
    fs::remove_file(rig.logs().join(OUTPUT)).unwrap();
    assert_eq!(verify(&rig, &[])["by_kind"]["missing"], 1);
}

/// One random change of one record; returns what it was.
fn mutate(rng: &mut Rng, logs: &Path) -> String {
    let files: Vec<PathBuf> =
        files_below(logs).into_iter().filter(|path| path.extension().is_some_and(|e| e == "jsonl")).collect();
    let path = rng.choice(&files).unwrap();
    let text = fs::read_to_string(path).unwrap();
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let at = rng.usize(..lines.len());
    let id_at = lines[at].rfind("\"id\":\"").unwrap() + 6;
    let id_end = lines[at].len() - 3;
    let digit = loop {
        let digit = rng.usize(id_at..id_end);
        if lines[at].as_bytes()[digit] != b'-' {
            break digit;
        }
    };
    let what = rng.usize(..7);
    let name = format!("{what} of line {at} in {}", path.display());
    match what {
        0 => drop(lines.remove(at)),
        1 => lines.insert(rng.usize(at..=lines.len()), lines[at].clone()),
        2 if at > 0 => lines.swap(at - 1, at),
        2 | 3 => {
            // Another id: a digit more or another one.
            let other = b'0' + (lines[at].as_bytes()[digit] - b'0' + rng.u8(1..10)) % 10;
            lines[at].replace_range(digit..=digit, &char::from(other).to_string());
        }
        4 => {
            fs::write(path, text.split_at(rng.usize(..text.len())).0).unwrap();
            return name;
        }
        5 => {
            let mut bytes = text.clone().into_bytes();
            let start: usize = lines[..at].iter().map(String::len).sum();
            bytes[start + digit] ^= 1 << rng.u8(..8);
            fs::write(path, bytes).unwrap();
            return name;
        }
        _ => {
            let line = lines.remove(at);
            let other = logs.join(format!("moved-{}", rng.u8(..3))).join(path.file_name().unwrap());
            fs::create_dir_all(other.parent().unwrap()).unwrap();
            let old = fs::read_to_string(&other).unwrap_or_default();
            fs::write(other, old + &line).unwrap();
        }
    }
    fs::write(path, lines.concat()).unwrap();
    name
}

#[test]
fn verify_finds_any_change_of_one_record() {
    let Some(rig) = Rig::redis() else { return };
    let mut rng = Rng::with_seed(seed("verify_finds_any_change_of_one_record"));
    let mut redis = rig.connect();
    for n in 0..300 {
        let task = format!("task-{}", rng.u8(..8));
        let data = format!("{{\"content\":\"{n}\"}}");
        let kind = ["task:output", "task:user_input", "knowledge:query", "task:tool_call"][rng.usize(..4)];
        add(&mut redis, &[("type", kind), ("task_id", &task), ("data", &data)]);
        add(&mut redis, &[("type", "webhook:received"), ("webhook_event_id", &format!("h{task}")), ("data", &data)]);
    }
    let node = rig.spawn_owner();
    rig.wait_published(&mut redis);
    node.terminate();
    assert_eq!(verify(&rig, &[])["total"], 0);
    let good = rig.root().join("good");
    copy(&rig.logs(), &good).unwrap();
    for _ in 0..60 {
        let what = mutate(&mut rng, &rig.logs());
        let verdict = verify(&rig, &[]);
        assert_ne!(verdict["total"], 0, "not found: {what}: {verdict}");
        copy(&good, &rig.logs()).unwrap();
    }
}
