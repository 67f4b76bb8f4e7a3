//! The component's side of the boundary: the exports that [`crate::export!`] names, and the generated bindings, which stay
//! here. Nothing else of the crate knows that it runs as WebAssembly.
#![allow(unsafe_code, reason = "raw arguments of the component's exports")]

use std::{alloc::Layout, cell::UnsafeCell, marker::PhantomData};

use crate::{
    arena::Arena,
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

/// `init` in terms of the author's type; `process` crosses by hand, below.
struct Adapter<P>(PhantomData<P>);

/// An event as the canonical ABI of interface 1.0.0 lays it out.
#[repr(C)]
struct LoweredEvent {
    id: *const u8,
    id_length: usize,
    kind: *const u8,
    kind_length: usize,
    timestamp_ms: f64,
    data: *const u8,
    data_length: usize,
}

/// A verdict, laid out so.
#[repr(C)]
struct LoweredVerdict {
    case: u8,
    text: *const u8,
    length: usize,
}

/// What `process` returns a pointer to: first the layout that the host reads, then what keeps its texts alive.
#[repr(C)]
struct Answer {
    is_failure: u8,
    list_or_text: *const u8,
    length: usize,
    lowered: Vec<LoweredVerdict>,
    verdicts: Vec<Verdict>,
    message: String,
}

/// The arena of arguments; `on` while no code of the guest runs.
struct Arguments {
    on: bool,
    arena: Arena,
}

/// A component's instance has one thread.
struct OneThread<T>(UnsafeCell<T>);

// SAFETY: see above; without atomics in the target there is no way to start a thread.
#[cfg(not(target_feature = "atomics"))]
unsafe impl<T> Sync for OneThread<T> {}

const HOST: Host = Host { _private: () };

static ARGUMENTS: OneThread<Arguments> = OneThread(UnsafeCell::new(Arguments { on: false, arena: Arena::new() }));

const _: () = assert!(size_of::<LoweredEvent>() == 32 && size_of::<LoweredVerdict>() == 12);

// === exports ===

/// Where the host puts the arguments of calls and the results of imports.
#[unsafe(export_name = "cabi_realloc")]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_size: usize, align: usize, new_size: usize) -> *mut u8 {
    // SAFETY: the reference ends within this function, which calls nothing that makes another.
    let arguments = unsafe { &mut *ARGUMENTS.0.get() };
    if new_size == 0 {
        return std::ptr::without_provenance_mut(align);
    }
    if arguments.on {
        let new = arguments.arena.alloc(new_size, align);
        // SAFETY: the host says that `old` has `old_size` bytes; the new memory is another.
        unsafe { std::ptr::copy_nonoverlapping(old, new, old_size.min(new_size)) };
        return new;
    }
    // SAFETY: the host says that `old` was allocated here with this size and alignment, which is a power of two.
    let new = unsafe {
        if old_size == 0 {
            std::alloc::alloc(Layout::from_size_align_unchecked(new_size, align))
        } else {
            std::alloc::realloc(old, Layout::from_size_align_unchecked(old_size, align), new_size)
        }
    };
    if new.is_null() { std::process::abort() } else { new }
}

/// # Safety
/// To be called by the host alone, with arguments that it lowered.
pub unsafe fn init<P: Exported>(config: *mut u8, length: usize) -> *mut u8 {
    // Keeps the section that describes the world in the binary.
    bindings::__link_custom_section_describing_imports();
    let lent = enter();
    // SAFETY: the arguments are the host's; where they are not the arena's they are ours to free.
    let owned = unsafe {
        let owned = text(config, length).to_owned().into_boxed_str();
        if !lent && length > 0 {
            std::alloc::dealloc(config, Layout::from_size_align_unchecked(length, 1));
        }
        owned
    };
    let length = owned.len();
    // SAFETY: the generated code takes a boxed text, as the host would have allocated it.
    let answer = unsafe { wit::_export_init_cabi::<Adapter<P>>(Box::into_raw(owned).cast(), length) };
    leave();
    answer
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
    enter();
    // SAFETY: the arguments are the host's, laid out as the interface says, and stay until `leave`; what is made of them
    // borrows and does not outlive this block, since answers own their texts.
    let decided = unsafe {
        let task = (is_task != 0).then(|| text(task, task_length));
        let lowered: &[LoweredEvent] = if count == 0 { &[] } else { std::slice::from_raw_parts(events.cast(), count) };
        let views: Vec<Event<'_>> = lowered
            .iter()
            .map(|event| Event {
                id: text(event.id, event.id_length),
                kind: text(event.kind, event.kind_length),
                timestamp_ms: event.timestamp_ms,
                data: text(event.data, event.data_length),
            })
            .collect();
        let call = Call { task, events: &views, flush: flush != 0, host: &HOST };
        P::slot().with(|slot| match slot.get() {
            Some(plugin) => plugin.process(&call),
            None => Err(Failure::new("process was called before init")),
        })
    };
    let answer = Box::into_raw(Box::new(Answer::new(decided)));
    leave();
    answer.cast()
}

