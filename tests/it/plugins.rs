//! The plugin host with real guests.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use task_logger::plugin::{Effects, Outcome, Slice, States};

use crate::guests::{Log, Stage, entry, event, eventually, outputs, run};

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

/// What a plugin of a mode does to an event that says "poison"; the others pass.
const MISDEEDS: [(&str, &str); 17] = [
    ("huge-line", "trap"),
    ("trap", "trap"),
    ("panic", "trap"),
    ("loop", "timeout"),
    ("sleep", "trap"),
    ("memory", "memory"),
    ("short", "verdicts"),
    ("long", "verdicts"),
    ("failure", "failure"),
    ("undeclared-file", "trap"),
    ("big-state", "trap"),
    ("bad-annotation", "trap"),
    ("big-file", "trap"),
    ("bad-json", "json"),
    ("bad-object", "json"),
    ("hold", "hold"),
    ("pass", ""),
];

#[test]
fn a_misdeed_costs_the_poison_event_only() {
    let mut stage = Stage::new();
    for (mode, _) in MISDEEDS {
        let names = format!("name = '{mode}'\nfiles = ['{mode}.txt']\nmatch = 'poison-{mode}-'\nmode = '{mode}'");
        stage.put(mode, &sidecar(&names));
    }
    let host = stage.start();
    let log = Log::default();
    let mut lane = host.lane();
    for (mode, class) in MISDEEDS {
        let poison = format!("poison-{mode}-secret");
        let events = outputs(&["a", "b", &poison, "c", "d"]);
        let decided = log.capture(|| run(&mut lane, &events, false)).unwrap();
        let expected = match class {
            "" => Outcome::Pass,
            class => Outcome::Dead { reason: "plugin_failed", plugin: mode.into(), code: class.to_owned() },
        };
        let pass = Outcome::Pass;
        assert_eq!(decided.outcomes, [pass.clone(), pass.clone(), expected, pass.clone(), pass], "{mode}");
        assert_eq!(decided.effects, Effects::default(), "{mode}");
        assert!(entry(&host, &format!("{mode}.wasm")).unwrap()["state"] == "live", "{mode}");
    }
    assert!(log.text().contains("plugin failed on an event"), "the failures were logged");
    assert!(!log.text().contains("secret"), "no producer's text in the log: {}", log.text());
}

#[test]
fn a_redactors_words_are_never_logged() {
    for mode in ["log", "stdout", "failure", "panic", "bad-code"] {
        let mut stage = Stage::new();
        stage.put("r", &sidecar(&format!("role = 'redactor'\nmode = '{mode}'\nmatch = 'secret'")));
        let host = stage.start();
        let log = Log::default();
        let decided = log.capture(|| run(&mut host.lane(), &outputs(&["my secret"]), false)).unwrap();
        assert!(!log.text().contains("secret"), "{mode}: {}", log.text());
        let shown = format!("{} {:?}", host.report(), decided.outcomes);
        assert!(!shown.contains("secret"), "{mode}: {shown}");
        if mode == "log" {
            assert!(log.text().contains("not shown"), "that it logged is said: {}", log.text());
        }
        if mode == "bad-code" {
            assert_eq!(decided.outcomes, [Outcome::Drop { plugin: "misbehave".into(), code: "other".to_owned() }]);
        }
    }
}

#[test]
fn a_standard_plugin_may_log() {
    let mut stage = Stage::new();
    stage.put("s", &sidecar("mode = 'log'"));
    let host = stage.start();
    let log = Log::default();
    log.capture(|| run(&mut host.lane(), &outputs(&["hello there"]), false)).unwrap();
    assert!(log.text().contains("hello there"), "{}", log.text());
}

#[test]
fn a_plugin_reaches_nothing() {
    let mut stage = Stage::new();
    stage.put("reach", &sidecar("mode = 'reach'"));
    let decided = run(&mut stage.start().lane(), &outputs(&["a"]), false).unwrap();
    assert_eq!(decided.outcomes, [stamp("nothing")]);
}

