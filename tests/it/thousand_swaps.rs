//! A thousand swaps under load, with `kill -9` in between: each event is stamped by one version, in order, nothing is lost,
//! doubled or passed by; what a swap costs the data path, and that nothing of old versions stays in memory.
//! `SWAPS` is how many, 1000 by default.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    checker::Stream,
    guests::misbehave,
    load::{entry, send},
    rig::{Node, Rig, eventually, let_pass, seed},
};

/// Processes that are killed before the last one, which does most of the work.
const KILLS: u64 = 3;
/// Tasks that the events belong to.
const TASKS: u64 = 5;
/// Events each time that the producer wakes up, which is every 10 ms.
const EVENTS: u64 = 5;

/// One of two components: the same code, another digest.
struct Version {
    wasm: Vec<u8>,
    digest: String,
}

/// What goes on: nothing, swaps, a restart.
const CALM: u8 = 0;
const SWAPPING: u8 = 1;
const RESTARTING: u8 = 2;

/// What a process said of itself at its end.
struct Told {
    swaps: u64,
    slowest: f64,
    /// Cumulative, by upper bound in seconds.
    buckets: BTreeMap<u64, u64>,
    alive: u64,
}

fn versions() -> [Version; 2] {
    [0, 1].map(|n| {
        let mut wasm = misbehave().to_vec();
        wasm.extend_from_slice(&[0, 3, 1, b'v', n]);
        let digest = Sha256::digest(&wasm).iter().map(|byte| format!("{byte:02x}")).collect();
        Version { wasm, digest }
    })
}

fn swaps() -> u64 {
    std::env::var("SWAPS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000)
}

/// Puts the pair of a swap: which of the two components, and the number that it stamps. The sidecar names its component, so
/// no half of a pair is ever taken.
fn put(rig: &Rig, versions: &[Version; 2], number: u64) {
    let version = &versions[usize::try_from(number % 2).unwrap()];
    let sidecar = format!(
        "isolation = 'reuse'\nsha256 = '{}'\n[config]\nmode = 'stamp'\nname = 'stamp'\nfiles = []\nversion = '{number:06}'\n",
        version.digest
    );
    rig.put_file("stamp.toml", sidecar.as_bytes());
    rig.put_file("stamp.wasm", &version.wasm);
}

fn live_version(report: &Value) -> Option<u64> {
    let plugins = report["plugins"].as_array()?;
    let stamp = plugins.iter().find(|plugin| plugin["file"] == "stamp.wasm")?;
    stamp["version"].as_str()?.parse().ok()
}

fn wait_live(node: &Node, number: u64) {
    eventually("the swap is live", || live_version(&node.json("/plugins")) == Some(number));
}

/// Resident memory of a process without what it shares with files, in KiB.
fn memory(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn told(node: &Node) -> Told {
    let report = node.json("/plugins");
    let metrics = node.metrics();
    let mut buckets = BTreeMap::new();
    for line in metrics.lines() {
        if let Some(rest) = line.strip_prefix("task_logger_plugin_swap_seconds_bucket{le=\"")
            && let Some((bound, count)) = rest.split_once("\"} ")
            && let Ok(bound) = bound.parse::<f64>()
        {
            buckets.insert((bound * 1e6).round() as u64, count.parse().unwrap());
        }
    }
    Told {
        swaps: report["swaps"]["taken_over_by_lanes"].as_u64().unwrap(),
        slowest: report["swaps"]["slowest_us"].as_f64().unwrap(),
        buckets,
        alive: report["generations_alive"].as_u64().unwrap(),
    }
}

/// The bound, in microseconds, below which this part of the swaps was.
fn bound(told: &Told, part: f64) -> Option<u64> {
    let wanted = (told.swaps as f64 * part).ceil() as u64;
    told.buckets.iter().find(|(_, count)| **count >= wanted).map(|(bound, _)| *bound)
}

/// Gaps between the moments at which a log grew, sorted.
fn report_gaps(what: &str, gaps: &mut [Duration]) {
    gaps.sort();
    let at = |part: usize| {
        gaps.get((gaps.len() * part / 1000).min(gaps.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    eprintln!("{what}: {} times, p50 {:?}, p99 {:?}, max {:?}", gaps.len(), at(500), at(990), at(1000));
}

#[test]
fn a_thousand_swaps_under_load_stamp_every_event_once() {
    let Some(rig) = Rig::redis() else { return };
    let rig = rig.set("REQUIRED_PLUGINS", "stamp");
    let (versions, swaps) = (versions(), swaps());
    let mut rng = Rng::with_seed(seed("a_thousand_swaps_under_load_stamp_every_event_once"));
    let mut redis = rig.connect();
    put(&rig, &versions, 0);
    let mut node = rig.spawn_owner();
    wait_live(&node, 0);
    let (done, made, phase) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU8::new(CALM));
    let began = Instant::now();
    let mut last = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut redis = rig.connect();
            while !done.load(Ordering::Relaxed) {
                let from = made.fetch_add(EVENTS, Ordering::Relaxed);
                send(&mut redis, (from..from + EVENTS).map(output));
                let_pass(Duration::from_millis(10));
            }
        });
        let gaps = scope.spawn(|| watch_growth(&rig, &done, &phase));
        let stop = Stop(&done);
        // Without swaps first, to compare with.
        let_pass(Duration::from_secs(3));
        phase.store(SWAPPING, Ordering::Relaxed);
        let (mut number, mut settled) = (0, None);
        let killed_at: Vec<u64> = (1..=KILLS).map(|n| n * swaps / 10).collect();
        while number < swaps {
            number += 1;
            put(&rig, &versions, number);
            if killed_at.contains(&number) {
                phase.store(RESTARTING, Ordering::Relaxed);
                // Just when the new one is being read.
                let_pass(Duration::from_millis(rng.u64(..60)));
                std::mem::replace(&mut node, rig.spawn_silent()).kill();
                eventually("the next process listens", || node.learn_address());
                eventually("it owns the stream and takes events in", || node.takes_events());
            }
            wait_live(&node, number);
            if phase.load(Ordering::Relaxed) == RESTARTING {
                eventually("it caught up", || {
                    node.json("/metrics")["queue_depth"].as_f64().is_some_and(|depth| depth < 50.0)
                });
                phase.store(SWAPPING, Ordering::Relaxed);
            }
            if number == swaps / 2 {
                settled = Some(memory(&node));
            }
        }
        last = number;
        phase.store(CALM, Ordering::Relaxed);
        drop(stop);
        let grown = memory(&node).saturating_sub(settled.unwrap());
        let (mut without, mut with) = gaps.join().unwrap();
        report_gaps("a log's growth without swaps", &mut without);
        report_gaps("a log's growth around swaps", &mut with);
        eprintln!("memory over the last {} swaps: +{grown} KiB", swaps - swaps / 2);
        assert!(grown < 24 << 10, "old versions stay in memory: {grown} KiB more");
    });
    rig.wait_published(&mut redis);
    let told = told(&node);
    let took = began.elapsed();
    eprintln!(
        "{last} swaps in {took:?}; {} take-overs by lanes of the last process: p50 <= {:?} us, p99 <= {:?} us, max {} us",
        told.swaps,
        bound(&told, 0.5),
        bound(&told, 0.99),
        told.slowest
    );
    assert!(told.alive <= 2, "{} generations in memory", told.alive);
    assert!(told.swaps >= swaps / 2, "{} take-overs", told.swaps);
    assert!(bound(&told, 0.99).is_some_and(|micros| micros <= 5000), "p99 of the pause at a swap is over 5 ms");
    node.terminate();
    Stream::of_redis(&mut redis).prove(&rig, &[]);
    prove_stamps(&rig, made.load(Ordering::Relaxed), last);
}

