//! Compiling components. A compiler has no limits of its own, and dropped files come from outside: it runs in a child
//! process that limits itself, under a wall clock that the parent holds. Compiled code goes to the cache.

use std::{
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

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use wasmtime::{Engine, component::Component};

use super::{
    cache::{self, Cache},
    engine,
};

/// The hidden subcommand that runs [`compile_child`].
pub const SUBCOMMAND: &str = "compile-component";
/// Address space of the child, in bytes: a Python component needs near 400 MB beside the allocator's arenas.
const ADDRESS_SPACE_MAX: u64 = 4 << 30;
/// CPU seconds of the child, all threads together.
const CPU_SECONDS_MAX: u64 = 240;
/// Wall time of the child.
const WALL_MAX: Duration = Duration::from_secs(120);
const NICENESS: i32 = 10;
/// Compiled code read from the child, in bytes; it is about three times the component.
const COMPILED_BYTES_MAX: u64 = 1 << 30;
const STDERR_BYTES_MAX: u64 = 4 << 10;
/// How often a running child is looked at when told to stop.
const POLL: Duration = Duration::from_millis(50);

/// Why a component could not be compiled.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompileError {
    /// The component is not valid, or needs a feature that is off.
    #[error("does not compile: {0}")]
    Refused(String),
    /// Past the wall clock.
    #[error("compiling took longer than {} s", WALL_MAX.as_secs())]
    Timeout,
    /// The child died of its limits.
    #[error("compiling exceeded its limits (4 GiB of address space, {CPU_SECONDS_MAX} s of CPU time): {0}")]
    Limits(String),
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
    cache: Option<Cache>,
}

// === impl Compiler ===

impl Compiler {
    /// `exe` is this program, run with [`SUBCOMMAND`]; `None` compiles in this process, without limits.
    pub(super) fn new(exe: Option<PathBuf>, cache: Option<Cache>) -> Self {
        Self { exe, cache }
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
        let compiled = match &self.exe {
            Some(exe) => in_child(exe, wasm, stop)?,
            None => engine.precompile_component(wasm).map_err(refused)?,
        };
        let component = cache::load(engine, &compiled).map_err(|error| CompileError::Load(format!("{error:#}")))?;
        if let Some(cache) = &self.cache
            && let Err(error) = cache.put(sha256, &compiled)
        {
            tracing::warn!(%error, "cannot keep a compiled plugin; the next start compiles it again");
        }
        Ok(component)
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
    let limit = |resource, max| setrlimit(resource, Rlimit { current: Some(max), maximum: Some(max) });
    limit(Resource::As, ADDRESS_SPACE_MAX).map_err(|error| error.to_string())?;
    limit(Resource::Cpu, CPU_SECONDS_MAX).map_err(|error| error.to_string())?;
    limit(Resource::Core, 0).map_err(|error| error.to_string())?;
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

fn in_child(exe: &PathBuf, wasm: &[u8], stop: &AtomicBool) -> Result<Vec<u8>, CompileError> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(4);
    let mut child = Reaped(
        Command::new(exe)
            .arg(SUBCOMMAND)
            .env_clear()
            // One arena and a few threads, so that the address space limit measures the compiler's work.
            .env("MALLOC_ARENA_MAX", "2")
            .env("RAYON_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?,
    );
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take())
    else {
        return Err(CompileError::Spawn(io::ErrorKind::BrokenPipe.into()));
    };
    thread::scope(|scope| {
        let (done, result) = sync_channel(1);
        scope.spawn(move || {
            // A child that ends early closes the pipe; its status says why.
            stdin.write_all(wasm).ok();
        });
        let said = scope.spawn(move || read(stderr, STDERR_BYTES_MAX));
        scope.spawn(move || done.send(read(stdout, COMPILED_BYTES_MAX)).ok());
        let end = Instant::now() + WALL_MAX;
        let compiled = loop {
            match result.recv_timeout(POLL) {
                Ok(compiled) => break compiled,
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
                return Err(CompileError::Timeout);
            }
        };
        let status = child.0.wait()?;
        let said = one_line(&String::from_utf8_lossy(&said.join().unwrap_or_default()));
        match status.code() {
            Some(0) => Ok(compiled),
            Some(_) => Err(CompileError::Refused(said)),
            None => Err(CompileError::Limits(format!("{status} {said}"))),
        }
    })
}

fn read(from: impl Read, max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A read error ends like the end of the output; the status says what it was.
    from.take(max).read_to_end(&mut bytes).ok();
    bytes
}
