//! A task's records as one stream: the files merged by the entries that their records tell, each file in its own order. The
//! place in it is a [`Cursor`]; what was read grows while it is read, and is picked up by [`Records::refresh`].

use std::{fs::File, io};

use super::{Cursor, Filter, Folder, ReadError, failed, lines::Lines, lines::Way};
use crate::{event::StreamId, layout};

/// Files that are read as one stream.
const FILES_MAX: usize = 16;

/// Which way a task is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As it happened.
    #[default]
    Ascending,
    /// The last first.
    Descending,
}

/// A record as it stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'r> {
    /// Its file.
    pub file: &'r str,
    /// Its line, without the newline; JSON.
    pub line: &'r [u8],
    /// Bytes of the line with its newline.
    pub bytes: u64,
}

/// The records of some files of a task, from a place on.
#[derive(Debug)]
pub struct Records {
    order: Order,
    files: Vec<Of>,
    /// The file whose head was given out and is not passed yet.
    given: Option<usize>,
    /// Where the last record given out stands.
    last: Option<(usize, u64, Option<StreamId>)>,
    /// Where it began, as long as none was.
    after: Cursor,
}

#[derive(Debug)]
struct Of {
    name: String,
    /// What stands there now; `None` before there is such a file.
    inode: Option<u64>,
    lines: Lines,
}

// === impl Records ===

impl Records {
    /// The standard files' records behind a cursor, or before the record that it names; with `files` of these files alone.
    /// [`ReadError::Gone`] when the cursor does not fit what stands there now.
    pub fn open(folder: &Folder, files: &[String], order: Order, after: &Cursor) -> Result<Self, ReadError> {
        let mut names: Vec<&str> = match files {
            [] => layout::RECORD_FILES.to_vec(),
            some => some.iter().map(String::as_str).take(FILES_MAX).collect(),
        };
        names.dedup();
        let mut records =
            Self { order, files: Vec::with_capacity(names.len()), given: None, last: None, after: after.clone() };
        for name in names {
            records.files.push(Of::open(folder, name, order, after)?);
        }
        if order == Order::Descending
            && let Some((name, ..)) = after.record()
            && let Some(index) = records.files.iter().position(|file| file.name == name)
        {
            records.leave_out_last(index)?;
        }
        Ok(records)
    }

    /// Where the last so many records begin that a filter wants.
    pub fn last(folder: &Folder, files: &[String], filter: &Filter, count: u64) -> Result<Cursor, ReadError> {
        let mut records = Self::open(folder, files, Order::Descending, &Cursor::default())?;
        let mut left = count;
        while left > 0 && records.step()? {
            if records.record().is_some_and(|record| filter.wants(record.line)) {
                left -= 1;
            }
        }
        Ok(records.before())
    }

    /// Goes to the next record; `false` when there is none.
    pub fn step(&mut self) -> Result<bool, ReadError> {
        self.pass();
        let mut best: Option<(StreamId, usize)> = None;
        for (index, file) in self.files.iter_mut().enumerate() {
            let Some(id) = file.lines.head().map_err(shrunk)? else { continue };
            // A record that tells no entry keeps its place in its file and is not waited for.
            let id = id.unwrap_or(match self.order {
                Order::Ascending => StreamId::MIN,
                Order::Descending => StreamId::MAX,
            });
            let better = match (self.order, best) {
                (_, None) => true,
                (Order::Ascending, Some((least, _))) => id < least,
                (Order::Descending, Some((most, _))) => id >= most,
            };
            if better {
                best = Some((id, index));
            }
        }
        let Some((_, index)) = best else { return Ok(false) };
        self.given = Some(index);
        if let Some((_, end, _, id)) = self.files.get(index).and_then(|file| file.lines.record()) {
            self.last = Some((index, end, id));
        }
        Ok(true)
    }

