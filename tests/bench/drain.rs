//! `make bench`: how fast a full backlog is drained, as ratios within one run, on a private Redis that shares the machine.
//! (a) is a raw XREADGROUP+XACK loop, COUNT 1000, one request at a time; (b) the service without plugins, (c) with `redact`,
//! (d) with `redact`, `usage` and `transcript`. `FSYNC=always`, default `MAX_BATCH_SIZE` unless a line says otherwise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, and ends where it cannot go on"
)]

use std::time::{Duration, Instant};

use redis::{Connection, Value};

#[path = "../it"]
#[allow(dead_code, reason = "the tests use more of it")]
mod it {
    pub(crate) mod redis_server;
}
mod load;
mod native;
#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod process;
mod stage;

use it::redis_server::RedisServer;
use load::Load;
use process::Service;
use stage::{STREAM, plugins_dir, position};

const ROUNDS: usize = 3;

/// A kind of run.
#[derive(Clone, Copy)]
struct Run {
    name: &'static str,
    plugins: &'static [&'static str],
    batch: Option<&'static str>,
}

const RUNS: [Run; 3] = [
    Run { name: "(b) service, no plugins", plugins: &[], batch: None },
    Run { name: "(c) service, redact", plugins: &["redact"], batch: None },
    Run { name: "(d) service, all three", plugins: &["redact", "usage", "transcript"], batch: None },
];
const BIG_BATCH: Run = Run { name: "(b) MAX_BATCH_SIZE=500", plugins: &[], batch: Some("500") };

fn main() {
    // `cargo test --benches` passes --test: one small round proves that the benchmark itself works.
    let quick = std::env::args().any(|arg| arg == "--test");
    let scale = if quick { 20 } else { 1 };
    let rounds = if quick { 1 } else { ROUNDS };
    for (bytes, events) in [(500, 300_000 / scale), (4096, 60_000 / scale)] {
        backlog(Load { bytes, events, tasks: 1000 }, rounds);
    }
    live_tasks(Load { bytes: 500, events: 100_000 / scale, tasks: 10_000 / scale });
    native::compare(20_000 / scale);
}

/// Rounds of all runs over one backlog.
fn backlog(load: Load, rounds: usize) {
    println!("\n== {} events of {} bytes of output, {} tasks, FSYNC=always", load.events, load.bytes, load.tasks);
    let Some(server) = RedisServer::start() else { return };
    let mut control = server.connect();
    let last = load.fill(&mut control, STREAM);
    // Removed at the end: a file system that is busy forgetting thousands of files makes new ones slowly.
    let mut dirs = Vec::new();
    let mut ratios: Vec<Vec<f64>> = vec![Vec::new(); RUNS.len() + 1];
    for round in 1..=rounds {
        println!("round {round}");
        let raw = raw_loop(&server, &load);
        for (run, ratios) in RUNS.iter().chain([&BIG_BATCH]).zip(&mut ratios) {
            let rate = drain(&server, &mut control, run, &load, &last, &mut dirs);
            ratios.push(rate / raw);
            println!("  {:<26} {:>8.0} events/s  {:.2} of (a)", run.name, rate, rate / raw);
        }
    }
    let median = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!("median over {rounds} rounds, of (a):");
    for (run, ratios) in RUNS.iter().chain([&BIG_BATCH]).zip(&ratios) {
        println!("  {:<26} {:.2}", run.name, median(ratios));
    }
    let batches: Vec<f64> = ratios[0].iter().zip(&ratios[RUNS.len()]).map(|(small, big)| small / big).collect();
    println!("  default batch of MAX_BATCH_SIZE=500, within a round: {:.2}", median(&batches));
}

/// Peak memory with many live tasks.
fn live_tasks(load: Load) {
    println!("\n== {} live tasks, all three plugins", load.tasks);
    let Some(server) = RedisServer::start() else { return };
    let mut control = server.connect();
    let last = load.fill(&mut control, STREAM);
    drain(&server, &mut control, &RUNS[2], &load, &last, &mut Vec::new());
}

