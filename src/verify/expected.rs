//! What must stand in `LOGS_DIR`: a row of 32 bytes for every entry, a place for every key, and what each task's life comes to.

use std::collections::{HashMap, HashSet};

use super::{
    content::Lines,
    rules::{File, Keyed, Ruling, Stage, rule},
};
use crate::{
    committer::tombstones,
    event::{Entry, Id, StreamId},
    source::walk::Letter,
};

/// No place: the entry has no valid key.
pub(super) const NOWHERE: u32 = u32::MAX;

/// An entry: where its record must be and what of it is compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) id: StreamId,
    /// The place of its key, which orders it. It stands there, or in the task that its flow joined.
    pub(super) key: u32,
    pub(super) timestamp: u32,
    pub(super) label: u32,
    pub(super) file: File,
    /// How often it was seen (up to 3), and the flags below.
    pub(super) marks: u8,
}

/// A gap record must stand for it.
pub(super) const GAP: u8 = 4;
/// It is in the dead letter stream.
pub(super) const LETTER: u8 = 8;
/// It stands in another task than its key's: [`Expected::elsewhere`] says in which.
pub(super) const ELSEWHERE: u8 = 16;
const SEEN: u8 = 3;

/// The directory of a key.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Relative to `LOGS_DIR`.
    pub(super) dir: Box<str>,
    /// For a flow: the place of the task that it joined.
    pub(super) joined: Option<u32>,
    /// The join came behind the published position: what it moves may stand at either place.
    pub(super) joined_late: bool,
    /// There are entries behind the published position, whose effects may stand already.
    pub(super) goes_on: bool,
    pub(super) life: Life,
    /// Its directory was removed, with the entries up to this one.
    pub(super) removed: Option<StreamId>,
    /// For a task that was made anew after its files were removed, when is not known any more: entries below its first record
    /// are not expected.
    pub(super) resumed: Option<StreamId>,
}

/// What the entries of a task make of its `metadata.json` and `04-final-result.json`. Times are marks of their texts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Life {
    pub(super) created: Option<u32>,
    pub(super) started: Option<u32>,
    /// Of the last end: its time, and whether it failed.
    pub(super) ended: Option<(u32, bool)>,
    /// It said something or was started.
    pub(super) runs: bool,
    /// There must be a `metadata.json`.
    pub(super) documented: bool,
    /// An entry was given up without its plugins' or decoder's word: what it did to the task's life is not known.
    pub(super) unsure: bool,
}

/// A dead letter, reduced.
#[derive(Clone, Copy, Debug)]
struct Buried {
    copies: u32,
    /// Checksum of the original fields, if it has them.
    fields: Option<u32>,
    refused: bool,
    met: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) rows: Vec<Row>,
    pub(super) places: Vec<Place>,
    /// Where entries of flows stand that name another task than their flow's.
    pub(super) elsewhere: HashMap<StreamId, u32>,
    /// Letters that are not as they must be: the entry, its place, what is wrong.
    pub(super) letters_wrong: Vec<(StreamId, u32, &'static str)>,
    /// With `--content`: what the record's line must be, by row.
    pub(super) lines: Option<Lines>,
    index: HashMap<Box<str>, u32>,
    letters: HashMap<StreamId, Buried>,
    /// Directories that were removed, by their marks.
    pub(super) removed: HashMap<u64, StreamId>,
    /// Up to here others read for the group: what became of those entries is not known.
    pub(super) began: StreamId,
    event_max: usize,
}

// === impl Row ===

impl Row {
    pub(super) fn seen(&self) -> u8 {
        self.marks & SEEN
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.marks & flag != 0
    }

    /// Notes one more sighting; returns how many there were.
    pub(super) fn see(&mut self) -> u8 {
        let before = self.seen();
        self.marks = self.marks & !SEEN | (before + 1).min(SEEN);
        before
    }

    pub(super) fn forget(&mut self) {
        self.marks &= !SEEN;
    }

    /// The file of its record, or of its gap.
    pub(super) fn stands_in(&self, gap: bool) -> File {
        if gap { self.file.of_gap() } else { self.file }
    }
}

