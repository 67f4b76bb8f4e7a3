//! Logs and files.

use super::*;

pub(super) fn a_task(service: &Service) {
    service.write("t1/metadata.json", r#"{"task_id":"t1","status":"completed","created_at":"2026-01-01T00:00:00Z","started_at":"2026-01-01T00:00:01Z","completed_at":"2026-01-01T00:00:02Z","annotations":{"status":"no"}}"#);
    service.write("t1/01-input.json", r#"{"message":"héllo"}"#);
    service.write("t1/02-webhook-flow.jsonl", "{\"stage\":\"received\"}\n");
    service.write("t1/03-agent-output.jsonl", "{\"content\":\"a\"}\n{\"content\":\"b\", \"n\": 1.10}\n");
    service.write("t1/03-user-inputs.jsonl", "{\"content\":\"yes\"}\n");
    service.write("t1/04-final-result.json", "{\n  \"success\": true\n}");
    service.write("t1/05-other-events.jsonl", "{\"x\":1}\n");
    service.write("t1/usage.json", "{}");
    service.write("t1/.state", "internal");
}

#[test]
fn logs_have_the_predecessors_body() {
    let service = Service::start();
    a_task(&service);
    let answer = service.get("/tasks/t1/logs");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    assert_eq!(answer.header("x-skipped-records"), "");
    let text = answer.text();
    let keys: Vec<_> = answer.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["metadata", "input", "webhook_flow", "agent_output", "user_inputs", "final_result"]);
    // Records are passed on as written, numbers included.
    assert!(text.contains(r#""agent_output":[{"content":"a"},{"content":"b", "n": 1.10}]"#), "{text}");
    assert!(text.contains(r#""input":{"message":"héllo"}"#), "{text}");
}

#[test]
fn logs_hold_only_what_exists() {
    let service = Service::start();
    assert_eq!(service.get("/tasks/t1/logs").status, 404);
    assert!(is_empty_folder(service.logs.path()), "reading creates nothing");
    service.write("t1/.state", "");
    assert_eq!(service.get("/tasks/t1/logs").text(), "{}");
    service.write("t1/03-agent-output.jsonl", "");
    assert_eq!(service.get("/tasks/t1/logs").text(), r#"{"agent_output":[]}"#);
    for path in
        ["/tasks/other/logs", "/tasks/..%2ft1/logs", "/tasks/%ff/logs", "/tasks/.state/logs", "/tasks/t1%00/logs"]
    {
        let answer = service.get(path);
        assert_eq!((answer.status, answer.text().as_str()), (404, r#"{"detail":"Task not found"}"#), "{path}");
    }
}

#[test]
fn one_bad_record_spoils_nothing() {
    let service = Service::start();
    service.write("t1/metadata.json", "{torn");
    service.write(
        "t1/03-agent-output.jsonl",
        b"{\"n\":1}\nnot json\n\n{\"n\":2}\n\xff\xff\n{\"n\":\n{\"n\":3} \n{\"n\":4}\n{\"torn\":".as_slice(),
    );
    let answer = service.get("/tasks/t1/logs");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-skipped-records"), "4");
    assert_eq!(answer.json(), json!({"agent_output": [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]}));
    service.write("t2/03-agent-output.jsonl", "garbage\n");
    assert_eq!(service.get("/tasks/t2/logs").text(), r#"{"agent_output":[]}"#);
}

#[test]
fn a_large_task_is_streamed_and_a_larger_one_refused() {
    let limits = Limits { logs_body: 40_000_000, ..Limits::default() };
    let service = Service::start_with(With { limits, ..With::default() });
    let record = format!("{{\"content\":\"{}\"}}\n", "x".repeat(99_986));
    service.write("t1/03-agent-output.jsonl", record.repeat(300));
    let answer = service.get("/tasks/t1/logs");
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    assert_eq!(answer.json()["agent_output"].as_array().unwrap().len(), 300);
    service.write("t1/02-webhook-flow.jsonl", record.repeat(110));
    service.get("/tasks/t1/logs").is_problem(413, "logs_too_large");
    assert_eq!(service.get("/tasks/t1/files/02-webhook-flow.jsonl").body.len(), record.len() * 110);
}

#[test]
fn files_are_listed_without_internals() {
    let service = Service::start();
    a_task(&service);
    fs::create_dir(service.logs.path().join("tasks/t1/folder")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", service.logs.path().join("tasks/t1/link.json")).unwrap();
    let files = service.get("/tasks/t1/files").json();
    let files = files["files"].as_array().unwrap();
    let names: Vec<_> = files.iter().map(|file| file["name"].as_str().unwrap()).collect();
    let expected = [
        "01-input.json",
        "02-webhook-flow.jsonl",
        "03-agent-output.jsonl",
        "03-user-inputs.jsonl",
        "04-final-result.json",
        "05-other-events.jsonl",
        "metadata.json",
        "usage.json",
    ];
    assert_eq!(names, expected);
    assert_eq!((&files[2]["size"], &files[2]["lines"]), (&json!(43), &json!(2)));
    assert!(files[0].get("lines").is_none());
    assert!(files[0]["modified"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    for name in ["link.json", "folder", ".state", "..", "..%2ft1%2fmetadata.json", "nothing.json", "%2e%2e"] {
        service.get(&format!("/tasks/t1/files/{name}")).is_problem(404, "file_not_found");
    }
    service.get("/tasks/t2/files").is_problem(404, "task_not_found");
    service.get("/tasks/t2/files/metadata.json").is_problem(404, "task_not_found");
}

#[test]
fn a_folder_that_is_a_link_is_no_task() {
    let service = Service::start();
    a_task(&service);
    let tasks = service.logs.path().join("tasks");
    std::os::unix::fs::symlink("t1", tasks.join("t2")).unwrap();
    std::os::unix::fs::symlink("/etc", tasks.join("t3")).unwrap();
    assert_eq!(service.get("/tasks/t2/logs").status, 404);
    assert_eq!(service.get("/tasks/t3/files").status, 404);
    assert_eq!(service.get("/tasks/t2").status, 404);
}

#[test]
fn files_come_raw_in_whole_or_in_ranges() {
    let service = Service::start();
    service.write("t1/04-final-result.json", "{}");
    service.write("t1/03-agent-output.jsonl", "0123456789\n{\"torn");
    let path = "/tasks/t1/files/03-agent-output.jsonl";
    let whole = service.get(path);
    assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789\n"));
    assert_eq!(whole.header("content-type"), "application/x-ndjson");
    assert_eq!(whole.header("x-content-type-options"), "nosniff");
    assert_eq!(whole.header("cache-control"), "no-cache");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert!(whole.header("last-modified").ends_with(" GMT"), "{whole:?}");
    let etag = whole.header("etag").to_owned();

    let ask = |headers: &[_]| service.ask("GET", path, headers, b"");
    let part = ask(&[("Range", "bytes=3-5")]);
    assert_eq!((part.status, part.text().as_str(), part.header("content-range")), (206, "345", "bytes 3-5/11"));
    let tail = ask(&[("Range", "bytes=9-")]);
    assert_eq!((tail.status, tail.text().as_str(), tail.header("content-range")), (206, "9\n", "bytes 9-10/11"));
    let beyond = ask(&[("Range", "bytes=11-")]);
    beyond.is_problem(416, "range_not_satisfiable");
    assert_eq!(beyond.header("content-range"), "bytes */11");
    for ignored in ["bytes=0-1,3-4", "bytes=x", "pages=1-2"] {
        assert_eq!(ask(&[("Range", ignored)]).status, 200, "{ignored}");
    }
    let several = format!("\"x\", W/{etag}");
    let known = ask(&[("If-None-Match", &several)]);
    assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, etag.as_str()));
    assert_eq!(ask(&[("If-Range", &etag), ("Range", "bytes=0-0")]).status, 206);
    assert_eq!(ask(&[("If-Range", "\"old\""), ("Range", "bytes=0-0")]).status, 200);

    let head = service.ask("HEAD", path, &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!((head.header("content-length"), head.header("etag")), ("11", etag.as_str()));

    service.write("t1/03-agent-output.jsonl", "0123456789\n{}\n");
    let grown = service.get(path);
    assert_eq!(grown.text(), "0123456789\n{}\n");
    assert_ne!(grown.header("etag"), etag);
}

#[test]
fn a_record_is_never_shown_torn() {
    let service = Service::start();
    let path = "/tasks/t1/files/03-agent-output.jsonl";
    // No newline within several blocks from the end.
    let record = format!("{{\"c\":\"{}\"}}\n", "y".repeat(300_000));
    let whole = record.repeat(2);
    for cut in [0, 1, record.len() - 1, record.len(), record.len() + 1, whole.len() - 1, whole.len()] {
        service.write("t1/03-agent-output.jsonl", &whole.as_bytes()[..cut]);
        let expected = cut / record.len();
        assert_eq!(service.get(path).body.len(), expected * record.len(), "{cut}");
        assert_eq!(service.get("/tasks/t1/logs").json()["agent_output"].as_array().unwrap().len(), expected, "{cut}");
    }
}
