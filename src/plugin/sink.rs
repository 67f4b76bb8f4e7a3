//! What the service hides and an author's desk shows: a guest's words, what it printed, the text of a trap, what a call
//! counted. Only a runtime made by [`Runtime::on_desk`](super::engine::Runtime::on_desk) has a sink, and only the workbench
//! makes one: the service's instances hold none, so there is nowhere for these texts to go.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    Deterministic, HostMonotonicClock, HostWallClock, WasiCtxBuilder, async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError},
};

use super::{
    bindings::Verdict,
    instance::CallError,
    state::{Identity, Level, Staged},
    verdict::OTHER,
};
use crate::event::StreamId;

/// Text kept of what a call printed, or said of its failure, in bytes.
const SAID_BYTES_MAX: usize = 16 << 10;
/// Pieces of output kept, and of failures and log lines each.
const NOTES_MAX: usize = 10_000;
/// Bytes of randomness on a desk, over and over: results repeat.
const RANDOM_BYTES: usize = 4096;
/// The hour on a desk, in seconds since 1970: 2023-11-14T22:13:20Z, as in the self-test.
const HOUR: u64 = 1_700_000_000;

/// Collects what a desk shows. Shared by all instances of a desk.
#[derive(Debug, Default)]
pub(super) struct Sink {
    notes: Mutex<Notes>,
    /// What the running call printed and said so far.
    call: Mutex<Said>,
}

/// What a desk saw since it was last asked.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Lines that calls which decided logged, in order.
    pub(super) logs: Vec<(Level, String)>,
    /// What these calls counted, by code.
    pub(super) counts: BTreeMap<String, u64>,
    /// Events that the plugin failed on, alone and twice.
    pub(super) failures: Vec<EventFailure>,
    /// What calls that went well printed, in order.
    pub(super) printed: Vec<String>,
}

/// Why an event failed.
#[derive(Debug)]
pub(super) struct EventFailure {
    pub(super) id: StreamId,
    pub(super) error: CallError,
    pub(super) said: Said,
}

/// A guest's own texts in one call.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// Its failure's message, the text of its trap, or the verdict that was refused.
    pub(super) message: Option<String>,
    /// Its standard output and error.
    pub(super) printed: String,
    /// Its log lines.
    pub(super) logs: Vec<(Level, String)>,
}

// === impl Sink ===

impl Sink {
    /// Sets a guest's world up so that it prints into this sink, and that time and randomness repeat from run to run.
    pub(super) fn furnish(self: &Arc<Self>, wasi: &mut WasiCtxBuilder) {
        let mut random = fastrand::Rng::with_seed(HOUR);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(RANDOM_BYTES).collect();
        wasi.stdout(Tap(Arc::clone(self)))
            .stderr(Tap(Arc::clone(self)))
            .secure_random(Deterministic::new(bytes.clone()))
            .insecure_random(Deterministic::new(bytes))
            .insecure_random_seed(u128::from(HOUR))
            .wall_clock(Still)
            .monotonic_clock(Steps::default());
    }

    /// A call begins.
    pub(super) fn begin(&self) {
        *lock(&self.call) = Said::default();
    }

    /// The running call logged a line.
    pub(super) fn logged(&self, level: Level, line: &str) {
        let mut call = lock(&self.call);
        if call.logs.len() < NOTES_MAX {
            call.logs.push((level, line.to_owned()));
        }
    }

    /// The running call ended with these words of its own.
    pub(super) fn ended(&self, message: &str) {
        lock(&self.call).message = Some(cut(message).to_owned());
    }

    /// The running call answered.
    pub(super) fn answered(&self, verdicts: &[Verdict]) {
        let mut call = lock(&self.call);
        call.message = Some(cut(&format!("answered {verdicts:?}")).to_owned());
        let printed = std::mem::take(&mut call.printed);
        drop(call);
        if !printed.is_empty() {
            let mut notes = lock(&self.notes);
            if notes.printed.len() < NOTES_MAX {
                notes.printed.push(printed);
            }
        }
    }

