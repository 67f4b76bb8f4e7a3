//! The service's own log: one subscriber, on standard error, so that standard output stays with the commands.

use std::io;

use tracing::Level;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Sets the log up for the rest of the process; a second call changes nothing.
pub fn init(level: Level, json: bool) {
    // Below our own level the libraries speak of their inner life: only their warnings are of use.
    let targets = Targets::new().with_default(level.min(Level::WARN)).with_target("task_logger", level);
    let registry = tracing_subscriber::registry().with(targets);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let done = if json {
        registry.with(lines.json().flatten_event(true)).try_init()
    } else {
        let colours = io::IsTerminal::is_terminal(&io::stderr());
        registry.with(lines.with_ansi(colours)).try_init()
    };
    if done.is_err() {
        tracing::debug!("the log was set up before");
    }
}
