//! The data in a guest's store: its empty WASI world, its limits, its deadline, and what it asked for in the running call.
//! Lives as long as one instance; what is staged here has no effect until the chain takes it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value};
use wasmtime::{ResourceLimiter, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::{ExtraWrite, sink::Sink};
use crate::{json::depth, layout::documents::DEPTH_MAX};

/// Longest plugin state, in bytes.
pub(super) const STATE_BYTES_MAX: usize = 64 << 10;
/// Longest log line, in bytes; longer ones are cut.
pub(super) const LOG_BYTES_MAX: usize = 4 << 10;
/// Log lines a call may write.
pub(super) const LOG_LINES_MAX: usize = 256;
/// Annotation text a call may write, in bytes.
pub(super) const ANNOTATION_BYTES_MAX: usize = 64 << 10;
/// Writes to extra files a call may make.
pub(super) const FILE_WRITES_MAX: usize = 4096;
/// Text for extra files that every call may write, in bytes; a call with larger events may write [`FILE_BYTES_FACTOR`] times these.
pub(super) const FILE_BYTES_MIN: usize = 1 << 20;
/// See [`FILE_BYTES_MIN`]. A transcript escapes its input, which may double it, and adds to it.
pub(super) const FILE_BYTES_FACTOR: usize = 4;
/// WASI resources alive at a time (streams, pollables, ...).
const RESOURCES_MAX: usize = 1024;
/// Random bytes in one WASI call.
const RANDOM_BYTES_MAX: u64 = 1 << 20;
/// Core instances of a component: componentize-py makes 16.
pub(super) const INSTANCES_MAX: usize = 64;
/// Tables of a component.
pub(super) const TABLES_MAX: usize = 16;
/// Entries of all tables: an interpreter's function table has some ten thousand.
pub(super) const TABLE_ELEMENTS_MAX: usize = 1 << 18;
/// The wall time a call may take is this many times its CPU time: a stalled machine is not the plugin's fault, but ends.
const WALL_FACTOR: u32 = 30;

/// What every instance of a plugin version knows of itself.
#[derive(Debug)]
pub(super) struct Identity {
    /// Manifest name.
    pub(super) name: Arc<str>,
    pub(super) redactor: bool,
    /// Sorted.
    pub(super) codes: Vec<Arc<str>>,
    /// Sorted.
    pub(super) files: Vec<Arc<str>>,
}

/// The data in a store.
pub(super) struct HostState {
    wasi: WasiCtx,
    table: ResourceTable,
    /// What it may allocate, and whether it asked for more.
    pub(super) limiter: Limiter,
    /// When the running call ends.
    pub(super) deadline: Deadline,
    identity: Option<Arc<Identity>>,
    processing: bool,
    state: Arc<str>,
    file_bytes_left: usize,
    annotation_bytes_left: usize,
    /// What the running call asked for.
    pub(super) staged: Staged,
    /// On an author's desk: where what the service hides goes.
    sink: Option<Arc<Sink>>,
}

/// What a call asked for.
#[derive(Debug, Default)]
pub(super) struct Staged {
    pub(super) state: Option<Arc<str>>,
    pub(super) files: Vec<ExtraWrite>,
    pub(super) annotation: Option<Map<String, Value>>,
    /// Index into the manifest's codes (one past them: `other`), and how much.
    pub(super) counts: Vec<(usize, u64)>,
    pub(super) logs: Vec<(Level, String)>,
}

/// Severity of a guest's log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Why the host ended a call; never a guest's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stop {
    #[error("ran past its time limit")]
    Timeout,
    #[error("wrote to a file that its manifest does not name")]
    UndeclaredFile,
    #[error("set a state of more than {STATE_BYTES_MAX} bytes")]
    StateTooLong,
    #[error("annotated with something that is not a JSON object")]
    NotAnObject,
    #[error("annotated with JSON that is nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("exceeded a quota")]
    Quota,
    #[error("used a host function in init that is for process only")]
    InInit,
    #[error("tried to sleep")]
    Sleep,
}

/// Limits of one store.
pub(super) struct Limiter {
    memory_max: usize,
    /// Bytes of linear memory in use.
    pub(super) memory: usize,
    /// More was asked for than allowed.
    pub(super) denied: bool,
}

