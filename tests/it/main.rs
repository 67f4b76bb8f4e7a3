//! The integration tests: one binary, so that they are linked once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed, and says why"
)]

mod bad_input;
mod checker;
mod command_line;
mod facts;
mod fail_closed;
mod guests;
mod hostile;
mod kills;
mod leaks;
mod load;
mod plugin_files;
mod plugins;
mod position_protocol;
mod redis_server;
mod rig;
mod sessions;
mod source;
mod split_secrets;
mod swap;
mod tidy;
