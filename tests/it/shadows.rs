//! Shadow mode: what runs beside the chain changes nothing, sees nothing it may not see, and shows nothing that was hidden.

use std::time::Duration;

use serde_json::{Value, json};
use task_logger::plugin::{Effects, Outcome, PluginHost, Slice, States};

use crate::{
    guests::{Log, Stage, cpu_time, entry, event, eventually, outputs, run},
    rig::bundled,
};

const REDACTOR: &str = "[config]\nname = 'redact'\nrole = 'redactor'\nmode = 'stamp'\nversion = 'one'\nfiles = []\n";

/// A redactor's candidate that does this.
fn beside(config: &str) -> String {
    format!(
        "mode = 'shadow'\nisolation = 'reuse'\n[config]\nname = 'redact'\nrole = 'redactor'\nfiles = ['x.txt']\n{config}\n"
    )
}

fn shadow(host: &PluginHost, file: &str) -> Value {
    entry(host, file).map(|entry| entry["shadow"].clone()).unwrap_or_default()
}

fn stamped(version: &str) -> Outcome {
    Outcome::Replace(format!("{{\"content\":\"a\",\"stamp\":\"{version}\"}}"))
}

#[test]
fn a_shadow_is_compared_and_decides_nothing() {
    let mut stage = Stage::new();
    stage.put("redact", REDACTOR);
    let host = stage.start();
    let mut lane = host.lane();
    let before = host.provenance();
    stage.put("a-new", &beside("mode = 'stamp'\nversion = 'two'\nmatch = 'b'"));
    eventually("it watches", || entry(&host, "a-new.wasm").is_some_and(|entry| entry["state"] == "shadow"));
    let after = host.provenance();
    assert_eq!((&after.chain_digest, &after.plugins), (&before.chain_digest, &before.plugins), "no part of the chain");
    assert_eq!(after.generation, before.generation + 1);
    assert_eq!(host.report()["shadows"], json!(["redact"]));
    assert_eq!(entry(&host, "redact.wasm").unwrap()["state"], "live");
    let decided = run(&mut lane, &outputs(&["a", "a", "b"]), false).unwrap();
    assert_eq!(decided.outcomes[..2], [stamped("one"), stamped("one")]);
    assert_eq!(decided.effects, Effects::default());
    let shown = shadow(&host, "a-new.wasm");
    assert_eq!((&shown["compared"], &shown["differed"], &shown["skipped"]), (&json!(3), &json!(3), &json!(0)));
    assert_eq!(shown["differences"], json!({ "replace -> pass": 2, "replace -> replace": 1 }));
    let sample = &shown["samples"][2];
    assert_eq!((&sample["enforced"], &sample["shadow"]), (&json!("replace"), &json!("replace")));
    let place = json!([{ "path": "/stamp", "first_difference": 0, "enforced_chars": 3, "shadow_chars": 3 }]);
    assert_eq!(
        (&sample["id"], &sample["kind"], &sample["differs_at"]),
        (&json!("1700000000000-3"), &json!("task:output"), &place)
    );
    // Its figures are its own.
    assert_eq!(entry(&host, "redact.wasm").unwrap()["events"]["replace"], 3);
    assert_eq!(
        entry(&host, "a-new.wasm").unwrap()["events"],
        json!({"pass": 2, "replace": 1, "drop": 0, "quarantine": 0, "failed": 0, "hold": 0})
    );
    stage.take("a-new.wasm");
    eventually("it is gone", || host.provenance().generation == after.generation + 1);
    assert_eq!(host.chain_digest(), before.chain_digest);
}

#[test]
fn samples_are_bounded() {
    let mut stage = Stage::new();
    stage.put("redact", REDACTOR).put("new", &beside("mode = 'drop'"));
    let host = stage.start();
    let mut lane = host.lane();
    for _ in 0..10 {
        run(&mut lane, &outputs(&["a"; 50]), false).unwrap();
    }
    let shown = shadow(&host, "new.wasm");
    assert_eq!(shown["differences"], json!({ "replace -> drop": 500 }));
    assert_eq!(shown["samples"].as_array().map(Vec::len), Some(16));
    assert_eq!(shown["samples"][0]["shadow"], "drop (misbehaved)");
}

