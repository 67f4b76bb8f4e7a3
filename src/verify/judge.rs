//! Compares what stands in files with what must: each sighting of an id, and afterwards what was seen nowhere.

use std::collections::HashMap;

use super::{
    expected::{ELSEWHERE, Expected, GAP, LETTER, NOWHERE, Row},
    finding::{Findings, Kind},
    record::Told,
    report::Tally,
    rules::File,
};
use crate::event::StreamId;

/// Reasons of gap records whose entry is in the dead letter stream, too. A plugin's own codes for dropping have other names.
const DEAD_REASONS: [&str; 2] = ["plugin_failed", "refused"];

/// Stands for a file in findings about dead letters.
const LETTERS: &str = "dead letter";

/// What may be said of ids.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// The published position: every entry up to it is judged.
    pub(super) until: StreamId,
    /// Entries below were not expected by the caller.
    pub(super) since: StreamId,
    /// Where the service began on a group that others had read for.
    pub(super) began: StreamId,
    /// The oldest entry that is left.
    pub(super) first: Option<StreamId>,
    /// The newest one that was removed by its id.
    pub(super) deleted: StreamId,
    /// Letters were removed: one that is missing may have been there.
    pub(super) letters_removed: bool,
    /// Other streams wrote here, or this one was replaced, or lost entries: an id that it does not have may have been one.
    pub(super) others: bool,
}

/// Where an id was seen.
#[derive(Clone, Copy)]
pub(super) struct Spot<'d> {
    pub(super) dir: &'d str,
    /// The directory's place, if entries name it.
    pub(super) place: Option<u32>,
    pub(super) file: File,
}

/// What was seen last in a file.
#[derive(Default)]
pub(super) struct Order {
    /// Of all, but in the file that flows share with their task.
    last: Option<StreamId>,
    by_key: HashMap<u32, StreamId>,
}

/// What a directory's ids come to.
#[derive(Default)]
pub(super) struct Seen {
    /// Ids that the stream has no more, to find doubles among them.
    pub(super) unknown: Vec<StreamId>,
    /// Whether anything shows that the service made the directory.
    pub(super) explained: bool,
    /// The smallest id.
    pub(super) lowest: Option<StreamId>,
}

/// An id behind the published position.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Beyond {
    pub(super) id: StreamId,
    pub(super) dir: Box<str>,
    pub(super) file: &'static str,
}

/// The judge.
pub(super) struct Judge<'a> {
    pub(super) expected: &'a mut Expected,
    pub(super) scope: Scope,
    pub(super) findings: Findings,
    pub(super) tally: &'a mut Tally,
    pub(super) beyond: Vec<Beyond>,
}

