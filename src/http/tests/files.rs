//! Single files: conditions, versions, names to save under, ranges of what grows, names that must lead nowhere.

use std::io::{BufRead, BufReader};

use super::*;

const METADATA: &str = r#"{"task_id":"t1"}"#;
const RESULT: &str = r#"{"success":true}"#;
const PATH: &str = "/tasks/t1/files/03-agent-output.jsonl";

/// An answer that is read as it comes.
struct Coming {
    head: String,
    from: BufReader<TcpStream>,
}

impl Coming {
    fn ask(service: &Service, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut connection = service.connect();
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n", service.addr);
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        connection.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        let mut from = BufReader::new(connection);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(from.read_line(&mut head).unwrap(), 0, "{head}");
        }
        Self { head: head.to_lowercase(), from }
    }

    /// The next piece; empty at a proper end, `None` when the connection breaks.
    fn piece(&mut self) -> Option<String> {
        let mut length = String::new();
        self.from.read_line(&mut length).ok()?;
        let length = usize::from_str_radix(length.strip_suffix("\r\n")?, 16).unwrap();
        let mut piece = vec![0; length + 2];
        self.from.read_exact(&mut piece).ok()?;
        piece.truncate(length);
        Some(String::from_utf8(piece).unwrap())
    }
}

fn append(service: &Service, path: &str, text: &str) {
    let path = service.logs.path().join("tasks").join(path);
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn conditions_are_honoured() {
    let service = Service::start();
    service.write("t1/03-agent-output.jsonl", "0123456789\n");
    let whole = service.get(PATH);
    let (etag, modified) = (whole.header("etag").to_owned(), whole.header("last-modified").to_owned());
    let ask = |headers: &[(&str, &str)]| service.ask("GET", PATH, headers, b"");
    assert_eq!(ask(&[("If-Match", &etag)]).status, 200);
    ask(&[("If-Match", "\"other\"")]).is_problem(412, "precondition_failed");
    ask(&[("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")]).is_problem(412, "precondition_failed");
    let known = ask(&[("If-Modified-Since", &modified)]);
    assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, etag.as_str()));
    assert_eq!(ask(&[("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")]).status, 200);
    assert_eq!(ask(&[("If-Modified-Since", &modified), ("If-None-Match", "\"other\"")]).status, 200);
    // A condition comes before a range, a range that fits no version is none.
    assert_eq!(ask(&[("If-None-Match", &etag), ("Range", "bytes=0-1")]).status, 304);
    assert_eq!(ask(&[("If-Range", &modified), ("Range", "bytes=0-1")]).status, 200);
    assert_eq!(ask(&[("If-Range", &format!("W/{etag}")), ("Range", "bytes=0-1")]).status, 200);
    assert_eq!(ask(&[("If-Range", "\"other\""), ("Range", "bytes=99-")]).status, 200);
}

#[test]
fn a_head_has_the_head_of_the_whole_file() {
    let service = Service::start();
    service.write("t1/04-final-result.json", RESULT);
    service.write("t1/03-agent-output.jsonl", "0123456789\n");
    let whole = service.get(PATH);
    for headers in [&[][..], &[("Range", "bytes=0-1")], &[("Range", "bytes=99-")]] {
        let head = service.ask("HEAD", PATH, headers, b"");
        assert_eq!((head.status, head.body.len()), (200, 0), "{headers:?}");
        for name in ["content-length", "content-type", "etag", "last-modified", "cache-control", "accept-ranges"] {
            assert_eq!(head.header(name), whole.header(name), "{name}");
        }
    }
    let etag = whole.header("etag");
    assert_eq!(service.ask("HEAD", PATH, &[("If-None-Match", etag)], b"").status, 304);
    assert_eq!(service.ask("HEAD", "/tasks/t1/files/nothing.json", &[], b"").status, 404);
}

#[test]
fn an_address_with_a_version_is_kept_for_ever_and_is_never_another_version() {
    let service = Service::start();
    service.write("t1/metadata.json", METADATA);
    let path = "/tasks/t1/files/metadata.json";
    let etag = service.get(path).header("etag").to_owned();
    let version = |etag: &str| format!("{path}?etag={}", etag.replace('"', "%22"));
    for named in [etag.as_str(), etag.trim_matches('"')] {
        let kept = service.get(&version(named));
        assert_eq!((kept.status, kept.header("cache-control")), (200, "max-age=31536000, immutable"));
    }
    assert_eq!(service.ask("GET", &version(&etag), &[("Range", "bytes=0-1")], b"").status, 206);
    assert_eq!(service.get(path).header("cache-control"), "no-cache");
    service.write("t1/metadata.json", "{}");
    let gone = service.get(&version(&etag));
    assert_eq!(gone.is_problem(404, "version_not_found").header("cache-control"), "");
    for bad in ["?etag=1&etag=2", "?version=1", "?download=perhaps", "?download&download", "?%ff"] {
        service.get(&format!("{path}{bad}")).is_problem(400, "bad_query");
    }
}