#[test]
fn a_shadow_redactor_runs_only_beside_a_live_one() {
    let mut stage = Stage::new();
    // First by file name, alone, and beside one that is no redactor.
    stage
        .put("a-new", &beside("mode = 'pass'"))
        .put("other", "mode = 'shadow'\n[config]\nname = 'other'\nrole = 'redactor'");
    stage.put("standard", "[config]\nname = 'other'\nfiles = []");
    let host = stage.start();
    let state = |file: &str| entry(&host, file).unwrap()["state"].clone();
    let reason = |file: &str| entry(&host, file).unwrap_or_default()["refused"]["reason"].to_string();
    assert_eq!((state("a-new.wasm"), state("other.wasm")), (json!("refused"), json!("refused")));
    assert!(reason("a-new.wasm").contains("only beside an enforcing redactor of its name"), "{}", reason("a-new.wasm"));
    assert!(reason("other.wasm").contains("its role is redactor"), "{}", reason("other.wasm"));
    let mut lane = host.lane();
    run(&mut lane, &outputs(&["a"]), false).unwrap();
    assert_eq!(shadow(&host, "a-new.wasm")["compared"], 0, "it sees nothing");
    stage.put("redact", REDACTOR);
    eventually("it watches", || state("a-new.wasm") == "shadow");
    run(&mut lane, &outputs(&["a"]), false).unwrap();
    assert_eq!(shadow(&host, "a-new.wasm")["compared"], 1);
    // One of a name; and it takes the place of nothing.
    stage.put("b-new", &beside("mode = 'pass'"));
    eventually("the second is refused", || reason("b-new.wasm").contains("already the shadow named"));
    stage.put_bytes("redact.toml", format!("mode = 'shadow'\n{REDACTOR}").as_bytes());
    eventually("the redactor stays", || reason("redact.wasm").contains("required plugin"));
    assert_eq!(run(&mut lane, &outputs(&["a"]), false).unwrap().outcomes, [stamped("one")]);
    // Without the one that vouches for it, it is given nothing more.
    stage.take("redact.wasm");
    eventually("it waits", || state("a-new.wasm") == "refused");
    assert!(host.gate().is_err(), "a shadow is no redactor");
}

#[test]
fn a_standard_shadow_sees_redacted_data_at_its_place() {
    let mut stage = Stage::new();
    stage.put("redact", REDACTOR);
    stage.put("a", "[config]\nname = 'a'\nmode = 'drop'\nmatch = 'gone'\nfiles = []");
    stage.put("c", "[config]\nname = 'c'\nmode = 'drop'\nmatch = 'late'\nfiles = []");
    // Without one of its name beside it: against passing everything. It drops whatever is redacted already.
    stage.put("b", "mode = 'shadow'\n[config]\nname = 'b'\nmode = 'drop'\nmatch = 'stamp\":\"one'\nfiles = []");
    let host = stage.start();
    let mut lane = host.lane();
    let decided = run(&mut lane, &outputs(&["x", "gone", "late"]), false).unwrap();
    let drop = |name: &str| Outcome::Drop { plugin: name.into(), code: "misbehaved".to_owned() };
    assert_eq!(decided.outcomes[1..], [drop("a"), drop("c")]);
    let shown = shadow(&host, "b.wasm");
    assert_eq!(
        shown["differences"],
        json!({ "pass -> drop": 2 }),
        "what a dropped it does not see, what c drops it does"
    );
    // Of redacted data a few characters may be shown.
    stage.put_bytes("b.toml", b"mode = 'shadow'\n[config]\nname = 'b'\nmode = 'stamp'\nversion = 'two'\nfiles = []");
    eventually("the next one watches", || shadow(&host, "b.wasm")["compared"] == 0);
    run(&mut lane, &outputs(&["x"]), false).unwrap();
    let place = json!({ "path": "/stamp", "first_difference": 0, "enforced_chars": 3, "shadow_chars": 3, "enforced_text": "one", "shadow_text": "two" });
    assert_eq!(shadow(&host, "b.wasm")["samples"][0]["differs_at"], json!([place]));
}

