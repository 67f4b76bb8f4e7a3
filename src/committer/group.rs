//! Turns slices into one journal record: gives appends their offsets, applies lifecycle events to documents, moves a flow's
//! files at its join.

use std::collections::{BTreeMap, HashMap};

use bytes::{Bytes, BytesMut};

use super::{files::FilesError, table::Table};
use crate::{
    event::{Id, Key, StreamId},
    journal::record::{Change, DeadNote, FileName, FileOp, Record},
    layout::STANDARD_FILES,
    plugin::{ExtraWrite, Provenance},
    position::Step,
    slice::Slice,
    source::DeadLetter,
};

/// Bytes that all extra files of a task, or of a flow on its own, may have together; those of one with larger logs
/// [`EXTRAS_FACTOR`] times these. A plugin that never stops writing must not fill the disk.
const EXTRAS_BYTES_MIN: u64 = 64 << 20;
/// As a call may write so many times what it is given.
const EXTRAS_FACTOR: u64 = 4;

/// A record in the making.
#[derive(Debug, Default)]
pub struct Group {
    /// Entries decided.
    pub ids: Vec<StreamId>,
    /// Their bytes in the window.
    pub bytes: usize,
    /// What plugins added to them, in bytes.
    pub surplus: usize,
    /// Dead letters with their fields, for the publisher.
    pub dead: Vec<DeadLetter>,
    /// Bytes of the effects so far.
    pub size: usize,
    /// Writes of extras that were discarded, because the task owns the file.
    pub discarded: u64,
    changes: Vec<Building>,
    index: HashMap<Key, usize>,
}

/// A change in the making.
#[derive(Debug)]
struct Building {
    key: Key,
    files: Vec<Op>,
    documents: bool,
    states: Vec<(String, String)>,
    joined: Option<Id>,
}

#[derive(Debug)]
enum Op {
    Append { file: FileName, offset: u64, bytes: BytesMut },
    Other(FileOp),
}

// === impl Group ===

