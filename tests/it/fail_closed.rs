//! Fail closed, shown by a search over everything that the service wrote or said: with a redactor that fails, is missing, is
//! removed or broken under load, and over kills, not one planted secret is anywhere.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::{
    checker::Stream,
    leaks::{Secret, in_answers, in_files, in_log},
    rig::{Node, Rig, eventually, let_pass, seed},
};

/// Secrets planted, each in many events.
const SECRETS: usize = 4;
/// Tasks that the events are of.
const TASKS: usize = 5;

/// Makes events with secrets wherever a producer can put a text; every hundredth one sets the redactor off.
struct Planter {
    rng: Rng,
    secrets: Vec<Secret>,
    made: usize,
    poison_every: usize,
}

impl Planter {
    fn new(seed: u64, poison_every: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let secrets = (0..SECRETS).map(|_| Secret::new(&mut rng)).collect();
        Self { rng, secrets, made: 0, poison_every }
    }

    fn next(&mut self) -> Value {
        self.made += 1;
        let secret = self.secrets[self.rng.usize(..SECRETS)].text();
        let poison = if self.made.is_multiple_of(self.poison_every) { "please-drop" } else { "plain" };
        let task = format!("task-{}", self.made % TASKS);
        let data = json!({"content": format!("{poison} {secret}"), &secret: [secret], "input_message": secret,
            "result": {"deep": [secret, {"key": secret}]}, "error": secret});
        let kinds = [
            "task:output",
            "task:output",
            "task:tool_call",
            "task:user_input",
            "task:created",
            "task:started",
            "knowledge:query",
            "task:completed",
            "task:failed",
            "task:thinking",
        ];
        let kind = kinds[self.rng.usize(..kinds.len())];
        let mut event = json!({"type": kind, "task_id": task, "data": data});
        match self.rng.u8(..12) {
            // A time that is none is moved into the data, as is a field that nobody knows.
            0 => event["timestamp"] = json!(secret),
            1 => event["note"] = json!(secret),
            2 => {
                let flow = format!("hook-{}", self.made % TASKS);
                event = json!({"type": "webhook:received", "webhook_event_id": flow, "data": data});
            }
            // Not fit to be read: dead letters, whose texts go nowhere else.
            3 => event["data"] = json!(format!("not JSON {secret}")),
            4 => event["type"] = json!(secret),
            5 => event["task_id"] = json!(format!("{secret}\n")),
            _ => {}
        }
        event
    }

    #[track_caller]
    fn post(&mut self, node: &Node, count: usize) {
        let events: Vec<Value> = (0..count).map(|_| self.next()).collect();
        let (status, answer) = node.post_answer("/events", &Value::from(events).to_string());
        assert_eq!(status, 200, "{answer}");
    }

    #[track_caller]
    fn nowhere(&self, rig: &Rig, node: &Node) {
        assert_eq!(in_files(rig, &self.secrets), Vec::<String>::new());
        assert_eq!(in_log(node, &self.secrets), Vec::<String>::new());
    }
}

/// Everything that is written is within the rig, and everything is said that can be.
fn open(rig: Rig) -> Rig {
    let cache = rig.root().join("cache").to_str().unwrap().to_owned();
    rig.set("LOG_LEVEL", "trace").set("CACHE_DIR", &cache)
}

/// A redactor that blanks everything, but for what sets it off.
fn redactor(mode: &str) -> String {
    format!(
        "[config]\nmode = '{mode}'\nname = 'guard'\nrole = 'redactor'\nblank = true\nmatch = 'please-drop'\nfiles = ['guard.txt']\n"
    )
}

/// Waits until all that was sent is in the files.
#[track_caller]
fn settled(rig: &Rig, node: &Node) {
    eventually("it takes events in", || node.takes_events());
    rig.settle(node, &["task-0", "task-1", "task-2", "task-3", "task-4"]);
}

/// Floods a service whose redactor fails in this way, kills it now and then, and searches at each death and at the end.
fn flood(test: &str, mut rig: Rig, mode: &str, poison_every: usize) -> Rig {
    rig = open(rig).set("REQUIRED_PLUGINS", "guard");
    rig.put_guest("guard", &redactor(mode));
    let seed = seed(test);
    let mut planter = Planter::new(seed, poison_every);
    let mut rng = Rng::with_seed(seed);
    for _ in 0..3 {
        let node = rig.spawn_owner();
        for _ in 0..4 {
            planter.post(&node, 120);
        }
        let_pass(Duration::from_millis(rng.u64(0..300)));
        planter.nowhere(&rig, &node);
        node.kill();
        // The journal as it stands, before anyone takes it up.
        assert_eq!(in_files(&rig, &planter.secrets), Vec::<String>::new(), "after a kill");
    }
    let node = rig.spawn_owner();
    planter.post(&node, 120);
    settled(&rig, &node);
    let metrics = node.json("/metrics");
    assert!(metrics["events"]["written"].as_u64().is_some_and(|n| n > 0), "{metrics}");
    assert_eq!(in_answers(&node, &planter.secrets), Vec::<String>::new());
    planter.nowhere(&rig, &node);
    node.terminate();
    assert_eq!(in_files(&rig, &planter.secrets), Vec::<String>::new(), "at the end");
    rig
}