// === impl Expected ===

impl Expected {
    pub(super) fn new(event_max: usize, content: bool) -> Self {
        Self { event_max, lines: content.then(|| Lines::new(event_max)), ..Self::default() }
    }

    /// Takes a dead letter in; all of them before the first entry.
    pub(super) fn bury(&mut self, letter: &Letter) {
        let fields = letter.fields.as_ref().map(|fields| checksum(fields));
        let new = Buried { copies: 0, fields, refused: !letter.plugin.is_empty(), met: false };
        self.letters.entry(letter.id).or_insert(new).copies += 1;
    }

    /// Takes an entry in; in the stream's order. `known_join` says what was noted of a flow's join by those who saw it.
    pub(super) fn take(&mut self, entry: &Entry, known_join: &dyn Fn(&str) -> Option<Id>) {
        let letter = self.letters.get_mut(&entry.id).map(|letter| {
            letter.met = true;
            *letter
        });
        let ruling = rule(entry, self.event_max);
        let mut row = Row {
            id: entry.id,
            key: NOWHERE,
            timestamp: 0,
            label: 0,
            file: File::Other,
            marks: if letter.is_some() { LETTER | GAP } else { 0 },
        };
        let dead = match &ruling {
            Ruling::Keyless => true,
            Ruling::Keyed(keyed) => {
                if keyed.bad {
                    row.marks |= GAP;
                }
                (row.timestamp, row.label, row.file) = (keyed.timestamp, keyed.label, keyed.file);
                self.place_row(&mut row, keyed, known_join);
                self.live(&row, keyed, letter);
                keyed.bad
            }
        };
        match letter {
            None if dead => self.letters_wrong.push((row.id, row.key, "is not in the dead letter stream")),
            Some(letter) if letter.copies > 1 => {
                self.letters_wrong.push((row.id, row.key, "stands in the dead letter stream more than once"));
            }
            Some(letter) if letter.fields.is_some_and(|fields| fields != checksum(&entry.fields)) => {
                self.letters_wrong.push((row.id, row.key, "its dead letter has other fields than it"));
            }
            _ => {}
        }
        if let Some(lines) = &mut self.lines {
            lines.push(entry, row.has(GAP));
        }
        self.rows.push(row);
    }

    fn place_row(&mut self, row: &mut Row, keyed: &Keyed, known_join: &dyn Fn(&str) -> Option<Id>) {
        let known = self.places.len();
        row.key = self.place(&keyed.dir);
        let is_flow = keyed.dir.starts_with("_webhooks/");
        if is_flow && row.key as usize == known {
            let joined = known_join(&keyed.dir).map(|task| self.place(&task.dir_name()));
            self.places[row.key as usize].joined = joined;
        }
        let Some(named) = &keyed.names else { return };
        let task = self.place(&named.dir_name());
        if self.is_removed(row) {
            // With the flow went what it had joined.
            return;
        }
        let flow = &mut self.places[row.key as usize];
        if *flow.joined.get_or_insert(task) != task {
            row.marks |= ELSEWHERE;
            self.elsewhere.insert(row.id, task);
        }
    }

    /// What the entry does to its task's life.
    fn live(&mut self, row: &Row, keyed: &Keyed, letter: Option<Buried>) {
        let home = self.places[row.key as usize].joined.unwrap_or(row.key);
        let is_gone = self.places[home as usize].removed.is_some_and(|until| row.id <= until);
        if is_gone || self.is_removed(row) {
            return;
        }
        let life = &mut self.places[home as usize].life;
        if row.id <= self.began {
            life.unsure = true;
            return;
        }
        // One that was put into the dead letter by hand, or as poison, left no word of what ran.
        let given_up = !keyed.bad && letter.is_some_and(|letter| !letter.refused);
        life.unsure |= given_up;
        life.documented |= !keyed.bad && !given_up;
        life.runs |= keyed.of_task && !keyed.bad && !given_up && keyed.stage.is_none();
        if let Some(stage) = keyed.stage {
            life.documented = true;
            match stage {
                Stage::Created => drop(life.created.get_or_insert(keyed.timestamp)),
                Stage::Started => {
                    life.runs = true;
                    life.started.get_or_insert(keyed.timestamp);
                }
                Stage::Ended { failed } => life.ended = Some((keyed.timestamp, failed)),
            }
        }
    }