impl Judge<'_> {
    pub(super) fn add(&mut self, kind: Kind, at: Spot<'_>, id: StreamId, detail: impl Into<String>) {
        self.findings.add(kind, at.dir, at.file.name(), Some(id), detail);
    }

    /// Takes note of an id in a file. `told` is `None` for one in a list of ids. Returns its row.
    pub(super) fn sight(
        &mut self,
        at: Spot<'_>,
        id: StreamId,
        told: Option<&Told>,
        order: &mut Order,
        seen: &mut Seen,
    ) -> Option<usize> {
        self.tally.records += 1;
        seen.lowest = Some(seen.lowest.map_or(id, |lowest| lowest.min(id)));
        // A stream that was replaced may have given an id twice: the record of the earlier entry is not this one's.
        let is_other = |row: &Row| {
            self.scope.others && told.is_some_and(|told| (told.timestamp, told.label) != (row.timestamp, row.label))
        };
        let known = self.expected.row(id).filter(|number| !is_other(&self.expected.rows[*number]));
        let Some(number) = known else {
            self.strange(at, id, order, seen);
            return None;
        };
        seen.explained = true;
        let row = &mut self.expected.rows[number];
        let before = row.see();
        let row = *row;
        let last = match at.file {
            File::Flow => order.by_key.entry(row.key).or_insert(StreamId::MIN),
            _ => order.last.get_or_insert(StreamId::MIN),
        };
        let (disordered, doubled) = (id < *last, before > 0);
        *last = id.max(*last);
        if doubled {
            self.add(Kind::Doubled, at, id, "stands here and elsewhere");
        } else if disordered {
            self.add(Kind::OutOfOrder, at, id, "stands behind a later one");
        }
        if self.expected.is_removed(&row) && !self.scope.others {
            match at.place == Some(row.key) {
                true => self.add(Kind::Foreign, at, id, "was removed by retention, and stands here"),
                // What a flow gave to a task goes with that one.
                false => self.tally.unknown("records of flows that retention removed"),
            }
            return Some(number);
        }
        let gap = told.is_some_and(|told| told.gap.is_some());
        if let Some(home) = self.expected.home(&row).filter(|_| doubled || at.place != self.expected.home(&row)) {
            // Whatever is said of it here depends on what stands there.
            self.findings.suspect(&self.expected.places[home as usize].dir);
        }
        let is_home = at.place.is_some_and(|place| self.expected.may_stand(&row, place));
        if !(doubled || is_home && row.stands_in(gap) == at.file) {
            let home = self.home_of(number, gap);
            self.add(Kind::Misplaced, at, id, format!("belongs to {home}"));
            return Some(number);
        }
        if let Some(told) = told {
            self.compare(at, number, told);
        } else if row.has(GAP) {
            self.add(Kind::WrongRecord, at, id, "is absorbed, and must be a gap");
        }
        Some(number)
    }

    /// A record with its entry.
    fn compare(&mut self, at: Spot<'_>, number: usize, told: &Told) {
        let row = self.expected.rows[number];
        let id = row.id;
        if row.key == NOWHERE {
            return;
        }
        match &told.gap {
            None if row.has(LETTER) => {
                self.add(Kind::Doubled, at, id, "stands as a record and in the dead letter stream");
            }
            None if row.has(GAP) => {
                self.add(Kind::WrongRecord, at, id, "is a record, and must be a gap: its entry cannot be decoded");
            }
            Some(reason) if !row.has(GAP) && DEAD_REASONS.contains(&&**reason) => self.no_letter(id, row.key),
            _ => {}
        }
        if told.timestamp != row.timestamp {
            self.add(Kind::WrongRecord, at, id, "has another timestamp than its entry");
        }
        if told.label != row.label {
            self.add(Kind::WrongRecord, at, id, "has another type than its entry");
        }
    }

    /// An id that the stream does not have up to the published position.
    fn strange(&mut self, at: Spot<'_>, id: StreamId, order: &mut Order, seen: &mut Seen) {
        if id > self.scope.until && !self.scope.others {
            seen.explained = true;
            self.beyond.push(Beyond { id, dir: at.dir.into(), file: at.file.name() });
            return;
        }
        let gone = self.scope.first.is_none_or(|first| id < first) || id <= self.scope.deleted;
        if !gone && !self.scope.others {
            self.add(Kind::Foreign, at, id, "has an id that the stream never had");
            return;
        }
        seen.explained = true;
        self.tally.unknown(if gone {
            "records whose entries the stream has no more"
        } else {
            "records that may be of a stream that is gone"
        });
        if self.scope.others {
            seen.unknown.push(id);
            return;
        }
        // Flows share a file with their task, and whose an entry was is not known any more.
        if at.file != File::Flow {
            let last = order.last.get_or_insert(StreamId::MIN);
            if id < *last {
                self.add(Kind::OutOfOrder, at, id, "stands behind a later one");
            }
            *last = id.max(*last);
        }
        seen.unknown.push(id);
    }

    /// Where a row belongs, as a path.
    pub(super) fn home_of(&self, number: usize, gap: bool) -> String {
        let row = &self.expected.rows[number];
        match self.expected.home(row) {
            None => "the dead letter stream only".to_owned(),
            Some(home) => {
                format!("{}/{}", self.expected.places[home as usize].dir, row.stands_in(gap).name())
            }
        }
    }

    fn no_letter(&mut self, id: StreamId, key: u32) {
        self.letter(id, key, "is not in the dead letter stream");
    }

    fn letter(&mut self, id: StreamId, key: u32, what: &str) {
        let is_absence = what.starts_with("is not");
        if is_absence && self.scope.letters_removed {
            self.tally.unknown("dead letters that may have been removed");
            return;
        }
        let kind = match what {
            _ if is_absence => Kind::Missing,
            _ if what.contains("more than once") => Kind::Doubled,
            _ => Kind::WrongRecord,
        };
        let dir = match self.expected.places.get(key as usize) {
            Some(place) => place.joined.map_or(&place.dir, |task| &self.expected.places[task as usize].dir).clone(),
            None => "".into(),
        };
        self.findings.add(kind, &dir, LETTERS, Some(id), what);
    }

    /// At the end of a directory: ids that stand twice in it and are not the stream's any more.
    pub(super) fn doubles(&mut self, dir: &str, seen: &mut Seen) {
        seen.unknown.sort_unstable();
        for pair in seen.unknown.windows(2).filter(|pair| pair[0] == pair[1]) {
            self.findings.add(Kind::Doubled, dir, "", Some(pair[0]), "stands more than once in this directory");
        }
        seen.unknown = Vec::new();
    }

    /// After all directories: entries that were seen nowhere. `of`: whether a place is looked at.
    pub(super) fn missing(&mut self, of: &dyn Fn(u32) -> bool) {
        for number in 0..self.expected.rows.len() {
            let row = self.expected.rows[number];
            let Some(home) = self.expected.home(&row) else { continue };
            if row.seen() > 0 || row.id < self.scope.since || !of(home) {
                continue;
            }
            if row.id <= self.scope.began {
                self.tally.unknown("entries from before the service began on its group");
                continue;
            }
            let place = &self.expected.places[home as usize];
            if self.expected.is_removed(&row) || place.removed.is_some_and(|until| row.id <= until) {
                self.tally.unknown("entries of tasks and flows that retention removed");
                continue;
            }
            if place.resumed.is_some_and(|resumed| row.id < resumed) {
                self.tally.unknown("entries of tasks that were removed and resumed");
                continue;
            }
            let (dir, file) = (place.dir.clone(), row.stands_in(row.has(GAP)).name());
            let what = if row.has(GAP) { "its gap record stands nowhere" } else { "stands nowhere" };
            self.findings.add(Kind::Missing, &dir, file, Some(row.id), what);
            if row.has(ELSEWHERE) {
                // Its flow's directory is looked at again, too.
                let flow = self.expected.places[row.key as usize].dir.clone();
                self.findings.suspect(&flow);
            }
        }
    }

    /// After all directories: letters that are not as they must be.
    pub(super) fn letters(&mut self) {
        for (id, key, what) in self.expected.letters_wrong.clone() {
            if id >= self.scope.since && id > self.scope.began {
                self.letter(id, key, what);
            }
        }
        if self.scope.others {
            return;
        }
        let Scope { first, until, deleted, .. } = self.scope;
        let left = |id: &StreamId| *id > deleted && (*id > until || first.is_some_and(|first| *id >= first));
        let mut strange: Vec<StreamId> = self.expected.strange_letters().filter(left).collect();
        strange.sort_unstable();
        for id in strange {
            if id > until {
                self.beyond.push(Beyond { id, dir: "".into(), file: LETTERS });
            } else {
                self.findings.add(Kind::Foreign, "", LETTERS, Some(id), "is there, and never was in the stream");
            }
        }
    }
}
