//! The command line's side of writing plugins: what runs one on an author's desk, as the service would, and says all that it
//! sees.

use std::{io::Write, process::ExitCode};

mod minisign;
mod sign;

use crate::{
    cli::{PluginCommand, Replay},
    config::Config,
};

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthorError {
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[from] std::io::Error),
    /// A key or a signature.
    #[error(transparent)]
    Sign(#[from] sign::SignError),
    /// In the making.
    #[error("{0} is not built yet")]
    NotBuilt(&'static str),
}

/// Does what is asked.
pub fn run(_config: &Config, command: &PluginCommand, out: &mut dyn Write) -> Result<ExitCode, AuthorError> {
    match command {
        // author
        PluginCommand::New { .. } => Err(AuthorError::NotBuilt("plugin new")),
        PluginCommand::Install { .. } => Err(AuthorError::NotBuilt("plugin install")),

        // bench
        PluginCommand::Check { .. } => Err(AuthorError::NotBuilt("plugin check")),
        PluginCommand::Run(_) => Err(AuthorError::NotBuilt("plugin run")),
        PluginCommand::Test { .. } => Err(AuthorError::NotBuilt("plugin test")),
        PluginCommand::Bench(_) => Err(AuthorError::NotBuilt("plugin bench")),

        // trust
        PluginCommand::Keygen { out: key, password } => Ok(sign::keygen(key, password, out)?),
        PluginCommand::Sign { file, key, password } => Ok(sign::sign(file, key, password, out)?),

        PluginCommand::Ls | PluginCommand::Forget { .. } => Ok(ExitCode::FAILURE),
    }
}

/// Runs a recorded task through another set of plugins.
pub fn replay(_config: Config, _replay: &Replay, _out: &mut dyn Write) -> Result<ExitCode, AuthorError> {
    Err(AuthorError::NotBuilt("replay"))
}
