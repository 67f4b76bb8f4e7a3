//! What a hostile author can write in an ordinary language: floods, endless waits, deep structures, guests that turn, and
//! guests that look for what others left in memory.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use task_logger::plugin::{Outcome, Slice, States};

use crate::guests::{Log, Stage, entry, event, eventually, outputs, run};

fn dead(plugin: &str, class: &str) -> Outcome {
    Outcome::Dead { reason: "plugin_failed", plugin: plugin.into(), code: class.to_owned() }
}

/// A plugin of this mode that is set off by `poison`.
fn guest(mode: &str, more: &str) -> Stage {
    let stage = Stage::new();
    let sidecar = format!(
        "timeout = '100ms'\n[config]\nmode = '{mode}'\nname = 'hostile'\nmatch = 'poison'\nfiles = ['h.txt']\n{more}\n"
    );
    stage.put("hostile", &sidecar);
    stage
}

#[test]
fn a_flood_costs_its_event_only() {
    for (mode, class) in [
        ("recurse", "trap"),
        ("exit", "trap"),
        ("log-flood", "trap or timeout"),
        ("count-flood", "timeout"),
        ("amplify", ""),
    ] {
        let mut stage = guest(mode, "");
        let host = stage.start();
        for at in [0, 2, 4] {
            let mut texts = ["a", "b", "c", "d", "e"];
            texts[at] = "poison";
            let decided = run(&mut host.lane(), &outputs(&texts), false).unwrap();
            for (n, outcome) in decided.outcomes.iter().enumerate() {
                match (n == at, class) {
                    (true, "") => {
                        assert!(matches!(outcome, Outcome::Replace(_)), "{mode}: {:?}", std::mem::discriminant(outcome))
                    }
                    // Which quota ends it first depends on the machine.
                    (true, class) => assert!(
                        class.split(" or ").any(|class| *outcome == dead("hostile", class)),
                        "{mode}: {outcome:?}"
                    ),
                    (false, _) => assert_eq!(*outcome, Outcome::Pass, "{mode}: poison at {at}, event {n}"),
                }
            }
        }
    }
}

#[test]
fn what_is_printed_goes_nowhere() {
    let mut stage = guest("print-flood", "");
    let host = stage.start();
    let log = Log::default();
    let decided = log.capture(|| run(&mut host.lane(), &outputs(&["a", "poison", "b"]), false)).unwrap();
    // It prints as long as it has time; none of it is kept anywhere.
    let [Outcome::Pass, printed, Outcome::Pass] = &decided.outcomes[..] else { panic!("{:?}", decided.outcomes) };
    assert!(*printed == Outcome::Pass || *printed == dead("hostile", "timeout"), "{printed:?}");
    // The libraries' own lines of this level are never shown by the service.
    let log: String = log.text().lines().filter(|line| line.contains(" task_logger")).collect();
    assert!(!log.contains("pppp") && log.len() < 4096, "{} bytes: {log:.500}", log.len());
}

#[test]
fn a_sleep_in_a_guest_ends_at_its_deadline() {
    for (how, class) in [
        ("sleep", "trap"),
        ("short-sleeps", "trap"),
        ("poll", "trap"),
        ("monotonic-clock", "timeout"),
        ("wall-clock", "timeout"),
        ("random", "timeout"),
        ("stdin", "timeout"),
        ("yield", "timeout"),
    ] {
        let mut stage = guest("wait", &format!("until = '{how}'"));
        let host = stage.start();
        let began = Instant::now();
        let decided = run(&mut host.lane(), &outputs(&["poison"]), false).unwrap();
        let took = began.elapsed();
        assert!(matches!(&decided.outcomes[..], [Outcome::Dead { .. }]), "{how}: {:?}", decided.outcomes);
        assert_eq!(decided.outcomes, [dead("hostile", class)], "{how}");
        // Once in the slice and once alone on a fresh instance, 100 ms of CPU time each; by the wall at most 30 times that.
        assert!(took < Duration::from_secs(7), "{how}: {took:?}");
    }
}

#[test]
fn what_is_nested_without_end_costs_its_event_only() {
    for (mode, depth, class) in [
        ("annotate-deep", 30_000, "trap"),
        ("annotate-deep", 129, "trap"),
        ("replace-deep", 100_000, "json"),
        ("replace-deep", 129, "json"),
    ] {
        let mut stage = guest(mode, &format!("depth = {depth}"));
        let decided = run(&mut stage.start().lane(), &outputs(&["a", "poison", "b"]), false).unwrap();
        assert_eq!(decided.outcomes, [Outcome::Pass, dead("hostile", class), Outcome::Pass], "{mode} {depth}");
    }
}

