//! A task's public files as one archive, made a piece at a time in constant memory, by whoever has taken the piece before. A file
//! has the length that it had when the archive was opened, a file of records up to its last newline; one that turns out shorter is
//! an error, never a member of another length than its head says. The same files give the same bytes. With a filter files of records
//! hold the records that it wants; where the head has to say the length, they are read twice, first to measure.

use std::{
    collections::VecDeque,
    io::{self, Read},
};

use jiff::Timestamp;

use super::{
    Filter, Folder, PublicFile, ReadError, Section, failed,
    lines::{Lines, Way},
};

mod tar;
mod zip;

use self::{tar::Tar, zip::Zip};
use crate::{compress::Coding, layout};

/// Bytes of a piece.
const PIECE: usize = 128 << 10;
/// Bytes that are read for a piece before it is given out, however little came of them.
const STEP: usize = 4 << 20;
/// Bytes that are read at once.
const BLOCK: usize = 64 << 10;
/// Files that are opened with the archive; of further ones each is as it stands when its turn comes.
const OPEN_MAX: usize = 256;

/// What an archive is packed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// tar, gzip.
    TarGz,
    /// tar, zstd.
    TarZst,
    /// zip, deflate.
    Zip,
}

/// An archive on its way.
pub struct Archive {
    folder: Folder,
    /// The folder that its files stand in.
    dir: String,
    members: VecDeque<Member>,
    filter: Filter,
    at: Option<At>,
    container: Box<dyn Container>,
    block: Vec<u8>,
    finished: bool,
}

enum Member {
    Open(PublicFile),
    Named(String),
}

/// The member that is being packed.
enum At {
    /// As it stands.
    Whole(Section),
    /// The records that are wanted are measured, before its head is written.
    Measured { file: PublicFile, lines: Lines, size: u64 },
    /// The records that are wanted.
    Filtered(Lines),
}

/// What stands before a member.
struct Head<'m> {
    path: &'m str,
    /// Exactly; for a format that has the length behind a member too, at most.
    size: u64,
    modified: Timestamp,
}

/// A format, writing into memory.
trait Container: Send {
    /// Whether the length stands before the content.
    fn length_first(&self) -> bool;
    fn begin(&mut self, head: &Head<'_>) -> io::Result<()>;
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn end(&mut self) -> io::Result<()>;
    fn finish(&mut self) -> io::Result<()>;
    /// Bytes that can be taken.
    fn ready(&self) -> usize;
    fn take(&mut self) -> Vec<u8>;
}

// === impl Format ===

impl Format {
    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "tar.gz" => Some(Self::TarGz),
            "tar.zst" => Some(Self::TarZst),
            "zip" => Some(Self::Zip),
            _ => None,
        }
    }

    /// Its name, which is what files of it end with.
    pub fn name(self) -> &'static str {
        match self {
            Self::TarGz => "tar.gz",
            Self::TarZst => "tar.zst",
            Self::Zip => "zip",
        }
    }
}

// === impl Archive ===

impl Archive {
    /// Opens a folder's files, or those of these names; in the archive they stand in a folder of the name `dir`.
    pub fn open(
        folder: Folder,
        dir: &str,
        format: Format,
        names: &[String],
        filter: Filter,
    ) -> Result<Self, ReadError> {
        let mut members = VecDeque::new();
        for name in folder.names()? {
            if !names.is_empty() && !names.contains(&name) {
                continue;
            }
            if members.len() >= OPEN_MAX {
                members.push_back(Member::Named(name));
            } else if let Some(file) = folder.open(&name)? {
                members.push_back(Member::Open(file));
            }
        }
        let container: Box<dyn Container> = match format {
            Format::TarGz => Box::new(Tar::new(Coding::Gzip).map_err(failed("compress"))?),
            Format::TarZst => Box::new(Tar::new(Coding::Zstd).map_err(failed("compress"))?),
            Format::Zip => Box::new(Zip::new()),
        };
        let block = vec![0; BLOCK];
        Ok(Self { folder, dir: dir.to_owned(), members, filter, at: None, container, block, finished: false })
    }

