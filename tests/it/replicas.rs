//! Several processes on one stream: owners die and freeze under load, replicas are replaced one after the other; order and
//! exactly-once hold, and the pause in publishing is no longer than the lease needs. `ROUNDS` makes it longer.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::{
    checker::Stream,
    load::{Load, send},
    rig::{Node, Rig, eventually, let_pass, published, seed},
};

/// How long a lease outlives its owner.
const LEASE: Duration = Duration::from_secs(5);
/// Tasks that live at once.
const TASKS: usize = 1000;

fn rig() -> Option<Rig> {
    Rig::redis().map(|rig| rig.with_bundled(&["redact"]).set("HOLD_MAX", "200ms"))
}

fn rounds(usually: usize) -> usize {
    std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usually)
}

/// Runs `work` under load, and returns what it returns and the longest time for which the published position stood still while
/// it was to be watched.
fn under_load<T>(rig: &Rig, seed: u64, work: impl FnOnce(&AtomicBool) -> T) -> (T, Duration) {
    let (done, watched, longest) = (AtomicBool::new(false), AtomicBool::new(false), Mutex::new(Duration::ZERO));
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            let (mut load, mut redis) = (Load::new(seed, TASKS), rig.connect());
            while !done.load(Ordering::Relaxed) {
                send(&mut redis, (0..16).map(|_| load.next()).collect::<Vec<_>>());
                let_pass(Duration::from_millis(15));
            }
        });
        scope.spawn(|| {
            let mut redis = rig.connect();
            let (mut last, mut since) = (String::new(), Instant::now());
            while !done.load(Ordering::Relaxed) {
                let now = published(&mut redis);
                if now != last || !watched.load(Ordering::Relaxed) {
                    (last, since) = (now, Instant::now());
                }
                let mut longest = longest.lock().unwrap();
                *longest = since.elapsed().max(*longest);
                drop(longest);
                let_pass(Duration::from_millis(5));
            }
        });
        let stop = Stop(&done);
        let result = work(&watched);
        drop(stop);
        result
    });
    (result, longest.into_inner().unwrap())
}

/// Ends producer and watcher even if the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn owner(nodes: &[Node]) -> usize {
    let mut found = None;
    eventually("one takes events in", || {
        found = nodes.iter().position(Node::takes_events);
        found.is_some()
    });
    found.unwrap()
}

fn prove(rig: &Rig, nodes: Vec<Node>) {
    let mut redis = rig.connect();
    rig.wait_published(&mut redis);
    nodes.into_iter().for_each(|node| {
        node.terminate();
    });
    let stream = Stream::of_redis(&mut redis);
    stream.prove(rig, &[]);
    println!("{} entries, {} dead letters", stream.entries.len(), stream.dead.len());
}

#[test]
fn three_replicas_whose_owners_are_killed_and_paused_take_over_within_the_lease() {
    let Some(rig) = rig() else { return };
    let seed = seed("three_replicas");
    let mut rng = Rng::with_seed(seed);
    let mut nodes = vec![rig.spawn(), rig.spawn(), rig.spawn()];
    let mut redis = rig.connect();
    let rounds = rounds(6);
    let (mut taken, _) = under_load(&rig, seed, |_| {
        let mut taken: Vec<(Duration, Duration, &str)> = Vec::new();
        for _ in 0..rounds {
            let before = published(&mut redis);
            eventually("an owner publishes", || published(&mut redis) != before);
            let victim = nodes.remove(owner(&nodes));
            let_pass(Duration::from_millis(rng.u64(..1500)));
            let epoch = epoch(&mut redis);
            let began = Instant::now();
            let frozen = match rng.bool() {
                true => {
                    victim.kill();
                    None
                }
                false => {
                    victim.pause();
                    // What it sent before it froze arrives; after that nothing of it can.
                    let_pass(Duration::from_millis(30));
                    Some(victim)
                }
            };
            let before = published(&mut redis);
            eventually("another one takes over", || self::epoch(&mut redis) > epoch);
            let owned = began.elapsed();
            eventually("it publishes", || published(&mut redis) != before);
            taken.push((owned, began.elapsed(), if frozen.is_some() { "paused" } else { "killed" }));
            nodes.push(match frozen {
                Some(woken) => {
                    woken.resume();
                    woken
                }
                None => rig.spawn(),
            });
        }
        taken
    });
    taken.sort();
    let p99 = taken[(taken.len() * 99).div_ceil(100) - 1].0;
    println!(
        "take-over p99 {p99:.1?} of {} (lease {LEASE:?}); each, until owned and until published: {taken:.1?}",
        taken.len()
    );
    prove(&rig, nodes);
    assert!(p99 <= LEASE + Duration::from_secs(1), "{p99:?}");
}

