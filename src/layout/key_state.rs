//! A key's checkpoint, `.state` in its directory: how long its files are, its documents' model, its plugins' states. It and
//! the journal's later records give the state of the key; both go through [`KeyState::apply`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{STANDARD_FILES, STATE_FILE, documents::Documents, is_public_file};
use crate::{
    event::Id,
    journal::record::{Change, FileName, FileOp},
    plugin::States,
};

/// Version of the file's format.
const VERSION: u32 = 1;

/// What is known of a key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyState {
    /// Lengths of its files, in bytes.
    pub lengths: BTreeMap<FileName, u64>,
    /// Extra files that the key itself replaced: a flow that joins may not.
    pub replaced: BTreeSet<String>,
    /// The static documents.
    pub documents: Documents,
    /// The plugins' states.
    pub states: States,
    /// The task that a flow joined.
    pub joined: Option<Id>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    lengths: BTreeMap<FileName, u64>,
    replaced: BTreeSet<String>,
    documents: Documents,
    states: BTreeMap<String, String>,
    joined: Option<Id>,
}

/// A `.state` that is whole, but not as this version writes it.
#[derive(Debug, thiserror::Error)]
#[error("{STATE_FILE} has another format")]
pub struct StateError(#[source] serde_json::Error);

impl KeyState {
    /// Takes over what a change says. Changes are absolute: one that is already included does no harm when the later ones
    /// follow.
    pub fn apply(&mut self, change: &Change) -> Result<(), serde_json::Error> {
        for op in &change.files {
            self.note(op);
        }
        if let Some(model) = &change.documents {
            self.documents = serde_json::from_slice(model)?;
        }
        for (plugin, state) in &change.states {
            self.states.set(plugin.as_str().into(), state.as_str().into());
        }
        if change.joined.is_some() {
            self.joined.clone_from(&change.joined);
        }
        Ok(())
    }

    /// Takes over what happens to a file.
    pub fn note(&mut self, op: &FileOp) {
        match op {
            FileOp::Append { file, offset, bytes } => {
                self.lengths.insert(file.clone(), offset + bytes.len() as u64);
            }
            FileOp::Replace { file, bytes, own } => {
                self.lengths.insert(file.clone(), bytes.len() as u64);
                if *own {
                    self.replaced.insert(file.to_string());
                }
            }
            FileOp::Remove { file } => {
                self.lengths.remove(file);
            }
            FileOp::Clear { .. } => *self = Self::removed(),
        }
    }

    /// That of a key whose directory was removed.
    pub fn removed() -> Self {
        Self { documents: Documents::resumed(), ..Self::default() }
    }

    /// Whether there is nothing to keep: the key has no directory.
    pub fn is_empty(&self) -> bool {
        let Self { lengths, replaced, documents, states, joined } = self;
        lengths.is_empty() && replaced.is_empty() && documents.is_new() && states.is_empty() && joined.is_none()
    }

    /// A file's length as committed, in bytes.
    pub fn length(&self, file: &str) -> u64 {
        self.lengths.get(file).copied().unwrap_or(0)
    }

    /// The state as JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        let stored = Stored {
            version: VERSION,
            lengths: self.lengths.clone(),
            replaced: self.replaced.clone(),
            documents: self.documents.clone(),
            states: self.states.iter().map(|(name, state)| (name.to_string(), state.to_string())).collect(),
            joined: self.joined.clone(),
        };
        // Maps with text keys always serialise.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads what [`KeyState::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(StateError)?;
        if stored.version != VERSION {
            return Err(StateError(serde::de::Error::custom(format!("version {}", stored.version))));
        }
        let mut states = States::default();
        stored.states.iter().for_each(|(name, state)| states.set(name.as_str().into(), state.as_str().into()));
        let Stored { lengths, replaced, documents, joined, .. } = stored;
        Ok(Self { lengths, replaced, documents, states, joined })
    }

    /// What can be known without a usable `.state`: the files as they stand, and what the static documents say.
    pub fn rebuilt(files: impl IntoIterator<Item = (String, u64)>, documents: Documents) -> Self {
        let lengths = files
            .into_iter()
            .filter(|(name, _)| is_public_file(name) && !(STANDARD_FILES.contains(&&**name) && name.ends_with(".json")))
            .map(|(name, length)| (name.into(), length))
            .collect();
        Self { lengths, documents, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back() {
        let mut state = KeyState::default();
        state.note(&FileOp::Append { file: "a.jsonl".into(), offset: 3, bytes: "xyz".into() });
        state.note(&FileOp::Replace { file: "b.json".into(), bytes: "{}".into(), own: true });
        state.states.set("p".into(), "s\n".into());
        state.joined = Id::parse("t").ok();
        assert_eq!(KeyState::from_bytes(&state.to_bytes()).unwrap(), state);
        assert!(KeyState::from_bytes(b"{}").is_err());
    }
}
