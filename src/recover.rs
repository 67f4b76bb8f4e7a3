//! Start and take-over: what a predecessor journaled and did not finish is applied, checkpointed under the new epoch, and its
//! segments removed. Only files named in replayed records are ever cut, and only beyond their journaled end.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    committer::{
        files::{FilesError, TaskFiles},
        table::Table,
        tombstones::{self, Tombstone},
    },
    event::{Key, StreamId},
    fault, folder,
    journal::{
        JournalError,
        record::{Change, FileName, FileOp},
        replay::{Checkpoint, Found},
    },
    position::Position,
    source::{DeadLetter, SourceError},
};

/// Changes applied at once during a replay.
const BATCH: usize = 256;

/// Why nothing could be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The journal.
    #[error("cannot read the journal")]
    Journal(#[from] JournalError),
    /// The task files.
    #[error("cannot bring the task files up to the journal")]
    Files(#[from] FilesError),
    /// The dead letters of what was replayed.
    #[error(transparent)]
    Dead(SourceError),
}

/// What stands after recovery.
#[derive(Debug)]
pub struct Recovered {
    /// The durable position; `None` when there never was a journal.
    pub position: Option<Position>,
    /// Sequence number of the next record.
    pub next_sequence: u64,
    /// Why the journal that was there was not used, when it was an old copy.
    pub old: Option<String>,
}

/// Highest epoch that a state folder knows of.
pub fn epoch_of(state_dir: &Path) -> Result<u64, RecoverError> {
    Ok(Found::look(state_dir)?.epoch)
}

/// Why a journal is older than what was made with it, if it is: replayed over files that have gone on since, it would take lines
/// away. `published` is a position that only an owner of this stream can have published.
fn is_old(found: &Found, files: &TaskFiles, published: Option<StreamId>) -> Result<Option<String>, RecoverError> {
    let mut position = found.checkpoint.as_ref().map(|checkpoint| checkpoint.position.clone()).unwrap_or_default();
    let mut keys = HashSet::new();
    let replayed = found.replay(|_, record| -> Result<(), RecoverError> {
        position.apply(&record.step);
        keys.extend(record.changes.into_iter().map(|change| change.key));
        Ok(())
    })?;
    if replayed.records == 0 && found.checkpoint.is_none() {
        return Ok(None);
    }
    if let Some(published) = published.filter(|published| *published > position.high) {
        return Ok(Some(format!("it ends at {}, and the stream was published up to {published}", position.high)));
    }
    let last = replayed.next_sequence - 1;
    for key in &keys {
        if let Some(sequence) = files.state_sequence(key)?.filter(|sequence| *sequence > last) {
            return Ok(Some(format!("it ends at record {last}, and {key} has the state of record {sequence}")));
        }
    }
    Ok(None)
}

/// The first record of a journal that follows none that is known: above all that a lost one can have had, for `.state`s bear
/// their numbers.
fn first_sequence() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(1)
}

