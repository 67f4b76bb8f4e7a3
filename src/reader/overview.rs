//! One task or one flow at a glance: what a list says of it, its documents, its files.

use std::io::Read;

use serde::Serialize;

use super::{Folder, Logs, PublicFile, ReadError, Shelf, TaskLogs, absent, failed, index::look::Parent};
use crate::{decode::timestamp, event::Id, json::Members, layout};

/// The documents, in the order of the body.
const DOCUMENTS: [(&str, &str); 3] =
    [("metadata", layout::METADATA), ("input", layout::INPUT), ("final_result", layout::FINAL_RESULT)];
/// Largest document that is passed on, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;
/// Records of files up to this many bytes are counted.
const COUNTED_BYTES_MAX: u64 = 1 << 20;
/// How a record begins, and how many bytes of it are looked at.
const RECORD_HEAD: (&str, u64) = ("{\"timestamp\":\"", 80);

/// A file as it stands now.
#[derive(Serialize)]
struct FileState<'f> {
    name: &'f str,
    size: u64,
    modified: String,
    etag: String,
}

/// What a list says of a webhook flow that has not joined a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// The id as the producer wrote it.
    pub webhook_event_id: Id,
    /// Bytes of its files.
    pub size: u64,
    /// Its records; `None` when they are too many to count.
    pub records: Option<u64>,
    /// Time of its first webhook record, as stored.
    pub created_at: Option<String>,
    /// When one of its files last changed.
    pub updated_at: String,
}

// === impl Logs ===

impl Logs {
    /// The body of `GET /tasks/{id}`; `None` when there is no such task.
    pub fn overview(&self, id: &Id) -> Result<Option<TaskLogs>, ReadError> {
        let parent = Parent::open(&self.root).map_err(failed("open the logs folder"))?;
        let read = parent.map(|parent| parent.read(id)).transpose().map_err(failed("read a task"))?;
        let (Some((row, _)), Some(folder)) = (read.flatten(), self.folder(Shelf::Tasks, id)?) else { return Ok(None) };
        let mut body = TaskLogs::default();
        body.push_text(format!("{{\"task\":{}", json(&row)));
        for (key, name) in DOCUMENTS {
            match folder.open(name)?.map(object).transpose()?.flatten() {
                Some(document) => {
                    body.push_text(format!(",\"{key}\":"));
                    let len = document.len();
                    body.push(document.section(0, len), len);
                }
                None => body.push_text(format!(",\"{key}\":null")),
            }
        }
        let mut files = folder.public()?;
        files.sort_by(|a, b| a.name().cmp(b.name()));
        let files: Vec<_> = files.iter().map(FileState::of).collect();
        body.push_text(format!(",\"files\":{}}}", json(&files)));
        Ok(Some(body))
    }
}

// === impl FileState ===

impl<'f> FileState<'f> {
    fn of(file: &'f PublicFile) -> Self {
        Self { name: file.name(), size: file.len(), modified: file.modified().to_string(), etag: file.etag() }
    }
}

// === impl Folder ===

impl Folder {
    /// What a list says of a flow; `None` when its files are in a task's folder.
    pub fn flow(&self, id: &Id) -> Result<Option<Flow>, ReadError> {
        let files = self.public()?;
        let Some(newest) = files.iter().map(PublicFile::modified).max() else { return Ok(None) };
        let mut records = Some(0);
        let mut created_at = None;
        for file in files.iter().filter(|file| layout::STANDARD_FILES.contains(&file.name())) {
            let counted = (file.len() <= COUNTED_BYTES_MAX).then(|| file.count_lines()).transpose();
            let counted = counted.map_err(failed("read a file"))?;
            records = records.zip(counted).map(|(sum, counted)| sum + counted);
            if file.name() == layout::WEBHOOK_FLOW {
                created_at = first_time(file)?;
            }
        }
        let size = files.iter().map(PublicFile::len).sum();
        let (webhook_event_id, updated_at) = (id.clone(), newest.to_string());
        Ok(Some(Flow { webhook_event_id, size, records, created_at, updated_at }))
    }

    /// All public files, opened.
    fn public(&self) -> Result<Vec<PublicFile>, ReadError> {
        let mut files = Vec::new();
        for entry in self.dir.entries().map_err(failed("list a folder"))? {
            let name = entry.map_err(failed("list a folder"))?.file_name();
            files.extend(name.to_str().map(|name| self.open(name)).transpose()?.flatten());
        }
        Ok(files)
    }
}

/// A document, if it is an object.
fn object(file: PublicFile) -> Result<Option<PublicFile>, ReadError> {
    if file.len() > DOCUMENT_BYTES_MAX {
        return Ok(None);
    }
    let mut text = String::new();
    match file.part(0, file.len())?.read_to_string(&mut text) {
        Ok(_) => Ok(Members::of(&text).is_ok().then_some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Ok(None),
        Err(error) => absent(error, "read a file"),
    }
}

/// The timestamp of the first record.
fn first_time(file: &PublicFile) -> Result<Option<String>, ReadError> {
    let (begins, most) = RECORD_HEAD;
    let mut head = Vec::new();
    file.part(0, file.len().min(most))?.read_to_end(&mut head).map_err(failed("read a file"))?;
    let head = String::from_utf8_lossy(&head);
    let time = head.strip_prefix(begins).and_then(|rest| rest.split_once('"')).map(|(time, _)| time);
    Ok(time.filter(|time| timestamp::parse(time).is_some()).map(str::to_owned))
}

fn json(value: &impl Serialize) -> String {
    // Nothing that is shown here can fail to be written.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
