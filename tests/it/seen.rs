//! What a running service shows of its plugins: `/metrics` and `GET /plugins`, over swaps, failures and shadows.

use serde_json::{Value, json};

use crate::rig::{Node, Rig, add, eventually};

/// A series' value.
fn value(metrics: &str, series: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn plugin(node: &Node, file: &str) -> Value {
    let report = node.json("/plugins");
    let plugins = report["plugins"].as_array().cloned().unwrap_or_default();
    plugins.into_iter().find(|plugin| plugin["file"] == file).unwrap_or_default()
}

fn say(redis: &mut redis::Connection, text: &str) {
    let data = json!({ "content": text }).to_string();
    add(redis, &[("type", "task:output"), ("task_id", "t"), ("data", &data)]);
}

const GUARD: &str =
    "[config]\nname = 'guard'\nrole = 'redactor'\nmode = 'hold-until'\nmatch = 'open'\nuntil = 'closed'\nfiles = []\n";

fn counting(version: &str) -> String {
    format!(
        "isolation = 'reuse'\ntimeout = '100ms'\n[config]\nname = 'work'\nmode = 'count'\nfiles = []\nversion = '{version}'\n"
    )
}

#[test]
fn plugins_are_seen_from_outside() {
    let Some(rig) = Rig::redis() else { return };
    let rig = rig.set("REQUIRED_PLUGINS", "guard,work").set("HOLD_MAX", "20s");
    let mut redis = rig.connect();
    rig.put_guest("guard", GUARD);
    rig.put_guest("work", &counting("1"));
    for (mode, policy) in [("trap", "quarantine"), ("loop", "skip")] {
        let config = format!("[config]\nname = '{mode}'\nmode = '{mode}'\nmatch = 'poison-{mode}'\nfiles = []\n");
        rig.put_guest(mode, &format!("timeout = '50ms'\non_failure = '{policy}'\n{config}"));
    }
    rig.put_guest("shadow", "mode = 'shadow'\n[config]\nname = 'work'\nmode = 'stamp'\nversion = '2'\nfiles = []\n");
    let node = rig.spawn_owner();
    for text in ["one", "two", "poison-trap", "poison-loop"] {
        say(&mut redis, text);
    }
    rig.wait_published(&mut redis);
    say(&mut redis, "open");
    say(&mut redis, "and after");
    let held = "task_logger_plugin_held_events{plugin=\"guard\"}";
    eventually("two events are held", || value(&node.metrics(), held) == Some(2.0));
    assert_eq!(plugin(&node, "guard.wasm")["held_events"], 2);
    say(&mut redis, "closed");
    rig.wait_published(&mut redis);
    let metrics = node.metrics();
    let seen = |series: &str| value(&metrics, series).unwrap_or_else(|| panic!("{series} is missing:\n{metrics}"));
    assert_eq!(seen(held), 0.0);
    assert_eq!(seen("task_logger_plugin_events_total{plugin=\"guard\",verdict=\"pass\"}"), 7.0);
    assert_eq!(seen("task_logger_plugin_events_total{plugin=\"work\",verdict=\"pass\"}"), 6.0);
    assert_eq!(seen("task_logger_plugin_events_total{plugin=\"trap\",verdict=\"failed\"}"), 1.0);
    assert!(seen("task_logger_plugin_failures_total{plugin=\"trap\",class=\"trap\"}") >= 2.0);
    assert!(seen("task_logger_plugin_failures_total{plugin=\"loop\",class=\"timeout\"}") >= 2.0);
    assert_eq!(seen("task_logger_plugin_count_total{plugin=\"work\",name=\"misbehaved\"}"), 12.0);
    assert_eq!(
        seen("task_logger_plugin_count_total{plugin=\"work\",name=\"other\"}"),
        18.0,
        "no name of the guest's own"
    );
    assert!(seen("task_logger_plugin_bytes_in_total{plugin=\"work\"}") > 100.0);
    assert_eq!(seen("task_logger_plugin_bytes_out_total{plugin=\"work\"}"), 0.0);
    assert!(seen("task_logger_plugin_memory_bytes{plugin=\"work\"}") >= 65536.0);
    assert!(
        (1.0..=2.0).contains(&seen("task_logger_plugin_instances{plugin=\"work\"}")),
        "one for each lane that had work"
    );
    assert_eq!(seen("task_logger_plugin_instances{plugin=\"trap\"}"), 0.0, "none outlives its call");
    assert!(seen("task_logger_plugin_seconds_count{plugin=\"work\"}") >= 2.0);
    assert!(seen("task_logger_plugin_calls_total{plugin=\"work\"}") >= 2.0);
    // The shadow's series are its own.
    assert_eq!(seen("task_logger_shadow_events_total{plugin=\"work\",verdict=\"replace\"}"), 6.0);
    assert_eq!(seen("task_logger_shadow_differences_total{plugin=\"work\",enforced=\"pass\",shadow=\"replace\"}"), 6.0);
    assert!(seen("task_logger_shadow_bytes_out_total{plugin=\"work\"}") > 100.0);
    assert_eq!(seen("task_logger_plugin_redactors"), 1.0);
    assert_eq!(seen("task_logger_no_redactor"), 0.0);
    let first = seen("task_logger_plugin_live_generation{plugin=\"work\"}");
    assert!((1.0..=5.0).contains(&first), "{first}");
    // A swap: the series go on, the version is in the report.
    let before = plugin(&node, "work.wasm");
    rig.put_file("work.toml", counting("2").as_bytes());
    eventually("the second version is live", || plugin(&node, "work.wasm")["version"] == "2");
    say(&mut redis, "three");
    rig.wait_published(&mut redis);
    let metrics = node.metrics();
    let seen = |series: &str| value(&metrics, series).unwrap();
    assert_eq!(seen("task_logger_plugin_events_total{plugin=\"work\",verdict=\"pass\"}"), 7.0);
    assert_eq!(seen("task_logger_plugin_live_generation{plugin=\"work\"}"), first.max(5.0) + 1.0);
    assert!(
        seen("task_logger_plugin_swap_seconds_count") >= 1.0 && seen("task_logger_plugin_generations_alive") <= 3.0
    );
    let after = plugin(&node, "work.wasm");
    assert_eq!(
        (&after["events"]["pass"], &after["counts"]),
        (&json!(1), &json!({"misbehaved": 2, "other": 3})),
        "{after:#}"
    );
    assert_eq!((&after["previous"]["version"], &after["previous"]["sha256"]), (&before["version"], &before["sha256"]));
    assert_eq!(after["cost"]["calls"], 1);
    assert!(after["live_since"].as_str().is_some_and(|since| since.ends_with('Z')), "{after:#}");
    // A candidate that is no good: why, since when, and what runs.
    rig.put_file("work.wasm", b"no component");
    eventually("it is refused", || plugin(&node, "work.wasm")["refused"]["since"].is_string());
    let refused = plugin(&node, "work.wasm");
    assert_eq!(refused["refused"]["effect"], "the version before it runs");
    assert_eq!((&refused["state"], &refused["sha256"]), (&json!("live"), &before["sha256"]));
    assert_eq!(plugin(&node, "guard.wasm")["budget"]["counts"], "failed events");
    assert!(value(&node.metrics(), "task_logger_plugin_refused_candidates_total").unwrap() >= 1.0);
    node.terminate();
}
