//! Placeholder.
#[cfg(target_family = "wasm")]
mod guest;
