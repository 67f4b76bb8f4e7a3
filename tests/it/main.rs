//! The integration tests: one binary, so that they are linked once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed, and says why"
)]

mod author_commands;
mod bad_input;
mod chaos;
mod checker;
mod command_line;
mod confined;
mod conformance;
mod deploy;
mod doctor;
mod draining;
mod drops;
mod facts;
mod fail_closed;
mod fault_proxy;
mod faults;
mod frozen;
mod guests;
mod guide;
mod hostile;
mod install;
mod kills;
mod leaks;
mod letters;
mod load;
mod overload;
mod plugin_files;
mod plugin_reading;
mod plugins;
mod position_protocol;
mod power_loss;
mod recycling;
mod redis_faults;
mod redis_server;
mod replay;
mod replicas;
#[cfg(feature = "failpoints")]
mod retention;
mod rig;
mod scene;
mod seen;
mod sessions;
mod shadows;
mod soak;
mod source;
mod split_secrets;
mod swap;
mod thousand_swaps;
mod tidy;
mod torture;
#[cfg(feature = "failpoints")]
mod trimming;
mod trust;
mod typed_password;
mod verify;
mod verify_live;
mod wear;
