//! A plugin that takes all of its time for the events of one task.

use std::time::Duration;

use super::{Overload, size};
use crate::rig::{Rig, let_pass};

#[test]
fn a_slow_plugin() {
    let Some(rig) = Rig::redis() else { return };
    let sidecar = "timeout = '100ms'\n[config]\nmode = 'loop'\nmatch = 'please-stall'\n";
    rig.put_guest("slow", sidecar);
    let mut load = Overload::on(rig);
    for _ in 0..size(20, 400) {
        load.append(&[("stalled", "please-stall"), ("stalled", "well"), ("other", "well")]);
        load.append_small();
        load.look();
        let_pass(Duration::from_millis(100));
    }
    load.end("a slow plugin", Duration::from_secs(10));
}
