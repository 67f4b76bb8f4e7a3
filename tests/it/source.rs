//! The conformance suite of [`task_logger::source::Stream`]: each case runs on both streams, on Redis also what only Redis has.

use std::{
    collections::BTreeSet,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use task_logger::{
    event::{Entry, StreamId},
    journal,
    position::{Position, Tracker},
    source::{
        Batch, DeadLetter, Fields, OwnRequest, Owned, SourceError, Stream, Want,
        embedded::EmbeddedStream,
        redis::{RedisConfig, RedisStream},
    },
};

use crate::redis_server::RedisServer;

mod conformance;
mod embedded_only;
mod faults;
mod letters;
mod redis_only;

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(20);
const EVENT_MAX: usize = 16 << 20;
const WANT: Want = Want { count: 10, bytes: 32 << 20 };

/// One stream and its folder or server; each `open` is what another process would have.
enum Rig {
    Redis(RedisServer),
    Embedded(tempfile::TempDir),
}

/// Runs a case on both streams.
fn on_both(case: impl Fn(&Rig)) {
    case(&Rig::Embedded(tempfile::tempdir().unwrap()));
    if let Some(server) = RedisServer::start() {
        case(&Rig::Redis(server));
    }
}

impl Rig {
    fn open(&self) -> Arc<dyn Stream> {
        match self {
            Self::Redis(server) => Arc::new(redis_stream(&server.url())),
            Self::Embedded(dir) => {
                // Small segments, so that every case crosses their borders.
                let stream = EmbeddedStream::open(dir.path(), "task_events", EVENT_MAX).unwrap();
                Arc::new(stream.with_segment_bytes(64 << 10))
            }
        }
    }

    /// What the dead letter stream holds: the original ids, in order.
    fn buried(&self) -> Vec<Vec<(String, String)>> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let letters: Vec<Fields> = match self {
            Self::Redis(server) => {
                let range = redis::cmd("XRANGE").arg("{task_events}:dead").arg("-").arg("+").clone();
                let reply: Vec<(String, Vec<Vec<u8>>)> = range.query(&mut server.connect()).unwrap();
                let pairs = |flat: Vec<Vec<u8>>| {
                    flat.chunks_exact(2).map(|pair| (pair[0].clone().into(), pair[1].clone().into())).collect()
                };
                reply.into_iter().map(|(_, flat)| pairs(flat)).collect()
            }
            Self::Embedded(dir) => {
                let letters = task_logger::source::embedded::entries(dir.path(), "task_events", true).unwrap();
                letters.map(|letter| letter.unwrap().fields).collect()
            }
        };
        letters.iter().map(|fields| fields.iter().map(|(n, v)| (text(n), text(v))).collect()).collect()
    }
}

fn redis_stream(url: &str) -> RedisStream {
    RedisStream::new(RedisConfig {
        url: url.to_owned(),
        stream: "task_events".to_owned(),
        group: "task-logger".to_owned(),
        event_max: EVENT_MAX,
    })
    .unwrap()
}

fn request(state_id: &str, epoch_min: u64, holds_local_lock: bool) -> OwnRequest {
    OwnRequest {
        epoch_min,
        state_id: state_id.to_owned(),
        holds_local_lock,
        chain_digest: "digest".to_owned(),
        state_dir: None,
    }
}

/// Owns a stream that nobody else holds.
fn own(stream: &dyn Stream) -> Owned {
    stream.try_own(&request("a", 0, false)).unwrap().expect("nobody else owns it")
}

fn event(n: u64) -> Fields {
    fields(&[("type", "task:output"), ("n", &n.to_string())])
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(n, v)| (Bytes::copy_from_slice(n.as_bytes()), Bytes::copy_from_slice(v.as_bytes()))).collect()
}

/// Reads until that many entries came; lost ones and restarts are failures here.
fn read_exactly(owned: &mut Owned, count: usize) -> Vec<Entry> {
    let deadline = Instant::now() + PATIENCE;
    let mut entries = Vec::new();
    while entries.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} entries", entries.len());
        let batch = owned.reader.read(WANT, SHORT).unwrap();
        assert!(batch.lost.is_empty() && batch.lost_unseen == 0 && batch.restarted.is_none(), "{batch:?}");
        entries.extend(batch.entries);
    }
    assert_eq!(entries.len(), count);
    entries
}

/// Reads until a batch says something other than "nothing".
fn read_until(owned: &mut Owned, what: impl Fn(&Batch) -> bool) -> Batch {
    let deadline = Instant::now() + PATIENCE;
    let mut last = None;
    loop {
        assert!(Instant::now() < deadline, "never came, but {last:?}");
        match owned.reader.read(WANT, SHORT) {
            Ok(batch) if what(&batch) => return batch,
            Ok(batch) if batch.restarted.is_none() => {}
            Ok(batch) => panic!("{batch:?}"),
            Err(error) => {
                assert!(!error.is_fatal(), "{error}");
                last = Some(error);
            }
        }
    }
}

fn receipt(owned: &Owned, low: StreamId, read: Option<u64>) -> journal::Durable {
    journal::recovered(owned.epoch, &Position { low, high: low, read, ..Position::default() })
}

fn ids(entries: &[Entry]) -> Vec<StreamId> {
    entries.iter().map(|entry| entry.id).collect()
}

fn letter(id: StreamId, fields: Option<Fields>) -> DeadLetter {
    DeadLetter { id, fields, reason: "bad_json".to_owned(), code: "eof".to_owned(), plugin: None, attempts: 1 }
}
