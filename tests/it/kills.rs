//! Exactly once, in order, whatever is killed, whenever: processes die and pause under load, and the checker looks at what is
//! left.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use task_logger::{
    event::StreamId,
    journal::{JournalError, replay::Found},
    position::Position,
};

use crate::{
    checker::{Stream, files_with},
    load::{CANARIES, Load, send},
    rig::{Node, Rig, eventually, let_pass, published, seed},
};

const EXTRAS: &[&str] = &["transcript.md", "usage.json"];

/// A rig on Redis with everything that can go wrong in the chain.
fn rig() -> Option<Rig> {
    Rig::redis().map(chain)
}

/// Adds a chain in which everything happens that can: redaction, extra files, drops, quarantine.
pub(crate) fn chain(rig: Rig) -> Rig {
    let rig = rig.with_bundled(&["redact", "transcript"]);
    let guest = |mode: &str, name: &str| {
        let sidecar = format!(
            "isolation = 'reuse'\n[config]\nmode = '{mode}'\nname = '{name}'\nmatch = 'please-{name}'\nfiles = []\n"
        );
        rig.put_guest(name, &sidecar);
    };
    guest("drop", "drop");
    guest("quarantine", "quarantine");
    rig.set("REQUIRED_PLUGINS", "redact,transcript,drop,quarantine").set("HOLD_MAX", "200ms")
}

/// Runs `work` while a producer appends about `per_second` entries, and returns how many it made.
fn under_load(rig: &Rig, seed: u64, per_second: u64, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut load = Load::new(seed, 40);
            let mut redis = rig.connect();
            let tick = Duration::from_millis(20);
            while !done.load(Ordering::Relaxed) {
                let batch: Vec<_> = (0..per_second / 50).map(|_| load.next()).collect();
                send(&mut redis, batch);
                let_pass(tick);
            }
        });
        let stop = Stop(&done);
        work();
        drop(stop);
    });
}

/// Ends the producer even if the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until all is committed, ends the processes, and looks at everything.
fn settle(rig: &Rig, nodes: Vec<Node>) {
    let mut redis = rig.connect();
    rig.wait_published(&mut redis);
    nodes.into_iter().for_each(|node| {
        node.terminate();
    });
    look(rig, &Stream::of_redis(&mut redis));
}

/// Proves what is left, and that nothing of a secret is.
fn look(rig: &Rig, stream: &Stream) {
    eprintln!("{}: {} entries, {} dead letters", rig.root().display(), stream.entries.len(), stream.dead.len());
    stream.prove(rig, EXTRAS);
    for canary in CANARIES {
        assert_eq!(files_with(&rig.logs(), canary), Vec::<std::path::PathBuf>::new(), "{canary}");
    }
}

#[test]
fn one_writer_when_a_paused_owner_wakes_after_a_take_over() {
    let Some(rig) = rig() else { return };
    let seed = seed("one_writer_when_a_paused_owner_wakes_after_a_take_over");
    let mut rng = Rng::with_seed(seed);
    let mut nodes = vec![rig.spawn(), rig.spawn()];
    let mut redis = rig.connect();
    under_load(&rig, seed, 1500, || {
        for _ in 0..3 {
            eventually("one owns the stream", || nodes.iter().any(Node::takes_events));
            let owner = nodes.iter().position(Node::is_owner).unwrap();
            let before = published(&mut redis);
            eventually("it publishes", || published(&mut redis) != before);
            let_pass(Duration::from_millis(rng.u64(0..2500)));
            nodes[owner].pause();
            eventually("the other one takes over after the lease", || nodes[1 - owner].takes_events());
            let before = published(&mut redis);
            eventually("it publishes, too", || published(&mut redis) != before);
            nodes[owner].resume();
            // The one that wakes finds out and stands by; it may not take the stream back from one that lives.
            eventually("the paused one stands by", || nodes[owner].json("/health")["role"] == "standby");
            let epoch = nodes[1 - owner].json("/health")["epoch"].clone();
            let_pass(Duration::from_millis(1500));
            assert_eq!(nodes[1 - owner].json("/health")["epoch"], epoch, "the owner that lives stays the owner");
            assert!(nodes.iter_mut().all(Node::is_running));
        }
    });
    settle(&rig, nodes);
}