#[test]
fn fail_closed_a_shadow_shows_nothing_of_what_is_hidden() {
    // The secret, and words that only raw data has.
    let (secret, word) = ("ghp_Zq7SecHalfOne0000Zq7SecHalfTwo000001", "Zq7SecHalfOne");
    let texts = [format!("token {secret} there"), format!("open {secret}")];
    let events: Vec<_> = (1..)
        .zip(&texts)
        .map(|(seq, text)| {
            event(seq, "task:output", &json!({ "content": text, secret: text, "n": { "k": [secret] } }).to_string())
        })
        .collect();
    for mode in [
        "pass", "stamp", "append", "annotate", "log", "stdout", "failure", "panic", "bad-code", "bad-json", "hold",
        "drop", "count",
    ] {
        let mut stage = Stage::new();
        let (wasm, sidecar) = bundled("redact");
        stage.put_bytes("redact.toml", &sidecar).put_bytes("redact.wasm", &wasm);
        stage.put("shadow", &beside(&format!("mode = '{mode}'\nversion = 'v'\nmatch = 'Zq7'")));
        let host = stage.start();
        assert_eq!(entry(&host, "shadow.wasm").unwrap()["state"], "shadow", "{mode}: {}", host.report());
        let log = Log::default();
        let decided = log.capture(|| run(&mut host.lane(), &events, true)).unwrap();
        let outcomes = format!("{:?} {:?}", decided.outcomes, decided.effects);
        assert!(decided.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Replace(_))), "{mode}: {outcomes}");
        assert!(!outcomes.contains("x.txt") && !outcomes.contains(word), "{mode}: {outcomes}");
        let shown = host.report().to_string();
        assert!(!shown.contains(word) && !shown.contains("ghp_"), "{mode}: {shown}");
        assert!(!log.text().contains(word) && !log.text().contains("not shown"), "{mode}: {}", log.text());
        let differed = shadow(&host, "shadow.wasm")["differed"].as_u64().unwrap();
        assert_eq!(differed, 2, "{mode}: {shown}");
        if mode == "pass" {
            let sample = &shadow(&host, "shadow.wasm")["samples"][0]["differs_at"];
            assert!(
                sample.to_string().contains("/n/k/0") && sample.to_string().contains("first_difference"),
                "{sample}"
            );
        }
    }
    // The other way round: what the enforcing one lets through, the shadow finds; it is shown where, not what.
    let mut stage = Stage::new();
    stage.put("old", "[config]\nname = 'redact'\nrole = 'redactor'\nmode = 'pass'");
    let (wasm, sidecar) = bundled("redact");
    let sidecar = format!("mode = 'shadow'\n{}", String::from_utf8(sidecar).unwrap());
    stage.put_bytes("redact.toml", sidecar.as_bytes()).put_bytes("redact.wasm", &wasm);
    let host = stage.start();
    assert_eq!(run(&mut host.lane(), &events, true).unwrap().outcomes, [Outcome::Pass, Outcome::Pass]);
    let shown = host.report().to_string();
    assert_eq!(shadow(&host, "redact.wasm")["differences"], json!({ "pass -> replace": 2 }), "{shown}");
    assert!(!shown.contains(word) && !shown.contains("ghp_"), "{shown}");
    assert!(shown.contains("/n/k/0"), "{shown}");
}

#[test]
fn a_shadows_failures_touch_nothing() {
    let mut stage = Stage::new();
    stage.put("redact", REDACTOR).put("new", &beside("mode = 'trap'\nmatch = 'poison'"));
    let host = stage.start();
    let log = Log::default();
    let mut lane = host.lane();
    log.capture(|| {
        for _ in 0..20 {
            let decided = run(&mut lane, &outputs(&["a", "poison", "poison", "a"]), false).unwrap();
            assert_eq!(decided.outcomes[3], stamped("one"));
        }
    });
    assert!(host.gate().is_ok());
    // Libraries may log below a warning.
    let said = log.text();
    assert!(!["WARN", "ERROR", "poison"].iter().any(|word| said.contains(word)), "{said}");
    let shown = shadow(&host, "new.wasm");
    assert_eq!(shown["differences"], json!({ "replace -> failed": 40, "replace -> pass": 40 }));
    assert_eq!(entry(&host, "redact.wasm").unwrap()["budget"]["in_a_row"], 0);
    assert_eq!(shown["samples"][1]["shadow"], "failed (trap)");
}

