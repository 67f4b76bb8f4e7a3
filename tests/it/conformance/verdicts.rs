//! Verdicts, holds, and calls that do not end with verdicts.

use serde_json::json;
use task_logger::plugin::{Effects, Outcome};

use super::{Bench, Language, dead, doing, released, replaced, told};

fn dropped() -> Outcome {
    Outcome::Drop { plugin: "conformance".into(), code: "dropped".to_owned() }
}

fn refused() -> Outcome {
    Outcome::Dead { reason: "refused", plugin: "conformance".into(), code: "refused".to_owned() }
}

pub(super) fn every_verdict(language: Language) {
    for isolation in ["call", "reuse"] {
        let mut bench = Bench::new(language, &format!("isolation = '{isolation}'"));
        let events = told(&[
            json!({ "content": "no action" }),
            json!({ "do": "pass" }),
            json!({ "do": "replace", "text": "new" }),
            json!({ "do": "drop" }),
            json!({ "do": "quarantine" }),
            json!({ "do": "release" }),
        ]);
        for _ in 0..2 {
            let outcomes = bench.outcomes(&events);
            assert_eq!(replaced(&outcomes[2])["text"], "new");
            let pass = Outcome::Pass;
            assert_eq!(outcomes[..2], [pass.clone(), pass.clone()]);
            assert_eq!(outcomes[3..], [dropped(), refused(), pass]);
        }
        assert_eq!(bench.ask(&doing(&["hold"]), false).outcomes, []);
        // The kept instance began its life once, the others once a call.
        assert_eq!(bench.counted("init"), if isolation == "reuse" { 1 } else { 3 });
    }
}

pub(super) fn what_a_hold_stops_comes_again(language: Language) {
    let mut bench = Bench::new(language, "");
    let events = told(&[
        json!({ "do": "append", "text": "before\n" }),
        json!({ "do": "hold" }),
        json!({ "do": "append", "text": "after\n" }),
        json!({ "do": "state" }),
    ]);
    let decided = bench.ask(&events, false);
    assert_eq!(decided.outcomes, [Outcome::Pass]);
    let files: Vec<&str> = decided.effects.files.iter().map(|file| &*file.text).collect();
    assert_eq!((files, decided.effects.states), (vec!["before\n"], vec![]), "what is held has not happened");
    let held = &events[1..];
    assert_eq!(bench.ask(held, false).outcomes, [], "and still not when it comes again");
    let decided = bench.ask(held, true);
    assert_eq!(decided.outcomes.len(), 3);
    assert_eq!(replaced(&decided.outcomes[0]), released());
    let files: Vec<&str> = decided.effects.files.iter().map(|file| &*file.text).collect();
    assert_eq!((files, decided.effects.states.len()), (vec!["after\n"], 1));
}

pub(super) fn a_hold_is_released_in_the_same_call(language: Language) {
    let mut bench = Bench::new(language, "");
    let outcomes = bench.outcomes(&doing(&["hold", "pass", "hold", "release", "pass"]));
    assert_eq!(outcomes.len(), 5);
    assert_eq!([replaced(&outcomes[0]), replaced(&outcomes[2])], [released(), released()]);
    assert_eq!([&outcomes[1], &outcomes[3], &outcomes[4]], [&Outcome::Pass; 3]);
    // What came before does not release, and what a hold stops is not even looked at.
    assert_eq!(bench.outcomes(&doing(&["release", "hold", "trap", "fail", "no such action"])), [Outcome::Pass]);
}

pub(super) fn nothing_is_held_on_flush(language: Language) {
    let mut bench = Bench::new(language, "");
    let outcomes = bench.ask(&doing(&["hold", "pass", "hold"]), true).outcomes;
    assert_eq!([replaced(&outcomes[0]), replaced(&outcomes[2])], [released(), released()]);
    assert_eq!(outcomes[1], Outcome::Pass);
}

pub(super) fn a_standard_plugin_may_not_hold(language: Language) {
    let mut bench = Bench::new(language, "[config]\nrole = 'standard'");
    assert_eq!(bench.outcomes(&doing(&["hold"])), [dead("hold")]);
    let outcomes = bench.ask(&doing(&["hold", "pass"]), true).outcomes;
    assert_eq!((replaced(&outcomes[0]), &outcomes[1]), (released(), &Outcome::Pass));
}

pub(super) fn a_failure_is_an_events_own(language: Language) {
    let mut bench = Bench::new(language, "isolation = 'reuse'\n[config]\nrole = 'standard'");
    let events = told(&[
        json!({ "do": "append", "text": "a" }),
        json!({ "do": "fail", "text": "told" }),
        json!({ "do": "no such action" }),
        json!({ "do": 1 }),
        json!({ "do": null }),
        json!({ "do": "append", "text": "b" }),
    ]);
    let decided = bench.ask(&events, false);
    let failed = dead("failure");
    assert_eq!(
        decided.outcomes,
        [Outcome::Pass, failed.clone(), failed.clone(), failed.clone(), failed, Outcome::Pass]
    );
    let files: Vec<&str> = decided.effects.files.iter().map(|file| &*file.text).collect();
    assert_eq!(files, ["a", "b"]);
    // `told to fail: told`, `-s` and whatever is said of an unknown action: a guest's text is nobody's to show.
    assert!(bench.log().contains("failure hidden_bytes="), "{}", bench.log());
    assert!(!bench.log().contains("told"), "{}", bench.log());
    assert_eq!(bench.outcomes(&doing(&["pass"])), [Outcome::Pass], "a new instance takes over");
}