    /// The call that was made last failed on an event by itself.
    pub(super) fn failed(&self, id: StreamId, error: &CallError) {
        let said = std::mem::take(&mut *lock(&self.call));
        let mut notes = lock(&self.notes);
        if notes.failures.len() < NOTES_MAX {
            notes.failures.push(EventFailure { id, error: error.clone(), said });
        }
    }

    /// A call's effects were taken.
    pub(super) fn committed(&self, identity: &Identity, staged: &Staged) {
        let mut notes = lock(&self.notes);
        for (code, n) in &staged.counts {
            let name = identity.codes.get(*code).map_or(OTHER, |code| code);
            *notes.counts.entry(name.to_owned()).or_default() += n;
        }
        for line in &staged.logs {
            if notes.logs.len() < NOTES_MAX {
                notes.logs.push(line.clone());
            }
        }
    }

    /// What the last call said, for failures before any event.
    pub(super) fn last(&self) -> Said {
        lock(&self.call).clone()
    }

    /// Takes what was noted so far.
    pub(super) fn take(&self) -> Notes {
        std::mem::take(&mut *lock(&self.notes))
    }

    fn print(&self, bytes: &[u8]) {
        let mut call = lock(&self.call);
        let room = SAID_BYTES_MAX.saturating_sub(call.printed.len());
        let text = String::from_utf8_lossy(bytes);
        let end = text.floor_char_boundary(room);
        call.printed.push_str(text.get(..end).unwrap_or_default());
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(SAID_BYTES_MAX)).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Texts only: a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A guest's standard output and error.
struct Tap(Arc<Sink>);

impl IsTerminal for Tap {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Tap {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only guests of later WASI versions would ask for it.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Self(Arc::clone(&self.0)))
    }
}

impl OutputStream for Tap {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.0.print(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(SAID_BYTES_MAX)
    }
}

#[async_trait]
impl Pollable for Tap {
    async fn ready(&mut self) {}
}

/// A wall clock that stands.
struct Still;

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        Duration::from_secs(HOUR)
    }
}

/// A clock that moves on by a millisecond whenever it is looked at, so that waiting for it ends.
#[derive(Default)]
struct Steps(AtomicU64);

impl HostMonotonicClock for Steps {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        self.0.fetch_add(1_000_000, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use crate::{
        config::Required,
        plugin::{CompileLimits, HostConfig, PluginHost},
    };

    #[test]
    fn fail_closed_the_service_has_no_sink() {
        let folder = tempfile::tempdir().unwrap();
        let config = HostConfig {
            plugins_dirs: vec![folder.path().join("plugins")],
            required: Required::Redactors,
            cache_dir: folder.path().join("cache"),
            state_dir: folder.path().join("state"),
            memory_max: 64 << 20,
            timeout_max: std::time::Duration::from_secs(1),
            trusted_keys: crate::trust::TrustedKeys::default(),
            compile: CompileLimits::default(),
            exe: None,
        };
        let host = PluginHost::start(config, std::sync::Arc::default()).unwrap();
        assert!(host.live.runtime().sink().is_none());
        assert!(host.live.runtime().store(None, 1 << 20).data().sink().is_none());
    }

    /// Nothing but the workbench makes a sink, or a runtime that has one.
    #[test]
    fn fail_closed_only_the_workbench_makes_a_sink() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let (mut folders, mut makers) = (vec![src.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = fs::read_to_string(&path).unwrap();
                let name = path.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
                let makes =
                    ["Sink::default()", "Runtime::on_desk(", "Runtime::metered("].iter().any(|it| text.contains(it));
                if makes && name != "plugin/sink.rs" {
                    makers.push(name);
                }
            }
        }
        makers.sort();
        assert_eq!(makers, ["plugin/workbench.rs", "plugin/workbench/measure.rs"]);
    }
}