#[test]
fn effects_are_staged_in_the_order_of_calls() {
    let mut stage = Stage::new();
    stage.put("a", &sidecar("name = 'a'\nmode = 'append'\nfiles = ['a.txt']"));
    stage.put("b", &sidecar("name = 'b'\nmode = 'replace-extra'\nfiles = ['b.txt']"));
    stage.put("c", &sidecar("name = 'c'\nmode = 'annotate'\nfiles = []"));
    stage.put("d", &sidecar("name = 'd'\nmode = 'state-count'\nfiles = []"));
    let events = outputs(&["x", "y"]);
    let states = {
        let mut states = States::default();
        states.set("d".into(), "40".into());
        states
    };
    let mut lane = stage.start().lane();
    let decided = lane.process(&Slice { task: None, events: &events, flush: false, states: &states }).unwrap();
    let [x, y] = [&events[0], &events[1]].map(|event| event.id.to_string());
    let files: Vec<_> = decided.effects.files.iter().map(|file| (&*file.name, file.replace, &*file.text)).collect();
    let lines = [format!("{x}\n"), format!("{y}\n")];
    assert_eq!(
        files,
        [("a.txt", false, &*lines[0]), ("a.txt", false, &lines[1]), ("b.txt", true, &x), ("b.txt", true, &y)]
    );
    assert_eq!(decided.effects.states, [("d".into(), "42".into())]);
    assert_eq!(serde_json::to_string(&decided.effects.annotations[0].1).unwrap(), format!("{{\"last\":\"{y}\"}}"));
    assert_eq!(&*decided.effects.annotations[0].0, "c");
}

#[test]
fn redactors_run_first_whatever_their_files_are_called() {
    let mut stage = Stage::new();
    stage.put("a", &sidecar("name = 'late'\nmode = 'drop'\nfiles = []\nmatch = 'stamp\":\"redacted'"));
    stage.put("z", &sidecar("name = 'early'\nmode = 'stamp'\nversion = 'redacted'\nrole = 'redactor'\nfiles = []"));
    let host = stage.start();
    assert_eq!(host.report()["chain"], serde_json::json!(["early", "late"]));
    let decided = run(&mut host.lane(), &outputs(&["a"]), false).unwrap();
    assert_eq!(decided.outcomes, [Outcome::Drop { plugin: "late".into(), code: "misbehaved".to_owned() }]);
}

#[test]
fn later_plugins_do_not_see_what_is_gone() {
    let mut stage = Stage::new();
    stage.put("a", &sidecar("name = 'a'\nmode = 'quarantine'\nmatch = 'bad'\nfiles = []"));
    stage.put("b", &sidecar("name = 'b'\nmode = 'append'\nfiles = ['b.txt']"));
    let decided = run(&mut stage.start().lane(), &outputs(&["good", "bad"]), false).unwrap();
    let dead = Outcome::Dead { reason: "refused", plugin: "a".into(), code: "misbehaved".to_owned() };
    assert_eq!(decided.outcomes, [Outcome::Pass, dead]);
    assert_eq!(decided.effects.files.len(), 1);
}

#[test]
fn held_events_have_not_happened_for_anyone() {
    let mut stage = Stage::new();
    stage.put("a", &sidecar("role = 'redactor'\nname = 'a'\nmode = 'append'\nfiles = ['a.txt']"));
    let hold = "role = 'redactor'\nname = 'b'\nmode = 'hold-until'\nmatch = 'open'\nuntil = 'closed'\nfiles = []";
    stage.put("b", &sidecar(hold));
    stage.put("c", &sidecar("name = 'c'\nmode = 'append'\nfiles = ['c.txt']"));
    let mut lane = stage.start().lane();
    let events = outputs(&["x", "open", "y"]);
    let decided = run(&mut lane, &events, false).unwrap();
    assert_eq!(decided.outcomes, [Outcome::Pass], "what follows a held event waits with it");
    let files: Vec<_> = decided.effects.files.iter().map(|file| &*file.name).collect();
    assert_eq!(files, ["a.txt", "c.txt"], "only of the event that was decided");
    assert!(run(&mut lane, &events[1..], false).unwrap().outcomes.is_empty());
    let events = outputs(&["open", "closed"]);
    let decided = run(&mut lane, &events, false).unwrap();
    assert_eq!((decided.outcomes.len(), decided.effects.files.len()), (2, 4));
    let decided = run(&mut lane, &outputs(&["open"]), true).unwrap();
    assert_eq!(decided.outcomes, [Outcome::Pass], "flushed");
}

