//! Which entry a process died of. `suspect.json` in the stream's state folder says where the owner began, and whether it ended
//! by itself. After one death without progress (the published position did not move) the owner notes how far it reads; after
//! two it runs what was read then one entry at a time, each noted before it runs; three deaths with the same entry in hand
//! make that poison.
//!
//! What is evidence: a process that was gone without a word, while the note named exactly this entry. What is none: how often
//! an entry was delivered; an end after SIGTERM, however violent; a reboot; an owner that was replaced and may live. Any
//! progress clears all of it. What remains possible: somebody kills the process five times with SIGKILL alone, each time
//! before it gets on by one entry, and three times the same healthy entry happens to be in hand. It can be replayed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{event::StreamId, position::Position};

/// Deaths without progress after which entries run one at a time.
const CAREFUL_AFTER: u32 = 2;
/// Deaths with the same entry in hand after which it is poison.
const POISON_AFTER: u32 = 3;
const FILE: &str = "suspect.json";

/// How entries are to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As they come.
    Calm,
    /// As they come, after it is noted how far.
    Wary,
    /// One at a time, each noted before it runs.
    Careful,
}

/// What this ownership knows of the ones before.
#[derive(Debug)]
pub struct Suspicion {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    note: Note,
    /// Entries up to it may have been in hand when a process died.
    until: StreamId,
}

/// What stands in the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Note {
    /// The published position when it was written.
    low: StreamId,
    /// Deaths since the position last moved.
    deaths: u32,
    /// The highest entry that was handed on by a wary owner.
    taken: Option<StreamId>,
    /// The entry that runs alone.
    in_hand: Option<StreamId>,
    /// The entry that ran alone when a process died, and how often in a row.
    suspect: Option<(StreamId, u32)>,
    /// The owner was told to stop, or ended by itself.
    ended: bool,
    host: String,
    boot_id: String,
}

// === impl Suspicion ===

impl Suspicion {
    /// Looks at what the owner before left, and notes that this one begins at `position`. `is_dead`: that owner is known to be
    /// dead, by the lock on the folder.
    pub fn begin(dir: &Path, position: &Position, is_dead: bool) -> io::Result<Self> {
        let path = dir.join(FILE);
        let before: Option<Note> = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .inspect_err(|error| tracing::warn!(%error, "suspect.json cannot be read: as if nobody had died"))
                .ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let (host, boot_id) = (read("/proc/sys/kernel/hostname"), read("/proc/sys/kernel/random/boot_id"));
        let state = State::after(before.unwrap_or_default(), position, is_dead, host, boot_id);
        if state.mode != Mode::Calm {
            let deaths = state.note.deaths;
            tracing::warn!(deaths, mode = ?state.mode, "a process died before the position moved");
        }
        let suspicion = Self { dir: dir.to_owned(), state: Mutex::new(state) };
        suspicion.write(&suspicion.lock().note)?;
        Ok(suspicion)
    }

    /// The entry that is poison, and how many deaths say so.
    pub fn poison(&self) -> Option<(StreamId, u32)> {
        self.lock().note.suspect.filter(|(_, deaths)| *deaths >= POISON_AFTER)
    }

    /// How entries are to be run now.
    pub fn mode(&self) -> Mode {
        self.lock().mode
    }

    /// Notes how far entries are about to be handed on.
    pub fn taken(&self, last: StreamId, low: StreamId) -> io::Result<()> {
        let mut state = self.lock();
        if low > state.note.low {
            // It got on: nothing is suspected any more.
            state.mode = Mode::Calm;
            return Ok(());
        }
        let note = Note { taken: state.note.taken.max(Some(last)), ..state.note.clone() };
        self.write(&note)?;
        state.note = note;
        Ok(())
    }

    /// Notes the entry that is about to run alone.
    pub fn in_hand(&self, id: StreamId, low: StreamId) -> io::Result<()> {
        let mut state = self.lock();
        if id > state.until {
            state.mode = Mode::Calm;
            let note = Note { low, deaths: 0, in_hand: None, suspect: None, taken: None, ..state.note.clone() };
            self.write(&note)?;
            state.note = note;
            return Ok(());
        }
        let suspect = state.note.suspect.filter(|(suspect, _)| *suspect == id || low <= state.note.low);
        let note = Note { low, in_hand: Some(id), suspect, ..state.note.clone() };
        self.write(&note)?;
        state.note = note;
        Ok(())
    }

    /// An entry that ran alone is through.
    pub fn passed(&self, id: StreamId) {
        let mut state = self.lock();
        if id >= state.until {
            state.mode = Mode::Calm;
        }
    }

    /// The owner was told to stop: what happens from now on is no evidence.
    pub fn stopping(&self) {
        self.close();
    }

    /// The ownership ended by itself.
    pub fn ended(&self) {
        self.close();
    }

