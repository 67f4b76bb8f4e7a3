//! The command line's side of writing plugins: what runs one on an author's desk, as the service would, and says all that it
//! sees.

use std::{io::Write, process::ExitCode};

use crate::{
    cli::{PluginCommand, Replay},
    config::Config,
};

mod new;
mod replay;

pub use new::NewError;
pub use replay::ReplayError;

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthorError {
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[from] std::io::Error),
    /// `plugin new`.
    #[error(transparent)]
    New(#[from] NewError),
    /// `replay`.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// In the making.
    #[error("{0} is not built yet")]
    NotBuilt(&'static str),
}

/// Does what is asked.
pub fn run(_config: &Config, command: &PluginCommand, out: &mut dyn Write) -> Result<ExitCode, AuthorError> {
    match command {
        // author
        PluginCommand::New { lang, name, dir } => {
            new::new(lang, name, dir.as_deref(), out)?;
            Ok(ExitCode::SUCCESS)
        }
        PluginCommand::Install { .. } => Err(AuthorError::NotBuilt("plugin install")),

        // bench
        PluginCommand::Check { .. } => Err(AuthorError::NotBuilt("plugin check")),
        PluginCommand::Run(_) => Err(AuthorError::NotBuilt("plugin run")),
        PluginCommand::Test { .. } => Err(AuthorError::NotBuilt("plugin test")),
        PluginCommand::Bench(_) => Err(AuthorError::NotBuilt("plugin bench")),

        // trust
        PluginCommand::Keygen { .. } => Err(AuthorError::NotBuilt("plugin keygen")),
        PluginCommand::Sign { .. } => Err(AuthorError::NotBuilt("plugin sign")),

        PluginCommand::Ls | PluginCommand::Forget { .. } => Ok(ExitCode::FAILURE),
    }
}

/// Runs a recorded task through another set of plugins.
pub fn replay(config: Config, replay: &Replay, out: &mut dyn Write) -> Result<ExitCode, AuthorError> {
    Ok(replay::run(config, replay, out)?)
}
