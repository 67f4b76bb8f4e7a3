//! The committer's memory of keys: lengths, documents and plugin states as journaled, ahead of `.state` by what the next
//! checkpoint will write.

use std::{collections::HashMap, time::SystemTime};

use super::{
    files::{FilesError, TaskFiles},
    tombstones::{Tombstone, Tombstones},
};
use crate::{
    event::{Key, StreamId},
    journal::record::{Change, FileOp},
    layout::key_state::KeyState,
};

/// Most keys that are kept when nothing forces it; beyond it, clean ones are forgotten after each checkpoint.
const KEYS_MAX: usize = 16_384;

/// Keys with changes, and some without.
#[derive(Debug)]
pub struct Table {
    files: TaskFiles,
    /// Whether everything journaled stands in the files of keys that are not here.
    settled: bool,
    keys: HashMap<Key, Entry>,
    /// Directories that were removed.
    removed: Tombstones,
    /// Those of which no checkpoint knows yet.
    news: Vec<Tombstone>,
}

/// A key as journaled.
#[derive(Debug, Default)]
pub struct Entry {
    /// Its state.
    pub state: KeyState,
    /// The journal's last record that changed it.
    pub changed: u64,
    /// The generation that last processed it, to note a new one once.
    pub generation: Option<u64>,
    dirty: bool,
}

impl Table {
    /// An empty table over `LOGS_DIR`, for a replay.
    pub fn new(files: TaskFiles) -> Self {
        Self { files, settled: false, keys: HashMap::new(), removed: Tombstones::default(), news: Vec::new() }
    }

    /// The same after it: what a key's `.state` says is held against its files. A key whose directory was removed is known as
    /// such.
    pub fn settled(files: TaskFiles, removed: Tombstones) -> Self {
        Self { settled: true, removed, ..Self::new(files) }
    }

    /// The files, to read what stands in them.
    pub fn files(&self) -> &TaskFiles {
        &self.files
    }

    /// A key's entry, loaded when it is not in memory.
    pub fn entry(&mut self, key: &Key) -> Result<&mut Entry, FilesError> {
        if !self.keys.contains_key(key) {
            let mut state = if self.settled { self.files.load_settled(key)? } else { self.files.load(key)? };
            if state.is_empty() && self.removed.contains(key) {
                state = KeyState::removed();
            }
            self.keys.insert(key.clone(), Entry { state, ..Entry::default() });
        }
        Ok(self.keys.entry(key.clone()).or_default())
    }

    /// Marks a key as changed by a record.
    pub fn mark(&mut self, key: &Key, sequence: u64) {
        if let Some(entry) = self.keys.get_mut(key) {
            (entry.changed, entry.dirty) = (sequence, true);
        }
    }

    /// Takes over a replayed change.
    pub fn replay(&mut self, change: &Change, sequence: u64) -> Result<(), FilesError> {
        let cleared = change.files.iter().find_map(FileOp::cleared);
        if let Some(until) = cleared {
            self.bury(Tombstone::of(&change.key, until));
        }
        let entry = self.entry(&change.key)?;
        if let Err(error) = entry.state.apply(change) {
            // The record's checksum held, so this is another version's model: the files are right all the same.
            tracing::error!(key = %change.key, %error, "documents in the journal cannot be read");
        }
        self.mark(&change.key, sequence);
        Ok(())
    }

    /// Whether everything of the key stands in a checkpoint and was written at that time, and its directory may go away. Nothing
    /// is loaded for it: a key that is not in memory is in a checkpoint.
    pub fn may_clear(&self, key: &Key, checkpointed: u64, written: SystemTime) -> Result<bool, FilesError> {
        let is_settled = |entry: &Entry| !entry.dirty && entry.changed <= checkpointed;
        if !self.keys.get(key).is_none_or(is_settled) || self.files.written(key)? != Some(written) {
            return Ok(false);
        }
        self.files.may_clear(key).map(|()| true)
    }

    /// Whether the key has a directory, or will have one.
    pub fn has(&self, key: &Key) -> Result<bool, FilesError> {
        match self.keys.get(key) {
            Some(entry) => Ok(!entry.state.is_empty()),
            None => Ok(self.files.written(key)?.is_some()),
        }
    }

    /// Forgets what is known of a key: its directory goes away.
    pub fn clear(&mut self, key: &Key, until: StreamId) {
        self.keys.insert(key.clone(), Entry { state: KeyState::removed(), ..Entry::default() });
        self.bury(Tombstone::of(key, until));
    }

    fn bury(&mut self, tombstone: Tombstone) {
        self.removed.add(tombstone);
        self.news.push(tombstone);
    }

    /// Directories that were removed since the last call.
    pub fn take_removed(&mut self) -> Vec<Tombstone> {
        std::mem::take(&mut self.news)
    }

    /// The `.state`s to write: every key changed since the last call that has anything.
    pub fn take_dirty(&mut self) -> Vec<(Key, Vec<u8>)> {
        let dirty = self.keys.iter_mut().filter(|(_, entry)| entry.dirty);
        dirty
            .filter_map(|(key, entry)| {
                entry.dirty = false;
                (!entry.state.is_empty()).then(|| (key.clone(), entry.state.to_bytes()))
            })
            .collect()
    }

    /// Forgets keys whose state stands in a checkpoint, when there are many.
    pub fn trim(&mut self, checkpointed: u64) {
        if self.keys.len() > KEYS_MAX {
            self.keys.retain(|_, entry| entry.dirty || entry.changed > checkpointed);
        }
    }

    /// Every key in memory with its lengths.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.keys.iter()
    }
}
