//! What differs between two folders of one task: records by their ids, documents by their members, all else by lines. Holds
//! places of records, and the texts of the first differences only.

use std::{collections::BTreeMap, io::Read};

use serde::Serialize;
use serde_json::Value;

use super::{
    ReplayError,
    recorded::{self, Place, STREAMS},
};
use crate::{
    author::diff::changes,
    event::StreamId,
    reader::{Folder, PublicFile},
};

/// Differences of a file that are shown; the others are counted.
const SHOWN_MAX: usize = 1000;
/// Largest file that is compared by members or lines, in bytes; of a larger one only whether it differs is told.
const TEXT_BYTES_MAX: u64 = 64 << 20;
const BLOCK: usize = 64 << 10;

/// What became of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Change {
    /// As it was, byte for byte.
    Same,
    /// The replay has it, the recording has not.
    Added,
    /// The recording has it, the replay has not.
    Removed,
    /// Both have it, and differ.
    Changed,
}

/// Two folders.
#[derive(Debug, Serialize)]
pub(super) struct Difference {
    pub(super) files: Vec<FileDifference>,
}

/// One file in both.
#[derive(Debug, Serialize)]
pub(super) struct FileDifference {
    pub(super) file: String,
    pub(super) change: Change,
    /// Of a file with a record a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) records: Option<Records>,
    /// Differences: records, members of a document, lines; the first thousand.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) differences: Vec<Part>,
    /// How many more there are.
    pub(super) omitted: u64,
}

/// Records counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Records {
    pub(super) same: u64,
    pub(super) added: u64,
    pub(super) removed: u64,
    pub(super) changed: u64,
    /// The records of both stand in another order.
    pub(super) reordered: bool,
}

/// One difference. A record is named by its id, a member by its JSON pointer, a line by its number; a member's value is cut
/// to where it differs.
#[derive(Debug, Serialize)]
pub(super) struct Part {
    pub(super) at: String,
    pub(super) change: Change,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<Value>,
}

/// Compares all public files of both.
pub(super) fn compare(recorded: &Folder, replayed: &Folder) -> Result<Difference, ReplayError> {
    let mut names: Vec<String> = [recorded.files()?, replayed.files()?].concat().into_iter().map(|f| f.name).collect();
    names.sort();
    names.dedup();
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        files.push(file(&name, recorded.open(&name)?, replayed.open(&name)?)?);
    }
    Ok(Difference { files })
}

fn file(name: &str, before: Option<PublicFile>, after: Option<PublicFile>) -> Result<FileDifference, ReplayError> {
    let mut difference = FileDifference {
        file: name.to_owned(),
        change: match (&before, &after) {
            (Some(before), Some(after)) if same(before, after)? => Change::Same,
            (Some(_), Some(_)) => Change::Changed,
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
        },
        records: None,
        differences: Vec::new(),
        omitted: 0,
    };
    if STREAMS.contains(&name) {
        difference.records(before.as_ref(), after.as_ref())?;
    } else if let (Change::Changed, Some(before), Some(after)) = (difference.change, before, after)
        && before.len().max(after.len()) <= TEXT_BYTES_MAX
    {
        let (before, after) = (whole(&before)?, whole(&after)?);
        match (serde_json::from_slice::<Value>(&before), serde_json::from_slice::<Value>(&after)) {
            (Ok(before), Ok(after)) => difference.members(&before, &after),
            _ => difference.lines(&String::from_utf8_lossy(&before), &String::from_utf8_lossy(&after)),
        }
    }
    Ok(difference)
}

fn same(before: &PublicFile, after: &PublicFile) -> Result<bool, ReplayError> {
    if before.len() != after.len() {
        return Ok(false);
    }
    let mut at = 0;
    while at < before.len() {
        let end = (at + BLOCK as u64).min(before.len());
        if bytes(before, at, end)? != bytes(after, at, end)? {
            return Ok(false);
        }
        at = end;
    }
    Ok(true)
}

