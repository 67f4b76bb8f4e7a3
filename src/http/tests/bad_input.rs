//! Bad ranges are in `reading`; here: paths, methods, queries, huge bodies, slow clients, too many clients.

use std::time::Instant;

use super::*;

fn quick() -> With {
    let limits = Limits {
        head_time: Duration::from_millis(300),
        body_idle: Duration::from_millis(300),
        write_stall: Duration::from_millis(300),
        ..Limits::default()
    };
    With { limits, ..With::default() }
}

#[test]
fn unknown_paths_and_wrong_methods() {
    let service = Service::start();
    for path in ["/task", "/tasks/", "/tasks/t1/logs/", "/tasks/a/b/logs", "//tasks", "/SECRET"] {
        service.get(path).is_problem(404, "no_such_route");
    }
    for (method, path, allow) in [
        ("POST", "/health", "GET,HEAD"),
        ("DELETE", "/tasks/t1/logs", "GET,HEAD"),
        ("PUT", "/tasks/t1/files/x", "GET,HEAD"),
        ("GET", "/events", "POST"),
        ("BREW", "/metrics", "GET,HEAD"),
    ] {
        let answer = service.ask(method, path, &[], b"");
        assert_eq!(answer.is_problem(405, "wrong_method").header("allow"), allow, "{method} {path}");
    }
}

#[test]
fn bad_queries() {
    let service = Service::start();
    for query in ["limit=0", "limit=1001", "limit=x", "limit=-1", "limit=", "limt=5", "limit=1&limit=2", "after=%0a"] {
        for path in ["/tasks", "/webhooks"] {
            service.get(&format!("{path}?{query}")).is_problem(400, "bad_query");
        }
    }
    let long = format!("q={}", "x".repeat(201));
    let many = format!("source={}", "x,".repeat(101));
    for query in [
        "sort=name",
        "sort=--id",
        "sort=",
        "sort=id&sort=cost",
        "status=finished",
        "status=running,SECRET",
        "since=SECRET",
        "until=15",
        "since=",
        "errors=yes",
        "errors=",
        "q=a&q=b",
        "sort=cost&after=t1",
        "after=t1&sort=-created",
        "SECRET=1",
        &long,
        &many,
    ] {
        service.get(&format!("/tasks?{query}")).is_problem(400, "bad_query");
    }
    for query in [
        "after=zzz&limit=1000",
        "after=",
        "after=-~t1",
        "after=0123456789abcdef~t1",
        "sort=id&after=-~t1",
        "q=",
        "status=",
        "status=running,,failed&status=created",
        "source=SECRET",
        "errors=false",
        "since=15m&until=2026-01-01T00:00:00Z",
    ] {
        assert_eq!(service.get(&format!("/tasks?{query}")).status, 200, "{query}");
    }
}

