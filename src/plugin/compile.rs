//! Compiling components. A compiler has no limits of its own, and dropped files come from outside: it runs in a child
//! process that limits itself, under a wall clock that the parent holds. The child writes compiled code into a file, from
//! which it is mapped: neither the compiler's memory nor its result is the service's.

use std::{
    env,
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};
use wasmtime::{Engine, component::Component};

use super::{
    cache::{Cache, Staged},
    engine,
};

/// The hidden subcommand that runs [`compile_child`].
pub const SUBCOMMAND: &str = "compile-component";
const NICENESS: i32 = 10;
const STDERR_BYTES_MAX: u64 = 4 << 10;
/// How often a running child is looked at when told to stop.
const POLL: Duration = Duration::from_millis(50);

/// What compiling one component may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space of the child, in bytes: a Python component needs near 400 MB beside the allocator's arenas.
    pub address_space: u64,
    /// CPU seconds of the child, all threads together.
    pub cpu_seconds: u64,
    /// Wall time of the child.
    pub wall: Duration,
    /// Compiled code, in bytes; it is about three times the component.
    pub compiled: u64,
}

/// Why a component could not be compiled.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompileError {
    /// The component is not valid, or needs a feature that is off.
    #[error("does not compile: {0}")]
    Refused(String),
    /// Past the wall clock.
    #[error("compiling took longer than {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The child died of its limits.
    #[error(
        "compiling exceeded its limits ({} MiB of address space, {} s of CPU time, {} MiB of compiled code): {end}",
        .limits.address_space >> 20, .limits.cpu_seconds, .limits.compiled >> 20
    )]
    Limits {
        /// Those it had.
        limits: CompileLimits,
        /// How it ended.
        end: String,
    },
    /// No child.
    #[error("cannot run the compiler: {0}")]
    Spawn(#[from] io::Error),
    /// The child's output is not ours: the program was replaced while it ran.
    #[error("compiled code does not load: {0}")]
    Load(String),
    /// The service ends.
    #[error("stopped")]
    Stopped,
}

/// Compiles and remembers.
pub(super) struct Compiler {
    exe: Option<PathBuf>,
    limits: CompileLimits,
    cache: Option<Cache>,
    announce: Option<fn(usize)>,
}

// === impl CompileLimits ===

impl Default for CompileLimits {
    fn default() -> Self {
        Self { address_space: 4 << 30, cpu_seconds: 240, wall: Duration::from_secs(300), compiled: 1 << 30 }
    }
}

// === impl Compiler ===

impl Compiler {
    /// `exe` is this program, run with [`SUBCOMMAND`]; `None` compiles in this process, without limits.
    pub(super) fn new(exe: Option<PathBuf>, limits: CompileLimits, cache: Option<Cache>) -> Self {
        Self { exe, limits, cache, announce: None }
    }

    /// Calls this with the component's bytes before one is compiled.
    pub(super) fn announcing(self, announce: Option<fn(usize)>) -> Self {
        Self { announce, ..self }
    }

    /// A component that was compiled before.
    pub(super) fn cached(&self, engine: &Engine, sha256: &str) -> Option<Component> {
        self.cache.as_ref()?.get(engine, sha256)
    }

    /// Compiles a component, or finds it compiled.
    pub(super) fn compile(
        &self,
        engine: &Engine,
        wasm: &[u8],
        sha256: &str,
        stop: &AtomicBool,
    ) -> Result<Component, CompileError> {
        if let Some(component) = self.cached(engine, sha256) {
            return Ok(component);
        }
        if let Some(announce) = self.announce {
            announce(wasm.len());
        }
        let mut staged = self.stage()?;
        match &self.exe {
            Some(exe) => in_child(exe, self.limits, wasm, staged.file().try_clone()?, stop)?,
            None => staged.file().write_all(&engine.precompile_component(wasm).map_err(refused)?)?,
        }
        let mut runs = match self.cache.as_ref().map(|cache| cache.keep(&mut staged, sha256)) {
            Some(Ok(copy)) => copy,
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot keep a compiled plugin; the next start compiles it again");
                // Loses its name when this ends.
                staged
            }
            None => staged,
        };
        runs.load(engine).map_err(|error| CompileError::Load(format!("{error:#}")))
    }

    fn stage(&self) -> io::Result<Staged> {
        match self.cache.as_ref().map(Cache::stage) {
            Some(Ok(staged)) => Ok(staged),
            // A directory that is full or gone by now.
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot keep a compiled plugin; the next start compiles it again");
                Staged::in_memory()
            }
            None => Staged::in_memory(),
        }
    }
}

