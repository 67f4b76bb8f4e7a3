//! The WIT world in Rust, and the conversions from and to it. The only file that names WIT types: the rest of the host
//! speaks of [`Manifest`] and [`Verdict`].

use wasmtime::{Store, component::HasSelf};

use super::{
    engine::Linker,
    state::{HostState, Level},
};
use crate::event::Event;

use wit::{
    exports::task_logger::plugin::processor as guest,
    task_logger::plugin::host::{self, Level as WitLevel},
};

mod wit {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "plugin",
        ownership: Borrowing { duplicate_if_necessary: false },
        imports: { default: trappable },
    });
}

/// A component whose imports and exports fit, ready to be instantiated any number of times.
pub(super) type Pre = wit::PluginPre<HostState>;

/// The version of both interfaces; later minor versions only add functions to [`HOST`].
pub(super) const VERSION: &str = "1.0.0";
/// The interface that a plugin must export.
pub(super) const PROCESSOR: &str = "task-logger:plugin/processor";
/// The interface that the service offers beside WASI 0.2.
pub(super) const HOST: &str = "task-logger:plugin/host";
/// What is in it.
pub(super) const HOST_FUNCTIONS: [&str; 7] =
    ["log", "count", "get-state", "set-state", "append-file", "replace-file", "annotate"];

/// What a plugin says it is; not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) redactor: bool,
    pub(super) kinds: Vec<String>,
    pub(super) files: Vec<String>,
    pub(super) codes: Vec<String>,
}

/// What a plugin says of one event; not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Replace(String),
    Drop(String),
    Hold,
    Quarantine(String),
}

/// Bytes of a usual stream id.
const ID_BYTES: usize = 20;

/// An instance's exports. The outer errors are traps, the inner ones what the guest says of its failure.
pub(super) struct Guest(wit::Plugin);

/// An event on its way into a guest: the entry's own, with the data that earlier plugins made of it.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) event: &'a Event,
    pub(super) data: &'a str,
}

/// Offers `host` to guests.
pub(super) fn add_host(linker: &mut Linker) -> wasmtime::Result<()> {
    host::add_to_linker::<HostState, HasSelf<HostState>>(linker, |state| state)
}

/// Checks a component's exports against the world.
pub(super) fn check(pre: wasmtime::component::InstancePre<HostState>) -> wasmtime::Result<Pre> {
    Pre::new(pre)
}

// === impl Guest ===

impl Guest {
    pub(super) fn instantiate(pre: &Pre, store: &mut Store<HostState>) -> wasmtime::Result<Self> {
        pre.instantiate(store).map(Self)
    }

    pub(super) fn init(
        &self,
        store: &mut Store<HostState>,
        config: &str,
    ) -> wasmtime::Result<Result<Manifest, String>> {
        let said = self.0.task_logger_plugin_processor().call_init(store, config)?;
        Ok(said.map(Manifest::from).map_err(|failure| failure.message))
    }

    pub(super) fn process(
        &self,
        store: &mut Store<HostState>,
        task: Option<&str>,
        events: &[Input<'_>],
        flush: bool,
    ) -> wasmtime::Result<Result<Vec<Verdict>, String>> {
        // One text for all ids, cut at their ends.
        let mut text = String::with_capacity(events.len() * ID_BYTES);
        let mut digits = itoa::Buffer::new();
        let mut ends = Vec::with_capacity(events.len());
        for Input { event, .. } in events {
            text.push_str(digits.format(event.id.ms));
            text.push('-');
            text.push_str(digits.format(event.id.seq));
            ends.push(text.len());
        }
        let begins = std::iter::once(0).chain(ends.iter().copied());
        let ids = begins.zip(&ends).map(|(begin, end)| text.get(begin..*end).unwrap_or_default());
        let lowered: Vec<guest::Event<'_>> = events
            .iter()
            .zip(ids)
            .map(|(input, id)| guest::Event {
                id,
                kind: &input.event.kind,
                timestamp_ms: input.event.timestamp_ms as f64,
                data: input.data,
            })
            .collect();
        let said = self.0.task_logger_plugin_processor().call_process(store, task, &lowered, flush)?;
        Ok(match said {
            Ok(verdicts) => Ok(verdicts.into_iter().map(Verdict::from).collect()),
            Err(failure) => Err(failure.message),
        })
    }
}

// === conversions ===

impl From<guest::Manifest> for Manifest {
    fn from(manifest: guest::Manifest) -> Self {
        let guest::Manifest { name, version, role, kinds, files, codes } = manifest;
        Self { name, version, redactor: matches!(role, guest::Role::Redactor), kinds, files, codes }
    }
}

impl From<guest::Verdict> for Verdict {
    fn from(verdict: guest::Verdict) -> Self {
        match verdict {
            guest::Verdict::Pass => Self::Pass,
            guest::Verdict::Replace(data) => Self::Replace(data),
            guest::Verdict::Drop(code) => Self::Drop(code),
            guest::Verdict::Hold => Self::Hold,
            guest::Verdict::Quarantine(code) => Self::Quarantine(code),
        }
    }
}

impl host::Host for HostState {
    fn log(&mut self, level: WitLevel, message: String) -> wasmtime::Result<()> {
        let level = match level {
            WitLevel::Debug => Level::Debug,
            WitLevel::Info => Level::Info,
            WitLevel::Warn => Level::Warn,
            WitLevel::Error => Level::Error,
        };
        Ok(self.stage_log(level, message)?)
    }

    fn count(&mut self, name: String, n: u32) -> wasmtime::Result<()> {
        self.stage_count(&name, n);
        Ok(())
    }

    fn get_state(&mut self) -> wasmtime::Result<String> {
        Ok(self.plugin_state()?.to_owned())
    }

    fn set_state(&mut self, value: String) -> wasmtime::Result<()> {
        Ok(self.stage_state(value)?)
    }

    fn append_file(&mut self, name: String, text: String) -> wasmtime::Result<()> {
        Ok(self.stage_file(&name, text, false)?)
    }

    fn replace_file(&mut self, name: String, text: String) -> wasmtime::Result<()> {
        Ok(self.stage_file(&name, text, true)?)
    }

    fn annotate(&mut self, json: String) -> wasmtime::Result<()> {
        Ok(self.stage_annotation(&json)?)
    }
}
