//! Listings: ids a page at a time in constant memory, and what a list says of each task.

use std::{
    collections::BinaryHeap,
    io::Read,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Folder, Logs, ReadError, Shelf, failed};
use crate::{event::Id, layout};

/// Largest `metadata.json` that a list looks into, in bytes.
const METADATA_BYTES_MAX: u64 = 64 << 20;
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

/// What `GET /tasks` says of a task; `null` where `metadata.json` does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TaskSummary {
    /// The id as the producer wrote it.
    pub task_id: String,
    /// `created`, `running`, `completed`, `failed`, ...
    pub status: Option<String>,
    /// From the envelope, as stored.
    pub created_at: Option<String>,
    /// From the envelope, as stored.
    pub started_at: Option<String>,
    /// From the envelope, as stored.
    pub completed_at: Option<String>,
}

/// The last count of task folders, good as long as `LOGS_DIR` itself has not changed.
#[derive(Debug, Default)]
pub(super) struct Counted(Mutex<Option<(SystemTime, u64)>>);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Lifecycle {
    status: Option<Box<RawValue>>,
    created_at: Option<Box<RawValue>>,
    started_at: Option<Box<RawValue>>,
    completed_at: Option<Box<RawValue>>,
}

// === impl Logs ===

impl Logs {
    /// The first `limit` ids after `after`, by id. Folders that no id stands for are skipped.
    pub fn page(&self, shelf: Shelf, after: Option<&Id>, limit: usize) -> Result<Page, ReadError> {
        let Some(dir) = self.shelf(shelf)? else { return Ok(Page::default()) };
        // Of any number of folders only the smallest ids of this page are kept, and one to know whether more follow.
        let mut smallest = BinaryHeap::new();
        for entry in dir.entries().map_err(failed("list the logs folder"))? {
            let entry = entry.map_err(failed("list the logs folder"))?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(Id::from_dir_name) else { continue };
            if after.is_some_and(|after| id <= *after) || smallest.len() > limit && smallest.peek() < Some(&id) {
                continue;
            }
            if entry.file_type().map_err(failed("list the logs folder"))?.is_dir() {
                smallest.push(id);
                if smallest.len() > limit + 1 {
                    smallest.pop();
                }
            }
        }
        let more = smallest.len() > limit;
        let mut ids = smallest.into_sorted_vec();
        ids.truncate(limit);
        Ok(Page { ids, more })
    }

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

// === impl TaskSummary ===

impl TaskSummary {
    pub(super) fn read(folder: &Folder, id: &Id) -> Result<Self, ReadError> {
        let mut summary = Self { task_id: id.as_str().to_owned(), ..Self::default() };
        let Some(file) = folder.open(layout::METADATA)? else { return Ok(summary) };
        if file.len() > METADATA_BYTES_MAX {
            return Ok(summary);
        }
        let mut text = Vec::new();
        let len = file.len();
        file.section(0, len).read_to_end(&mut text).map_err(failed("read a file"))?;
        // A file that is no JSON object says nothing: the list goes on.
        if let Ok(found) = serde_json::from_slice::<Lifecycle>(&text) {
            summary.status = found.status.as_deref().and_then(text_of);
            summary.created_at = found.created_at.as_deref().and_then(text_of);
            summary.started_at = found.started_at.as_deref().and_then(text_of);
            summary.completed_at = found.completed_at.as_deref().and_then(text_of);
        }
        Ok(summary)
    }
}

fn text_of(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}
