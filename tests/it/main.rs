//! The integration tests: one binary, so that they are linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod guests;
mod plugin_files;
mod plugins;
