//! `usage`: what a task has used. Counts tokens, cost, turns and tools of a task's events and keeps `usage.json` beside its
//! logs. [`tally`] holds the logic and knows nothing of plugins; [`plugin`] is the plugin.

pub mod plugin;
pub mod tally;
