//! The program as it is called: settings, statuses, and what `publish` puts into a stream.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use task_logger::{
    publish::{Sink, send, stream_json::Translator},
    source::{
        Fields, OwnRequest, Stream, Want,
        embedded::EmbeddedStream,
        redis::{RedisConfig, RedisStream},
    },
};

use crate::redis_server::RedisServer;

const EVENT_MAX: usize = 16 << 20;

/// Runs the program with nothing but these variables and this input.
fn run(args: &[&str], env: &[(&str, &str)], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_task-logger"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A program that ends early closes its end; what it says is looked at, not this.
    let writing = std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn bad_settings_end_with_64_and_are_all_told() {
    let env = [("PORT", "http"), ("LOG_DIR", "/x"), ("API_TOKEN", "pass word"), ("HOLD_MAX", "1")];
    for command in [&["serve"][..], &[], &["ls"], &["publish"], &["health"]] {
        let output = run(command, &env, b"");
        assert_eq!(output.status.code(), Some(64), "{command:?}");
        let told = stderr(&output);
        assert_eq!(told.lines().count(), 4, "{told}");
        assert!(told.contains("PORT=\"http\" is not valid: expected a whole number from 0 to 65535"), "{told}");
        assert!(told.contains("API_TOKEN=\"[secret]\"") && !told.contains("pass word"), "{told}");
    }
}

#[test]
fn bad_arguments_end_with_64_and_help_with_0() {
    assert_eq!(run(&["--prot", "1"], &[], b"").status.code(), Some(64));
    let help = run(&["--help"], &[], b"");
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("REDIS_CONSUMER_GROUP"));
    assert!(help.stderr.is_empty());
}

#[test]
fn a_missing_file_ends_with_1() {
    let output = run(&["publish", "no/such/file"], &[], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("cannot open no/such/file: "), "{}", stderr(&output));
}

/// All entries of a stream, without the time of publishing.
fn entries(stream: &dyn Stream) -> Vec<Fields> {
    let request = OwnRequest {
        epoch_min: 0,
        state_id: "s".into(),
        holds_local_lock: false,
        chain_digest: String::new(),
        state_dir: None,
    };
    let mut owned = stream.try_own(&request).unwrap().unwrap();
    owned.reader.start(None).unwrap();
    let mut all = Vec::new();
    loop {
        let batch = owned.reader.read(Want { count: 1000, bytes: 64 << 20 }, Duration::from_millis(50)).unwrap();
        if batch.entries.is_empty() {
            return all;
        }
        let timeless = |fields: Fields| fields.into_iter().filter(|(name, _)| name != "timestamp").collect();
        all.extend(batch.entries.into_iter().map(|entry| timeless(entry.fields)));
    }
}

fn field<'a>(fields: &'a Fields, name: &str) -> &'a str {
    let (_, value) = fields.iter().find(|(field, _)| field == name).unwrap();
    std::str::from_utf8(value).unwrap()
}

/// Publishes a session by the program into Redis and in-process into the embedded stream; both must hold the same.
fn published(server: &RedisServer, name: &str, session: &str) -> Vec<Fields> {
    let url = server.url();
    let args = ["publish", "--stream-json", "--task-id", "t-1", "--redis-stream", name, "-"];
    let output = run(&args, &[("REDIS_URL", &url)], session.as_bytes());
    assert!(output.status.success(), "{}", stderr(&output));
    let config = RedisConfig { url, stream: name.to_owned(), group: "task-logger".into(), event_max: EVENT_MAX };
    let in_redis = entries(&RedisStream::new(config).unwrap());

    let dir = tempfile::tempdir().unwrap();
    let embedded: Arc<dyn Stream> = Arc::new(EmbeddedStream::open(dir.path(), name, EVENT_MAX).unwrap());
    let sink = Sink::stream(Arc::clone(&embedded));
    let translator = Translator::new("t-1", true);
    let summary = send(session.as_bytes(), Some(translator), sink, EVENT_MAX, &mut std::io::stderr()).unwrap();
    let in_embedded = entries(&*embedded);
    assert_eq!((summary.refused, in_redis.len() as u64), (0, summary.events));
    assert!(in_redis == in_embedded, "the streams differ");
    assert!(stderr(&output).contains(&format!("published {} events", in_redis.len())), "{}", stderr(&output));
    in_redis
}

#[test]
fn a_session_is_the_same_in_both_streams_a_very_long_line_too() {
    let Some(server) = RedisServer::start() else { return };
    let text = "0123456789abcde\u{20ac}".repeat(983_040 / 18);
    let line =
        serde_json::json!({"type": "assistant", "message": {"id": "m", "content": [{"type": "text", "text": text}]}});
    let session = format!("{line}\nnot json\n");
    let entries = published(&server, "long", &session);
    let kinds: Vec<_> = entries.iter().map(|fields| field(fields, "type")).collect();
    assert_eq!(kinds, ["task:created", "task:started", "task:output", "task:raw_output", "task:failed"]);
    let data: Value = serde_json::from_str(field(&entries[2], "data")).unwrap();
    assert!(data["content"] == text.as_str());
    assert!(entries.iter().all(|fields| field(fields, "task_id") == "t-1"));
}