#[test]
fn a_redactor_that_holds_on_flush_fails() {
    let mut stage = Stage::new();
    stage.put("r", &sidecar("role = 'redactor'\nmode = 'hold'\nmatch = 'poison'"));
    let mut lane = stage.start().lane();
    let decided = run(&mut lane, &outputs(&["a", "poison", "b"]), true).unwrap();
    let dead = Outcome::Dead { reason: "plugin_failed", plugin: "misbehave".into(), code: "hold".to_owned() };
    assert_eq!(decided.outcomes, [Outcome::Pass, dead, Outcome::Pass]);
}

#[test]
fn long_slices_are_cut_into_calls_that_share_the_state() {
    let mut stage = Stage::new();
    let hold = "role = 'redactor'\nname = 'b'\nmode = 'hold-until'\nmatch = 'open'\nuntil = 'closed'\nfiles = []";
    stage.put("b", &sidecar(hold));
    stage.put("c", &sidecar("name = 'c'\nmode = 'state-count'\nfiles = []"));
    let mut lane = stage.start().lane();
    let mut contents = vec!["x"; 1000];
    // Held from 100 on until far behind the first call's end.
    contents[100] = "open";
    contents[900] = "closed";
    let decided = run(&mut lane, &outputs(&contents), false).unwrap();
    assert_eq!(decided.outcomes.len(), 1000);
    assert_eq!(decided.effects.states, [("c".into(), "1000".into())]);
    let last = "{\"content\":\"x\",\"stamp\":1000}".to_owned();
    assert_eq!(decided.outcomes[999], Outcome::Replace(last));
}

#[test]
fn kinds_not_wanted_never_cross() {
    let mut stage = Stage::new();
    stage.put("s", &format!("kinds = ['task:o*']\n{}", sidecar("mode = 'stamp'\nversion = 'v'\nkinds = ['task:*']")));
    let mut lane = stage.start().lane();
    let events = ["task:output", "task:started", "webhook:received"].map(|kind| event(1, kind, "{\"content\":\"a\"}"));
    assert_eq!(run(&mut lane, &events, false).unwrap().outcomes, [stamp("v"), Outcome::Pass, Outcome::Pass]);
}

#[test]
fn policies_skip_and_halt() {
    let mut stage = Stage::new();
    stage.put("s", &format!("on_failure = 'skip'\n{}", sidecar("mode = 'trap'\nmatch = 'poison'")));
    let host = stage.start();
    assert_eq!(run(&mut host.lane(), &outputs(&["poison"]), false).unwrap().outcomes, [Outcome::Pass]);
    let mut stage = Stage::new();
    stage.put("h", &format!("on_failure = 'halt'\n{}", sidecar("mode = 'trap'\nmatch = 'poison'")));
    let host = stage.start();
    let mut lane = host.lane();
    let seen = host.wait_changed(0, Duration::ZERO);
    assert!(run(&mut lane, &outputs(&["a", "poison"]), false).is_err());
    assert!(host.gate().unwrap_err().reason.contains("its policy is to halt"));
    assert_ne!(host.wait_changed(seen, Duration::ZERO), seen, "who waits is woken");
    assert!(run(&mut lane, &outputs(&["a"]), false).is_err(), "nothing is run while stopped");
    // A version that takes the event lets it go on.
    stage.put("h", &sidecar("mode = 'pass'"));
    eventually("reading goes on", || host.gate().is_ok());
    assert_eq!(run(&mut lane, &outputs(&["a", "poison"]), false).unwrap().outcomes.len(), 2);
}

