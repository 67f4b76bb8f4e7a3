//! The data connection, on which only blocking reads go. On plain sockets replies are taken apart by [`parse`], whose entries
//! are slices of what was received: the client's parser costs one allocation per string, the largest cost of reading. TLS keeps
//! the client's.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    time::Duration,
};

use bytes::BytesMut;
use redis::{Connection, ConnectionAddr, ConnectionInfo, RedisError, Value, cmd};

use self::parse::{Outcome, Parser, Progress, Spans};
use super::{
    connect::{CONNECT_MAX, Server},
    reply,
};
use crate::{
    event::{Entry, StreamId},
    source::SourceError,
};

mod parse;
#[cfg(test)]
mod tests;

/// Room for one receive: when less is left than the first, the buffer grows by the second. In bytes.
const ROOM: (usize, usize) = (64 << 10, 512 << 10);

/// A connection that carries only blocking reads.
pub(super) enum DataConnection {
    /// TCP and unix sockets.
    Plain {
        socket: Socket,
        /// Its first `filled` bytes were received; the rest is room, zeroed once and not for each receive.
        buffer: BytesMut,
        filled: usize,
    },
    /// TLS.
    Client(Box<Connection>),
}

pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A reply to XREAD of one stream.
pub(super) struct Reply {
    /// The last entry's id; `None`: nothing came.
    pub(super) last: Option<StreamId>,
    /// Number of entries.
    pub(super) count: usize,
    /// Bytes of their names and values.
    pub(super) bytes: usize,
    entries: Entries,
}

enum Entries {
    Received(BytesMut, Spans),
    Values(Value),
}

// === impl DataConnection ===

impl DataConnection {
    /// Connects; sending and receiving time out after `timeout`.
    pub(super) fn open(server: &Server, timeout: Duration) -> Result<Self, SourceError> {
        let info = server.locate()?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return server.connect(timeout).map(Box::new).map(Self::Client);
        }
        let mut connection = Self::Plain { socket: Socket::open(&info, timeout)?, buffer: BytesMut::new(), filled: 0 };
        let settings = info.redis_settings();
        if let Some(password) = settings.password() {
            let mut auth = cmd("AUTH");
            if let Some(user) = settings.username() {
                auth.arg(user);
            }
            connection.handshake(auth.arg(password))?;
        }
        if settings.db() != 0 {
            connection.handshake(cmd("SELECT").arg(settings.db()))?;
        }
        Ok(connection)
    }

    fn handshake(&mut self, command: &redis::Cmd) -> Result<(), SourceError> {
        self.send(&command.get_packed_command())?;
        match self.receive_outcome()? {
            Outcome::Okay => Ok(()),
            _ => Err(SourceError::Reply { command: "AUTH" }),
        }
    }

    /// Sends a packed command.
    pub(super) fn send(&mut self, packed: &[u8]) -> Result<(), SourceError> {
        let sent = match self {
            Self::Plain { socket: Socket::Tcp(socket), .. } => socket.write_all(packed).map_err(RedisError::from),
            Self::Plain { socket: Socket::Unix(socket), .. } => socket.write_all(packed).map_err(RedisError::from),
            Self::Client(connection) => connection.send_packed_command(packed),
        };
        sent.map_err(reply::classify)
    }

    /// Waits for the reply to XREAD.
    pub(super) fn receive(&mut self) -> Result<Reply, SourceError> {
        if let Self::Client(connection) = self {
            return Reply::from_value(connection.recv_response().map_err(reply::classify)?);
        }
        match self.receive_outcome()? {
            Outcome::Nothing => Ok(Reply { last: None, count: 0, bytes: 0, entries: Entries::Values(Value::Nil) }),
            Outcome::Entries(spans) => {
                let Self::Plain { buffer, filled, .. } = self else {
                    return Err(SourceError::Reply { command: "XREAD" });
                };
                let (last, count, bytes) = (spans.last(), spans.len(), spans.bytes());
                let received = buffer.split_to(spans.end());
                *filled -= received.len();
                Ok(Reply { last, count, bytes, entries: Entries::Received(received, spans) })
            }
            _ => Err(SourceError::Reply { command: "XREAD" }),
        }
    }

    /// The next reply. Its bytes stay in the buffer if it has entries.
    fn receive_outcome(&mut self) -> Result<Outcome, SourceError> {
        let Self::Plain { socket, buffer, filled } = self else { return Err(SourceError::Reply { command: "XREAD" }) };
        let mut parser = Parser::default();
        loop {
            let received = buffer.get(..*filled).unwrap_or_default();
            let needed = match parser.feed(received).map_err(|_| SourceError::Reply { command: "XREAD" })? {
                Progress::Need(length) => length,
                Progress::Done(outcome) => {
                    if let Some(end) = outcome.end() {
                        drop(buffer.split_to(end));
                        *filled -= end;
                    }
                    return match outcome {
                        Outcome::Refused { code, text, .. } => {
                            Err(reply::classify(redis::make_extension_error(code, Some(text))))
                        }
                        outcome => Ok(outcome),
                    };
                }
            };
            while *filled < needed {
                if buffer.len() < needed.max(*filled + ROOM.0) {
                    buffer.resize(needed.max(*filled + ROOM.1), 0);
                }
                let received = socket.receive(buffer.get_mut(*filled..).unwrap_or_default());
                match received.map_err(|error| reply::classify(error.into()))? {
                    0 => return Err(SourceError::Redis(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
                    received => *filled += received,
                }
            }
        }
    }
}

// === impl Socket ===

impl Socket {
    fn open(info: &ConnectionInfo, timeout: Duration) -> Result<Self, SourceError> {
        Self::try_open(info, timeout).map_err(|error| SourceError::Redis(error.into()))
    }

    fn try_open(info: &ConnectionInfo, timeout: Duration) -> io::Result<Self> {
        match info.addr() {
            ConnectionAddr::Unix(path) => {
                let socket = UnixStream::connect(path)?;
                socket.set_read_timeout(Some(timeout))?;
                socket.set_write_timeout(Some(timeout))?;
                Ok(Self::Unix(socket))
            }
            ConnectionAddr::Tcp(host, port) => {
                let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, CONNECT_MAX) {
                        Ok(socket) => {
                            socket.set_nodelay(true)?;
                            socket.set_read_timeout(Some(timeout))?;
                            socket.set_write_timeout(Some(timeout))?;
                            return Ok(Self::Tcp(socket));
                        }
                        Err(error) => failed = error,
                    }
                }
                Err(failed)
            }
            _ => Err(io::Error::from(io::ErrorKind::Unsupported)),
        }
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let received = match self {
                Self::Tcp(socket) => socket.read(into),
                Self::Unix(socket) => socket.read(into),
            };
            match received {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => return received,
            }
        }
    }
}

// === impl Reply ===

impl Reply {
    fn from_value(value: Value) -> Result<Self, SourceError> {
        let Some(entries) = reply::stream(value)? else {
            return Ok(Self { last: None, count: 0, bytes: 0, entries: Entries::Values(Value::Nil) });
        };
        let last = reply::last_id(&entries).ok_or(SourceError::Reply { command: "XREAD" })?;
        let (count, bytes) = reply::measure(&entries);
        Ok(Self { last: Some(last), count, bytes, entries: Entries::Values(entries) })
    }

    /// Unpacks the entries.
    pub(super) fn into_entries(self) -> Result<Vec<Entry>, SourceError> {
        match self.entries {
            Entries::Values(entries) => reply::entries("XREAD", entries),
            Entries::Received(received, spans) => Ok(spans.slice(&received.freeze())),
        }
    }
}
