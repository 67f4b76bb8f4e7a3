//! The demonstration: the service on a bundled session.

use std::process::ExitCode;

use crate::config::Config;

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {}

/// Runs it.
pub fn run(_config: Config, _exit: bool) -> Result<ExitCode, DemoError> {
    Ok(ExitCode::FAILURE)
}
