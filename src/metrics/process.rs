//! What the process takes of the machine, under the names that every Prometheus client library uses, so that common
//! dashboards find them. Read from `/proc` at the moment of a scrape.

use std::{fs, sync::OnceLock};

use ::metrics::{counter, describe_counter, describe_gauge, gauge};

use super::{Unit, as_f64};

/// CPU time, user and system, in whole seconds.
pub const PROCESS_CPU_SECONDS: &str = "process_cpu_seconds_total";
/// Memory in RAM, in bytes.
pub const PROCESS_RESIDENT: &str = "process_resident_memory_bytes";
/// Open file descriptors.
pub const PROCESS_OPEN_FILES: &str = "process_open_fds";
/// Limit of open file descriptors.
pub const PROCESS_OPEN_FILES_MAX: &str = "process_max_fds";
/// When the process started, in seconds since 1970.
pub const PROCESS_START: &str = "process_start_time_seconds";

pub(super) fn describe() {
    describe_counter!(PROCESS_CPU_SECONDS, Unit::Seconds, "CPU time of the process, user and system");
    describe_gauge!(PROCESS_RESIDENT, Unit::Bytes, "Memory of the process in RAM");
    describe_gauge!(PROCESS_OPEN_FILES, Unit::Count, "Open file descriptors");
    describe_gauge!(PROCESS_OPEN_FILES_MAX, Unit::Count, "Limit of open file descriptors");
    describe_gauge!(PROCESS_START, Unit::Seconds, "When the process started, since 1970");
}

/// Sets the gauges; what `/proc` does not say is left as it was.
pub(super) fn refresh(uptime_seconds: f64) {
    if let Some(pages) = fs::read_to_string("/proc/self/statm").ok().and_then(|text| resident_pages(&text)) {
        gauge!(PROCESS_RESIDENT).set(as_f64(pages.saturating_mul(rustix::param::page_size() as u64)));
    }
    if let Some(open) = open_files() {
        gauge!(PROCESS_OPEN_FILES).set(as_f64(open));
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    gauge!(PROCESS_OPEN_FILES_MAX).set(limit.map_or(f64::INFINITY, as_f64));
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    counter!(PROCESS_CPU_SECONDS).absolute(u64::try_from(cpu.tv_sec).unwrap_or(0));
    // Once: computed anew it would move with the clock, and look like a restart.
    static STARTED: OnceLock<f64> = OnceLock::new();
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    gauge!(PROCESS_START).set(*STARTED.get_or_init(|| (now - uptime_seconds).round()));
}

fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_whitespace().nth(1)?.parse().ok()
}

/// Since Linux 6.2 the folder's size is their number; before, they are counted.
fn open_files() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 { Some(size) } else { Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_the_process_takes_is_shown() {
        let recorder = crate::metrics::install().unwrap();
        refresh(5.0);
        let values = recorder.values();
        assert!(values[PROCESS_RESIDENT] > 1_048_576.0, "{values:?}");
        assert!(values[PROCESS_OPEN_FILES] >= 3.0 && values[PROCESS_OPEN_FILES_MAX] >= values[PROCESS_OPEN_FILES]);
        assert!(values[PROCESS_START] > 1_577_836_800.0 && values.contains_key(PROCESS_CPU_SECONDS));
        // Other tests open and close files meanwhile: so many that it shows.
        let many: Vec<_> = (0..100).map(|_| File::open("/dev/null").unwrap()).collect();
        assert!(open_files().unwrap() >= 100 + 3);
        drop(many);
        assert_eq!(resident_pages("7 5 3"), Some(5));
        assert_eq!(resident_pages(""), None);
    }
}