pub(super) fn a_trap_is_an_events_own(language: Language) {
    let mut bench = Bench::new(language, "isolation = 'reuse'\n[config]\nrole = 'standard'");
    assert_eq!(bench.outcomes(&doing(&["trap"])), [dead("trap")]);
    let outcomes = bench.outcomes(&doing(&["pass", "trap", "drop"]));
    assert_eq!(outcomes, [Outcome::Pass, dead("trap"), dropped()]);
}

pub(super) fn a_redactors_failure_message_is_not_shown(language: Language) {
    let mut bench = Bench::new(language, "[config]\nrole = 'redactor'");
    let decided = bench.ask(&told(&[json!({ "do": "fail", "text": "planted-secret" })]), false);
    assert_eq!((decided.outcomes, decided.effects), (vec![dead("failure")], Effects::default()));
    let message = "told to fail: planted-secret";
    assert!(bench.log().contains(&format!("hidden_bytes={}", message.len())), "its length is said: {}", bench.log());
    let shown = format!("{} {}", bench.log(), bench.host().report());
    assert!(!shown.contains("planted") && !shown.contains("told to"), "{shown}");
}

pub(super) fn an_undeclared_file_is_not_written(language: Language) {
    let mut bench = Bench::new(language, "[config]\nrole = 'standard'");
    let events = told(&[json!({ "do": "undeclared", "text": "x" }), json!({ "do": "append", "text": "y" })]);
    let decided = bench.ask(&events, false);
    assert_eq!(decided.outcomes, [dead("trap"), Outcome::Pass]);
    let files: Vec<&str> = decided.effects.files.iter().map(|file| &*file.name).collect();
    assert_eq!(files, ["conformance.jsonl"]);
    assert!(bench.log().contains("a file that its manifest does not name"), "{}", bench.log());
}

pub(super) fn a_call_of_256_mixed_events(language: Language) {
    let mut bench = Bench::new(language, "isolation = 'reuse'");
    let data: Vec<_> = (0..256)
        .map(|n| match n % 8 {
            0 => json!({ "do": "replace", "text": format!("text {n}") }),
            1 => json!({ "do": "append", "text": format!("line {n}\n") }),
            2 => json!({ "do": "drop", "text": "x".repeat(n) }),
            3 => json!({ "do": "state" }),
            4 => json!({ "do": "count", "n": n }),
            5 => json!({ "do": "quarantine" }),
            6 => json!({ "do": "annotate" }),
            _ => json!({ "nothing": [1, { "of": "interest" }], "n": n }),
        })
        .collect();
    let decided = bench.ask(&told(&data), false);
    assert_eq!((decided.outcomes.len(), bench.calls()), (256, 1));
    for (n, outcome) in decided.outcomes.iter().enumerate() {
        match n % 8 {
            0 => assert_eq!(replaced(outcome)["text"], format!("text {n}")),
            2 => assert_eq!(*outcome, dropped(), "{n}"),
            3 => assert_eq!(replaced(outcome), json!({ "count": n / 8 + 1 })),
            5 => assert_eq!(*outcome, refused(), "{n}"),
            _ => assert_eq!(*outcome, Outcome::Pass, "{n}"),
        }
    }
    let effects = &decided.effects;
    let lines: Vec<String> = (0..256).filter(|n| n % 8 == 1).map(|n| format!("line {n}\n")).collect();
    assert_eq!(effects.files.iter().map(|file| &*file.text).collect::<Vec<_>>(), lines);
    assert_eq!(effects.states, [("conformance".into(), "32".into())]);
    assert_eq!(effects.annotations.len(), 1, "one call, one annotation");
    assert_eq!(effects.annotations[0].1["last"], "1700000000000-255");
    assert_eq!(bench.counted("counted"), (0..256).filter(|n| n % 8 == 4).sum::<u64>());
}

pub(super) fn after_a_trap_the_others_effects_happen_once(language: Language) {
    for (isolation, poison) in [("call", "trap"), ("reuse", "trap"), ("reuse", "fail")] {
        let mut bench = Bench::new(language, &format!("isolation = '{isolation}'\n[config]\nrole = 'standard'"));
        let data: Vec<_> = (0..40)
            .map(|n| match n % 4 {
                _ if n == 22 => json!({ "do": poison }),
                0 => json!({ "do": "append", "text": format!("{n} ") }),
                1 => json!({ "do": "state" }),
                2 => json!({ "do": "count", "n": 1 }),
                _ => json!({ "do": "log", "level": "info", "text": format!("line-{n}-end") }),
            })
            .collect();
        let decided = bench.ask(&told(&data), false);
        let failed: Vec<usize> = (0..40).filter(|n| matches!(decided.outcomes[*n], Outcome::Dead { .. })).collect();
        assert_eq!(failed, [22]);
        let counts: Vec<_> = (0..10).map(|n| replaced(&decided.outcomes[4 * n + 1])["count"].clone()).collect();
        assert_eq!(counts, (1..=10).map(|n| json!(n)).collect::<Vec<_>>());
        let appended: String = decided.effects.files.iter().map(|file| &*file.text).collect();
        assert_eq!(appended, "0 4 8 12 16 20 24 28 32 36 ");
        assert_eq!(decided.effects.states, [("conformance".into(), "10".into())]);
        assert_eq!(bench.counted("counted"), 9, "the tenth is the poison");
        for n in (3..40).step_by(4) {
            assert_eq!(bench.log().matches(&format!("line-{n}-end")).count(), 1, "{}", bench.log());
        }
    }
}
