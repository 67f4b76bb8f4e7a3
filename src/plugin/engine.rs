//! The wasmtime engine: its settings, the linker with an empty WASI 0.2 and our host functions, the ticker that drives
//! deadlines. One per process; nothing else configures wasmtime.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use sha2::{Digest, Sha256};
use wasmtime::{
    Config, Enabled, Engine, PoolingAllocationConfig, Store, UpdateDeadline,
    component::{Component, InstancePre},
};

use super::{
    bindings::{self, HOST, PROCESSOR, Pre, VERSION},
    fit,
    sink::Sink,
    state::{HostState, INSTANCES_MAX, Identity, Stop, TABLE_ELEMENTS_MAX, TABLES_MAX},
};

/// Our linker.
pub(super) type Linker = wasmtime::component::Linker<HostState>;

/// How often running guests' deadlines are looked at, so how late a deadline may fire.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// Bytes of arguments or results that one crossing may copy, whatever the events' size.
const COPY_BYTES_MIN: usize = 8 << 20;
/// Results may be this many times the events: every string may grow when it is escaped or redacted.
const COPY_FACTOR: usize = 4;
/// Instances alive at a time: kept ones of all lanes, and one for each running call. Address space only.
const POOL_INSTANCES: u32 = 1024;
/// Core instances and tables of all of them.
const POOL_PARTS: u32 = 16 * POOL_INSTANCES;
/// Garbage-collected heaps, which only guests with exceptions or managed languages have.
const POOL_GC_HEAPS: u32 = 64;
/// Memory that an unused slot keeps, in bytes: what a small guest touches. Reset by copying instead of by page faults.
const POOL_KEEP_BYTES: usize = 256 << 10;
/// Slots that keep memory.
const POOL_WARM: u32 = 16;
/// Native stack that a guest may use, in bytes; lane threads have Rust's 2 MiB.
const STACK_BYTES_MAX: usize = 512 << 10;

/// Why a component does not fit the service.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The host's CPU or kernel lacks something that wasmtime needs.
    #[error("cannot set up WebAssembly: {0}")]
    SetUp(String),
    /// Imports something beyond WASI 0.2 and our host interface.
    #[error("imports `{0}`, which is not offered (only {HOST} and an empty WASI 0.2 are)")]
    Import(String),
    /// Exports something else than a plugin does.
    #[error("does not export `{PROCESSOR}@{VERSION}`")]
    Export,
    /// Wants a host function of a later version.
    #[error(
        "needs `{function}` of `{interface}`, a host function that this version of the service does not have: update the \
         service, or build the plugin without it against wit/plugin.wit of version {VERSION}"
    )]
    HostFunction {
        /// What it imports.
        function: String,
        /// Of which version.
        interface: String,
    },
    /// Another major version, or none.
    #[error(
        "is built for `{found}`, but this service speaks `{interface}@{VERSION}`: build it against that wit/plugin.wit"
    )]
    Version {
        /// What it imports or exports.
        found: String,
        /// What it should.
        interface: &'static str,
    },
    /// The names fit, the types do not.
    #[error("does not fit the plugin interface: {0}")]
    Types(String),
}

/// The engine and what is linked to guests.
pub(super) struct Runtime {
    engine: Engine,
    linker: Linker,
    /// On an author's desk only.
    sink: Option<Arc<Sink>>,
    /// Calls are counted in fuel, on an author's desk only.
    metered: bool,
}

/// The thread that ends guests' time. Stops and is joined when dropped.
pub(super) struct Ticker {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

/// The settings, equal in the service and in the child that compiles for it.
pub(super) fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // Three times cheaper calls; `stream` and `future` are not in our interface.
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES_MAX)
        .wasm_memory64(false)
        // Frames of a failure: function names and offsets, no source files.
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    config
}

/// A pool makes a fresh instance 2.5 times cheaper (23 instead of 58 us with a call of one event). It changes no compiled code.
fn pool(memory_max: usize) -> PoolingAllocationConfig {
    let scan = PoolingAllocationConfig::is_pagemap_scan_available();
    // Without the scan all that is kept would be copied back each time, which costs more than it saves.
    let keep = if scan { POOL_KEEP_BYTES } else { 0 };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(POOL_INSTANCES)
        .total_memories(POOL_INSTANCES)
        .total_core_instances(POOL_PARTS)
        .total_tables(POOL_PARTS)
        .total_gc_heaps(POOL_GC_HEAPS)
        .max_core_instances_per_component(u32::try_from(INSTANCES_MAX).unwrap_or(u32::MAX))
        .max_tables_per_module(u32::try_from(TABLES_MAX).unwrap_or(u32::MAX))
        .max_tables_per_component(u32::try_from(TABLES_MAX).unwrap_or(u32::MAX))
        .max_memories_per_component(1)
        .max_memory_size(memory_max.min(4 << 30))
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(keep)
        .table_keep_resident(keep / 16)
        .max_unused_warm_slots(POOL_WARM)
        .pagemap_scan(Enabled::Auto);
    pool
}

