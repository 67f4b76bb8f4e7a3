//! Names, descriptions and cached handles of everything that is counted, and the recorder that `GET /metrics` reads. The hot
//! path holds handles ([`DataPath`]); it never looks a name up.

use std::{collections::BTreeMap, path::Path, sync::OnceLock};

use ::metrics::{Counter, Gauge, Histogram, Unit};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::status::Status;

mod http;
mod names;
mod plugins;
mod process;
mod sync_failures;

pub use http::*;
pub use names::*;
pub use plugins::*;
pub use process::*;
pub use sync_failures::*;

/// Upper bounds of the buckets of every `*_seconds` histogram, in seconds.
const BUCKETS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Of those of plugins, whose calls are shorter.
const PLUGIN_BUCKETS: [f64; 16] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    1.0, 5.0,
];

/// The process's recorder.
#[derive(Clone)]
pub struct Recorder(PrometheusHandle);

/// Handles of the data path. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct DataPath {
    events: [Counter; KINDS.len() + 1],
    dead: [Counter; DEAD_REASONS.len() + 1],
    /// [`EVENTS_WRITTEN`].
    pub written: Counter,
    /// [`EVENTS_DROPPED`].
    pub dropped: Counter,
    /// [`EVENTS_LOST`].
    pub lost: Counter,
    /// [`EVENTS_TRIMMED`].
    pub trimmed: Counter,
    /// [`EVENTS_DUPLICATE`].
    pub duplicate: Counter,
    /// [`TASKS_REMOVED`].
    pub removed: Counter,
    /// [`FILES_CREATED`].
    pub files_created: Counter,
    /// [`COMMITS`].
    pub commits: Counter,
    /// [`COMMIT_BYTES`].
    pub commit_bytes: Counter,
    /// [`REDIS_RECONNECTS`].
    pub redis_reconnects: Counter,
    /// [`FSYNC_SECONDS`].
    pub fsync: Histogram,
    /// [`PUBLISH_SECONDS`].
    pub publish: Histogram,
    /// [`APPLY_SECONDS`].
    pub apply: Histogram,
    /// [`CHECKPOINT_SECONDS`].
    pub checkpoint: Histogram,
    /// [`LETTERS_BYTES`].
    pub letters_bytes: Gauge,
    /// [`LETTERS_FULL`].
    pub letters_full: Gauge,
    /// [`HELD_EVENTS`].
    pub held: Gauge,
    /// [`NO_REDACTOR`].
    pub no_redactor: Gauge,
}

/// Space of the file system that holds `LOGS_DIR`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Taken.
    pub used: u64,
    /// All of it.
    pub total: u64,
    /// Free for this process.
    pub free: u64,
}

/// The recorder could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The buckets are not usable.
    #[error("cannot build the metrics recorder")]
    Build(#[from] BuildError),
    /// Another recorder is installed in this process.
    #[error("another metrics recorder is installed")]
    Taken,
}

// === impl Recorder ===

/// Installs the process's recorder; the same one on every call.
pub fn install() -> Result<Recorder, MetricsError> {
    static INSTALLED: OnceLock<Result<Recorder, MetricsError>> = OnceLock::new();
    match INSTALLED.get_or_init(install_first) {
        Ok(recorder) => Ok(recorder.clone()),
        Err(_) => Err(MetricsError::Taken),
    }
}

fn install_first() -> Result<Recorder, MetricsError> {
    let mut builder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?;
    // A full name goes before a suffix.
    for name in [ENFORCING.seconds, SHADOW.seconds, PLUGIN_SWAP_SECONDS] {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), &PLUGIN_BUCKETS)?;
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    ::metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Taken)?;
    names::describe();
    plugins::describe();
    process::describe();
    http::describe();
    sync_failures::describe();
    // Shown from the start, as the data path's are.
    skipped_records(0);
    ::metrics::counter!(PLUGIN_REFUSED).increment(0);
    ::metrics::counter!(SYNC_FAILURES).increment(0);
    Ok(Recorder(handle))
}

impl Recorder {
    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Moves histogram samples to their buckets; without it they pile up. Every few seconds.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }

    /// Every counter's and gauge's value by its series: `name` or `name{label="value"}`.
    pub fn values(&self) -> BTreeMap<String, f64> {
        let text = self.render();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(series, value)| Some((series.to_owned(), value.parse().ok()?)))
            .collect()
    }
}

// === impl DataPath ===

impl Default for DataPath {
    fn default() -> Self {
        Self::new()
    }
}

