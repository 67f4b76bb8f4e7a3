//! The README's table of bad input: each row is run for real, and what happens must be what the row says.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    checker::{Stream, files_below},
    rig::{Node, Rig, add, eventually},
};

const MARK: &str = "<!-- bad-input -->";

/// Entries for the stream: what the row is called, and the fields. Each has a task of its own, so that its traces are found.
fn entries() -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let on = |task: &str, data: &str| {
        vec![("type", "task:output".to_owned()), ("task_id", task.to_owned()), ("data", data.to_owned())]
    };
    let kind = |task: &str, kind: &str| {
        let mut fields = on(task, r#"{"content":"c"}"#);
        fields[0].1 = kind.to_owned();
        fields
    };
    let with = |mut fields: Vec<(&'static str, String)>, name: &'static str, value: &str| {
        fields.push((name, value.to_owned()));
        fields
    };
    let plain = r#"{"content":"c"}"#;
    let large = format!("{{\"content\":\"{}\"}}", "x".repeat(16 << 20));
    let long = "i".repeat(300);
    vec![
        ("`data` is not JSON", on("c01", "not json")),
        ("`data` is JSON, but no object", on("c02", "[1, 2]")),
        ("`data` of 16 MiB", on("c03", &large)),
        ("no `type`", on("c04", plain).split_off(1)),
        ("a `type` that is no kind: `Task Output`", kind("c05", "Task Output")),
        ("an unknown `task:` type: `task:news`", kind("c06", "task:news")),
        ("an unknown family: `billing:closed`", kind("c07", "billing:closed")),
        ("no task id, in any form", vec![("type", "task:output".into()), ("data", plain.into())]),
        ("task id `../escape`", on("../escape", plain)),
        ("task id of 300 bytes", on(&long, plain)),
        ("task id with a slash: `a/b`", on("a/b", plain)),
        ("task id with a newline", on("a\nb", plain)),
        ("`timestamp` that is no time", with(on("c12", plain), "timestamp", "half past nine")),
        ("the same field twice", with(on("c13", plain), "data", "{}")),
        ("two task ids", with(on("c14", plain), "task_id", "other")),
        ("the same key twice in `data`", on("c15", r#"{"content":"first","content":"last"}"#)),
        ("lone surrogate `\\ud800` in the content", on("c16", r#"{"content":"a\ud800b"}"#)),
        ("NUL in the content", on("c17", r#"{"content":"a\u0000b"}"#)),
        ("U+2028 in the content", on("c18", "{\"content\":\"a\u{2028}b\"}")),
        ("bytes in `data` that are no UTF-8", on("c19", "\u{0}")),
    ]
}

/// What became of an entry, in the table's words.
fn outcome(logs: &Path, stream: &Stream, reasons: &BTreeMap<String, String>, id: &str) -> String {
    let needle = format!("\"id\":\"{id}\"}}");
    let mut records = Vec::new();
    for path in files_below(logs).into_iter().filter(|path| path.extension().is_some_and(|e| e == "jsonl")) {
        let text = fs::read_to_string(&path).unwrap();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        records
            .extend(text.lines().filter(|l| l.ends_with(&needle)).map(|l| (file.clone(), l.to_owned(), path.clone())));
    }
    assert!(records.len() <= 1 && stream.entries.iter().any(|entry| entry.id.to_string() == id), "{id}: {records:?}");
    match (reasons.get(id), records.pop()) {
        (Some(reason), None) => format!("dead letter `{reason}`"),
        (Some(reason), Some((file, line, _))) if line.contains("\"type\":\"gap\"") => {
            assert!(line.contains(&format!("\"reason\":\"{reason}\"")), "{line}");
            format!("dead letter `{reason}`; gap record in `{file}`")
        }
        (None, Some((file, line, path))) => {
            let dir = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
            let record: serde_json::Value = serde_json::from_str(&line).unwrap();
            let mut words = vec![format!("written to `{file}`")];
            if !dir.starts_with('c') {
                words.push(format!("directory `{dir}`"));
            }
            if record["_timestamp"].is_string() {
                let time: u64 = id.split_once('-').unwrap().0.parse().unwrap();
                let stamped: jiff::Timestamp = record["timestamp"].as_str().unwrap().parse().unwrap();
                assert_eq!(stamped.as_millisecond() as u64, time);
                words.push("with the time of its id, the text under `_timestamp`".into());
            }
            match record["content"].as_str() {
                Some("a\u{fffd}b") => words.push("as U+FFFD".into()),
                Some("a\0b") if line.contains("a\\u0000b") => words.push("as `\\u0000`".into()),
                Some("a\u{2028}b") if line.contains("a\\u2028b") => words.push("as `\\u2028`".into()),
                Some("last") if !line.contains("first") => words.push("the last one counts".into()),
                _ => {}
            }
            words.join(", ")
        }
        nowhere => panic!("{id}: {nowhere:?}"),
    }
}

/// Sends a request as it is and returns the answer's status; 0 when the connection is closed without one.
fn raw(node: &Node, request: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(node.url().strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    // What the server does not want to read it resets.
    drop(stream.read_to_end(&mut answer));
    let text = String::from_utf8_lossy(&answer);
    text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn over_http(node: &Node) -> Vec<(&'static str, String)> {
    let file = "/tasks/c06/files/03-agent-output.jsonl";
    let request = |line: &str, more: &str| {
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
        format!("HTTP {}", raw(node, head.as_bytes()))
    };
    let get = format!("GET {file}");
    let slow = thread::scope(|scope| {
        // Both at once: each is cut off after its own deadline.
        let timed = |request: &'static [u8]| {
            let started = Instant::now();
            let status = raw(node, request);
            // A busy machine adds to it, never as much as five seconds.
            let seconds = started.elapsed().as_secs() / 5 * 5;
            match status {
                0 => format!("connection closed after {seconds} s"),
                status => format!("HTTP {status} after {seconds} s"),
            }
        };
        let head = scope.spawn(move || timed(b"GET /health HTTP/1.1\r\nHost: localhost\r\n"));
        let body = b"POST /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{";
        (timed(body), head.join().unwrap())
    });
    let huge = format!("Content-Length: {}\r\n", 1_u64 << 30);
    vec![
        ("HTTP: a range beyond the file's end", request(&get, "Range: bytes=999999999-\r\n")),
        ("HTTP: a range that is none: `bytes=x-y`", request(&get, "Range: bytes=x-y\r\n") + ", the whole file"),
        ("HTTP: a method that the path does not have", request("DELETE /tasks", "")),
        ("HTTP: a body of 1 GiB", request("POST /events", &huge)),
        ("HTTP: a client that does not finish its request's head", slow.1),
        ("HTTP: a client that does not finish its request's body", slow.0),
    ]
}

fn table() -> BTreeMap<String, String> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let text = readme.split(MARK).nth(1).unwrap_or_else(|| panic!("README.md has no table between {MARK}"));
    let rows = text.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let (input, outcome) = row.trim_matches('|').split_once(" | ").unwrap();
        (input.trim().to_owned(), outcome.trim().to_owned())
    })
    .collect()
}

#[test]
fn one_bad_entry_stops_nothing_and_passes_nothing_silently_as_the_readmes_table_says() {
    let Some(rig) = Rig::redis() else { return };
    let mut redis = rig.connect();
    let node = rig.spawn_owner();
    let mut sent = Vec::new();
    for (input, fields) in entries() {
        let mut pairs: Vec<(&str, &[u8])> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        if input.contains("no UTF-8") {
            pairs[2].1 = b"{\"content\":\"\xff\xfe\"}";
        }
        let id: String = redis::cmd("XADD").arg("task_events").arg("*").arg(&pairs[..]).query(&mut redis).unwrap();
        sent.push((input, id));
    }
    let last = add(&mut redis, &[("type", "task:output"), ("task_id", "after"), ("data", "{\"content\":\"fine\"}")]);
    rig.wait_published(&mut redis);
    eventually("what comes after is served", || node.get("/tasks/after/logs").1.contains(&last));
    let http = over_http(&node);
    assert_eq!(node.get("/health").0, 200);
    node.terminate();

    let stream = Stream::of_redis(&mut redis);
    stream.prove(&rig, &[]);
    let reasons = dead_reasons(&mut redis);
    let mut happened: BTreeMap<String, String> =
        http.into_iter().map(|(input, told)| (input.to_owned(), told)).collect();
    for (input, id) in sent {
        happened.insert(input.to_owned(), outcome(&rig.logs(), &stream, &reasons, &id));
    }
    let rows: Vec<String> = happened.iter().map(|(input, told)| format!("| {input} | {told} |")).collect();
    assert_eq!(table(), happened, "the table should be:\n{}", rows.join("\n"));
}

/// The dead letters' reasons, by their entries' ids.
fn dead_reasons(redis: &mut redis::Connection) -> BTreeMap<String, String> {
    type Row = (String, Vec<(String, redis::Value)>);
    let rows: Vec<Row> = redis::cmd("XRANGE").arg("{task_events}:dead").arg("-").arg("+").query(redis).unwrap();
    let text = |fields: &[(String, redis::Value)], name: &str| -> String {
        let (_, value) = fields.iter().find(|(field, _)| field == name).unwrap();
        redis::from_redis_value_ref(value).unwrap()
    };
    rows.iter().map(|(_, fields)| (text(fields, "id"), text(fields, "reason"))).collect()
}
