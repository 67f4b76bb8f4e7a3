//! The counter of failed syncs. The process ends at the first one, before anybody has read its metrics; so the count is kept
//! beside the compiled plugins, on this machine and mostly on another disk, and the next process goes on from it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ::metrics::{counter, describe_counter};
use sha2::{Digest, Sha256};

use super::{Recorder, Unit};

/// Syncs of the journal, of task files or of the embedded stream that failed, on this machine.
pub const SYNC_FAILURES: &str = "task_logger_sync_failures_total";

/// Where the count is kept between processes.
#[derive(Clone)]
pub struct SyncFailures {
    path: PathBuf,
    recorder: Recorder,
    /// What the file says.
    kept: u64,
}

pub(super) fn describe() {
    describe_counter!(
        SYNC_FAILURES,
        Unit::Count,
        "Failed syncs on this machine, those that ended earlier processes too"
    );
}

/// Counts a failed sync, after which the process ends; a full disk is none: that is waited for.
pub fn sync_failed(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        counter!(SYNC_FAILURES).increment(1);
    }
}

impl SyncFailures {
    /// Goes on from what an earlier process with this state folder left in `cache_dir`.
    pub fn resume(cache_dir: &Path, state_dir: &Path, recorder: Recorder) -> Self {
        // One user's services share the folder.
        let state_dir = fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_owned());
        let digest = Sha256::digest(state_dir.as_os_str().as_encoded_bytes());
        let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let path = cache_dir.join(format!("sync-failures-{name}"));
        let kept = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        counter!(SYNC_FAILURES).absolute(kept);
        Self { path, recorder, kept }
    }

    /// Leaves the count to the next process, if there is something to leave.
    pub fn keep(&self) -> io::Result<()> {
        let counted = self.recorder.values().get(SYNC_FAILURES).copied().unwrap_or(0.0);
        if counted <= super::as_f64(self.kept) {
            return Ok(());
        }
        let staged = self.path.with_extension(format!("{}.new", std::process::id()));
        fs::write(&staged, format!("{counted}\n"))?;
        fs::rename(staged, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_outlives_its_process() {
        let (cache, recorder) = (tempfile::tempdir().unwrap(), crate::metrics::install().unwrap());
        let resume = |state: &str| SyncFailures::resume(cache.path(), Path::new(state), recorder.clone());
        // Other tests of this process may count, too: only what is more is looked at.
        let first = resume("/a");
        sync_failed(&io::ErrorKind::StorageFull.into());
        sync_failed(&io::Error::other("EIO"));
        first.keep().unwrap();
        let again = resume("/a");
        assert!(again.kept >= 1);
        assert_eq!(resume("/b").kept, 0, "another service's");
        again.keep().unwrap();
        assert!(resume("/a").kept >= again.kept);
        let missing = SyncFailures { path: cache.path().join("no/such"), ..first };
        sync_failed(&io::Error::other("EIO"));
        assert!(missing.keep().is_err());
    }
}
