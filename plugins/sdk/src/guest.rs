//! The component's side of the boundary: the exports that [`crate::export!`] names, and the generated bindings, which stay
//! here. Nothing else of the crate knows that it runs as WebAssembly.
#![allow(unsafe_code, reason = "raw arguments of the component's exports")]

use std::marker::PhantomData;

use crate::{
    config,
    host::Host,
    plugin::{Call, Event, Exported, Failure, Manifest, Role, Verdict},
};
use bindings::exports::task_logger::plugin::processor as wit;

mod bindings {
    //! Generated from `wit/plugin.wit`, which stands two folders up: in the project, and in a folder of `plugin new`.
    #![allow(missing_docs, unreachable_pub, clippy::undocumented_unsafe_blocks, reason = "generated")]
    wit_bindgen::generate!({ path: "../../wit", world: "plugin" });
}

/// What the service offers.
pub(crate) mod calls {
    pub(crate) use super::bindings::task_logger::plugin::host::{
        Level, annotate, append_file, count, get_state, log, replace_file, set_state,
    };
}

/// The interface's functions in terms of the author's type.
struct Adapter<P>(PhantomData<P>);

const HOST: Host = Host { _private: () };

// === exports ===

/// # Safety
/// To be called by the host alone, with arguments that it lowered.
pub unsafe fn init<P: Exported>(config: *mut u8, length: usize) -> *mut u8 {
    // Keeps the section that describes the world in the binary.
    bindings::__link_custom_section_describing_imports();
    // SAFETY: the arguments are the host's, as the caller promises.
    unsafe { wit::_export_init_cabi::<Adapter<P>>(config, length) }
}

/// # Safety
/// To be called by the host alone, once, with what `init` returned.
pub unsafe fn post_init<P: Exported>(answer: *mut u8) {
    // SAFETY: the argument is what `init` returned.
    unsafe { wit::__post_return_init::<Adapter<P>>(answer) }
}

/// # Safety
/// To be called by the host alone, with arguments that it lowered.
pub unsafe fn process<P: Exported>(
    is_task: i32,
    task: *mut u8,
    task_length: usize,
    events: *mut u8,
    count: usize,
    flush: i32,
) -> *mut u8 {
    // SAFETY: the arguments are the host's, as the caller promises.
    unsafe { wit::_export_process_cabi::<Adapter<P>>(is_task, task, task_length, events, count, flush) }
}

/// # Safety
/// To be called by the host alone, once, with what `process` returned.
pub unsafe fn post_process<P: Exported>(answer: *mut u8) {
    // SAFETY: the argument is what `process` returned.
    unsafe { wit::__post_return_process::<Adapter<P>>(answer) }
}

// === impl Adapter ===

impl<P: Exported> wit::Guest for Adapter<P> {
    fn init(config: String) -> Result<wit::Manifest, wit::Failure> {
        let plugin = P::new(config::read(&config)?, &HOST)?;
        let manifest = plugin.manifest().into();
        P::slot().with(|slot| slot.set(plugin)).map_err(|_| Failure::new("init was called twice"))?;
        Ok(manifest)
    }

    fn process(task: Option<String>, events: Vec<wit::Event>, flush: bool) -> Result<Vec<wit::Verdict>, wit::Failure> {
        let views: Vec<Event<'_>> = events
            .iter()
            .map(|event| Event {
                id: &event.id,
                kind: &event.kind,
                timestamp_ms: event.timestamp_ms,
                data: &event.data,
            })
            .collect();
        let call = Call { task: task.as_deref(), events: &views, flush, host: &HOST };
        let verdicts = P::slot().with(|slot| match slot.get() {
            Some(plugin) => plugin.process(&call),
            None => Err(Failure::new("process was called before init")),
        })?;
        Ok(verdicts.into_iter().map(wit::Verdict::from).collect())
    }
}

// === conversions ===

impl From<Manifest> for wit::Manifest {
    fn from(manifest: Manifest) -> Self {
        let Manifest { name, version, role, kinds, files, codes } = manifest;
        let role = match role {
            Role::Redactor => wit::Role::Redactor,
            Role::Standard => wit::Role::Standard,
        };
        Self { name, version, role, kinds, files, codes }
    }
}

impl From<Verdict> for wit::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Replace(data) => Self::Replace(data),
            Verdict::Drop(code) => Self::Drop(code),
            Verdict::Hold => Self::Hold,
            Verdict::Quarantine(code) => Self::Quarantine(code),
        }
    }
}

impl From<Failure> for wit::Failure {
    fn from(failure: Failure) -> Self {
        Self { message: failure.into_message() }
    }
}
