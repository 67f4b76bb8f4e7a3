//! The position protocol against a real server, with bare commands: what the Redis source relies on, and what other tools see.
//!
//! True on Redis 7.0.15:
//! * XREAD from an id changes nothing in the group; a blocked XREAD is woken by XADD, and by nothing when the key vanishes: it
//!   answers nil at its BLOCK, so a flush is only seen by asking (XINFO STREAM).
//! * XREAD of a missing key is nil, not an error. XGROUP SETID of a missing group is NOGROUP; of a missing key a plain ERR.
//! * `XGROUP SETID low ENTRIESREAD n` gives other tools `lag = entries-added - n`, pending untouched (0 for ever).
//! * A wrong `n` is believed: too small overstates lag, too large makes it negative. So it is published when known, never guessed.
//! * Without ENTRIESREAD (6.2's form, accepted here too) `entries-read` and `lag` become nil, except where the server can
//!   derive them: at the last id (lag 0), and below the first entry of a stream from which nothing was deleted.
//! * XDEL above the position makes lag nil until the position has passed the deleted id; below the position it changes nothing.
//!   Trimming below the position keeps lag right. Trimming of unread entries (MAXLEN) leaves them in the lag until the
//!   position has passed them: `entries-added` still counts them, which is how a loss is found.
//! * WATCH sees SET, DEL, expiry and FLUSHALL of the epoch key. EXEC is nil then, and the group has not moved. A WATCH sent behind
//!   EXEC in the same pipeline guards the next publish, so that a publish is one round trip.

use std::{
    thread,
    time::{Duration, Instant},
};

use redis::{Connection, Value, cmd};

use crate::redis_server::RedisServer;

fn run(redis: &mut Connection, line: &str) -> redis::RedisResult<Value> {
    let mut words = line.split(' ');
    let mut command = cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    command.query(redis)
}

