//! `make bench-reading`: what reading costs. A large task as a body, its end, and its size in memory; from `XADD` to a
//! follower's socket; and what a thousand followers of one task cost the write side.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, and ends where it cannot go on"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use redis::Value;

#[path = "../it"]
#[allow(dead_code, reason = "the tests use more of it")]
mod it {
    pub(crate) mod redis_server;
}
#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod load;
#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod process;
mod stage;

use it::redis_server::RedisServer;
use load::Load;
use process::{Service, cpu_of};
use stage::{STREAM, plugins_dir, position};

const ROUNDS: usize = 3;
/// Followers of one task, and how many of them take nothing.
const FOLLOWERS: (usize, usize) = (1000, 100);

fn main() {
    // `cargo test --benches` passes --test: one small round proves that the benchmark itself works.
    let quick = std::env::args().any(|arg| arg == "--test");
    large(if quick { 20 << 20 } else { 1 << 30 });
    latency(if quick { 1 } else { 10 });
    followers(if quick { 1 } else { ROUNDS }, if quick { 15_000 } else { 300_000 });
}

/// A task of this many bytes, read as a whole and from its end.
fn large(size: usize) {
    println!("\n== a task of {} MiB", size >> 20);
    let dir = tempfile::tempdir().unwrap();
    let task = dir.path().join("logs/large");
    fs::create_dir_all(&task).unwrap();
    let load = Load { bytes: 500, events: 0, tasks: 1 };
    let mut random = fastrand::Rng::with_seed(2);
    let mut file = std::io::BufWriter::new(fs::File::create(task.join("03-agent-output.jsonl")).unwrap());
    let (mut written, mut records) = (0, 0_u64);
    while written < size {
        let data = load.data(1, &mut random);
        let line = format!(
            "{{\"timestamp\":\"2026-01-31T12:00:00.123456Z\",\"type\":\"output\",{},\"id\":\"{}-0\"}}\n",
            data.trim_start_matches('{').trim_end_matches('}'),
            1_000_000 + records
        );
        file.write_all(line.as_bytes()).unwrap();
        (written, records) = (written + line.len(), records + 1);
    }
    drop(file);
    let mut service = Service::start(None, dir.path(), Path::new("none"), None);
    service.wait_ready();
    let first = |path: &str| {
        let begin = Instant::now();
        let mut answer = ask(service.port(), path);
        let mut byte = [0];
        answer.read_exact(&mut byte).unwrap();
        (begin.elapsed(), answer)
    };
    first("/tasks/large/logs?format=ndjson&tail=1").1.read_to_end(&mut Vec::new()).unwrap();
    let (rss, cpu) = (service.rss_kib(), cpu_of(service.pid()));
    let begin = Instant::now();
    let (to_first, mut answer) = first("/tasks/large/logs?format=ndjson");
    let mut block = vec![0; 1 << 20];
    let (mut got, mut most) = (0, rss);
    loop {
        let read = answer.read(&mut block).unwrap();
        got += read;
        most = most.max(service.rss_kib());
        if read == 0 {
            break;
        }
    }
    let (took, cpu) = (begin.elapsed().as_secs_f64(), (cpu_of(service.pid()) - cpu).as_secs_f64());
    let mib = got as f64 / f64::from(1 << 20);
    println!(
        "  NDJSON: first byte after {to_first:.1?}; {:.0} MiB/s, {:.0} MiB per second of the service's CPU; resident memory grew by {} KiB",
        mib / took,
        mib / cpu,
        most - rss
    );
    let read = service.bytes_read();
    let begin = Instant::now();
    let tail = first("/tasks/large/logs?format=ndjson&tail=1000").1;
    let lines = BufReader::new(tail).lines().filter(|line| line.as_ref().unwrap().contains("\"cursor\"")).count();
    println!(
        "  tail=1000: {lines} records after {:.1?}; {} KiB read",
        begin.elapsed(),
        (service.bytes_read() - read) >> 10
    );
    let begin = Instant::now();
    first("/tasks/large/counts?q=nothing+has+this").1.read_to_end(&mut Vec::new()).unwrap();
    println!(
        "  counts and a text that no record has: {:.0} MiB/s",
        (size >> 20) as f64 / begin.elapsed().as_secs_f64()
    );
    service.stop();
}

/// From before `XADD` to the follower's socket, at 1,000 events a second.
fn latency(seconds: u64) {
    println!("\n== from XADD to a follower's socket, 1,000 events/s, FSYNC=always, redact");
    let Some(server) = RedisServer::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let plugins = plugins_dir(dir.path(), &["redact"]);
    let mut service = Service::start(Some(&server.url()), dir.path(), &plugins, None);
    service.wait_ready();
    let mut redis = server.connect();
    let load = Load { bytes: 500, events: 0, tasks: 1 };
    let mut random = fastrand::Rng::with_seed(3);
    let mut add = |n: u64| {
        let data = load.data(1, &mut random).replacen('{', &format!("{{\"n\":{n},"), 1);
        let mut add = redis::cmd("XADD");
        add.arg(STREAM).arg("*").arg("type").arg("task:output").arg("task_id").arg("followed");
        let _: Value =
            add.arg("timestamp").arg("2026-01-31T12:00:00Z").arg("data").arg(data).query(&mut redis).unwrap();
    };
    add(0);
    let mut stream = loop {
        let stream = ask(service.port(), "/tasks/followed/stream");
        if stream.status == 200 {
            break BufReader::new(stream);
        }
        thread::sleep(Duration::from_millis(10));
    };
    let events = 1000 * seconds;
    let begin = Instant::now();
    let seen = thread::spawn(move || {
        let (mut seen, mut line) = (Vec::<(u64, Duration)>::new(), String::new());
        while seen.last().is_none_or(|(n, _)| *n < events) {
            line.clear();
            assert!(stream.read_line(&mut line).unwrap() > 0);
            if let Some(n) = line.split_once("\"n\":").and_then(|(_, rest)| rest.split(',').next()?.parse().ok()) {
                seen.push((n, begin.elapsed()));
            }
        }
        seen
    });
    let mut sent = vec![Duration::ZERO];
    for n in 1..=events {
        let due = Duration::from_millis(n);
        thread::sleep(due.saturating_sub(begin.elapsed()));
        sent.push(begin.elapsed());
        add(n);
    }
    let seen = seen.join().unwrap();
    let mut took: Vec<Duration> = seen.iter().filter(|(n, _)| *n > 0).map(|(n, at)| *at - sent[*n as usize]).collect();
    took.sort_unstable();
    assert_eq!(took.len() as u64, events);
    let part = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
    println!("  {events} events: p50 {:.1?}, p99 {:.1?}, most {:.1?}", part(50), part(99), part(100));
    service.stop();
}

