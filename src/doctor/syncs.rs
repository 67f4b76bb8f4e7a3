//! How long a sync takes where the journal is, and which time the file system gives to files.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use super::{Report, folders::existing};
use crate::config::{Config, Fsync};

/// Writes that are measured, their size, and how long all of them may take.
const WRITES: usize = 50;
const WRITE_BYTES: usize = 4096;
const MEASURE_MAX: Duration = Duration::from_secs(5);
/// Median and longest sync of a disk that is good enough.
const MEDIAN_MAX: Duration = Duration::from_millis(20);
const LONGEST_MAX: Duration = Duration::from_millis(500);
/// By how much the times of files may differ from the clock.
const CLOCK_MAX: Duration = Duration::from_secs(1);
/// Entries of `LOGS_DIR` whose times are looked at.
const ENTRIES_MAX: usize = 10_000;

struct Measured {
    /// Ascending.
    took: Vec<Duration>,
    /// Time of the file minus the clock, in seconds.
    ahead: f64,
    dev: u64,
}

pub(super) fn look(report: &mut Report, config: &Config) {
    let folder = existing(&config.state_dir);
    let shown = folder.display();
    match measure(folder) {
        Ok(measured) => {
            let median = measured.took.get(measured.took.len() / 2).copied().unwrap_or_default();
            let longest = measured.took.last().copied().unwrap_or_default();
            let found =
                format!("{shown}: a sync takes {median:.1?}, at most {longest:.1?} ({} tried)", measured.took.len());
            let slow = median > MEDIAN_MAX || longest > LONGEST_MAX;
            match config.fsync {
                Fsync::Always if slow => report.warn(
                    "fsync",
                    found,
                    "put STATE_DIR on a faster disk, or accept FSYNC=interval:MS: a commit waits for one sync",
                ),
                _ => report.ok("fsync", found),
            }
            clock(report, config, &measured);
        }
        Err(error) => report.fail(
            "fsync",
            format!("{shown}: cannot write and sync a file: {error}"),
            "without that nothing can be committed: see rights, space and mount options",
        ),
    }
}

/// Writes and syncs a file that has no name, or loses it at once where that is not possible.
fn measure(folder: &Path) -> io::Result<Measured> {
    let file = nameless(folder)?;
    let (began, block) = (Instant::now(), [0x5a; WRITE_BYTES]);
    let mut took = Vec::with_capacity(WRITES);
    for at in 0..WRITES {
        file.write_all_at(&block, (at * WRITE_BYTES) as u64)?;
        let started = Instant::now();
        file.sync_data()?;
        took.push(started.elapsed());
        if began.elapsed() > MEASURE_MAX {
            break;
        }
    }
    took.sort_unstable();
    file.write_all_at(&block, 0)?;
    file.sync_all()?;
    let meta = file.metadata()?;
    let ahead = since_1970(meta.modified()?) - since_1970(SystemTime::now());
    Ok(Measured { took, ahead, dev: meta.dev() })
}

fn nameless(folder: &Path) -> io::Result<File> {
    let flag = rustix::fs::OFlags::TMPFILE.bits().cast_signed();
    if let Ok(file) = OpenOptions::new().write(true).custom_flags(flag).mode(0o600).open(folder) {
        return Ok(file);
    }
    // NFS, FUSE and others have no such files.
    let path = folder.join(format!(".doctor-{}-{:08x}", std::process::id(), fastrand::u32(..)));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

fn clock(report: &mut Report, config: &Config, measured: &Measured) {
    let logs = existing(&config.logs_dir);
    let limit = CLOCK_MAX.as_secs_f64();
    let advice = "run NTP here and on the file server: times of tasks and retention by age are wrong by this much";
    let same = fs::metadata(logs).is_ok_and(|meta| meta.dev() == measured.dev);
    if same || measured.ahead.abs() > limit {
        let found = format!("files get times that are {:+.3} s from this machine's clock", measured.ahead);
        match measured.ahead.abs() > limit {
            true => report.warn("file-times", found, advice),
            false => report.ok("file-times", found),
        }
    }
    let now = since_1970(SystemTime::now());
    let entries = fs::read_dir(logs).into_iter().flatten().take(ENTRIES_MAX).filter_map(Result::ok);
    let times = entries.filter_map(|entry| Some(since_1970(entry.metadata().ok()?.modified().ok()?) - now));
    let newest = times.fold(f64::NEG_INFINITY, f64::max);
    if newest > limit {
        report.warn("file-times", format!("{} has entries {newest:.0} s in the future", logs.display()), advice);
    }
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or_else(|before| -before.duration().as_secs_f64(), |d| d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_leaves_nothing_behind() {
        let temp = tempfile::tempdir().unwrap();
        let measured = measure(temp.path()).unwrap();
        assert!(!measured.took.is_empty() && measured.took.is_sorted() && measured.ahead.abs() < 5.0);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
        assert!(measure(&temp.path().join("missing")).is_err());
    }
}
