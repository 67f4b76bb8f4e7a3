//! Load faults: more than the service can take, in each of the ways that there are. Memory and open files stay below what is
//! configured, the rest waits in the stream, and a small task does not wait for the big one behind which it comes.
//! `TASK_LOGGER_LOAD=full` runs each at its full size.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use redis::Connection;

use crate::{
    checker::verify,
    rig::{Node, PATIENCE, Rig, let_pass, published, within},
};

mod shapes;
#[cfg(feature = "failpoints")]
mod slow_disk;
mod slow_plugin;

/// Most files that the process may open, set by its limit.
const FILES_MAX: usize = 256;
/// `READ_WINDOW`, in MiB: as little as the largest event allows.
const WINDOW: u64 = 16;
/// Most memory, in MiB: what the program takes by itself, and what each byte in flight is worth (raw, parsed, as records, in the
/// journal's group, in the batch that is applied).
const MEMORY_MAX: u64 = 160 + 12 * WINDOW;

/// A service with limits, a stream whose ids are counted up, and the small tasks that are waited for.
struct Overload {
    rig: Rig,
    node: Node,
    redis: Connection,
    files: Watch,
    made: u64,
    small: BTreeMap<u64, Instant>,
    latencies: Vec<Duration>,
}

/// The most files that a process had open at once.
struct Watch {
    most: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How much of it: `few` beside other tests, `full` by `TASK_LOGGER_LOAD=full`.
fn size(few: u64, full: u64) -> u64 {
    if is_full() { full } else { few }
}

fn is_full() -> bool {
    std::env::var("TASK_LOGGER_LOAD").as_deref() == Ok("full")
}

/// A line of `/proc/PID/status`, in KiB.
pub(crate) fn memory(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':')).unwrap();
    value.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// How many files a process has open.
pub(crate) fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Appends outputs of tasks, in one round trip, under ids that count up from `made`.
pub(crate) fn append(redis: &mut Connection, made: &mut u64, entries: &[(&str, &str)]) {
    let mut pipe = redis::pipe();
    for (task, content) in entries {
        *made += 1;
        let data = format!(r#"{{"content":"{content}"}}"#);
        let fields = [("type", "task:output"), ("task_id", task), ("data", &data)];
        pipe.cmd("XADD").arg("task_events").arg(format!("{made}-0")).arg(&fields).ignore();
    }
    pipe.query::<()>(redis).unwrap();
}

/// Up to which of these ids the position is published.
pub(crate) fn done(redis: &mut Connection) -> u64 {
    published(redis).split_once('-').and_then(|(ms, _)| ms.parse().ok()).unwrap_or(0)
}

/// The process itself, and no other, under a limit of open files.
pub(crate) fn limited(files: usize) -> Vec<String> {
    vec!["sh".into(), "-c".into(), format!("ulimit -n {files} && exec \"$0\" \"$@\"")]
}

// === impl Watch ===

impl Watch {
    fn on(pid: u32) -> Self {
        let (most, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, ended) = (Arc::clone(&most), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                seen.fetch_max(open_files(pid), Ordering::Relaxed);
                thread::park_timeout(Duration::from_millis(20));
            }
        });
        Self { most, stop, thread: Some(thread) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            drop(thread.join());
        }
    }
}

// === impl Overload ===

impl Overload {
    fn on(rig: Rig) -> Self {
        let rig = rig.set("READ_WINDOW", &format!("{WINDOW}MiB"));
        let node = rig.spawn_under(&limited(FILES_MAX));
        assert!(within(PATIENCE, || node.takes_events()), "{}", node.log());
        let (files, redis) = (Watch::on(node.pid()), rig.connect());
        Self { rig, node, redis, files, made: 0, small: BTreeMap::new(), latencies: Vec::new() }
    }

    fn append(&mut self, entries: &[(&str, &str)]) {
        append(&mut self.redis, &mut self.made, entries);
    }

    /// Appends the one event of a task of its own, and notes when.
    fn append_small(&mut self) {
        let task = format!("small-{}", self.made + 1);
        self.append(&[(&task, "a few words")]);
        self.small.insert(self.made, Instant::now());
    }

    /// Looks which small tasks' events stand in their files now.
    fn look(&mut self) {
        let logs = self.rig.logs();
        let stands = |id: &u64| {
            let file = logs.join(format!("small-{id}/03-agent-output.jsonl"));
            fs::metadata(file).is_ok_and(|found| found.len() > 0)
        };
        let there: Vec<u64> = self.small.keys().copied().filter(stands).collect();
        for id in there {
            self.latencies.extend(self.small.remove(&id).map(|since| since.elapsed()));
        }
    }

    /// Waits until at most so many entries are not published.
    #[track_caller]
    fn wait_for(&mut self, ahead: u64) {
        let mut last = (done(&mut self.redis), Instant::now());
        loop {
            self.look();
            let now = done(&mut self.redis);
            if now + ahead >= self.made {
                return;
            }
            assert!(self.node.is_running(), "it is gone:\n{}", self.node.log());
            if now > last.0 {
                last = (now, Instant::now());
            }
            assert!(last.1.elapsed() < PATIENCE, "stands still at {now} of {}:\n{}", self.made, self.node.log());
            let_pass(Duration::from_millis(2));
        }
    }

    /// Waits for all of it, and judges: memory, files, every entry's place, and at full size the small tasks' longest wait.
    #[track_caller]
    fn end(mut self, what: &str, longest: Duration) {
        self.wait_for(0);
        assert!(within(PATIENCE, || {
            self.look();
            self.small.is_empty()
        }));
        let memory = memory(self.node.pid(), "VmHWM") >> 10;
        let files = self.files.most.load(Ordering::Relaxed);
        let waited = self.latencies.iter().max().copied().unwrap_or_default();
        println!(
            "{what}: {} entries, memory at most {memory} of {MEMORY_MAX} MiB, files at most {files} of {FILES_MAX}, \
             a small task waited {waited:?} of {longest:?}",
            self.made
        );
        assert!(memory <= MEMORY_MAX, "{what}: {memory} MiB");
        assert!(files > 0 && files <= FILES_MAX, "{what}: {files} files");
        // Beside other tests the machine's disk may be late for all of them.
        assert!(waited <= longest || !is_full(), "{what}: a small task waited {waited:?}");
        let log = self.node.log();
        assert!(!log.contains("Too many open files"), "{what}: {log}");
        drop(self.files);
        self.node.terminate();
        let verdict = verify(&self.rig, &[]);
        assert_eq!(verdict["total"], 0, "{what}: {verdict:.600}");
    }
}
