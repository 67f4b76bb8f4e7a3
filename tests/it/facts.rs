//! The seven facts of the predecessor that lost or exposed data, each the other way round.

use std::time::Duration;

use crate::{
    checker::{Stream, files_below},
    load::{entry, send},
    rig::{Rig, add, eventually, within},
};

fn output(redis: &mut redis::Connection, task: &str, content: &str) -> String {
    let data = serde_json::json!({ "content": content }).to_string();
    add(redis, &[("type", "task:output"), ("task_id", task), ("data", &data)])
}

fn hook(redis: &mut redis::Connection, kind: &str, flow: &str, data: &str) -> String {
    add(redis, &[("type", kind), ("webhook_event_id", flow), ("data", data)])
}

fn lines(rig: &Rig, path: &str) -> Vec<serde_json::Value> {
    rig.read(path).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Their stream ids, as they stand in a file.
fn ids(rig: &Rig, path: &str) -> Vec<String> {
    lines(rig, path).iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_bad_event_does_not_stop_the_consumer() {
    let Some(rig) = Rig::redis() else { return };
    let mut redis = rig.connect();
    let node = rig.spawn_owner();
    add(&mut redis, &[("type", "task:output"), ("task_id", "t"), ("data", "no json")]);
    add(&mut redis, &[("task_id", "t"), ("data", "{}")]);
    add(&mut redis, &[("type", "strange:kind"), ("task_id", "t"), ("data", "{}")]);
    add(&mut redis, &[("type", "task:output"), ("data", "{}")]);
    add(&mut redis, &[("any", "thing")]);
    output(&mut redis, "t", "after the bad ones");
    rig.wait_published(&mut redis);
    eventually("the good event is served", || node.get("/tasks/t/logs").1.contains("after the bad ones"));
    assert_eq!(node.get("/health").0, 200);
    let metrics = node.json("/metrics");
    assert_eq!(metrics["queue_lag"], 0);
    let dead = &metrics["events"]["dead"];
    let total: u64 = dead.as_object().unwrap().values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!((total, dead["bad_json"].as_u64()), (4, Some(1)), "{dead}");
    // The stream goes away as a whole and comes back: the predecessor ended there for good.
    redis::cmd("FLUSHALL").exec(&mut redis).unwrap();
    eventually("events are taken in again", || {
        output(&mut redis, "t", "after the flush");
        within(Duration::from_secs(1), || node.get("/tasks/t/logs").1.contains("after the flush"))
    });
    assert_eq!(node.get("/health").0, 200);
    node.terminate();
}

#[test]
fn a_restart_loses_nothing_between_read_and_commit() {
    let Some(rig) = Rig::redis() else { return };
    let rig = rig.with_bundled(&["redact"]).set("HOLD_MAX", "60s");
    let mut redis = rig.connect();
    let node = rig.spawn_owner();
    let first = output(&mut redis, "t", "plain");
    // The redactor waits for the rest of what may be a token: read, and not committed.
    let held = output(&mut redis, "t", "and now ghp_0123456789abcdef01234");
    eventually("the event is read and held", || {
        let metrics = node.json("/metrics");
        (metrics["queue_depth"].as_u64(), metrics["queue_lag"].as_u64()) == (Some(1), Some(0))
    });
    node.kill();
    let node = rig.spawn_owner();
    let last = output(&mut redis, "t", "56789abcdefABCDEF and on");
    let done = add(&mut redis, &[("type", "task:completed"), ("task_id", "t"), ("data", "{}")]);
    rig.wait_published(&mut redis);
    node.terminate();
    assert_eq!(ids(&rig, "t/03-agent-output.jsonl"), [first, held, last]);
    assert!(rig.read("t/metadata.json").contains(&done));
    let text = rig.read("t/03-agent-output.jsonl");
    assert!(text.contains("[REDACTED:") && !text.contains("0123456789"), "{text}");
    Stream::of_redis(&mut redis).prove(&rig, &[]);
}

#[test]
fn a_webhook_flow_survives_kill_between_received_and_task_created() {
    let Some(rig) = Rig::redis() else { return };
    let mut redis = rig.connect();
    let node = rig.spawn_owner();
    let mut sent =
        vec![hook(&mut redis, "webhook:received", "w", "{}"), hook(&mut redis, "webhook:validated", "w", "{}")];
    rig.wait_published(&mut redis);
    node.kill();
    let node = rig.spawn_owner();
    sent.push(hook(&mut redis, "webhook:task_created", "w", "{\"task_id\":\"t\"}"));
    sent.push(hook(&mut redis, "webhook:payload", "w", "{}"));
    rig.wait_published(&mut redis);
    node.terminate();
    assert_eq!(ids(&rig, "t/02-webhook-flow.jsonl"), sent);
    Stream::of_redis(&mut redis).prove(&rig, &[]);
}

#[test]
fn two_replicas_lose_and_reorder_nothing() {
    let Some(rig) = Rig::redis() else { return };
    let mut redis = rig.connect();
    let nodes = [rig.spawn(), rig.spawn()];
    // A hundred flows of four webhook events and five outputs each, interleaved.
    for step in 0..9 {
        send(
            &mut redis,
            (0..100).map(|n| {
                let (task, flow) = (format!("task-{n}"), format!("hook-{n}"));
                match step {
                    0..4 => {
                        let kind = ["received", "validated", "matched", "task_created"][step];
                        let data = if step == 3 { format!("{{\"task_id\":\"{task}\"}}") } else { "{}".into() };
                        entry(&[("type", &format!("webhook:{kind}")), ("webhook_event_id", &flow), ("data", &data)])
                    }
                    _ => entry(&[
                        ("type", "task:output"),
                        ("task_id", &task),
                        ("data", &format!("{{\"content\":\"mark-{n}.{step}-end\"}}")),
                    ]),
                }
            }),
        );
    }
    rig.wait_published(&mut redis);
    for node in nodes {
        node.terminate();
    }
    for n in 0..100 {
        assert_eq!(ids(&rig, &format!("task-{n}/02-webhook-flow.jsonl")).len(), 4);
        assert_eq!(ids(&rig, &format!("task-{n}/03-agent-output.jsonl")).len(), 5);
    }
    Stream::of_redis(&mut redis).prove(&rig, &[]);
}

#[test]
fn redelivery_gives_no_duplicates() {
    let Some(rig) = Rig::redis() else { return };
    let mut redis = rig.connect();
    let node = rig.spawn_owner();
    (0..50).for_each(|n| drop(output(&mut redis, "t", &format!("mark-{n}-end"))));
    rig.wait_published(&mut redis);
    // Another tool puts the group back and reads in its name, while the service runs and before it starts again.
    let meddle = |redis: &mut redis::Connection| {
        redis::cmd("XGROUP").arg("SETID").arg("task_events").arg("task-logger").arg("0").exec(redis).unwrap();
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg("task-logger").arg("worker-1").arg("COUNT").arg(20).arg("STREAMS").arg("task_events");
        read.arg(">").exec(redis).unwrap();
    };
    meddle(&mut redis);
    output(&mut redis, "t", "mark-50-end");
    rig.wait_published(&mut redis);
    node.kill();
    meddle(&mut redis);
    let node = rig.spawn_owner();
    output(&mut redis, "t", "mark-51-end");
    rig.wait_published(&mut redis);
    node.terminate();
    assert_eq!(ids(&rig, "t/03-agent-output.jsonl").len(), 52);
    Stream::of_redis(&mut redis).prove(&rig, &[]);
}

#[test]
fn paths_are_built_only_from_validated_parts_so_that_traversal_ids_stay_inside() {
    let Some(rig) = Rig::redis() else { return };
    let mut redis = rig.connect();
    let node = rig.spawn_owner();
    let ids =
        ["../escape", "..", ".", "/etc/escape", "a/../../escape", "_webhooks", ".task-logger", "a%2f..", "..%2fescape"];
    for id in ids {
        output(&mut redis, id, "x");
        hook(&mut redis, "webhook:received", id, "{}");
        let data = serde_json::json!({ "task_id": id }).to_string();
        hook(&mut redis, "webhook:task_created", &format!("flow of {id}"), &data);
    }
    rig.wait_published(&mut redis);
    for path in ["/tasks/../health/files", "/tasks/..%2f..%2fstate/logs", "/tasks/t/files/..%2f.state"] {
        assert!(matches!(node.get(path).0, 400 | 404), "{path}: {}", node.get(path).0);
    }
    eventually("`..` is a task's id like any other", || node.get("/tasks/%2e%2e/files").0 == 200);
    eventually("the id is served under its own name", || node.get("/tasks/..%2Fescape/logs").0 == 200);
    node.terminate();
    let beside: Vec<String> = std::fs::read_dir(rig.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !["logs", "state", "plugins", "stream"].contains(&&**name))
        .collect();
    assert_eq!(beside, Vec::<String>::new());
    assert!(files_below(&rig.root().join("stream")).is_empty());
    Stream::of_redis(&mut redis).prove(&rig, &[]);
}

#[test]
fn a_completed_task_that_failed_has_success_false() {
    let Some(rig) = Rig::redis() else { return };
    let mut redis = rig.connect();
    let node = rig.spawn_owner();
    let data = r#"{"status":"failed","result":"timed out","cost_usd":0.5}"#;
    add(&mut redis, &[("type", "task:completed"), ("task_id", "t"), ("data", data)]);
    add(&mut redis, &[("type", "task:completed"), ("task_id", "u"), ("data", r#"{"status":"completed"}"#)]);
    rig.wait_published(&mut redis);
    // Published, and applied within moments.
    eventually("both are served", || {
        ["t", "u"].iter().all(|task| !node.json(&format!("/tasks/{task}/logs"))["final_result"].is_null())
    });
    let result = |task: &str| node.json(&format!("/tasks/{task}/logs"));
    assert_eq!(
        (&result("t")["final_result"]["success"], &result("t")["metadata"]["status"]),
        (&false.into(), &"failed".into())
    );
    assert_eq!(result("u")["final_result"]["success"], true);
    node.terminate();
}
