//! Proves that a stream and a `LOGS_DIR` belong together: every entry stands exactly once, in order, at its place, and nothing
//! else is there. Knows the rules by itself and shares no code with the service.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

mod rules;
#[cfg(test)]
mod tests;

use rules::{Fate, Key, Rules};

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

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Defect {
    /// The entry stands nowhere.
    Missing(Id),
    /// The entry stands more than once.
    Doubled(Id),
    /// A record whose id the stream does not have.
    ForeignId(Id),
    /// A record stands after a later one of its key.
    Order(Id),
    /// A record stands in another file or directory than its kind's and key's.
    Misplaced(Id),
    /// A file or directory that no entry explains.
    Foreign(PathBuf),
    /// A line that is no record, or a file that is no JSON; with the line's number, 0 for a whole file.
    Torn(PathBuf, usize),
    /// A record where a gap must stand, or the other way round.
    Gap(Id),
    /// The entry must be in the dead letter once, and is not.
    Dead(Id),
    /// The entry must not be in the dead letter.
    NotDead(Id),
    /// The event's own text is not in its record.
    Content(Id),
    /// The event's marker does not stand exactly once and in order in `transcript.md`.
    Transcript(Id),
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

    /// Reads stream and dead letters of an embedded stream whose process has ended.
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

    /// Everything that is wrong with a folder whose process has ended; `extras` are the files that plugins may have written.
    pub(crate) fn defects(&self, logs: &Path, extras: &[&str]) -> Vec<Defect> {
        let mut look = Look::new(self, logs, extras);
        look.tree();
        look.each_entry();
        look.transcripts();
        let mut defects: Vec<Defect> = look.defects.into_iter().collect();
        defects.sort();
        defects
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

    /// The same, and the test fails with the first few of them.
    #[track_caller]
    pub(crate) fn prove(&self, logs: &Path, extras: &[&str]) {
        let defects = self.defects(logs, extras);
        // A few of each kind say more than many of one.
        let mut by_kind: BTreeMap<String, Vec<&Defect>> = BTreeMap::new();
        for defect in &defects {
            let kind = format!("{defect:?}");
            by_kind.entry(kind.split('(').next().unwrap_or_default().to_owned()).or_default().push(defect);
        }
        let mut told = String::new();
        for (kind, all) in by_kind {
            told += &format!("{kind}: {}\n", all.len());
            for defect in all.into_iter().take(4) {
                told += &format!("  {defect:?} {}\n", self.about(logs, defect).unwrap_or_default());
            }
        }
        assert!(defects.is_empty(), "{} defects\n{told}", defects.len());
    }

    /// The entry that a defect is about, and where it stands.
    fn about(&self, logs: &Path, defect: &Defect) -> Option<String> {
        let text = format!("{defect:?}");
        let (ms, seq) = text.split_once("Id(")?.1.split_once(')')?.0.split_once(", ")?;
        let id = Id(ms.parse().ok()?, seq.parse().ok()?);
        let entry = self.entries.iter().find(|entry| entry.id == id)?;
        let fields: Vec<String> = entry
            .fields
            .iter()
            .map(|(k, v)| format!("{}={:.120}", String::from_utf8_lossy(k), String::from_utf8_lossy(v)))
            .collect();
        let needle = id.to_string();
        let mut at = Vec::new();
        for path in files_below(logs) {
            if fs::read(&path).is_ok_and(|bytes| memchr::memmem::find(&bytes, needle.as_bytes()).is_some()) {
                at.push(path.strip_prefix(logs).unwrap().display().to_string());
            }
        }
        Some(format!("{id}: {} in {at:?}", fields.join(" ")))
    }
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

/// One look at a tree.
struct Look<'a> {
    stream: &'a Stream,
    logs: &'a Path,
    extras: &'a [&'a str],
    rules: Rules,
    by_id: HashMap<Id, &'a Entry>,
    /// Where each id was found: directory, file, whether it was a gap.
    found: HashMap<Id, Vec<(String, String, bool)>>,
    defects: BTreeSet<Defect>,
}

