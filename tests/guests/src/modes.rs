//! The ways to misbehave (and some good ones that tests need to see what the host does with effects).

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    floods,
    guest::{
        Config,
        bindings::{
            exports::task_logger::plugin::processor::{Event, Failure, Verdict},
            task_logger::plugin::host,
        },
    },
    waits,
};

/// What an event that matches meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// Pass.
    Pass,
    /// Adds the key `stamp` with the manifest's version.
    Stamp,
    /// Appends the event's id and a newline to the first extra file.
    Append,
    /// Replaces the first extra file by the event's id.
    ReplaceExtra,
    /// Annotates the event's id.
    Annotate,
    /// Counts the events in the state and stamps the count.
    StateCount,
    /// Stamps how many events this instance has seen: what it must not carry from one task to the next.
    Seen,
    /// The same, and keeps a mebibyte of memory for each.
    Leak,
    /// Logs a line of 16 MiB: more than a host call may copy.
    HugeLine,
    /// Aborts.
    Trap,
    /// Never returns.
    Loop,
    /// Sleeps an hour by WASI.
    Sleep,
    /// Allocates until it fails.
    Memory,
    /// One verdict too few.
    Short,
    /// One verdict too many.
    Long,
    /// Fails, with the event's data in the message.
    Failure,
    /// Panics, with the event's data in the message on stderr.
    Panic,
    /// Writes a file that the manifest does not name.
    UndeclaredFile,
    /// Writes a state of 64 KiB and one byte.
    BigState,
    /// Annotates what is no JSON object.
    BadAnnotation,
    /// Appends 1 MiB to the extra file, 100 times.
    BigFile,
    /// Drops.
    Drop,
    /// Quarantines.
    Quarantine,
    /// Drops with the event's data as the code.
    BadCode,
    /// Holds, even when told to flush.
    Hold,
    /// Holds until an event of the call contains `until`, or flush.
    HoldUntil,
    /// Prints the event's data to stdout and stderr.
    Stdout,
    /// Logs the event's data.
    Log,
    /// Counts under the first code, and under a name that is not in the manifest.
    Count,
    /// Replaces by a text that is not JSON.
    BadJson,
    /// Replaces by JSON that is no object.
    BadObject,
    /// Reads a file, the environment and a socket, and stamps what it got.
    Reach,
    /// A name that no manifest may have.
    BadManifest,
    /// `init` fails.
    InitFail,
    /// `init` aborts.
    InitTrap,
    /// `init` never returns.
    InitLoop,
    /// A redactor that does not want every kind.
    NarrowRedactor,
    /// Calls itself without end.
    Recurse,
    /// Ends the program as if all were well.
    Exit,
    /// Logs lines of 4 MiB until it may not.
    LogFlood,
    /// Prints 64 MiB to stdout and as much to stderr.
    PrintFlood,
    /// Counts a million times under a million names.
    CountFlood,
    /// A new state of 64 KiB.
    StateFlood,
    /// Annotates 60 KiB under a key of the event's own.
    AnnotateFlood,
    /// Appends 1 MiB to the extra file.
    FileFlood,
    /// Data of 7 MiB, whatever came.
    Amplify,
    /// Annotates arrays in arrays, `depth` of them.
    AnnotateDeep,
    /// Data of arrays in arrays, `depth` of them.
    ReplaceDeep,
    /// Waits in the way that `until` names.
    Wait,
    /// Traps from the hundredth event of the task on, by its state.
    Turncoat,
    /// Fails, logs, prints, counts, drops: each time in another way, always with the event's data.
    Gossip,
    /// Keeps the data of events that match; of all others says whether the memory holds `until`, which is spelled backwards.
    Remember,
    /// The same, and traps on events that match after it has kept them.
    RememberAndTrap,
    /// Another version from the moment on that `until` says, in milliseconds since 1970.
    Chameleon,
}

static SEEN: AtomicU64 = AtomicU64::new(0);

