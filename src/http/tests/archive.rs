//! Archives over HTTP; what is in them is looked at beside the reader.

use std::time::Instant;

use super::*;

const PATH: &str = "/tasks/t1/archive";

fn noise(size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::new();
    let mut noise = vec![0; size];
    random.fill(&mut noise);
    noise
}

fn begun(service: &Service, path: &str) -> TcpStream {
    let mut connection = service.connect();
    connection.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    connection.read_exact(&mut [0; 1000]).unwrap();
    connection
}

#[test]
fn an_archive_is_named_typed_and_known_again() {
    let service = Service::start();
    service.write("t1/metadata.json", "{}");
    service.write("t1/03-agent-output.jsonl", "{\"n\":1}\n");
    for (query, kind, ending) in [
        ("", "application/gzip", "tar.gz"),
        ("?format=tar.gz", "application/gzip", "tar.gz"),
        ("?format=tar.zst", "application/zstd", "tar.zst"),
        ("?format=zip", "application/zip", "zip"),
    ] {
        let path = format!("{PATH}{query}");
        let answer = service.get(&path);
        assert_eq!((answer.status, answer.header("content-type")), (200, kind));
        assert_eq!(answer.header("content-disposition"), format!("attachment; filename=\"t1-logs.{ending}\""));
        assert_eq!((answer.header("cache-control"), answer.header("content-encoding")), ("no-cache", ""));
        assert!(answer.body == service.get(&path).body && answer.body.len() > 50);
        let head = service.ask("HEAD", &path, &[], b"");
        assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, answer.header("etag")));
        let known = service.ask("GET", &path, &[("If-None-Match", answer.header("etag"))], b"");
        assert_eq!((known.status, known.body.len()), (304, 0));
        service.write("t1/metadata.json", format!("{{\"q\":\"{query}\"}}"));
        assert_eq!(service.ask("GET", &path, &[("If-None-Match", answer.header("etag"))], b"").status, 200);
    }
    let gz = service.get(PATH);
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&*gz.body).read_to_end(&mut plain).unwrap();
    assert!(plain.starts_with(b"t1/03-agent-output.jsonl\0"));
}

#[test]
fn an_archive_holds_the_records_that_are_asked_for() {
    let service = Service::start();
    service.write("t1/metadata.json", "{}");
    service.write("t1/03-agent-output.jsonl", "{\"type\":\"a\",\"c\":\"x\"}\n{\"type\":\"b\",\"c\":\"y\"}\n");
    let plain = |query: &str| {
        let mut plain = String::new();
        let answer = service.get(&format!("{PATH}?{query}"));
        flate2::read::GzDecoder::new(&*answer.body).read_to_string(&mut plain).unwrap();
        (plain, answer.header("etag").to_owned())
    };
    let (all, etag) = plain("");
    assert!(all.contains("\"x\"") && all.contains("\"y\"") && all.contains("metadata.json"));
    for query in ["type=a", "q=x", "regex=%5Ex%24", "type=a,c&since=2000-01-01T00:00:00Z&file=03-agent-output.jsonl"] {
        let (some, other) = plain(query);
        let dated = query.contains("since");
        assert!(some.contains("\"x\"") != dated && !some.contains("\"y\""), "{query}: {some}");
        assert_eq!(some.contains("metadata.json"), !query.contains("file="), "{query}");
        assert_ne!(other, etag);
    }
}

#[test]
fn what_is_no_archive_is_a_problem() {
    let service = Service::start();
    service.write("t1/metadata.json", "{}");
    for query in [
        "format=rar",
        "format=",
        "format=TAR.GZ",
        "format=zip&format=zip",
        "formt=zip",
        "limit=1",
        "tail=1",
        "since=soon",
        "regex=(",
        "file=metadata.json",
        "file=..%2fx.jsonl",
    ] {
        service.get(&format!("{PATH}?{query}")).is_problem(400, "bad_query");
    }
    for id in ["t2", "..", "%2e%2e", "t1%00", "_webhooks", "%ff"] {
        service.get(&format!("/tasks/{id}/archive")).is_problem(404, "task_not_found");
    }
    service.post(PATH, b"").is_problem(405, "wrong_method");
}

#[test]
fn an_archive_that_cannot_be_what_it_promised_breaks() {
    let service = Service::start();
    // More than the socket buffers of both ends hold.
    service.write("t1/blob.bin", noise(32 << 20));
    for format in ["tar.gz", "tar.zst", "zip"] {
        let mut connection = begun(&service, &format!("{PATH}?format={format}"));
        let path = service.logs.path().join("tasks/t1/blob.bin");
        let cut = fs::OpenOptions::new().write(true).open(&path).unwrap();
        cut.set_len(1000).unwrap();
        let mut rest = Vec::new();
        let end = connection.read_to_end(&mut rest);
        assert!(!rest.ends_with(b"\r\n0\r\n\r\n"), "{format}: it has a proper end ({end:?})");
        cut.set_len(32 << 20).unwrap();
    }
}

#[test]
fn archives_are_bounded_and_a_client_that_is_gone_frees_its_place() {
    let limits = Limits { archives: 1, ..Limits::default() };
    let service = Service::start_with(With { limits, ..With::default() });
    service.write("t1/blob.bin", noise(32 << 20));
    let taking = begun(&service, PATH);
    assert_eq!(service.get(PATH).is_problem(503, "busy").header("retry-after"), "5");
    drop(taking);
    let deadline = Instant::now() + Duration::from_secs(20);
    while service.ask("HEAD", PATH, &[], b"").status != 200 {
        assert!(Instant::now() < deadline, "the place is never free again");
        std::thread::yield_now();
    }
}
