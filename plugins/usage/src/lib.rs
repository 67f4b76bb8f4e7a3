//! `usage`: what a task has used. Counts tokens, cost, turns and tools of a task's events and keeps `usage.json` beside its
//! logs. [`tally`] holds the logic and knows nothing of plugins; `guest` is the component's side of the interface.

#[cfg(target_family = "wasm")]
mod guest;
pub mod tally;
