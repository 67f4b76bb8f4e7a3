//! One instance of a plugin: a store with its limits, a deadline for each call, and what a call made. Disposable: after
//! anything but an answer it is poisoned and must be dropped, which frees all its memory.

use std::{sync::Arc, time::Duration};

use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};

use super::{
    bindings::{Guest, Input, Manifest, Pre, Verdict},
    engine::{self, Runtime},
    meters::Share,
    state::{HostState, Identity, Staged, Stop},
};

/// Wasm frames shown of a failure.
const FRAMES_MAX: usize = 8;
/// Characters of a function's name shown.
const FUNCTION_CHARS_MAX: usize = 80;

/// A live guest.
pub(super) struct Instance {
    store: Store<HostState>,
    guest: Guest,
    /// Calls of `process` so far.
    calls: u32,
    /// Linear memory after `init`, in bytes.
    begun: usize,
    /// Its part in the number of instances alive.
    counted: Option<Share>,
}

/// Why a kept instance is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wear {
    /// It was called often enough.
    Calls,
    /// Events took half of the memory that `init` left free.
    Memory,
}

/// What a guest may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// CPU time of a call.
    pub(super) timeout: Duration,
    /// Linear memory, in bytes.
    pub(super) memory: usize,
}

/// How a call failed. Nothing in here may come from a guest that has seen an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{class}{}{}", detail(.reason), at(.frames))]
pub(super) struct CallError {
    /// For metrics and gap records.
    pub(super) class: Class,
    /// The host's words, or the guest's of `init`; `None`: there are none that may be shown.
    pub(super) reason: Option<String>,
    /// Bytes of what the guest said and is not shown.
    pub(super) hidden: usize,
    /// Functions and offsets, innermost first.
    pub(super) frames: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Class {
    /// The guest trapped, or a host function refused what it asked for.
    Trap,
    /// Past its deadline.
    Timeout,
    /// Trapped after it was refused memory.
    Memory,
    /// Returned a failure.
    Failure,
    /// Another number of verdicts than events.
    Verdicts,
    /// Held where nothing may be held, or is no redactor.
    Hold,
    /// A replacement that is not the JSON text of an object.
    Json,
    /// Another manifest than the one that was proven.
    Manifest,
    /// No room for another instance: not the plugin's fault, and no failure of an event.
    Busy,
}

// === impl Instance ===

impl Instance {
    /// Instantiates and calls `init`.
    pub(super) fn new(
        runtime: &Runtime,
        pre: &Pre,
        identity: Option<Arc<Identity>>,
        limits: Limits,
        config: &str,
    ) -> Result<(Self, Manifest, Staged), CallError> {
        let mut store = runtime.store(identity, limits.memory);
        if let Some(sink) = store.data().sink() {
            sink.begin();
        }
        engine::arm(&mut store, config.len());
        store.data_mut().begin_init(limits.timeout);
        let guest = Guest::instantiate(pre, &mut store).map_err(|error| failed(&store, &error))?;
        let manifest = match guest.init(&mut store, config) {
            Ok(Ok(manifest)) => manifest,
            Ok(Err(message)) => return Err(CallError::said(Class::Failure, Some(message))),
            Err(error) => return Err(failed(&store, &error)),
        };
        let staged = std::mem::take(&mut store.data_mut().staged);
        let begun = store.data().limiter.memory;
        Ok((Self { store, guest, calls: 0, begun, counted: None }, manifest, staged))
    }

    /// Counts it among those alive until it is dropped.
    pub(super) fn counted(mut self, share: Option<Share>) -> Self {
        self.counted = share;
        self
    }