/// The epoch of the newest ownership.
fn epoch(redis: &mut redis::Connection) -> u64 {
    redis::cmd("GET").arg("{task_events}:epoch").query(redis).unwrap()
}

#[test]
fn a_rolling_restart_under_load_costs_no_second_more_than_the_lease() {
    let Some(rig) = rig() else { return };
    let seed = seed("a_rolling_restart");
    let mut nodes = vec![rig.spawn(), rig.spawn(), rig.spawn()];
    let mut redis = rig.connect();
    let ((), gap) = under_load(&rig, seed, |watched| {
        let before = published(&mut redis);
        eventually("an owner publishes", || published(&mut redis) != before);
        watched.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            // Each in its turn, owners first: the worst order.
            let old = nodes.remove(owner(&nodes));
            old.terminate();
            nodes.push(rig.spawn());
            let before = published(&mut redis);
            eventually("the next one publishes", || published(&mut redis) != before);
        }
        watched.store(false, Ordering::Relaxed);
    });
    println!("rolling restart of three owners: longest pause in publishing {gap:.2?}");
    prove(&rig, nodes);
    assert!(gap <= LEASE, "{gap:?}");
}

#[test]
fn a_standby_is_hot_and_says_what_it_is() {
    let Some(rig) = rig() else { return };
    let owner = rig.spawn_owner();
    let ids = owner.append(&[serde_json::json!({"type": "task:output", "task_id": "t", "data": {"content": "hello"}})]);
    let standby = rig.spawn();
    eventually("it stands by", || standby.json("/health")["role"] == "standby");
    eventually("its plugins are live", || standby.json("/plugins")["plugins"][0]["state"] != serde_json::Value::Null);
    eventually("it serves what the owner wrote", || {
        standby.get("/tasks/t/files/03-agent-output.jsonl").1.contains(&ids[0])
    });
    assert_eq!((standby.get("/health").0, standby.get("/ready").0), (200, 200));
    let (status, why) = standby.get("/ready?write");
    assert!(status == 503 && why.contains("standby"), "{status} {why}");
    let value = |node: &Node, name: &str| {
        let metrics = node.metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
    };
    assert_eq!((value(&owner, "task_logger_owner"), value(&standby, "task_logger_owner")), ("1".into(), "0".into()));
    let epoch = owner.json("/health")["epoch"].clone();
    assert_eq!(value(&owner, "task_logger_epoch"), epoch.to_string());
    assert_eq!(
        (owner.json("/metrics")["role"].clone(), standby.json("/metrics")["role"].clone()),
        ("owner".into(), "standby".into())
    );
    // It takes events for the stream, too.
    let more =
        standby.append(&[serde_json::json!({"type": "task:output", "task_id": "t", "data": {"content": "more"}})]);
    eventually("the owner writes it", || owner.get("/tasks/t/files/03-agent-output.jsonl").1.contains(&more[0]));
    owner.kill();
    eventually("it takes over", || standby.takes_events());
    assert!(standby.json("/health")["epoch"].as_u64() > epoch.as_u64());
}
