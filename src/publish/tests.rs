//! Tests of sending.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use super::*;
use crate::{
    config::Secret,
    event::StreamId,
    source::{Backlog, Fields, Letters, OwnRequest, Owned, SourceError, Stream},
};

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(10);

/// A stream that only takes events in, and tells of each batch.
struct Taker(Mutex<mpsc::SyncSender<Vec<Fields>>>);

impl Stream for Taker {
    fn state_name(&self) -> String {
        "taker".into()
    }
    fn try_own(&self, _: &OwnRequest) -> Result<Option<Owned>, SourceError> {
        Ok(None)
    }
    fn append(&self, events: Vec<Fields>) -> Result<Vec<StreamId>, SourceError> {
        let ids = vec![StreamId::MIN; events.len()];
        self.0.lock().unwrap().send(events).unwrap();
        Ok(ids)
    }
    fn backlog(&self) -> Result<Backlog, SourceError> {
        Ok(Backlog::default())
    }
    fn letters(&self) -> Result<Box<dyn Letters>, SourceError> {
        Err(SourceError::Config("takes only".into()))
    }
    fn describe(&self) -> String {
        "taker".into()
    }
}

fn taker() -> (Sink, mpsc::Receiver<Vec<Fields>>) {
    let (sender, receiver) = mpsc::sync_channel(1000);
    (Sink::stream(Arc::new(Taker(Mutex::new(sender)))), receiver)
}

fn line(n: usize) -> String {
    format!("{{\"type\":\"task:output\",\"task_id\":\"t\",\"data\":{{\"content\":\"{n}\"}}}}\n")
}

#[test]
fn lines_go_in_order_and_bad_ones_are_told_by_number() {
    let (sink, batches) = taker();
    let input = format!("{}\n{}not json with a secret\n[]\n{}", line(0), line(1), line(2).trim_end());
    let mut told = Vec::new();
    let summary = send(input.as_bytes(), None, sink, 1 << 20, &mut told).unwrap();
    assert_eq!(summary, Summary { lines: 6, events: 3, refused: 2 });
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("line 4 was") && told.contains("line 5 was") && !told.contains("secret"), "{told}");
    let events: Vec<Fields> = batches.try_iter().flatten().collect();
    let contents: Vec<_> =
        events.iter().map(|fields| fields.iter().find(|(name, _)| name == "data").unwrap().1.clone()).collect();
    assert_eq!(contents, [&b"{\"content\":\"0\"}"[..], b"{\"content\":\"1\"}", b"{\"content\":\"2\"}"]);
}

#[test]
fn a_file_goes_in_bounded_batches() {
    let (sink, batches) = taker();
    let input: String = (0..2000).map(line).collect();
    let summary = send(input.as_bytes(), None, sink, 1 << 20, &mut Vec::new()).unwrap();
    assert_eq!(summary.events, 2000);
    let sizes: Vec<_> = batches.try_iter().map(|batch| batch.len()).collect();
    assert!(sizes.iter().all(|size| *size <= BATCH_EVENTS_MAX) && sizes.len() < 20, "{sizes:?}");
}

#[test]
fn a_line_from_a_pipe_is_sent_before_the_next_one_comes() {
    let (sink, batches) = taker();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let sending = thread::spawn(move || send(reader, None, sink, 1 << 20, &mut Vec::new()));
    for n in 0..3 {
        writer.write_all(line(n).as_bytes()).unwrap();
        // Half of a line does not keep the whole one waiting.
        writer.write_all(b"{\"type\":").unwrap();
        let batch = batches.recv_timeout(DEADLINE).unwrap();
        assert_eq!(batch.len(), 1, "line {n}");
        writer.write_all(b"\"task:started\",\"task_id\":\"t\",\"data\":{}}\n").unwrap();
        assert_eq!(batches.recv_timeout(DEADLINE).unwrap().len(), 1);
    }
    drop(writer);
    assert_eq!(sending.join().unwrap().unwrap().events, 6);
}

#[test]
fn an_event_over_the_limit_is_refused_and_leaves_a_marker_in_a_session() {
    let large =
        format!("{{\"type\":\"task:output\",\"task_id\":\"t\",\"data\":{{\"content\":\"{}\"}}}}\n", "x".repeat(2000));
    let (sink, batches) = taker();
    let mut told = Vec::new();
    let summary = send(format!("{large}{}", line(1)).as_bytes(), None, sink, 1000, &mut told).unwrap();
    assert_eq!((summary.events, summary.refused), (1, 1));
    assert!(String::from_utf8(told).unwrap().contains("line 1 was not published: 2"));
    drop(batches);

    // Both a line that is too long to be read and one that is too large as an event.
    for size in [2000, 20_000] {
        let (sink, batches) = taker();
        let session = format!("{}\n{{\"type\":\"result\",\"is_error\":false,\"result\":\"ok\"}}\n", "y".repeat(size));
        let translator = Translator::new("t", true);
        let summary = send(session.as_bytes(), Some(translator), sink, 1000, &mut Vec::new()).unwrap();
        assert_eq!((summary.events, summary.refused), (4, 1), "{size}");
        let text = format!("{:?}", batches.try_iter().collect::<Vec<_>>());
        assert!(text.contains("too_large") && text.contains("task:completed"), "{text}");
    }
}

/// Reads one request; answers its head and its body.
fn request(stream: &TcpStream) -> (String, String) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let length = head.to_lowercase().split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

fn answer(mut stream: &TcpStream, status: &str, body: &str) {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
}

#[test]
fn the_service_gets_lines_with_the_token_and_busy_answers_are_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (first, _) = listener.accept().unwrap();
        let refused = request(&first);
        answer(&first, "503 Service Unavailable", "{\"code\":\"busy\"}");
        drop(first);
        let (second, _) = listener.accept().unwrap();
        let taken = request(&second);
        answer(&second, "200 OK", "{}");
        (refused, taken)
    });
    let sink = Sink::http(&url, Some(Secret::new("tok")));
    let input = format!("{}{}", line(0), line(1));
    assert_eq!(send(input.as_bytes(), None, sink, 1 << 20, &mut Vec::new()).unwrap().events, 2);
    let ((_, refused), (head, taken)) = server.join().unwrap();
    assert_eq!((refused.as_str(), taken.as_str()), (input.as_str(), input.as_str()));
    assert!(head.starts_with("POST /events ") && head.to_lowercase().contains("authorization: bearer tok"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/x-ndjson"), "{head}");
}

#[test]
fn refusals_name_the_lines_and_the_reason() {
    for (status, expected) in [
        ("401 Unauthorized", "API_TOKEN"),
        ("413 Payload Too Large", "answered 413: too large"),
        ("503 Service Unavailable", "may have been taken"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            request(&stream);
            answer(&stream, status, "too large");
        });
        let error = send(line(0).as_bytes(), None, Sink::http(&url, None), 1 << 20, &mut Vec::new()).unwrap_err();
        server.join().unwrap();
        assert!(error.to_string().contains("lines 1 to 1"), "{error}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(expected), "{cause}");
    }
}

#[test]
fn an_unreachable_service_is_given_up_after_its_time() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sink = Sink::http(&format!("http://127.0.0.1:{port}"), None).retry_max(Duration::from_millis(300));
    let error = send(line(0).as_bytes(), None, sink, 1 << 20, &mut Vec::new()).unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("cannot reach"));
}
