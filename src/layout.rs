//! The directory of a task: file names and what belongs where. Pure: no I/O, no clock. The write side and the read side
//! share this and nothing else.

pub mod documents;
pub mod key_state;
pub mod record;

/// Version of what is described here; stands in every `metadata.json`.
pub const LAYOUT_VERSION: u32 = 1;

/// Static: what is known of the task.
pub const METADATA: &str = "metadata.json";
/// Static: the task's input.
pub const INPUT: &str = "01-input.json";
/// Stream: webhook events.
pub const WEBHOOK_FLOW: &str = "02-webhook-flow.jsonl";
/// Stream: the agent's output, thinking, tool calls and whatever else a task emits.
pub const AGENT_OUTPUT: &str = "03-agent-output.jsonl";
/// Stream: what the user answered.
pub const USER_INPUTS: &str = "03-user-inputs.jsonl";
/// Static: the outcome.
pub const FINAL_RESULT: &str = "04-final-result.json";
/// Stream: every other family.
pub const OTHER_EVENTS: &str = "05-other-events.jsonl";

/// Folder of webhook flows that have not joined a task.
pub const WEBHOOKS_DIR: &str = "_webhooks";
/// A key's checkpoint, never served.
pub const STATE_FILE: &str = ".state";
/// Default `STATE_DIR` below `LOGS_DIR`.
pub const STATE_DIR: &str = ".task-logger";

/// Names that no plugin may use.
pub const STANDARD_FILES: [&str; 7] =
    [METADATA, INPUT, WEBHOOK_FLOW, AGENT_OUTPUT, USER_INPUTS, FINAL_RESULT, OTHER_EVENTS];

/// The standard files that hold a record a line, in the order of a task's life: what is read as one stream.
pub const RECORD_FILES: [&str; 4] = [WEBHOOK_FLOW, USER_INPUTS, AGENT_OUTPUT, OTHER_EVENTS];

/// Whether a directory entry's name is part of a task's public files: standard names and plugins' extra files.
pub fn is_public_file(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 100
        && bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Whether a public file holds a record a line.
pub fn is_record_file(name: &str) -> bool {
    name.ends_with(".jsonl") && is_public_file(name)
}

/// Whether a directory of `LOGS_DIR` is a task's, by its name.
pub fn is_task_dir(name: &str) -> bool {
    !name.starts_with(['_', '.'])
}