impl<'a> Look<'a> {
    fn new(stream: &'a Stream, logs: &'a Path, extras: &'a [&'a str]) -> Self {
        Self {
            stream,
            logs,
            extras,
            rules: Rules::of(stream),
            by_id: stream.entries.iter().map(|entry| (entry.id, entry)).collect(),
            found: HashMap::new(),
            defects: BTreeSet::new(),
        }
    }

    fn foreign(&mut self, path: &str) {
        self.defects.insert(Defect::Foreign(path.into()));
    }

    fn names(&self, dir: &str) -> Vec<(String, bool)> {
        let listed = fs::read_dir(self.logs.join(dir)).into_iter().flatten().flatten();
        let mut names: Vec<_> = listed
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.file_type().unwrap().is_dir()))
            .collect();
        names.sort();
        names
    }

    fn tree(&mut self) {
        for (name, is_dir) in self.names("") {
            match &*name {
                ".task-logger" if is_dir => self.private(),
                "_webhooks" if is_dir => {
                    for (flow, is_dir) in self.names("_webhooks") {
                        self.directory(&format!("_webhooks/{flow}"), is_dir);
                    }
                }
                _ => self.directory(&name, is_dir),
            }
        }
    }

    /// Staging is empty when a process has ended in order.
    fn private(&mut self) {
        let below = files_below(&self.logs.join(".task-logger"));
        for path in below {
            let path = path.strip_prefix(self.logs).unwrap().to_owned();
            let staged = path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("tmp-"));
            if staged || path.extension().is_some_and(|extension| extension == "new") {
                self.defects.insert(Defect::Foreign(path));
            }
        }
    }

    fn directory(&mut self, dir: &str, is_dir: bool) {
        if !is_dir || !self.rules.directories.contains(dir) {
            return self.foreign(dir);
        }
        let flow = dir.starts_with("_webhooks/");
        for (name, is_dir) in self.names(dir) {
            let path = format!("{dir}/{name}");
            match &*name {
                _ if is_dir => self.foreign(&path),
                ".state" => {}
                "metadata.json" if !flow => self.metadata(dir, &path),
                "01-input.json" | "04-final-result.json" if !flow => drop(self.document(&path)),
                "02-webhook-flow.jsonl" | "05-other-events.jsonl" => self.records(dir, &name),
                "03-agent-output.jsonl" | "03-user-inputs.jsonl" if !flow => self.records(dir, &name),
                extra if self.extras.contains(&extra) => {}
                _ => self.foreign(&path),
            }
        }
    }

    fn document(&mut self, path: &str) -> Option<Value> {
        let value = serde_json::from_slice::<Value>(&fs::read(self.logs.join(path)).unwrap()).ok();
        let value = value.filter(Value::is_object);
        if value.is_none() {
            self.defects.insert(Defect::Torn(path.into(), 0));
        }
        value
    }

    fn metadata(&mut self, dir: &str, path: &str) {
        let Some(document) = self.document(path) else { return };
        let ids = document["event_ids"].as_array().cloned().unwrap_or_default();
        let mut last = None;
        for id in ids {
            let Some(id) = id.as_str().and_then(Id::parse) else {
                self.defects.insert(Defect::Torn(path.into(), 0));
                continue;
            };
            if last.replace(id).is_some_and(|last| last >= id) {
                self.defects.insert(Defect::Order(id));
            }
            self.found.entry(id).or_default().push((dir.to_owned(), "metadata.json".into(), false));
        }
    }

    fn records(&mut self, dir: &str, name: &str) {
        let path = format!("{dir}/{name}");
        let bytes = fs::read(self.logs.join(&path)).unwrap();
        let mut last: HashMap<Option<Key>, Id> = HashMap::new();
        for (number, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let Some((id, record)) = line.strip_suffix(b"\n").and_then(record) else {
                self.defects.insert(Defect::Torn(path.clone().into(), number + 1));
                continue;
            };
            let gap = record["type"] == "gap";
            let key = self.rules.key(id);
            if last.insert(key, id).is_some_and(|last| last >= id) {
                self.defects.insert(Defect::Order(id));
            }
            if let Some(marker) = self.by_id.get(&id).and_then(|entry| entry.marker()).filter(|_| !gap)
                && memchr::memmem::find(line, marker.as_bytes()).is_none()
            {
                self.defects.insert(Defect::Content(id));
            }
            self.found.entry(id).or_default().push((dir.to_owned(), name.to_owned(), gap));
        }
    }

    fn each_entry(&mut self) {
        let mut letters: BTreeMap<Id, usize> = BTreeMap::new();
        for letter in &self.stream.dead {
            *letters.entry(letter.id).or_default() += 1;
            if !letter.whole {
                self.defects.insert(Defect::Dead(letter.id));
            }
        }
        for id in self.found.keys().chain(letters.keys()).filter(|id| !self.by_id.contains_key(id)) {
            self.defects.insert(Defect::ForeignId(*id));
        }
        for entry in &self.stream.entries {
            let id = entry.id;
            let fate = self.rules.fate(id);
            let found = self.found.remove(&id).unwrap_or_default();
            match (letters.get(&id).copied().unwrap_or(0), &fate) {
                (1, Fate::Dead | Fate::Gap { dead: true, .. }) => {}
                (0, Fate::Record { .. } | Fate::Gap { dead: false, .. }) => {}
                (0, _) | (2.., _) => drop(self.defects.insert(Defect::Dead(id))),
                (1, _) => drop(self.defects.insert(Defect::NotDead(id))),
            }
            let (dir, file) = match &fate {
                Fate::Dead if found.is_empty() => continue,
                Fate::Dead => {
                    self.defects.insert(Defect::Misplaced(id));
                    continue;
                }
                Fate::Record { dir, file } | Fate::Gap { dir, file, .. } => (dir, file),
            };
            match &found[..] {
                [] => drop(self.defects.insert(Defect::Missing(id))),
                [(at, name, gap)] => {
                    // A plugin may drop any event: then a gap stands in its place, in a file of lines.
                    let must_be_gap = matches!(fate, Fate::Gap { .. });
                    let file_of_gap = if file == "metadata.json" { "03-agent-output.jsonl" } else { file };
                    if at != dir || name != if *gap { file_of_gap } else { file } {
                        self.defects.insert(Defect::Misplaced(id));
                    }
                    if must_be_gap != *gap && !(*gap && self.rules.may_drop(id)) {
                        self.defects.insert(Defect::Gap(id));
                    }
                }
                _ => drop(self.defects.insert(Defect::Doubled(id))),
            }
        }
    }

    /// Each marker of an event that the page shows stands in it once, in the stream's order.
    fn transcripts(&mut self) {
        if !self.extras.contains(&"transcript.md") {
            return;
        }
        let mut pages: HashMap<String, Vec<String>> = HashMap::new();
        let shown = ["output", "thinking", "user_input", "tool_result", "created", "completed", "failed"];
        let mut at: HashMap<String, usize> = HashMap::new();
        for entry in &self.stream.entries {
            let Fate::Record { dir, .. } = self.rules.fate(entry.id) else { continue };
            let Some(marker) = entry.marker() else { continue };
            let kind = entry.field("type").map(|kind| String::from_utf8_lossy(kind).into_owned()).unwrap_or_default();
            if !kind.strip_prefix("task:").is_some_and(|kind| shown.contains(&kind)) || self.rules.may_drop(entry.id) {
                continue;
            }
            let page = pages.entry(dir.clone()).or_insert_with(|| {
                let text = fs::read_to_string(self.logs.join(&dir).join("transcript.md")).unwrap_or_default();
                text.split("mark-")
                    .skip(1)
                    .filter_map(|rest| Some(format!("mark-{}-end", rest.split_once("-end")?.0)))
                    .collect()
            });
            let next = at.entry(dir).or_default();
            if page.get(*next).map(String::as_str) != Some(marker) {
                self.defects.insert(Defect::Transcript(entry.id));
            }
            *next += 1;
        }
        for (dir, page) in pages {
            if page.len() > at[&dir] {
                self.defects.insert(Defect::Foreign(format!("{dir}/transcript.md").into()));
            }
        }
    }
}

/// A line's id and object; `None` if it is no record.
fn record(line: &[u8]) -> Option<(Id, Value)> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let object = value.as_object()?;
    let (last, id) = object.iter().next_back()?;
    let first = object.keys().next()?;
    let id = Id::parse(id.as_str().filter(|_| last == "id" && first == "timestamp")?)?;
    Some((id, value))
}
