//! Exactly once, in order, whatever is killed, whenever: processes die and pause under load, and the checker looks at what is
//! left.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use fastrand::Rng;

use crate::{
    checker::{Stream, files_with},
    load::{CANARIES, Load, send},
    rig::{Node, PATIENCE, Rig, eventually, let_pass, published, seed, within},
};

const EXTRAS: &[&str] = &["transcript.md", "usage.json"];

/// A rig with everything that can go wrong in the chain.
fn rig() -> Option<Rig> {
    let rig = Rig::redis()?.with_bundled(&["redact", "transcript"]);
    let guest = |mode: &str, name: &str| {
        let sidecar = format!(
            "isolation = 'reuse'\n[config]\nmode = '{mode}'\nname = '{name}'\nmatch = 'please-{name}'\nfiles = []\n"
        );
        rig.put_guest(name, &sidecar);
    };
    guest("drop", "drop");
    guest("quarantine", "quarantine");
    Some(rig.set("REQUIRED_PLUGINS", "redact,transcript,drop,quarantine").set("HOLD_MAX", "200ms"))
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
    nodes.into_iter().for_each(|node| drop(node.terminate()));
    let stream = Stream::of_redis(&mut redis);
    eprintln!("{} entries, {} dead letters", stream.entries.len(), stream.dead.len());
    stream.prove(&rig.logs(), EXTRAS);
    for canary in CANARIES {
        assert_eq!(files_with(&rig.logs(), canary), Vec::<std::path::PathBuf>::new(), "{canary}");
    }
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
            let before = published(&mut redis);
            eventually("an owner publishes", || published(&mut redis) != before);
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