    /// What makes two archives of the same files the same: names and versions.
    pub fn versions(&self) -> impl Iterator<Item = (&str, String)> {
        self.members.iter().map(|member| match member {
            Member::Open(file) => (file.name(), file.etag()),
            // Not the same as any other: it is not known yet.
            Member::Named(name) => (name.as_str(), fastrand::u64(..).to_string()),
        })
    }

    /// The next bytes, `None` at the end. None at all mean that there is more to do before there are some.
    pub fn piece(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        if self.finished && self.container.ready() == 0 {
            return Ok(None);
        }
        let mut read = 0;
        while !self.finished && self.container.ready() < PIECE && read < STEP {
            read += self.step()?;
        }
        Ok(Some(self.container.take()))
    }

    /// Goes on by a block, a record or a member; how many bytes were read.
    fn step(&mut self) -> Result<usize, ReadError> {
        let read = failed("read a file into an archive");
        match self.at.take() {
            None => self.next_member(),
            Some(At::Whole(mut section)) => {
                let got = section.read(&mut self.block).map_err(read)?;
                if got == 0 {
                    return self.end_member();
                }
                self.container.write(&self.block[..got]).map_err(failed("compress"))?;
                self.at = Some(At::Whole(section));
                Ok(got)
            }
            Some(At::Measured { file, mut lines, size }) => {
                if lines.head().map_err(read)?.is_none() {
                    let lines = Lines::new(file.handle()?, Way::Forward, 0, file.len());
                    self.begin(&file, size, At::Filtered(lines))?;
                    return Ok(0);
                }
                let (bytes, wanted) = wanted(&self.filter, &lines);
                lines.advance();
                self.at = Some(At::Measured { file, lines, size: size + wanted });
                Ok(bytes)
            }
            Some(At::Filtered(mut lines)) => {
                if lines.head().map_err(read)?.is_none() {
                    return self.end_member();
                }
                let (bytes, wanted) = wanted(&self.filter, &lines);
                if let Some((line, ..)) = lines.record().filter(|_| wanted > 0) {
                    let packed = self.container.write(line).and_then(|()| self.container.write(b"\n"));
                    packed.map_err(failed("compress"))?;
                }
                lines.advance();
                self.at = Some(At::Filtered(lines));
                Ok(bytes)
            }
        }
    }

    fn next_member(&mut self) -> Result<usize, ReadError> {
        let file = match self.members.pop_front() {
            Some(Member::Open(file)) => Some(file),
            // Gone since it was listed: it is as if it had never been.
            Some(Member::Named(name)) => match self.folder.open(&name)? {
                Some(file) => Some(file),
                None => return Ok(0),
            },
            None => None,
        };
        let Some(file) = file else {
            self.finished = true;
            self.container.finish().map_err(failed("compress"))?;
            return Ok(0);
        };
        let len = file.len();
        if self.filter.is_empty() || !layout::is_record_file(file.name()) {
            let section = file.part(0, len)?;
            self.begin(&file, len, At::Whole(section))?;
            return Ok(0);
        }
        let lines = Lines::new(file.handle()?, Way::Forward, 0, len);
        match self.container.length_first() {
            true => self.at = Some(At::Measured { file, lines, size: 0 }),
            false => self.begin(&file, len, At::Filtered(lines))?,
        }
        Ok(0)
    }

    fn begin(&mut self, file: &PublicFile, size: u64, at: At) -> Result<(), ReadError> {
        let path = format!("{}/{}", self.dir, file.name());
        let head = Head { path: &path, size, modified: file.modified() };
        self.container.begin(&head).map_err(failed("compress"))?;
        self.at = Some(at);
        Ok(())
    }

    fn end_member(&mut self) -> Result<usize, ReadError> {
        self.container.end().map_err(failed("compress"))?;
        Ok(0)
    }
}

/// Bytes of the record that was found, and how many of them are wanted: all or none.
fn wanted(filter: &Filter, lines: &Lines) -> (usize, u64) {
    let Some((line, _, bytes, _)) = lines.record() else { return (0, 0) };
    let wanted = if filter.wants(line) { line.len() as u64 + 1 } else { 0 };
    (usize::try_from(bytes).unwrap_or(usize::MAX), wanted)
}

#[cfg(test)]
mod tests;