/// (a): what a consumer does at least.
fn raw_loop(server: &RedisServer, load: &Load) -> f64 {
    let mut connection = server.connect();
    let group = "raw";
    let _: Value = redis::cmd("XGROUP").arg("CREATE").arg(STREAM).arg(group).arg(0).query(&mut connection).unwrap();
    let server_cpu = process::cpu_of(server.pid());
    let own_cpu = process::cpu_of(std::process::id());
    let started = Instant::now();
    let mut read = 0;
    while read < load.events {
        let reply: Value = redis::cmd("XREADGROUP")
            .arg("GROUP")
            .arg(group)
            .arg("c")
            .arg("COUNT")
            .arg(1000)
            .arg("STREAMS")
            .arg(STREAM)
            .arg(">")
            .query(&mut connection)
            .unwrap();
        let ids = ids_of(&reply);
        read += ids.len();
        let _: u64 = redis::cmd("XACK").arg(STREAM).arg(group).arg(&ids).query(&mut connection).unwrap();
    }
    let rate = load.events as f64 / started.elapsed().as_secs_f64();
    let per_event = |cpu: Duration| cpu.as_secs_f64() * 1e6 / load.events as f64;
    println!(
        "  {:<26} {:>8.0} events/s  COUNT 1000; CPU µs/event: client {:.1}, redis-server {:.1}",
        "(a) raw XREADGROUP+XACK",
        rate,
        per_event(process::cpu_of(std::process::id()) - own_cpu),
        per_event(process::cpu_of(server.pid()) - server_cpu)
    );
    let _: Value = redis::cmd("XGROUP").arg("DESTROY").arg(STREAM).arg(group).query(&mut connection).unwrap();
    rate
}

/// Starts the service on the full backlog; events per second from its first published position to the last one.
fn drain(
    server: &RedisServer,
    control: &mut Connection,
    run: &Run,
    load: &Load,
    last: &str,
    dirs: &mut Vec<tempfile::TempDir>,
) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let _: Value = redis::cmd("XGROUP").arg("DESTROY").arg(STREAM).arg("task-logger").query(control).unwrap();
    let plugins = plugins_dir(dir.path(), run.plugins);
    let server_cpu = process::cpu_of(server.pid());
    let mut service = Service::start(Some(&server.url()), dir.path(), &plugins, run.batch);
    let deadline = Instant::now() + Duration::from_secs(300);
    let (mut first, mut seen) = (None, (Instant::now(), 0));
    loop {
        let (position, read) = position(control);
        seen = if read == seen.1 { seen } else { (Instant::now(), read) };
        if read > 0 && first.is_none() {
            first = Some(seen);
        }
        if position == last {
            break;
        }
        assert!(Instant::now() < deadline, "not drained: {position} of {last}\n{}", service.log());
        std::thread::sleep(Duration::from_millis(2));
    }
    let (from, skipped) = first.unwrap();
    let rate = (seen.1 - skipped) as f64 / (seen.0 - from).as_secs_f64();
    let redis = process::cpu_of(server.pid()) - server_cpu;
    service.wait_applied();
    println!(
        "    peak RSS {} MiB; CPU µs/event: redis-server {:.1}, service {}",
        service.peak_rss_mib(),
        redis.as_secs_f64() * 1e6 / load.events as f64,
        service.cpu_by_stage(load.events)
    );
    service.print_plugin_cost(run.plugins);
    service.stop();
    process::verify(&server.url(), dir.path());
    dirs.push(dir);
    rate
}

/// The ids of a read's entries, taken from the raw reply: the typed one is slower.
fn ids_of(reply: &Value) -> Vec<&[u8]> {
    let Value::Array(streams) = reply else { return Vec::new() };
    let Some(Value::Array(stream)) = streams.first() else { return Vec::new() };
    let Some(Value::Array(entries)) = stream.get(1) else { return Vec::new() };
    entries.iter().filter_map(id_of).collect()
}

fn id_of(entry: &Value) -> Option<&[u8]> {
    let Value::Array(entry) = entry else { return None };
    if let Some(Value::BulkString(id)) = entry.first() { Some(id) } else { None }
}
