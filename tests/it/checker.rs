//! The tests' judge: `task-logger verify` says whether a stream and a `LOGS_DIR` belong together; what only these tests know is
//! looked at here: each event's own text stands in its record, a gap without a dead letter is one that a plugin of the tests
//! made, and pages of the transcript hold every event once.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::rig::Rig;

/// A stream id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id(pub(crate) u64, pub(crate) u64);

/// An entry as it stands in the stream.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A dead letter: which entry, and which plugin refused it.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) id: Id,
    pub(crate) plugin: String,
    /// Whether it holds the entry's original fields.
    pub(crate) whole: bool,
}

/// All that was put in, and where it must be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    pub(crate) entries: Vec<Entry>,
    pub(crate) dead: Vec<Letter>,
}

impl Id {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (ms, seq) = text.split_once('-')?;
        Some(Self(ms.parse().ok()?, seq.parse().ok()?))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl Entry {
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(key, _)| key == name.as_bytes()).map(|(_, value)| &value[..])
    }

    /// Whether a plugin of the tests drops it.
    fn may_drop(&self) -> bool {
        self.field("data").is_some_and(|data| memchr::memmem::find(data, b"please-drop").is_some())
    }

    /// The unique text `mark-…-end` in its data, if it has one.
    fn marker(&self) -> Option<&str> {
        marker(std::str::from_utf8(self.field("data")?).ok()?)
    }
}

fn marker(text: &str) -> Option<&str> {
    let from = text.find("mark-")?;
    let length = text.get(from..)?.find("-end")? + 4;
    text.get(from..from + length)
}

impl Stream {
    /// Reads stream and dead letters from Redis.
    pub(crate) fn of_redis(redis: &mut redis::Connection) -> Self {
        let (entries, letters) = (range(redis, "task_events"), range(redis, "{task_events}:dead"));
        Self::of(entries, &letters)
    }

    /// Reads stream and dead letters of an embedded stream, from its files.
    pub(crate) fn of_embedded(dir: &Path) -> Self {
        let read = |dead: bool| -> Vec<Entry> {
            let pair = |(name, value): &(bytes::Bytes, bytes::Bytes)| (name.to_vec(), value.to_vec());
            task_logger::source::embedded::entries(dir, "task_events", dead)
                .unwrap()
                .map(|entry| {
                    let entry = entry.unwrap();
                    Entry { id: Id(entry.id.ms, entry.id.seq), fields: entry.fields.iter().map(pair).collect() }
                })
                .collect()
        };
        Self::of(read(false), &read(true))
    }

    fn of(entries: Vec<Entry>, letters: &[Entry]) -> Self {
        let by_id: HashMap<Id, &Entry> = entries.iter().map(|entry| (entry.id, entry)).collect();
        let letter = |letter: &Entry| {
            let text = |name: &str| String::from_utf8_lossy(letter.field(name).unwrap_or_default()).into_owned();
            let id = Id::parse(&text("id")).expect("a dead letter names its entry");
            let originals: Vec<(Vec<u8>, Vec<u8>)> = letter
                .fields
                .iter()
                .filter_map(|(name, value)| Some((name.strip_prefix(b"f:")?.to_vec(), value.clone())))
                .collect();
            Letter { id, plugin: text("plugin"), whole: by_id.get(&id).is_some_and(|entry| entry.fields == originals) }
        };
        let dead = letters.iter().map(letter).collect();
        Self { entries, dead }
    }

    /// Adds what an earlier look at the same stream saw and this one does not, because it was trimmed since.
    pub(crate) fn with_earlier(mut self, earlier: &Self) -> Self {
        let ids: HashSet<Id> = self.entries.iter().map(|entry| entry.id).collect();
        self.entries.extend(earlier.entries.iter().filter(|entry| !ids.contains(&entry.id)).cloned());
        self.entries.sort_by_key(|entry| entry.id);
        // A letter was compared with its entry as long as that was there.
        let whole: HashSet<Id> = earlier.dead.iter().filter(|letter| letter.whole).map(|letter| letter.id).collect();
        self.dead.iter_mut().for_each(|letter| letter.whole |= whole.contains(&letter.id));
        self
    }

