//! A network between the service and Redis that cuts connections at any byte, and a server that is older than 7.0.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use super::*;

/// Passes bytes between a socket of its own and the server's. Ends, with all its threads, when dropped.
pub(super) struct Proxy {
    socket: PathBuf,
    _dir: tempfile::TempDir,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    /// Bytes of replies after which every connection is cut; 0: never.
    cut_after: AtomicU64,
    /// Whether commands are changed so that the server refuses ENTRIESREAD, as one before 7.0 does.
    old: bool,
    open: Mutex<Vec<UnixStream>>,
}

impl Proxy {
    pub(super) fn start(server: &RedisServer, old: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("proxy");
        let listener = UnixListener::bind(&socket).unwrap();
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            cut_after: AtomicU64::new(0),
            old,
            open: Mutex::default(),
        });
        let (state, target) = (Arc::clone(&shared), server.socket());
        let acceptor = thread::spawn(move || {
            let mut pumps = Vec::new();
            for client in listener.incoming() {
                if state.stop.load(Ordering::Acquire) {
                    break;
                }
                // A server that is gone: the client sees its connection closed.
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&target)) else { continue };
                state.open.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                let (up, down) = (Arc::clone(&state), Arc::clone(&state));
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                pumps.push(thread::spawn(move || up.pump(from, to, true)));
                pumps.push(thread::spawn(move || down.pump(server, client, false)));
            }
            pumps.into_iter().for_each(|pump| pump.join().unwrap());
        });
        Self { socket, _dir: dir, shared, acceptor: Some(acceptor) }
    }

    /// Replies of every connection are cut after so many bytes; 0: never.
    pub(super) fn cut_after(&self, bytes: u64) {
        self.shared.cut_after.store(bytes, Ordering::Release);
    }

    pub(super) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }
}

impl Shared {
    fn pump(&self, mut from: UnixStream, mut to: UnixStream, commands: bool) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let mut bytes = buffer[..length].to_vec();
            if commands && self.old {
                // The same length, so that the command stays whole; never cut in two by these tests' short commands.
                let text = b"ENTRIESREAD";
                for at in 0..bytes.len().saturating_sub(text.len() - 1) {
                    if bytes[at..].starts_with(text) {
                        bytes[at..at + text.len()].copy_from_slice(b"NOSUCHWORDS");
                    }
                }
            }
            let left = self.cut_after.load(Ordering::Acquire);
            if !commands && left > 0 {
                let pass = bytes.len().min(left as usize - 1);
                self.cut_after.store((left - pass as u64).max(1), Ordering::Release);
                bytes.truncate(pass);
            }
            if to.write_all(&bytes).is_err() || (!commands && left > 0 && left as usize <= length) {
                break;
            }
        }
        for end in [&from, &to] {
            // Whoever closed first, the other end is to see it too.
            drop(end.shutdown(std::net::Shutdown::Both));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for end in self.shared.open.lock().unwrap().drain(..) {
            drop(end.shutdown(std::net::Shutdown::Both));
        }
        drop(UnixStream::connect(&self.socket));
        let ended = self.acceptor.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

#[test]
fn connections_cut_at_any_byte_lose_and_double_nothing() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let Some(server) = RedisServer::start() else { return };
    let proxy = Proxy::start(&server, false);
    let direct = redis_stream(&server.url());
    let sent = direct.append((0..4000).map(event).collect()).unwrap();
    let stream = redis_stream(&proxy.url());
    let mut owned = own(&stream);
    let mut tracker = Tracker::new(&owned.reader.start(None).unwrap());
    let mut durable = Position { read: Some(0), ..Position::default() };
    let mut read = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    let mut cuts = 0;
    while read.len() < sent.len() || durable.low < sent[sent.len() - 1] {
        assert!(Instant::now() < deadline, "{} of {} read, {cuts} cuts", read.len(), sent.len());
        let cut = if cuts < 40 { random.u64(2..30_000) } else { 0 };
        proxy.shared.cut_after.store(cut, Ordering::Release);
        cuts += 1;
        let want = Want { count: random.usize(1..60), bytes: random.usize(1000..100_000) };
        match owned.reader.read(want, SHORT) {
            Ok(batch) => {
                assert!(batch.lost.is_empty() && batch.lost_unseen == 0 && batch.restarted.is_none(), "{batch:?}");
                let new = ids(&batch.entries);
                assert!(new.iter().all(|&id| tracker.take(id)), "an entry came twice");
                durable.apply(&tracker.commit(&new));
                read.extend(new);
            }
            Err(error) => assert!(!error.is_fatal(), "{error}"),
        }
        let published = owned.publisher.publish(&journal::recovered(owned.epoch, &durable));
        assert!(published.is_ok() || published.is_err_and(|e| !e.is_fatal() && !matches!(e, SourceError::Fenced)));
    }
    assert_eq!(read, sent);
    proxy.shared.cut_after.store(0, Ordering::Release);
    while let Err(error) = owned.publisher.publish(&journal::recovered(owned.epoch, &durable)) {
        assert!(Instant::now() < deadline, "{error}");
    }
    assert_eq!(direct.backlog().unwrap().entries, 0);
}

#[test]
fn dead_letters_stand_once_although_the_reply_was_lost() {
    let Some(server) = RedisServer::start() else { return };
    let proxy = Proxy::start(&server, false);
    let stream = redis_stream(&proxy.url());
    let sent = stream.append((0..20).map(event).collect()).unwrap();
    let mut owned = own(&stream);
    let letters: Vec<_> = sent.iter().map(|&id| letter(id, Some(event(1)))).collect();
    let (mut cut, mut may_exist) = (2, false);
    let deadline = Instant::now() + PATIENCE;
    loop {
        proxy.shared.cut_after.store(cut, Ordering::Release);
        match owned.publisher.bury(&letters, may_exist) {
            Ok(()) => break,
            Err(error) => assert!(!error.is_fatal() && Instant::now() < deadline, "{error}"),
        }
        may_exist = true;
        cut += 37;
    }
    assert!(may_exist, "nothing was ever cut");
    assert_eq!(Rig::Redis(server).buried().len(), 20);
}

#[test]
fn an_older_server_gets_the_position_without_the_count() {
    let Some(server) = RedisServer::start() else { return };
    let proxy = Proxy::start(&server, true);
    let stream = redis_stream(&proxy.url());
    let sent = stream.append((0..10).map(event).collect()).unwrap();
    let mut owned = own(&stream);
    owned.reader.start(None).unwrap();
    for published in [3, 5] {
        owned.publisher.publish(&receipt(&owned, sent[published], Some(published as u64 + 1))).unwrap();
        let groups: Vec<std::collections::HashMap<String, redis::Value>> =
            redis::cmd("XINFO").arg("GROUPS").arg("task_events").query(&mut server.connect()).unwrap();
        assert_eq!(groups[0]["last-delivered-id"], redis::Value::BulkString(sent[published].to_string().into()));
        assert_eq!((&groups[0]["entries-read"], &groups[0]["lag"]), (&redis::Value::Nil, &redis::Value::Nil));
        assert_eq!(stream.backlog().unwrap().entries, 9 - published as u64, "counted by us");
    }
}
