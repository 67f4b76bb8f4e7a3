//! Guests and hosts for tests: builds the misbehaving guest once, makes plugin folders, hosts and events.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use task_logger::{
    config::Required,
    event::{Event, Id, Key, StreamId},
    plugin::{Blocked, CompileLimits, Decided, HostConfig, LaneChain, PluginHost, Slice, States},
    status::Status,
    trust::TrustedKeys,
};
use tempfile::TempDir;

/// How long a test waits for something that takes far less.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// The component that does what its sidecar says (`tests/guests`), built once per test run.
pub(crate) fn misbehave() -> &'static [u8] {
    static GUEST: OnceLock<Vec<u8>> = OnceLock::new();
    GUEST.get_or_init(|| {
        let target = target_dir();
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--release", "-p", "guests", "--target", "wasm32-wasip2", "--target-dir"])
            .arg(&target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the guest does not build: rustup target add wasm32-wasip2");
        fs::read(target.join("wasm32-wasip2/release/guests.wasm")).expect("the guest was built")
    })
}

fn target_dir() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().expect("the target folder").to_owned()
}

/// A plugin folder with its host.
pub(crate) struct Stage {
    root: TempDir,
    pub(crate) status: Arc<Status>,
    host: Option<Arc<PluginHost>>,
    required: Required,
    trusted_keys: TrustedKeys,
    memory_max: usize,
    timeout_max: Duration,
    exe: Option<PathBuf>,
    cache: &'static str,
    compile: CompileLimits,
}

impl Stage {
    /// An empty folder; no host yet.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(root.path().join("plugins")).expect("a plugin folder");
        Self {
            root,
            status: Arc::default(),
            host: None,
            required: Required::Redactors,
            trusted_keys: TrustedKeys::default(),
            memory_max: 64 << 20,
            timeout_max: Duration::from_millis(200),
            exe: None,
            cache: "cache",
            compile: CompileLimits::default(),
        }
    }

    pub(crate) fn required(mut self, required: Required) -> Self {
        self.required = required;
        self
    }

    /// Asks for signatures by one of these keys, as `PLUGIN_TRUSTED_KEYS` has them.
    pub(crate) fn trusting(mut self, keys: &str) -> Self {
        self.trusted_keys = match keys {
            "" => TrustedKeys::default(),
            keys => TrustedKeys::read(keys).expect("keys"),
        };
        self
    }

    /// Other ceilings than 64 MiB and 200 ms.
    pub(crate) fn ceilings(mut self, memory: usize, timeout: Duration) -> Self {
        (self.memory_max, self.timeout_max) = (memory, timeout);
        self
    }

    /// Compiles in a child process.
    pub(crate) fn with_child(mut self) -> Self {
        self.exe = Some(env!("CARGO_BIN_EXE_task-logger").into());
        self
    }

    /// Compiles by this program, whatever it is.
    pub(crate) fn with_compiler(mut self, exe: &str) -> Self {
        self.exe = Some(exe.into());
        self
    }

    /// Has its cache there, below the stage.
    pub(crate) fn cache_in(mut self, path: &'static str) -> Self {
        self.cache = path;
        self
    }

    /// What compiling in the child may cost.
    pub(crate) fn compile_limits(mut self, limits: CompileLimits) -> Self {
        self.compile = limits;
        self
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().join("plugins")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Puts a plugin into the folder: the sidecar first, so that the pair is never seen without it.
    pub(crate) fn put(&self, stem: &str, sidecar: &str) -> &Self {
        self.put_bytes(&format!("{stem}.toml"), sidecar.as_bytes());
        self.put_bytes(&format!("{stem}.wasm"), misbehave())
    }

    /// Puts a file into the folder by rename.
    pub(crate) fn put_bytes(&self, name: &str, bytes: &[u8]) -> &Self {
        let staged = self.folder().join(format!(".{name}"));
        fs::write(&staged, bytes).expect("a staged file");
        fs::rename(&staged, self.folder().join(name)).expect("a renamed file");
        self
    }

    pub(crate) fn take(&self, name: &str) -> &Self {
        fs::remove_file(self.folder().join(name)).expect("a file to remove");
        self
    }

    /// Starts the host, again if it runs.
    pub(crate) fn start(&mut self) -> Arc<PluginHost> {
        if let Some(host) = self.host.take() {
            host.stop();
        }
        self.status = Arc::default();
        let config = HostConfig {
            plugins_dirs: vec![self.folder()],
            required: self.required.clone(),
            // Shared by all tests: the guest is compiled once. Those with a child have their own.
            cache_dir: match self.exe {
                Some(_) => self.path(self.cache),
                None => Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache"),
            },
            state_dir: self.path("state"),
            trusted_keys: self.trusted_keys.clone(),
            memory_max: self.memory_max,
            timeout_max: self.timeout_max,
            exe: self.exe.clone(),
            compile: self.compile,
        };
        let host = PluginHost::start(config, Arc::clone(&self.status)).expect("a host");
        self.host = Some(Arc::clone(&host));
        host
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(host) = &self.host {
            host.stop();
        }
    }
}

/// What this thread logs while it runs something.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn capture<T>(&self, run: impl FnOnce() -> T) -> T {
        let sink = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || sink.clone())
            .with_ansi(false)
            .finish();
        tracing::subscriber::with_default(subscriber, run)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic while logging").clone()).expect("a log in UTF-8")
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic while logging").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Waits for a condition.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// This thread's CPU time: the wall's depends on who else is busy.
pub(crate) fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        now.tv_sec.try_into().expect("a time after the start"),
        now.tv_nsec.try_into().expect("a part of a second"),
    )
}

/// An event of task `t`.
pub(crate) fn event(seq: u64, kind: &str, data: &str) -> Event {
    Event {
        id: StreamId { ms: 1_700_000_000_000, seq },
        kind: kind.into(),
        key: Key::Task(Id::parse("t").expect("an id")),
        task: None,
        timestamp: "2023-11-14T22:13:20Z".into(),
        timestamp_ms: 1_700_000_000_000,
        data: data.to_owned(),
        says_failed: false,
        size: data.len(),
    }
}

/// `task:output` events with these contents, numbered from 1.
pub(crate) fn outputs(contents: &[&str]) -> Vec<Event> {
    (1..).zip(contents).map(|(seq, text)| event(seq, "task:output", &format!("{{\"content\":\"{text}\"}}"))).collect()
}

/// Runs a lane over events of task `t` with fresh states.
pub(crate) fn run(lane: &mut LaneChain, events: &[Event], flush: bool) -> Result<Decided, Blocked> {
    lane.process(&Slice { task: Some("t"), events, flush, states: &States::default() })
}

/// The report's entry of a file.
pub(crate) fn entry(host: &PluginHost, file: &str) -> Option<serde_json::Value> {
    host.report()["plugins"].as_array()?.iter().find(|entry| entry["file"] == file).cloned()
}
