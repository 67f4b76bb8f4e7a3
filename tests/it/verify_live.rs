//! `task-logger verify` beside a running service, and on what one that was killed has left: what is journaled and not yet
//! applied is no finding.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::{
    checker::verify,
    load::{Load, send},
    rig::{Rig, eventually, let_pass, published, seed},
};

/// Appends entries until it is told to stop.
fn produce(rig: &Rig, seed: u64, done: &AtomicBool) {
    let mut load = Load::new(seed, 40);
    let mut redis = rig.connect();
    while !done.load(Ordering::Relaxed) {
        let batch: Vec<_> = (0..40).map(|_| load.next()).collect();
        send(&mut redis, batch);
        let_pass(Duration::from_millis(10));
    }
}

#[test]
fn verify_finds_nothing_beside_a_running_service_or_after_its_kill() {
    let Some(rig) = Rig::redis() else { return };
    let seed = seed("verify_finds_nothing_beside_a_running_service_or_after_its_kill");
    let mut rng = fastrand::Rng::with_seed(seed);
    let done = AtomicBool::new(false);
    let mut redis = rig.connect();
    thread::scope(|scope| {
        let producer = scope.spawn(|| produce(&rig, seed, &done));
        for _ in 0..4 {
            let node = rig.spawn_owner();
            let before = published(&mut redis);
            eventually("it publishes", || published(&mut redis) != before);
            let_pass(Duration::from_millis(rng.u64(..700)));
            for args in [&[][..], &["--content"]] {
                let verdict = verify(&rig, args);
                assert_eq!(verdict["total"], 0, "beside it: {verdict:#}");
                assert!(verdict["checked"]["entries"].as_u64().unwrap() > 0, "{verdict}");
            }
            node.kill();
            let verdict = verify(&rig, &[]);
            if verdict["total"] != 0 {
                done.store(true, Ordering::Relaxed);
            }
            assert_eq!(verdict["total"], 0, "after its kill: {verdict:#}");
        }
        done.store(true, Ordering::Relaxed);
        producer.join().unwrap();
    });
}

#[test]
fn verify_looks_at_the_embedded_stream_too() {
    let rig = Rig::embedded();
    let node = rig.spawn_owner();
    let mut load = Load::new(7, 10);
    for _ in 0..20 {
        let events: Vec<_> = std::iter::repeat_with(|| load.next())
            .filter_map(|fields| {
                let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
                let data: serde_json::Value =
                    serde_json::from_str(&field("data")?).ok().filter(|d: &serde_json::Value| d.is_object())?;
                let kind = field("type").filter(|kind| kind.starts_with("task:"))?;
                let task = field("task_id").filter(|task| task.starts_with("task-"))?;
                Some(serde_json::json!({"type": kind, "task_id": task, "data": data}))
            })
            .take(20)
            .collect();
        node.append(&events);
    }
    let entries = |verdict: &serde_json::Value| verdict["checked"]["entries"].as_u64().unwrap();
    eventually("all is published", || {
        let verdict = verify(&rig, &["--content"]);
        assert_eq!(verdict["total"], 0, "{verdict:#}");
        entries(&verdict) == 400
    });
    node.kill();
    let verdict = verify(&rig, &[]);
    assert_eq!((verdict["total"].as_u64(), entries(&verdict)), (Some(0), 400), "{verdict:#}");
    let node = rig.spawn_owner();
    node.terminate();
    let task = rig.logs().join("task-00001");
    assert!(task.is_dir());
    std::fs::remove_dir_all(task).unwrap();
    let verdict = verify(&rig, &["--task", "task-00001"]);
    assert!(verdict["by_kind"]["missing"].as_u64().unwrap() > 0, "{verdict:#}");
}
