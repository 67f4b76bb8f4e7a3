//! Replies that never arrive although the command was executed, and replies that say no.

use std::time::Duration;

use crate::{
    fault_proxy::Fault,
    rig::{eventually, let_pass},
    scene::{Scene, run},
};

/// The position was published, and nobody heard of it.
pub(super) fn publish_reply_lost(scene: &mut Scene) {
    lost(scene, "SETID", 4);
}

/// Dead letters were copied, and nobody heard of it: they must not be copied twice.
pub(super) fn bury_reply_lost(scene: &mut Scene) {
    lost(scene, "XADD", 3);
}

/// The lease was renewed, and nobody heard of it.
pub(super) fn lease_reply_lost(scene: &mut Scene) {
    lost(scene, "PEXPIRE", 2);
}

/// Entries were handed out, and nobody got them.
pub(super) fn read_reply_lost(scene: &mut Scene) {
    lost(scene, "XREAD", 4);
}

fn lost(scene: &mut Scene, to: &'static str, times: u64) {
    let before = scene.proxy.struck();
    scene.proxy.set(Fault::LoseReplies { to, times });
    eventually("replies are lost", || {
        scene.produce(30);
        let_pass(Duration::from_millis(30));
        scene.proxy.struck() >= before + times
    });
    scene.judge();
}

/// No memory for anything new: what adds is refused, what reads and moves works. The lease is kept all the while.
pub(super) fn out_of_memory(scene: &mut Scene) {
    let epoch = scene.epoch();
    scene.settle();
    // Nothing is read meanwhile, so that there is something to bury once nothing can be.
    scene.node.pause();
    scene.produce_broken(3);
    scene.produce(60);
    run::<()>(&mut scene.redis, "CONFIG SET maxmemory 1");
    scene.node.resume();
    scene.wait_ready(false);
    // Longer than a lease lasts.
    let_pass(Duration::from_secs(6));
    run::<()>(&mut scene.redis, "CONFIG SET maxmemory 0");
    scene.judge();
    assert_eq!(scene.epoch(), epoch, "the lease was lost");
}

/// The server was demoted: it answers reads (or not even these) and refuses writes, the lease's among them.
pub(super) fn read_only(scene: &mut Scene) {
    scene.settle();
    scene.node.pause();
    scene.produce(60);
    let stale = if scene.rng.bool() { "yes" } else { "no" };
    run::<()>(&mut scene.redis, &format!("CONFIG SET replica-serve-stale-data {stale}"));
    // Nobody listens there.
    run::<()>(&mut scene.redis, "REPLICAOF 127.0.0.1 1");
    scene.node.resume();
    scene.wait_ready(false);
    run::<()>(&mut scene.redis, "REPLICAOF NO ONE");
    scene.judge();
}

/// The server loads its data, and answers everything with LOADING.
pub(super) fn loading(scene: &mut Scene) {
    scene.produce(100);
    let mut fill = redis::pipe();
    for at in 0..150 {
        fill.cmd("SET").arg(format!("filler-{at}")).arg("x".repeat(2000)).ignore();
    }
    fill.query::<()>(&mut scene.redis).unwrap();
    run::<()>(&mut scene.redis, "CONFIG SET loading-process-events-interval-bytes 1024");
    // Longer than the time between two renewals of the lease: a reader that waits for entries asks nothing meanwhile.
    run::<()>(&mut scene.redis, "CONFIG SET key-load-delay 20000");
    let told = scene.node.log().matches("LOADING").count() + scene.node.log().matches("loading").count();
    run::<()>(&mut scene.redis, "DEBUG RELOAD");
    run::<()>(&mut scene.redis, "CONFIG SET key-load-delay 0");
    let log = scene.node.log();
    assert!(log.matches("LOADING").count() + log.matches("loading").count() > told, "nobody met it loading:\n{log}");
    scene.judge();
}

/// Somebody destroys the consumer group, again and again.
pub(super) fn group_destroyed(scene: &mut Scene) {
    for _ in 0..4 {
        scene.produce(30);
        run::<i64>(&mut scene.redis, "XGROUP DESTROY task_events task-logger");
        let_pass(Duration::from_millis(scene.rng.u64(..200)));
    }
    scene.judge();
}

/// The blocked read is woken with an error.
pub(super) fn unblocked(scene: &mut Scene) {
    let mut woken = 0;
    eventually("reads are unblocked", || {
        let clients: String = run(&mut scene.redis, "CLIENT LIST");
        let blocked = clients.lines().find(|client| client.contains("cmd=xread"));
        let id = blocked.and_then(|client| client.split([' ', '=']).nth(1)).unwrap_or("0").to_owned();
        woken += run::<i64>(&mut scene.redis, &format!("CLIENT UNBLOCK {id} ERROR"));
        let_pass(Duration::from_millis(20));
        woken >= 4
    });
    scene.judge();
}

/// The server closes every connection.
pub(super) fn client_kill(scene: &mut Scene) {
    for _ in 0..5 {
        scene.produce(30);
        run::<i64>(&mut scene.redis, "CLIENT KILL TYPE normal SKIPME yes");
        let_pass(Duration::from_millis(scene.rng.u64(..300)));
    }
    scene.judge();
}
