//! Where events come from. One seam ([`Stream`]), two streams behind it: [`redis`] and [`embedded`]; one conformance suite
//! runs on both (`tests/it/source.rs`).
//!
//! A stream has one owner at a time. The owner reads with no side effects, and publishes the position after each commit;
//! nothing that it reads is taken away from the stream by reading. Others stand by and may append.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    event::{Entry, StreamId},
    journal::{Durable, segment},
    position::Position,
};

pub mod embedded;
pub mod redis;
pub mod walk;

mod letter;

pub use letter::{Letter, Payload, REPLAY_OF, digest};

/// A stream as one process sees it. All methods block; none is called on an async thread.
pub trait Stream: Send + Sync {
    /// What names the stream's folder below `STATE_DIR`: `redis-task_events`, `embedded-task_events` (encoded like an id).
    fn state_name(&self) -> String;

    /// Becomes the owner, unless another process is (`Ok(None)`). `epoch_min` is the highest epoch in the local journal: the
    /// new one is above it. `predecessor_dead` says that this process holds the host-local lock on the stream's state
    /// folder `state_id`, so that an owner that noted the same folder can only be dead.
    fn try_own(&self, request: &OwnRequest) -> Result<Option<Owned>, SourceError>;

    /// Appends events (each a list of fields) at the stream's end, in order; durable as far as the stream is when it returns.
    fn append(&self, events: Vec<Fields>) -> Result<Vec<StreamId>, SourceError>;

    /// How much stands in the stream after the published position; used by a standby too, and on idle.
    fn backlog(&self) -> Result<Backlog, SourceError>;

    /// The stream's dead letters, for operators; beside any owner.
    fn letters(&self) -> Result<Box<dyn Letters>, SourceError>;

    /// What a person should be told at start and in `/health`, for instance `redis://host:6379/0 task_events`. No secrets.
    fn describe(&self) -> String;
}

/// Field names and values of an entry.
pub type Fields = Vec<(Bytes, Bytes)>;

/// What a process says of itself when it asks for ownership.
#[derive(Clone, Debug)]
pub struct OwnRequest {
    /// Highest epoch that the local journal holds; 0 without one.
    pub epoch_min: u64,
    /// Random text, made once and kept in the state folder: two processes that name the same one share that folder.
    pub state_id: String,
    /// Whether this process holds the host-local lock on the state folder.
    pub holds_local_lock: bool,
    /// Digest of the plugin chain that this process runs, for the lease's note.
    pub chain_digest: String,
    /// The stream's state folder, where a source may keep files of its own; `None`: nothing outlives the process.
    pub state_dir: Option<PathBuf>,
}

/// The five parts of an ownership; each is used by its own thread.
pub struct Owned {
    /// Raised at every change of owner; stamps journal segments and staging folders.
    pub epoch: u64,
    /// Says whether the ownership still stands.
    pub lease: Arc<dyn Lease>,
    /// Reads entries.
    pub reader: Box<dyn Reader>,
    /// Publishes the position and copies dead letters.
    pub publisher: Box<dyn Publisher>,
    /// What operators ask of the owner.
    pub desk: Box<dyn Desk>,
}

/// An ownership's life. Dropping the last reference releases it.
pub trait Lease: Send + Sync {
    /// Whether it is safe to write now, by the local monotonic clock.
    fn is_held(&self) -> bool;
    /// Gives it up, so that a standby takes over at once.
    fn release(&self);
}

/// A position that stands in the stream.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Everything at or below it is committed.
    pub low: StreamId,
    /// Whether none but an owner can have moved it.
    pub is_ours: bool,
}

/// The owner's reading side.
pub trait Reader: Send {
    /// The position as the stream has it, before [`Reader::start`]; `None`: none that could be newer than the journal's.
    fn published(&mut self) -> Result<Option<Published>, SourceError> {
        Ok(None)
    }

    /// Called once, before the first read, with the journal's position (`None`: no journal). Returns the position to go on
    /// from: for instance that of an existing consumer group, or a new incarnation when ids went backwards.
    fn start(&mut self, durable: Option<&Position>) -> Result<Position, SourceError>;

    /// The next entries: first those of the position's holes, then what follows `high`. Returns an empty batch after `wait`
    /// when there is nothing. Errors are worth a retry unless [`SourceError::is_fatal`]; nothing is lost by one.
    fn read(&mut self, want: Want, wait: Duration) -> Result<Batch, SourceError>;
}

/// How much a read may bring.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// `MAX_BATCH_SIZE`: the number of entries when the reader has caught up; a source raises it under backlog.
    pub count: usize,
    /// Bytes that may still be taken in; a source keeps its reads below it as well as it can foresee.
    pub bytes: usize,
}

/// What a read brought.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Entries in stream order (those of old holes first).
    pub entries: Vec<Entry>,
    /// Of these the ones whose effect was committed before the stream was replaced, ascending: passed, and not processed again.
    pub repeated: Vec<StreamId>,
    /// Holes whose entries are gone from the stream (trimmed, deleted): counted as lost, then closed.
    pub lost: Vec<StreamId>,
    /// Entries that were trimmed before they were read, as far as the stream's counters tell.
    pub lost_unseen: u64,
    /// The stream was replaced by one whose ids went backwards. Nothing else is set; the caller lets all in flight commit,
    /// restarts its tracker at the position inside, and reads on.
    pub restarted: Option<Position>,
    /// When caught up: the number of entries ever added to the stream, to correct the count of entries read.
    pub added: Option<u64>,
}

/// The owner's publishing side.
pub trait Publisher: Send {
    /// Copies entries to the dead letter stream. With `may_exist` (after a restart or an error) each is looked up first, so
    /// that none stands there twice.
    fn bury(&mut self, letters: &[DeadLetter], may_exist: bool) -> Result<(), SourceError>;