/// Replays the journal into the files. With it every effect up to the returned position stands there, durably. `bury` copies the
/// entries that the replayed records call dead, as far as their copies are missing: before the records go away, for nothing
/// else knows of them.
pub fn recover(
    state_dir: &Path,
    epoch: u64,
    files: &mut TaskFiles,
    published: Option<StreamId>,
    bury: impl FnOnce(&[DeadLetter]) -> Result<(), SourceError>,
) -> Result<Recovered, RecoverError> {
    fault::pass("recover::begin");
    let found = Found::look(state_dir)?;
    if let Some(why) = is_old(&found, files, published)? {
        let aside = found.set_aside(state_dir, epoch)?;
        tracing::error!(why, aside = %aside.display(), "the journal is an old copy and was set aside: going on from the published position");
        return Ok(Recovered { position: None, next_sequence: first_sequence(), old: Some(why) });
    }
    if found.is_empty() {
        return Ok(Recovered { position: None, next_sequence: first_sequence(), old: None });
    }
    let mut replay = Replay {
        position: found.checkpoint.as_ref().map(|checkpoint| checkpoint.position.clone()),
        table: Table::new(files.sibling("r")?),
        files,
        ends: BTreeMap::new(),
        dead: Vec::new(),
        waiting: Vec::new(),
    };
    let replayed = found.replay(|sequence, record| -> Result<(), RecoverError> {
        if fault::mutated("mutation::no_replay") {
            replay.position.get_or_insert_default().apply(&record.step);
            return Ok(());
        }
        replay.position.get_or_insert_default().apply(&record.step);
        for change in record.changes {
            replay.change(change, sequence)?;
        }
        replay.dead.extend(record.dead.into_iter().map(|note| DeadLetter {
            id: note.id,
            fields: None,
            reason: note.reason,
            code: note.code,
            plugin: note.plugin,
            attempts: note.attempts,
        }));
        Ok(())
    })?;
    for damage in &replayed.damage {
        tracing::error!(damage, "journal is damaged; what it held there is lost if the stream no longer has it");
    }
    let Recovering { mut position, dead, removed, cut } = replay.finish(replayed.next_sequence - 1)?;
    if !dead.is_empty() {
        fault::pass("recover::bury");
        bury(&dead).map_err(RecoverError::Dead)?;
    }
    tombstones::append(state_dir, &removed)?;
    fault::pass("recover::checkpoint");
    if let Some(position) = &position {
        let checkpoint = Checkpoint { epoch, sequence: replayed.next_sequence - 1, position: position.clone() };
        checkpoint.write(state_dir)?;
    }
    found.remove(epoch)?;
    fault::pass("recover::removed");
    if replayed.records > 0 {
        tracing::info!(records = replayed.records, cut, "journal replayed");
    }
    if let Some(position) = position.as_mut().filter(|_| fault::mutated("mutation::watermark")) {
        (position.low, position.above) = (position.high, 0);
        position.holes.clear();
    }
    Ok(Recovered { position, next_sequence: replayed.next_sequence, old: None })
}

struct Replay<'f> {
    position: Option<Position>,
    table: Table,
    files: &'f mut TaskFiles,
    /// Journaled ends of the files that records name.
    ends: BTreeMap<Key, BTreeMap<FileName, u64>>,
    dead: Vec<DeadLetter>,
    waiting: Vec<Change>,
}

struct Recovering {
    position: Option<Position>,
    dead: Vec<DeadLetter>,
    removed: Vec<Tombstone>,
    cut: u64,
}

impl Replay<'_> {
    fn change(&mut self, change: Change, sequence: u64) -> Result<(), RecoverError> {
        self.table.replay(&change, sequence)?;
        for op in &change.files {
            let ends = self.ends.entry(change.key.clone()).or_default();
            match op {
                FileOp::Append { file, offset, bytes } => {
                    ends.insert(file.clone(), offset + bytes.len() as u64);
                }
                FileOp::Replace { file, .. } | FileOp::Remove { file } => {
                    ends.remove(file);
                }
                FileOp::Clear { .. } => ends.clear(),
            }
        }
        self.waiting.push(change);
        if self.waiting.len() >= BATCH { self.apply() } else { Ok(()) }
    }

    fn apply(&mut self) -> Result<(), RecoverError> {
        self.files.apply(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }

    fn finish(mut self, sequence: u64) -> Result<Recovering, RecoverError> {
        self.apply()?;
        fault::pass("recover::applied");
        let mut cut = 0;
        for (key, ends) in std::mem::take(&mut self.ends) {
            cut += self.files.cut(&key, ends)?;
        }
        fault::pass("recover::states");
        let states = self.table.take_dirty();
        if !states.is_empty() {
            self.files.store(&states, sequence)?;
        }
        Ok(Recovering { position: self.position, dead: self.dead, removed: self.table.take_removed(), cut })
    }
}

/// In a state folder: the position that was taken over where this service began on a group that others had read for.
const BEGAN: &str = "began";

/// Notes where the service began, so that nobody looks for what others had before. Once, when there is no journal yet.
pub fn note_beginning(state_dir: &Path, at: StreamId) -> std::io::Result<()> {
    std::fs::write(state_dir.join(BEGAN), format!("{at}\n"))
}

/// Where it began; `None`: at the stream's first entry, or it was never noted.
pub fn beginning(state_dir: &Path) -> Option<StreamId> {
    std::fs::read_to_string(state_dir.join(BEGAN)).ok()?.trim().parse().ok()
}

/// A stream's state folder, made if missing, mode 0750.
pub fn state_dir(root: &Path, state_name: &str) -> std::io::Result<PathBuf> {
    let dir = root.join(state_name);
    folder::make(&dir, 0o750)?;
    Ok(dir)
}
