//! A task's records: pages, bodies, and streams that follow; resumed wherever they were cut.

use std::fs::OpenOptions;

use super::*;
use crate::event::{Id, Key};

const OUTPUT: &str = "03-agent-output.jsonl";
const FLOW: &str = "02-webhook-flow.jsonl";

fn output(n: u64, content: &str) -> String {
    json!({"timestamp": format!("2026-01-01T00:00:{:02}Z", n % 60), "type": "output", "content": content, "id": format!("{n}-0")})
        .to_string()
}

fn flow(n: u64) -> String {
    json!({"timestamp": "2026-01-01T00:00:00Z", "stage": "received", "data": {"n": n}, "id": format!("{n}-0")})
        .to_string()
}

/// A task of two files whose records lie between each other, with a torn one at the end.
fn recorded(service: &Service) -> BTreeMap<&'static str, String> {
    let lines = |records: &[String]| records.iter().map(|record| format!("{record}\n")).collect::<String>();
    let files = BTreeMap::from([
        (FLOW, lines(&[flow(1), flow(2), flow(5)])),
        (
            OUTPUT,
            lines(&[
                output(3, "a \"quoted\" line\nand é"),
                output(4, ""),
                output(6, &"x".repeat(50)),
                output(7, "end"),
            ]),
        ),
    ]);
    for (name, text) in &files {
        service.write(&format!("t/{name}"), format!("{text}{{\"torn"));
    }
    service.write("t/metadata.json", r#"{"task_id":"t","status":"completed"}"#);
    files
}

fn end(service: &Service) {
    service.write("t/04-final-result.json", r#"{"success":true,"completed_at":"T"}"#);
}

fn ids(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["record"]["id"].as_str().unwrap()).collect()
}

fn page(service: &Service, query: &str) -> Value {
    let answer = service.get(&format!("/tasks/t/logs?{query}"));
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    answer.json()
}

fn lines(answer: &Answer) -> Vec<Value> {
    answer.unchunked().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whole events of a stream that may be cut anywhere: name, id, data.
fn events(text: &str) -> Vec<(String, String, String)> {
    let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default().to_owned()
    };
    whole
        .split_terminator("\n\n")
        .map(|event| (field(event, "event"), field(event, "id"), field(event, "data")))
        .collect()
}

/// Puts records back into the files that they came from.
#[derive(Debug, Default, PartialEq)]
struct Copied(BTreeMap<String, String>);

impl Copied {
    fn add(&mut self, service: &Service, record: &Value) {
        let file = record["file"].as_str().unwrap();
        let (cursor, bytes) = (record["cursor"].as_str().unwrap(), record["bytes"].as_u64().unwrap());
        let end: u64 = cursor.split([':', ',']).nth(1).unwrap().parse().unwrap();
        let text = fs::read(service.logs.path().join("tasks/t").join(file)).unwrap();
        let line = String::from_utf8(text[(end - bytes) as usize..end as usize].to_vec()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), record["record"]);
        self.0.entry(file.to_owned()).or_default().push_str(&line);
    }

    fn is(&self, files: &BTreeMap<&'static str, String>) {
        assert_eq!(self.0, files.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect());
    }
}

#[test]
fn pages_go_both_ways_and_meet() {
    let service = Service::start();
    recorded(&service);
    let all = page(&service, "format=json");
    assert_eq!(ids(all["records"].as_array().unwrap()), ["1-0", "2-0", "3-0", "4-0", "5-0", "6-0", "7-0"]);
    assert_eq!((&all["more"], &all["ended"]), (&json!(false), &Value::Null));
    for order in ["asc", "desc"] {
        for size in 1..8 {
            let (mut found, mut after) = (Vec::new(), String::new());
            loop {
                let next = page(&service, &format!("order={order}&limit={size}{after}"));
                found.extend(next["records"].as_array().unwrap().clone());
                if next["more"] == false {
                    break;
                }
                after = format!("&after={}", next["next"].as_str().unwrap());
            }
            if order == "desc" {
                found.reverse();
            }
            assert_eq!(json!(found), all["records"], "{order} {size}");
        }
    }
    // What a page ends with goes on when there is more.
    let after = all["next"].as_str().unwrap();
    assert_eq!(page(&service, &format!("after={after}"))["records"], json!([]));
    end(&service);
    let rest = page(&service, &format!("after={after}"));
    assert_eq!((&rest["next"], &rest["ended"]), (&json!(after), &json!("completed")));
    // A record's cursor is its permalink: what lies before it, and behind.
    let third = all["records"][2]["cursor"].as_str().unwrap();
    let around = |order: &str| page(&service, &format!("order={order}&limit=1&after={third}"))["records"][0].clone();
    assert_eq!((around("asc"), around("desc")), (all["records"][3].clone(), all["records"][1].clone()));
}