    /// Bytes that the dead letter stream takes, as far as known.
    fn letters_bytes(&self) -> Option<u64> {
        None
    }

    /// The lowest entry that a letter without its fields (`DEAD_LETTER_PAYLOAD=digest`) refers to: nothing at or above it may
    /// be trimmed from the stream.
    fn oldest_needed(&mut self) -> Result<Option<StreamId>, SourceError> {
        Ok(None)
    }

    /// Publishes the position, refused with [`SourceError::Fenced`] if the epoch moved.
    fn publish(&mut self, receipt: &Durable) -> Result<(), SourceError>;

    /// Takes entries below `until`, a position that was published, out of the stream, as far as nobody else needs them: some at
    /// a time, in the portions in which the stream keeps them. Returns how many. Refused like a publish.
    fn trim(&mut self, until: StreamId) -> Result<u64, SourceError> {
        let _: StreamId = until;
        Ok(0)
    }
}

/// The owner's ear for operators.
pub trait Desk: Send {
    /// Entries that are to be put among the dead letters. What else is asked for is done meanwhile.
    fn asked(&mut self) -> Result<Vec<StreamId>, SourceError>;

    /// Forgets requests for entries that are disposed of, durably.
    fn settled(&mut self, ids: &[StreamId]) -> Result<(), SourceError>;
}

/// The dead letters of a stream, as operators handle them. None of it asks for ownership.
pub trait Letters {
    /// Letters in the order of their burial, those behind `after`; a few MiB of them. Empty: there are no more.
    fn page(&mut self, after: StreamId) -> Result<Vec<Letter>, SourceError>;

    /// An entry's fields as they stand in the stream; `None`: it is gone.
    fn entry(&mut self, id: StreamId) -> Result<Option<Fields>, SourceError>;

    /// For each letter, by its own id: appends its entry anew and removes the letter, both or none.
    fn replay(&mut self, letters: &[StreamId]) -> Result<Vec<Replayed>, SourceError>;

    /// Removes letters, each by its own id and that of its entry; how many there were. That they were there is remembered, so
    /// that an owner that restarts does not bury them again.
    fn remove(&mut self, letters: &[(StreamId, StreamId)]) -> Result<u64, SourceError>;

    /// Asks the owner to put an entry among the dead letters, now or when it comes to it. Stands until it is done.
    fn ask_to_put(&mut self, id: StreamId) -> Result<(), SourceError>;

    /// Whether that is still asked for.
    fn is_asked(&mut self, id: StreamId) -> Result<bool, SourceError>;
}

/// What became of a letter that was to be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Replayed {
    /// Its entry stands in the stream again, under this id.
    As(StreamId),
    /// The letter is gone: it was replayed or purged.
    NoLetter,
    /// The letter has not the entry's fields, and the stream has not the entry (or another one under its id).
    NoEntry,
}

/// How dead letters are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterPolicy {
    /// `DEAD_LETTER_PAYLOAD=digest`: digest and size in place of the entry's fields.
    pub digest: bool,
    /// `DEAD_LETTER_MAX`, in bytes that the dead letter stream takes. At or above it nothing more is buried.
    pub bytes_max: u64,
}

/// An entry that goes to the dead letter stream.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The original id.
    pub id: StreamId,
    /// The original fields; `None` when they must be fetched from the stream by id (replay of a journal).
    pub fields: Option<Fields>,
    /// A stable code: `bad_json`, `not_an_object`, `no_type`, `bad_type`, `no_key`, `bad_id`, `duplicate_field`, `bad_utf8`,
    /// `too_large`, `plugin_failed`, `refused`, `poison`, `operator`.
    pub reason: String,
    /// A finer code: an error class, or the plugin's own code from its manifest.
    pub code: String,
    /// The plugin that refused it or failed on it.
    pub plugin: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
}

/// How much a stream holds after its published position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Entries after the published position. Never an estimate of 0 when unknown: computed, capped by what could be counted.
    pub entries: u64,
    /// Id of the newest entry, if there is one.
    pub last: Option<StreamId>,
    /// Id of the first entry after the published position.
    pub first_unread: Option<StreamId>,
}

/// What went wrong with a stream.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Another owner took over: nothing may be published any more.
    #[error("another process owns the stream now")]
    Fenced,
    /// The configuration cannot work: wrong type of key, refused password, unusable URL.
    #[error("{0}")]
    Config(String),
    /// Redis said no, or could not be reached.
    #[error("redis: {0}")]
    Redis(#[from] ::redis::RedisError),
    /// A reply had another shape than the command promises.
    #[error("unexpected reply to {command}")]
    Reply {
        /// The command.
        command: &'static str,
    },
    /// The embedded log's files.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The dead letter stream holds as much as it may: nothing is lost by waiting until letters are replayed or purged.
    #[error("the dead letters take {bytes} bytes of {max} (DEAD_LETTER_MAX): `task-logger dlq purge` makes room")]
    LettersFull {
        /// What they take.
        bytes: u64,
        /// What they may take.
        max: u64,
    },
    /// An event is larger than the stream takes.
    #[error("event of {size} bytes is larger than {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
}

impl Default for LetterPolicy {
    fn default() -> Self {
        Self { digest: false, bytes_max: 256 << 20 }
    }
}

impl SourceError {
    /// Whether a retry cannot help. A file that has no room may have it later, but never one whose sync failed.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Config(_) => true,
            Self::Io { action, source, .. } => action.starts_with("sync") || !segment::may_pass(source),
            _ => false,
        }
    }

    /// What a broken connection looks like.
    pub(crate) fn interrupted(error: std::io::Error) -> Self {
        Self::Redis(error.into())
    }
}
