//! How operators ask the process that holds an embedded stream: by files in `asked/`, which only the stream's user can write.
//! `put-ID` stands until the entry is disposed of; `do-X.json` is answered by `done-X.json`.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Held, io_error};
use crate::{
    event::StreamId,
    journal::segment,
    source::{Desk, Replayed, SourceError},
};

/// How long an operator waits for the answer; a little above what thousands of letters take.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Between two looks for it.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Answers that nobody fetched go after this time.
const STALE: Duration = Duration::from_secs(600);

/// What is asked of the holder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Replay letters.
    Replay(Vec<StreamId>),
    /// Remove letters.
    Remove(Vec<(StreamId, StreamId)>),
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// Of each letter.
    Replayed(Vec<Replayed>),
    /// How many there were.
    Removed(u64),
    /// It did not work; worth another try.
    Failed(String),
}

/// The holder's ear.
pub(super) struct EmbeddedDesk {
    held: Arc<Held>,
    dir: PathBuf,
}

/// Where it stands that an entry is to be put among the dead letters.
pub(super) fn put_path(dir: &Path, id: StreamId) -> PathBuf {
    dir.join("asked").join(format!("put-{id}"))
}

/// Notes durably that an entry is to be put among the dead letters.
pub(super) fn ask_to_put(dir: &Path, id: StreamId) -> Result<(), SourceError> {
    let path = put_path(dir, id);
    File::create(&path).and_then(|file| file.sync_all()).map_err(io_error("write", &path))?;
    Ok(segment::sync_dir(&dir.join("asked"))?)
}

/// Acts as soon as `hold` gives the lock, or returns the answer of the process that has it.
pub(super) fn act(
    dir: &Path,
    request: &Request,
    hold: impl Fn() -> Result<Option<Arc<Held>>, SourceError>,
) -> Result<Answer, SourceError> {
    if let Some(held) = hold()? {
        return serve(&held, request);
    }
    let mark = format!("{:016x}", fastrand::u64(..));
    let ask = dir.join("asked").join(format!("do-{mark}.json"));
    let answered = dir.join("asked").join(format!("done-{mark}.json"));
    write(&ask, request).map_err(io_error("write", &ask))?;
    let deadline = Instant::now() + ANSWER_MAX;
    let answer = loop {
        match read(&answered) {
            Ok(answer) => break answer,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("read", &answered)(error)),
        }
        if let Some(held) = hold()? {
            // It ended. If it had begun with this request, what it did stays done.
            break serve(&held, request)?;
        }
        if Instant::now() >= deadline {
            drop(std::fs::remove_file(&ask));
            let holder = "the process that holds the embedded stream does not answer; what was asked for may be done";
            return Err(SourceError::Config(holder.to_owned()));
        }
        thread::park_timeout(LOOK_EVERY);
    };
    // Either may be gone already.
    drop((std::fs::remove_file(&ask), std::fs::remove_file(&answered)));
    match answer {
        Answer::Failed(why) => Err(SourceError::Config(why)),
        answer => Ok(answer),
    }
}

fn serve(held: &Held, request: &Request) -> Result<Answer, SourceError> {
    match request {
        Request::Replay(letters) => held.replay(letters).map(Answer::Replayed),
        Request::Remove(letters) => held.remove_letters(letters).map(Answer::Removed),
    }
}

/// By a rename, so that nobody reads half of it.
fn write(path: &Path, what: &impl Serialize) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(what)?)?;
    std::fs::rename(&new, path)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

// === impl EmbeddedDesk ===

impl EmbeddedDesk {
    pub(super) fn new(held: Arc<Held>) -> Result<Self, SourceError> {
        let desk = Self { dir: held.dir.join("asked"), held };
        for path in desk.files()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let age = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
            let age = age.and_then(|modified| modified.elapsed().ok()).unwrap_or_default();
            if age > STALE && (name.starts_with("done-") || name.ends_with(".new")) {
                drop(std::fs::remove_file(&path));
            }
        }
        Ok(desk)
    }

    fn files(&self) -> Result<Vec<PathBuf>, SourceError> {
        let listed = std::fs::read_dir(&self.dir).and_then(|files| files.map(|file| Ok(file?.path())).collect());
        listed.map_err(io_error("list", &self.dir))
    }

    fn answer(&self, ask: &Path, mark: &str) -> Result<(), SourceError> {
        let answer = match read::<Request>(ask) {
            // It was taken back.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => Answer::Failed(format!("the request cannot be read: {error}")),
            Ok(request) => match serve(&self.held, &request) {
                Ok(answer) => answer,
                Err(error) => Answer::Failed(crate::committer::describe(error)),
            },
        };
        let answered = self.dir.join(format!("done-{mark}.json"));
        write(&answered, &answer).map_err(io_error("write", &answered))?;
        drop(std::fs::remove_file(ask));
        Ok(())
    }
}

impl Desk for EmbeddedDesk {
    fn asked(&mut self) -> Result<Vec<StreamId>, SourceError> {
        let mut put = Vec::new();
        for path in self.files()? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            put.extend(name.strip_prefix("put-").and_then(|id| id.parse::<StreamId>().ok()));
            if let Some(mark) = name.strip_prefix("do-").and_then(|name| name.strip_suffix(".json")) {
                self.answer(&path, mark)?;
            }
        }
        Ok(put)
    }

    fn settled(&mut self, ids: &[StreamId]) -> Result<(), SourceError> {
        for &id in ids {
            let path = self.dir.join(format!("put-{id}"));
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &path)(error)),
                _ => {}
            }
        }
        Ok(())
    }
}
