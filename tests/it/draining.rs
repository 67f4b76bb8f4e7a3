//! How a process ends on SIGTERM: what is in the lanes is committed and published, what is held stays a hole, the stream is given
//! up, open answers are cut within the grace period; a second signal ends it at once.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::process::ExitStatusExt,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    fault_proxy::{Fault, FaultProxy},
    redis_server::RedisServer,
    rig::{Node, Rig, eventually, last_id, published, within},
    scene::run,
};

/// `SHUTDOWN_GRACE` as it is by default.
const GRACE: Duration = Duration::from_secs(25);

fn wait_end(node: &mut Node) -> (Duration, std::process::ExitStatus) {
    let began = Instant::now();
    let mut ended = None;
    eventually("it ends", || {
        ended = node.ended();
        ended.is_some()
    });
    (began.elapsed(), ended.unwrap())
}

#[test]
fn what_is_decided_is_published_what_is_held_stays_a_hole_and_the_stream_is_given_up() {
    let Some(rig) = Rig::redis() else { return };
    let rig = rig.with_bundled(&["redact"]).set("HOLD_MAX", "60s");
    let mut redis = rig.connect();
    let node = rig.spawn_owner();
    let output = |task: &str, text: &str| json!({"type": "task:output", "task_id": task, "data": {"content": text}});
    node.append(&(0..500).map(|n| output(&format!("t{}", n % 50), &format!("line {n}"))).collect::<Vec<_>>());
    // The beginning of a secret: more of it may come.
    let held = node.append(&[output("held", "the key is ghp_0123456789abcdef")]);
    let after =
        node.append(&(0..500).map(|n| output(&format!("t{}", n % 50), &format!("more {n}"))).collect::<Vec<_>>());
    eventually("it is held", || node.json("/metrics")["events"]["held"] == 1);
    let began = Instant::now();
    node.terminate();
    println!("drained in {:?}", began.elapsed());
    assert!(began.elapsed() < GRACE);
    assert_eq!(run::<i64>(&mut redis, "EXISTS {task_events}:lease"), 0, "the lease is released");
    let (low, held) = (published(&mut redis), held[0].clone());
    assert!(low < held && last_id(&mut redis) == after[499], "published {low}, held {held}");
    assert!(!rig.logs().join("held/03-agent-output.jsonl").is_file(), "a flush was forced");
    for task in 0..50 {
        assert_eq!(rig.read(&format!("t{task}/03-agent-output.jsonl")).lines().count(), 20, "t{task}");
    }
    let rig = rig.set("HOLD_MAX", "100ms");
    let node = rig.spawn_owner();
    rig.wait_published(&mut redis);
    node.terminate();
    assert!(rig.read("held/03-agent-output.jsonl").contains(&held));
    crate::checker::Stream::of_redis(&mut redis).prove(&rig, &[]);
}

#[test]
fn an_open_answer_does_not_outlive_the_grace_period() {
    let rig = Rig::embedded();
    let mut node = rig.spawn_owner();
    let line = json!({"type": "task:output", "task_id": "t", "data": {"content": "x".repeat(1 << 20)}});
    for _ in 0..24 {
        node.append(std::slice::from_ref(&line));
    }
    eventually("it is written", || {
        rig.logs().join("t/03-agent-output.jsonl").metadata().is_ok_and(|file| file.len() > 24 << 20)
    });
    let mut slow = TcpStream::connect(node.url().trim_start_matches("http://")).unwrap();
    slow.write_all(b"GET /tasks/t/files/03-agent-output.jsonl HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut first = [0; 4096];
    assert!(slow.read(&mut first).unwrap() > 0);
    node.ask_to_end();
    let (took, status) = wait_end(&mut node);
    println!("ended {took:?} after SIGTERM with an answer half read: {status}");
    assert!(took < GRACE, "{took:?}");
}

#[test]
fn a_stream_that_cannot_be_reached_does_not_keep_it() {
    let Some(server) = RedisServer::start() else { return };
    let proxy = FaultProxy::start(server.socket(), 0);
    for fault in [Fault::Refuse, Fault::HalfOpen] {
        let rig = Rig::embedded().set("REDIS_URL", &proxy.url());
        let mut node = rig.spawn_owner();
        proxy.set(fault.clone());
        if matches!(fault, Fault::Refuse) {
            proxy.reset_all();
        }
        within(Duration::from_millis(300), || false);
        node.ask_to_end();
        let (took, status) = wait_end(&mut node);
        println!("{fault:?}: ended {took:?} after SIGTERM: {status}");
        assert!(took < GRACE, "{fault:?}: {took:?}");
        proxy.heal();
        // The lease that could not be released runs out.
        run::<i64>(&mut server.connect(), "DEL {task_events}:lease");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let Some(server) = RedisServer::start() else { return };
    let rig = Rig::embedded().set("REDIS_URL", &server.url());
    let mut node = rig.spawn_owner();
    // A server that is frozen keeps the drain waiting.
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    node.ask_to_end();
    eventually("it ends", || node.log().contains("ending: work in hand"));
    assert!(node.is_running(), "it drains");
    node.ask_to_end();
    let (took, status) = wait_end(&mut node);
    kill_process(pid, Signal::CONT).unwrap();
    assert!(
        took < Duration::from_secs(2) && status.code() == Some(130) && status.signal().is_none(),
        "{took:?} {status}"
    );
}
