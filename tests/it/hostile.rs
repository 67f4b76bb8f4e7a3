//! Guests written to break the service: each is contained, costs its event alone, and leaves nothing behind.

mod abi;
pub(crate) mod components;
mod loading;
mod misdeeds;
mod service;