#[test]
fn real_sessions_are_the_same_in_both_streams() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("SKIPPED: no real sessions in ../shared/data");
        return;
    };
    let Some(server) = RedisServer::start() else { return };
    let files = files.map(|file| file.unwrap().path());
    for (n, path) in files.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).enumerate() {
        let session = std::fs::read_to_string(&path).unwrap();
        let entries = published(&server, &format!("real-{n}"), &session);
        assert!(entries.len() > session.lines().count());
        assert_eq!(field(entries.last().unwrap(), "type"), "task:completed");
    }
}

/// A session that goes on: the program with a line taken, its input still open.
fn going_on(server: &RedisServer) -> std::process::Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_task-logger"))
        .args(["publish", "--stream-json", "--task-id", "t-1"])
        .env_clear()
        .env("REDIS_URL", server.url())
        .stdin(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(b"a line\n").unwrap();
    let mut redis = server.connect();
    wait_until("the line was published while the input is open", || {
        redis::cmd("XLEN").arg("task_events").query::<u64>(&mut redis).unwrap() == 3
    });
    child
}

fn interrupt(child: &std::process::Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(180);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within 180 s");
        std::thread::yield_now();
    }
}

#[test]
fn an_interrupted_session_still_ends_its_task() {
    let Some(server) = RedisServer::start() else { return };
    let mut child = going_on(&server);
    interrupt(&child);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let config =
        RedisConfig { url: server.url(), stream: "task_events".into(), group: "g".into(), event_max: EVENT_MAX };
    let entries = entries(&RedisStream::new(config).unwrap());
    assert_eq!(field(entries.last().unwrap(), "type"), "task:failed");
}

#[test]
fn a_second_signal_ends_at_once() {
    let Some(server) = RedisServer::start() else { return };
    let mut child = going_on(&server);
    // Two that come close together are one to the process, so they are sent until it ends.
    wait_until("the program ended", || {
        interrupt(&child);
        child.try_wait().unwrap().is_some()
    });
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn event_lines_reach_redis_and_bad_ones_end_with_64() {
    let Some(server) = RedisServer::start() else { return };
    let url = server.url();
    let input = "{\"type\":\"task:output\",\"task_id\":\"t\",\"data\":{\"content\":\"x\"},\"more\":7}\nnonsense\n";
    let output = run(&["publish"], &[("REDIS_URL", &url)], input.as_bytes());
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("line 2 was not published: not valid JSON"), "{}", stderr(&output));
    let config = RedisConfig { url, stream: "task_events".into(), group: "task-logger".into(), event_max: EVENT_MAX };
    let entries = entries(&RedisStream::new(config).unwrap());
    assert_eq!(entries.len(), 1);
    assert_eq!((field(&entries[0], "data"), field(&entries[0], "more")), ("{\"content\":\"x\"}", "7"));
}

#[test]
fn a_folder_is_read_without_a_service() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().to_str().unwrap();
    let record = "{\"timestamp\":\"T\",\"type\":\"output\",\"content\":\"\u{9b}2J\",\"id\":\"1-0\"}\n";
    for (task, result) in [("good", Some(true)), ("bad", Some(false)), ("going", None)] {
        std::fs::create_dir(temp.path().join(task)).unwrap();
        std::fs::write(temp.path().join(task).join("03-agent-output.jsonl"), record).unwrap();
        if let Some(success) = result {
            let text = format!("{{\"success\":{success}}}");
            std::fs::write(temp.path().join(task).join("04-final-result.json"), text).unwrap();
        }
    }
    let of = |line: &str| {
        let mut args: Vec<_> = line.split(' ').collect();
        args.extend(["--dir", dir]);
        let output = run(&args, &[], b"");
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    for (line, code, text) in [
        ("logs good -f -o raw", 0, record),
        ("get going 03-agent-output.jsonl", 0, record),
        ("wait good", 0, "completed\n"),
        ("wait bad", 1, "failed\n"),
        ("wait going --timeout 10ms", 75, "still running\n"),
        ("wait none", 66, ""),
        ("logs none", 66, ""),
        ("get good none.json", 66, ""),
        ("logs good --regex (", 64, ""),
        ("archive good --format rar", 64, ""),
        ("get good 04-final-result.json -O /nonexistent/x", 74, ""),
    ] {
        assert_eq!(of(line), (code, text.to_owned()), "{line}");
    }
    assert_eq!(of("ls").1.lines().count(), 4);
    assert!(of("show good").1.contains("03-agent-output.jsonl"));
    let names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing is made in it: {names:?}");
}

#[test]
fn a_service_that_is_not_there_ends_with_69() {
    let url = format!("http://{}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    for command in [&["logs", "t", "-f"][..], &["ls"], &["wait", "t"], &["get", "t", "f"], &["search", "x"], &["top"]] {
        assert_eq!(run(command, &[("TASK_LOGGER_URL", &url)], b"").status.code(), Some(69), "{command:?}");
    }
}

#[test]
fn scripts_for_shells_and_manual_pages_are_printed() {
    for (args, holds) in [
        (&["completions", "bash"][..], "complete -F"),
        (&["completions", "zsh"], "#compdef task-logger"),
        (&["completions", "fish"], "complete -c task-logger"),
        (&["man"], ".TH task-logger 1"),
        (&["man", "logs"], ".TH task-logger-logs 1"),
    ] {
        let output = run(args, &[("PORT", "no matter")], b"");
        assert!(output.status.success(), "{args:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(holds), "{args:?}");
    }
    assert_eq!(run(&["man", "fly"], &[], b"").status.code(), Some(64));
}
