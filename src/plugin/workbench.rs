//! An author's desk: one plugin, in this process, on the same engine, compiler, prover and chain as in the service, but
//! without watched folders, requirements and memory. It shows what the service hides; nothing here is on the service's path.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use super::{
    budget::Budget,
    cache::Cache,
    compile::{CompileLimits, Compiler},
    engine::{EngineError, Runtime, Ticker},
    live::Live,
    loader::{COMPONENT_BYTES_MAX, Candidate, LoadError, Plugin, SIDECAR_BYTES_MAX},
    required::Requirements,
    seal::Signatures,
    sidecar::{Ceilings, Isolation, OnFailure},
    sink::{Said, Sink},
    state::Level,
};
use crate::trust::{SIGNATURE_BYTES_MAX, SIGNATURE_SUFFIX, TrustedKeys};

mod inspect;
mod measure;
mod trial;

pub use inspect::{Facts, Finding, Grade, Inspection, size, time};
pub use measure::{Figures, Load, MeasureError, Spread, measure};
pub use trial::{Extra, Failure, Judged, Judgement, Left, Step, Trial};

/// What a desk needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Private directory of compiled components, the service's.
    pub cache_dir: PathBuf,
    /// Ceiling of a plugin's memory, in bytes.
    pub memory_max: usize,
    /// Ceiling of a call's CPU time.
    pub timeout_max: Duration,
    /// Whose signatures count; none: nothing needs to be signed.
    pub trusted_keys: TrustedKeys,
    /// This program, to compile in a child as the service does; `None`: in this process.
    pub exe: Option<PathBuf>,
    /// Called with a component's bytes before it is compiled, which may take some seconds.
    pub compiling: Option<fn(usize)>,
}

/// A component and what the operator says of it, as read.
#[derive(Clone, Debug)]
pub struct Pair {
    candidate: Candidate,
}

/// The desk. Owns the thread that ends guests' time.
pub struct Workbench {
    live: Arc<Live>,
    sink: Arc<Sink>,
    ceilings: Ceilings,
    trusted: TrustedKeys,
    _ticker: Ticker,
}

/// A plugin that passed all that the service asks of it.
pub struct OnDesk {
    plugin: Arc<Plugin>,
    policy: OnFailure,
    shadow: bool,
    /// What it logged in `init`.
    pub init_logs: Vec<Line>,
}

/// A guest's log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `debug`, `info`, `warn` or `error`.
    pub level: &'static str,
    /// As the guest wrote it.
    pub text: String,
}

/// A plugin that the service would not take.
#[derive(Debug, thiserror::Error)]
#[error("{file} would be refused: {reason}")]
pub struct Refusal {
    /// Its file.
    pub file: String,
    /// The service's words.
    pub reason: String,
    /// The guest's own words, if it had any: a failure's message, the text of its trap.
    pub message: Option<String>,
    /// What it printed.
    pub printed: String,
    /// What it logged.
    pub logs: Vec<Line>,
}

/// Why there is no desk.
#[derive(Debug, thiserror::Error)]
pub enum WorkbenchError {
    /// WebAssembly cannot run here.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A thread could not be made.
    #[error("cannot set up the workbench")]
    Start(#[from] io::Error),
    /// A file of the plugin.
    #[error("cannot read {path}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that no service reads to its end.
    #[error("{path} is larger than {} KiB", max >> 10)]
    TooLarge {
        /// Which one.
        path: PathBuf,
        /// In bytes.
        max: u64,
    },
    /// Not a file's name.
    #[error("{0} names no file in UTF-8")]
    Name(PathBuf),
}

// === impl Pair ===

impl Pair {
    /// Reads a component, and its sidecar: `config`, or `NAME.toml` beside it if that is there.
    ///
    /// # Errors
    /// A file that cannot be read or is too large.
    pub fn read(component: &Path, config: Option<&Path>) -> Result<Self, WorkbenchError> {
        let name = component.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| WorkbenchError::Name(component.to_owned()))?.to_owned();
        let wasm = read(component, COMPONENT_BYTES_MAX)?;
        let beside = component.with_extension("toml");
        let sidecar = match config {
            Some(path) => Some(read(path, SIDECAR_BYTES_MAX)?.into()),
            None => read_if_there(&beside, SIDECAR_BYTES_MAX)?,
        };
        let dir = component.parent().unwrap_or(Path::new("")).to_owned();
        let signatures =
            Signatures { wasm: signature_of(component)?, sidecar: signature_of(config.unwrap_or(&beside))? };
        let candidate = Candidate { file: name, dir, wasm: wasm.into(), sidecar, signatures };
        Ok(Self { candidate })
    }

    /// The same pair as it would stand under another file name.
    #[must_use]
    pub fn named(self, file: &str) -> Self {
        Self { candidate: Candidate { file: file.to_owned(), ..self.candidate } }
    }

    /// The same component with another sidecar.
    ///
    /// # Errors
    /// The sidecar cannot be read or is too large.
    pub fn with_sidecar(&self, path: &Path) -> Result<Self, WorkbenchError> {
        let mut candidate = self.candidate.clone();
        candidate.sidecar = Some(read(path, SIDECAR_BYTES_MAX)?.into());
        candidate.signatures.sidecar = signature_of(path)?;
        Ok(Self { candidate })
    }
}

