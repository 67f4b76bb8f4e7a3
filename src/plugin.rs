//! Plugins: WebAssembly components that see every event before it is written. This file is the face that the lanes, HTTP and
//! the service use; below it, in the order of a plugin's life: `watch` sees a file, `loader` proves it, `generation`
//! puts it in a chain, `chain` runs the chain over a slice, `shadow` watches it, `instance` is one store. `bindings` is the only file that
//! names WIT types, `engine` the only one that configures wasmtime.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use crate::{config::Required, event::Event, status::Status, trust::TrustedKeys};

mod watch;

mod cache;
pub mod compile;
mod kinds;
mod loader;
mod seal;
mod sidecar;

mod generation;
mod last_good;
mod live;
mod report;
mod required;
mod roster;

mod budget;
mod chain;
mod circuit;
mod meters;
mod shadow;
mod verdict;

mod bindings;
mod engine;
mod fit;
mod instance;
mod sink;
mod state;

pub mod workbench;

/// What is wrong with a sidecar's text, in a line without the text.
pub(crate) use self::sidecar::told as sidecar_told;
pub use self::{
    chain::LaneChain,
    compile::{CompileLimits, SUBCOMMAND as COMPILE_SUBCOMMAND, compile_child},
    required::{MemoryError, forget_in, inherit_requirements},
    seal::binding,
    watch::listing::{Listed, list as list_folder},
};

use self::{
    cache::Cache,
    compile::Compiler,
    engine::{EngineError, Runtime, Ticker},
    live::Live,
    required::Requirements,
    sidecar::Ceilings,
    watch::Watcher,
};

/// What the host needs to know.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Folders of plugins; of equal file names the last folder's wins. They need not exist.
    pub plugins_dirs: Vec<PathBuf>,
    /// Which plugins must run before anything is read.
    pub required: Required,
    /// Private directory of compiled components.
    pub cache_dir: PathBuf,
    /// Where the requirement and the last good bytes are remembered, in `plugins/`.
    pub state_dir: PathBuf,
    /// One of these must have signed each plugin; none: signatures are not asked for.
    pub trusted_keys: TrustedKeys,
    /// Ceiling of a plugin's memory, in bytes.
    pub memory_max: usize,
    /// Ceiling of a call's CPU time.
    pub timeout_max: Duration,
    /// This program, to compile in a child process by [`COMPILE_SUBCOMMAND`]; `None`: in this process, without limits.
    pub exe: Option<PathBuf>,
    /// What compiling one component may cost.
    pub compile: CompileLimits,
}

/// The plugin host: one per process. Owns the threads that watch the folders and end guests' time.
pub struct PluginHost {
    live: Arc<Live>,
    watcher: Mutex<Option<Watcher>>,
    ticker: Mutex<Option<Ticker>>,
}

/// Why the host does not start, or does not do what it is told.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// WebAssembly cannot run here.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What was required before cannot be read, or written.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A thread or a watch could not be made.
    #[error("cannot start the plugin host: {0}")]
    Start(#[from] std::io::Error),
    /// The operator's own list names it.
    #[error("{0:?} is named in REQUIRED_PLUGINS: change that instead")]
    Listed(String),
    /// It would be remembered again at once.
    #[error("{0:?} is live: remove its file first")]
    IsLive(String),
}

/// One key's consecutive events for the chain, held ones first.
pub struct Slice<'a> {
    /// The task, or `None` for a webhook flow that has not joined.
    pub task: Option<&'a str>,
    /// The events in stream order.
    pub events: &'a [Event],
    /// Nothing may be held: the hold limit is reached, or a `task:completed`/`task:failed` is among the events.
    pub flush: bool,
    /// The plugins' states of this key.
    pub states: &'a States,
}

/// Plugin states of a key, by manifest name. Few plugins: a sorted list is the smallest map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct States(Vec<(Arc<str>, Arc<str>)>);

/// What the chain made of a slice.
pub struct Decided {
    /// One for each event from the first on; the events after them are held and come again.
    pub outcomes: Vec<Outcome>,
    /// For each of them, how often the plugin was asked about the event that dropped it or of which it is dead; 1 for others.
    pub tries: Vec<u32>,
    /// What the deciding calls asked for; commits together with the outcomes.
    pub effects: Effects,
    /// The generation that decided.
    pub provenance: Arc<Provenance>,
}

/// What becomes of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Written as it came.
    Pass,
    /// Written with this data (JSON text of an object, checked by the host, on one line).
    Replace(String),
    /// Not written; a gap record with the plugin's code stands in its place.
    Drop {
        /// Manifest name.
        plugin: Arc<str>,
        /// From the manifest's codes, else `other`.
        code: String,
    },
    /// To the dead letter; a gap record stands in its place.
    Dead {
        /// `refused` (the plugin's verdict) or `plugin_failed`.
        reason: &'static str,
        /// Manifest name.
        plugin: Arc<str>,
        /// The plugin's code, or the class of the failure: `trap`, `timeout`, `memory`, `verdicts`, `failure`, ...
        code: String,
    },
}

/// Staged effects of a slice, in the order of the calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// New plugin states.
    pub states: Vec<(Arc<str>, Arc<str>)>,
    /// Writes to extra files.
    pub files: Vec<ExtraWrite>,
    /// Objects to merge under `annotations.<plugin>`.
    pub annotations: Vec<(Arc<str>, serde_json::Map<String, serde_json::Value>)>,
}

