//! What surrounds all routes: compression, tokens with scopes, hosts, foreign origins, each client's share, the access log.

use std::io::{BufRead, BufReader};

use super::*;

const RECORDS: &str = "/tasks/t1/files/03-agent-output.jsonl";

fn decoded(coding: &str, bytes: &[u8]) -> String {
    let mut text = Vec::new();
    // What came before the end can be read without it.
    drop(match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut text),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text),
        "zstd" => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut text),
        "" => bytes.to_vec().as_slice().read_to_end(&mut text),
        other => panic!("{other}"),
    });
    String::from_utf8(text).unwrap()
}

fn records(count: usize) -> String {
    (0..count).map(|n| format!("{{\"type\":\"output\",\"content\":\"record {n}\",\"id\":\"{n}-1\"}}\n")).collect()
}

#[test]
fn text_is_compressed_as_the_client_accepts_it() {
    let service = Service::start();
    service.write("t1/04-final-result.json", "{}");
    service.write("t1/03-agent-output.jsonl", records(5000));
    for path in [
        RECORDS,
        "/tasks/t1/logs",
        "/tasks/t1/logs?format=ndjson",
        "/tasks/t1/logs?limit=900",
        "/metrics?format=prometheus",
    ] {
        let plain = service.get(path);
        assert_eq!(plain.header("content-encoding"), "");
        assert_eq!(plain.header("vary"), "Accept, Accept-Encoding, Authorization", "{path}");
        for coding in ["gzip", "br", "zstd"] {
            let packed = service.ask("GET", path, &[("Accept-Encoding", coding)], b"");
            assert_eq!((packed.status, packed.header("content-encoding")), (200, coding), "{path}");
            assert_eq!((packed.header("content-length"), packed.header("accept-ranges")), ("", ""));
            assert_eq!(packed.header("content-type"), plain.header("content-type"));
            assert!(packed.body.len() * 3 < plain.body.len() || path.starts_with("/metrics"), "{path} by {coding}");
            if !path.starts_with("/metrics") {
                assert!(decoded(coding, &packed.body) == plain.text(), "{path} by {coding}");
            }
            let head = service.ask("HEAD", path, &[("Accept-Encoding", coding)], b"");
            assert_eq!(
                (head.header("content-encoding"), head.header("content-length"), head.body.len()),
                (coding, "", 0)
            );
        }
    }
}

#[test]
fn what_is_packed_or_a_part_or_small_or_events_is_sent_as_it_is() {
    let service = Service::start();
    service.write("t1/04-final-result.json", "{}");
    service.write("t1/03-agent-output.jsonl", records(5000));
    service.write("t1/blob.bin", vec![0; 100_000]);
    service.write("t1/small.json", "{}");
    for (path, range) in [
        (RECORDS, "bytes=0-90000"),
        ("/tasks/t1/files/blob.bin", ""),
        ("/tasks/t1/files/small.json", ""),
        ("/tasks/t1/archive", ""),
        ("/tasks/t1/archive?format=zip", ""),
        ("/tasks/t1/stream", ""),
        ("/tasks/t1/logs?format=sse", ""),
        ("/health", ""),
    ] {
        let accept = ("Accept-Encoding", "gzip, br, zstd");
        let headers = if range.is_empty() { vec![accept] } else { vec![accept, ("Range", range)] };
        let answer = service.ask("GET", path, &headers, b"");
        assert_eq!((answer.header("content-encoding"), answer.status / 100), ("", 2), "{path}");
        assert_eq!(answer.header("vary"), "Accept, Accept-Encoding, Authorization", "{path}");
    }
}