    /// An entry behind the published position: where its effects may stand already.
    pub(super) fn take_beyond(&mut self, entry: &Entry) {
        let Ruling::Keyed(keyed) = rule(entry, self.event_max) else { return };
        let key = self.place(&keyed.dir) as usize;
        self.places[key].goes_on = true;
        if let Some(named) = &keyed.names {
            let task = self.place(&named.dir_name());
            let flow = &mut self.places[key];
            if flow.joined.is_none() {
                (flow.joined, flow.joined_late) = (Some(task), true);
            }
        }
        if let Some(home) = self.places[key].joined {
            self.places[home as usize].goes_on = true;
        }
    }

    /// The place of a directory, made if it is new.
    fn place(&mut self, dir: &str) -> u32 {
        if let Some(at) = self.index.get(dir) {
            return *at;
        }
        let at = u32::try_from(self.places.len()).unwrap_or(NOWHERE);
        let removed = match self.removed.is_empty() {
            true => None,
            false => self.removed.get(&tombstones::mark(dir)).copied(),
        };
        let place = Place {
            dir: dir.into(),
            joined: None,
            joined_late: false,
            goes_on: false,
            life: Life::default(),
            removed,
            resumed: None,
        };
        self.places.push(place);
        self.index.insert(dir.into(), at);
        at
    }

    /// Forgets what was seen of rows that stand at these places.
    pub(super) fn forget(&mut self, places: &HashSet<u32>) {
        for number in 0..self.rows.len() {
            if self.home(&self.rows[number]).is_some_and(|home| places.contains(&home)) {
                self.rows[number].forget();
            }
        }
    }

    /// The place of a directory that entries name.
    pub(super) fn find(&self, dir: &str) -> Option<u32> {
        self.index.get(dir).copied()
    }

    /// The row of an id.
    pub(super) fn row(&self, id: StreamId) -> Option<usize> {
        self.rows.binary_search_by_key(&id, |row| row.id).ok()
    }

    /// Where a row stands, as far as joins up to the published position tell.
    pub(super) fn home(&self, row: &Row) -> Option<u32> {
        if row.key == NOWHERE {
            return None;
        }
        if row.has(ELSEWHERE) {
            return self.elsewhere.get(&row.id).copied();
        }
        let place = &self.places[row.key as usize];
        Some(place.joined.filter(|_| !place.joined_late).unwrap_or(row.key))
    }

    /// Whether the row's key was removed with it: nothing of it stands anywhere.
    pub(super) fn is_removed(&self, row: &Row) -> bool {
        self.places.get(row.key as usize).and_then(|place| place.removed).is_some_and(|until| row.id <= until)
    }

    /// Directories that were removed since the entries were taken in.
    pub(super) fn note_removed(&mut self, removed: &HashMap<u64, StreamId>) {
        if removed.is_empty() {
            return;
        }
        for place in &mut self.places {
            place.removed = removed.get(&tombstones::mark(&place.dir)).copied().max(place.removed);
        }
    }

    /// Whether a row may stand at a place.
    pub(super) fn may_stand(&self, row: &Row, at: u32) -> bool {
        let late = || {
            let place = &self.places[row.key as usize];
            !row.has(ELSEWHERE) && place.joined_late && place.joined == Some(at)
        };
        self.home(row) == Some(at) || (row.key != NOWHERE && late())
    }

    /// Letters of entries at or below a position that no entry was met for.
    pub(super) fn strange_letters(&self) -> impl Iterator<Item = StreamId> {
        self.letters.iter().filter(|(_, letter)| !letter.met).map(|(id, _)| *id)
    }
}

fn checksum(fields: &[(bytes::Bytes, bytes::Bytes)]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for (name, value) in fields {
        crc.update(&(name.len() as u64).to_le_bytes());
        crc.update(&(value.len() as u64).to_le_bytes());
        crc.update(name);
        crc.update(value);
    }
    crc.finalize()
}
