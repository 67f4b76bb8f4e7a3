//! The names of all metrics, what they mean, and the closed sets of their labels.

use ::metrics::{describe_counter, describe_gauge, describe_histogram};

use super::Unit;

/// Entries read from the stream, by `kind`.
pub const EVENTS: &str = "task_logger_events_total";
/// Events written to a task or a flow.
pub const EVENTS_WRITTEN: &str = "task_logger_events_written_total";
/// Events that a plugin dropped.
pub const EVENTS_DROPPED: &str = "task_logger_events_dropped_total";
/// Entries that went to the dead letter, by `reason`: the failed events.
pub const EVENTS_DEAD: &str = "task_logger_events_dead_total";
/// Entries that were gone from the stream before they were read.
pub const EVENTS_LOST: &str = "task_logger_events_lost_total";
/// Tasks and flows whose files retention removed.
pub const TASKS_REMOVED: &str = "task_logger_tasks_removed_total";
/// Entries that the service took out of the stream (`TRIM=published`).
pub const EVENTS_TRIMMED: &str = "task_logger_events_trimmed_total";
/// Entries that had been committed before.
pub const EVENTS_DUPLICATE: &str = "task_logger_events_duplicate_total";
/// Files created in task and flow folders.
pub const FILES_CREATED: &str = "task_logger_files_created_total";
/// Journal records written.
pub const COMMITS: &str = "task_logger_commits_total";
/// Bytes of journal records.
pub const COMMIT_BYTES: &str = "task_logger_commit_bytes_total";
/// Connections to Redis made anew.
pub const REDIS_RECONNECTS: &str = "task_logger_redis_reconnects_total";
/// Duration of a journal sync.
pub const FSYNC_SECONDS: &str = "task_logger_fsync_seconds";
/// Duration of publishing a position.
pub const PUBLISH_SECONDS: &str = "task_logger_publish_seconds";
/// Duration of writing a commit to the task files.
pub const APPLY_SECONDS: &str = "task_logger_apply_seconds";
/// Duration of a checkpoint.
pub const CHECKPOINT_SECONDS: &str = "task_logger_checkpoint_seconds";
/// Entries after the published position.
pub const QUEUE_DEPTH: &str = "task_logger_queue_depth";
/// Entries not yet read.
pub const QUEUE_LAG: &str = "task_logger_queue_lag";
/// Age of the oldest entry after the published position.
pub const LAG_SECONDS: &str = "task_logger_lag_seconds";
/// Bytes taken on the file system of `LOGS_DIR`.
pub const DISK_USED: &str = "task_logger_disk_used_bytes";
/// Size of the file system of `LOGS_DIR` in bytes.
pub const DISK_TOTAL: &str = "task_logger_disk_total_bytes";
/// Bytes free on the file system of `LOGS_DIR`.
pub const DISK_FREE: &str = "task_logger_disk_free_bytes";
/// Bytes that the dead letters take, as last looked at by the owner.
pub const LETTERS_BYTES: &str = "task_logger_dead_letters_bytes";
/// 1 while the dead letters take all that they may, so that nothing more is read.
pub const LETTERS_FULL: &str = "task_logger_dead_letters_full";
/// Events held by redactors.
pub const HELD_EVENTS: &str = "task_logger_held_events";
/// 1 while no redactor is in the chain.
pub const NO_REDACTOR: &str = "task_logger_no_redactor";
/// Records that were no JSON when read back.
pub const SKIPPED_RECORDS: &str = "task_logger_skipped_records_total";
/// Task folders in `LOGS_DIR`.
pub const TASKS: &str = "task_logger_tasks";
/// 1 while this process owns the stream.
pub const OWNER: &str = "task_logger_owner";
/// The ownership's epoch.
pub const EPOCH: &str = "task_logger_epoch";
/// Seconds since the process started.
pub const UPTIME_SECONDS: &str = "task_logger_uptime_seconds";
/// Number of reasons why events are not taken in.
pub const BLOCKED: &str = "task_logger_blocked";
/// 1 while events are not taken in because of a `part`, one of [`BLOCKING_PARTS`].
pub const BLOCKED_BY: &str = "task_logger_blocked_by";

// The only values of the `kind` label besides [`OTHER`].
pub use crate::event::KINDS;