    /// The record that [`Records::step`] went to.
    pub fn record(&self) -> Option<Record<'_>> {
        let file = self.files.get(self.given?)?;
        let (line, _, bytes, _) = file.lines.record()?;
        Some(Record { file: &file.name, line, bytes })
    }

    /// Right behind the last record that was given out, whichever way it is read.
    pub fn cursor(&self) -> Cursor {
        let Some((last, end, id)) = self.last else { return self.after.clone() };
        let name = self.files.get(last).map_or("", |file| &file.name);
        Cursor::new((name, end, id), self.files.iter().map(|file| (&*file.name, file.lines.at())))
    }

    /// Of what is read backward: where reading forward begins with the last record that was given out.
    pub fn before(&mut self) -> Cursor {
        self.pass();
        let mut places = self.files.iter().map(|file| (&*file.name, file.lines.at())).filter(|(_, at)| *at > 0);
        match places.next() {
            Some((name, at)) => Cursor::new((name, at, None), places),
            None => Cursor::default(),
        }
    }

    /// Picks up what was written since. [`ReadError::Gone`] when what was read is no more.
    pub fn refresh(&mut self, folder: &Folder) -> Result<(), ReadError> {
        for of in &mut self.files {
            let at = of.lines.at();
            match folder.open(&of.name)? {
                Some(file) if file.len() >= at && of.inode.is_none_or(|inode| inode == file.inode()) => {
                    of.inode = Some(file.inode());
                    let end = file.len();
                    of.lines.extend(file.into_file(), end);
                }
                None if of.inode.is_none() => {}
                _ => return Err(ReadError::Gone),
            }
        }
        Ok(())
    }

    /// Records that were passed over since the last call: no JSON, or longer than any event can become.
    pub fn take_skipped(&mut self) -> u64 {
        self.files.iter_mut().map(|file| std::mem::take(&mut file.lines.skipped)).sum()
    }

    /// Bytes read from the files so far.
    pub fn bytes_read(&self) -> u64 {
        self.files.iter().map(|file| file.lines.read).sum()
    }

    fn pass(&mut self) {
        if let Some(file) = self.given.take().and_then(|given| self.files.get_mut(given)) {
            file.lines.advance();
        }
    }

    /// What is read backward from a record's cursor begins before that record.
    fn leave_out_last(&mut self, index: usize) -> Result<(), ReadError> {
        if let Some(file) = self.files.get_mut(index)
            && file.lines.head().map_err(shrunk)?.is_some()
        {
            file.lines.advance();
        }
        Ok(())
    }
}

impl Of {
    fn open(folder: &Folder, name: &str, order: Order, after: &Cursor) -> Result<Self, ReadError> {
        let at = after.offset(name);
        let Some(file) = folder.open(name)? else {
            let lines = Lines::new(nothing().map_err(failed("open a file"))?, way(order), 0, 0);
            return if at == 0 { Ok(Self { name: name.to_owned(), inode: None, lines }) } else { Err(ReadError::Gone) };
        };
        let entry = after.record().filter(|(file, ..)| *file == name).and_then(|(.., id)| id);
        if !file.has_record_end(at, entry).map_err(failed("read a file"))? {
            return Err(ReadError::Gone);
        }
        let (inode, len) = (Some(file.inode()), file.len());
        // Backward from the beginning is from the end: nothing lies before it.
        let (at, end) = match order {
            Order::Ascending => (at, len),
            Order::Descending if *after == Cursor::default() => (len, 0),
            Order::Descending => (at, 0),
        };
        Ok(Self { name: name.to_owned(), inode, lines: Lines::new(file.into_file(), way(order), at, end) })
    }
}

fn way(order: Order) -> Way {
    match order {
        Order::Ascending => Way::Forward,
        Order::Descending => Way::Backward,
    }
}

/// A file that holds nothing, until there is one.
fn nothing() -> io::Result<File> {
    File::open("/dev/null")
}

/// A file that got shorter while it was read is another one.
fn shrunk(error: io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Gone,
        _ => failed("read a file")(error),
    }
}
