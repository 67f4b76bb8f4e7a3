//! Connections that break: at every byte of an answer, and what is printed is the same.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use super::*;

/// Passes connections on to a service and cuts the answers to some of them.
struct Cutter {
    address: SocketAddr,
    /// Bytes of the next answer that pass; then it is reset to all.
    bytes: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Cutter {
    /// Cuts answers to requests that name this.
    fn start(to: &Service, named: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (bytes, stopped) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::<AtomicBool>::default());
        let (left, over, to) = (Arc::clone(&bytes), Arc::clone(&stopped), to.base.replace("http://", ""));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(SeqCst) {
                    return;
                }
                let (mut client, mut service) = (client.unwrap(), TcpStream::connect(&to).unwrap());
                let left = Arc::clone(&left);
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|got| got > 0) {
                        head.push(byte[0]);
                    }
                    // One request a connection, so that each is cut by itself.
                    let text = String::from_utf8_lossy(&head).replacen("\r\n", "\r\nConnection: close\r\n", 1);
                    service.write_all(text.as_bytes()).unwrap();
                    let pass = if text.contains(named) { left.swap(usize::MAX, SeqCst) } else { usize::MAX };
                    let copied = std::io::copy(&mut service.take(pass as u64), &mut client);
                    drop(copied);
                });
            }
        });
        Self { address, bytes, stopped }
    }

    fn origin(&self) -> Origin {
        Origin::Service(Target { base: format!("http://{}", self.address), token: None })
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

fn a_task(service: &Service) -> String {
    let record = |n: usize| {
        format!("{{\"timestamp\":\"T{n}\",\"type\":\"output\",\"content\":\"c{n}\u{20ac}\",\"id\":\"{n}-0\"}}\n")
    };
    let file: String = (1..=4).map(record).collect();
    service.write("t/03-agent-output.jsonl", &file);
    service.write("t/04-final-result.json", r#"{"success":true,"completed_at":"T9"}"#);
    file
}

/// Bytes of the answer to a request before its body, and all of them, as they pass.
fn answer(service: &Service, path: &str) -> (usize, usize) {
    let address = service.base.replace("http://", "");
    let mut connection = TcpStream::connect(&address).unwrap();
    connection
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut all = Vec::new();
    connection.read_to_end(&mut all).unwrap();
    (all.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4, all.len())
}

#[test]
fn a_stream_that_is_cut_at_any_byte_is_gone_on_with() {
    let service = Service::start();
    let file = a_task(&service);
    let cutter = Cutter::start(&service, "/stream?");
    let (head, len) = answer(&service, "/tasks/t/stream?format=ndjson&after=0");
    assert!(len > head + file.len());
    // What is cut before an answer has begun is a service that cannot be reached: that is told at once.
    for cut in head..=len {
        cutter.bytes.store(cut, SeqCst);
        let (code, text) = run(|out| read_from(&cutter.origin(), "logs t -f -o raw", Screen::default(), out));
        assert_eq!((code, &text), (ExitCode::SUCCESS, &file), "cut at {cut}");
        assert_eq!(cutter.bytes.load(SeqCst), usize::MAX, "it was cut");
    }
}

#[test]
fn lines_and_files_that_are_cut_are_gone_on_with() {
    let service = Service::start();
    let file = a_task(&service);
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("saved");
    let saving = format!("get t 03-agent-output.jsonl -O {}", path.display());
    for (named, whole, commands) in [
        ("/logs?", "/tasks/t/logs?format=ndjson", vec!["logs t -o raw"]),
        ("03-agent-output", "/tasks/t/files/03-agent-output.jsonl", vec!["get t 03-agent-output.jsonl", &saving]),
    ] {
        let cutter = Cutter::start(&service, named);
        let (head, len) = answer(&service, whole);
        for cut in head..len {
            for command in &commands {
                cutter.bytes.store(cut, SeqCst);
                let (code, text) = run(|out| read_from(&cutter.origin(), command, Screen::default(), out));
                let text = if command.contains("-O") { std::fs::read_to_string(&path).unwrap() } else { text };
                assert_eq!((code, &text), (ExitCode::SUCCESS, &file), "{command} cut at {cut}");
                assert_eq!(cutter.bytes.load(SeqCst), usize::MAX, "it was cut");
            }
        }
    }
}

#[test]
fn a_file_of_which_a_part_was_saved_is_gone_on_with() {
    let service = Service::start();
    let file = a_task(&service);
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("saved");
    let client = target(&service);
    let answer = Client::new(&client).get("/tasks/t/files/03-agent-output.jsonl", None).unwrap();
    let version = answer.headers().get("etag").unwrap().to_str().unwrap().to_owned();
    let mut saving = crate::save::Saving::begin(&path, Some(&version)).unwrap();
    // Other bytes than the file's show that they were not asked for again.
    saving.write_all(b"{XY").unwrap();
    drop(saving);
    let saving = format!("get t 03-agent-output.jsonl -O {}", path.display());
    for origin in origins(&service) {
        run(|out| read_from(&origin, &saving, Screen::default(), out));
        let saved = std::fs::read_to_string(&path).unwrap();
        let expected =
            if matches!(origin, Origin::Service(_)) { format!("{{XY{}", file.get(3..).unwrap()) } else { file.clone() };
        assert_eq!(saved, expected);
    }
}
