//! The one integration test binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test may fail by a panic")]

mod checker;
mod kills;
mod load;
mod position_protocol;
mod redis_server;
mod rig;
mod source;
