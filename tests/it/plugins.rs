//! The plugin host with real guests.

use task_logger::plugin::Outcome;

use crate::guests::{Stage, entry, eventually, outputs, run};

fn stamp(version: &str) -> Outcome {
    Outcome::Replace(format!("{{\"content\":\"a\",\"stamp\":\"{version}\"}}"))
}

fn sidecar(config: &str) -> String {
    format!("[config]\n{config}\n")
}

#[test]
fn a_new_version_takes_over_without_a_restart() {
    let mut stage = Stage::new();
    stage.put("stamp", &sidecar("mode = 'stamp'\nversion = 'one'"));
    let host = stage.start();
    let mut lane = host.lane();
    let events = outputs(&["a"]);
    let decided = run(&mut lane, &events, false).unwrap();
    assert_eq!(decided.outcomes, [stamp("one")]);
    assert_eq!((decided.provenance.generation, decided.provenance.plugins.len()), (1, 1));
    stage.put("stamp", &sidecar("mode = 'stamp'\nversion = 'two'"));
    eventually("the new version answers", || run(&mut lane, &events, false).unwrap().outcomes == [stamp("two")]);
    assert_eq!(entry(&host, "stamp.wasm").unwrap()["state"], "live");
}
