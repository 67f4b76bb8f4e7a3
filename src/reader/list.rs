//! Ids of a list, and how many tasks there are.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use super::{Logs, ReadError, failed};
use crate::{event::Id, layout};

/// A folder that changed less than this ago is counted again: file times are coarse.
const SETTLED: Duration = Duration::from_secs(2);

/// Ids in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// At most as many as asked for.
    pub ids: Vec<Id>,
    /// Whether more follow after the last one.
    pub more: bool,
}

/// The last count of task folders, good as long as `LOGS_DIR` itself has not changed.
#[derive(Debug, Default)]
pub(super) struct Counted(Mutex<Option<(SystemTime, u64)>>);

// === impl Logs ===

impl Logs {
    /// Number of task folders, without opening any.
    pub fn count_tasks(&self) -> Result<u64, ReadError> {
        let Some(root) = self.root()? else { return Ok(0) };
        let changed =
            root.dir_metadata().and_then(|found| found.modified()).map_err(failed("look at the logs folder"))?;
        let changed = changed.into_std();
        let settled = SystemTime::now().duration_since(changed).is_ok_and(|age| age > SETTLED);
        let mut counted = self.counted.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, count)) = *counted
            && at == changed
        {
            return Ok(count);
        }
        let mut count = 0;
        for entry in root.entries().map_err(failed("list the logs folder"))? {
            let entry = entry.map_err(failed("list the logs folder"))?;
            let named = entry.file_name().to_str().is_some_and(layout::is_task_dir);
            if named && entry.file_type().map_err(failed("list the logs folder"))?.is_dir() {
                count += 1;
            }
        }
        *counted = settled.then_some((changed, count));
        Ok(count)
    }
}
