//! What the holder of the lock does with dead letters, and the hands of operators: who has the lock acts at once, who has not
//! asks the one who has. A replay is noted in `dead/replaying` before it begins, so that one that was cut short is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Write},
};

use serde::{Deserialize, Serialize};

use super::{
    EmbeddedStream, Held, asked,
    asked::{Answer, Request},
    cursor::Cursor,
    io_error,
};
use crate::{
    event::{Entry, StreamId},
    journal::segment,
    source::{
        Fields, Letters, Payload, REPLAY_OF, Replayed, SourceError,
        letter::{self, Letter},
    },
};

/// Letters of one page, and the aim for its size in bytes.
const PAGE_MAX: (usize, usize) = (1000, 4 << 20);
/// Letters that are replayed at once.
const REPLAY_MAX: usize = 64;
const REPLAYING: &str = "replaying";
/// A line for each entry whose letter was removed, and the file's bound in bytes.
pub(super) const REMOVED: &str = "removed";
const REMOVED_MAX: u64 = 4 << 20;

/// An operator's hands.
pub(super) struct EmbeddedLetters {
    stream: EmbeddedStream,
    /// Where the last page ended.
    pages: Option<(StreamId, Cursor)>,
}

/// A replay that has begun.
#[derive(Debug, Serialize, Deserialize)]
struct Replaying {
    /// Entries in the stream before it.
    after: u64,
    /// Letters, their entries, and what the `replay_of` of these says.
    letters: Vec<(StreamId, StreamId, String)>,
}

// === impl Held ===

impl Held {
    /// Letters by their own ids; `None` for one that is gone.
    fn letter(&self, at: StreamId) -> Result<Option<Letter>, SourceError> {
        let mut cursor = Cursor::new(self.dir.join("dead"));
        cursor.limit(Some(self.dead.durable()));
        Ok(single(cursor, at)?.as_ref().and_then(letter::read))
    }

    /// The fields to append for a letter, or why there are none.
    fn fields_of(&self, at: StreamId) -> Result<Result<(StreamId, Fields), Replayed>, SourceError> {
        let Some(Letter { id, payload, .. }) = self.letter(at)? else { return Ok(Err(Replayed::NoLetter)) };
        let fields = match payload {
            Payload::Fields(fields) => Some(fields),
            Payload::Digest { sha256, .. } => {
                let mut cursor = Cursor::new(self.dir.clone());
                cursor.limit(Some(self.events.durable()));
                single(cursor, id)?.map(|entry| entry.fields).filter(|fields| letter::digest(fields) == sha256)
            }
            Payload::Gone => None,
        };
        Ok(fields.map(|fields| (id, letter::replayed(id, fields))).ok_or(Replayed::NoEntry))
    }

    /// Appends letters' entries anew and removes the letters.
    pub(super) fn replay(&self, letters: &[StreamId]) -> Result<Vec<Replayed>, SourceError> {
        // One that failed halfway left its note.
        self.finish_replay()?;
        let mut done: BTreeMap<StreamId, Replayed> = BTreeMap::new();
        for chunk in letters.chunks(REPLAY_MAX) {
            let mut events = Vec::new();
            let mut noted = Vec::new();
            for &at in chunk.iter().collect::<BTreeSet<_>>() {
                if done.contains_key(&at) {
                    continue;
                }
                match self.fields_of(at)? {
                    Ok((id, fields)) => {
                        noted.push((at, id, repeats(&fields).unwrap_or_default()));
                        events.push(fields);
                    }
                    Err(why) => drop(done.insert(at, why)),
                }
            }
            if events.is_empty() {
                continue;
            }
            let replaying = Replaying { after: self.events.durable().sequence, letters: noted };
            self.note(&replaying).map_err(io_error("write", &self.dir.join("dead").join(REPLAYING)))?;
            let ids = self.events.append(&events)?;
            let gone: Vec<_> = replaying.letters.into_iter().map(|(at, id, _)| (at, id)).collect();
            self.remove_letters(&gone)?;
            self.forget_note()?;
            done.extend(gone.into_iter().map(|(at, _)| at).zip(ids.into_iter().map(Replayed::As)));
        }
        Ok(letters.iter().map(|at| done.get(at).copied().unwrap_or(Replayed::NoLetter)).collect())
    }

    /// Removes letters, each by its own id and that of its entry, and remembers that they were there.
    pub(super) fn remove_letters(&self, letters: &[(StreamId, StreamId)]) -> Result<u64, SourceError> {
        let path = self.dir.join("dead").join(REMOVED);
        let remembered = (|| {
            let mut lines: String = letters.iter().map(|(_, id)| format!("{id}\n")).collect();
            let size = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if size > REMOVED_MAX {
                // The younger half is enough: what is older stands in a checkpoint.
                let old = std::fs::read_to_string(&path)?;
                let half = old.split_inclusive('\n').skip(old.lines().count() / 2).collect::<String>();
                lines.insert_str(0, &half);
                let new = path.with_extension("new");
                let mut file = File::create(&new)?;
                file.write_all(lines.as_bytes())?;
                file.sync_all()?;
                return std::fs::rename(&new, &path);
            }
            let mut file = File::options().append(true).create(true).open(&path)?;
            file.write_all(lines.as_bytes())?;
            file.sync_all()
        })();
        remembered.map_err(io_error("write", &path))?;
        self.dead.remove(&letters.iter().map(|(at, _)| *at).collect())
    }

