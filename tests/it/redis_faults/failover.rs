//! Fail-overs to a replica that is behind: a part of what was read is gone, and the ids that it had are given again.

use crate::{
    redis_server::RedisServer,
    rig::eventually,
    scene::{Scene, run},
};

/// Producers go on at the new primary under ids of its own, at times after the service has met it.
pub(super) fn failed_over_behind(scene: &mut Scene) {
    let Some(replica) = parted(scene) else { return };
    switch(scene, replica);
    if scene.rng.bool() {
        scene.wait_ready(true);
    }
    scene.produce(40);
    scene.judge();
}

/// The new primary gave the lost ids to other entries, and went beyond them, before the service met it.
pub(super) fn failed_over_to_other_entries_of_the_same_ids(scene: &mut Scene) {
    let Some(replica) = parted(scene) else { return };
    let old: Vec<(String, Vec<Vec<u8>>)> = run(&mut scene.redis, "XREVRANGE task_events + - COUNT 30");
    let mut ids: Vec<String> = old.into_iter().map(|(id, _)| id).collect();
    ids.reverse();
    switch_silently(scene, replica);
    scene.produce_under(ids);
    scene.produce(10);
    scene.proxy.swap(scene.server.socket());
    scene.judge();
}

/// The owner dies with the primary: its successor knows what was read from the files that it left.
pub(super) fn failed_over_and_owner_killed(scene: &mut Scene) {
    let Some(replica) = parted(scene) else { return };
    let old: Vec<(String, Vec<Vec<u8>>)> = run(&mut scene.redis, "XREVRANGE task_events + - COUNT 30");
    let mut ids: Vec<String> = old.into_iter().map(|(id, _)| id).collect();
    ids.reverse();
    scene.node.strike_dead();
    switch_silently(scene, replica);
    scene.produce_under(ids);
    scene.produce(10);
    scene.proxy.swap(scene.server.socket());
    scene.node = scene.rig.spawn();
    scene.judge();
}

/// A replica that has what was sent so far; 40 more entries stand only on the primary, and are committed.
fn parted(scene: &mut Scene) -> Option<RedisServer> {
    scene.produce(40);
    scene.settle();
    let port = scene.server.port().to_string();
    let replica = RedisServer::start_tcp(&["--replicaof", "127.0.0.1", &port, "--enable-debug-command", "local"])?;
    eventually("the replica has it all", || {
        run::<String>(&mut replica.connect(), "INFO replication").contains("master_link_status:up")
            && run::<i64>(&mut scene.redis, "WAIT 1 1000") == 1
    });
    run::<()>(&mut replica.connect(), "REPLICAOF NO ONE");
    scene.produce(40);
    scene.settle();
    scene.await_files();
    Some(replica)
}

/// The replica takes the primary's place for producers, not yet for the service.
fn switch_silently(scene: &mut Scene, replica: RedisServer) {
    run::<()>(&mut replica.connect(), "CONFIG SET appendonly yes");
    scene.redis = replica.connect();
    // Kept until the service has left it.
    scene.retired.push(std::mem::replace(&mut scene.server, replica));
}

fn switch(scene: &mut Scene, replica: RedisServer) {
    switch_silently(scene, replica);
    scene.proxy.swap(scene.server.socket());
}