/// A backlog drained alone, and while one of its tasks has many followers.
fn followers(rounds: usize, events: usize) {
    println!(
        "\n== {events} events of 1000 tasks drained, one task with {} followers, {} of them stalled",
        FOLLOWERS.0, FOLLOWERS.1
    );
    let Some(server) = RedisServer::start() else { return };
    let load = Load { bytes: 500, events, tasks: 1000 };
    let last = load.fill(&mut server.connect(), STREAM);
    let (mut dirs, mut ratios) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let (alone, _, _) = drain(&server, &load, &last, 0, &mut dirs);
        let (followed, memory, given) = drain(&server, &load, &last, FOLLOWERS.0, &mut dirs);
        println!(
            "  round {round}: alone {alone:.0} events/s, followed {followed:.0}; memory with followers at most {memory} MiB; {given} MiB taken by them"
        );
        ratios.push(followed / alone);
    }
    ratios.sort_by(f64::total_cmp);
    println!("  median over {rounds} rounds: {:.2} of alone", ratios[ratios.len() / 2]);
}

/// Events a second, the service's peak memory, and what followers took.
fn drain(
    server: &RedisServer,
    load: &Load,
    last: &str,
    followers: usize,
    dirs: &mut Vec<tempfile::TempDir>,
) -> (f64, u64, u64) {
    let mut redis = server.connect();
    let dir = tempfile::tempdir().unwrap();
    // The followed task is there before anything is read.
    let task = dir.path().join("logs/task-000000");
    fs::create_dir_all(&task).unwrap();
    // Somebody else's lease keeps it from reading until all who follow are there.
    let lease = format!("{{{STREAM}}}:lease");
    let _: Value = redis::cmd("SET").arg(&lease).arg("{}").query(&mut redis).unwrap();
    let mut service = Service::start(Some(&server.url()), dir.path(), &plugins_dir(dir.path(), &[]), None);
    service.wait_ready();
    let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut stalled = Vec::new();
    let open = |port| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET /tasks/task-000000/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream
    };
    let mut taking = Vec::new();
    for n in 0..followers {
        match n < FOLLOWERS.1 {
            true => stalled.push(open(service.port())),
            false => taking.push(open(service.port())),
        }
    }
    let reading = {
        let (stop, taken) = (Arc::clone(&stop), Arc::clone(&taken));
        thread::spawn(move || take(taking, &stop, &taken))
    };
    let _: Value = redis::cmd("DEL").arg(&lease).query(&mut redis).unwrap();
    let (mut begin, mut published) = (Instant::now(), String::new());
    while published != last {
        let read;
        (published, read) = position(&mut redis);
        if read == 0 {
            begin = Instant::now();
        }
        thread::sleep(Duration::from_millis(2));
    }
    let rate = load.events as f64 / begin.elapsed().as_secs_f64();
    service.wait_applied();
    let memory = service.peak_rss_mib();
    println!("    CPU µs/event {}", service.cpu_by_stage(load.events));
    stop.store(true, Ordering::Relaxed);
    reading.join().unwrap();
    service.stop();
    let _: Value = redis::cmd("XGROUP").arg("DESTROY").arg(STREAM).arg("task-logger").query(&mut redis).unwrap();
    dirs.push(dir);
    (rate, memory, taken.load(Ordering::Relaxed) >> 20)
}

/// Takes what comes on all of these, in one thread.
fn take(streams: Vec<TcpStream>, stop: &AtomicBool, taken: &AtomicU64) {
    let mut block = vec![0; 256 << 10];
    streams.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    while !stop.load(Ordering::Relaxed) {
        for mut stream in &streams {
            if let Ok(got) = stream.read(&mut block) {
                taken.fetch_add(got as u64, Ordering::Relaxed);
            }
        }
        // What a client does on another machine costs nothing here.
        thread::sleep(Duration::from_millis(100));
    }
}

/// An answer that is being read; its body without the frames.
struct Answer {
    from: BufReader<TcpStream>,
    status: u16,
    left: usize,
}

fn ask(port: u16, path: &str) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut from = BufReader::with_capacity(256 << 10, stream);
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut length = None;
    while line != "\r\n" {
        line.clear();
        from.read_line(&mut line).unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().ok();
        }
    }
    // Frames are counted down; a body of known length is one.
    Answer { from, status, left: length.unwrap_or(0) }
}

impl Read for Answer {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let mut line = String::new();
            self.from.read_line(&mut line)?;
            if line == "\r\n" {
                line.clear();
                self.from.read_line(&mut line)?;
            }
            self.left = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
        }
        let want = into.len().min(self.left);
        let got = self.from.read(&mut into[..want])?;
        self.left -= got;
        Ok(got)
    }
}