    /// Entries whose letters were removed.
    pub(super) fn removed(&self) -> Result<BTreeSet<StreamId>, SourceError> {
        let path = self.dir.join("dead").join(REMOVED);
        match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            // A torn last line is of a removal that did not happen.
            read => Ok(read.map_err(io_error("read", &path))?.lines().filter_map(|id| id.parse().ok()).collect()),
        }
    }

    /// Of a replay that was cut short: letters whose entries stand in the stream again go.
    pub(super) fn finish_replay(&self) -> Result<(), SourceError> {
        let path = self.dir.join("dead").join(REPLAYING);
        let noted = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read.map_err(io_error("read", &path))?,
        };
        let replaying: Replaying = serde_json::from_slice(&noted)
            .map_err(|error| io_error("read", &path)(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        let mut cursor = Cursor::new(self.dir.clone());
        cursor.limit(Some(self.events.durable()));
        cursor.start_at(replaying.after + 1);
        let mut appended = BTreeSet::new();
        while let Some((_, entry)) = cursor.next_entry()? {
            appended.extend(repeats(&entry.fields));
        }
        let of = replaying.letters.into_iter().filter(|(_, _, of)| appended.contains(of));
        let done: Vec<_> = of.map(|(at, id, _)| (at, id)).collect();
        tracing::warn!(letters = done.len(), "a replay of dead letters was cut short; those that were appended go now");
        if !done.is_empty() {
            self.remove_letters(&done)?;
        }
        self.forget_note()
    }

    /// The lowest entry that a letter without its fields refers to.
    pub(super) fn lowest_needed(&self) -> Result<Option<StreamId>, SourceError> {
        let mut cursor = Cursor::new(self.dir.join("dead"));
        cursor.limit(Some(self.dead.durable()));
        let mut lowest: Option<StreamId> = None;
        for copy in cursor {
            if let Some(id) = letter::refers_to(&copy?) {
                lowest = Some(lowest.map_or(id, |lowest| lowest.min(id)));
            }
        }
        Ok(lowest)
    }

    fn note(&self, replaying: &Replaying) -> io::Result<()> {
        let dir = self.dir.join("dead");
        let new = dir.join("replaying.new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(replaying)?)?;
        file.sync_all()?;
        std::fs::rename(&new, dir.join(REPLAYING))?;
        File::open(&dir)?.sync_all()
    }

    fn forget_note(&self) -> Result<(), SourceError> {
        let path = self.dir.join("dead").join(REPLAYING);
        std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
        Ok(segment::sync_dir(&self.dir.join("dead"))?)
    }
}

/// What an entry's `replay_of` says.
fn repeats(fields: &Fields) -> Option<String> {
    let (_, of) = fields.iter().find(|(name, _)| &name[..] == REPLAY_OF.as_bytes())?;
    Some(String::from_utf8_lossy(of).into_owned())
}

/// The entry of that id.
fn single(mut cursor: Cursor, id: StreamId) -> Result<Option<Entry>, SourceError> {
    cursor.seek(id.previous())?;
    match cursor.peek()? {
        Some((_, at)) if at == id => Ok(cursor.next_entry()?.map(|(_, entry)| entry)),
        _ => Ok(None),
    }
}

// === impl EmbeddedLetters ===

impl EmbeddedLetters {
    pub(super) fn new(stream: EmbeddedStream) -> Self {
        Self { stream, pages: None }
    }

    /// Acts if the lock is free, or has the process act that holds it.
    fn act(&self, request: &Request) -> Result<Answer, SourceError> {
        asked::act(&self.stream.dir, request, || self.stream.hold())
    }
}

impl Letters for EmbeddedLetters {
    fn page(&mut self, after: StreamId) -> Result<Vec<Letter>, SourceError> {
        let mut cursor = match self.pages.take() {
            Some((at, cursor)) if at == after => cursor,
            _ => {
                let mut cursor = Cursor::new(self.stream.dir.join("dead"));
                cursor.seek(after)?;
                cursor
            }
        };
        let (mut letters, mut bytes) = (Vec::new(), 0);
        while letters.len() < PAGE_MAX.0 && bytes < PAGE_MAX.1 {
            let Some((_, entry)) = cursor.next_entry()? else { break };
            bytes += letter::size(&entry.fields);
            letters.extend(letter::read(&entry));
        }
        self.pages = letters.last().map(|last| (last.at, cursor));
        Ok(letters)
    }

    fn entry(&mut self, id: StreamId) -> Result<Option<Fields>, SourceError> {
        Ok(single(Cursor::new(self.stream.dir.clone()), id)?.map(|entry| entry.fields))
    }

    fn replay(&mut self, letters: &[StreamId]) -> Result<Vec<Replayed>, SourceError> {
        match self.act(&Request::Replay(letters.to_vec()))? {
            Answer::Replayed(replayed) => Ok(replayed),
            _ => Err(SourceError::Reply { command: "replay" }),
        }
    }

    fn remove(&mut self, letters: &[(StreamId, StreamId)]) -> Result<u64, SourceError> {
        match self.act(&Request::Remove(letters.to_vec()))? {
            Answer::Removed(removed) => Ok(removed),
            _ => Err(SourceError::Reply { command: "remove" }),
        }
    }

    fn ask_to_put(&mut self, id: StreamId) -> Result<(), SourceError> {
        asked::ask_to_put(&self.stream.dir, id)
    }

    fn is_asked(&mut self, id: StreamId) -> Result<bool, SourceError> {
        let path = asked::put_path(&self.stream.dir, id);
        path.try_exists().map_err(io_error("look at", &path))
    }
}