#[test]
fn fail_closed_a_redactor_that_traps_on_one_percent_lets_no_secret_out() {
    let rig = flood("fail_closed_a_redactor_that_traps", Rig::embedded(), "trap", 100);
    let stream = Stream::of_embedded(&rig.root().join("stream"));
    assert!(stream.dead.iter().any(|letter| letter.plugin == "guard"), "it did trap");
    stream.prove(&rig, &[]);
}

#[test]
fn fail_closed_a_redactor_that_traps_on_one_percent_lets_no_secret_out_on_redis() {
    let Some(rig) = Rig::redis() else { return };
    let rig = flood("fail_closed_a_redactor_that_traps_on_redis", rig, "trap", 100);
    // The dead letters stand in Redis with their fields, by design: that is the source.
    let stream = Stream::of_redis(&mut rig.connect());
    assert!(stream.dead.iter().any(|letter| letter.plugin == "guard"), "it did trap");
    stream.prove(&rig, &[]);
}

#[test]
fn fail_closed_a_redactor_that_tells_what_it_saw_is_not_heard() {
    // Fails with the data in its message, panics with it, logs and prints it, uses it as a code, a counter, a file name, a state,
    // an annotation: every way in turn.
    let rig = flood("fail_closed_a_redactor_that_tells", Rig::embedded(), "gossip", 40);
    Stream::of_embedded(&rig.root().join("stream")).prove(&rig, &[]);
}

#[test]
fn fail_closed_a_missing_removed_or_broken_redactor_lets_no_secret_out() {
    let rig = open(Rig::embedded()).set("REQUIRED_PLUGINS", "guard");
    let mut planter = Planter::new(seed("fail_closed_a_missing_removed_or_broken_redactor"), 1_000_000);
    // Missing from the start: events are taken in and wait in the stream.
    let node = rig.spawn();
    eventually("it owns the stream", || node.is_owner());
    planter.post(&node, 120);
    eventually("it says what is missing", || node.get("/health").1.contains("guard"));
    let_pass(Duration::from_millis(300));
    assert_eq!(node.json("/metrics")["events"]["written"], 0, "nothing is read");
    planter.nowhere(&rig, &node);
    node.kill();
    // There, and removed under load.
    rig.put_guest("guard", &redactor("pass").replace("please-drop", "matches nothing"));
    let node = rig.spawn_owner();
    let done = AtomicBool::new(false);
    let planter = thread::scope(|scope| {
        let (done, node, rig) = (&done, &node, &rig);
        let producer = scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                planter.post(node, 20);
                let_pass(Duration::from_millis(5));
            }
            planter
        });
        for _ in 0..2 {
            let written = || node.json("/metrics")["events"]["written"].as_u64().unwrap_or(0);
            let before = written();
            eventually("events are written", || written() > before);
            rig.take_file("guard.wasm");
            eventually("reading stops", || node.get("/ready?write").0 == 503);
            rig.put_file("guard.wasm", b"\0asm, but no component");
            let_pass(Duration::from_millis(200));
            rig.put_guest("guard", &redactor("pass").replace("please-drop", "matches nothing"));
            eventually("reading goes on", || node.takes_events());
            // Replaced by what is none: the one before stays.
            rig.put_file("guard.wasm", b"neither this one");
            eventually("the candidate is refused", || {
                node.get("/plugins").1.contains("first bytes are something else")
            });
        }
        done.store(true, Ordering::Relaxed);
        producer.join().unwrap()
    });
    planter.nowhere(&rig, &node);
    node.kill();
    assert_eq!(in_files(&rig, &planter.secrets), Vec::<String>::new(), "after a kill");
    // Broken at the start: the last good bytes run.
    let node = rig.spawn_owner();
    settled(&rig, &node);
    assert!(node.get("/plugins").1.contains("degraded"));
    assert_eq!(in_answers(&node, &planter.secrets), Vec::<String>::new());
    planter.nowhere(&rig, &node);
    node.terminate();
    assert_eq!(in_files(&rig, &planter.secrets), Vec::<String>::new());
    Stream::of_embedded(&rig.root().join("stream")).prove(&rig, &[]);
}

/// The search finds what is there: without a redactor, and with a plugin that logs what it sees, the same secrets are found in
/// every place that the tests above look at.
#[test]
fn the_search_for_secrets_can_fail() {
    let rig = open(Rig::embedded());
    rig.put_guest("teller", "[config]\nmode = 'log'\nname = 'teller'\nfiles = []\n");
    let mut planter = Planter::new(seed("the_search_for_secrets_can_fail"), 1_000_000);
    let node = rig.spawn_owner();
    planter.post(&node, 100);
    settled(&rig, &node);
    let found: BTreeMap<&str, usize> = [
        ("log", in_log(&node, &planter.secrets)),
        ("answers", in_answers(&node, &planter.secrets)),
        ("files", in_files(&rig, &planter.secrets)),
    ]
    .map(|(place, finds)| {
        if place == "files" {
            for dir in ["LOGS_DIR/", "STATE_DIR/"] {
                assert!(finds.iter().any(|find| find.starts_with(dir)), "{dir}: {finds:?}");
            }
        }
        (place, finds.len())
    })
    .into();
    node.kill();
    assert!(found.values().all(|count| *count > 5), "{found:?}");
}
