//! A look at the stream on its server: pages by XRANGE, and what XINFO says. Writes nothing.

use std::{sync::Arc, thread, time::Duration};

use redis::{Cmd, Value, cmd};

use super::{RedisStream, Shared, connect::Control, present, reply};
use crate::{
    event::{Entry, StreamId},
    source::{
        SourceError,
        walk::{Part, Remains, Walk},
    },
};

/// Most entries of a page, and the aim for its size in bytes.
const PAGE: (usize, usize) = (4000, 4 << 20);
/// How often a command is tried, and the pause between.
const TRIES: (u32, Duration) = (4, Duration::from_millis(250));

/// The stream, to look at.
pub(super) struct RedisWalk {
    shared: Arc<Shared>,
    control: Control,
    state_name: String,
}

impl RedisStream {
    /// To look at the stream without a lease.
    pub(in crate::source) fn walk(&self) -> impl Walk + use<> {
        RedisWalk {
            control: self.shared.control(),
            shared: Arc::clone(&self.shared),
            state_name: self.state_name.clone(),
        }
    }
}

// === impl RedisWalk ===

impl RedisWalk {
    /// A command that may be repeated.
    fn ask(&mut self, command: &Cmd) -> Result<Value, SourceError> {
        let mut tries = TRIES.0;
        loop {
            match self.control.all(std::slice::from_ref(command)) {
                Err(error) if !error.is_fatal() && tries > 1 => {
                    tries -= 1;
                    thread::sleep(TRIES.1);
                }
                replies => return Ok(replies?.pop().unwrap_or(Value::Nil)),
            }
        }
    }

    /// XINFO STREAM of one of our keys.
    fn info(&mut self, key: &str) -> Result<Option<reply::Info>, SourceError> {
        let mut command = cmd("XINFO");
        command.arg("STREAM").arg(key);
        let reply = self.ask(&command)?;
        Ok(present("XINFO STREAM", vec![reply])?.and_then(reply::Info::new))
    }

    fn key(&self, part: Part) -> String {
        match part {
            Part::Events => self.shared.stream.clone(),
            Part::Letters => self.shared.dead_key.clone(),
        }
    }
}

impl Walk for RedisWalk {
    fn remains(&mut self) -> Result<Remains, SourceError> {
        // The position first: what it covers was written before.
        let shared = Arc::clone(&self.shared);
        let group = shared.group_info(&mut self.control)?;
        let published = group.and_then(|group| group.id("last-delivered-id"));
        let info = self.info(&shared.stream)?;
        let first = info.as_ref().and_then(|info| match info.get("first-entry") {
            Some(Value::Array(entry)) => entry.first().and_then(reply::id),
            _ => None,
        });
        let deleted = info.as_ref().and_then(|info| info.id("max-deleted-entry-id")).unwrap_or(StreamId::MIN);
        let whole = info
            .as_ref()
            .is_some_and(|info| info.count("entries-added").is_some_and(|added| info.count("length") == Some(added)));
        let letters = self.info(&shared.dead_key)?;
        let letters_removed = letters.is_some_and(|info| match info.count("entries-added") {
            Some(added) => info.count("length").is_some_and(|length| length < added),
            None => false,
        });
        Ok(Remains { published, first, whole, deleted, letters_removed })
    }

    fn each(
        &mut self,
        part: Part,
        after: StreamId,
        until: StreamId,
        each: &mut dyn FnMut(Entry),
    ) -> Result<u64, SourceError> {
        let key = self.key(part);
        let (mut from, mut count) = (after.next(), 64);
        while from <= until {
            let mut range = cmd("XRANGE");
            range.arg(&key).arg(from.to_string()).arg(until.to_string()).arg("COUNT").arg(count);
            let entries = reply::entries("XRANGE", self.ask(&range)?)?;
            let Some(last) = entries.last().map(|entry| entry.id) else { break };
            let bytes: usize = entries.iter().map(|entry| reply::size(&entry.fields)).sum();
            count = (PAGE.1 / (bytes / entries.len()).max(1)).clamp(1, PAGE.0.min(2 * count));
            entries.into_iter().for_each(&mut *each);
            if last == StreamId::MAX {
                break;
            }
            from = last.next();
        }
        Ok(0)
    }

    fn state_name(&self) -> String {
        self.state_name.clone()
    }
}
