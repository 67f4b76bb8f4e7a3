//! What is known of a key before its first event: its `.state`, held against the files that it speaks of.

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

use cap_std::fs::{Dir, OpenOptions};

use super::{FilesError, TaskFiles, dir_of};
use crate::{
    committer::state_file,
    event::Key,
    journal::record::FileName,
    layout::{self, STATE_FILE, documents::Documents, key_state::KeyState},
};

// === impl TaskFiles ===

impl TaskFiles {
    /// A key's state as the last checkpoint left it; made anew from the files where `.state` is missing or damaged.
    pub fn load(&self, key: &Key) -> Result<KeyState, FilesError> {
        let (state, unusable) =
            load(&self.root, key).map_err(|error| self.failed("load the state of", key, "", error))?;
        if let Some(unusable) = unusable {
            tracing::warn!(key = %key, state = unusable, "state of a key is made anew from its files; plugin state is lost, and of a flow which task it joined");
        }
        Ok(state)
    }

    /// The same, held against the files' real lengths, where everything journaled is applied. A file that is longer than
    /// `.state` says was written after it: `.state` is an old copy, and what it does not know of is kept. A file that is
    /// shorter was cut: its next line follows what is left.
    pub fn load_settled(&self, key: &Key) -> Result<KeyState, FilesError> {
        let failed = |error| self.failed("load the state of", key, "", error);
        let mut state = self.load(key)?;
        let dir = match self.root.open_dir(dir_of(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(KeyState { lengths: BTreeMap::new(), ..state });
            }
            opened => opened.map_err(failed)?,
        };
        let real = KeyState::rebuilt(sizes(&dir).map_err(failed)?, Documents::default()).lengths;
        let known = |name: &FileName| state.lengths.get(name).copied().unwrap_or(0);
        let mut differ: Vec<FileName> = Vec::new();
        let mut is_old = false;
        for (name, length) in &real {
            let listed = state.lengths.contains_key(name) || layout::STANDARD_FILES.contains(&&**name);
            if listed && known(name) != *length {
                is_old |= known(name) < *length;
                differ.push(name.clone());
            }
        }
        let gone: Vec<FileName> = state.lengths.keys().filter(|name| !real.contains_key(*name)).cloned().collect();
        for name in &gone {
            tracing::error!(key = %key, file = &**name, "file is gone: its lines are lost");
            state.lengths.remove(name);
        }
        if is_old {
            tracing::error!(key = %key, "{STATE_FILE} is older than the files: what it did not know of plugins' states is lost");
            state.documents = documents(&dir).map_err(failed)?;
        }
        for name in differ {
            let (was, is) = (known_length(&state, &name), real.get(&name).copied().unwrap_or(0));
            if is < was {
                tracing::error!(key = %key, file = &*name, bytes = was - is, "file is shorter than what was written to it: lines are lost");
            }
            let ends =
                end_line(&dir, &name, is).map_err(|error| self.failed("end the last line of", key, &name, error))?;
            state.lengths.insert(name, ends);
        }
        Ok(state)
    }

    /// The journal's record that a key's `.state` includes; `None` without a valid one.
    pub fn state_sequence(&self, key: &Key) -> Result<Option<u64>, FilesError> {
        let read = self.root.open_dir(dir_of(key)).and_then(|dir| state_file::read(&dir));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("load the state of", key, "", error)),
            Ok(state) => Ok(state.map(|(sequence, _)| sequence)),
        }
    }
}

fn known_length(state: &KeyState, name: &FileName) -> u64 {
    state.lengths.get(name).copied().unwrap_or(0)
}

/// Ends a line that was cut off, so that the next one is whole. Returns the file's length then.
fn end_line(dir: &Dir, name: &FileName, length: u64) -> io::Result<u64> {
    if length == 0 || !name.ends_with(".jsonl") {
        return Ok(length);
    }
    let mut file = dir.open_with(&**name, OpenOptions::new().read(true).write(true))?.into_std();
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(length);
    }
    file.write_all_at(b"\n", length)?;
    Ok(length + 1)
}

/// Loads a key's state beneath an open `LOGS_DIR`; an empty one for a key that has no directory. Also says why it had to be
/// made anew from the files, if it had to: right before a key's first checkpoint, a loss after it.
pub fn load(root: &Dir, key: &Key) -> io::Result<(KeyState, Option<String>)> {
    let dir = match root.open_dir(dir_of(key)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((KeyState::default(), None)),
        opened => opened?,
    };
    let unusable = match state_file::read(&dir) {
        Ok(None) => "damaged".to_owned(),
        Ok(Some((_, bytes))) => match KeyState::from_bytes(&bytes) {
            Ok(state) => return Ok((state, None)),
            Err(error) => error.to_string(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => "none".to_owned(),
        Err(error) => return Err(error),
    };
    let files = sizes(&dir)?;
    if files.is_empty() && matches!(key, Key::Task(_)) {
        return Ok((KeyState::default(), None));
    }
    Ok((KeyState::rebuilt(files, documents(&dir)?), Some(unusable)))
}

/// The names and lengths of a directory's files.
fn sizes(dir: &Dir) -> io::Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    for entry in dir.entries()? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            files.push((name, entry.metadata()?.len()));
        }
    }
    Ok(files)
}

/// The documents as their files show them.
fn documents(dir: &Dir) -> io::Result<Documents> {
    // A file that cannot be read is not one that is missing: made anew without it, the next write would replace it.
    let read = |name: &str| match dir.read(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    };
    Ok(Documents::from_files(read(layout::METADATA)?, read(layout::INPUT)?, read(layout::FINAL_RESULT)?))
}
