//! Power loss: the real service works under `strace`, and from the record of its system calls the disk is made anew as it may
//! stand after the power went at some moment, with whatever was not synced lost, in part or whole. The service starts on that
//! disk, and nothing that it answered for may be missing, doubled or out of order.
//!
//! `TASK_LOGGER_POWER_LOSSES=n` tries n moments instead of a few.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::BufReader,
    ops::Not,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::{
    checker::{Id, Stream},
    kills,
    load::Load,
    rig::{Node, Rig, eventually, seed, struck},
};

mod disk;
mod trace;

use disk::{Disk, Names};
use trace::{Act, Call};

const FOLDERS: [&str; 3] = ["logs", "state", "stream"];

/// A service that was watched: what it did to its files, and what it answered.
struct Watched {
    disk: Disk,
    lines: usize,
    /// Entries that it took in, with the line at which the answer went out.
    answered: Vec<(usize, Id)>,
    seed: u64,
}

/// Whether processes can be traced here; a skip is never silent.
pub(crate) fn strace_works() -> bool {
    let tried = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let works = tried.as_ref().is_ok_and(std::process::ExitStatus::success);
    if !works {
        let missing = tried.is_err();
        assert!(!missing || std::env::var_os("REQUIRE_STRACE").is_none(), "strace is missing: make setup-strace");
        eprintln!("SKIPPED: {}", if missing { "there is no strace" } else { "processes cannot be traced here" });
    }
    works
}

fn rig() -> Rig {
    kills::chain(Rig::embedded())
}

/// Appends events, until `time` is over.
fn feed(node: &Node, load: &mut Load, rng: &mut Rng, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        let batch: Vec<BTreeMap<String, String>> =
            (0..rng.usize(1..12)).map(|_| load.next().into_iter().collect()).collect();
        node.post("/events", &serde_json::to_string(&batch).unwrap());
    }
}

/// Runs the service under `strace`, kills it, and reads what it did. `lives` is how often it starts.
fn watched(rig: &Rig, seed: u64, lives: usize) -> Watched {
    let mut rng = Rng::with_seed(seed);
    let mut load = Load::new(seed, 12);
    let mut calls: Vec<Call> = Vec::new();
    let mut lines = 0;
    for life in 0..lives {
        let record = rig.root().join(format!("record-{life}"));
        let node = rig.spawn_under(&tracer(&record));
        eventually("it takes events in", || node.takes_events());
        feed(&node, &mut load, &mut rng, Duration::from_millis(2800));
        node.kill();
        let mut text = String::new();
        eventually("the record is complete", || {
            text = last_line(&record);
            text.contains("+++ killed by SIGKILL")
        });
        let read = trace::read(BufReader::new(fs::File::open(&record).unwrap()), rig.root());
        calls.extend(read.into_iter().map(|call| Call {
            begun: lines + call.begun,
            ended: lines + call.ended,
            act: call.act,
        }));
        lines = calls.last().map_or(0, |call| call.ended + 1);
        fs::remove_file(record).unwrap();
    }
    let answered = calls.iter().flat_map(answered).collect();
    Watched { disk: Disk::new(rig.root(), &calls), lines, answered, seed }
}

fn tracer(record: &Path) -> Vec<String> {
    let size = trace::STRING_MAX.to_string();
    let which = format!("trace={}", trace::CALLS);
    // With -D the tracer is nobody's parent: the process that is killed is the service.
    let flags = ["strace", "-D", "-f", "--seccomp-bpf", "-y", "-xx", "--abbrev=none", "-s", &size, "-e", &which, "-o"];
    flags.into_iter().map(str::to_owned).chain([record.to_str().unwrap().to_owned(), "--".to_owned()]).collect()
}

fn last_line(path: &Path) -> String {
    use std::os::unix::fs::FileExt;
    let Ok(file) = fs::File::open(path) else { return String::new() };
    let mut tail = [0; 200];
    let length = file.metadata().unwrap().len();
    let read = file.read_at(&mut tail, length.saturating_sub(200)).unwrap();
    String::from_utf8_lossy(&tail[..read]).into_owned()
}

