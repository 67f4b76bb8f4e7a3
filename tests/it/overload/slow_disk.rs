//! A disk that takes its time for every sync and every write to a task's file.

use std::{fs, time::Duration};

use super::{Overload, size};
use crate::rig::Rig;

#[test]
fn a_slow_disk() {
    let Some(rig) = Rig::redis() else { return };
    let rules = rig.root().join("failpoints");
    let slow = ["journal::sync=sleep(40)", "apply::append=sleep(2)", "checkpoint::syncfs=sleep(500)"].join(";");
    fs::write(&rules, slow).unwrap();
    let mut load = Overload::on(rig.set("FAILPOINTS_FILE", rules.to_str().unwrap()));
    let tasks: Vec<String> = (0..20).map(|task| format!("task-{task}")).collect();
    let line = "x".repeat(8 << 10);
    let batch: Vec<(&str, &str)> = tasks.iter().map(|task| (&**task, &*line)).collect();
    // Far more than the window holds, all at once: it waits in the stream.
    for _ in 0..size(200, 5000) {
        load.append(&batch);
    }
    load.wait_for(200);
    for _ in 0..size(20, 500) {
        load.append(&batch);
        load.append_small();
        load.wait_for(200);
    }
    load.end("a slow disk", Duration::from_secs(5));
}
