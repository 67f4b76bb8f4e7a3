//! The command line's side of writing plugins: what runs one on an author's desk, as the service would, and says all that it
//! sees.

use std::{
    env,
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use crate::{
    cli::{PluginCommand, Replay},
    config::Config,
    event::InvalidId,
    plugin::workbench::{MeasureError, Refusal, Settings, WorkbenchError, size},
    terminal,
    trust::TrustedKeys,
};

mod bench;
mod check;
mod diff;
mod events;
mod golden;
mod install;
mod minisign;
mod new;
mod paint;
mod replay;
mod run;
mod sign;

use events::EventsError;
pub use install::InstallError;
pub use new::NewError;
pub use replay::ReplayError;
pub use sign::SignError;

/// A component that compiles for so long that a person wonders, in bytes.
const SLOW_BYTES: usize = 1 << 20;

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthorError {
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[from] std::io::Error),
    /// `plugin install`.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// `plugin new`.
    #[error(transparent)]
    New(#[from] NewError),
    /// `replay`.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// No desk, or no plugin to put on it.
    #[error(transparent)]
    Workbench(#[from] WorkbenchError),
    /// The service would not take the plugin.
    #[error("{0}")]
    Refused(String),
    /// No events to run.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// Nothing was measured.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// The text of a made-up key; cannot happen.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A golden case, or their folder.
    #[error("cannot read or write {path}")]
    Case {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key or a signature.
    #[error(transparent)]
    Sign(#[from] sign::SignError),
    /// In the making.
    #[error("{0} is not built yet")]
    NotBuilt(&'static str),
}

/// Does what is asked.
pub fn run(config: &Config, command: &PluginCommand, out: &mut dyn Write) -> Result<ExitCode, AuthorError> {
    match done(config, command, out) {
        // `plugin run … | head` ends well.
        Err(AuthorError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        done => done,
    }
}

fn done(config: &Config, command: &PluginCommand, out: &mut dyn Write) -> Result<ExitCode, AuthorError> {
    match command {
        PluginCommand::New { lang, name, dir } => {
            new::new(lang, name, dir.as_deref(), out)?;
            Ok(ExitCode::SUCCESS)
        }
        PluginCommand::Install { file, to, wait } => {
            install::install(config, file, to.as_deref(), Duration::from_secs(*wait), out)
        }
        PluginCommand::Check { file, json } => check::check(config, file, *json, out),
        PluginCommand::Run(ask) => run::run(config, ask, out),
        PluginCommand::Test { file, cases } => {
            let bless = env::var_os("BLESS").is_some_and(|value| value == "1");
            golden::test(config, file, cases.as_deref(), bless, out)
        }
        PluginCommand::Bench(ask) => bench::bench(config, ask, out),
        PluginCommand::Keygen { out: key, password } => Ok(sign::keygen(key, password, out)?),
        PluginCommand::Sign { file, key, password } => Ok(sign::sign(file, key, password, out)?),

        PluginCommand::Ls { .. } | PluginCommand::Forget { .. } => Ok(ExitCode::FAILURE),
    }
}

/// Runs a recorded task through another set of plugins.
pub fn replay(config: Config, replay: &Replay, out: &mut dyn Write) -> Result<ExitCode, AuthorError> {
    Ok(replay::run(config, replay, out)?)
}

/// A desk like the service that these settings would start.
fn settings(config: &Config) -> Settings {
    Settings {
        cache_dir: config.cache_dir.clone(),
        memory_max: config.plugin_memory_max,
        timeout_max: config.plugin_timeout_max,
        // What an author tries is not signed yet.
        trusted_keys: TrustedKeys::default(),
        // Compiling in this process is the next best thing.
        exe: env::current_exe().ok(),
        compiling: io::stderr().is_terminal().then_some(|bytes| {
            if bytes >= SLOW_BYTES {
                // Only said to pass the time.
                drop(writeln!(io::stderr(), "compiling {}, which takes some seconds …", size(bytes)));
            }
        }),
    }
}

// === impl AuthorError ===

impl From<Box<Refusal>> for AuthorError {
    fn from(refusal: Box<Refusal>) -> Self {
        let mut text = refusal.to_string();
        if let Some(message) = refusal.message.as_ref().filter(|message| !refusal.reason.contains(message.as_str())) {
            text.push_str(&format!("\nit said: {message}"));
        }
        if !refusal.printed.trim().is_empty() {
            text.push_str(&format!("\nit printed: {}", refusal.printed.trim_end()));
        }
        for line in &refusal.logs {
            text.push_str(&format!("\nit logged: {} {}", line.level, line.text));
        }
        Self::Refused(terminal::plain(&text))
    }
}