#[test]
fn a_shadow_that_takes_too_much_time_is_suspended() {
    let mut stage = Stage::new();
    stage.put("redact", REDACTOR).put("new", &beside("mode = 'loop'\nmatch = 'poison'"));
    let host = stage.start();
    let mut lane = host.lane();
    let began = cpu_time();
    for _ in 0..20 {
        assert_eq!(run(&mut lane, &outputs(&["poison"; 64]), false).unwrap().outcomes.len(), 64);
    }
    let took = cpu_time() - began;
    assert!(took < Duration::from_secs(5), "1280 endless loops took {took:?}");
    let shown = shadow(&host, "new.wasm");
    assert!(shown["suspended"]["seconds_left"].as_u64().is_some_and(|left| left <= 30), "{shown}");
    let (compared, skipped) = (shown["compared"].as_u64().unwrap(), shown["skipped"].as_u64().unwrap());
    assert_eq!(compared + skipped, 1280, "{shown}");
    assert!(skipped > 1200, "{shown}");
}

#[test]
fn a_shadow_that_holds_is_asked_on() {
    let mut stage = Stage::new();
    stage.put("redact", REDACTOR);
    stage.put("new", &beside("mode = 'hold-until'\nmatch = 'open'\nuntil = 'closed'"));
    let host = stage.start();
    let mut lane = host.lane();
    assert_eq!(run(&mut lane, &outputs(&["a", "open", "a", "a"]), false).unwrap().outcomes.len(), 4, "nothing waits");
    let shown = shadow(&host, "new.wasm");
    assert_eq!(shown["differences"], json!({ "replace -> hold": 1, "replace -> pass": 3 }), "{shown}");
    // The enforcing one was told to flush, so is the shadow: it does not hold then.
    run(&mut lane, &outputs(&["open"]), true).unwrap();
    assert_eq!(shadow(&host, "new.wasm")["differences"]["replace -> hold"], 1);
}

#[test]
fn what_is_held_a_shadow_sees_when_it_is_decided() {
    let hold = "[config]\nname = 'redact'\nrole = 'redactor'\nmode = 'hold-until'\nmatch = 'open'\nuntil = 'closed'\nfiles = []\n";
    let mut stage = Stage::new();
    stage.put("redact", hold).put("new", &format!("mode = 'shadow'\n{hold}"));
    let host = stage.start();
    let mut lane = host.lane();
    assert_eq!(run(&mut lane, &outputs(&["a", "open", "b"]), false).unwrap().outcomes.len(), 1);
    assert_eq!(shadow(&host, "new.wasm")["compared"], 1);
    assert_eq!(entry(&host, "redact.wasm").unwrap()["held_events"], 2);
    assert_eq!(run(&mut lane, &outputs(&["open", "b", "closed"]), false).unwrap().outcomes.len(), 3);
    assert_eq!(entry(&host, "redact.wasm").unwrap()["held_events"], 0);
    let shown = shadow(&host, "new.wasm");
    assert_eq!((&shown["compared"], &shown["differed"]), (&json!(4), &json!(0)), "{shown}");
}

#[test]
fn a_shadow_has_a_state_of_its_own_that_begins_with_the_others() {
    let counting = "name = 'n'\nmode = 'state-count'\nfiles = []\n";
    let mut stage = Stage::new();
    stage
        .put("n", &format!("[config]\n{counting}"))
        .put("o", &format!("mode = 'shadow'\n[config]\n{counting}match = 'x'"));
    let host = stage.start();
    let mut lane = host.lane();
    let mut states = States::default();
    states.set("n".into(), "40".into());
    let mut process = |contents: &[&str]| {
        let events = outputs(contents);
        let decided = lane.process(&Slice { task: Some("t"), events: &events, flush: false, states: &states }).unwrap();
        decided.effects.states.into_iter().for_each(|(name, state)| states.set(name, state));
    };
    process(&["x", "x"]);
    process(&["x"]);
    let shown = shadow(&host, "o.wasm");
    assert_eq!((&shown["compared"], &shown["differed"]), (&json!(3), &json!(0)), "it began at 40, too: {shown}");
    // The enforcing one counts these, the shadow does not: from here on they are apart.
    process(&["y"]);
    process(&["x"]);
    assert_eq!(shadow(&host, "o.wasm")["differed"], 2);
}
