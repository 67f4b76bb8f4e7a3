//! A look at the embedded stream's files: no lock, no folder made, nothing written.

use std::path::{Path, PathBuf};

use super::{Cursor, folder, io_error, publish::PositionFile};
use crate::{
    event::{Entry, StreamId},
    source::{
        SourceError,
        walk::{Part, Remains, Walk},
    },
};

/// The stream, to look at.
pub struct EmbeddedWalk {
    dir: PathBuf,
    state_name: String,
}

impl EmbeddedWalk {
    /// Of the stream `name` in `dir`, which must be there.
    pub fn open(dir: &Path, name: &str) -> Result<Self, SourceError> {
        let dir = folder(dir, name)?;
        std::fs::metadata(&dir).map_err(io_error("open", &dir))?;
        let encoded = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { dir, state_name: format!("embedded-{encoded}") })
    }

    fn cursor(&self, part: Part) -> Cursor {
        Cursor::new(match part {
            Part::Events => self.dir.clone(),
            Part::Letters => self.dir.join("dead"),
        })
    }
}

impl Walk for EmbeddedWalk {
    fn remains(&mut self) -> Result<Remains, SourceError> {
        let low = PositionFile::read(&self.dir.join("position"))?.low();
        let first = self.cursor(Part::Events).peek()?;
        let letters = self.cursor(Part::Letters).peek()?;
        // Removed ones are remembered; whole segments that are gone speak for themselves.
        let remembered = std::fs::metadata(self.dir.join("dead").join(super::letters::REMOVED));
        let letters_removed =
            letters.is_some_and(|(sequence, _)| sequence > 1) || remembered.is_ok_and(|file| file.len() > 0);
        let published = (low > StreamId::MIN).then_some(low);
        let (whole, first) = (first.is_some_and(|(sequence, _)| sequence == 1), first.map(|(_, id)| id));
        Ok(Remains { published, first, whole, deleted: StreamId::MIN, letters_removed })
    }

    fn each(
        &mut self,
        part: Part,
        after: StreamId,
        until: StreamId,
        each: &mut dyn FnMut(Entry),
    ) -> Result<u64, SourceError> {
        let mut cursor = self.cursor(part);
        if after > StreamId::MIN {
            cursor.seek(after)?;
        }
        // Older segments were removed in order.
        cursor.peek()?;
        cursor.take_lost();
        while let Some((_, entry)) = cursor.next_entry()?.filter(|(_, entry)| entry.id <= until) {
            each(entry);
        }
        Ok(cursor.take_lost())
    }

    fn state_name(&self) -> String {
        self.state_name.clone()
    }
}