#[test]
fn a_compressed_file_is_known_again_by_what_it_says() {
    let service = Service::start();
    service.write("t1/03-agent-output.jsonl", records(5000));
    let strong = service.get(RECORDS).header("etag").to_owned();
    let gzip = ("Accept-Encoding", "gzip");
    let weak = service.ask("GET", RECORDS, &[gzip], b"").header("etag").to_owned();
    assert_eq!(weak, format!("W/{strong}"));
    for (etag, told) in [(&weak, &weak), (&strong, &strong)] {
        let known = service.ask("GET", RECORDS, &[gzip, ("If-None-Match", etag)], b"");
        assert_eq!((known.status, known.header("etag")), (304, told.as_str()));
    }
    // A range of a compressed file would not fit the plain one.
    let other = service.ask("GET", RECORDS, &[gzip, ("If-Range", &weak), ("Range", "bytes=0-9")], b"");
    assert_eq!((other.status, other.header("content-encoding")), (200, "gzip"));
    let part = service.ask("GET", RECORDS, &[gzip, ("If-Range", &strong), ("Range", "bytes=0-9")], b"");
    assert_eq!((part.status, part.header("content-encoding"), part.body.len()), (206, "", 10));
}

#[test]
fn a_stream_is_not_held_back_by_its_compression() {
    for coding in ["gzip", "br", "zstd"] {
        let service = Service::start();
        service.write("t1/03-agent-output.jsonl", records(1));
        let mut connection = service.connect();
        let path = "/tasks/t1/stream?format=ndjson";
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {coding}\r\n\r\n");
        connection.write_all(head.as_bytes()).unwrap();
        let mut from = BufReader::new(connection);
        let mut line = String::new();
        while !line.ends_with("\r\n\r\n") {
            assert_ne!(from.read_line(&mut line).unwrap(), 0);
        }
        assert!(line.to_lowercase().contains(&format!("content-encoding: {coding}\r\n")), "{line}");
        assert!(line.to_lowercase().contains("x-accel-buffering: no\r\n"), "{line}");
        let mut packed = Vec::new();
        for count in 1..5 {
            while !decoded(coding, &packed).contains(&format!("record {}\"", count - 1)) {
                let mut length = String::new();
                from.read_line(&mut length).unwrap();
                let length = usize::from_str_radix(length.trim(), 16).unwrap();
                assert_ne!(length, 0, "it ended");
                let mut piece = vec![0; length + 2];
                from.read_exact(&mut piece).unwrap();
                packed.extend_from_slice(&piece[..length]);
            }
            service.write("t1/03-agent-output.jsonl", records(count + 1));
        }
    }
}

#[test]
fn tokens_are_good_for_their_scopes() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("tokens");
    fs::write(
        &path,
        "page read read-token\nci ingest ingest-token\nroot admin admin-token\nboth read,admin both-token\n",
    )
    .unwrap();
    let service = Service::start_with(With { tokens: Some(path), token: Some("all"), ..With::default() });
    service.require("redact");
    service.write("t1/metadata.json", "{}");
    let event = br#"{"type":"task:output","task_id":"t1","data":{"content":"x"}}"#;
    for (token, reads, posts, forgets) in [
        ("all", 200, 200, 404),
        ("read-token", 200, 403, 403),
        ("ingest-token", 403, 200, 403),
        ("admin-token", 403, 403, 404),
        ("both-token", 200, 403, 404),
        ("no-token", 401, 401, 401),
    ] {
        let bearer = format!("Bearer {token}");
        let ask = |method, path, body| service.ask(method, path, &[("Authorization", &bearer)], body);
        for path in
            ["/tasks", "/tasks/t1/logs", "/tasks/t1/files/metadata.json", "/tasks/t1/archive", "/metrics", "/plugins"]
        {
            assert_eq!(ask("GET", path, b"").status, reads, "{token} {path}");
        }
        assert_eq!(ask("POST", "/events", event).status, posts, "{token}");
        let forgotten = ask("POST", "/plugins/other/forget", b"");
        assert_eq!(forgotten.status, forgets, "{token}");
        if forgets == 403 {
            forgotten.is_problem(403, "scope_missing");
            assert!(forgotten.header("www-authenticate").ends_with("error=\"insufficient_scope\", scope=\"admin\""));
        }
        assert_eq!(ask("GET", "/health", b"").status, 200);
    }
    service.get("/tasks").is_problem(401, "unauthorized");
}