#[test]
fn a_guest_that_turns_at_the_hundredth_event_costs_those_it_fails_on() {
    let mut stage = guest("turncoat", "");
    let host = stage.start();
    let mut lane = host.lane();
    let mut states = States::default();
    for n in 1..=110_u64 {
        let events = [event(n, "task:output", "{\"content\":\"poison\"}")];
        let decided = lane.process(&Slice { task: Some("t"), events: &events, flush: false, states: &states }).unwrap();
        for (plugin, state) in decided.effects.states {
            states.set(plugin, state);
        }
        let expected = if n < 100 { Outcome::Pass } else { dead("hostile", "trap") };
        assert_eq!(decided.outcomes, [expected], "event {n}");
    }
    // Another task begins anew: nothing of the first one sticks to the plugin.
    assert_eq!(run(&mut lane, &outputs(&["poison"]), false).unwrap().outcomes, [Outcome::Pass]);
}

#[test]
fn fail_closed_a_redactor_that_turns_at_the_hundredth_event_stops_reading() {
    let mut stage = guest("turncoat", "role = 'redactor'");
    let host = stage.start();
    let mut lane = host.lane();
    let mut states = States::default();
    let mut failed = 0;
    for n in 1..=110_u64 {
        let events = [event(n, "task:output", "{\"content\":\"poison\"}")];
        let slice = Slice { task: Some("t"), events: &events, flush: false, states: &states };
        let Ok(decided) = lane.process(&slice) else {
            assert_eq!((n, failed), (104, 4), "the fifth failure in a row is not quarantined");
            assert!(host.gate().unwrap_err().reason.contains("failed on too many events"));
            return;
        };
        failed += usize::from(decided.outcomes != [Outcome::Pass]);
        for (plugin, state) in decided.effects.states {
            states.set(plugin, state);
        }
    }
    panic!("it went on reading");
}

#[test]
fn a_manifest_that_changes_while_it_is_live_costs_calls_not_the_service() {
    let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() + 1500;
    let mut stage = guest("chameleon", &format!("until = '{moment}'"));
    stage.put("other", "[config]\nmode = 'stamp'\nname = 'other'\nfiles = []\nversion = 'v'");
    let host = stage.start();
    let mut lane = host.lane();
    assert_eq!(entry(&host, "hostile.wasm").unwrap()["state"], "live");
    // An instance that says it is another plugin is not asked: its event is quarantined, and the rest of the chain works.
    eventually("the manifest changes", || {
        run(&mut lane, &outputs(&["a"]), false).unwrap().outcomes == [dead("hostile", "manifest")]
    });
    assert_eq!(entry(&host, "other.wasm").unwrap()["state"], "live");
}

/// What a plugin finds of the task before: `isolation`, and how that task's call ended.
fn found_of_the_task_before(isolation: &str, mode: &str) -> Vec<String> {
    const SECRET: &str = "xK9wQ2vL7pR4tY8zB3nM";
    let backwards: String = SECRET.chars().rev().collect();
    let mut stage = Stage::new();
    let sidecar = format!(
        "isolation = '{isolation}'\nmemory = '8MiB'\n[config]\nmode = '{mode}'\nname = 'h'\nfiles = []\nmatch = '{}'\nuntil = '{backwards}'\n",
        "xK9wQ2vL7p"
    );
    stage.put("h", &sidecar);
    let host = stage.start();
    // Two lanes use the same pool: what one leaves in a slot the other may get.
    let mut lanes = [host.lane(), host.lane()];
    let mut found = Vec::new();
    for round in 0..20 {
        let held = format!("the key is {SECRET} in task {round}");
        run(&mut lanes[round % 2], &outputs(&[&held, &held]), false).unwrap();
        for lane in &mut lanes {
            let decided = run(lane, &outputs(&["look"]), false).unwrap();
            let [Outcome::Replace(data)] = &decided.outcomes[..] else { panic!("{:?}", decided.outcomes) };
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            found.push(data["stamp"].as_str().unwrap().to_owned());
        }
    }
    found.sort();
    found.dedup();
    found
}

#[test]
fn a_plugin_reaches_nothing_of_another_task_in_memory_with_the_default_isolation() {
    assert_eq!(found_of_the_task_before("call", "remember"), ["nothing"]);
    assert_eq!(found_of_the_task_before("call", "remember-and-trap"), ["nothing"], "after a trap");
}

/// The test above can fail: what `reuse` waives is really there to be found.
#[test]
fn reuse_waives_that_as_the_documentation_says() {
    assert!(found_of_the_task_before("reuse", "remember").contains(&"remembers".to_owned()));
    assert_eq!(found_of_the_task_before("reuse", "remember-and-trap"), ["nothing"], "an instance that failed is gone");
}
