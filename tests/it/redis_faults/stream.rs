//! What others do to the stream itself, and servers that come back with less than they had.

use std::time::Duration;

use crate::{
    rig::{eventually, let_pass},
    scene::{Scene, run},
};

/// All data is gone; at times with entries that nobody had read.
pub(super) fn flush_all(scene: &mut Scene) {
    scene.produce(60);
    scene.leave_or_settle();
    run::<()>(&mut scene.redis, "FLUSHALL");
    scene.produce(40);
    scene.judge();
}

/// The stream is deleted and filled anew below the old ids; at times its ids are above them again before anybody looks. What is
/// above is read first then: nothing is lost or doubled, but between the two parts there is no order.
pub(super) fn deleted_and_lower_ids(scene: &mut Scene) {
    scene.produce(60);
    scene.leave_or_settle();
    run::<i64>(&mut scene.redis, "DEL task_events");
    let from = scene.rng.u64(1..1000);
    scene.produce_under((from..from + 40).map(|ms| format!("{ms}-0")).collect());
    // Known defect: higher ids that come before the lower ones were seen are written first. So they come after them here.
    scene.settle();
    if scene.rng.bool() {
        scene.ledger.other_tasks();
        scene.produce(20);
    }
    scene.judge();
}

/// Somebody else moves the group, back or ahead: the position in the journal is what counts, and is published again.
pub(super) fn group_moved(scene: &mut Scene) {
    for to in ["0", "$", "5-0"] {
        scene.produce(20);
        run::<()>(&mut scene.redis, &format!("XGROUP SETID task_events task-logger {to}"));
        // Also when nothing comes in any more.
        scene.settle();
    }
    scene.judge();
}

/// Entries are trimmed before they were read: they are lost, and counted.
pub(super) fn trimmed_unread(scene: &mut Scene) {
    // A read that was on its way when the reader was paused may have what is trimmed: then again.
    for _ in 0..10 {
        scene.settle();
        scene.await_files();
        let before = scene.counter("lost");
        scene.node.pause();
        let from = scene.ledger.made() + 1;
        scene.produce_sound(100);
        scene.ledger.excuse(from..=from + 79);
        run::<i64>(&mut scene.redis, "XTRIM task_events MAXLEN 20");
        scene.node.resume();
        scene.settle();
        scene.await_files();
        let absent = scene.ledger.absent(&scene.rig, from..=from + 99);
        eventually("what was lost is counted", || scene.counter("lost") == before + absent);
        if absent > 0 {
            return scene.judge();
        }
    }
    panic!("all of it was read, ten times");
}

/// The server dies and comes back with all that it acknowledged.
pub(super) fn restarted_with_data(scene: &mut Scene) {
    scene.produce(60);
    scene.server.stop();
    scene.wait_ready(false);
    let_pass(Duration::from_millis(scene.rng.u64(..6000)));
    scene.server.start_again();
    scene.reconnect();
    scene.judge();
}

/// The server dies and comes back empty.
pub(super) fn restarted_without_data(scene: &mut Scene) {
    scene.produce(60);
    scene.leave_or_settle();
    scene.server.stop();
    scene.server.forget_data();
    scene.server.start_again();
    scene.reconnect();
    scene.produce(40);
    scene.judge();
}

/// The server dies and comes back as it was some time ago: what was read since is not there any more.
pub(super) fn restarted_with_older_data(scene: &mut Scene) {
    scene.produce(40);
    scene.settle();
    run::<()>(&mut scene.redis, "CONFIG SET appendonly no");
    scene.produce(40);
    scene.leave_or_settle();
    scene.server.stop();
    scene.server.start_again();
    scene.reconnect();
    scene.produce(40);
    scene.judge();
}
