//! The static documents of a task: whole, and saying what its entries come to.

use std::{fs, io, path::Path};

use serde_json::{Map, Value};

use super::{
    expected::Life,
    finding::Kind,
    judge::{Judge, Order, Seen, Spot},
    pending::Dir,
    rules::{File, mark},
};
use crate::{
    event::Id,
    layout::{FINAL_RESULT, INPUT, METADATA, documents},
};

/// What of a task's documents is needed for its other files.
#[derive(Default)]
pub(super) struct Documents {
    metadata: Option<Map<String, Value>>,
    result: Option<Map<String, Value>>,
    has_input: bool,
    /// A `task:created` is absorbed, so there must be an input.
    created: bool,
    /// No plugin processed the task: contents may be compared.
    pub(super) plain: bool,
    /// The task was made anew after its files had been removed.
    pub(super) resumed: bool,
}

impl Judge<'_> {
    /// Reads the documents, from the journal where they stand there.
    pub(super) fn documents(&mut self, root: &Path, at: Spot<'_>, pending: Option<&Dir>, seen: &mut Seen) -> Documents {
        let mut found = Documents::default();
        let rendered = pending.and_then(|pending| rendered(at.dir, pending.documents.as_ref()?));
        let mut read = |name: &'static str| -> Option<Map<String, Value>> {
            let bytes = match &rendered {
                Some(files) => files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| bytes.clone())?,
                None if pending.is_some_and(|pending| pending.cleared.is_some()) => return None,
                None => match fs::read(root.join(at.dir).join(name)) {
                    Ok(bytes) => bytes,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                    Err(error) => {
                        self.findings.add(Kind::Unreadable, at.dir, name, None, error.to_string());
                        return None;
                    }
                },
            };
            let document = serde_json::from_slice(&bytes).ok();
            if document.is_none() {
                self.findings.add(Kind::Torn, at.dir, name, None, "is no whole JSON object");
            }
            Some(document.unwrap_or_default())
        };
        found.metadata = read(METADATA);
        found.has_input = read(INPUT).is_some();
        found.result = read(FINAL_RESULT);
        let Some(metadata) = &found.metadata else { return found };
        let mut order = Order::default();
        match metadata.get("event_ids") {
            Some(Value::Array(ids)) => {
                for id in ids {
                    let Some(id) = id.as_str().and_then(|id| id.parse().ok()) else {
                        self.findings.add(Kind::Torn, at.dir, METADATA, None, "event_ids has one that is none");
                        continue;
                    };
                    let row = self.sight(at, id, None, &mut order, seen);
                    found.created |= row.is_some_and(|row| self.expected.rows[row].label == mark("task:created"));
                }
            }
            // One that is torn was told above.
            None if metadata.is_empty() => {}
            _ => self.findings.add(Kind::Torn, at.dir, METADATA, None, "has no event_ids"),
        }
        let listed = |key: &str| metadata.get(key).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        found.plain = metadata.contains_key("plugins") && !listed("plugins");
        found.resumed = metadata.get("resumed") == Some(&Value::Bool(true));
        found
    }

    /// Compares what the documents say with the entries.
    pub(super) fn state(&mut self, at: Spot<'_>, found: &Documents, seen: &Seen) {
        let place = at.place.map(|place| self.expected.places[place as usize].clone());
        let life = place.as_ref().map(|place| place.life).unwrap_or_default();
        // What came before the remains of the stream, or comes behind the position, is in the documents as well.
        let resumed = found.resumed && place.as_ref().is_none_or(|place| place.removed.is_none());
        let partial = !seen.unknown.is_empty() || resumed || life.unsure;
        if place.as_ref().is_none_or(|place| place.goes_on) || self.scope.others {
            return;
        }
        let mut wrong = |file: &str, what: String| self.findings.add(Kind::WrongState, at.dir, file, None, what);
        let Some(metadata) = &found.metadata else {
            if life.documented {
                self.findings.add(Kind::Missing, at.dir, METADATA, None, "there is no such file");
            }
            return;
        };
        if metadata.is_empty() {
            return;
        }
        let text = |key: &str| metadata.get(key).and_then(Value::as_str);
        let id = Id::from_dir_name(at.dir);
        if id.as_ref().map(Id::as_str) != text("task_id") {
            wrong(METADATA, "task_id is not the directory's".to_owned());
        }
        if let Some(status) = status(&life, partial)
            && text("status") != Some(status)
        {
            wrong(
                METADATA,
                format!("status is {}, and its entries say {status}", text("status").unwrap_or("not there")),
            );
        }
        let times = [
            ("created_at", life.created, partial),
            ("started_at", life.started, partial),
            ("completed_at", life.ended.map(|(at, _)| at), partial && life.ended.is_none()),
        ];
        for (key, expected, skip) in times {
            if !skip && text(key).map(mark) != expected {
                wrong(METADATA, format!("{key} is not the time of the entry that says so"));
            }
        }
        if found.created && !found.has_input {
            wrong(INPUT, "is not there, and task:created is".to_owned());
        }
        if !found.created && found.has_input && !partial {
            wrong(INPUT, "is there without a task:created".to_owned());
        }
        match (&found.result, life.ended) {
            (None, Some(_)) => wrong(FINAL_RESULT, "is not there, and the task has ended".to_owned()),
            (Some(_), None) if !partial => wrong(FINAL_RESULT, "is there, and the task has not ended".to_owned()),
            (Some(result), Some((ended, failed))) if !result.is_empty() && !life.unsure => {
                if result.get("success") != Some(&Value::Bool(!failed)) {
                    wrong(FINAL_RESULT, format!("success is not {}", !failed));
                }
                if result.get("completed_at").and_then(Value::as_str).map(mark) != Some(ended) {
                    wrong(FINAL_RESULT, "completed_at is not the time of the last end".to_owned());
                }
            }
            _ => {}
        }
    }
}

/// The status that entries come to; `None` when it is not known.
fn status(life: &Life, partial: bool) -> Option<&'static str> {
    match life.ended {
        _ if life.unsure => None,
        Some((_, true)) => Some("failed"),
        Some((_, false)) => Some("completed"),
        None if partial => None,
        None if life.runs => Some("running"),
        None => Some("created"),
    }
}

/// The documents as the journal's model gives them.
fn rendered(dir: &str, model: &[u8]) -> Option<Vec<(&'static str, Vec<u8>)>> {
    let id = Id::from_dir_name(dir)?;
    Some(serde_json::from_slice::<documents::Documents>(model).ok()?.render(id.as_str()))
}

/// The spot of the list of ids.
pub(super) fn spot<'d>(dir: &'d str, place: Option<u32>) -> Spot<'d> {
    Spot { dir, place, file: File::Metadata }
}
