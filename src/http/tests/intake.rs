//! `POST /events`.

use super::*;

fn taken(service: &Service) -> Vec<Vec<(String, String)>> {
    let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let taken = service.stream.taken.lock().unwrap();
    taken.iter().map(|fields| fields.iter().map(|(name, value)| (text(name), text(value))).collect()).collect()
}

#[test]
fn one_event_an_array_or_lines_go_in_with_one_call() {
    let service = Service::start();
    let one = br#"{"type":"task:output","task_id":"t","timestamp":"2026-01-01T00:00:00Z","data":{"content":"x"}}"#;
    let answer = service.post("/events", one);
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"ids":["1000-0"]}"#));
    let expected = [
        ("type", "task:output"),
        ("task_id", "t"),
        ("timestamp", "2026-01-01T00:00:00Z"),
        ("data", r#"{"content":"x"}"#),
    ];
    assert_eq!(taken(&service)[0], expected.map(|(name, value)| (name.to_owned(), value.to_owned())));

    let answer = service.post("/events", br#"[{"type":"a:b"},{"type":"c:d"}]"#);
    assert_eq!(answer.text(), r#"{"ids":["1001-0","1002-0"]}"#);
    let ndjson = [("Content-Type", "application/x-ndjson")];
    let answer =
        service.ask("POST", "/events", &ndjson, b"{\"type\":\"a:b\"}\n{\"type\":\"c:d\"}\n{\"type\":\"e:f\"}\n");
    assert_eq!(answer.json()["ids"].as_array().unwrap().len(), 3);
    assert_eq!(service.stream.calls.load(Ordering::Relaxed), 3);
    assert!(taken(&service)[1].iter().any(|(name, value)| name == "timestamp" && value.ends_with('Z')));
    assert_eq!(service.post("/events", b"[]").json(), json!({"ids": []}));
}

#[test]
fn nothing_goes_in_when_one_has_no_shape() {
    let service = Service::start();
    for (body, code, names) in [
        (r#"[{"type":"a:b"},"SECRET"]"#, "not_an_object", "event 1 "),
        ("{\"type\":\"a:b\"}\n{\"SECRET\":", "not_json", "event 1 "),
        ("SECRET", "not_json", "event 0 "),
        ("{}", "not_an_object", "event 0 "),
        (" ", "no_event", "no event"),
    ] {
        let answer = service.post("/events", body.as_bytes());
        let detail = answer.is_problem(400, code).json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(names), "{detail}");
    }
    assert_eq!(service.stream.calls.load(Ordering::Relaxed), 0);
}

#[test]
fn a_stream_that_refuses_is_told_apart() {
    let service = Service::start();
    let fail_with = |error| *service.stream.fail.lock().unwrap() = Some(error);
    fail_with(SourceError::TooLarge { size: 20, limit: 10 });
    service.post("/events", b"{\"type\":\"a:b\"}").is_problem(413, "event_too_large");
    fail_with(SourceError::Config("SECRET host".to_owned()));
    let answer = service.post("/events", b"{\"type\":\"a:b\"}");
    assert_eq!(answer.is_problem(503, "stream_unavailable").header("retry-after"), "1");
    assert_eq!(service.post("/events", b"{\"type\":\"a:b\"}").status, 200);
}
