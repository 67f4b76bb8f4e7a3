//! `transcript`: a task as a conversation that a person can read, appended to `transcript.md` event by event. [`page`] makes
//! the text of an event, [`markdown`] keeps foreign text from breaking the page; [`plugin`] is the plugin.

pub mod markdown;
pub mod page;
pub mod plugin;
