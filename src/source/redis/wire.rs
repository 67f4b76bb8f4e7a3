//! The data connection: sends XREAD and takes its reply apart.

use std::time::Duration;

use redis::{Connection, Value};

use super::{connect::Server, reply};
use crate::{
    event::{Entry, StreamId},
    source::SourceError,
};

/// A connection that carries only blocking reads.
pub(super) struct DataConnection(Connection);

/// A reply to XREAD of one stream.
pub(super) struct Reply {
    /// The last entry's id; `None`: nothing came.
    pub(super) last: Option<StreamId>,
    /// Number of entries.
    pub(super) count: usize,
    /// Bytes of their names and values.
    pub(super) bytes: usize,
    entries: Value,
}

// === impl DataConnection ===

impl DataConnection {
    pub(super) fn open(server: &Server, timeout: Duration) -> Result<Self, SourceError> {
        server.connect(timeout).map(Self)
    }

    pub(super) fn send(&mut self, packed: &[u8]) -> Result<(), SourceError> {
        self.0.send_packed_command(packed).map_err(reply::classify)
    }

    pub(super) fn receive(&mut self) -> Result<Reply, SourceError> {
        let value = self.0.recv_response().map_err(reply::classify)?;
        let Some(entries) = reply::stream(value)? else {
            return Ok(Reply { last: None, count: 0, bytes: 0, entries: Value::Nil });
        };
        let last = reply::last_id(&entries).ok_or(SourceError::Reply { command: "XREAD" })?;
        let (count, bytes) = reply::measure(&entries);
        Ok(Reply { last: Some(last), count, bytes, entries })
    }
}

// === impl Reply ===

impl Reply {
    pub(super) fn into_entries(self) -> Result<Vec<Entry>, SourceError> {
        reply::entries("XREAD", self.entries)
    }
}
