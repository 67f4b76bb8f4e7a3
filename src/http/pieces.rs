//! Reading a task's records for an answer: from where it begins, a piece at a time, as far as the files go, and on when they
//! have grown. All of it blocks and is called from blocking threads.

use super::{
    App,
    query::{Asked, Format},
};
use crate::{
    event::Id,
    metrics,
    reader::{Cursor, Folder, Order, ReadError, Record, Records, Shelf, render},
};

/// Bytes of one piece of an answer; a record may make it longer.
const PIECE: usize = 64 << 10;
/// Bytes that are read for one piece at most: when nothing of them is wanted the piece is empty, and whoever asks can go.
const SCANNED_MAX: u64 = 32 << 20;

/// An answer in the making.
pub(super) struct Reading {
    folder: Folder,
    records: Records,
    asked: Asked,
    format: Format,
    /// Records and bytes that it may still give.
    left: (u64, u64),
    /// Records that it has given.
    given: u64,
}

/// What the next piece is.
pub(super) enum Piece {
    /// Bytes of the answer; none when nothing of what was read is wanted.
    Some(Vec<u8>),
    /// Everything that there is was given, and the task goes on.
    Idle,
    /// The same, and the task has ended so.
    Ended(&'static str),
    /// As much was given as was asked for.
    Full,
}

// === impl Reading ===

impl Reading {
    /// Begins behind the cursor, or with the last records. `None`: there is no such task.
    pub(super) fn begin(
        app: &App,
        id: &Id,
        asked: Asked,
        format: Format,
        left: (u64, u64),
    ) -> Result<Option<Self>, ReadError> {
        let Some(folder) = app.logs.folder(Shelf::Tasks, id)? else { return Ok(None) };
        let after = match (asked.tail, &asked.after) {
            (Some(tail), _) => Records::last(&folder, &asked.files, &asked.filter, tail)?,
            (None, after) => after.clone().unwrap_or_default(),
        };
        let records = Records::open(&folder, &asked.files, asked.order, &after)?;
        Ok(Some(Self { folder, records, asked, format, left, given: 0 }))
    }

    /// Records that it has given.
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    /// Where it stands.
    pub(super) fn cursor(&self) -> Cursor {
        self.records.cursor()
    }

    /// What comes next of what was there when it was last looked at, then of what has come since.
    pub(super) fn next(&mut self) -> Result<Piece, ReadError> {
        if let Some(piece) = self.read()? {
            return Ok(piece);
        }
        if self.asked.order == Order::Descending {
            return Ok(self.end()?.map_or(Piece::Idle, Piece::Ended));
        }
        // First the end, then the records: the end is written behind all that came before it.
        let ended = self.end()?;
        self.records.refresh(&self.folder)?;
        match self.read()? {
            Some(piece) => Ok(piece),
            None => Ok(ended.map_or(Piece::Idle, Piece::Ended)),
        }
    }

    /// How the task has ended, if it has.
    fn end(&self) -> Result<Option<&'static str>, ReadError> {
        Ok(self.folder.ended()?.map(|success| if success { "completed" } else { "failed" }))
    }

    fn read(&mut self) -> Result<Option<Piece>, ReadError> {
        let mut out = Vec::new();
        let begin = self.records.bytes_read();
        loop {
            if self.left.0 == 0 || self.left.1 == 0 {
                return Ok(Some(if out.is_empty() { Piece::Full } else { Piece::Some(out) }));
            }
            if out.len() >= PIECE || self.records.bytes_read() - begin >= SCANNED_MAX {
                break;
            }
            if !self.records.step()? {
                let skipped = self.records.take_skipped();
                if skipped > 0 {
                    metrics::skipped_records(skipped);
                }
                return Ok((!out.is_empty()).then_some(Piece::Some(out)));
            }
            let Some(record) = self.records.record().filter(|record| self.asked.filter.wants(record.line)) else {
                continue;
            };
            let before = out.len();
            self.push(&mut out, &record);
            let made = (out.len() - before) as u64;
            self.left = (self.left.0 - 1, self.left.1.saturating_sub(made));
            self.given += 1;
        }
        Ok(Some(Piece::Some(out)))
    }

    fn push(&self, out: &mut Vec<u8>, record: &Record<'_>) {
        let json = |out: &mut Vec<u8>| render::push_json(out, record, &self.records.cursor(), self.asked.clip);
        match self.format {
            Format::Json => {
                if self.given > 0 {
                    out.push(b',');
                }
                json(out);
            }
            Format::Ndjson => {
                json(out);
                out.push(b'\n');
            }
            Format::Sse => {
                out.extend_from_slice(format!("event: record\nid: {}\ndata: ", self.records.cursor()).as_bytes());
                let begin = out.len();
                json(out);
                // Between JSON's tokens it may stand, and would end the line here.
                out.iter_mut().skip(begin).filter(|byte| **byte == b'\r').for_each(|byte| *byte = b' ');
                out.extend_from_slice(b"\n\n");
            }
            Format::Text | Format::Markdown => {
                let mut text = String::new();
                match self.format {
                    Format::Text => render::push_text(&mut text, record.line),
                    _ => render::push_markdown(&mut text, record.line),
                }
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}