/// Where the journal stands that a killed process left: read from its files alone.
pub(crate) fn journaled(rig: &Rig) -> Position {
    let found = Found::look(&rig.root().join("state/redis-task_events")).unwrap();
    let mut position = found.checkpoint.as_ref().map(|checkpoint| checkpoint.position.clone()).unwrap_or_default();
    let replayed = found.replay(|_, record| -> Result<(), JournalError> {
        position.apply(&record.step);
        Ok(())
    });
    assert_eq!(replayed.unwrap().damage, Vec::<String>::new());
    position
}

#[track_caller]
fn nothing_is_published_that_is_not_journaled(test: &str, fsync: &str) {
    let Some(rig) = rig() else { return };
    let rig = rig.set("FSYNC", fsync);
    let seed = seed(test);
    let mut rng = Rng::with_seed(seed);
    let mut redis = rig.connect();
    let mut node = rig.spawn();
    under_load(&rig, seed, 1500, || {
        for _ in 0..6 {
            let before = published(&mut redis);
            eventually("it publishes", || published(&mut redis) != before);
            let_pass(Duration::from_millis(rng.u64(0..400)));
            std::mem::replace(&mut node, rig.spawn()).kill();
            // Nobody reads while nobody owns: the successor needs the lock that the dead one had, and looks twice a second.
        }
    });
    node.kill();
    let (published, journaled) = (published(&mut redis), journaled(&rig));
    let published: StreamId = published.parse().unwrap();
    assert!(published <= journaled.low, "published {published}, journaled {journaled:?}");
    let node = rig.spawn();
    settle(&rig, vec![node]);
}

#[test]
fn publish_after_durable_with_a_sync_per_commit() {
    nothing_is_published_that_is_not_journaled("publish_after_durable_with_a_sync_per_commit", "always");
}

#[test]
fn publish_after_durable_with_a_sync_per_interval() {
    nothing_is_published_that_is_not_journaled("publish_after_durable_with_a_sync_per_interval", "interval:50ms");
}

/// Most batches posted between two kills.
const BATCHES_MAX: usize = 20;

#[test]
fn exactly_once_in_order_over_kills_on_the_embedded_stream() {
    let rig = chain(Rig::embedded());
    let seed = seed("exactly_once_in_order_over_kills_on_the_embedded_stream");
    let (mut rng, mut load) = (Rng::with_seed(seed), Load::new(seed, 40));
    let mut node = rig.spawn_owner();
    for _ in 0..10 {
        let until = Instant::now() + Duration::from_millis(rng.u64(100..600));
        // A bounded backlog: after starts without progress it goes one entry at a time, a sync for each.
        for _ in 0..BATCHES_MAX {
            if Instant::now() >= until {
                break;
            }
            // JSON has no doubled fields; whatever is refused is not in the stream.
            let batch: Vec<_> = (0..20).map(|_| load.next().into_iter().collect::<BTreeMap<_, _>>()).collect();
            // What is refused while nobody owns the stream comes again: half of a secret is not lost on the way.
            let body = serde_json::to_string(&batch).unwrap();
            eventually("it is taken in", || node.post("/events", &body) == 200);
        }
        let_pass(until.saturating_duration_since(Instant::now()));
        node.kill();
        node = rig.spawn();
    }
    eventually("all is committed", || {
        let metrics = node.json("/metrics");
        node.takes_events() && metrics["queue_depth"] == 0 && metrics["events"]["held"] == 0
    });
    node.terminate();
    look(&rig, &Stream::of_embedded(&rig.root().join("stream")));
}

#[test]
fn exactly_once_in_order_over_twenty_kills_with_a_standby() {
    let Some(rig) = rig() else { return };
    let seed = seed("exactly_once_in_order_over_twenty_kills_with_a_standby");
    let mut rng = Rng::with_seed(seed);
    let mut nodes = vec![rig.spawn(), rig.spawn()];
    let mut redis = rig.connect();
    under_load(&rig, seed, 1500, || {
        for round in 0..20 {
            // At times the next one dies while it recovers from the death before.
            if rng.u8(..3) > 0 {
                let before = published(&mut redis);
                eventually("an owner publishes", || published(&mut redis) != before);
            }
            let_pass(Duration::from_millis(rng.u64(0..700)));
            // Mostly the owner, at times the one that stands by.
            let owner = nodes.iter().position(Node::is_owner).unwrap_or(0);
            let victim = if rng.u8(..5) == 0 { 1 - owner } else { owner };
            eprintln!("round {round}: killing {} ({})", victim, if victim == owner { "owner" } else { "standby" });
            nodes.remove(victim).kill();
            nodes.push(rig.spawn());
        }
    });
    settle(&rig, nodes);
}