impl DataPath {
    /// Looks all handles up; after [`install`].
    pub fn new() -> Self {
        use ::metrics::{counter, gauge, histogram};
        let labelled = |known: &'static [&'static str], at: usize| known.get(at).copied().unwrap_or(OTHER);
        Self {
            events: std::array::from_fn(|at| counter!(EVENTS, "kind" => labelled(&KINDS, at))),
            dead: std::array::from_fn(|at| counter!(EVENTS_DEAD, "reason" => labelled(&DEAD_REASONS, at))),
            written: counter!(EVENTS_WRITTEN),
            dropped: counter!(EVENTS_DROPPED),
            lost: counter!(EVENTS_LOST),
            trimmed: counter!(EVENTS_TRIMMED),
            duplicate: counter!(EVENTS_DUPLICATE),
            removed: counter!(TASKS_REMOVED),
            files_created: counter!(FILES_CREATED),
            commits: counter!(COMMITS),
            commit_bytes: counter!(COMMIT_BYTES),
            redis_reconnects: counter!(REDIS_RECONNECTS),
            fsync: histogram!(FSYNC_SECONDS),
            publish: histogram!(PUBLISH_SECONDS),
            apply: histogram!(APPLY_SECONDS),
            checkpoint: histogram!(CHECKPOINT_SECONDS),
            letters_bytes: gauge!(LETTERS_BYTES),
            letters_full: gauge!(LETTERS_FULL),
            held: gauge!(HELD_EVENTS),
            no_redactor: gauge!(NO_REDACTOR),
        }
    }

    /// The counter of entries read, by kind; every kind that is not one of the spec's is `other`.
    pub fn events(&self, kind: &str) -> &Counter {
        &self.events[position(&KINDS, kind)]
    }

    /// The counter of entries that went to the dead letter, by reason.
    pub fn dead(&self, reason: &str) -> &Counter {
        &self.dead[position(&DEAD_REASONS, reason)]
    }
}

fn position(known: &[&str], text: &str) -> usize {
    known.iter().position(|name| *name == text).unwrap_or(known.len())
}

// === impl Disk ===

impl Disk {
    /// Asks the file system that holds this folder; the nearest folder above, when it does not exist yet.
    pub fn of(logs_dir: &Path) -> std::io::Result<Self> {
        let mut last = std::io::ErrorKind::NotFound.into();
        for folder in logs_dir.ancestors() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            match rustix::fs::statvfs(folder) {
                Ok(found) => {
                    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
                    let total = bytes(found.f_blocks);
                    let used = bytes(found.f_blocks.saturating_sub(found.f_bfree));
                    return Ok(Self { used, total, free: bytes(found.f_bavail) });
                }
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }
}

/// Sets the gauges that are read from elsewhere at the moment of a scrape.
pub fn refresh(status: &Status, disk: Option<Disk>, tasks: Option<u64>) {
    use ::metrics::gauge;
    let backlog = status.backlog.load();
    gauge!(QUEUE_DEPTH).set(as_f64(backlog.depth));
    gauge!(QUEUE_LAG).set(as_f64(backlog.lag));
    gauge!(LAG_SECONDS).set(backlog.lag_seconds);
    let role = status.role.load();
    gauge!(OWNER).set(if role.role == "owner" { 1.0 } else { 0.0 });
    gauge!(EPOCH).set(as_f64(role.epoch));
    gauge!(UPTIME_SECONDS).set(status.uptime().as_secs_f64());
    let blocked = status.blocked();
    gauge!(BLOCKED).set(as_f64(blocked.len() as u64));
    for part in BLOCKING_PARTS {
        gauge!(BLOCKED_BY, "part" => part).set(if blocked.contains_key(part) { 1.0 } else { 0.0 });
    }
    process::refresh(status.uptime().as_secs_f64());
    if let Some(tasks) = tasks {
        gauge!(TASKS).set(as_f64(tasks));
    }
    if let Some(disk) = disk {
        gauge!(DISK_USED).set(as_f64(disk.used));
        gauge!(DISK_TOTAL).set(as_f64(disk.total));
        gauge!(DISK_FREE).set(as_f64(disk.free));
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats; counts above 2^53 do not occur")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// Counts records that a reader had to leave out.
pub fn skipped_records(count: u64) {
    ::metrics::counter!(SKIPPED_RECORDS).increment(count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_rendered_and_read_back() {
        let recorder = install().unwrap();
        let data_path = DataPath::new();
        data_path.events("task:output").increment(2);
        data_path.events("made:up\"kind").increment(1);
        data_path.dead("a producer's text").increment(1);
        data_path.fsync.record(0.002);
        recorder.upkeep();
        let values = recorder.values();
        // Other tests of this process count into the same recorder.
        assert!(values["task_logger_events_total{kind=\"task:output\"}"] >= 2.0);
        assert!(values["task_logger_events_total{kind=\"other\"}"] >= 1.0);
        assert!(values["task_logger_events_dead_total{reason=\"other\"}"] >= 1.0);
        assert!(values["task_logger_fsync_seconds_bucket{le=\"0.0025\"}"] >= 1.0);
        let text = recorder.render();
        assert!(values.contains_key(SKIPPED_RECORDS) && values.contains_key(FILES_CREATED));
        assert!(text.contains("# HELP task_logger_events_total"), "{text}");
        assert!(!text.contains("made:up") && !text.contains("producer's text"), "{text}");
    }

    #[test]
    fn disk_of_a_folder_that_is_not_there_yet() {
        let temp = tempfile::tempdir().unwrap();
        let disk = Disk::of(&temp.path().join("a/b")).unwrap();
        assert!(disk.total > 0 && disk.used <= disk.total && disk.free <= disk.total, "{disk:?}");
    }
}
