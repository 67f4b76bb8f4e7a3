//! What a guest asks of the host: state, extra files, annotations, log lines, counters.

use serde_json::json;
use task_logger::plugin::{Outcome, States};

use super::{Bench, Language, doing, replaced, told};

const TEXT: &str = "é 日本 🦀 \u{2028}\u{85}\"\\/\t<&>'";

pub(super) fn the_state_outlives_the_host(language: Language) {
    let mut bench = Bench::new(language, "");
    let mut count = 0;
    for _ in 0..3 {
        for actions in [&["state"][..], &["state", "pass", "state"]] {
            let decided = bench.ask(&doing(actions), false);
            for outcome in decided.outcomes.iter().step_by(2) {
                count += 1;
                assert_eq!(replaced(outcome), json!({ "count": count }));
            }
            assert_eq!(decided.effects.states, [("conformance".into(), count.to_string().into())]);
        }
        bench = bench.restart();
    }
    assert_eq!(count, 9);
}

pub(super) fn a_state_belongs_to_one_key(language: Language) {
    let mut bench = Bench::new(language, "isolation = 'reuse'");
    bench.ask(&doing(&["state", "state"]), false);
    let first = std::mem::take(&mut bench.states);
    assert_eq!(replaced(&bench.outcomes(&doing(&["state"]))[0]), json!({ "count": 1 }));
    bench.states = first;
    assert_eq!(replaced(&bench.outcomes(&doing(&["state"]))[0]), json!({ "count": 3 }));
    // A plugin of another name has none, whoever wrote it.
    bench.states = States::default();
    bench.states.set("other".into(), "41".into());
    assert_eq!(replaced(&bench.outcomes(&doing(&["state"]))[0]), json!({ "count": 1 }));
    assert_eq!(bench.states.get("other").map(|state| &**state), Some("41"));
}

pub(super) fn extras_are_written_byte_for_byte(language: Language) {
    for role in ["redactor", "standard"] {
        let mut bench = Bench::new(language, &format!("[config]\nrole = '{role}'"));
        let events = told(&[
            json!({ "do": "append", "text": "one\n" }),
            json!({ "do": "write", "text": "whole" }),
            json!({ "do": "append", "text": TEXT }),
            json!({ "do": "append", "text": "" }),
            json!({ "do": "append", "text": "a\u{0}b\r\n" }),
            json!({ "do": "write", "text": "" }),
        ]);
        let decided = bench.ask(&events, false);
        assert_eq!(decided.outcomes, vec![Outcome::Pass; 6]);
        let written: Vec<_> =
            decided.effects.files.iter().map(|file| (&*file.name, file.replace, &*file.text)).collect();
        let (lines, text) = ("conformance.jsonl", "conformance.txt");
        assert_eq!(
            written,
            [
                (lines, false, "one\n"),
                (text, true, "whole"),
                (lines, false, TEXT),
                (lines, false, ""),
                (lines, false, "a\u{0}b\r\n"),
                (text, true, ""),
            ]
        );
    }
}

pub(super) fn an_annotation_is_merged(language: Language) {
    let mut bench = Bench::new(language, "");
    let decided = bench.ask(&doing(&["annotate", "pass", "annotate"]), false);
    let [(name, object)] = &decided.effects.annotations[..] else { panic!("{:?}", decided.effects) };
    assert_eq!((&**name, json!(object)), ("conformance", json!({ "last": "1700000000000-3" })));
}

pub(super) fn log_lines_keep_their_level(language: Language) {
    let mut bench = Bench::new(language, "[config]\nrole = 'standard'");
    let levels = ["debug", "info", "warn", "error"];
    let mut data: Vec<_> = levels
        .iter()
        .map(|level| json!({ "do": "log", "level": level, "text": format!("said at {level}: é 🦀") }))
        .collect();
    data.push(json!({ "do": "log", "level": "warn", "text": "" }));
    data.push(json!({ "do": "log", "level": "info", "text": format!("{}é", "x".repeat(4095)) }));
    let outcomes = bench.outcomes(&told(&data));
    assert_eq!(outcomes, vec![Outcome::Pass; data.len()]);
    let log = bench.log();
    for level in levels {
        let line = log.lines().find(|line| line.contains(&format!("said at {level}: é 🦀")));
        assert!(line.is_some_and(|line| line.contains(&level.to_uppercase())), "{level}: {log}");
    }
    assert!(log.contains(&"x".repeat(4095)) && !log.contains("xé"), "cut where a character ends");
}

pub(super) fn a_redactors_log_lines_are_not_shown(language: Language) {
    let mut bench = Bench::new(language, "");
    let outcomes = bench.outcomes(&told(&[json!({ "do": "log", "level": "error", "text": "planted é" })]));
    assert_eq!(outcomes, [Outcome::Pass]);
    let log = bench.log();
    assert!(!log.contains("planted"), "{log}");
    let line = log.lines().find(|line| line.contains("(10 bytes, not shown)"));
    assert!(line.is_some_and(|line| line.contains("ERROR")), "that it logged is said: {log}");
}

pub(super) fn counters(language: Language) {
    let mut bench = Bench::new(language, "isolation = 'reuse'");
    let count = |action: &str, n: u64| json!({ "do": action, "n": n });
    // componentize-js 0.23 hands over another number than it was given from 2^31 on.
    let most = if language == Language::Js { 2_147_483_647 } else { 4_294_967_295 };
    bench.outcomes(&told(&[count("count", 0), count("count", most), count("count-other", 7)]));
    bench.outcomes(&told(&[count("count", 5), count("count-other", 1)]));
    let counted = ["counted", "other", "not-in-the-manifest", "init"].map(|name| bench.counted(name));
    assert_eq!(counted, [most + 5, 8, 0, 1]);
}

pub(super) fn a_kept_instance_keeps_nothing_of_a_task(language: Language) {
    let mut bench = Bench::new(language, "isolation = 'reuse'");
    for task in ["t", "u", "t"] {
        bench.task = Some(task);
        bench.states = States::default();
        let outcomes = bench.outcomes(&told(&[json!({ "do": "replace", "text": task }), json!({ "do": "state" })]));
        let shown = replaced(&outcomes[0]);
        assert_eq!((&shown["task"], &shown["text"]), (&json!(task), &json!(task)));
        assert_eq!(replaced(&outcomes[1]), json!({ "count": 1 }));
        assert_eq!(bench.outcomes(&doing(&["hold"])), [], "nor does a hold stay");
    }
}