#[test]
fn a_page_that_points_its_name_here_reads_nothing() {
    let service = Service::start_with(With { hosts: Some(&["logs.example"]), ..With::default() });
    service.write("t1/metadata.json", "{}");
    let ask = |host: &str| {
        let mut connection = service.connect();
        let head = format!("GET /tasks HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        connection.write_all(head.as_bytes()).unwrap();
        read_answer(&mut connection)
    };
    for own in ["localhost", "127.0.0.1:8090", "[::1]:8090", "logs.example"] {
        assert_eq!(ask(own).status, 200, "{own}");
    }
    for foreign in ["evil.example", "evil.example:8090", "localhost.evil.example"] {
        ask(foreign).is_problem(421, "unknown_host");
    }
}

#[test]
fn pages_of_allowed_origins_read_and_others_do_not() {
    let service = Service::start_with(With {
        origins: &["https://page.example"],
        token: Some("s3cret-token"),
        ..With::default()
    });
    let preflight = |service: &Service, origin: &str| {
        let asks = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "authorization"),
        ];
        service.ask("OPTIONS", "/tasks", &asks, b"")
    };
    let allowed = preflight(&service, "https://page.example");
    assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (200, "https://page.example"));
    assert!(allowed.header("access-control-allow-headers").contains("authorization"), "{allowed:?}");
    assert_eq!(allowed.header("access-control-allow-methods"), "GET,HEAD,POST");
    assert_eq!(allowed.header("access-control-allow-credentials"), "");
    assert_eq!(preflight(&service, "https://evil.example").header("access-control-allow-origin"), "");

    let origin = ("Origin", "https://page.example");
    let read = service.ask("GET", "/tasks", &[origin, ("Authorization", "Bearer s3cret-token")], b"");
    assert_eq!((read.status, read.header("access-control-allow-origin")), (200, "https://page.example"));
    assert!(read.header("access-control-expose-headers").contains("etag"), "{read:?}");
    let vary = read.header("vary").to_lowercase();
    assert!(["accept-encoding", "authorization", "origin"].iter().all(|name| vary.contains(name)), "{vary}");
    let refused = service.ask("GET", "/tasks", &[origin], b"");
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, "https://page.example"));

    let closed = Service::start();
    let refused = preflight(&closed, "https://page.example");
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (405, ""));
    assert_eq!(closed.ask("GET", "/tasks", &[origin], b"").header("access-control-allow-origin"), "");
}

#[test]
fn a_client_has_its_share_of_streams_and_gets_it_back() {
    let limits = Limits { client_streams: 1, ..Limits::default() };
    let service = Service::start_with(With { limits, ..With::default() });
    service.write("t1/03-agent-output.jsonl", records(1));
    let follow = || {
        let mut connection = service.connect();
        connection.write_all(b"GET /tasks/t1/stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        connection
    };
    let mut first = follow();
    first.read_exact(&mut [0; 100]).unwrap();
    let refused = read_answer(&mut follow());
    assert_eq!(refused.is_problem(429, "too_many_streams").header("retry-after"), "5");
    assert_eq!(service.get("/tasks").status, 200, "what has an end is no stream");
    drop(first);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let mut status = [0; 12];
        follow().read_exact(&mut status).unwrap();
        if &status == b"HTTP/1.1 200" {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "its place is never free again");
    }
}

#[test]
fn the_access_log_holds_neither_queries_nor_tokens() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("tokens");
    fs::write(&path, "page read SECRET-token\n").unwrap();
    let (parts, ..) = parts(&With { tokens: Some(path), ..With::default() }, temp.path());
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(subscriber.finish(), || {
        let service = hyper_util::service::TowerToHyperService::new(router(parts, CancellationToken::new()));
        for token in ["SECRET-token", "SECRET-other"] {
            let request = axum::http::Request::get("/tasks?q=SECRET&token=SECRET");
            let request = request.header("Authorization", format!("Bearer {token}"));
            let request = request.header("X-Request-Id", "asked-1").body(axum::body::Body::empty()).unwrap();
            runtime.block_on(hyper::service::Service::call(&service, request)).unwrap();
        }
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.matches("http.path=\"/tasks\"").count() == 2 && log.contains("asked-1"), "{log}");
    assert!(log.contains("http.token=\"page\"") && !log.contains("SECRET"), "{log}");
}