/// The signature beside a file, if there is one.
fn signature_of(path: &Path) -> Result<Option<Bytes>, WorkbenchError> {
    let mut name = path.as_os_str().to_owned();
    name.push(SIGNATURE_SUFFIX);
    read_if_there(Path::new(&name), SIGNATURE_BYTES_MAX)
}

fn read(path: &Path, max: u64) -> Result<Vec<u8>, WorkbenchError> {
    let failed = |source| WorkbenchError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > max) {
        return Err(WorkbenchError::TooLarge { path: path.to_owned(), max });
    }
    Ok(bytes)
}

fn read_if_there(path: &Path, max: u64) -> Result<Option<Bytes>, WorkbenchError> {
    match read(path, max) {
        Err(WorkbenchError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => Ok(Some(other?.into())),
    }
}

// === impl Workbench ===

impl Workbench {
    /// Sets a desk up.
    ///
    /// # Errors
    /// WebAssembly cannot run here, or a thread cannot be made.
    pub fn open(settings: &Settings) -> Result<Self, WorkbenchError> {
        let sink = Arc::new(Sink::default());
        let runtime = Runtime::on_desk(settings.memory_max, &sink)?;
        let ticker = Ticker::start(&runtime)?;
        let live = Arc::new(live(runtime, settings)?);
        Ok(Self { live, sink, ceilings: ceilings(settings), trusted: settings.trusted_keys.clone(), _ticker: ticker })
    }

    /// Does all that the service does before a plugin goes live. `flipped`: with the other isolation than the sidecar's.
    ///
    /// # Errors
    /// What the service would say, with the guest's own words.
    pub fn prove(&self, pair: &Pair, flipped: bool) -> Result<OnDesk, Box<Refusal>> {
        self.sink.begin();
        drop(self.sink.take());
        let mut plugin = self.live.prove(&pair.candidate).map_err(|error| self.refusal(pair, &error))?;
        let init_logs = self.sink.take().logs.into_iter().map(Line::from).collect();
        let (policy, shadow) = (plugin.sidecar.on_failure, plugin.sidecar.shadow);
        // Every event is to be seen, whatever becomes of those before it: a desk goes on where the service stops.
        plugin.sidecar.on_failure = OnFailure::Quarantine;
        plugin.sidecar.shadow = false;
        *plugin.budget.lock().unwrap_or_else(PoisonError::into_inner) = Budget::lenient();
        if flipped {
            plugin.sidecar.isolation = match plugin.sidecar.isolation {
                Isolation::Call => Isolation::Reuse,
                Isolation::Reuse => Isolation::Call,
            };
        }
        Ok(OnDesk { plugin: Arc::new(plugin), policy, shadow, init_logs })
    }

    fn refusal(&self, pair: &Pair, error: &LoadError) -> Box<Refusal> {
        let Said { message, printed, logs } = self.sink.last();
        let logs = logs.into_iter().map(Line::from).collect();
        Box::new(Refusal { file: pair.candidate.file.clone(), reason: error.to_string(), message, printed, logs })
    }
}

/// What runs chains, without what a service has around it.
fn live(runtime: Runtime, settings: &Settings) -> Result<Live, WorkbenchError> {
    let cache = match Cache::open(&settings.cache_dir, &runtime.compatibility(), &[]) {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!(%error, "no cache of compiled plugins: every run compiles");
            None
        }
    };
    let compiler = Compiler::new(settings.exe.clone(), CompileLimits::default(), cache).announcing(settings.compiling);
    // Signatures are a step of their own, so that what comes after a wrong one is seen, too.
    let (trusted, required) = (TrustedKeys::default(), Requirements::nothing());
    Ok(Live::new(runtime, compiler, ceilings(settings), trusted, required, Arc::default())?)
}

fn ceilings(settings: &Settings) -> Ceilings {
    Ceilings { memory: settings.memory_max, timeout: settings.timeout_max }
}

// === impl OnDesk ===

impl OnDesk {
    /// Manifest name.
    pub fn name(&self) -> &str {
        self.plugin.name()
    }

    /// Manifest version.
    pub fn version(&self) -> &str {
        &self.plugin.manifest.version
    }

    /// Digest of the component, hex.
    pub fn sha256(&self) -> &str {
        &self.plugin.sha256
    }

    /// Digest of both files, hex, as `GET /plugins` has it.
    pub fn pair(&self) -> &str {
        &self.plugin.pair
    }

    /// `redactor` or `standard`.
    pub fn role(&self) -> &'static str {
        if self.plugin.is_redactor() { "redactor" } else { "standard" }
    }

    /// Whether its sidecar says `mode = "shadow"`.
    pub fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// `call` or `reuse`.
    pub fn isolation(&self) -> &'static str {
        if self.plugin.reuses() { "reuse" } else { "call" }
    }

    /// What its sidecar says becomes of events that it fails on: `quarantine`, `skip` or `halt`.
    pub fn on_failure(&self) -> &'static str {
        self.policy.as_str()
    }
}

// === impl Line ===

impl From<(Level, String)> for Line {
    fn from((level, text): (Level, String)) -> Self {
        let level = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        Self { level, text }
    }
}
