//! What a guest in C does not free is never freed: one instance, a million events.

use std::time::Duration;

use serde_json::json;
use task_logger::plugin::Outcome;

use super::{Bench, Language, told};

const EVENTS: u64 = 1_000_000;
/// As long as an id may be: 200 bytes.
const TASK: &str = "task-task-task-task-task-task-task-task-task-task-task-task-task-task-task-task-task-task-task-task-\
                    task-task-task-task-task-task-task-task-task-task-task-task-task-task-task-task-task-task-task-task-";
/// The most that the host puts into a call.
const PER_CALL: u64 = 256;

#[test]
fn a_million_events_leave_nothing_in_an_instance_of_c() {
    // An instance whose events took half of the memory left free is replaced, so `init` would be called again. Seen would be one byte an event
    // (the allocator's smallest piece is of 16), and the task's id of a call.
    let mut bench = Bench::with_room(Language::C, 1 << 20, Duration::from_secs(1), "isolation = 'reuse'");
    bench.task = Some(TASK);
    let text = "a text of some length, with \"quotes\", \\ and é 🦀 ".repeat(4);
    let data: Vec<_> = (0..PER_CALL)
        .map(|n| match n % 8 {
            0 => json!({ "do": "replace", "text": text }),
            1 => json!({ "do": "append", "text": "line\n" }),
            2 => json!({ "do": "drop" }),
            3 => json!({ "do": "state" }),
            4 => json!({ "do": "count", "n": 1 }),
            5 => json!({ "do": "quarantine" }),
            6 => json!({ "do": "annotate" }),
            _ => json!({ "do": "log", "level": "debug", "text": text }),
        })
        .collect();
    let events = told(&data);
    let calls = EVENTS.div_ceil(PER_CALL);
    for _ in 0..calls {
        let outcomes = bench.ask(&events, false).outcomes;
        assert_eq!(outcomes.len() as u64, PER_CALL);
        assert!(!outcomes.iter().any(|outcome| matches!(outcome, Outcome::Dead { reason: "plugin_failed", .. })));
    }
    assert_eq!((bench.calls(), bench.counted("init")), (calls, 1), "one instance did it all");
    assert_eq!(bench.counted("counted"), calls * PER_CALL / 8);
}
