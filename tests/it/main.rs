//! The integration tests: one binary, so that they are linked once.

mod guests;
mod plugin_files;
mod plugins;
