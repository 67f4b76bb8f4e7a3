//! The network between the service and Redis.

use std::time::Duration;

use crate::{
    fault_proxy::Fault,
    rig::{eventually, let_pass},
    scene::Scene,
};

/// Nobody listens, and what was connected is reset.
pub(super) fn connection_refused(scene: &mut Scene) {
    scene.proxy.set(Fault::Refuse);
    scene.proxy.reset_all();
    scene.produce(40);
    scene.wait_ready(false);
    scene.produce(40);
    scene.proxy.heal();
    scene.judge();
}

/// Resets within replies, wherever the seed puts them.
pub(super) fn reset_mid_reply(scene: &mut Scene) {
    broken_off(scene, Fault::Reset(1..3000));
}

/// The same, closed in an orderly way.
pub(super) fn cut_mid_reply(scene: &mut Scene) {
    broken_off(scene, Fault::Cut(1..3000));
}

fn broken_off(scene: &mut Scene, fault: Fault) {
    let before = scene.proxy.struck();
    scene.proxy.set(fault);
    eventually("replies are broken off", || {
        scene.produce(20);
        let_pass(Duration::from_millis(20));
        scene.proxy.struck() >= before + 15
    });
    scene.judge();
}

/// The peer is gone without a word: only time-outs tell.
pub(super) fn half_open(scene: &mut Scene) {
    let before = scene.proxy.struck();
    scene.proxy.set(Fault::HalfOpen);
    scene.produce(40);
    scene.wait_ready(false);
    assert!(scene.proxy.struck() > before, "nothing was held up");
    scene.produce(40);
    scene.judge();
}

/// A few kilobytes a second, each late.
pub(super) fn slow(scene: &mut Scene) {
    let before = scene.proxy.struck();
    scene.proxy.set(Fault::Slow { bytes_per_second: 8 << 10, delay: Duration::from_millis(scene.rng.u64(5..80)) });
    scene.produce(60);
    eventually("replies come slowly", || scene.proxy.struck() > before + 10);
    scene.settle();
    scene.judge();
}