    /// Fails the test unless everything stands where it must; `extras` are the files that plugins may have written.
    #[track_caller]
    pub(crate) fn prove(&self, rig: &Rig, extras: &[&str]) {
        let verdict = verify(rig, &["--content"]);
        let mut told = String::new();
        for finding in verdict["findings"].as_array().unwrap() {
            let entry = finding["id"].as_str().and_then(|id| self.about(id)).unwrap_or_default();
            told += &format!("  {finding} {entry}\n");
        }
        assert_eq!(verdict["total"], 0, "{verdict:.300}\n{told}");
        let mut wrong = Vec::new();
        let homes = self.contents(&rig.logs(), &mut wrong);
        if extras.contains(&"transcript.md") {
            self.transcripts(&rig.logs(), &homes, &mut wrong);
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    }

    /// The entry of a finding.
    fn about(&self, id: &str) -> Option<String> {
        let id = Id::parse(id)?;
        let entry = self.entries.iter().find(|entry| entry.id == id)?;
        let field = |(name, value): &(Vec<u8>, Vec<u8>)| {
            format!("{}={:.120}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        };
        Some(entry.fields.iter().map(field).collect::<Vec<_>>().join(" "))
    }

    /// Looks into every record; returns in which directory each entry's record stands.
    fn contents(&self, logs: &Path, wrong: &mut Vec<String>) -> HashMap<Id, String> {
        let by_id: HashMap<Id, &Entry> = self.entries.iter().map(|entry| (entry.id, entry)).collect();
        let dead: HashSet<Id> = self.dead.iter().map(|letter| letter.id).collect();
        wrong.extend(self.dead.iter().filter(|letter| !letter.whole).map(|l| format!("{}: letter is not whole", l.id)));
        let mut homes = HashMap::new();
        for path in files_below(logs) {
            let dir = path.parent().and_then(|dir| dir.strip_prefix(logs).ok()).unwrap().display().to_string();
            if path.ends_with("metadata.json") {
                let metadata: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
                let ids = metadata["event_ids"].as_array().unwrap().iter().filter_map(|id| Id::parse(id.as_str()?));
                homes.extend(ids.map(|id| (id, dir.clone())));
            }
            if path.extension().is_none_or(|extension| extension != "jsonl")
                || path.starts_with(logs.join(".task-logger"))
            {
                continue;
            }
            for line in fs::read_to_string(&path).unwrap().lines() {
                let record: Value = serde_json::from_str(line).unwrap();
                let Some(id) = record["id"].as_str().and_then(Id::parse) else { continue };
                let Some(entry) = by_id.get(&id) else { continue };
                let gap = record["type"] == "gap";
                if gap && !dead.contains(&id) && !entry.may_drop() {
                    wrong.push(format!("{id}: a gap that nobody made"));
                }
                if !gap && entry.marker().is_some_and(|marker| !line.contains(marker)) {
                    wrong.push(format!("{id}: another event's text"));
                }
                if !gap {
                    homes.insert(id, dir.clone());
                }
            }
        }
        homes
    }

    /// Each marker of an event that the page shows stands in it once, in the stream's order.
    fn transcripts(&self, logs: &Path, homes: &HashMap<Id, String>, wrong: &mut Vec<String>) {
        let shown = ["output", "thinking", "user_input", "tool_result", "created", "completed", "failed"];
        let mut expected: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for entry in &self.entries {
            let kind = entry.field("type").map(String::from_utf8_lossy).unwrap_or_default();
            if let (Some(home), Some(marker)) = (homes.get(&entry.id), entry.marker())
                && kind.strip_prefix("task:").is_some_and(|kind| shown.contains(&kind))
                && !entry.may_drop()
            {
                expected.entry(home).or_default().push(marker);
            }
        }
        for (home, expected) in expected {
            let text = fs::read_to_string(logs.join(home).join("transcript.md")).unwrap_or_default();
            let page: Vec<String> = text
                .split("mark-")
                .skip(1)
                .filter_map(|rest| Some(format!("mark-{}-end", rest.split_once("-end")?.0)))
                .collect();
            if page != expected {
                wrong.push(format!("{home}/transcript.md does not hold every event once, in order"));
            }
        }
    }
}

/// What `verify --json` says; its status must fit.
#[track_caller]
pub(crate) fn verify(rig: &Rig, args: &[&str]) -> Value {
    let ran = rig.command(&[&["verify", "--json"], args].concat()).output().unwrap();
    let (told, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let verdict: Value = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{}\n{told}\n{errors}", ran.status));
    let code = if verdict["total"] == 0 { 0 } else { 1 };
    assert_eq!(ran.status.code(), Some(code), "{told}\n{errors}");
    verdict
}

fn range(redis: &mut redis::Connection, key: &str) -> Vec<Entry> {
    type Row = (String, Vec<(Vec<u8>, Vec<u8>)>);
    let mut entries = Vec::new();
    let mut from = "-".to_owned();
    loop {
        let rows: Vec<Row> =
            redis::cmd("XRANGE").arg(key).arg(&from).arg("+").arg("COUNT").arg(2000).query(redis).unwrap();
        let Some((last, _)) = rows.last() else { return entries };
        from = format!("({last}");
        entries.extend(rows.into_iter().map(|(id, fields)| Entry { id: Id::parse(&id).unwrap(), fields }));
    }
}

/// Every file below a folder.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(files_below(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files
}

/// Files below a folder that hold a text.
pub(crate) fn files_with(dir: &Path, text: &str) -> Vec<PathBuf> {
    let holds =
        |path: &PathBuf| fs::read(path).is_ok_and(|bytes| memchr::memmem::find(&bytes, text.as_bytes()).is_some());
    files_below(dir).into_iter().filter(holds).collect()
}