/// The child's side: WebAssembly on standard input, compiled code on standard output, a line on standard error.
/// Must run before any other thread and any telemetry is set up.
pub fn compile_child() -> ExitCode {
    match child() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // There is no one else to tell.
            io::stderr().write_all(reason.as_bytes()).ok();
            ExitCode::FAILURE
        }
    }
}

fn child() -> Result<(), String> {
    // Not to outlive a service that was killed.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())?;
    let defaults = CompileLimits::default();
    let mut given = env::args().skip(2).map(|number| number.parse::<u64>());
    let mut limit = |resource, default| {
        let max = given.next().and_then(Result::ok).unwrap_or(default);
        setrlimit(resource, Rlimit { current: Some(max), maximum: Some(max) }).map_err(|error| error.to_string())
    };
    limit(Resource::As, defaults.address_space)?;
    limit(Resource::Cpu, defaults.cpu_seconds)?;
    limit(Resource::Fsize, defaults.compiled)?;
    limit(Resource::Core, 0)?;
    // Being not nice is no reason to fail.
    nice(NICENESS).ok();
    let mut wasm = Vec::new();
    io::stdin().lock().read_to_end(&mut wasm).map_err(|error| error.to_string())?;
    let engine = Engine::new(&engine::config()).map_err(|error| format!("{error:#}"))?;
    let compiled = engine.precompile_component(&wasm).map_err(|error| format!("{error:#}"))?;
    let mut out = io::stdout().lock();
    out.write_all(&compiled).and_then(|()| out.flush()).map_err(|error| error.to_string())
}

fn refused(error: wasmtime::Error) -> CompileError {
    CompileError::Refused(one_line(&format!("{error:#}")))
}

fn one_line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

/// Kills and reaps the child on every way out.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn in_child(
    exe: &PathBuf,
    limits: CompileLimits,
    wasm: &[u8],
    out: File,
    stop: &AtomicBool,
) -> Result<(), CompileError> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(4);
    let mut child = Reaped(
        Command::new(exe)
            .arg(SUBCOMMAND)
            .args([limits.address_space, limits.cpu_seconds, limits.compiled].map(|limit| limit.to_string()))
            .env_clear()
            // One arena and a few threads, so that the address space limit measures the compiler's work.
            .env("MALLOC_ARENA_MAX", "2")
            .env("RAYON_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(Stdio::piped())
            .spawn()?,
    );
    let (Some(mut stdin), Some(stderr)) = (child.0.stdin.take(), child.0.stderr.take()) else {
        return Err(CompileError::Spawn(io::ErrorKind::BrokenPipe.into()));
    };
    thread::scope(|scope| {
        let (done, ended) = sync_channel(1);
        scope.spawn(move || {
            // A child that ends early closes the pipe; its status says why.
            stdin.write_all(wasm).ok();
        });
        // Standard error ends with the child.
        scope.spawn(move || done.send(read(stderr, STDERR_BYTES_MAX)).ok());
        let end = Instant::now() + limits.wall;
        let said = loop {
            match ended.recv_timeout(POLL) {
                Ok(said) => break said,
                Err(RecvTimeoutError::Disconnected) => break Vec::new(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // The pipes' threads end with the child, so kill it before they are joined.
            if stop.load(Ordering::Relaxed) {
                child.0.kill().ok();
                return Err(CompileError::Stopped);
            }
            if Instant::now() >= end {
                child.0.kill().ok();
                return Err(CompileError::Timeout(limits.wall));
            }
        };
        let status = child.0.wait()?;
        let said = one_line(&String::from_utf8_lossy(&said));
        match status.code() {
            Some(0) => Ok(()),
            Some(_) => Err(CompileError::Refused(said)),
            None => Err(CompileError::Limits { limits, end: format!("{status} {said}") }),
        }
    })
}

fn read(from: impl Read, max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A read error ends like the end of the output; the status says what it was.
    from.take(max).read_to_end(&mut bytes).ok();
    bytes
}
