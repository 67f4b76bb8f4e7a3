//! Dead letters in the hands of operators: reading, replaying, removing, and asking the owner to put an entry among them (a set
//! of ids that the owner looks at).

use std::sync::Arc;

use redis::{Cmd, Value, cmd};

use super::{Shared, connect::Control, dead::Pages, publish::Guarded, reply, xadd};
use crate::{
    event::StreamId,
    source::{
        Desk, Fields, Letters, Payload, Replayed, SourceError,
        letter::{self, Letter},
    },
};

/// Ids in one command.
const IDS_MAX: usize = 1000;
/// Most requests of operators that are looked at.
const ASKED_MAX: usize = 10_000;
/// Removed letters that are remembered.
const REMOVED_MAX: i64 = 100_000;
/// How often a replay is tried while letters are being added, each of which touches what is watched.
const TRIES: u32 = 1000;

/// An operator's hands.
pub(super) struct RedisLetters {
    shared: Arc<Shared>,
    control: Control,
    pages: Pages,
}

/// The owner's ear.
pub(super) struct RedisDesk {
    shared: Arc<Shared>,
    guarded: Guarded,
}

// === impl RedisLetters ===

impl RedisLetters {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { control: shared.control(), shared, pages: Pages::default() }
    }

    fn single(&mut self, key: &str, id: StreamId) -> Result<Option<crate::event::Entry>, SourceError> {
        let mut range = cmd("XRANGE");
        range.arg(key).arg(id.to_string()).arg(id.to_string());
        Ok(reply::entries("XRANGE", self.control.one(&range)?)?.pop())
    }

    /// The fields to append for a letter, or why there are none.
    fn fields_of(&mut self, at: StreamId) -> Result<Result<(StreamId, Fields), Replayed>, SourceError> {
        let key = self.shared.dead_key.clone();
        let Some(Letter { id, payload, .. }) = self.single(&key, at)?.as_ref().and_then(letter::read) else {
            return Ok(Err(Replayed::NoLetter));
        };
        let fields = match payload {
            Payload::Fields(fields) => Some(fields),
            Payload::Digest { sha256, .. } => self.entry(id)?.filter(|fields| letter::digest(fields) == sha256),
            Payload::Gone => None,
        };
        Ok(fields.map(|fields| (id, letter::replayed(id, fields))).ok_or(Replayed::NoEntry))
    }

    /// Appends and removes in one transaction, which happens only if nobody touched the dead letters since they were read:
    /// a letter that two replay at once, or whose reply is lost, is appended once.
    fn replay_one(&mut self, at: StreamId) -> Result<Replayed, SourceError> {
        for _ in 0..TRIES {
            let mut watch = cmd("WATCH");
            watch.arg(&self.shared.dead_key);
            self.control.one(&watch)?;
            let (id, fields) = match self.fields_of(at)? {
                Ok(found) => found,
                Err(why) => {
                    self.control.one(&cmd("UNWATCH"))?;
                    return Ok(why);
                }
            };
            let mut commands = vec![cmd("MULTI"), xadd(&self.shared.stream, &fields)];
            commands.extend(self.removal(&[(at, id)]));
            commands.push(cmd("EXEC"));
            let mut replies = self.control.all(&commands)?;
            let executed = replies.pop().unwrap_or(Value::Nil);
            if let Some(refused) = replies.into_iter().find(|reply| reply::refusal(reply).is_some()) {
                self.control.disconnect();
                reply::accepted(refused)?;
            }
            if let Value::Array(done) = reply::accepted(executed)? {
                let added = done.into_iter().next().unwrap_or(Value::Nil);
                let id = reply::id(&reply::accepted(added)?).ok_or(SourceError::Reply { command: "XADD" })?;
                return Ok(Replayed::As(id));
            }
        }
        Err(SourceError::Config("letters are being added too fast for a replay: try again".to_owned()))
    }

    /// Removes letters and remembers that they were there.
    fn removal(&self, letters: &[(StreamId, StreamId)]) -> [Cmd; 3] {
        let (mut remove, mut remember, mut forget) = (cmd("XDEL"), cmd("ZADD"), cmd("ZREMRANGEBYRANK"));
        let now = jiff::Timestamp::now().as_millisecond();
        remove.arg(&self.shared.dead_key);
        remember.arg(&self.shared.removed_key);
        for (at, id) in letters {
            remove.arg(at.to_string());
            remember.arg(now).arg(id.to_string());
        }
        forget.arg(&self.shared.removed_key).arg(0).arg(-(REMOVED_MAX + 1));
        [remove, remember, forget]
    }

    fn set(&self, command: &str, id: StreamId) -> Cmd {
        let mut asked = cmd(command);
        asked.arg(&self.shared.put_key).arg(id.to_string());
        asked
    }
}