#[test]
fn the_last_records_and_the_chosen_ones() {
    let service = Service::start();
    recorded(&service);
    for tail in 0..9 {
        let found = page(&service, &format!("tail={tail}"));
        let expected = ["1-0", "2-0", "3-0", "4-0", "5-0", "6-0", "7-0"];
        assert_eq!(ids(found["records"].as_array().unwrap()), expected[7 - tail.min(7)..]);
    }
    for (query, expected) in [
        ("file=02-webhook-flow.jsonl", vec!["1-0", "2-0", "5-0"]),
        ("file=none.jsonl", vec![]),
        ("type=received&tail=2", vec!["2-0", "5-0"]),
        ("type=output&limit=2", vec!["3-0", "4-0"]),
        ("q=QUOTED", vec!["3-0"]),
        ("regex=%5Ex%2B$", vec!["6-0"]),
        ("since=2026-01-01T00:00:06Z", vec!["6-0", "7-0"]),
        ("until=2026-01-01T00:00:04Z&type=output", vec!["3-0"]),
        ("level=error", vec![]),
    ] {
        assert_eq!(ids(page(&service, query)["records"].as_array().unwrap()), expected, "{query}");
    }
    let cut = page(&service, "type=output&q=xx&clip=10");
    assert_eq!(
        (&cut["records"][0]["record"]["content"], &cut["records"][0]["clipped"]),
        (&json!("x".repeat(10)), &json!(true))
    );
    let few = page(&service, "max_bytes=1");
    assert_eq!((few["records"].as_array().unwrap().len(), &few["more"]), (1, &json!(true)));
}

#[test]
fn counts_are_of_all_and_of_what_is_wanted() {
    let service = Service::start();
    recorded(&service);
    let counts = service.get("/tasks/t/counts?q=x&type=output").json();
    let expected = json!({
        "total": 7, "matched": 1, "bytes": counts["bytes"], "partial": false,
        "file": {FLOW: 3, OUTPUT: 4}, "type": {"output": 4, "received": 3}, "tool": {}, "level": {"info": 7},
        "first": "2026-01-01T00:00:00Z", "last": "2026-01-01T00:00:07Z",
    });
    assert_eq!(counts, expected);
    service.get("/tasks/t/counts?limit=1").is_problem(400, "bad_query");
    service.get("/tasks/none/counts").is_problem(404, "task_not_found");
}

#[test]
fn bodies_are_streamed_in_every_form() {
    let service = Service::start();
    let files = recorded(&service);
    for by in ["?format=ndjson", ""] {
        let answer = service.ask("GET", &format!("/tasks/t/logs{by}"), &[("accept", "application/x-ndjson")], b"");
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"));
        assert_eq!(
            (answer.header("x-accel-buffering"), answer.header("cache-control")),
            ("no", "no-cache, no-transform")
        );
        let mut copied = Copied::default();
        lines(&answer).iter().for_each(|record| copied.add(&service, record));
        copied.is(&files);
    }
    let text = service.get("/tasks/t/logs?format=text&type=output&limit=1");
    assert_eq!(text.unchunked(), "2026-01-01T00:00:03Z  output       a \"quoted\" line\n    and é\n");
    let markdown = service.get("/tasks/t/logs?format=markdown&type=output&limit=1");
    assert_eq!(markdown.unchunked(), "### output · 2026-01-01T00:00:03Z\n\n```\na \"quoted\" line\nand é\n```\n\n");
    // The default stays what it was.
    assert!(service.get("/tasks/t/logs").json()["agent_output"].is_array());
    assert!(
        service.ask("GET", "/tasks/t/logs", &[("accept", "application/json")], b"").json()["agent_output"].is_array()
    );
}

