//! Commands that ask the running service over HTTP.

use std::{io::Write, process::ExitCode};

use crate::config::Secret;

/// Which service to ask.
#[derive(Clone, Debug)]
pub struct Target {
    /// `http://host:port`, without a slash at the end.
    pub base: String,
    /// Its `API_TOKEN`.
    pub token: Option<Secret>,
}

/// Why a command got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The parts are not there.
    #[error("this build has no client")]
    Parts,
}

impl ClientError {
    /// What the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::FAILURE
    }
}

/// Prints a task's logs.
pub fn logs(_: &Target, _task: &str, _follow: bool, _: &mut dyn Write) -> Result<ExitCode, ClientError> {
    Err(ClientError::Parts)
}

/// Lists tasks.
pub fn ls(_: &Target, _: &mut dyn Write) -> Result<ExitCode, ClientError> {
    Err(ClientError::Parts)
}

/// Asks whether the service is well.
pub fn health(_: &Target, _: &mut dyn Write) -> Result<ExitCode, ClientError> {
    Err(ClientError::Parts)
}

/// Lists plugins.
pub fn plugins(_: &Target, _: &mut dyn Write) -> Result<ExitCode, ClientError> {
    Err(ClientError::Parts)
}

/// Lifts a plugin's requirement.
pub fn forget(_: &Target, _name: &str, _: &mut dyn Write) -> Result<ExitCode, ClientError> {
    Err(ClientError::Parts)
}