#[test]
fn a_download_has_a_name_that_is_safe_to_save_under() {
    let service = Service::start();
    let name = |id: &str, query: &str| {
        let answer = service.get(&format!("/tasks/{id}/files/metadata.json{query}"));
        assert_eq!(answer.status, 200, "{id}");
        answer.header("content-disposition").to_owned()
    };
    service.write("t1/metadata.json", "{}");
    assert_eq!((name("t1", "").as_str(), name("t1", "?download=0").as_str()), ("", ""));
    for query in ["?download", "?download=", "?download=1", "?download=true"] {
        assert_eq!(name("t1", query), "attachment; filename=\"t1-metadata.json\"");
    }
    for (id, folder, expected) in [
        ("%2E%2E%2F%22%3B", "%2E.%2F%22%3B", "___"),
        ("..", "%2E.", ""),
        ("a:b%C3%A9", "a:b%C3%A9", "a_b_"),
        (&*"x".repeat(150), &*"x".repeat(150), &*"x".repeat(100)),
    ] {
        service.write(&format!("{folder}/metadata.json"), "{}");
        let id = if id == ".." { "%2E%2E" } else { id };
        assert_eq!(name(id, "?download"), format!("attachment; filename=\"{expected}-metadata.json\""));
    }
}

#[test]
fn a_live_range_goes_on_until_the_task_ends() {
    let service = Service::start();
    service.write("t1/metadata.json", METADATA);
    service.write("t1/03-agent-output.jsonl", "{\"n\":1}\n");
    let open = service.ask("GET", PATH, &[("Range", "bytes=0-")], b"");
    assert_eq!((open.status, open.header("content-range")), (206, "bytes 0-7/*"), "it has no length yet");
    let closed = service.ask("GET", PATH, &[("Range", "bytes=0-6")], b"");
    assert_eq!(closed.header("content-range"), "bytes 0-6/8");
    let head = service.ask("HEAD", PATH, &[("Range", "bytes=0-")], b"");
    assert_eq!((head.status, head.header("content-range"), head.body.len()), (206, "bytes 0-7/*", 0));

    let mut coming = Coming::ask(&service, PATH, &[("Range", "bytes=2-9007199254740991")]);
    assert!(coming.head.starts_with("http/1.1 206 "), "{}", coming.head);
    assert!(coming.head.contains("content-range: bytes 2-9007199254740991/*\r\n"), "{}", coming.head);
    assert!(coming.head.contains("cache-control: no-store\r\n") && !coming.head.contains("content-length"));
    assert_eq!(coming.piece().unwrap(), "n\":1}\n");
    append(&service, "t1/03-agent-output.jsonl", "{\"n\":2}\n{\"torn");
    assert_eq!(coming.piece().unwrap(), "{\"n\":2}\n");
    let mut from_the_end = Coming::ask(&service, PATH, &[("Range", "bytes=16-999999999999")]);
    append(&service, "t1/03-agent-output.jsonl", "\":3}\n");
    for coming in [&mut coming, &mut from_the_end] {
        assert_eq!(coming.piece().unwrap(), "{\"torn\":3}\n");
    }
    append(&service, "t1/03-agent-output.jsonl", "{\"n\":4}\n");
    service.write("t1/04-final-result.json", RESULT);
    assert_eq!(coming.piece().unwrap(), "{\"n\":4}\n", "what came before the end is not lost");
    assert_eq!(coming.piece().unwrap(), "", "a proper end");

    let far = [("Range", "bytes=2-9007199254740991")];
    let ended = service.ask("GET", PATH, &far, b"");
    assert_eq!((ended.status, ended.header("content-range")), (206, "bytes 2-34/35"), "nothing more will come");
    fs::remove_file(service.logs.path().join("tasks/t1/04-final-result.json")).unwrap();
    let beyond = service.ask("GET", PATH, &[("Range", "bytes=36-9007199254740991")], b"");
    assert_eq!(beyond.is_problem(416, "range_not_satisfiable").header("content-range"), "bytes */35");
    // Only records grow, and only a task's.
    let metadata = service.ask("GET", "/tasks/t1/files/metadata.json", &far, b"");
    assert_eq!(metadata.header("content-range"), "bytes 2-15/16");
    service.write("_webhooks/w/02-webhook-flow.jsonl", "{\"n\":1}\n");
    let flow = service.ask("GET", "/webhooks/w/files/02-webhook-flow.jsonl", &far, b"");
    assert_eq!(flow.header("content-range"), "bytes 2-7/8");
}

