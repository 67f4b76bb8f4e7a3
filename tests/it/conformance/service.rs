//! The whole service with a guest in its folder: killed after each batch that it took, everything stands once, in order.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::Language;
use crate::rig::{Rig, eventually, let_pass, seed, target_dir};

/// Batches, each followed by a kill.
const ROUNDS: usize = 5;
/// What the guest is told in a batch, for one task.
const BATCH: usize = 9;

fn batch(round: usize) -> Vec<Value> {
    let told = |data: Value| json!({ "type": "task:output", "task_id": "t", "data": data });
    vec![
        told(json!({ "do": "state" })),
        told(json!({ "do": "append", "text": format!("{round} é 🦀 first\n") })),
        told(json!({ "do": "drop", "text": "planted" })),
        told(json!({ "do": "annotate" })),
        told(json!({ "do": "hold", "text": "planted" })),
        told(json!({ "do": "append", "text": format!("{round} second\n") })),
        told(json!({ "do": "quarantine", "text": "planted" })),
        told(json!({ "do": "write", "text": format!("round {round}") })),
        told(json!({ "do": "state" })),
    ]
}

pub(super) fn everything_is_there_once_after_a_kill(language: Language) {
    let seed = seed("everything_is_there_once_after_a_kill");
    let mut rng = Rng::with_seed(seed);
    let wasm = language.guest();
    // Where the other tests have compiled it.
    let cache = target_dir().join("tmp/plugin-cache");
    let rig = Rig::embedded().set("REQUIRED_PLUGINS", "conformance").set("HOLD_MAX", "100ms");
    let rig = rig.set("CACHE_DIR", cache.to_str().unwrap());
    rig.put_plugin("guest", b"", wasm);
    let mut node = rig.spawn_owner();
    for round in 0..ROUNDS {
        let events = serde_json::to_string(&batch(round)).unwrap();
        assert_eq!(node.post("/events", &events), 200, "round {round}");
        let_pass(Duration::from_millis(rng.u64(0..300)));
        node.kill();
        node = rig.spawn_owner();
    }
    eventually("all is committed", || {
        let metrics = node.json("/metrics");
        node.takes_events() && metrics["queue_depth"] == 0 && metrics["events"]["held"] == 0
    });
    node.terminate();

    let text = rig.read("t/03-agent-output.jsonl");
    assert!(!text.contains("planted"), "{text}");
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), ROUNDS * BATCH);
    for (round, of_round) in records.chunks(BATCH).enumerate() {
        let (first, second) = (2 * round + 1, 2 * round + 2);
        assert_eq!([&of_round[0]["count"], &of_round[8]["count"]], [&json!(first), &json!(second)], "{text}");
        assert_eq!(of_round[4]["released"], true, "{text}");
        for (at, reason) in [(2, "dropped"), (6, "refused")] {
            assert_eq!([&of_round[at]["type"], &of_round[at]["reason"]], ["gap", reason], "{text}");
        }
    }
    let lines: String = (0..ROUNDS).map(|round| format!("{round} é 🦀 first\n{round} second\n")).collect();
    assert_eq!(rig.read("t/conformance.jsonl"), lines);
    assert_eq!(rig.read("t/conformance.txt"), format!("round {}", ROUNDS - 1));
    let metadata: Value = serde_json::from_str(&rig.read("t/metadata.json")).unwrap();
    assert_eq!(metadata["annotations"]["conformance"]["last"], records[(ROUNDS - 1) * BATCH + 3]["id"]);
    let plugins = metadata["plugins"].as_array().unwrap();
    assert_eq!((plugins.len(), &plugins[0]["name"]), (1, &json!("conformance")), "{metadata:#}");
}