impl Group {
    /// Whether it holds nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.changes.is_empty()
    }

    /// Whether files of the key are changed by this group, so that what stands on disk is not the whole of them.
    pub fn touches(&self, key: &Key) -> bool {
        self.index.contains_key(key)
    }

    /// Takes a slice in. If it joins a flow, everything the flow wrote before must be applied, and not stand in this group.
    pub fn add(&mut self, slice: Slice, table: &mut Table) -> Result<(), FilesError> {
        self.ids.extend(&slice.ids);
        self.bytes += slice.bytes;
        self.surplus += slice.surplus;
        let Slice { key, join, lines, lifecycle, touches, effects, provenance, dead, .. } = slice;
        self.dead.extend(dead);
        let Some(key) = key else { return Ok(()) };
        if let Some(task) = &join {
            self.join(&key, task, table)?;
        }
        let home = key.home(table.entry(&key)?.state.joined.as_ref());
        for lines in lines {
            let target = lines.task.map_or_else(|| home.clone(), Key::Task);
            self.append(&target, FileName::Borrowed(lines.file), &lines.text, table)?;
        }
        for event in &lifecycle {
            self.documents(&home, table)?.state.documents.lifecycle(event);
        }
        if touches && table.entry(&home)?.state.documents.would_touch() {
            self.documents(&home, table)?.state.documents.touch();
        }
        for write in effects.files {
            self.extra(&home, key == home, write, table)?;
        }
        for (plugin, object) in effects.annotations {
            self.documents(&home, table)?.state.documents.annotate(&plugin, object);
        }
        for (plugin, state) in effects.states {
            self.change(&key).states.push((plugin.to_string(), state.to_string()));
            table.entry(&key)?.state.states.set(plugin, state);
        }
        if let Some(provenance) = provenance {
            self.provenance(&home, &provenance, table)?;
        }
        Ok(())
    }

    /// Takes a key's directory away, with all that is known of the key. Nothing else of it may stand in this group.
    pub fn retire(&mut self, key: &Key, until: StreamId, table: &mut Table) {
        table.clear(key, until);
        self.change(key).files.push(Op::Other(FileOp::Clear { until }));
    }

    /// Moves what a flow wrote into the task it joins.
    fn join(&mut self, flow: &Key, task: &Id, table: &mut Table) -> Result<(), FilesError> {
        let home = Key::Task(task.clone());
        let state = table.entry(flow)?.state.clone();
        if state.joined.is_some() {
            return Ok(());
        }
        for (file, length) in &state.lengths {
            let bytes = table.files().read(flow, file, *length)?;
            if state.replaced.contains(&**file) {
                let write = ExtraWrite {
                    name: file.to_string().into(),
                    replace: true,
                    text: String::from_utf8_lossy(&bytes).into_owned(),
                };
                self.extra(&home, false, write, table)?;
            } else {
                self.append(&home, file.clone(), &bytes, table)?;
            }
            let op = FileOp::Remove { file: file.clone() };
            table.entry(flow)?.state.note(&op);
            self.change(flow).files.push(Op::Other(op));
        }
        self.documents(&home, table)?.state.documents.join(&state.documents);
        table.entry(flow)?.state.joined = Some(task.clone());
        self.change(flow).joined = Some(task.clone());
        Ok(())
    }

    fn extra(&mut self, home: &Key, own: bool, write: ExtraWrite, table: &mut Table) -> Result<(), FilesError> {
        let file = FileName::Owned(write.name.to_string());
        let state = &table.entry(home)?.state;
        // After the first part that is missing an appended file ends: no reader could tell where it goes on.
        if (!write.replace && state.documents.is_cut(&file)) || !has_room(&state.lengths, &file, &write) {
            self.documents(home, table)?.state.documents.omit_extra(&file);
            return Ok(());
        }
        if !write.replace {
            return self.append(home, file, write.text.as_bytes(), table);
        }
        // A flow that is still on its own writes to its own directory, and owns what is there.
        let own = own || matches!(home, Key::Flow(_));
        let state = &mut table.entry(home)?.state;
        if !own && state.replaced.contains(&*file) {
            self.discarded += 1;
            return Ok(());
        }
        let was_cut = state.documents.is_whole(&file);
        self.size += write.text.len();
        let op = FileOp::Replace { file, bytes: Bytes::from(write.text), own };
        state.note(&op);
        let change = self.change(home);
        change.documents |= was_cut;
        let files = &mut change.files;
        // Only the last content of a file within a group is of use to anyone.
        files.retain(|earlier| earlier.file() != op.file());
        files.push(Op::Other(op));
        Ok(())
    }

    fn append(&mut self, home: &Key, file: FileName, text: &[u8], table: &mut Table) -> Result<(), FilesError> {
        if text.is_empty() {
            return Ok(());
        }
        let state = &table.entry(home)?.state;
        if state.is_empty() && state.documents.is_resumed() {
            // That it goes on without what was removed is said with the first line.
            self.documents(home, table)?;
        }
        let lengths = &mut table.entry(home)?.state.lengths;
        let length = lengths.entry(file.clone()).or_insert(0);
        let offset = *length;
        *length += text.len() as u64;
        self.size += text.len();
        let files = &mut self.change(home).files;
        let last = files.iter_mut().rev().find(|op| *op.file() == file);
        match last {
            Some(Op::Append { bytes, .. }) => bytes.extend_from_slice(text),
            _ => files.push(Op::Append { file, offset, bytes: BytesMut::from(text) }),
        }
        Ok(())
    }

    fn provenance(&mut self, home: &Key, by: &Provenance, table: &mut Table) -> Result<(), FilesError> {
        let entry = table.entry(home)?;
        if entry.generation.replace(by.generation) == Some(by.generation) {
            return Ok(());
        }
        // A task without lifecycle events has its `metadata.json` from here.
        let fresh = entry.state.documents.is_new();
        if entry.state.documents.processed_by(&by.plugins, &by.chain_digest) || fresh {
            self.documents(home, table)?;
        }
        Ok(())
    }

    /// The key's entry, its documents to be written with this group.
    fn documents<'t>(&mut self, key: &Key, table: &'t mut Table) -> Result<&'t mut super::table::Entry, FilesError> {
        self.change(key).documents = true;
        table.entry(key)
    }

    fn change(&mut self, key: &Key) -> &mut Building {
        let at = match self.index.get(key) {
            Some(at) => *at,
            None => {
                let building = Building {
                    key: key.clone(),
                    files: Vec::new(),
                    documents: false,
                    states: Vec::new(),
                    joined: None,
                };
                self.changes.push(building);
                self.index.insert(key.clone(), self.changes.len() - 1);
                self.changes.len() - 1
            }
        };
        &mut self.changes[at]
    }

    /// The record, with the documents as they are now.
    pub fn into_record(self, step: Step, table: &mut Table) -> Result<(Record, Vec<DeadLetter>), FilesError> {
        let mut record = Record { step, ..Record::default() };
        for building in self.changes {
            let documents = match building.documents {
                true => Some(Bytes::from(
                    serde_json::to_vec(&table.entry(&building.key)?.state.documents).unwrap_or_default(),
                )),
                false => None,
            };
            let Building { key, files, states, joined, .. } = building;
            let files = files.into_iter().map(Op::freeze).collect();
            record.changes.push(Change { key, files, documents, states, joined });
        }
        let note = |letter: &DeadLetter| DeadNote {
            id: letter.id,
            reason: letter.reason.clone(),
            code: letter.code.clone(),
            plugin: letter.plugin.clone(),
            attempts: letter.attempts,
        };
        record.dead = self.dead.iter().map(note).collect();
        Ok((record, self.dead))
    }
}

/// Whether a key's extra files have room for this write; `lengths` are those of all its files.
fn has_room(lengths: &BTreeMap<FileName, u64>, file: &FileName, write: &ExtraWrite) -> bool {
    let is_standard = |name: &FileName| STANDARD_FILES.contains(&&**name);
    let (mut extras, mut standard) = (write.text.len() as u64, 0_u64);
    for (name, length) in lengths {
        match is_standard(name) {
            true => standard = standard.saturating_add(*length),
            // What is replaced makes room.
            false if write.replace && name == file => {}
            false => extras = extras.saturating_add(*length),
        }
    }
    extras <= EXTRAS_BYTES_MIN.max(standard.saturating_mul(EXTRAS_FACTOR))
}

// === impl Op ===

impl Op {
    fn file(&self) -> &FileName {
        match self {
            Self::Append { file, .. } => file,
            Self::Other(op) => op.file(),
        }
    }

    fn freeze(self) -> FileOp {
        match self {
            Self::Append { file, offset, bytes } => FileOp::Append { file, offset, bytes: bytes.freeze() },
            Self::Other(op) => op,
        }
    }
}

#[cfg(test)]
mod tests;