impl Letters for RedisLetters {
    fn page(&mut self, after: StreamId) -> Result<Vec<Letter>, SourceError> {
        if !self.pages.is_at(after) {
            self.pages = Pages::after(after);
        }
        loop {
            let page = self.pages.next(&mut self.control, &self.shared.dead_key)?;
            let letters: Vec<_> = page.iter().filter_map(letter::read).collect();
            // A page of what others put there is passed over.
            if page.is_empty() || !letters.is_empty() {
                return Ok(letters);
            }
        }
    }

    fn entry(&mut self, id: StreamId) -> Result<Option<Fields>, SourceError> {
        let key = self.shared.stream.clone();
        Ok(self.single(&key, id)?.map(|entry| entry.fields))
    }

    fn replay(&mut self, letters: &[StreamId]) -> Result<Vec<Replayed>, SourceError> {
        letters.iter().map(|&at| self.replay_one(at)).collect()
    }

    fn remove(&mut self, letters: &[(StreamId, StreamId)]) -> Result<u64, SourceError> {
        let mut removed = 0;
        for letters in letters.chunks(IDS_MAX) {
            let removal = self.removal(letters);
            let commands = [&[cmd("MULTI")], &removal[..], &[cmd("EXEC")]].concat();
            let mut replies = self.control.all(&commands)?;
            let executed = replies.pop().unwrap_or(Value::Nil);
            let refused = replies.into_iter().find(|reply| reply::refusal(reply).is_some());
            let reply = match (executed, refused) {
                (Value::Array(done), _) => done.into_iter().next().unwrap_or(Value::Nil),
                // A server without memory remembers nothing; what frees some must work all the same.
                (_, Some(refused)) if reply::refusal(&refused).is_some_and(|(code, _)| code == "OOM") => {
                    self.control.one(&removal[0])?
                }
                (executed, refused) => reply::accepted(refused.unwrap_or(executed))?,
            };
            let count = reply::integer(&reply::accepted(reply)?).ok_or(SourceError::Reply { command: "XDEL" })?;
            removed += u64::try_from(count).unwrap_or(0);
        }
        Ok(removed)
    }

    fn ask_to_put(&mut self, id: StreamId) -> Result<(), SourceError> {
        let add = self.set("SADD", id);
        self.control.one(&add).map(drop)
    }

    fn is_asked(&mut self, id: StreamId) -> Result<bool, SourceError> {
        let look = self.set("SISMEMBER", id);
        Ok(reply::integer(&self.control.one(&look)?) == Some(1))
    }
}

// === impl RedisDesk ===

impl RedisDesk {
    pub(super) fn new(shared: Arc<Shared>, epoch: u64) -> Self {
        let guarded = Guarded::new(&shared, epoch);
        Self { shared, guarded }
    }
}

impl Desk for RedisDesk {
    fn asked(&mut self) -> Result<Vec<StreamId>, SourceError> {
        let mut all = cmd("SRANDMEMBER");
        all.arg(&self.shared.put_key).arg(ASKED_MAX);
        match self.guarded.look_up()?.one(&all)? {
            Value::Array(ids) | Value::Set(ids) => Ok(ids.iter().filter_map(reply::id).collect()),
            _ => Ok(Vec::new()),
        }
    }

    fn settled(&mut self, ids: &[StreamId]) -> Result<(), SourceError> {
        for ids in ids.chunks(IDS_MAX) {
            let mut remove = cmd("SREM");
            remove.arg(&self.shared.put_key).arg(ids.iter().map(StreamId::to_string).collect::<Vec<_>>());
            self.guarded.run(&[remove])?.into_iter().try_for_each(|reply| reply::accepted(reply).map(drop))?;
        }
        Ok(())
    }
}