/// The values of the `part` label: everything that [`Status::set_blocked`](crate::status::Status::set_blocked) is told of.
pub const BLOCKING_PARTS: [&str; 12] = [
    "backlog",
    "checkpoint",
    "dead_letters",
    "disk",
    "files",
    "plugins",
    "publish",
    "read",
    "standby",
    "start",
    "stream",
    "suspicion",
];

/// The values of the `reason` label besides [`OTHER`].
pub const DEAD_REASONS: [&str; 13] = [
    "bad_json",
    "not_an_object",
    "no_type",
    "bad_type",
    "no_key",
    "bad_id",
    "duplicate_field",
    "bad_utf8",
    "too_large",
    "plugin_failed",
    "refused",
    "poison",
    "operator",
];

/// The label of everything that has no own one.
pub const OTHER: &str = "other";

pub(super) fn describe() {
    describe_counter!(EVENTS, Unit::Count, "Entries read from the stream, by kind");
    describe_counter!(EVENTS_WRITTEN, Unit::Count, "Events written to a task or a webhook flow");
    describe_counter!(EVENTS_DROPPED, Unit::Count, "Events that a plugin dropped");
    describe_counter!(EVENTS_DEAD, Unit::Count, "Failed events: entries sent to the dead letter, by reason");
    describe_counter!(EVENTS_LOST, Unit::Count, "Entries gone from the stream before they were read");
    describe_counter!(EVENTS_TRIMMED, Unit::Count, "Entries that this service trimmed from the stream");
    describe_counter!(TASKS_REMOVED, Unit::Count, "Tasks and webhook flows whose files retention removed");
    describe_counter!(EVENTS_DUPLICATE, Unit::Count, "Entries that had been committed before");
    describe_counter!(FILES_CREATED, Unit::Count, "Log files created");
    describe_counter!(COMMITS, Unit::Count, "Journal records written");
    describe_counter!(COMMIT_BYTES, Unit::Bytes, "Bytes of journal records");
    describe_counter!(REDIS_RECONNECTS, Unit::Count, "Connections to Redis made anew");
    describe_counter!(SKIPPED_RECORDS, Unit::Count, "Records that were no JSON when read back");
    describe_histogram!(FSYNC_SECONDS, Unit::Seconds, "Duration of a journal sync");
    describe_histogram!(PUBLISH_SECONDS, Unit::Seconds, "Duration of publishing a position");
    describe_histogram!(APPLY_SECONDS, Unit::Seconds, "Duration of writing a commit to the task files");
    describe_histogram!(CHECKPOINT_SECONDS, Unit::Seconds, "Duration of a checkpoint");
    describe_gauge!(QUEUE_DEPTH, Unit::Count, "Stream entries after the published position");
    describe_gauge!(QUEUE_LAG, Unit::Count, "Stream entries not yet read");
    describe_gauge!(LAG_SECONDS, Unit::Seconds, "Age of the oldest entry after the published position");
    describe_gauge!(DISK_USED, Unit::Bytes, "Bytes taken on the file system of LOGS_DIR");
    describe_gauge!(DISK_TOTAL, Unit::Bytes, "Size of the file system of LOGS_DIR");
    describe_gauge!(DISK_FREE, Unit::Bytes, "Bytes free on the file system of LOGS_DIR");
    describe_gauge!(LETTERS_BYTES, Unit::Bytes, "Bytes that the dead letters take, as last looked at by the owner");
    describe_gauge!(LETTERS_FULL, Unit::Count, "1 while the dead letters take all that they may: reading stops");
    describe_gauge!(HELD_EVENTS, Unit::Count, "Events held by redactors");
    describe_gauge!(NO_REDACTOR, Unit::Count, "1 while no redactor is in the chain");
    describe_gauge!(TASKS, Unit::Count, "Task folders in LOGS_DIR");
    describe_gauge!(OWNER, Unit::Count, "1 while this process owns the stream");
    describe_gauge!(EPOCH, Unit::Count, "Epoch of the ownership, 0 for a standby");
    describe_gauge!(UPTIME_SECONDS, Unit::Seconds, "Seconds since the process started");
    describe_gauge!(BLOCKED, Unit::Count, "Number of reasons why events are not taken in");
    describe_gauge!(
        BLOCKED_BY,
        Unit::Count,
        "1 while events are not taken in because of this part; `standby` is no fault"
    );
}
