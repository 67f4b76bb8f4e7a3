//! The Redis stream. The position lives in the journal; the consumer group is where it is published, for other tools and for
//! the next owner. In reading order: `connect` reaches the server, `reply` takes its answers apart, `lease` makes an
//! owner, `reader` reads by XREAD (`wire` without a copy) and keeps in mind what it read (`recent`), `publish` moves the group
//! and `dead` copies dead letters under the epoch's guard, `letters` is what operators do with them, `backlog` counts what is
//! left, `trim` takes away what nobody needs, `walk` only looks. Baseline: Redis 6.2.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::Cmd;

use super::{Backlog, Fields, LetterPolicy, Letters, OwnRequest, Owned, SourceError, Stream};
use crate::{
    config::Config,
    event::{Id, StreamId},
    source::redis::{
        connect::{Control, Server},
        letters::{RedisDesk, RedisLetters},
        publish::RedisPublisher,
        reader::RedisReader,
        recent::Recent,
    },
};

mod connect;
mod reply;

mod lease;

mod reader;
mod recent;
mod wire;

mod backlog;
mod dead;
mod letters;
mod publish;
mod trim;
mod walk;

mod facts;

pub use facts::{Facts, Group, Holder};

/// Commands other than the blocking read answer within this time, or their connection is dropped.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);
/// Events in one transaction of an append.
const APPEND_MAX: usize = 1000;

/// What to read, and where.
#[derive(Clone)]
pub struct RedisConfig {
    /// `REDIS_URL`, with its password.
    pub url: String,
    /// `REDIS_STREAM`.
    pub stream: String,
    /// `REDIS_CONSUMER_GROUP`.
    pub group: String,
    /// `MAX_EVENT`: the largest event that may be appended, in bytes of names and values.
    pub event_max: usize,
}

/// A stream on a Redis server. Making one connects to nothing.
pub struct RedisStream {
    shared: Arc<Shared>,
    /// For appends and for the backlog, so that neither waits for the other.
    append: Mutex<Control>,
    watch: Mutex<Control>,
    state_name: String,
    event_max: usize,
}

/// What all parts of a stream know.
struct Shared {
    server: Arc<Server>,
    stream: String,
    group: String,
    lease_key: String,
    epoch_key: String,
    dead_key: String,
    /// Ids that operators ask to put among the dead letters.
    put_key: String,
    /// Entries whose letters were removed, by the time of it.
    removed_key: String,
    letters: LetterPolicy,
    /// Entries that were pending in the group when it was taken over, ascending: acknowledged when the published position
    /// has passed them.
    adopted: Mutex<Vec<StreamId>>,
}

// === impl RedisConfig ===

impl RedisConfig {
    /// What the settings say; `None` without `REDIS_URL`.
    pub fn of(config: &Config) -> Option<Self> {
        Some(Self {
            url: config.redis_url.as_ref()?.expose().to_owned(),
            stream: config.stream.clone(),
            group: config.group.clone(),
            event_max: config.event_max,
        })
    }
}

// === impl RedisStream ===

impl RedisStream {
    /// Checks the settings; fails with [`SourceError::Config`] only.
    pub fn new(config: RedisConfig) -> Result<Self, SourceError> {
        let RedisConfig { url, stream, group, event_max } = config;
        let server = Arc::new(Server::parse(&url)?);
        let id = Id::parse(&stream).map_err(|why| SourceError::Config(format!("REDIS_STREAM: {why}")))?;
        if group.is_empty() {
            return Err(SourceError::Config("REDIS_CONSUMER_GROUP is empty".to_owned()));
        }
        let tag = hash_tag(&stream);
        let shared = Shared {
            lease_key: format!("{tag}:lease"),
            epoch_key: format!("{tag}:epoch"),
            dead_key: format!("{tag}:dead"),
            put_key: format!("{tag}:put"),
            removed_key: format!("{tag}:dead:removed"),
            letters: LetterPolicy::default(),
            adopted: Mutex::default(),
            server: Arc::clone(&server),
            stream,
            group,
        };
        Ok(Self {
            shared: Arc::new(shared),
            append: Mutex::new(Control::new(Arc::clone(&server), CONTROL_TIMEOUT)),
            watch: Mutex::new(Control::new(server, CONTROL_TIMEOUT)),
            state_name: format!("redis-{}", id.dir_name()),
            event_max,
        })
    }

    /// With dead letters kept so; before anything else is asked of it.
    pub fn with_letters(mut self, policy: LetterPolicy) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.letters = policy;
        }
        self
    }
}