    fn close(&self) {
        let mut state = self.lock();
        if state.note.ended {
            return;
        }
        state.note.ended = true;
        if let Err(error) = self.write(&state.note) {
            tracing::warn!(%error, "cannot note that the owner ends: it may look like a death");
        }
    }

    /// By a rename, and without a sync: what a dead process wrote stands there without one, and what a dead machine did not
    /// write is no evidence.
    fn write(&self, note: &Note) -> io::Result<()> {
        let new = self.dir.join(format!("{FILE}.new"));
        std::fs::write(&new, serde_json::to_vec(note)?)?;
        std::fs::rename(&new, self.dir.join(FILE))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Values are replaced whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// What to make of the note of the owner before.
    fn after(before: Note, position: &Position, is_dead: bool, host: String, boot_id: String) -> Self {
        let rebooted = before.host == host && before.boot_id != boot_id;
        let died = !before.host.is_empty() && !before.ended && is_dead && !rebooted;
        let mut note = Note { low: position.low, ended: false, host, boot_id, in_hand: None, ..before.clone() };
        if position.low != before.low {
            (note.deaths, note.taken, note.suspect) = (0, None, None);
        } else if died {
            note.deaths += 1;
            note.suspect = match (before.in_hand, before.suspect) {
                (Some(id), Some((suspect, deaths))) if id == suspect => Some((id, deaths + 1)),
                (Some(id), _) => Some((id, 1)),
                (None, suspect) => suspect,
            };
        }
        let mode = match note.deaths {
            0 => Mode::Calm,
            deaths if deaths < CAREFUL_AFTER => Mode::Wary,
            _ => Mode::Careful,
        };
        let until = note.taken.unwrap_or_default().max(position.high);
        Self { mode, note, until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> StreamId {
        StreamId { ms, seq: 0 }
    }

    fn at(low: u64) -> Position {
        Position { low: id(low), high: id(low), ..Position::default() }
    }

    /// A start in a folder.
    fn start(dir: &Path, low: u64) -> Suspicion {
        Suspicion::begin(dir, &at(low), true).unwrap()
    }

    /// Two deaths without progress, with entries up to 9 read.
    fn twice_dead(dir: &Path) -> Suspicion {
        assert_eq!(start(dir, 1).mode(), Mode::Calm);
        let second = start(dir, 1);
        assert_eq!(second.mode(), Mode::Wary);
        second.taken(id(9), id(1)).unwrap();
        let third = start(dir, 1);
        assert_eq!((third.mode(), third.poison()), (Mode::Careful, None));
        third
    }

    #[test]
    fn three_deaths_in_a_row_with_the_same_entry_in_hand_are_poison() {
        let dir = tempfile::tempdir().unwrap();
        let careful = twice_dead(dir.path());
        careful.in_hand(id(2), id(1)).unwrap();
        careful.in_hand(id(3), id(2)).unwrap();
        for deaths in 1..=3 {
            let again = start(dir.path(), 2);
            assert_eq!(again.mode(), Mode::Careful);
            assert_eq!(again.poison(), (deaths == 3).then_some((id(3), 3)), "{deaths}");
            again.in_hand(id(3), id(2)).unwrap();
        }
        // It is passed: what follows is judged by itself, and behind what had been read nothing is careful.
        let last = start(dir.path(), 2);
        last.in_hand(id(3), id(2)).unwrap();
        last.in_hand(id(4), id(3)).unwrap();
        assert_eq!((last.poison(), last.mode()), (None, Mode::Careful));
        last.in_hand(id(10), id(9)).unwrap();
        assert_eq!(last.mode(), Mode::Calm);
        assert_eq!(start(dir.path(), 12).mode(), Mode::Calm);
    }

    #[test]
    fn progress_a_stop_a_reboot_and_an_owner_that_may_live_are_no_evidence() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..20 {
            // Killed under load, again and again, each time after it got on.
            let suspicion = start(dir.path(), n);
            assert_eq!(suspicion.mode(), Mode::Calm);
        }
        let careful = twice_dead(dir.path());
        careful.in_hand(id(2), id(1)).unwrap();
        for n in 0..10 {
            let again = match n % 3 {
                0 => {
                    careful.stopping();
                    start(dir.path(), 1)
                }
                1 => Suspicion::begin(dir.path(), &at(1), false).unwrap(),
                _ => {
                    let path = dir.path().join(FILE);
                    let mut note: Note = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
                    note.boot_id = "before".to_owned();
                    std::fs::write(&path, serde_json::to_vec(&note).unwrap()).unwrap();
                    start(dir.path(), 1)
                }
            };
            assert_eq!((again.mode(), again.poison()), (Mode::Careful, None), "{n}");
            again.in_hand(id(2), id(1)).unwrap();
            again.stopping();
        }
    }
}