/// The end of a call, by the thread's CPU time or the wall's.
pub(super) struct Deadline {
    limit: Duration,
    wall_end: Instant,
    /// Set at the first tick of a call: a call shorter than a tick never reads the CPU clock.
    cpu_end: Option<Duration>,
}

// === impl HostState ===

impl HostState {
    /// A state that grants nothing. Without an identity (a candidate's first instance) counts go nowhere.
    pub(super) fn new(identity: Option<Arc<Identity>>, memory_max: usize) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            wasi: nothing().build(),
            table,
            limiter: Limiter { memory_max, memory: 0, denied: false },
            deadline: Deadline { limit: Duration::ZERO, wall_end: Instant::now(), cpu_end: None },
            identity,
            processing: false,
            state: Arc::from(""),
            file_bytes_left: 0,
            annotation_bytes_left: 0,
            staged: Staged::default(),
            sink: None,
        }
    }

    /// The same on an author's desk, which sees what the service does not.
    pub(super) fn on_desk(mut self, sink: &Arc<Sink>) -> Self {
        let mut wasi = nothing();
        sink.furnish(&mut wasi);
        self.wasi = wasi.build();
        self.sink = Some(Arc::clone(sink));
        self
    }

    /// The desk's; the service has none.
    pub(super) fn sink(&self) -> Option<&Arc<Sink>> {
        self.sink.as_ref()
    }

    /// Prepares for `init`.
    pub(super) fn begin_init(&mut self, limit: Duration) {
        self.processing = false;
        self.staged = Staged::default();
        self.deadline.arm(limit);
    }

    /// Prepares for `process` of events of `bytes` together, with the plugin's state of their key.
    pub(super) fn begin_process(&mut self, limit: Duration, state: Arc<str>, bytes: usize) {
        self.processing = true;
        self.state = state;
        self.file_bytes_left = FILE_BYTES_MIN.max(bytes.saturating_mul(FILE_BYTES_FACTOR));
        self.annotation_bytes_left = ANNOTATION_BYTES_MAX;
        self.staged = Staged::default();
        self.limiter.denied = false;
        self.deadline.arm(limit);
    }

    /// Keeps the fact and the level of a redactor's line in `process`, of others the cut line.
    pub(super) fn stage_log(&mut self, level: Level, mut message: String) -> Result<(), Stop> {
        if self.staged.logs.len() >= LOG_LINES_MAX {
            return Err(Stop::Quota);
        }
        if let Some(sink) = &self.sink {
            sink.logged(level, &message);
        }
        let hides = self.processing && self.identity.as_ref().is_none_or(|identity| identity.redactor);
        if hides && self.sink.is_none() {
            message = format!("({} bytes, not shown)", message.len());
        } else {
            if message.len() > LOG_BYTES_MAX {
                // A copy: a line cut in place keeps all of its memory until the call ends, and lines may be very long.
                message = message.get(..message.floor_char_boundary(LOG_BYTES_MAX)).unwrap_or_default().to_owned();
            }
            if message.contains(char::is_control) {
                // A guest's newline must not begin a line of the service's log.
                message = message.replace(char::is_control, " ");
            }
        }
        self.staged.logs.push((level, message));
        Ok(())
    }

    pub(super) fn stage_count(&mut self, name: &str, n: u32) {
        let Some(identity) = &self.identity else { return };
        let code = identity.code_index(name).unwrap_or(identity.codes.len());
        match self.staged.counts.iter_mut().find(|(known, _)| *known == code) {
            Some((_, sum)) => *sum = sum.saturating_add(u64::from(n)),
            None => self.staged.counts.push((code, u64::from(n))),
        }
    }

    pub(super) fn plugin_state(&self) -> Result<&str, Stop> {
        self.in_process()?;
        Ok(self.staged.state.as_deref().unwrap_or(&self.state))
    }

    pub(super) fn stage_state(&mut self, value: String) -> Result<(), Stop> {
        self.in_process()?;
        if value.len() > STATE_BYTES_MAX {
            return Err(Stop::StateTooLong);
        }
        self.staged.state = Some(value.into());
        Ok(())
    }

    pub(super) fn stage_file(&mut self, name: &str, text: String, replace: bool) -> Result<(), Stop> {
        self.in_process()?;
        let identity = self.identity.as_ref().ok_or(Stop::UndeclaredFile)?;
        let at = identity.files.binary_search_by(|file| (**file).cmp(name)).map_err(|_| Stop::UndeclaredFile)?;
        let file = identity.files.get(at).map(Arc::clone).ok_or(Stop::UndeclaredFile)?;
        self.file_bytes_left = self.file_bytes_left.checked_sub(text.len()).ok_or(Stop::Quota)?;
        if self.staged.files.len() >= FILE_WRITES_MAX {
            return Err(Stop::Quota);
        }
        self.staged.files.push(ExtraWrite { name: file, replace, text });
        Ok(())
    }

    pub(super) fn stage_annotation(&mut self, json: &str) -> Result<(), Stop> {
        self.in_process()?;
        self.annotation_bytes_left = self.annotation_bytes_left.checked_sub(json.len()).ok_or(Stop::Quota)?;
        if depth(json) > DEPTH_MAX {
            return Err(Stop::TooDeep);
        }
        let more: Map<String, Value> = serde_json::from_str(json).map_err(|_| Stop::NotAnObject)?;
        match &mut self.staged.annotation {
            Some(known) => known.extend(more),
            none => *none = Some(more),
        }
        Ok(())
    }

    fn in_process(&self) -> Result<(), Stop> {
        if self.processing { Ok(()) } else { Err(Stop::InInit) }
    }
}