/// One write to an extra file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraWrite {
    /// From the manifest: `[A-Za-z0-9][A-Za-z0-9._-]{0,99}`, no standard name.
    pub name: Arc<str>,
    /// Whether it replaces the file or is appended to it.
    pub replace: bool,
    /// Byte for byte.
    pub text: String,
}

/// Which chain decided, for `metadata.json`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Counts generations of this process.
    pub generation: u64,
    /// Digest over all plugins and their configs, in order.
    pub chain_digest: String,
    /// The plugins in order.
    pub plugins: Vec<PluginProvenance>,
}

/// One plugin of a chain.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PluginProvenance {
    /// Manifest name.
    pub name: String,
    /// Manifest version.
    pub version: String,
    /// Of the component's bytes, hex.
    pub sha256: String,
    /// Of the sidecar's `[config]`, hex.
    pub config_hash: String,
}

/// Why the chain did not run: the slice stays as it is and comes again when [`PluginHost::wait_changed`] returns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugins block: {reason}")]
pub struct Blocked {
    /// For people; never a producer's or a guest's text.
    pub reason: String,
}

// === impl PluginHost ===

impl PluginHost {
    /// Loads every plugin that is there, then watches the folders.
    ///
    /// # Errors
    /// WebAssembly cannot run here, or `state_dir` cannot be read and written. A plugin that is refused is no error.
    pub fn start(config: HostConfig, status: Arc<Status>) -> Result<Arc<Self>, PluginError> {
        let runtime = Runtime::new(config.memory_max)?;
        let ticker = Ticker::start(&runtime)?;
        let cache = match Cache::open(&config.cache_dir, &runtime.compatibility(), &config.plugins_dirs) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(%error, "no cache of compiled plugins: every start compiles them");
                None
            }
        };
        let compiler = Compiler::new(config.exe, config.compile, cache);
        let ceilings = Ceilings { memory: config.memory_max, timeout: config.timeout_max };
        let required = Requirements::open(config.required, &config.state_dir)?;
        let live = Arc::new(Live::new(runtime, compiler, ceilings, config.trusted_keys, required, status)?);
        let watcher = Watcher::start(Arc::clone(&live), &config.plugins_dirs)?;
        Ok(Arc::new(Self { live, watcher: Mutex::new(Some(watcher)), ticker: Mutex::new(Some(ticker)) }))
    }

    /// A runner for one lane; it owns its instances.
    pub fn lane(&self) -> LaneChain {
        LaneChain::new(Arc::clone(&self.live))
    }

    /// Whether events may be read; to be asked before each read.
    ///
    /// # Errors
    /// [`Blocked`] says why not.
    pub fn gate(&self) -> Result<(), Blocked> {
        self.live.current().blocked.clone().map_or(Ok(()), Err)
    }

    /// Waits until the chain or the gate changed since `seen` (0 at first), or the time is over. Returns what to pass next.
    pub fn wait_changed(&self, seen: u64, timeout: Duration) -> u64 {
        self.live.wait_changed(seen, timeout)
    }

    /// Digest of the chain that runs, for the lease.
    pub fn chain_digest(&self) -> String {
        self.provenance().chain_digest.clone()
    }

    /// The chain that runs.
    pub fn provenance(&self) -> Arc<Provenance> {
        Arc::clone(&self.live.current().generation.provenance)
    }

    /// For `GET /plugins`.
    pub fn report(&self) -> serde_json::Value {
        report::report(&self.live)
    }

    /// Lifts the requirement of a plugin whose file is gone; false if nothing was required of that name.
    ///
    /// # Errors
    /// The plugin is live or named in `REQUIRED_PLUGINS`, or the memory cannot be written.
    pub fn forget(&self, name: &str) -> Result<bool, PluginError> {
        self.live.forget(name)
    }

    /// Looks at the folders now and gives refused and stopped plugins another chance (SIGHUP).
    pub fn rescan(&self) {
        self.live.retry();
        if let Some(watcher) = &*self.watcher.lock().unwrap_or_else(PoisonError::into_inner) {
            watcher.wake();
        }
    }

    /// Gives plugins that stopped reading another chance: the event on which they failed is gone.
    pub fn lift_stops(&self) {
        self.live.lift_stops();
    }

    /// Ends and joins the host's threads. To be called when no lane runs any more: without the ticker a guest's time does
    /// not end.
    pub fn stop(&self) {
        self.live.stop.store(true, Ordering::Relaxed);
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watcher) = watcher {
            watcher.join();
        }
        drop(self.ticker.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for PluginHost {
    fn drop(&mut self) {
        self.stop();
    }
}

// === impl States ===

impl States {
    /// A plugin's state, if it ever set one.
    pub fn get(&self, plugin: &str) -> Option<&Arc<str>> {
        let at = self.0.binary_search_by(|(name, _)| (**name).cmp(plugin)).ok()?;
        self.0.get(at).map(|(_, state)| state)
    }

    /// Replaces a plugin's state.
    pub fn set(&mut self, plugin: Arc<str>, state: Arc<str>) {
        match self.0.binary_search_by(|(name, _)| name.cmp(&plugin)) {
            Ok(at) => self.0[at].1 = state,
            Err(at) => self.0.insert(at, (plugin, state)),
        }
    }

    /// All states, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|(name, state)| (name, state))
    }

    /// Whether no plugin has a state.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Lower-case hexadecimal text of bytes.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}
