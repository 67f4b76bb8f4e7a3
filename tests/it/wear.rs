//! What a language's engine leaks is given back: kept instances of the JavaScript guest, which leaks in every call, are replaced
//! before that counts. The run has a process of its own, so that its memory is its own.

use std::{env, fs, path::Path, process::Command};

use crate::{
    conformance::{Bench, Language},
    guests::event,
};

/// Bytes of data of an event.
const DATA_BYTES: usize = 1024;
/// How much higher than under the first instance the memory may stand under later ones, in KiB.
const GROWTH_MAX: u64 = 16 << 10;

/// A longer run, with the memory shown: `EVENTS=10000000 EVENTS_PER_CALL=100 cargo test --release --test it -- --ignored
/// --exact wear::run_of_a_javascript_guest --nocapture`.
#[test]
#[ignore = "the test below runs it, in a process of its own"]
fn run_of_a_javascript_guest() {
    let events = number("EVENTS").unwrap_or(300_000);
    let at_once = number("EVENTS_PER_CALL").unwrap_or(12);
    let calls = events.div_ceil(at_once);
    let data = format!("{{\"content\":\"{}\"}}", "x".repeat(DATA_BYTES - 14));
    let slice: Vec<_> = (1..=at_once).map(|seq| event(seq, "task:output", &data)).collect();
    let mut bench = Bench::new(Language::Js, "isolation = 'reuse'");
    let (mut first_peak, mut later_peak) = (0, 0);
    println!("{:>10} {:>10} {:>10} {:>8}", "calls", "events", "instances", "RSS KiB");
    for call in 1..=calls {
        bench.outcomes(&slice);
        if call % 500 != 0 && call != calls {
            continue;
        }
        // One more was made to prove the plugin.
        let instances = bench.counted("init");
        let rss = resident();
        let peak = if instances <= 1 { &mut first_peak } else { &mut later_peak };
        *peak = rss.max(*peak);
        if call % (calls / 40).next_multiple_of(500) == 0 || call == calls {
            println!("{call:>10} {:>10} {instances:>10} {rss:>8}", call * at_once);
        }
    }
    assert!(bench.counted("init") > 2, "no instance was replaced twice");
    println!("peak under the first instance {first_peak} KiB, under later ones {later_peak} KiB");
    assert!(later_peak <= first_peak + GROWTH_MAX, "the memory grows from instance to instance");
}

#[test]
fn a_javascript_guest_runs_in_bounded_memory() {
    let run = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "wear::run_of_a_javascript_guest", "--nocapture"])
        .env_remove("EVENTS")
        .env_remove("EVENTS_PER_CALL")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && out.contains("1 passed"), "{out}{err}");
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// This process's resident memory, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string(Path::new("/proc/self/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}