#[test]
fn a_live_range_breaks_when_it_cannot_go_on() {
    let mut service = Service::start();
    service.write("t1/metadata.json", METADATA);
    service.write("t1/03-agent-output.jsonl", "{\"n\":1}\n");
    service.write("t1/05-other-events.jsonl", "{\"n\":1}\n");
    let far = [("Range", "bytes=0-9007199254740991")];
    let mut removed = Coming::ask(&service, "/tasks/t1/files/05-other-events.jsonl", &far);
    let mut stopped = Coming::ask(&service, PATH, &far);
    assert_eq!(removed.piece().unwrap(), "{\"n\":1}\n");
    assert_eq!(stopped.piece().unwrap(), "{\"n\":1}\n");
    fs::remove_file(service.logs.path().join("tasks/t1/05-other-events.jsonl")).unwrap();
    assert_eq!(removed.piece(), None);
    let started = std::time::Instant::now();
    service.stop();
    assert_eq!(stopped.piece(), None, "the client can tell that from an end");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn no_name_leads_out_of_a_task() {
    let service = Service::start();
    service.write("t1/metadata.json", METADATA);
    service.write("t1/.state", "SECRET");
    service.write("t1/extra/inner.json", "SECRET");
    service.write("t2/metadata.json", "{}");
    let tasks = service.logs.path().join("tasks");
    fs::write(service.logs.path().join("outside.json"), "SECRET").unwrap();
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, tasks.join(name)).unwrap();
    link("../../outside.json", "t1/out.json");
    link("metadata.json", "t1/in.json");
    link("/etc/hostname", "t1/absolute.json");
    link("t1", "t3");
    link("..", "t4");
    link(".", "_webhooks");
    rustix::fs::mknodat(rustix::fs::CWD, tasks.join("t1/pipe.jsonl"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let long = "x".repeat(101);
    for name in [
        ".state",
        "..",
        ".",
        "%2e%2e",
        "%2E%2E%2Foutside.json",
        "..%2foutside.json",
        "..%5coutside.json",
        "%2Fetc%2Fhostname",
        "%252e%252e%252foutside.json",
        "extra",
        "extra%2finner.json",
        "out.json",
        "in.json",
        "absolute.json",
        "pipe.jsonl",
        "metadata.json%00",
        "metadata.json%00.txt",
        "%00",
        "metadata.json%0a",
        "METADATA.JSON",
        "Metadata.json",
        "metadata.json%20",
        "metadata.json.",
        "metadata.json::$DATA",
        "%EF%BC%8E%EF%BC%8E",
        "m%65tadata.json%2f",
        "~",
        "*",
        "%E2%80%AEnosj.atadatem",
        &long,
    ] {
        for suffix in ["", "?download", "?etag=1"] {
            service.get(&format!("/tasks/t1/files/{name}{suffix}")).is_problem(404, "file_not_found");
        }
        service.ask("GET", &format!("/tasks/t1/files/{name}"), &[("Range", "bytes=0-9007199254740991")], b"");
    }
    for name in ["%ff", "%c0%ae%c0%ae", "%ed%a0%80"] {
        service.get(&format!("/tasks/t1/files/{name}")).is_problem(404, "task_not_found");
    }
    let long = "y".repeat(201);
    for id in [
        "..",
        "%2e%2e",
        ".",
        "%2E",
        "t3",
        "t4",
        "T1",
        "t1%2f..%2ft1",
        "t1%00",
        "%00",
        "t1%20",
        "_webhooks",
        ".task-logger",
        "..%2ftasks%2ft1",
        "%252e%252e",
        "%ff",
        &long,
    ] {
        let answer = service.get(&format!("/tasks/{id}/files/metadata.json"));
        answer.is_problem(404, "task_not_found");
    }
    for id in ["t1", "..", "%2e%2e", "_webhooks"] {
        let answer = service.get(&format!("/webhooks/{id}/files/metadata.json"));
        answer.is_problem(404, "flow_not_found");
    }
    for path in ["/tasks/t1/files/../metadata.json", "/tasks/t1/files//metadata.json", "/tasks//files/metadata.json"] {
        assert_eq!(service.get(path).status, 404, "{path}");
    }
}