/// Ends the producer even if the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn output(n: u64) -> Vec<(String, String)> {
    let (task, data) = (format!("t{}", n % TASKS), format!("{{\"content\":\"mark-{n:07}-end\"}}"));
    entry(&[("type", "task:output"), ("task_id", &task), ("data", &data)])
}

/// How long a log did not grow, each time: while nothing was swapped, and while it was.
fn watch_growth(rig: &Rig, done: &AtomicBool, phase: &AtomicU8) -> (Vec<Duration>, Vec<Duration>) {
    let path = rig.logs().join("t0/03-agent-output.jsonl");
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (mut length, mut grew) = (0, None::<(Instant, u8)>);
    while !done.load(Ordering::Relaxed) {
        let now = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if now != length {
            let during = phase.load(Ordering::Relaxed);
            // One across a change of what goes on is neither.
            if let Some((at, _)) = grew.filter(|(_, before)| *before == during) {
                match during {
                    CALM => without.push(at.elapsed()),
                    SWAPPING => with.push(at.elapsed()),
                    _ => {}
                }
            }
            (length, grew) = (now, Some((Instant::now(), during)));
        }
        thread::park_timeout(Duration::from_micros(500));
    }
    (without, with)
}

/// Every event once, stamped once, and never by an older version than the one before it.
fn prove_stamps(rig: &Rig, made: u64, last: u64) {
    let (mut events, mut seen) = (0, BTreeMap::<u64, u64>::new());
    for task in 0..TASKS {
        let mut before = 0;
        for line in rig.read(&format!("t{task}/03-agent-output.jsonl")).lines() {
            // Twice would be a doubled key, which a parser does not show.
            assert_eq!(line.matches("\"stamp\":").count(), 1, "{line}");
            let record: Value = serde_json::from_str(line).unwrap();
            let version: u64 = record["stamp"].as_str().unwrap().parse().unwrap();
            assert!((before..=last).contains(&version), "version {version} after {before}: {line}");
            before = version;
            events += 1;
            *seen.entry(version).or_default() += 1;
        }
    }
    assert_eq!(events, made, "every event stands once");
    eprintln!("{made} events, stamped by {} of {} versions", seen.len(), last + 1);
    assert!(seen.len() as u64 > last / 2, "there was load at most swaps: {}", seen.len());
}
