//! Misdeeds by sheer amount, and by what is left in memory.

use serde_json::{Map, Value};

use crate::guest::bindings::{
    exports::task_logger::plugin::processor::{Event, Failure, Verdict},
    task_logger::plugin::host,
};

/// Calls itself until the stack ends.
pub(crate) fn recurse(depth: u64) -> u64 {
    let frame = [depth; 64];
    if std::hint::black_box(&frame)[7] == 0 { 0 } else { 1 + recurse(std::hint::black_box(depth + 1)) }
}

/// Long lines until the quota.
pub(crate) fn log() {
    let line = "l".repeat(4 << 20);
    loop {
        host::log(host::Level::Error, &line);
    }
}

/// Both standard streams, 64 MiB each.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "that is the misdeed")]
pub(crate) fn print() {
    let line = "p".repeat(1 << 20);
    for _ in 0..64 {
        println!("{line}");
        eprintln!("{line}");
    }
}

/// A million times, under names that the manifest has and has not.
pub(crate) fn count(code: &str) {
    for n in 0..1_000_000_u32 {
        host::count(code, u32::MAX);
        host::count(&format!("name-{n}"), u32::MAX);
    }
}

/// 60 KiB under a key that no other event has.
pub(crate) fn annotate(key: &str) {
    let object = Map::from_iter([(key.to_owned(), Value::from("a".repeat(60 << 10)))]);
    host::annotate(&Value::from(object).to_string());
}

/// An object with arrays in arrays.
pub(crate) fn deep(depth: usize) -> String {
    let depth = depth.saturating_sub(1);
    format!("{{\"deep\":{}{}}}", "[".repeat(depth), "]".repeat(depth))
}

/// Says the event's data wherever a guest can say something, in turn.
#[allow(clippy::print_stdout, clippy::print_stderr, clippy::panic, reason = "that is the misdeed")]
pub(crate) fn gossip(event: &Event, file: &str, code: &str) -> Result<Verdict, Failure> {
    let seq: u64 = event.id.rsplit('-').next().and_then(|seq| seq.parse().ok()).unwrap_or_default();
    let ms: u64 = event.id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or_default();
    match (ms + seq) % 10 {
        0 => return Err(Failure { message: event.data.clone() }),
        1 => panic!("{}", event.data),
        2 => {
            println!("{}", event.data);
            eprintln!("{}", event.data);
            std::process::abort();
        }
        3 => {
            host::log(host::Level::Error, &event.data);
            std::process::abort();
        }
        4 => {
            host::count(&event.data, 1);
            return Ok(Verdict::Drop(event.data.clone()));
        }
        5 => return Ok(Verdict::Quarantine(event.data.clone())),
        6 => {
            host::append_file(file, &event.data);
            return Err(Failure { message: code.to_owned() });
        }
        7 => {
            host::set_state(&event.data);
            host::annotate(&event.data);
            host::append_file(&event.data, "x");
        }
        8 => return Ok(Verdict::Replace(format!("not JSON: {}", event.data))),
        _ => {
            host::log(host::Level::Warn, &event.data);
            host::count(&event.data, 1);
            return Ok(Verdict::Drop(code.to_owned()));
        }
    }
    Ok(Verdict::Pass)
}

/// Keeps a copy for as long as the memory lives.
pub(crate) fn remember(text: &str) {
    std::mem::forget(text.to_owned());
}

/// Whether a text, given backwards so that the question itself does not hold it, stands anywhere in linear memory.
pub(crate) fn holds_reversed(reversed: &str) -> bool {
    let wanted = reversed.as_bytes();
    let end = core::arch::wasm32::memory_size(0) << 16;
    #[allow(unsafe_code, reason = "the misdeed is to look where nothing was given to look at")]
    // SAFETY: a byte below the memory's end is there; whatever changes meanwhile changes on this thread alone.
    let byte = |at: usize| unsafe { core::ptr::read_volatile(at as *const u8) };
    let Some(last) = wanted.len().checked_sub(1) else { return false };
    (1..end - last).any(|start| wanted.iter().rev().enumerate().all(|(n, want)| byte(start + n) == *want))
}
