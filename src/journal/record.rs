//! What one commit holds: a group of slices as absolute effects, so that a replay over any later state ends in the same
//! bytes.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    event::{Id, Key, StreamId},
    position::Step,
};

/// A file's name within its key's directory; the standard names are not copied.
pub type FileName = Cow<'static, str>;

/// One commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What it does to the position.
    pub step: Step,
    /// What it does to each key, a key once.
    pub changes: Vec<Change>,
    /// Entries whose disposition is the dead letter. Their fields are in the stream only: the journal holds nothing raw.
    pub dead: Vec<DeadNote>,
}

/// What a commit does to one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// In order.
    pub files: Vec<FileOp>,
    /// The static documents' model as JSON, if it changed.
    pub documents: Option<Bytes>,
    /// New plugin states.
    pub states: Vec<(String, String)>,
    /// The task that a flow joined, if it did so now.
    pub joined: Option<Id>,
}

/// What happens to a file of the key's directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FileOp {
    /// Bytes at an offset: the file's end at that time.
    Append {
        /// The file.
        file: FileName,
        /// Where they go.
        offset: u64,
        /// What goes there.
        bytes: Bytes,
    },
    /// The file as a whole.
    Replace {
        /// The file.
        file: FileName,
        /// Its new content.
        bytes: Bytes,
        /// Whether the key itself wrote it, or a flow that joined it.
        own: bool,
    },
    /// The file goes away: it moved to the task that its flow joined.
    Remove {
        /// The file.
        file: FileName,
    },
    /// The directory goes away with all that is in it: retention.
    Clear {
        /// Entries of the key up to this one are gone with it; later ones find no directory.
        until: StreamId,
    },
}

/// What stands for a directory in the place of a file.
const DIRECTORY: &FileName = &Cow::Borrowed("");

/// A disposition: this entry is dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadNote {
    /// The entry.
    pub id: StreamId,
    /// The reason's code.
    pub reason: String,
    /// A finer code.
    pub code: String,
    /// The plugin, if one was the reason.
    pub plugin: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
}

impl Change {
    /// Whether a list of tasks or flows may show something else now: documents, a folder or a file that came or went.
    pub fn shows_in_lists(&self) -> bool {
        let files = || {
            self.files.iter().any(|op| match op {
                FileOp::Append { offset, .. } => *offset == 0,
                FileOp::Replace { .. } => false,
                FileOp::Remove { .. } | FileOp::Clear { .. } => true,
            })
        };
        self.documents.is_some() || self.joined.is_some() || files()
    }
}

impl FileOp {
    /// The file's name; empty for the directory itself.
    pub fn file(&self) -> &FileName {
        match self {
            Self::Append { file, .. } | Self::Replace { file, .. } | Self::Remove { file } => file,
            Self::Clear { .. } => DIRECTORY,
        }
    }

    /// Up to which entry the directory goes away, if it does.
    pub fn cleared(&self) -> Option<StreamId> {
        if let Self::Clear { until } = self { Some(*until) } else { None }
    }
}