#[test]
fn cut_at_any_byte_and_resumed_nothing_is_missing_and_nothing_comes_twice() {
    let service = Service::start();
    let files = recorded(&service);
    end(&service);
    let whole = service.get("/tasks/t/stream").unchunked();
    assert_eq!(events(&whole).last().unwrap().0, "end");
    for cut in 0..=whole.len() {
        let Some(prefix) = whole.get(..cut) else { continue };
        let mut copied = Copied::default();
        let (mut last, mut over) = (String::new(), false);
        let mut take = |text: &str, last: &mut String| {
            for (name, id, data) in events(text) {
                if name == "record" {
                    *last = id;
                    copied.add(&service, &serde_json::from_str(&data).unwrap());
                }
                over |= name == "end";
            }
        };
        take(prefix, &mut last);
        let rest = service.ask("GET", "/tasks/t/stream", &[("last-event-id", &last)], b"").unchunked();
        take(&rest, &mut last);
        assert!(over);
        copied.is(&files);
    }
    let whole = service.get("/tasks/t/logs?format=ndjson").unchunked();
    for cut in 0..=whole.len() {
        let Some(prefix) = whole.get(..cut) else { continue };
        let mut copied = Copied::default();
        let mut last = "0".to_owned();
        let mut take = |text: &str, last: &mut String| {
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            for line in whole.lines() {
                let record: Value = serde_json::from_str(line).unwrap();
                *last = record["cursor"].as_str().unwrap().to_owned();
                copied.add(&service, &record);
            }
        };
        take(prefix, &mut last);
        take(&service.get(&format!("/tasks/t/logs?format=ndjson&after={last}")).unchunked(), &mut last);
        copied.is(&files);
    }
    // Who waits has whole pages or none.
    for size in 1..8 {
        let (mut copied, mut last) = (Copied::default(), "0".to_owned());
        loop {
            let next = page(&service, &format!("wait=30s&limit={size}&after={last}"));
            next["records"].as_array().unwrap().iter().for_each(|record| copied.add(&service, record));
            last = next["next"].as_str().unwrap().to_owned();
            if next["ended"] == "completed" {
                break;
            }
        }
        copied.is(&files);
    }
}

/// A stream that is being read.
pub(super) struct Open {
    connection: TcpStream,
    pub(super) text: String,
}

impl Open {
    pub(super) fn new(service: &Service, path: &str) -> Self {
        let mut connection = service.connect();
        write!(connection, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", service.addr).unwrap();
        Self { connection, text: String::new() }
    }

    /// Reads on until the stream holds this.
    #[track_caller]
    pub(super) fn until(&mut self, what: &str) {
        let mut found = self.text.contains(what);
        while !found {
            // What was looked through is not looked through again: there may be much of it.
            let from = self.text.len().saturating_sub(what.len());
            self.more();
            found = memchr::memmem::find(&self.text.as_bytes()[from..], what.as_bytes()).is_some();
        }
    }

    /// Reads what comes next.
    #[track_caller]
    pub(super) fn more(&mut self) {
        let mut block = [0; 64 << 10];
        let got = self.connection.read(&mut block).unwrap();
        assert!(got > 0, "ended: {}", self.text);
        self.text.push_str(&String::from_utf8_lossy(&block[..got]));
    }

    pub(super) fn rest(mut self) -> String {
        self.connection.read_to_string(&mut self.text).unwrap();
        self.text
    }
}

fn append(service: &Service, file: &str, line: &str) {
    let path = service.logs.path().join("tasks/t").join(file);
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn ring(service: &Service) {
    service.bell.ring(&Key::Task(Id::parse("t").unwrap()));
}

#[test]
fn a_stream_gives_what_was_and_then_what_comes_until_the_end() {
    let service = Service::start();
    service.write(&format!("t/{OUTPUT}"), format!("{}\n{}\n", output(1, "old"), output(2, "older")));
    let mut one = Open::new(&service, "/tasks/t/stream?tail=1");
    one.until("\"2-0\"");
    assert!(!one.text.contains("\"1-0\""));
    let mut lines = Open::new(&service, "/tasks/t/stream?format=ndjson");
    lines.until("\"2-0\"");
    // By a hint, into a file that was not there; and by its own look.
    append(&service, FLOW, &flow(3));
    ring(&service);
    one.until("\"3-0\"");
    append(&service, OUTPUT, &output(4, "seen without a hint"));
    one.until("\"4-0\"");
    end(&service);
    ring(&service);
    let text = one.rest();
    assert!(text.contains("event: end\ndata: {\"status\":\"completed\"}\n\n"), "{text}");
    assert!(lines.rest().contains("{\"end\":{\"status\":\"completed\"}}\n"));
}

#[test]
fn who_waits_is_answered_when_something_comes() {
    let service = Service::start();
    service.write(&format!("t/{OUTPUT}"), format!("{}\n", output(1, "old")));
    let next = page(&service, "limit=5")["next"].as_str().unwrap().to_owned();
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| page(&service, &format!("wait=60s&after={next}&type=output")));
        append(&service, FLOW, &flow(2));
        append(&service, OUTPUT, &output(3, "new"));
        ring(&service);
        waiting.join().unwrap()
    });
    assert_eq!(ids(waiting["records"].as_array().unwrap()), ["3-0"]);
    let nothing = page(&service, &format!("wait=10ms&after={}", waiting["next"].as_str().unwrap()));
    assert_eq!((&nothing["records"], &nothing["ended"]), (&json!([]), &Value::Null));
}