    /// Calls `process`; the number of verdicts is checked. After an error the instance must be dropped.
    pub(super) fn process(
        &mut self,
        limits: Limits,
        state: Arc<str>,
        task: Option<&str>,
        events: &[Input<'_>],
        flush: bool,
    ) -> Result<(Vec<Verdict>, Staged), CallError> {
        let bytes = events.iter().map(|input| input.data.len()).sum();
        engine::arm(&mut self.store, bytes);
        self.store.data_mut().begin_process(limits.timeout, state, bytes);
        if let Some(sink) = self.store.data().sink()
            && self.calls > 0
        {
            sink.begin();
        }
        self.calls = self.calls.saturating_add(1);
        let verdicts = match self.guest.process(&mut self.store, task, events, flush) {
            Ok(Ok(verdicts)) => verdicts,
            Ok(Err(message)) => {
                if let Some(sink) = self.store.data().sink() {
                    sink.ended(&message);
                }
                return Err(CallError { hidden: message.len(), ..CallError::said(Class::Failure, None) });
            }
            Err(error) => return Err(failed(&self.store, &error)),
        };
        if let Some(sink) = self.store.data().sink() {
            sink.answered(&verdicts);
        }
        if verdicts.len() != events.len() {
            let reason = format!("{} verdicts for {} events", verdicts.len(), events.len());
            return Err(CallError::said(Class::Verdicts, Some(reason)));
        }
        Ok((verdicts, std::mem::take(&mut self.store.data_mut().staged)))
    }

    /// Linear memory in use, in bytes; it never shrinks, so this is the peak.
    pub(super) fn memory(&self) -> usize {
        self.store.data().limiter.memory
    }

    /// Fuel left, on a desk that counts it; each store begins with the largest number.
    pub(super) fn fuel(&self) -> u64 {
        self.store.get_fuel().unwrap_or(0)
    }

    /// Whether it has done enough: guests leak, and only a new store gives memory back. An interpreter may have taken more
    /// than half of its memory before it began, so what counts is half of what `init` left.
    pub(super) fn worn(&self, calls_max: u32) -> Option<Wear> {
        let most = self.begun.midpoint(self.store.data().limiter.memory_max());
        if self.calls >= calls_max {
            Some(Wear::Calls)
        } else if self.memory() > most {
            Some(Wear::Memory)
        } else {
            None
        }
    }
}

// === impl Wear ===

impl Wear {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Memory => "memory",
        }
    }
}

// === impl CallError ===

impl CallError {
    pub(super) fn said(class: Class, reason: Option<String>) -> Self {
        let shown = |text: String| text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
        let reason = reason.map(shown);
        Self { class, reason, hidden: 0, frames: String::new() }
    }
}

fn failed(store: &Store<HostState>, error: &wasmtime::Error) -> CallError {
    let state = store.data();
    if let Some(sink) = state.sink() {
        sink.ended(&error.root_cause().to_string());
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return CallError::said(Class::Busy, Some("no room for another instance".to_owned()));
    }
    let (class, reason) = match (error.downcast_ref::<Stop>(), error.downcast_ref::<Trap>()) {
        (Some(Stop::Timeout), _) => (Class::Timeout, Some(Stop::Timeout.to_string())),
        (Some(stop), _) => (Class::Trap, Some(stop.to_string())),
        (None, _) if state.limiter.denied => {
            (Class::Memory, Some(format!("asked for more than {} bytes of memory", state.limiter.memory_max())))
        }
        (None, Some(trap)) => (Class::Trap, Some(trap.to_string())),
        // Anything else may carry a guest's text (a wrong discriminant, an exit).
        (None, None) => (Class::Trap, None),
    };
    let frames = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    CallError { class, reason, hidden: 0, frames }
}

fn frames(trace: &WasmBacktrace) -> String {
    let shown = trace.frames().iter().take(FRAMES_MAX).map(|frame| {
        let name = frame.func_name().unwrap_or("?").chars().filter(|c| !c.is_control()).take(FUNCTION_CHARS_MAX);
        format!("{}+{:#x}", name.collect::<String>(), frame.func_offset().unwrap_or(0))
    });
    shown.collect::<Vec<_>>().join(" < ")
}

fn detail(reason: &Option<String>) -> String {
    reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
}

fn at(frames: &str) -> String {
    if frames.is_empty() { String::new() } else { format!(" at {frames}") }
}

// === impl Class ===

impl Class {
    /// All of them, in order.
    pub(super) const ALL: [Self; 9] = [
        Self::Trap,
        Self::Timeout,
        Self::Memory,
        Self::Failure,
        Self::Verdicts,
        Self::Hold,
        Self::Json,
        Self::Manifest,
        Self::Busy,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Failure => "failure",
            Self::Verdicts => "verdicts",
            Self::Hold => "hold",
            Self::Json => "json",
            Self::Manifest => "manifest",
            Self::Busy => "busy",
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
