//! How long an instance lives, and what becomes of plugins that take too much time.

use std::time::Duration;

use serde_json::Value;
use task_logger::plugin::{LaneChain, Outcome};

use crate::guests::{Stage, cpu_time, entry, outputs, run};

/// What the guest stamped on the only event of a call.
fn stamp(lane: &mut LaneChain) -> u64 {
    let decided = run(lane, &outputs(&["a"]), false).unwrap();
    let [Outcome::Replace(data)] = &decided.outcomes[..] else { panic!("{:?}", decided.outcomes) };
    serde_json::from_str::<Value>(data).unwrap()["stamp"].as_u64().unwrap()
}

#[test]
fn a_kept_instance_ends_after_ten_thousand_calls() {
    let mut stage = Stage::new();
    stage.put("s", "isolation = 'reuse'\n[config]\nmode = 'seen'");
    let host = stage.start();
    let mut lane = host.lane();
    for n in 1..=10_000 {
        assert_eq!(stamp(&mut lane), n, "the same instance");
    }
    assert_eq!(entry(&host, "s.wasm").unwrap()["cost"]["instances"], 0, "it is gone");
    assert_eq!(stamp(&mut lane), 1, "a new one");
    assert_eq!(entry(&host, "s.wasm").unwrap()["cost"]["instances"], 1);
}

#[test]
fn a_kept_instance_ends_when_events_took_half_of_what_init_left_free() {
    let mut stage = Stage::new();
    stage.put("s", "isolation = 'reuse'\nmemory = '16MiB'\n[config]\nmode = 'leak'");
    let host = stage.start();
    let mut lane = host.lane();
    let lives: Vec<u64> = {
        let stamps: Vec<u64> = (0..100).map(|_| stamp(&mut lane)).collect();
        stamps.windows(2).filter(|pair| pair[1] == 1).map(|pair| pair[0]).collect()
    };
    // Each call leaks a mebibyte, of sixteen.
    assert!(lives.len() >= 10 && lives.iter().all(|calls| (6..=10).contains(calls)), "{lives:?}");
    let shown = entry(&host, "s.wasm").unwrap();
    let memory = shown["cost"]["memory_bytes"].as_u64().unwrap();
    assert!((8 << 20..=11 << 20).contains(&memory), "the most that an instance had: {shown}");
    assert_eq!(shown["failed_calls"], 0);
}

#[test]
fn a_standard_plugin_that_keeps_timing_out_gets_less_time() {
    let mut stage = Stage::new();
    stage.put("s", "timeout = '200ms'\n[config]\nmode = 'loop'\nmatch = 'poison'");
    let host = stage.start();
    let mut lane = host.lane();
    let shown = || entry(&host, "s.wasm").unwrap()["budget"]["throttled_seconds_left"].clone();
    assert_eq!(shown(), Value::Null);
    let began = cpu_time();
    let decided = run(&mut lane, &outputs(&["poison"; 64]), false).unwrap();
    let dead = Outcome::Dead { reason: "plugin_failed", plugin: "misbehave".into(), code: "timeout".to_owned() };
    assert_eq!(decided.outcomes, vec![dead.clone(); 64]);
    // Each call to its end would be 127 times 200 ms.
    let took = cpu_time() - began;
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(shown().as_u64().is_some_and(|left| (1..=60).contains(&left)), "{}", shown());
    // What it can handle passes it as before.
    let mut contents = vec!["fine"; 64];
    contents[20] = "poison";
    let mut expected = vec![Outcome::Pass; 64];
    expected[20] = dead;
    assert_eq!(run(&mut lane, &outputs(&contents), false).unwrap().outcomes, expected);
}
