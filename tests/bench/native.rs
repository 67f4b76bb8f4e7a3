//! What the boundary costs: `redact` as a component, by the host's clock in the runs above, against the same Rust code called
//! natively.

use std::time::Instant;

use redact::{Event, Redactor};

use crate::load::Load;

/// Prints the native cost of clean events.
pub(crate) fn compare(events: usize) {
    println!("\n== redact called natively");
    for bytes in [500, 4096] {
        let load = Load { bytes, events, tasks: 1000 };
        let mut random = fastrand::Rng::with_seed(1);
        let data: Vec<String> = (0..events).map(|event| load.data(event % 1000, &mut random)).collect();
        let redactor = Redactor::new("{}").unwrap();
        let started = Instant::now();
        let mut replaced = 0;
        for data in data.chunks(4) {
            let events: Vec<Event<'_>> = data.iter().map(|data| Event { kind: "task:output", data }).collect();
            let outcome = redactor.process("", &events, true);
            replaced += outcome.verdicts.iter().filter(|verdict| **verdict != redact::Verdict::Pass).count();
        }
        let per_event = started.elapsed().as_secs_f64() * 1e6 / events as f64;
        println!("  {bytes} bytes: {per_event:.2} µs/event, 4 events a call, {replaced} not passed");
    }
}