/// # Safety
/// To be called by the host alone, once, with what `process` returned.
pub unsafe fn post_process(answer: *mut u8) {
    // SAFETY: `process` made it of a box.
    drop(unsafe { Box::from_raw(answer.cast::<Answer>()) });
}

/// The guest runs: what is allocated now is its own. Returns whether the call's arguments are the arena's.
fn enter() -> bool {
    // SAFETY: the reference ends within this function, which calls nothing that makes another.
    let arguments = unsafe { &mut *ARGUMENTS.0.get() };
    std::mem::replace(&mut arguments.on, false)
}

/// The guest is about to return: the call's arguments are gone, the next call's may come.
fn leave() {
    // SAFETY: as above; freeing and allocating blocks calls the global allocator, never `cabi_realloc`.
    let arguments = unsafe { &mut *ARGUMENTS.0.get() };
    arguments.arena.reset();
    arguments.on = true;
}

/// # Safety
/// The host lowered this text, and its memory stays for `'a`.
unsafe fn text<'a>(start: *const u8, length: usize) -> &'a str {
    if length == 0 {
        return "";
    }
    // SAFETY: the caller's promise; of a component's texts the host lets only UTF-8 pass.
    unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(start, length)) }
}

// === impl Answer ===

impl Answer {
    fn new(decided: Result<Vec<Verdict>, Failure>) -> Self {
        let (is_failure, verdicts, message) = match decided {
            Ok(verdicts) => (false, verdicts, String::new()),
            Err(failure) => (true, Vec::new(), failure.into_message()),
        };
        let lowered: Vec<LoweredVerdict> = verdicts.iter().map(LoweredVerdict::from).collect();
        let (list_or_text, length) =
            if is_failure { (message.as_ptr(), message.len()) } else { (lowered.as_ptr().cast(), lowered.len()) };
        Self { is_failure: u8::from(is_failure), list_or_text, length, lowered, verdicts, message }
    }
}

impl From<&Verdict> for LoweredVerdict {
    fn from(verdict: &Verdict) -> Self {
        let (case, text) = match verdict {
            Verdict::Pass => (0, ""),
            Verdict::Replace(data) => (1, data.as_str()),
            Verdict::Drop(code) => (2, code.as_str()),
            Verdict::Hold => (3, ""),
            Verdict::Quarantine(code) => (4, code.as_str()),
        };
        Self { case, text: text.as_ptr(), length: text.len() }
    }
}

// === impl Adapter ===

impl<P: Exported> wit::Guest for Adapter<P> {
    fn init(config: String) -> Result<wit::Manifest, wit::Failure> {
        let plugin = P::new(config::read(&config)?, &HOST)?;
        let manifest = plugin.manifest().into();
        P::slot().with(|slot| slot.set(plugin)).map_err(|_| Failure::new("init was called twice"))?;
        Ok(manifest)
    }

    /// Not exported.
    fn process(_: Option<String>, _: Vec<wit::Event>, _: bool) -> Result<Vec<wit::Verdict>, wit::Failure> {
        Ok(Vec::new())
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

impl From<Failure> for wit::Failure {
    fn from(failure: Failure) -> Self {
        Self { message: failure.into_message() }
    }
}