/// What concerns a call as a whole, before its events.
pub(crate) fn before(config: &Config, events: &[Event]) -> Result<(), Failure> {
    let matching = events.iter().find(|event| event.data.contains(&config.r#match));
    match (config.mode, matching) {
        (Mode::Failure, Some(event)) => Err(Failure { message: format!("cannot take {}", event.data) }),
        _ => Ok(()),
    }
}

/// The verdict on an event that matches.
pub(crate) fn act(config: &Config, event: &Event, flush: bool) -> Result<Verdict, Failure> {
    let file = config.files.first().map_or("misbehave.txt", String::as_str);
    let code = config.codes.first().map_or("misbehaved", String::as_str);
    match config.mode {
        Mode::Stamp => return stamped(event, Value::from(config.version.as_str())),
        Mode::Append => host::append_file(file, &format!("{}\n", event.id)),
        Mode::ReplaceExtra => host::replace_file(file, &event.id),
        Mode::Annotate => {
            host::annotate(
                &Value::from(Map::from_iter([("last".to_owned(), Value::from(event.id.as_str()))])).to_string(),
            );
        }
        Mode::StateCount => {
            let count = host::get_state().parse::<u64>().unwrap_or_default() + 1;
            host::set_state(&count.to_string());
            return stamped(event, Value::from(count));
        }
        Mode::Seen => return stamped(event, Value::from(SEEN.fetch_add(1, Ordering::Relaxed) + 1)),
        Mode::Leak => {
            std::mem::forget(std::hint::black_box(vec![1_u8; 1 << 20]));
            return stamped(event, Value::from(SEEN.fetch_add(1, Ordering::Relaxed) + 1));
        }
        Mode::HugeLine => host::log(host::Level::Info, &"x".repeat(16 << 20)),
        Mode::Trap => std::process::abort(),
        #[allow(clippy::panic, reason = "that is the mode")]
        Mode::Panic => panic!("cannot take {}", event.data),
        Mode::Loop => loop {
            std::hint::black_box(());
        },
        Mode::Sleep => std::thread::sleep(std::time::Duration::from_secs(3600)),
        Mode::Memory => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
            }
        }
        Mode::UndeclaredFile => host::append_file("undeclared.txt", "x"),
        Mode::BigState => host::set_state(&"x".repeat(64 * 1024 + 1)),
        Mode::BadAnnotation => host::annotate("[1]"),
        Mode::BigFile => {
            for _ in 0..100 {
                host::append_file(file, &"x".repeat(1 << 20));
            }
        }
        Mode::Drop => return Ok(Verdict::Drop(code.to_owned())),
        Mode::Quarantine => return Ok(Verdict::Quarantine(code.to_owned())),
        Mode::BadCode => return Ok(Verdict::Drop(event.data.clone())),
        Mode::Hold => return Ok(Verdict::Hold),
        Mode::HoldUntil if !flush => return Ok(Verdict::Hold),
        #[allow(clippy::print_stdout, clippy::print_stderr, reason = "that is the mode")]
        Mode::Stdout => {
            println!("{}", event.data);
            eprintln!("{}", event.data);
        }
        Mode::Log => host::log(host::Level::Error, &event.data),
        Mode::Count => {
            host::count(code, 2);
            host::count("not-in-the-manifest", 3);
        }
        Mode::BadJson => return Ok(Verdict::Replace("not json".to_owned())),
        Mode::BadObject => return Ok(Verdict::Replace("[1]".to_owned())),
        Mode::Reach => return stamped(event, Value::from(reached())),
        Mode::Recurse => drop(std::hint::black_box(floods::recurse(1))),
        Mode::Exit => std::process::exit(0),
        Mode::LogFlood => floods::log(),
        Mode::PrintFlood => floods::print(),
        Mode::CountFlood => floods::count(code),
        Mode::StateFlood => host::set_state(&"s".repeat(64 << 10)),
        Mode::AnnotateFlood => floods::annotate(&event.id),
        Mode::FileFlood => host::append_file(file, &"f".repeat(1 << 20)),
        Mode::Amplify => return Ok(Verdict::Replace(format!("{{\"content\":\"{}\"}}", "a".repeat(7 << 20)))),
        Mode::AnnotateDeep => host::annotate(&floods::deep(config.depth)),
        Mode::ReplaceDeep => return Ok(Verdict::Replace(floods::deep(config.depth))),
        Mode::Wait => waits::wait(&config.until),
        Mode::Turncoat => {
            let count = host::get_state().parse::<u64>().unwrap_or_default() + 1;
            if count >= 100 {
                std::process::abort();
            }
            host::set_state(&count.to_string());
        }
        Mode::Gossip => return floods::gossip(event, file, code),
        Mode::Remember | Mode::RememberAndTrap => {
            floods::remember(&event.data);
            if config.mode == Mode::RememberAndTrap {
                std::process::abort();
            }
        }
        _ => {}
    }
    Ok(Verdict::Pass)
}

/// The call's answer: the number of verdicts is a mode's too, and `hold-until` takes its holds back.
pub(crate) fn verdicts(config: &Config, events: &[Event], mut out: Vec<Verdict>) -> Vec<Verdict> {
    let matches = events.iter().any(|event| event.data.contains(&config.r#match));
    match config.mode {
        Mode::Short if matches => {
            out.pop();
        }
        Mode::Long if matches => out.push(Verdict::Pass),
        Mode::HoldUntil if events.iter().any(|event| event.data.contains(&config.until)) => {
            out = events.iter().map(|_| Verdict::Pass).collect();
        }
        _ => {}
    }
    out
}

pub(crate) fn stamped(event: &Event, stamp: Value) -> Result<Verdict, Failure> {
    let mut data: Map<String, Value> =
        serde_json::from_str(&event.data).map_err(|error| Failure { message: error.to_string() })?;
    data.insert("stamp".to_owned(), stamp);
    Ok(Verdict::Replace(Value::from(data).to_string()))
}

/// What of the world answers: nothing should.
fn reached() -> String {
    let mut reached = Vec::new();
    if std::fs::read_dir("/").is_ok() || std::fs::read("/etc/hostname").is_ok() {
        reached.push("files");
    }
    if std::env::vars().next().is_some() {
        reached.push("environment");
    }
    if std::env::args().next().is_some() {
        reached.push("arguments");
    }
    if std::net::TcpStream::connect("127.0.0.1:6379").is_ok() || std::net::UdpSocket::bind("127.0.0.1:0").is_ok() {
        reached.push("network");
    }
    if reached.is_empty() { "nothing".to_owned() } else { reached.join(",") }
}