fn all(redis: &mut Connection, lines: &[&str]) {
    for line in lines {
        run(redis, line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

fn fill(redis: &mut Connection, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        run(redis, &format!("XADD s {id}-0 f {id}")).unwrap();
    }
}

/// `(last-delivered-id, entries-read, lag, pending)` of the group as XINFO GROUPS shows it.
fn group(redis: &mut Connection) -> (String, Option<i64>, Option<i64>, i64) {
    let groups: Vec<std::collections::HashMap<String, Value>> =
        cmd("XINFO").arg("GROUPS").arg("s").query(redis).unwrap();
    let field = |name: &str| groups[0].get(name).cloned().unwrap_or(Value::Nil);
    (
        redis::from_redis_value(field("last-delivered-id")).unwrap(),
        redis::from_redis_value(field("entries-read")).unwrap(),
        redis::from_redis_value(field("lag")).unwrap(),
        redis::from_redis_value(field("pending")).unwrap(),
    )
}

fn seen(
    id: &str,
    read: impl Into<Option<i64>>,
    lag: impl Into<Option<i64>>,
) -> (String, Option<i64>, Option<i64>, i64) {
    (id.to_owned(), read.into(), lag.into(), 0)
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(streams) => match &streams[0] {
            Value::Array(pair) => match &pair[1] {
                Value::Array(entries) => entries.len(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        },
        _ => 0,
    }
}

#[test]
fn reading_by_position_and_publishing_by_setid_shows_right_lag_to_other_tools() {
    let Some(server) = RedisServer::start() else { return };
    let (mut redis, mut reader) = (server.connect(), server.connect());
    run(&mut redis, "XGROUP CREATE s g 0 MKSTREAM").unwrap();
    fill(&mut redis, 1..=10);
    assert_eq!(group(&mut redis), seen("0-0", None, 10));
    let reply = run(&mut reader, "XREAD COUNT 4 BLOCK 100 STREAMS s 0-0").unwrap();
    assert_eq!(count(&reply), 4);
    assert_eq!(group(&mut redis), seen("0-0", None, 10), "a read left a trace");
    run(&mut redis, "XGROUP SETID s g 4-0 ENTRIESREAD 4").unwrap();
    assert_eq!(group(&mut redis), seen("4-0", 4, 6));
    fill(&mut redis, 11..=13);
    assert_eq!(group(&mut redis), seen("4-0", 4, 9));
    run(&mut redis, "XGROUP SETID s g 13-0 ENTRIESREAD 13").unwrap();
    assert_eq!(group(&mut redis), seen("13-0", 13, 0));
    // Back again, as a take-over from an older journal may do: allowed, and shown.
    run(&mut redis, "XGROUP SETID s g 4-0 ENTRIESREAD 4").unwrap();
    assert_eq!(group(&mut redis), seen("4-0", 4, 9));
}

#[test]
fn lag_with_n_right_wrong_and_unknown() {
    let Some(server) = RedisServer::start() else { return };
    let redis = &mut server.connect();
    run(redis, "XGROUP CREATE s g 0 MKSTREAM").unwrap();
    fill(redis, 1..=10);
    for (setid, expected) in [
        ("XGROUP SETID s g 4-0 ENTRIESREAD 4", seen("4-0", 4, 6)),
        ("XGROUP SETID s g 4-0 ENTRIESREAD 3", seen("4-0", 3, 7)),
        ("XGROUP SETID s g 4-0 ENTRIESREAD 50", seen("4-0", 50, -40)),
        ("XGROUP SETID s g 4-0", seen("4-0", None, None)),
        ("XGROUP SETID s g 4-0 ENTRIESREAD -1", seen("4-0", None, None)),
        ("XGROUP SETID s g 0-0", seen("0-0", None, 10)),
        ("XGROUP SETID s g 10-0", seen("10-0", None, 0)),
    ] {
        run(redis, setid).unwrap();
        assert_eq!(group(redis), expected, "{setid}");
    }
    for refused in ["XGROUP SETID s none 1-0 ENTRIESREAD 1", "XGROUP SETID none g 1-0 ENTRIESREAD 1"] {
        assert!(run(redis, refused).is_err(), "{refused}");
    }
    let unknown = run(redis, "XGROUP SETID s g 1-0 NOSUCHWORD 1").unwrap_err();
    assert_eq!(
        unknown.code(),
        Some("ERR"),
        "how a server without ENTRIESREAD answers it: a syntax error, nothing moved"
    );
    assert_eq!(group(redis), seen("10-0", None, 0));
}

#[test]
fn deletes_and_trims_around_the_position() {
    let Some(server) = RedisServer::start() else { return };
    let redis = &mut server.connect();
    run(redis, "XGROUP CREATE s g 0 MKSTREAM").unwrap();
    fill(redis, 1..=10);
    all(redis, &["XGROUP SETID s g 4-0 ENTRIESREAD 4", "XDEL s 2-0"]);
    assert_eq!(group(redis), seen("4-0", 4, 6), "below the position");
    run(redis, "XDEL s 7-0").unwrap();
    assert_eq!(group(redis), seen("4-0", 4, None), "above it: not known");
    run(redis, "XGROUP SETID s g 8-0 ENTRIESREAD 8").unwrap();
    assert_eq!(group(redis), seen("8-0", 8, 2), "known again behind it, when the deleted one is counted");
    run(redis, "XTRIM s MINID 8-0").unwrap();
    assert_eq!(group(redis), seen("8-0", 8, 2), "trimmed up to the position");
    run(redis, "XADD s MAXLEN 1 11-0 f 11").unwrap();
    assert_eq!(group(redis).2, Some(3), "9 and 10 were never read and are still in the lag");
    let info: std::collections::HashMap<String, Value> = cmd("XINFO").arg("STREAM").arg("s").query(redis).unwrap();
    assert_eq!(info["entries-added"], Value::Int(11), "9 and 10 are gone and still counted");
    assert_eq!(info["recorded-first-entry-id"], Value::BulkString(b"11-0".to_vec()));
    run(redis, "XGROUP SETID s g 11-0 ENTRIESREAD 11").unwrap();
    assert_eq!(group(redis), seen("11-0", 11, 0));
}

#[test]
fn a_publish_under_watch_is_refused_when_the_epoch_moved() {
    let Some(server) = RedisServer::start() else { return };
    let (mut owner, mut other) = (server.connect(), server.connect());
    run(&mut owner, "XGROUP CREATE s g 0 MKSTREAM").unwrap();
    fill(&mut owner, 1..=10);
    run(&mut owner, "SET {s}:epoch 7").unwrap();
    let publish = |owner: &mut Connection, id: u64| -> Vec<Value> {
        // One round trip; the WATCH at its end guards the next one.
        let mut pipe = redis::pipe();
        pipe.cmd("MULTI").ignore();
        pipe.cmd("XGROUP").arg("SETID").arg("s").arg("g").arg(format!("{id}-0")).arg("ENTRIESREAD").arg(id).ignore();
        pipe.cmd("EXEC").cmd("WATCH").arg("{s}:epoch").ignore().cmd("GET").arg("{s}:epoch");
        pipe.query(owner).unwrap()
    };
    run(&mut owner, "WATCH {s}:epoch").unwrap();
    for id in 1..=3 {
        let replies = publish(&mut owner, id);
        assert_eq!(replies, [Value::Array(vec![Value::Okay]), Value::BulkString(b"7".to_vec())]);
        assert_eq!(group(&mut other), seen(&format!("{id}-0"), id as i64, 10 - id as i64));
    }
    for change in ["SET {s}:epoch 8", "DEL {s}:epoch", "SET {s}:epoch 7 PX 1", "SET {s}:epoch 7"] {
        run(&mut other, change).unwrap();
        if change.contains("PX") {
            // Until it has expired for everyone.
            while run(&mut other, "GET {s}:epoch").unwrap() != Value::Nil {}
        }
        let replies = publish(&mut owner, 9);
        assert_eq!(replies[0], Value::Nil, "{change}");
        assert_eq!(group(&mut other), seen("3-0", 3, 7), "{change}");
    }
    publish(&mut owner, 4);
    assert_eq!(group(&mut other), seen("4-0", 4, 6), "and goes on when it stands still");
    run(&mut other, "FLUSHALL").unwrap();
    assert_eq!(publish(&mut owner, 9)[0], Value::Nil);
}

#[test]
fn a_blocked_read_is_woken_by_an_append_and_not_by_a_flush() {
    let Some(server) = RedisServer::start() else { return };
    let (mut redis, mut reader) = (server.connect(), server.connect());
    assert_eq!(run(&mut reader, "XREAD BLOCK 20 STREAMS s 5-0").unwrap(), Value::Nil, "a missing key is an empty one");
    fill(&mut redis, 1..=5);
    let blocked = |redis: &mut Connection| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let clients: String = cmd("INFO").arg("clients").query(redis).unwrap();
            if clients.contains("blocked_clients:1") {
                return;
            }
            assert!(Instant::now() < deadline, "nobody blocks");
        }
    };
    thread::scope(|scope| {
        let read = scope.spawn(|| run(&mut reader, "XREAD COUNT 10 BLOCK 20000 STREAMS s 5-0").unwrap());
        blocked(&mut redis);
        fill(&mut redis, 6..=6);
        assert_eq!(count(&read.join().unwrap()), 1);
    });
    let started = Instant::now();
    thread::scope(|scope| {
        let read = scope.spawn(|| run(&mut reader, "XREAD COUNT 10 BLOCK 700 STREAMS s 6-0").unwrap());
        blocked(&mut redis);
        run(&mut redis, "FLUSHALL").unwrap();
        // Ids below the position: the reader would wait for ever, which is why it asks XINFO STREAM when idle.
        fill(&mut redis, 1..=2);
        assert_eq!(read.join().unwrap(), Value::Nil);
    });
    assert!(started.elapsed() >= Duration::from_millis(700));
    let info: std::collections::HashMap<String, Value> = cmd("XINFO").arg("STREAM").arg("s").query(&mut redis).unwrap();
    assert_eq!(info["last-generated-id"], Value::BulkString(b"2-0".to_vec()));
}
