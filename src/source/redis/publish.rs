//! Publishing: moves the consumer group to the committed position, in one round trip, under WATCH of the epoch. Everything that
//! an owner writes to Redis goes through [`Guarded`].

use std::sync::Arc;

use redis::{Cmd, Value, cmd};

use super::{Shared, connect::Control, dead::Needed, lock, reply, trim::Trimmed};
use crate::{
    event::StreamId,
    fault,
    journal::Durable,
    source::{DeadLetter, Publisher, SourceError},
};

/// Ids in one XACK.
const ACK_MAX: usize = 1000;

/// The owner's publishing side.
pub(super) struct RedisPublisher {
    shared: Arc<Shared>,
    guarded: Guarded,
    /// Whether the server takes ENTRIESREAD (7.0): found out by trying.
    entries_read: bool,
    /// The highest id that was published: pending entries up to it are acknowledged.
    acked: StreamId,
    /// Bytes that the dead letter stream takes, as far as known.
    letters_bytes: Option<u64>,
    needed: Needed,
    /// Entries up to the position that was published last, as far as known.
    read: Option<u64>,
    trimmed: Trimmed,
}

/// Runs transactions that happen only while the epoch stands.
pub(super) struct Guarded {
    shared: Arc<Shared>,
    control: Control,
    epoch: u64,
}

// === impl RedisPublisher ===

impl RedisPublisher {
    pub(super) fn new(shared: Arc<Shared>, epoch: u64) -> Self {
        let guarded = Guarded::new(&shared, epoch);
        Self {
            shared,
            guarded,
            entries_read: true,
            acked: StreamId::MIN,
            letters_bytes: None,
            needed: Needed::default(),
            read: None,
            trimmed: Trimmed::default(),
        }
    }

    fn set_id(&self, low: StreamId, read: Option<u64>) -> Cmd {
        let mut set = cmd("XGROUP");
        set.arg("SETID").arg(&self.shared.stream).arg(&self.shared.group).arg(low.to_string());
        if let Some(read) = read.filter(|_| self.entries_read) {
            set.arg("ENTRIESREAD").arg(read);
        }
        set
    }

    /// Acknowledges entries that a group's consumers left pending, once the position has passed them.
    fn acknowledge(&mut self, low: StreamId) -> Result<(), SourceError> {
        if low <= self.acked {
            return Ok(());
        }
        loop {
            let ids: Vec<String> = lock(&self.shared.adopted)
                .iter()
                .take_while(|&&id| id <= low)
                .take(ACK_MAX)
                .map(StreamId::to_string)
                .collect();
            if ids.is_empty() {
                self.acked = low;
                return Ok(());
            }
            let mut ack = cmd("XACK");
            ack.arg(&self.shared.stream).arg(&self.shared.group).arg(&ids);
            for reply in self.guarded.run(&[ack])? {
                reply::accepted(reply)?;
            }
            lock(&self.shared.adopted).drain(..ids.len());
        }
    }
}

impl Publisher for RedisPublisher {
    fn bury(&mut self, letters: &[DeadLetter], may_exist: bool) -> Result<(), SourceError> {
        super::dead::bury(&self.shared, &mut self.guarded, &mut self.letters_bytes, letters, may_exist)
    }

    fn letters_bytes(&self) -> Option<u64> {
        self.letters_bytes
    }

    fn oldest_needed(&mut self) -> Result<Option<StreamId>, SourceError> {
        self.needed.lowest(&self.shared, self.guarded.look_up()?)
    }

    fn publish(&mut self, receipt: &Durable) -> Result<(), SourceError> {
        let (low, read) = (receipt.low(), receipt.read());
        // Twice at most for what can be mended: an older server, a group that was destroyed.
        let mut mended = 0;
        loop {
            let reply = self.guarded.run(&[self.set_id(low, read)])?.pop().unwrap_or(Value::Nil);
            match reply::refusal(&reply) {
                Some(("NOGROUP", _)) if mended < 2 => self.create_group(low)?,
                Some(("ERR", text)) if mended < 2 && text.contains("requires the key to exist") => {
                    self.create_group(low)?
                }
                Some(("ERR", text)) if mended < 2 && self.entries_read && is_syntax(text) => self.entries_read = false,
                _ => {
                    reply::accepted(reply)?;
                    self.read = read;
                    return self.acknowledge(low);
                }
            }
            mended += 1;
        }
    }

    fn trim(&mut self, until: StreamId) -> Result<u64, SourceError> {
        self.trimmed.trim(&self.shared, &mut self.guarded, until, self.read)
    }
}

