//! Loads of a shape that is hard to carry: very many tasks, one that has no end, very large events, far too many of them.

use std::time::{Duration, Instant};

use super::{Overload, size};
use crate::rig::{Rig, let_pass};

/// What a small task may wait beside a load that the service carries.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn very_many_live_tasks() {
    let Some(rig) = Rig::redis() else { return };
    let mut load = Overload::on(rig);
    let tasks: Vec<String> = (0..size(4000, 100_000)).map(|task| format!("task-{task}")).collect();
    for _ in 0..4 {
        for some in tasks.chunks(500) {
            load.append(&some.iter().map(|task| (&**task, "one of many")).collect::<Vec<_>>());
            load.append_small();
            load.wait_for(2000);
        }
    }
    load.end("live tasks", SOON);
}

#[test]
fn a_task_without_end() {
    let Some(rig) = Rig::redis() else { return };
    let mut load = Overload::on(rig);
    let batch = vec![("huge", "one line more of an output that does not end"); 1000];
    for round in 0..size(100_000, 10_000_000) / 1000 {
        load.append(&batch);
        if round % 10 == 0 {
            load.append_small();
        }
        load.wait_for(20_000);
    }
    load.end("a task without end", SOON);
}

#[test]
fn events_of_sixteen_mebibytes() {
    let Some(rig) = Rig::redis() else { return };
    let mut load = Overload::on(rig);
    // With the names and the rest of the fields just within MAX_EVENT.
    let content = "x".repeat((16 << 20) - 1024);
    for _ in 0..size(6, 60) {
        load.append(&[("large", &content)]);
        load.append_small();
    }
    load.end("large events", Duration::from_secs(size(20, 120)));
}

#[test]
fn fifty_times_the_normal_rate() {
    let Some(rig) = Rig::redis() else { return };
    let mut load = Overload::on(rig);
    let tasks: Vec<String> = (0..50).map(|task| format!("task-{task}")).collect();
    let batch: Vec<(&str, &str)> = tasks.iter().map(|task| (&**task, "a line as they come")).collect();
    // 1,000 a second, then 50,000, whatever becomes of them.
    for (rate, seconds) in [(1000, 1), (50_000, size(3, 30)), (1000, 1)] {
        let begin = Instant::now();
        for sent in 1..=rate * seconds / 50 {
            load.append(&batch);
            let_pass(Duration::from_micros(sent * 50 * 1_000_000 / rate).saturating_sub(begin.elapsed()));
        }
    }
    load.append_small();
    load.end("fifty times the rate", Duration::from_secs(size(15, 120)));
}