/// The part of our keys that puts them into the stream's slot of a cluster: the name in braces, or as it is when it already has
/// a tag of its own.
fn hash_tag(stream: &str) -> String {
    let tagged =
        stream.split_once('{').and_then(|(_, rest)| rest.split_once('}')).is_some_and(|(tag, _)| !tag.is_empty());
    if tagged { stream.to_owned() } else { format!("{{{stream}}}") }
}

impl Stream for RedisStream {
    fn state_name(&self) -> String {
        self.state_name.clone()
    }

    fn try_own(&self, request: &OwnRequest) -> Result<Option<Owned>, SourceError> {
        let Some((epoch, lease)) = lease::acquire(&self.shared, request)? else { return Ok(None) };
        let recent = Recent::new(request.state_dir.clone(), epoch);
        Ok(Some(Owned {
            epoch,
            lease: Arc::new(lease),
            reader: Box::new(RedisReader::new(Arc::clone(&self.shared), recent)),
            publisher: Box::new(RedisPublisher::new(Arc::clone(&self.shared), epoch)),
            desk: Box::new(RedisDesk::new(Arc::clone(&self.shared), epoch)),
        }))
    }

    fn append(&self, events: Vec<Fields>) -> Result<Vec<StreamId>, SourceError> {
        for fields in &events {
            let size = reply::size(fields);
            if size > self.event_max {
                return Err(SourceError::TooLarge { size, limit: self.event_max });
            }
        }
        let mut control = lock(&self.append);
        let mut ids = Vec::with_capacity(events.len());
        for chunk in events.chunks(APPEND_MAX) {
            let mut commands = vec![redis::cmd("MULTI")];
            commands.extend(chunk.iter().map(|fields| xadd(&self.shared.stream, fields)));
            commands.push(redis::cmd("EXEC"));
            let mut replies = control.all(&commands)?;
            let executed = replies.pop().unwrap_or(redis::Value::Nil);
            // The refusal that made EXEC give up says more than EXECABORT does.
            if let Some(refused) = replies.into_iter().find(|reply| reply::refusal(reply).is_some()) {
                reply::accepted(refused)?;
            }
            let redis::Value::Array(added) = reply::accepted(executed)? else {
                return Err(SourceError::Reply { command: "EXEC" });
            };
            for reply in added {
                let id = reply::id(&reply::accepted(reply)?).ok_or(SourceError::Reply { command: "XADD" })?;
                ids.push(id);
            }
        }
        Ok(ids)
    }

    fn backlog(&self) -> Result<Backlog, SourceError> {
        backlog::count(&mut lock(&self.watch), &self.shared)
    }

    fn letters(&self) -> Result<Box<dyn Letters>, SourceError> {
        Ok(Box::new(RedisLetters::new(Arc::clone(&self.shared))))
    }

    fn describe(&self) -> String {
        format!("{} {}", self.shared.server.describe(), self.shared.stream)
    }
}

fn xadd(stream: &str, fields: &Fields) -> Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(stream).arg("*");
    for (name, value) in fields {
        command.arg(&name[..]).arg(&value[..]);
    }
    command
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic in between leaves at worst a connection that was taken out: the next use makes a new one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Shared ===

impl Shared {
    fn control(&self) -> Control {
        Control::new(Arc::clone(&self.server), CONTROL_TIMEOUT)
    }

    /// XINFO STREAM; `None`: there is no such key.
    fn stream_info(&self, control: &mut Control) -> Result<Option<reply::Info>, SourceError> {
        let mut command = redis::cmd("XINFO");
        command.arg("STREAM").arg(&self.stream);
        present("XINFO STREAM", control.all(&[command])?).map(|reply| reply.and_then(reply::Info::new))
    }

    /// The group in XINFO GROUPS; `None`: no such group, or no such key.
    fn group_info(&self, control: &mut Control) -> Result<Option<reply::Info>, SourceError> {
        let mut command = redis::cmd("XINFO");
        command.arg("GROUPS").arg(&self.stream);
        let reply = present("XINFO GROUPS", control.all(&[command])?)?;
        Ok(reply.and_then(|reply| reply::Info::group(reply, &self.group)))
    }
}

/// The single reply, or `None` for the refusal that says that the key is missing.
fn present(command: &'static str, mut replies: Vec<redis::Value>) -> Result<Option<redis::Value>, SourceError> {
    let reply = replies.pop().ok_or(SourceError::Reply { command })?;
    match reply::refusal(&reply) {
        Some(("ERR", text)) if text.contains("no such key") => Ok(None),
        _ => reply::accepted(reply).map(Some),
    }
}