#[test]
fn huge_bodies_are_refused_before_and_while_they_come() {
    let limits = Limits { events_body: 100_000, events: 10, ..Limits::default() };
    let service = Service::start_with(With { limits, ..With::default() });
    let huge = format!("{{\"type\":\"{}\"}}", "SECRET".repeat(100_000));
    service.post("/events", huge.as_bytes()).is_problem(413, "body_too_large");
    // The same without a length.
    let mut connection = service.connect();
    connection.write_all(b"POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let mut sent = Ok(());
    for _ in 0..20 {
        sent = sent.and_then(|()| connection.write_all(format!("2710\r\n{}\r\n", "x".repeat(10_000)).as_bytes()));
    }
    read_answer(&mut connection).is_problem(413, "body_too_large");
    service.post("/events", "{\"a\":1}".repeat(11).as_bytes()).is_problem(413, "too_many_events");
    assert_eq!(service.stream.calls.load(Ordering::Relaxed), 0);
    assert_eq!(service.post("/events", b"{\"a\":1}").status, 200);
}

#[test]
fn bodies_in_flight_are_bounded_together() {
    let limits = Limits { events_in_flight: 1000, ..Limits::default() };
    let service = Service::start_with(With { limits, ..With::default() });
    let half = format!("{{\"a\":\"{}", "x".repeat(900));
    let length = half.len() + 2;
    let head = format!("POST /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    let other = format!("{{\"a\":\"{}\"}}", "y".repeat(500));
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut waiting = loop {
        let mut waiting = service.connect();
        waiting.write_all(format!("{head}{half}").as_bytes()).unwrap();
        let mut answers = (0..200).map(|_| service.post("/events", other.as_bytes()));
        if let Some(refused) = answers.find(|answer| answer.status != 200) {
            assert_eq!(refused.is_problem(503, "busy").header("retry-after"), "1");
            break waiting;
        }
        // The other one came first, then it is this one that was refused.
        read_answer(&mut waiting).is_problem(503, "busy");
        assert!(Instant::now() < deadline);
    };
    waiting.write_all(b"\"}").unwrap();
    assert_eq!(read_answer(&mut waiting).status, 200);
    // Its share is free again.
    assert_eq!(service.post("/events", other.as_bytes()).status, 200);
}

#[test]
fn slow_clients_are_cut() {
    let service = Service::start_with(quick());
    service.write("t1/blob.bin", vec![7; 32 << 20]);

    let mut head = service.connect();
    head.write_all(b"GET /health HTTP/1.1\r\nHost:").unwrap();
    let mut silent = service.connect();
    let mut body = service.connect();
    body.write_all(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"type\":").unwrap();
    let mut taking_nothing = service.connect();
    taking_nothing.write_all(b"GET /tasks/t1/files/blob.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut dripping = service.connect();
    dripping.write_all(b"GET /health HTTP/1.1\r\n").unwrap();

    read_answer(&mut body).is_problem(408, "body_too_slow");
    let mut rest = Vec::new();
    let ended =
        |read: std::io::Result<usize>| read.is_ok() || read.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset;
    assert!(ended(head.read_to_end(&mut rest)), "cut within the client's own deadline");
    assert!(ended(silent.read_to_end(&mut rest)));
    // Bytes now and then extend neither the deadline of a head nor that of an answer that nobody takes.
    for connection in [&mut dripping, &mut taking_nothing] {
        let started = Instant::now();
        while connection.write_all(b"X").is_ok() {
            assert!(started.elapsed() < Duration::from_secs(10), "still open");
            std::thread::yield_now();
        }
    }
    let mut got = Vec::new();
    assert!(ended(taking_nothing.read_to_end(&mut got)));
    assert!(got.len() < 32 << 20, "{}", got.len());
    assert_eq!(service.get("/health").status, 200);
}

#[test]
fn a_body_that_drips_is_cut_too() {
    let limits = Limits { body_time: Duration::from_millis(300), ..Limits::default() };
    let service = Service::start_with(With { limits, ..With::default() });
    let mut dripping = service.connect();
    dripping.write_all(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n").unwrap();
    let mut answering = dripping.try_clone().unwrap();
    let answer = std::thread::spawn(move || read_answer(&mut answering));
    let started = Instant::now();
    while !answer.is_finished() {
        assert!(started.elapsed() < Duration::from_secs(10), "still open");
        // Refused once the service has cut the connection.
        drop(dripping.write_all(b" "));
        std::thread::yield_now();
    }
    answer.join().unwrap().is_problem(408, "body_too_slow");
    assert_eq!(service.stream.calls.load(Ordering::Relaxed), 0);
}

#[test]
fn connections_are_bounded() {
    let limits = Limits { connections: 2, head_time: Duration::from_secs(1), ..Limits::default() };
    let service = Service::start_with(With { limits, ..With::default() });
    let silent = [service.connect(), service.connect()];
    let started = Instant::now();
    // Waits in the kernel's queue until the silent ones are cut.
    assert_eq!(service.get("/health").status, 200);
    assert!(started.elapsed() > Duration::from_millis(500), "{:?}", started.elapsed());
    drop(silent);
}

#[test]
fn garbage_is_no_request() {
    let service = Service::start();
    for garbage in [b"\x16\x03\x01\x02\x00\x01\x00".as_slice(), b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"] {
        let mut connection = service.connect();
        connection.write_all(garbage).unwrap();
        assert_eq!(read_answer(&mut connection).status, 400);
    }
    let mut connection = service.connect();
    let sent = connection.write_all(format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000)).as_bytes());
    let answer = read_answer(&mut connection);
    assert_eq!(answer.status, 431, "{sent:?} {answer:?}");
    assert_eq!(service.get("/health").status, 200);
}