/// A world that grants nothing.
fn nothing() -> WasiCtxBuilder {
    let mut wasi = WasiCtx::builder();
    wasi.allow_tcp(false).allow_udp(false).max_random_size(RANDOM_BYTES_MAX);
    wasi
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

// === impl Identity ===

impl Identity {
    /// Where a code stands in the manifest's list, sorted.
    pub(super) fn code_index(&self, code: &str) -> Option<usize> {
        self.codes.binary_search_by(|known| (**known).cmp(code)).ok()
    }
}

// === impl Limiter ===

impl Limiter {
    /// The most it may use, in bytes.
    pub(super) fn memory_max(&self) -> usize {
        self.memory_max
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.memory_max {
            self.denied = true;
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.memory = self.memory.saturating_sub(current).saturating_add(desired);
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        1
    }
}

// === impl Deadline ===

impl Deadline {
    fn arm(&mut self, limit: Duration) {
        self.limit = limit;
        self.wall_end = Instant::now() + limit * WALL_FACTOR;
        self.cpu_end = None;
    }

    /// Called at each tick on the guest's thread.
    pub(super) fn check(&mut self) -> Result<(), Stop> {
        self.at(thread_cpu_time(), Instant::now())
    }

    fn at(&mut self, cpu: Duration, wall: Instant) -> Result<(), Stop> {
        let end = *self.cpu_end.get_or_insert(cpu + self.limit);
        if cpu >= end || wall >= self.wall_end { Err(Stop::Timeout) } else { Ok(()) }
    }
}

fn thread_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(redactor: bool) -> HostState {
        let identity =
            Identity { name: "p".into(), redactor, codes: vec!["a".into(), "b".into()], files: vec!["f.txt".into()] };
        let mut state = HostState::new(Some(Arc::new(identity)), 1 << 20);
        state.begin_process(Duration::from_secs(1), Arc::from("before"), 100);
        state
    }

    #[test]
    fn init_may_log_and_count_only() {
        let mut state = state(false);
        state.begin_init(Duration::from_secs(1));
        assert_eq!(state.stage_log(Level::Info, "hello".to_owned()), Ok(()));
        state.stage_count("a", 1);
        assert_eq!(state.plugin_state(), Err(Stop::InInit));
        assert_eq!(state.stage_state(String::new()), Err(Stop::InInit));
        assert_eq!(state.stage_file("f.txt", String::new(), false), Err(Stop::InInit));
        assert_eq!(state.stage_annotation("{}"), Err(Stop::InInit));
    }

    #[test]
    fn log_lines_are_cut_and_counted() {
        let mut state = state(false);
        // A character of three bytes lies across the cut.
        let long = format!("{}\u{20ac}", "x".repeat(LOG_BYTES_MAX - 1));
        assert_eq!(state.stage_log(Level::Warn, long), Ok(()));
        let line = &state.staged.logs[0].1;
        assert_eq!(line.len(), LOG_BYTES_MAX - 1);
        assert!(line.capacity() <= LOG_BYTES_MAX, "the rest is not kept in memory");
        assert_eq!(state.stage_log(Level::Warn, "two\nlines\u{1b}[0m".to_owned()), Ok(()));
        assert_eq!(state.staged.logs[1].1, "two lines [0m");
        for _ in 2..LOG_LINES_MAX {
            state.stage_log(Level::Warn, "x".to_owned()).unwrap();
        }
        assert_eq!(state.stage_log(Level::Warn, "x".to_owned()), Err(Stop::Quota));
    }

    #[test]
    fn what_a_call_may_write_is_bounded() {
        let mut state = state(true);
        assert_eq!(state.stage_file("other.txt", String::new(), false), Err(Stop::UndeclaredFile));
        assert_eq!(state.stage_file("f.txt", "x".repeat(FILE_BYTES_MIN), false), Ok(()));
        assert_eq!(state.stage_file("f.txt", "x".to_owned(), true), Err(Stop::Quota));
        assert_eq!(state.stage_annotation("[1]"), Err(Stop::NotAnObject));
        assert_eq!(state.stage_annotation(r#"{"a":1,"b":2}"#), Ok(()));
        assert_eq!(state.stage_annotation(r#"{"b":null}"#), Ok(()));
        let merged = serde_json::to_string(&state.staged.annotation).unwrap();
        assert_eq!(merged, r#"{"a":1,"b":null}"#);
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(ANNOTATION_BYTES_MAX));
        assert_eq!(state.stage_annotation(&long), Err(Stop::Quota));
        assert_eq!(state.stage_state("x".repeat(STATE_BYTES_MAX + 1)), Err(Stop::StateTooLong));
        assert_eq!(state.plugin_state(), Ok("before"));
        assert_eq!(state.stage_state("after".to_owned()), Ok(()));
        assert_eq!(state.plugin_state(), Ok("after"), "a call sees its own state");
        // A call of large events may write more.
        state.begin_process(Duration::from_secs(1), Arc::from(""), FILE_BYTES_MIN);
        assert_eq!(state.stage_file("f.txt", "x".repeat(2 * FILE_BYTES_MIN), false), Ok(()));
    }

    #[test]
    fn a_call_ends_by_cpu_time_or_thirty_times_that_by_the_wall() {
        let limit = Duration::from_millis(100);
        let armed = || {
            let mut deadline = Deadline { limit: Duration::ZERO, wall_end: Instant::now(), cpu_end: None };
            deadline.arm(limit);
            deadline
        };
        let (cpu, ms) = (Duration::from_secs(7), Duration::from_millis(1));
        // Busy: its own time counts, from the first tick on.
        let mut deadline = armed();
        let wall = Instant::now();
        assert_eq!(deadline.at(cpu, wall), Ok(()));
        assert_eq!(deadline.at(cpu + limit - ms, wall), Ok(()));
        assert_eq!(deadline.at(cpu + limit, wall), Err(Stop::Timeout));
        // Kept from running: it spends no time of its own, and ends all the same.
        let mut deadline = armed();
        assert_eq!(deadline.at(cpu, deadline.wall_end - ms), Ok(()));
        assert_eq!(deadline.wall_end.saturating_duration_since(Instant::now()).as_millis().div_ceil(1000), 3);
        assert_eq!(deadline.at(cpu + ms, deadline.wall_end), Err(Stop::Timeout));
    }

    #[test]
    fn counts_go_by_the_manifests_codes() {
        let mut state = state(true);
        for (name, n) in [("b", 2), ("raw text", 3), ("b", 5), ("else", 1)] {
            state.stage_count(name, n);
        }
        assert_eq!(state.staged.counts, [(1, 7), (2, 4)], "the index past the codes is `other`");
    }
}
