//! Plugins end to end: a swap under load, candidates that are no good, and guests that misbehave in a running service.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    checker::{Stream, files_with},
    guests::misbehave,
    load::{entry, send},
    rig::{Node, Rig, add, eventually},
};

/// The same component with a section that means nothing: other bytes, another digest.
fn variant(n: u8) -> Vec<u8> {
    let mut wasm = misbehave().to_vec();
    wasm.extend_from_slice(&[0, 3, 1, b'v', n]);
    wasm
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn stamp(version: &str, extra: &str) -> String {
    format!(
        "isolation = 'reuse'\n{extra}\n[config]\nmode = 'stamp'\nname = 'stamp'\nfiles = []\nversion = '{version}'\n"
    )
}

/// The report's entry of a file.
fn plugin(node: &Node, file: &str) -> Value {
    let report = node.json("/plugins");
    let plugins = report["plugins"].as_array().cloned().unwrap_or_default();
    plugins.into_iter().find(|plugin| plugin["file"] == file).unwrap_or_default()
}

fn outputs(tasks: u64, from: u64, count: u64) -> Vec<Vec<(String, String)>> {
    let one = |n: u64| {
        let (task, data) = (format!("t{}", n % tasks), format!("{{\"content\":\"mark-{n:06}-end\"}}"));
        entry(&[("type", "task:output"), ("task_id", &task), ("data", &data)])
    };
    (from..from + count).map(one).collect()
}

#[test]
fn a_swap_under_load_stamps_every_event_once_and_a_broken_candidate_changes_nothing() {
    let Some(rig) = Rig::redis() else { return };
    let rig = rig.set("REQUIRED_PLUGINS", "stamp");
    let mut redis = rig.connect();
    let pinned = |n: u8, version: &str| stamp(version, &format!("sha256 = '{}'", digest(&variant(n))));
    rig.put_plugin("stamp", pinned(1, "one").as_bytes(), &variant(1));
    let node = rig.spawn_owner();
    let mut made = 0;
    // Keeps the service busy until something is so, and for a while after.
    let mut busy_until = |redis: &mut redis::Connection, what: &str, is_so: &mut dyn FnMut() -> bool| {
        let mut left = 20;
        eventually(what, || {
            send(redis, outputs(7, made, 50));
            made += 50;
            left -= u32::from(left < 20 || is_so());
            left == 0
        });
    };
    let sha_is = |n: u8| plugin(&node, "stamp.wasm")["sha256"] == digest(&variant(n));
    busy_until(&mut redis, "the first one works", &mut || sha_is(1));
    // It has stamped events of every task before the next one comes.
    rig.wait_published(&mut redis);
    // Both files: the sidecar names its component, so no half of the pair is ever taken.
    rig.put_file("stamp.toml", pinned(2, "two").as_bytes());
    rig.put_file("stamp.wasm", &variant(2));
    busy_until(&mut redis, "the second one took over", &mut || sha_is(2));
    // A broken component under the pinned sidecar, then one whose sidecar is fine.
    rig.put_file("stamp.toml", stamp("three", "").as_bytes());
    busy_until(&mut redis, "the third configuration took over", &mut || {
        plugin(&node, "stamp.wasm")["version"] == "three"
    });
    rig.put_file("stamp.wasm", b"\0asm, but no component");
    busy_until(&mut redis, "the candidate is refused, with a reason", &mut || {
        let entry = plugin(&node, "stamp.wasm");
        entry["version"] == "three" && entry.to_string().contains("refused")
    });
    let shown = plugin(&node, "stamp.wasm");
    assert!(shown["refused"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{shown:#}");
    // Only the component.
    rig.put_file("stamp.wasm", &variant(4));
    busy_until(&mut redis, "the fourth component took over", &mut || sha_is(4));
    rig.wait_published(&mut redis);
    node.terminate();
    Stream::of_redis(&mut redis).prove(&rig, &[]);
    let order = ["one", "two", "three"];
    let mut seen: HashMap<String, u64> = HashMap::new();
    for task in 0..7 {
        let mut last = 0;
        for line in rig.read(&format!("t{task}/03-agent-output.jsonl")).lines() {
            // Twice would be a doubled key, which a parser does not show.
            assert_eq!(line.matches("\"stamp\":").count(), 1, "{line}");
            let record: Value = serde_json::from_str(line).unwrap();
            let version = record["stamp"].as_str().unwrap();
            let now = order.iter().position(|known| *known == version).unwrap();
            assert!(now >= last, "an older version after a newer one: {line}");
            last = now;
            *seen.entry(version.to_owned()).or_default() += 1;
        }
        let metadata: Value = serde_json::from_str(&rig.read(&format!("t{task}/metadata.json"))).unwrap();
        let digests: Vec<&str> =
            metadata["plugins"].as_array().unwrap().iter().filter_map(|plugin| plugin["sha256"].as_str()).collect();
        assert_eq!(digests, [digest(&variant(1)), digest(&variant(2)), digest(&variant(2)), digest(&variant(4))]);
    }
    assert_eq!((seen.values().sum::<u64>(), seen.len()), (made, 3), "{seen:?}");
}

/// What a guest does to an event that says so, and the class that is told of it.
const MISDEEDS: [(&str, &str); 8] = [
    ("trap", "trap"),
    ("loop", "timeout"),
    ("memory", "memory"),
    ("short", "verdicts"),
    ("long", "verdicts"),
    ("undeclared-file", "trap"),
    ("failure", "failure"),
    ("bad-json", "json"),
];

#[test]
fn fail_closed_a_misbehaving_plugin_costs_its_event_only_and_lets_nothing_raw_through() {
    let Some(rig) = Rig::redis() else { return };
    for (mode, _) in MISDEEDS {
        let sidecar = format!(
            "timeout = '100ms'\n[config]\nmode = '{mode}'\nname = '{mode}'\nmatch = 'poison-{mode}-'\nfiles = ['{mode}.txt']\n"
        );
        rig.put_guest(mode, &sidecar);
    }
    // One that fails as a redactor: closed, too.
    let redactor = "[config]\nmode = 'trap'\nname = 'guard'\nrole = 'redactor'\nmatch = 'poison-guard-'\nfiles = []\n";
    rig.put_guest("guard", redactor);
    // One that imports what no plugin may have.
    let forbidden = "(component (import \"wasi:http/types@0.2.0\" (instance)))";
    rig.put_plugin("forbidden", b"", &wat::parse_str(forbidden).unwrap());
    let names: Vec<&str> = MISDEEDS.iter().map(|(mode, _)| *mode).chain(["guard"]).collect();
    let rig = rig.set("REQUIRED_PLUGINS", &names.join(","));
    let mut redis = rig.connect();
    let node = rig.spawn_owner();
    let mut poisoned = BTreeMap::new();
    for mode in &names {
        let say = |redis: &mut redis::Connection, text: &str| {
            let data = serde_json::json!({ "content": text }).to_string();
            add(redis, &[("type", "task:output"), ("task_id", &format!("t-{mode}")), ("data", &data)])
        };
        say(&mut redis, "mark-before-end");
        poisoned.insert(say(&mut redis, &format!("poison-{mode}-raw-secret")), *mode);
        say(&mut redis, "mark-after-end");
    }
    rig.wait_published(&mut redis);
    eventually("the forbidden import is refused", || {
        plugin(&node, "forbidden.wasm")["refused"]["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("imports `wasi:http/types@0.2.0`"))
    });
    assert_eq!(node.get("/health").0, 200);
    let report = node.json("/plugins");
    for mode in &names {
        assert_eq!(plugin(&node, &format!("{mode}.wasm"))["state"], "live", "{mode}: {report:#}");
    }
    assert!(!report.to_string().contains("raw-secret"));
    let log = node.log();
    node.terminate();
    assert!(!log.contains("raw-secret"), "no producer's text in the log: {log}");
    assert_eq!(files_with(&rig.logs(), "raw-secret"), Vec::<std::path::PathBuf>::new());
    let stream = Stream::of_redis(&mut redis);
    stream.prove(&rig, &[]);
    let refused: BTreeMap<String, &str> = stream.dead.iter().map(|l| (l.id.to_string(), l.plugin.as_str())).collect();
    assert_eq!(refused, poisoned.iter().map(|(id, mode)| (id.clone(), *mode)).collect());
    for mode in names {
        let lines: Vec<Value> = rig
            .read(&format!("t-{mode}/03-agent-output.jsonl"))
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        let shape: Vec<(&str, &str)> =
            lines.iter().map(|l| (l["type"].as_str().unwrap(), l["reason"].as_str().unwrap_or(""))).collect();
        assert_eq!(shape, [("output", ""), ("gap", "plugin_failed"), ("output", "")], "{mode}");
    }
}