/// The ids in an answer to `POST /events`.
fn answered(call: &Call) -> Vec<(usize, Id)> {
    let Act::Answer(bytes) = &call.act else { return Vec::new() };
    let text = String::from_utf8_lossy(bytes);
    let Some((_, ids)) = text.split_once("{\"ids\":[") else { return Vec::new() };
    let ids = ids.split(']').next().unwrap().split(',').map(|id| id.trim_matches('"').to_owned());
    ids.filter_map(|id| Some((call.begun, Id::parse(&id)?))).collect()
}

/// A rig on the disk as it may be after `line`.
fn after(watched: &Watched, line: usize, names: Names, rng: &mut Rng) -> Rig {
    let rig = rig();
    let restored = rig.root().join("restored");
    watched.disk.after(line, names, rng, &restored);
    for folder in FOLDERS.iter().filter(|folder| restored.join(folder).is_dir()) {
        fs::rename(restored.join(folder), rig.root().join(folder)).unwrap();
    }
    rig
}

/// Starts on what is left, lets all of it be worked through, and looks.
fn prove(rig: &Rig, watched: &Watched, line: usize) {
    let node = rig.spawn();
    eventually("all that is left is committed", || {
        let metrics = node.json("/metrics");
        node.takes_events() && metrics["queue_depth"] == 0 && metrics["events"]["held"] == 0
    });
    node.terminate();
    let stream = Stream::of_embedded(&rig.root().join("stream"));
    stream.prove(rig, &["transcript.md", "usage.json"]);
    let there: HashSet<Id> = stream.entries.iter().map(|entry| entry.id).collect();
    let due = watched.answered.iter().filter(|(at, _)| *at <= line);
    let lost: Vec<&Id> = due.map(|(_, id)| id).filter(|id| !there.contains(id)).collect();
    assert!(lost.is_empty(), "answered for and lost: {lost:?}");
}

/// How many moments are tried.
fn moments(few: usize) -> usize {
    std::env::var("TASK_LOGGER_POWER_LOSSES").ok().and_then(|n| n.parse().ok()).unwrap_or(few)
}

fn loses_nothing(test: &str, names: Names, few: usize) {
    if !strace_works() {
        return;
    }
    let seed = seed(test);
    let first = rig();
    let watched = watched(&first, seed, 2);
    assert!(watched.answered.len() > 100, "only {} entries were taken in", watched.answered.len());
    let mut rng = Rng::with_seed(watched.seed);
    for moment in 0..moments(few) {
        let line = rng.usize(..watched.lines);
        let at: PathBuf = watched.disk.root().into();
        eprintln!("{test}: moment {moment}, line {line} of {} ({})", watched.lines, at.display());
        let rig = after(&watched, line, names, &mut rng);
        prove(&rig, &watched, line);
        struck(&format!("power loss, names lost: {names:?}"));
    }
}

#[test]
fn exactly_once_in_order_over_power_loss_on_a_journaling_file_system() {
    loses_nothing("exactly_once_in_order_over_power_loss_on_a_journaling_file_system", Names::InOrder, 12);
}

#[test]
fn exactly_once_in_order_over_power_loss_with_names_lost_at_random() {
    loses_nothing("exactly_once_in_order_over_power_loss_with_names_lost_at_random", Names::Any, 12);
}

#[test]
fn power_loss_is_noticed_where_nothing_is_synced() {
    if !strace_works() {
        return;
    }
    // The control: without syncs the same disk loses answered entries, or what is left does not fit together.
    let seed = seed("power_loss_is_noticed_where_nothing_is_synced");
    let first = rig();
    let mut watched = watched(&first, seed, 1);
    watched.disk.forget_syncs();
    let mut rng = Rng::with_seed(seed);
    let caught = (0..8).any(|_| {
        let line = watched.lines / 2 + rng.usize(..watched.lines / 2);
        let rig = after(&watched, line, Names::Any, &mut rng);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let stream = Stream::of_embedded(&rig.root().join("stream"));
            let there: HashSet<Id> = stream.entries.iter().map(|entry| entry.id).collect();
            watched.answered.iter().filter(|(at, _)| *at <= line).all(|(_, id)| there.contains(id))
        }))
        // A stream that cannot be read any more is noticed, too.
        .unwrap_or(false)
        .not()
    });
    assert!(caught, "a disk that loses everything went unnoticed");
}
