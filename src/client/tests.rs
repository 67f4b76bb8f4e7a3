//! Commands against a running service.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Instant,
};

use super::*;
use crate::http::tests::{Service, With};

fn target(service: &Service) -> Target {
    Target { base: service.base.clone(), token: None }
}

fn run(command: impl FnOnce(&mut dyn Write) -> Result<ExitCode, ClientError>) -> (ExitCode, String) {
    let mut out = Vec::new();
    let code = command(&mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

/// An output that a test looks at while it is written.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    #[track_caller]
    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.text().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in {:?}", self.text());
            std::thread::yield_now();
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[test]
fn logs_are_readable_and_harmless() {
    let service = Service::start();
    let long = "z".repeat(5000);
    let records = [
        r#"{"timestamp":"2026-01-01T00:00:00Z","type":"output","content":"one\ntwo \u001b[31mred\u001b]0;x\u0007","id":"1-0"}"#,
        r#"{"timestamp":"2026-01-01T00:00:01Z","type":"tool_call","name":"Bash","input":{"command":"ls"},"id":"2-0"}"#,
        r#"{"timestamp":"2026-01-01T00:00:02Z","type":"tool_result","content":"gone","is_error":true,"id":"3-0"}"#,
        r#"{"timestamp":"2026-01-01T00:00:03Z","type":"gap","kind":"task:output","reason":"refused","id":"4-0"}"#,
        "no json",
        &format!(r#"{{"timestamp":"2026-01-01T00:00:04Z","type":"thinking","content":"{long}"}}"#),
    ];
    service.write("a%2Fb/03-agent-output.jsonl", records.join("\n") + "\n");
    service.write(
        "a%2Fb/04-final-result.json",
        r#"{"success":false,"status":"failed","error":"no\u001b[2Jway","completed_at":"2026-01-01T00:00:05Z"}"#,
    );
    let (code, text) = run(|out| logs(&target(&service), "a/b", false, out));
    assert_eq!(code, ExitCode::SUCCESS);
    let expected = format!(
        "2026-01-01T00:00:00Z  output       one\n    two red\n\
         2026-01-01T00:00:01Z  tool_call    Bash {{\"command\":\"ls\"}}\n\
         2026-01-01T00:00:02Z  tool_result  (error) gone\n\
         2026-01-01T00:00:03Z  gap          task:output: not written, refused\n\
         (a record that cannot be shown)\n\
         2026-01-01T00:00:04Z  thinking     {}\n    … 1000 more characters\n\
         2026-01-01T00:00:05Z  failed: noway\n",
        "z".repeat(4000)
    );
    assert_eq!(text, expected);
    let missing = logs(&target(&service), "..", true, &mut Vec::new()).unwrap_err();
    assert!(matches!(missing, ClientError::NoSuchTask), "{missing:?}");
    assert_eq!(missing.exit_code(), ExitCode::from(66));
}

#[test]
fn a_task_that_is_on_its_way_is_waited_for() {
    let service = Service::start();
    std::thread::scope(|scope| {
        let (sender, asked) = std::sync::mpsc::sync_channel(1);
        let service = &service;
        let told = scope.spawn(move || {
            sender.send(()).unwrap();
            run(|out| logs(&target(service), "late", false, out))
        });
        asked.recv().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        let record = r#"{"timestamp":"2026-01-01T00:00:00Z","type":"output","content":"here","id":"1-0"}"#;
        service.write("late/03-agent-output.jsonl", format!("{record}\n"));
        assert_eq!(told.join().unwrap(), (ExitCode::SUCCESS, "2026-01-01T00:00:00Z  output       here\n".to_owned()));
    });
}

#[test]
fn following_ends_with_the_task_and_prints_each_record_once() {
    let service = Service::start();
    service.write("t/metadata.json", "{}");
    let record = |n: u32| format!("{{\"timestamp\":\"T{n}\",\"type\":\"output\",\"content\":\"c{n}\"}}\n");
    let out = Shared::default();
    let following = std::thread::spawn({
        let (mut out, target) = (out.clone(), target(&service));
        move || logs(&target, "t", true, &mut out)
    });
    let mut file = record(1) + "{\"torn\":";
    service.write("t/03-agent-output.jsonl", &file);
    out.wait_for("c1");
    file = record(1) + &record(2) + &record(3);
    service.write("t/03-agent-output.jsonl", &file);
    out.wait_for("c3");
    file += &record(4);
    service.write("t/03-agent-output.jsonl", &file);
    service.write("t/04-final-result.json", r#"{"success":true,"completed_at":"T5"}"#);
    assert_eq!(following.join().unwrap().unwrap(), ExitCode::SUCCESS);
    let lines: Vec<_> = (1..=4).map(|n| format!("T{n}  output       c{n}\n")).collect();
    assert_eq!(out.text(), lines.concat() + "T5  completed\n");
}

#[test]
fn ls_prints_all_pages() {
    let service = Service::start();
    for n in 0..501 {
        service.write(
            &format!("task-{n:03}/metadata.json"),
            r#"{"status":"running","created_at":"2026-01-01T00:00:00Z"}"#,
        );
    }
    let (_, text) = run(|out| ls(&target(&service), out));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 502);
    assert_eq!(lines[0], "TASK      STATUS   CREATED               STARTED  COMPLETED");
    assert_eq!(lines[501], "task-500  running  2026-01-01T00:00:00Z  -        -");
}

#[test]
fn health_tells_by_its_exit_code() {
    let service = Service::start();
    service.status.set_notice("redactor", Some("none in the chain".to_owned()));
    let (code, text) = run(|out| health(&target(&service), out));
    assert_eq!(
        (code, text.as_str()),
        (ExitCode::SUCCESS, "healthy (starting, )\nnotices: redactor: none in the chain\n")
    );
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = Target { base: format!("http://{free}"), token: None };
    let (code, text) = run(|out| health(&away, out));
    assert_eq!(code, ExitCode::FAILURE);
    assert!(text.starts_with("unhealthy: cannot reach the service"), "{text}");
    let error = ls(&away, &mut Vec::new()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::from(69));
}

#[test]
fn the_token_is_sent() {
    let service = Service::start_with(With { token: Some("s3cret"), ..With::default() });
    let with = |token: &str| Target { base: service.base.clone(), token: Some(Secret::new(token)) };
    assert!(ls(&with("s3cret"), &mut Vec::new()).is_ok());
    let error = ls(&with("wrong"), &mut Vec::new()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::from(77));
    assert!(health(&target(&service), &mut Vec::new()).is_ok());
}

#[test]
fn plugins_are_listed_and_forgotten() {
    let service = Service::start();
    service.require("redact");
    let (_, text) = run(|out| plugins(&target(&service), false, out));
    let rest = "required: redact\norder: none\nfolders: none\n";
    assert_eq!(text, format!("STATE  NAME    SHA256\nlive   redact  0123456789ab\n{rest}"));
    let (_, text) = run(|out| plugins(&target(&service), true, out));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["required"], serde_json::json!(["redact"]));
    let (code, text) = run(|out| forget(&target(&service), "redact", out));
    assert_eq!((code, text.as_str()), (ExitCode::SUCCESS, "redact is no longer required\n"));
    let (code, _) = run(|out| forget(&target(&service), "redact", out));
    assert_eq!(code, ExitCode::FAILURE);
    let (_, text) = run(|out| plugins(&target(&service), false, out));
    assert_eq!(text, "no plugins\nrequired: none\norder: none\nfolders: none\n");
}

#[test]
fn a_closed_pipe_ends_well() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let service = Service::start();
    assert_eq!(ls(&target(&service), &mut Closed).unwrap(), ExitCode::SUCCESS);
}