// === impl Runtime ===

impl Runtime {
    /// `memory_max` is the most that any plugin may have, in bytes.
    pub(super) fn new(memory_max: usize) -> Result<Self, EngineError> {
        let set_up = |error: wasmtime::Error| EngineError::SetUp(format!("{error:#}"));
        let mut pooled = config();
        pooled.allocation_strategy(pool(memory_max));
        let engine = Engine::new(&pooled).or_else(|error| {
            // Address space is limited here (ulimit -v, a small machine).
            tracing::info!(error = format!("{error:#}"), "no pool of plugin instances: each is allocated when needed");
            Engine::new(&config()).map_err(set_up)
        })?;
        let linker = linker(&engine).map_err(set_up)?;
        Ok(Self { engine, linker, sink: None, metered: false })
    }

    /// A runtime for an author's desk: what guests say and the service hides goes to the sink.
    pub(super) fn on_desk(memory_max: usize, sink: &Arc<Sink>) -> Result<Self, EngineError> {
        Ok(Self { sink: Some(Arc::clone(sink)), ..Self::new(memory_max)? })
    }

    /// A runtime for an author's desk that counts instructions. Its compiled code is another one than the service's.
    pub(super) fn metered(sink: &Arc<Sink>) -> Result<Self, EngineError> {
        let set_up = |error: wasmtime::Error| EngineError::SetUp(format!("{error:#}"));
        let engine = Engine::new(config().consume_fuel(true)).map_err(set_up)?;
        let linker = linker(&engine).map_err(set_up)?;
        Ok(Self { engine, linker, sink: Some(Arc::clone(sink)), metered: true })
    }

    /// The desk's; the service has none.
    pub(super) fn sink(&self) -> Option<&Arc<Sink>> {
        self.sink.as_ref()
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Which compiled components this engine can load, hex.
    pub(super) fn compatibility(&self) -> String {
        let mut hasher = Sha256Hasher(Sha256::new());
        std::hash::Hash::hash(&self.engine.precompile_compatibility_hash(), &mut hasher);
        super::hex(&hasher.0.finalize())
    }

    /// Checks imports and exports.
    pub(super) fn link(&self, component: &Component) -> Result<Pre, EngineError> {
        fit::check(&component.component_type(), &self.engine)?;
        let types = |error: wasmtime::Error| EngineError::Types(format!("{error:#}").chars().take(500).collect());
        let pre: InstancePre<HostState> = self.linker.instantiate_pre(component).map_err(types)?;
        bindings::check(pre).map_err(types)
    }

    /// A store with all limits; `arm` before each call.
    pub(super) fn store(&self, identity: Option<Arc<Identity>>, memory_max: usize) -> Store<HostState> {
        let state = HostState::new(identity, memory_max);
        let state = match &self.sink {
            Some(sink) => state.on_desk(sink),
            None => state,
        };
        let mut store = Store::new(&self.engine, state);
        if self.metered {
            // Fails only where fuel is not configured, which it is.
            store.set_fuel(u64::MAX).ok();
        }
        store.limiter(|state| &mut state.limiter);
        store.epoch_deadline_callback(|mut store| {
            store.data_mut().deadline.check()?;
            Ok(UpdateDeadline::Continue(1))
        });
        store
    }
}

/// Before every call: the epoch has moved on since the last one.
pub(super) fn arm(store: &mut Store<HostState>, bytes: usize) {
    store.set_epoch_deadline(1);
    store.set_hostcall_fuel(COPY_BYTES_MIN.max(bytes.saturating_mul(COPY_FACTOR)));
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    // A pollable of the clock would let a guest sleep in the host, where no deadline reaches it.
    linker.allow_shadowing(true);
    let mut clock = linker.instance("wasi:clocks/monotonic-clock@0.2.12")?;
    for name in ["subscribe-duration", "subscribe-instant"] {
        clock.func_new(name, |_, _, _, _| Err(Stop::Sleep.into()))?;
    }
    linker.allow_shadowing(false);
    bindings::add_host(&mut linker)?;
    Ok(linker)
}

/// A stable hash, unlike the standard library's.
struct Sha256Hasher(Sha256);

impl std::hash::Hasher for Sha256Hasher {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

// === impl Ticker ===

impl Ticker {
    pub(super) fn start(runtime: &Runtime) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (engine, told) = (runtime.engine.clone(), Arc::clone(&stop));
        let thread = thread::Builder::new().name("plugin-ticker".to_owned()).spawn(move || {
            let (stopped, changed) = &*told;
            let mut guard = stopped.lock().unwrap_or_else(PoisonError::into_inner);
            while !*guard {
                guard = changed.wait_timeout(guard, TICK).unwrap_or_else(PoisonError::into_inner).0;
                engine.increment_epoch();
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            drop(thread.join());
        }
    }
}
