//! A task's events as its folder tells them: records of the JSONL files by their ids, across files, and what the static
//! documents absorbed. An index of where each stands; the texts are read when they are asked for.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Read},
    sync::Arc,
};

use serde_json::{Map, Value};

use super::{
    ReplayError,
    lifecycle::{self, Files},
    record,
};
use crate::{
    decode::RecordedGaps,
    event::{Entry, Id, StreamId},
    layout,
    reader::{Folder, PublicFile},
};

/// The files that hold a record per line.
pub(super) const STREAMS: [&str; 4] =
    [layout::WEBHOOK_FLOW, layout::AGENT_OUTPUT, layout::USER_INPUTS, layout::OTHER_EVENTS];
/// Largest static document that is read, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 1 << 30;

/// A recorded task.
pub(super) struct Recorded {
    task: Id,
    streams: Vec<PublicFile>,
    entries: Vec<Known>,
    gaps: Arc<RecordedGaps>,
    /// Those of them that ended the task as failed.
    failed: HashSet<StreamId>,
}

/// Where a line stands in its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) id: StreamId,
    pub(super) at: u64,
    /// Without its newline.
    pub(super) len: u64,
}

/// An event of which more is known than its id.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    /// `None`: it could not be read when it was written.
    pub(super) kind: Option<String>,
    pub(super) timestamp: Option<String>,
    /// JSON text of an object.
    pub(super) data: String,
}

struct Known {
    id: StreamId,
    told: Source,
}

enum Source {
    Line { stream: usize, place: Place },
    Document(Box<Told>),
}

// === impl Recorded ===

impl Recorded {
    /// Finds all events of a task's folder. `started_keys`: members of `metadata.json` that came with `task:started`.
    pub(super) fn of(folder: &Folder, task: Id, started_keys: Vec<String>) -> Result<Self, ReplayError> {
        let mut recorded =
            Self { task, streams: Vec::new(), entries: Vec::new(), gaps: Arc::default(), failed: HashSet::new() };
        let mut gaps = RecordedGaps::new();
        let mut reasons = Reasons::default();
        let mut gap_kinds = Vec::new();
        for name in STREAMS {
            let Some(file) = folder.open(name)? else { continue };
            let stream = recorded.streams.len();
            for place in index(&file)? {
                let text = line(&file, &place)?;
                if let Some(gap) = record::gap(&text) {
                    gaps.insert(place.id, reasons.of(gap.reason));
                    gap_kinds.push((place.id, gap.kind, gap.timestamp));
                }
                recorded.entries.push(Known { id: place.id, told: Source::Line { stream, place } });
            }
            recorded.streams.push(file);
        }
        let files = Files {
            metadata: document(folder, layout::METADATA)?.unwrap_or_default(),
            input: document(folder, layout::INPUT)?,
            result: document(folder, layout::FINAL_RESULT)?,
            started_keys,
            gaps: gap_kinds,
        };
        recorded.failed = lifecycle::failed_gaps(&files).into_iter().collect();
        let absorbed = lifecycle::events(files).map_err(|why| ReplayError::Document { why })?;
        recorded
            .entries
            .extend(absorbed.into_iter().map(|(id, told)| Known { id, told: Source::Document(Box::new(told)) }));
        recorded.entries.sort_by_key(|known| known.id);
        if let Some(double) = recorded.entries.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(ReplayError::Doubled { id: double[0].id });
        }
        recorded.gaps = Arc::new(gaps);
        Ok(recorded)
    }

    /// How many events there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The last event's id.
    pub(super) fn last(&self) -> Option<StreamId> {
        self.entries.last().map(|known| known.id)
    }

    /// Entries that are gaps, with their reasons.
    pub(super) fn gaps(&self) -> Arc<RecordedGaps> {
        Arc::clone(&self.gaps)
    }

    /// The event at a place in the order of ids, as a stream would hold it.
    pub(super) fn entry(&self, at: usize) -> Result<Option<Entry>, ReplayError> {
        let Some(known) = self.entries.get(at) else { return Ok(None) };
        let read;
        let told = match &known.told {
            Source::Document(told) => told,
            Source::Line { stream, place } => {
                let Some(file) = self.streams.get(*stream) else { return Ok(None) };
                let text = line(file, place)?;
                read = record::told(file.name(), &text).ok_or_else(|| bad_line(file, place.at))?;
                &read
            }
        };
        let mut fields = Vec::with_capacity(4);
        let mut field = |name: &'static str, value: &str| {
            fields.push((name.as_bytes().into(), value.to_owned().into_bytes().into()));
        };
        if let Some(kind) = &told.kind {
            field("type", kind);
        }
        if let Some(timestamp) = &told.timestamp {
            field("timestamp", timestamp);
        }
        field("task_id", self.task.as_str());
        let failed = self.failed.contains(&known.id);
        field("data", if failed { r#"{"status":"failed"}"# } else { &told.data });
        Ok(Some(Entry { id: known.id, fields }))
    }
}

/// Reasons of gaps: few, and for the whole life of a process that replays one task.
#[derive(Default)]
struct Reasons(Vec<&'static str>);

impl Reasons {
    fn of(&mut self, reason: String) -> &'static str {
        if let Some(known) = self.0.iter().find(|known| **known == reason) {
            return known;
        }
        let kept: &'static str = reason.leak();
        self.0.push(kept);
        kept
    }
}

/// Where each record of a file stands, in the file's order. Blank lines are what is left of a cut; they are passed over.
pub(super) fn index(file: &PublicFile) -> Result<Vec<Place>, ReplayError> {
    let mut places = Vec::new();
    let mut reader = BufReader::with_capacity(256 << 10, file.part(0, file.len())?);
    let (mut at, mut text) = (0, Vec::new());
    loop {
        text.clear();
        let read = reader.read_until(b'\n', &mut text).map_err(|source| unreadable(file, source))? as u64;
        if read == 0 {
            return Ok(places);
        }
        let line = text.strip_suffix(b"\n").unwrap_or(&text);
        if !line.trim_ascii().is_empty() {
            let id = std::str::from_utf8(line).ok().and_then(record::id);
            let id = id.ok_or_else(|| bad_line(file, at))?;
            places.push(Place { id, at, len: line.len() as u64 });
        }
        at += read;
    }
}

/// The text of a line.
pub(super) fn line(file: &PublicFile, place: &Place) -> Result<String, ReplayError> {
    let mut text = String::new();
    let mut part = file.part(place.at, place.at + place.len)?;
    part.read_to_string(&mut text).map_err(|source| unreadable(file, source))?;
    Ok(text)
}

fn document(folder: &Folder, name: &'static str) -> Result<Option<Map<String, Value>>, ReplayError> {
    let Some(file) = folder.open(name)? else { return Ok(None) };
    let mut text = Vec::new();
    let mut part = file.part(0, file.len().min(DOCUMENT_BYTES_MAX))?;
    part.read_to_end(&mut text).map_err(|source| unreadable(&file, source))?;
    let parsed = serde_json::from_slice(&text);
    parsed.map(Some).map_err(|_| ReplayError::Document { why: format!("{name} is no JSON object") })
}

fn unreadable(file: &PublicFile, source: std::io::Error) -> ReplayError {
    ReplayError::Unreadable { file: file.name().to_owned(), source }
}

fn bad_line(file: &PublicFile, at: u64) -> ReplayError {
    ReplayError::Line { file: file.name().to_owned(), at }
}