#[test]
fn an_instance_lives_for_a_call_or_until_it_fails() {
    for (isolation, expected) in [("call", [1, 1, 1]), ("reuse", [1, 2, 3])] {
        let mut stage = Stage::new();
        stage.put("s", &format!("isolation = '{isolation}'\n{}", sidecar("mode = 'seen'")));
        let mut lane = stage.start().lane();
        let seen = [(); 3].map(|()| run(&mut lane, &outputs(&["a"]), false).unwrap().outcomes.remove(0));
        let expected = expected.map(|n| Outcome::Replace(format!("{{\"content\":\"a\",\"stamp\":{n}}}")));
        assert_eq!(seen, expected, "{isolation}");
    }
    let mut stage = Stage::new();
    stage.put("s", &format!("isolation = 'reuse'\n{}", sidecar("mode = 'trap'\nmatch = 'poison'")));
    let mut lane = stage.start().lane();
    for round in 0..3 {
        let decided = run(&mut lane, &outputs(&["a", "poison", "b"]), false).unwrap();
        assert!(matches!(&decided.outcomes[..], [Outcome::Pass, Outcome::Dead { .. }, Outcome::Pass]), "{round}");
    }
}

#[test]
fn large_events_cross() {
    let mut stage = Stage::new();
    stage.put("s", &sidecar("mode = 'stamp'\nversion = 'v'\nmatch = 'yy'"));
    let mut lane = stage.start().lane();
    // The largest there is, and one that this guest's tree of values can hold in its memory.
    let events = outputs(&[&"x".repeat(16 << 20), &"y".repeat(4 << 20), "a"]);
    let decided = run(&mut lane, &events, false).unwrap();
    let [Outcome::Pass, Outcome::Replace(data), Outcome::Pass] = &decided.outcomes[..] else {
        panic!("{:?}", decided.outcomes.iter().map(std::mem::discriminant).collect::<Vec<_>>())
    };
    assert_eq!(data.len(), events[1].data.len() + ",\"stamp\":\"v\"".len());
}

#[test]
fn every_event_is_processed_by_exactly_one_generation() {
    let mut stage = Stage::new();
    // Two plugins that stamp: a mixed chain would show in the data.
    let put = |stage: &Stage, version: usize| {
        let config = format!("mode = 'stamp'\nversion = '{version}'");
        stage.put("stamp", &sidecar(&config));
    };
    put(&stage, 0);
    let host = stage.start();
    let done = AtomicBool::new(false);
    let counts = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut lane, mut seen) = (host.lane(), BTreeMap::new());
                    let events = outputs(&["a"; 8]);
                    while !done.load(Ordering::Relaxed) {
                        let decided = run(&mut lane, &events, false).unwrap();
                        let version = &decided.provenance.plugins[0].version;
                        assert_eq!(decided.outcomes, vec![stamp(version); 8], "the one that provenance names");
                        *seen.entry(decided.provenance.generation).or_insert(0_u64) += 1;
                    }
                    seen
                })
            })
            .collect();
        for version in 1..=5 {
            put(&stage, version);
            let version = version.to_string();
            eventually("the swap", || host.provenance().plugins[0].version == version);
        }
        done.store(true, Ordering::Relaxed);
        lanes.into_iter().map(|lane| lane.join().unwrap()).collect::<Vec<_>>()
    });
    for seen in &counts {
        assert!(seen.len() >= 5, "it ran through the swaps: {seen:?}");
    }
}

#[test]
fn a_chain_without_plugins_passes_everything() {
    let mut stage = Stage::new();
    let host = stage.start();
    let mut lane = host.lane();
    assert!(lane.is_empty());
    assert_eq!(run(&mut lane, &outputs(&["a", "b"]), true).unwrap().outcomes, [Outcome::Pass, Outcome::Pass]);
    assert!(stage.status.notices().contains_key("redactor"), "that nothing is redacted is said");
}