fn whole(file: &PublicFile) -> Result<Vec<u8>, ReplayError> {
    bytes(file, 0, file.len())
}

fn bytes(file: &PublicFile, start: u64, end: u64) -> Result<Vec<u8>, ReplayError> {
    let mut bytes = Vec::new();
    let read = file.part(start, end)?.read_to_end(&mut bytes);
    read.map_err(|source| ReplayError::Unreadable { file: file.name().to_owned(), source })?;
    Ok(bytes)
}

// === impl Difference ===

impl Difference {
    /// Whether nothing differs.
    pub(super) fn is_none(&self) -> bool {
        self.files.iter().all(|file| file.change == Change::Same)
    }
}

// === impl FileDifference ===

impl FileDifference {
    fn push(&mut self, part: Part) {
        match self.differences.len() < SHOWN_MAX {
            true => self.differences.push(part),
            false => self.omitted += 1,
        }
    }

    fn records(&mut self, before: Option<&PublicFile>, after: Option<&PublicFile>) -> Result<(), ReplayError> {
        let index = |file: Option<&PublicFile>| file.map_or(Ok(Vec::new()), recorded::index);
        let (old, new) = (index(before)?, index(after)?);
        let mut counts = Records { reordered: is_reordered(&old, &new), ..Records::default() };
        let mut all: BTreeMap<StreamId, (Option<Place>, Option<Place>)> = BTreeMap::new();
        old.iter().for_each(|place| all.entry(place.id).or_default().0 = Some(*place));
        new.iter().for_each(|place| all.entry(place.id).or_default().1 = Some(*place));
        let read = |file: Option<&PublicFile>, place: Option<Place>| {
            file.zip(place).map(|(file, place)| recorded::line(file, &place)).transpose()
        };
        for (id, (old, new)) in all {
            let (old, new) = (read(before, old)?, read(after, new)?);
            match (&old, &new) {
                (Some(old), Some(new)) if old == new => {
                    counts.same += 1;
                    continue;
                }
                (Some(_), Some(_)) => counts.changed += 1,
                (Some(_), None) => counts.removed += 1,
                (None, _) => counts.added += 1,
            }
            let parsed = |text: Option<String>| text.map(|text| serde_json::from_str(&text).unwrap_or(Value::Null));
            self.push(Part::new(id.to_string(), parsed(old), parsed(new)));
        }
        self.records = Some(counts);
        Ok(())
    }

    /// Leaves that differ; none when only order or spacing does.
    fn members(&mut self, before: &Value, after: &Value) {
        for leaf in changes(before, after) {
            self.push(Part::new(leaf.pointer, leaf.before.map(Value::from), leaf.after.map(Value::from)));
        }
    }

    /// Lines between what both begin and end with.
    fn lines(&mut self, before: &str, after: &str) {
        let (old, new): (Vec<&str>, Vec<&str>) = (before.split('\n').collect(), after.split('\n').collect());
        let head = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
        let (old, new) = (&old[head..], &new[head..]);
        let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
        for at in 0..(old.len() - tail).max(new.len() - tail) {
            let line = |lines: &[&str]| lines[..lines.len() - tail].get(at).map(|line| Value::from(*line));
            self.push(Part::new(format!("line {}", head + at + 1), line(old), line(new)));
        }
    }
}

/// Whether what stands in both stands in another order.
fn is_reordered(old: &[Place], new: &[Place]) -> bool {
    let ids = |places: &[Place]| places.iter().map(|place| place.id).collect::<std::collections::HashSet<_>>();
    let (in_old, in_new) = (ids(old), ids(new));
    let old = old.iter().filter(|place| in_new.contains(&place.id)).map(|place| place.id);
    old.ne(new.iter().filter(|place| in_old.contains(&place.id)).map(|place| place.id))
}

// === impl Part ===

