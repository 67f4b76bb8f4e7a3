//! `GET /tasks/events`.

use super::{records::Open, *};
use crate::reader::{Change, TaskQuery};

/// Opens the stream and waits until it has begun.
fn opened(service: &Service) -> Open {
    service.list("/tasks");
    let mut stream = Open::new(service, "/tasks/events");
    stream.until("retry: ");
    stream
}

#[test]
fn who_listens_is_told_of_tasks_that_appear_change_and_go() {
    let service = Service::start();
    let (mut one, mut two) = (opened(&service), opened(&service));
    assert!(one.text.contains("content-type: text/event-stream\r\n"), "{}", one.text);
    assert!(one.text.contains("x-accel-buffering: no\r\n"));
    service.write("t/metadata.json", r#"{"status":"created","input_message":"<b>\\n"}"#);
    service.until("/tasks", |list| list["total"] == 1);
    for stream in [&mut one, &mut two] {
        stream.until("event: task\ndata: {\"task_id\":\"t\",\"status\":\"created\"");
    }
    service.write("t/metadata.json", r#"{"status":"completed"}"#);
    service.until("/tasks", |list| list["tasks"][0]["status"] == "completed");
    one.until("\"status\":\"completed\"");
    fs::remove_dir_all(service.logs.path().join("tasks/t")).unwrap();
    service.until("/tasks", |list| list["total"] == 0);
    one.until("event: removed\ndata: {\"task_id\":\"t\"}\n\n");
    two.until("event: removed\n");
}

#[test]
fn a_slow_listener_is_told_to_list_again() {
    let service = Service::start();
    service.write("t/metadata.json", json!({"input_message": "x".repeat(200), "source": "y".repeat(100)}).to_string());
    service.until("/tasks", |list| list["total"] == 1);
    let mut slow = opened(&service);
    let row = Arc::clone(&service.index.tasks(&TaskQuery::default()).unwrap().tasks[0]);
    // More than what buffers hold anywhere between the two.
    let told = 100_000;
    (0..told).for_each(|_| service.index.announce(Change::Task(Arc::clone(&row))));
    slow.until("event: resync\ndata: {}\n\n");
    assert!(slow.text.matches("event: task\n").count() < told / 2);
    // It goes on after that; until it has taken what lies in buffers it may be told so again.
    while !slow.text.contains("event: removed\n") {
        service.index.announce(Change::Removed(row.task_id.clone()));
        slow.more();
    }
}

#[test]
fn listeners_are_bounded_and_end_with_the_service() {
    let limits = Limits { streams: 1, drain: Duration::from_secs(60), ..Limits::default() };
    let mut service = Service::start_with(With { limits, ..With::default() });
    let stream = opened(&service);
    service.get("/tasks/events?SECRET=1").is_problem(400, "bad_query");
    assert_eq!(service.get("/tasks/events").is_problem(503, "too_many_streams").header("retry-after"), "5");
    let stopping = Instant::now();
    service.stop();
    assert!(stopping.elapsed() < Duration::from_secs(30), "it waited for a stream that never ends");
    assert!(stream.rest().ends_with("0\r\n\r\n"));
}

#[test]
fn a_task_of_the_same_name_is_still_there_by_another_spelling() {
    let service = Service::start();
    service.write("events/metadata.json", r#"{"status":"created"}"#);
    assert_eq!(service.get("/tasks/%65vents").json()["task"]["task_id"], "events");
    assert_eq!(service.get("/tasks/events/logs").json()["metadata"]["status"], "created");
}