/// How a server before 7.0 answers ENTRIESREAD.
fn is_syntax(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("syntax") || text.contains("wrong number of arguments") || text.contains("unknown subcommand")
}

impl RedisPublisher {
    fn create_group(&mut self, low: StreamId) -> Result<(), SourceError> {
        tracing::warn!(group = self.shared.group, %low, "the consumer group is gone: made again at the committed position");
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(&self.shared.stream).arg(&self.shared.group).arg(low.to_string()).arg("MKSTREAM");
        let reply = self.guarded.run(&[create])?.pop().unwrap_or(Value::Nil);
        match reply::refusal(&reply) {
            Some(("BUSYGROUP", _)) => Ok(()),
            _ => reply::accepted(reply).map(drop),
        }
    }
}

// === impl Guarded ===

impl Guarded {
    pub(super) fn new(shared: &Arc<Shared>, epoch: u64) -> Self {
        Self { control: shared.control(), shared: Arc::clone(shared), epoch }
    }

    /// Runs the commands in one transaction and returns their replies, refusals among them. [`SourceError::Fenced`] when the
    /// epoch has moved: then nothing was done.
    pub(super) fn run(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, SourceError> {
        loop {
            self.set_guard()?;
            let mut all = Vec::with_capacity(commands.len() + 4);
            all.push(cmd("MULTI"));
            all.extend_from_slice(commands);
            all.push(cmd("EXEC"));
            // The next transaction's guard travels with this one.
            all.extend(self.guard());
            let mut replies = self.control.all(&all)?;
            if let Err(error) = fault::point("publish::executed") {
                self.control.disconnect();
                return Err(SourceError::interrupted(error));
            }
            let guard = replies.split_off(commands.len() + 2);
            let executed = replies.pop().unwrap_or(Value::Nil);
            let checked = self.check(&guard);
            // What was refused while it was queued says more than the EXECABORT that follows from it.
            let refused = replies.into_iter().find(|reply| reply::refusal(reply).is_some());
            match (executed, refused) {
                (Value::Array(replies), _) => {
                    // It happened under our epoch, even if that has moved since: the next call says so.
                    if checked.is_err() {
                        self.control.disconnect();
                    }
                    return Ok(replies);
                }
                // A watched key was touched: either the epoch moved, or it was set to the same again.
                (Value::Nil, None) => checked?,
                (_, Some(refused)) if commands.len() == 1 => {
                    checked?;
                    return Ok(vec![refused]);
                }
                (_, Some(refused)) => return Err(self.drop_with(refused)),
                (other, None) => return Err(self.drop_with(other)),
            }
        }
    }

    /// A new connection watches the epoch before anything else.
    fn set_guard(&mut self) -> Result<(), SourceError> {
        if self.control.is_connected() {
            return Ok(());
        }
        let replies = self.control.all(&self.guard())?;
        self.check(&replies)
    }

    fn guard(&self) -> [Cmd; 2] {
        let (mut watch, mut get) = (cmd("WATCH"), cmd("GET"));
        watch.arg(&self.shared.epoch_key);
        get.arg(&self.shared.epoch_key);
        [watch, get]
    }

    fn check(&mut self, replies: &[Value]) -> Result<(), SourceError> {
        let found = match replies {
            [Value::Okay, epoch] => reply::integer(epoch),
            _ => None,
        };
        match found.and_then(|epoch| u64::try_from(epoch).ok()) {
            Some(epoch) if epoch == self.epoch => Ok(()),
            Some(_) if fault::mutated("mutation::no_epoch_check") => Ok(()),
            Some(_) => {
                self.control.disconnect();
                Err(SourceError::Fenced)
            }
            // Flushed, or refused: the lease's renewal puts it back or loses the lease.
            None => {
                self.control.disconnect();
                let refused = replies.iter().find_map(|reply| reply::accepted(reply.clone()).err());
                Err(refused.unwrap_or(SourceError::Reply { command: "GET epoch" }))
            }
        }
    }

    fn drop_with(&mut self, reply: Value) -> SourceError {
        self.control.disconnect();
        match reply::accepted(reply) {
            Err(error) => error,
            Ok(_) => SourceError::Reply { command: "EXEC" },
        }
    }

    /// The same connection for looking things up, which leaves the guard as it is.
    pub(super) fn look_up(&mut self) -> Result<&mut Control, SourceError> {
        self.set_guard()?;
        Ok(&mut self.control)
    }
}
