//! Commands that ask the running service over HTTP.

use std::process::ExitCode;

use crate::config::Config;

/// Why a command got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The parts are not there.
    #[error("this build has no client")]
    Parts,
}

/// Prints a task's logs.
pub fn logs(_config: &Config, _task: &str, _follow: bool) -> Result<ExitCode, ClientError> {
    Err(ClientError::Parts)
}

/// Lists tasks.
pub fn ls(_config: &Config) -> Result<ExitCode, ClientError> {
    Err(ClientError::Parts)
}

/// Asks whether the service is well.
pub fn health(_config: &Config) -> Result<ExitCode, ClientError> {
    Err(ClientError::Parts)
}

/// Lists plugins.
pub fn plugins(_config: &Config) -> Result<ExitCode, ClientError> {
    Err(ClientError::Parts)
}

/// Lifts a plugin's requirement.
pub fn forget(_config: &Config, _name: &str) -> Result<ExitCode, ClientError> {
    Err(ClientError::Parts)
}
