//! What a call into a plugin costs: `make bench-crossing`. A pass-through plugin shows the crossing alone; `redact` as a
//! component stands beside the same code called natively, on the same events. CPU time of the calling thread, the median of
//! rounds that take turns.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a program to be run by hand")]
#![allow(unused_crate_dependencies, reason = "benches see all of them")]

use std::{
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use redact::Redactor;
use task_logger::{
    config::Required,
    event::{Event, Id, Key, StreamId},
    plugin::{CompileLimits, HostConfig, LaneChain, PluginHost, Slice, States},
    status::Status,
    trust::TrustedKeys,
};

#[path = "load.rs"]
#[allow(dead_code, reason = "only the texts are of use here")]
mod load;

/// Events of a call.
const BATCH: usize = 16;
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(40);
const PROSE: &str =
    "The build passes now; I changed the parser so that it keeps the order of keys, and added a test for it. ";

/// A plugin that is live in a host of its own.
struct Live {
    host: Arc<PluginHost>,
    lane: LaneChain,
    _root: tempfile::TempDir,
}

fn main() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let pass = target.join("wasm32-wasip2/plugin/examples/pass.wasm");
    let redact = target.join("plugins/redact.wasm");
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    println!("\nfrom file to live, milliseconds: compiled anew, and from the cache");
    for name in ["redact", "usage", "transcript"] {
        let component = target.join(format!("plugins/{name}.wasm"));
        let component = fs::read(component).unwrap();
        let started = |folder: &[(&str, &[u8])]| {
            let root = tempfile::tempdir().unwrap();
            let began = Instant::now();
            let host = start(root.path(), folder, &cache);
            let took = began.elapsed().as_secs_f64() * 1e3;
            host.stop();
            took
        };
        // A host alone takes its time, too.
        let alone = started(&[]);
        let [anew, cached] = [(); 2].map(|()| started(&[("plugin.wasm", &component)]) - alone);
        println!("{:24} {anew:8.0} {cached:8.1}", format!("{name} {} KiB", component.len() / 1024));
    }
    for sidecar in ["isolation = \"reuse\"", "isolation = \"call\""] {
        let (mut passing, mut redacting) = (live(&pass, sidecar, &cache), live(&redact, sidecar, &cache));
        let native = Redactor::new("{}").unwrap();
        println!("\n{sidecar}, {BATCH} events a call, microseconds of CPU per event");
        println!("{:24} {:>8} {:>8} {:>8} {:>8} {:>8}", "", "crossing", "redact", "native", "ratio", "inside");
        for (name, kind) in [("prose", "task:output"), ("prose", "task:tool_result"), ("load", "task:output")] {
            for bytes in [500, 1024, 4096] {
                let texts: Vec<String> = (0..BATCH).map(|n| data(name, bytes, n)).collect();
                let events: Vec<Event> = (1..).zip(&texts).map(|(seq, data)| event(seq, kind, data)).collect();
                let views: Vec<redact::Event<'_>> = texts.iter().map(|data| redact::Event { kind, data }).collect();
                let mut times = [const { Vec::new() }; 3];
                for _ in 0..ROUNDS {
                    times[0].push(measure(|| passing.call(&events)));
                    times[1].push(measure(|| redacting.call(&events)));
                    times[2].push(measure(|| {
                        black_box(native.process("", black_box(&views), false));
                    }));
                }
                let [crossing, component, native] = times.map(median);
                println!(
                    "{:24} {crossing:8.3} {component:8.3} {native:8.3} {:8.2} {:8.2}",
                    format!("{name} {} {bytes} B", kind.trim_start_matches("task:")),
                    component / native,
                    (component - crossing) / native,
                );
            }
        }
        passing.host.stop();
        redacting.host.stop();
    }
    let started = Instant::now();
    black_box(Redactor::new("{}").unwrap());
    println!("\nrules compiled natively in {:?}", started.elapsed());
}

fn live(component: &Path, sidecar: &str, cache: &Path) -> Live {
    let root = tempfile::tempdir().unwrap();
    let missing = format!("{} is missing: `make bench-crossing` builds it", component.display());
    let component = fs::read(component).expect(&missing);
    let host = start(root.path(), &[("plugin.toml", sidecar.as_bytes()), ("plugin.wasm", &component)], cache);
    let lane = host.lane();
    assert!(!lane.is_empty(), "not live: {}", host.report());
    Live { host, lane, _root: root }
}

/// A host with these files in its folder of plugins.
fn start(root: &Path, files: &[(&str, &[u8])], cache: &Path) -> Arc<PluginHost> {
    let folder = root.join("plugins");
    fs::create_dir(&folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
    let config = HostConfig {
        plugins_dirs: vec![folder],
        required: Required::Redactors,
        cache_dir: PathBuf::from(cache),
        state_dir: root.join("state"),
        memory_max: 64 << 20,
        timeout_max: Duration::from_secs(1),
        compile: CompileLimits::default(),
        trusted_keys: TrustedKeys::default(),
        exe: None,
    };
    PluginHost::start(config, Arc::new(Status::default())).unwrap()
}

impl Live {
    fn call(&mut self, events: &[Event]) {
        let states = States::default();
        let slice = Slice { task: Some("task-1"), events, flush: false, states: &states };
        black_box(self.lane.process(&slice).unwrap());
    }
}

/// Microseconds per event.
fn measure(mut call: impl FnMut()) -> f64 {
    let (started, cpu) = (Instant::now(), cpu_time());
    let mut calls = 0_u32;
    while started.elapsed() < ROUND {
        for _ in 0..16 {
            call();
        }
        calls += 16;
    }
    let batch = f64::from(u32::try_from(BATCH).unwrap());
    (cpu_time() - cpu).as_secs_f64() * 1e6 / f64::from(calls) / batch
}

/// Of this thread: what else runs on the machine does not count.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn data(name: &str, bytes: usize, seed: usize) -> String {
    if name == "load" {
        let load = load::Load { bytes: bytes - 50, events: 1, tasks: 1 };
        return load.data(1, &mut fastrand::Rng::with_seed(seed as u64));
    }
    let content: String = PROSE.chars().cycle().skip(seed * 7).take(bytes - 40).collect();
    format!(r#"{{"content":"{content}\n","message_id":"msg_1"}}"#)
}

fn event(seq: u64, kind: &str, data: &str) -> Event {
    Event {
        id: StreamId { ms: 1_700_000_000_000, seq },
        kind: kind.into(),
        key: Key::Task(Id::parse("task-1").unwrap()),
        task: None,
        timestamp: "2023-11-14T22:13:20Z".into(),
        timestamp_ms: 1_700_000_000_000,
        data: data.to_owned(),
        says_failed: false,
        size: data.len(),
    }
}
