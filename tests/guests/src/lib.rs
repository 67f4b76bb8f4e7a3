//! `misbehave`: a guest that does what the host must survive. Its sidecar says how (see `guest::Config`); each test names
//! the mode that it is about.

#[cfg(target_family = "wasm")]
mod floods;
#[cfg(target_family = "wasm")]
mod guest;
#[cfg(target_family = "wasm")]
mod modes;
#[cfg(target_family = "wasm")]
mod waits;
