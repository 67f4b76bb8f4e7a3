//! Health, readiness, metrics, plugins, the token, stopping.

use std::time::Instant;

use super::*;
use crate::status::{BacklogView, Role};

#[test]
fn health_says_what_the_spec_says_and_more() {
    let service = Service::start();
    service.status.role.store(Arc::new(Role { role: "owner", epoch: 3, stream: "redis://h/0 task_events".to_owned() }));
    service.status.set_blocked("plugins", Some("redact is missing".to_owned()));
    service.status.set_notice("fsync", Some("off".to_owned()));
    service.status.heartbeat("lane-0").beat();
    service.status.heartbeat("committer").idle();
    let answer = service.get("/health");
    assert_eq!(answer.status, 200, "neither plugins nor Redis make a service unhealthy");
    assert!(answer.text().starts_with(r#"{"status":"healthy","service":"task-logger","#), "{answer:?}");
    let body = answer.json();
    assert_eq!(
        (&body["role"], &body["epoch"], &body["stream"]),
        (&json!("owner"), &json!(3), &json!("redis://h/0 task_events"))
    );
    assert_eq!(body["heartbeats"]["committer"], "idle");
    assert!(body["heartbeats"]["lane-0"].as_f64().unwrap() < 20.0);
    assert_eq!(body["blocked"], json!({"plugins": "redact is missing"}));
    assert_eq!(body["notices"], json!({"fsync": "off"}));
    assert!(body["uptime_seconds"].is_number() && body["version"].is_string());
}

#[test]
fn health_is_bad_only_when_a_thread_stands_still() {
    let limits = Limits { standstill: Duration::from_millis(1), ..Limits::default() };
    let service = Service::start_with(With { limits, ..With::default() });
    let beat = service.status.heartbeat("committer");
    assert_eq!(service.get("/health").status, 200, "idle is not standing still");
    beat.beat();
    let deadline = Instant::now() + Duration::from_secs(10);
    let body = loop {
        let answer = service.get("/health");
        if answer.status == 503 {
            break answer.json();
        }
        assert!(Instant::now() < deadline);
    };
    assert_eq!((&body["status"], &body["stalled"]), (&json!("unhealthy"), &json!(["committer"])));
    beat.idle();
    assert_eq!(service.get("/health").status, 200);
}

#[test]
fn ready_is_about_reading_and_on_request_about_writing() {
    let service = Service::start();
    service.get("/ready").is_problem(503, "logs_unreadable");
    service.write("t1/metadata.json", "{}");
    assert_eq!(service.get("/ready").status, 200);
    assert_eq!(service.get("/ready?write").status, 200);
    service.status.set_blocked("disk", Some("no space".to_owned()));
    assert_eq!(service.get("/ready").status, 200);
    for path in ["/ready?write", "/ready?write=1", "/ready?write=true"] {
        let answer = service.get(path);
        assert_eq!(answer.is_problem(503, "blocked").json()["blocked"], json!({"disk": "no space"}));
    }
    service.status.set_blocked("disk", None);
    assert_eq!(service.get("/ready?write").status, 200);
    service.get("/ready?write=perhaps").is_problem(400, "bad_query");
    service.get("/ready?wriet").is_problem(400, "bad_query");
}

#[test]
fn metrics_are_json_unless_text_is_asked_for() {
    let service = Service::start();
    let empty = service.get("/metrics");
    assert!(empty.text().starts_with(r#"{"queue_depth":0,"queue_lag":0,"tasks_processed":0,"#), "{}", empty.text());
    for folder in ["t1", "t2", "_webhooks/w", ".task-logger"] {
        service.write(&format!("{folder}/metadata.json"), "{}");
    }
    service.write("a-file", "");
    let backlog = BacklogView { depth: 12, lag: 7, lag_seconds: 1.5, ..BacklogView::default() };
    service.status.backlog.store(Arc::new(backlog));
    let body = service.get("/metrics").json();
    let first: Vec<_> =
        body.as_object().unwrap().iter().take(3).map(|(key, value)| (key.as_str(), value.clone())).collect();
    assert_eq!(first, [("queue_depth", json!(12)), ("queue_lag", json!(7)), ("tasks_processed", json!(2))]);
    assert_eq!(body["lag_seconds"], json!(1.5));
    assert!(body["disk"]["total_bytes"].as_u64().unwrap() > 0);

    let with = |accept| service.ask("GET", "/metrics", &[("Accept", accept)], b"");
    for json in ["*/*", "application/json", "text/html,*/*;q=0.8", "application/json, text/plain"] {
        assert_eq!(with(json).header("content-type"), "application/json", "{json}");
    }
    metrics::DataPath::new().events("task:output").increment(1);
    let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for answer in [with(prometheus), with("text/plain"), service.get("/metrics?format=prometheus")] {
        assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        let text = answer.text();
        for name in [
            metrics::QUEUE_DEPTH,
            metrics::QUEUE_LAG,
            metrics::LAG_SECONDS,
            metrics::FILES_CREATED,
            metrics::EVENTS_DEAD,
            metrics::DISK_USED,
            metrics::DISK_TOTAL,
            metrics::TASKS,
        ] {
            assert!(text.contains(&format!("\n{name}")), "{name} is missing in {text}");
        }
        assert!(text.contains("task_logger_events_total{kind=\"task:output\"} "), "{text}");
    }
    service.get("/metrics?format=xml").is_problem(400, "bad_query");
}

#[test]
fn tasks_are_counted_anew_when_the_folder_changes() {
    let service = Service::start();
    let tasks = service.logs.path().join("tasks");
    service.write("t1/metadata.json", "{}");
    let past = std::time::SystemTime::now() - Duration::from_secs(3600);
    let set = |time| fs::File::open(&tasks).unwrap().set_modified(time).unwrap();
    set(past);
    let count = || service.get("/metrics").json()["tasks_processed"].clone();
    assert_eq!((count(), count()), (json!(1), json!(1)));
    service.write("t2/metadata.json", "{}");
    assert_eq!(count(), json!(2), "the folder's time has changed");
    service.write("t3/metadata.json", "{}");
    assert_eq!(count(), json!(3), "a count of a folder that changed a moment ago is not kept");
}

#[test]
fn plugins_are_reported_and_forgotten() {
    let service = Service::start();
    service.require("redact");
    assert_eq!(service.get("/plugins").json()["required"], json!(["redact"]));
    assert_eq!(service.post("/plugins/redact/forget", b"").json(), json!({"forgotten": true}));
    service.post("/plugins/redact/forget", b"").is_problem(404, "no_such_plugin");
    service.get("/plugins/redact/forget").is_problem(405, "wrong_method");
}

#[test]
fn a_panic_is_an_answer() {
    let service = Service::start();
    service.require("panics");
    service.get("/plugins").is_problem(500, "internal");
    assert_eq!(service.get("/health").status, 200);
}

#[test]
fn with_a_token_only_health_and_ready_are_open() {
    let service = Service::start_with(With { token: Some("s3cret"), ..With::default() });
    service.write("t1/metadata.json", "{}");
    assert_eq!((service.get("/health").status, service.get("/ready").status), (200, 200));
    for path in ["/tasks", "/tasks/t1/logs", "/tasks/t1/files/metadata.json", "/metrics", "/plugins", "/webhooks", "/x"]
    {
        let refused = service.get(path);
        refused.is_problem(401, "unauthorized");
        assert!(refused.header("www-authenticate").starts_with("Bearer"), "{refused:?}");
    }
    service.post("/events", b"{\"type\":\"a:b\"}").is_problem(401, "unauthorized");
    assert_eq!(service.stream.calls.load(Ordering::Relaxed), 0);
    let with = |token: &str| service.ask("GET", "/tasks/t1/logs", &[("Authorization", token)], b"").status;
    assert_eq!((with("Bearer s3cret"), with("Bearer wrong"), with("Basic s3cret")), (200, 401, 401));
}

#[test]
fn request_ids_are_kept_or_made() {
    let service = Service::start();
    let ask = |id: &str| service.ask("GET", "/health", &[("X-Request-Id", id)], b"").header("x-request-id").to_owned();
    assert_eq!(ask("abc-1"), "abc-1");
    for made in [ask("has space"), ask(&"x".repeat(65)), service.get("/health").header("x-request-id").to_owned()] {
        assert!(made.len() == 16 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
    }
}

#[test]
fn stopping_lets_an_open_answer_finish() {
    let limits = Limits { drain: Duration::from_secs(20), ..Limits::default() };
    let mut service = Service::start_with(With { limits, ..With::default() });
    // More than the socket buffers of both ends hold.
    let size = 32 << 20;
    service.write("t1/blob.bin", vec![7; size]);
    let mut idle = service.connect();
    let mut open = service.connect();
    open.write_all(b"GET /tasks/t1/files/blob.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut first = [0; 1000];
    open.read_exact(&mut first).unwrap();
    let reading = std::thread::spawn(move || {
        let mut rest = Vec::new();
        open.read_to_end(&mut rest).unwrap();
        rest.len()
    });
    let started = Instant::now();
    service.stop();
    assert!(started.elapsed() < Duration::from_secs(10), "it waited for a connection that asked for nothing");
    assert!(reading.join().unwrap() > size - 1000);
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0, "a connection without a request is closed");
    assert!(TcpStream::connect(service.addr).is_err());
}

#[test]
fn stopping_does_not_wait_for_ever() {
    let limits = Limits { drain: Duration::from_millis(200), ..Limits::default() };
    let mut service = Service::start_with(With { limits, ..With::default() });
    service.write("t1/blob.bin", vec![7; 32 << 20]);
    let mut open = service.connect();
    open.write_all(b"GET /tasks/t1/files/blob.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    open.read_exact(&mut [0; 1000]).unwrap();
    let started = Instant::now();
    service.stop();
    assert!(started.elapsed() < Duration::from_secs(10));
}