#[test]
fn a_cursor_that_cannot_be_served_is_said_to_be() {
    let service = Service::start();
    recorded(&service);
    let last = page(&service, "limit=1000")["next"].as_str().unwrap().to_owned();
    for gone in [
        format!("{OUTPUT}:5"),
        format!("{OUTPUT}:99999"),
        format!("{FLOW}:70:9-9"),
        "none.jsonl:5&file=none.jsonl".into(),
    ] {
        service.get(&format!("/tasks/t/logs?after={gone}")).is_problem(410, "cursor_gone");
    }
    // Cut under a follower, and written anew.
    let mut one = Open::new(&service, &format!("/tasks/t/stream?after={last}"));
    one.until("retry");
    service.write(&format!("t/{OUTPUT}"), format!("{}\n", output(9, "other")));
    ring(&service);
    one.until("event: resync\n");
    one.until("\"9-0\"");
    assert!(!one.text.split("event: resync").next().unwrap().contains("event: record"));
    let first = Open::new(&service, &format!("/tasks/t/stream?after={last}"));
    end(&service);
    let text = first.rest();
    assert!(text.find("event: resync").unwrap() < text.find("\"9-0\"").unwrap());
}

#[test]
fn streams_end_at_once_when_the_service_stops_and_are_bounded_in_number() {
    let mut service =
        Service::start_with(With { limits: Limits { streams: 2, ..Limits::default() }, ..With::default() });
    service.write(&format!("t/{OUTPUT}"), format!("{}\n", output(1, "old")));
    let mut streams = [Open::new(&service, "/tasks/t/stream"), Open::new(&service, "/tasks/t/stream?format=ndjson")];
    streams.iter_mut().for_each(|stream| stream.until("\"1-0\""));
    service.get("/tasks/t/stream").is_problem(503, "too_many_streams");
    service.stop();
    for stream in streams {
        assert!(!stream.rest().contains("end"));
    }
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    let service = Service::start();
    recorded(&service);
    for query in
        ["tial=1", "tail=x", "format=xml", "after=x", "regex=(", "limit=10001", "wait=5s&format=ndjson", "level=x"]
    {
        service.get(&format!("/tasks/t/logs?{query}")).is_problem(400, "bad_query");
    }
    for query in ["limit=5", "wait=5s", "order=desc", "format=text"] {
        service.get(&format!("/tasks/t/stream?{query}")).is_problem(400, "bad_query");
    }
    service.ask("GET", "/tasks/t/stream", &[("last-event-id", "x")], b"").is_problem(400, "bad_query");
    for path in
        ["/tasks/none/logs?tail=1", "/tasks/none/logs?format=ndjson", "/tasks/none/stream", "/tasks/..%2fx/stream"]
    {
        service.get(path).is_problem(404, "task_not_found");
    }
}