impl Part {
    fn new(at: String, before: Option<Value>, after: Option<Value>) -> Self {
        let change = match (&before, &after) {
            (Some(_), Some(_)) => Change::Changed,
            (Some(_), None) => Change::Removed,
            (None, _) => Change::Added,
        };
        Self { at, change, before, after }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::{
        event::Id,
        reader::{Logs, Shelf},
    };

    fn compared(before: &[(&str, &str)], after: &[(&str, &str)]) -> Value {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str, files: &[(&str, &str)]| {
            fs::create_dir(dir.path().join(name)).unwrap();
            files.iter().for_each(|(file, text)| fs::write(dir.path().join(name).join(file), text).unwrap());
            Logs::new(dir.path().to_owned()).folder(Shelf::Tasks, &Id::parse(name).unwrap()).unwrap().unwrap()
        };
        let difference = compare(&folder("a", before), &folder("b", after)).unwrap();
        assert_eq!(difference.is_none(), before == after);
        json!(difference)["files"].clone()
    }

    #[test]
    fn records_are_compared_by_id() {
        let line = |n: u32, text: &str| format!("{{\"content\":\"{text}\",\"id\":\"{n}-0\"}}\n");
        let before = line(1, "a") + &line(2, "b") + &line(3, "c");
        let after = line(3, "c") + &line(2, "B") + &line(4, "d");
        let files = compared(&[("03-agent-output.jsonl", &before)], &[("03-agent-output.jsonl", &after)]);
        let expected = json!({"same": 1, "added": 1, "removed": 1, "changed": 1, "reordered": true});
        assert_eq!(files[0]["records"], expected);
        let parts: Vec<_> =
            files[0]["differences"].as_array().unwrap().iter().map(|p| (&p["at"], &p["change"])).collect();
        assert_eq!(json!(parts), json!([["1-0", "removed"], ["2-0", "changed"], ["4-0", "added"]]));
        assert_eq!(files[0]["differences"][1]["after"]["content"], "B");
        assert_eq!(
            compared(&[("03-agent-output.jsonl", &before)], &[("03-agent-output.jsonl", &before)])[0]["change"],
            "same"
        );
    }

    #[test]
    fn documents_are_compared_by_member_and_texts_by_line() {
        let files = compared(
            &[("a.json", r#"{"x":{"y":[1,2]},"gone":1,"k":{"a":1,"b":2}}"#), ("t.md", "1\n2\n3\n"), ("z", "")],
            &[("a.json", r#"{"x":{"y":[1,3]},"new":{},"k":{"b":2,"a":1}}"#), ("t.md", "1\nzwei\nzwei b\n3\n")],
        );
        let parts = |at: usize| {
            let parts = files[at]["differences"].as_array().cloned().unwrap_or_default();
            json!(parts.iter().map(|p| (p["at"].clone(), p["change"].clone())).collect::<Vec<_>>())
        };
        assert_eq!(parts(0), json!([["/x/y/1", "changed"], ["/gone", "removed"], ["/new", "added"]]));
        assert_eq!(parts(1), json!([["line 2", "changed"], ["line 3", "added"]]));
        assert_eq!((files[2]["file"].as_str(), files[2]["change"].as_str()), (Some("z"), Some("removed")));
    }

    #[test]
    fn bounded_everything_more_differences_are_counted() {
        let lines = |text: &str| {
            (0..2000).map(|n| format!("{{\"c\":\"{text}\",\"id\":\"{}-0\"}}\n", n + 1)).collect::<String>()
        };
        let files = compared(&[("05-other-events.jsonl", &lines("a"))], &[("05-other-events.jsonl", &lines("b"))]);
        assert_eq!(files[0]["differences"].as_array().unwrap().len(), SHOWN_MAX);
        assert_eq!((files[0]["omitted"].as_u64(), files[0]["records"]["changed"].as_u64()), (Some(1000), Some(2000)));
    }
}
