//! What only Redis has: groups of other consumers, streams that others trim, flush or replace, servers that go away.

use redis::{Connection, Value};

use super::*;

fn run<T: redis::FromRedisValue>(redis: &mut Connection, line: &str) -> T {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    command.query(redis).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn add(redis: &mut Connection, ids: impl IntoIterator<Item = u64>) {
    for id in ids {
        run::<String>(redis, &format!("XADD task_events {id}-0 n {id}"));
    }
}

fn id(ms: u64) -> StreamId {
    StreamId { ms, seq: 0 }
}

/// `(last-delivered-id, entries-read, lag, pending)`.
fn group(redis: &mut Connection) -> (String, Option<i64>, Option<i64>, i64) {
    let groups: Vec<std::collections::HashMap<String, Value>> = run(redis, "XINFO GROUPS task_events");
    let get = |name: &str| groups[0][name].clone();
    let from = redis::from_redis_value::<Option<i64>>;
    (
        redis::from_redis_value(get("last-delivered-id")).unwrap(),
        from(get("entries-read")).unwrap(),
        from(get("lag")).unwrap(),
        from(get("pending")).unwrap().unwrap(),
    )
}

#[test]
fn an_existing_groups_pending_entries_are_read_again_and_acknowledged_when_passed() {
    let Some(server) = RedisServer::start() else { return };
    let redis = &mut server.connect();
    add(redis, 1..=10);
    run::<()>(redis, "XGROUP CREATE task_events task-logger 0");
    run::<Value>(redis, "XREADGROUP GROUP task-logger old COUNT 4 STREAMS task_events >");
    run::<Value>(redis, "XREADGROUP GROUP task-logger older COUNT 2 STREAMS task_events >");
    run::<i64>(redis, "XACK task_events task-logger 1-0 2-0 4-0");
    run::<i64>(redis, "XDEL task_events 5-0");
    let stream = redis_stream(&server.url());
    assert_eq!(stream.backlog().unwrap().entries, 4 + 3);
    let mut owned = own(&stream);
    let position = owned.reader.start(None).unwrap();
    assert_eq!((position.high, &position.holes[..]), (id(6), &[id(3), id(5), id(6)][..]));
    let mut tracker = Tracker::new(&position);
    let first = read_until(&mut owned, |batch| !batch.entries.is_empty());
    assert_eq!((ids(&first.entries), first.lost), (vec![id(3), id(6)], vec![id(5)]));
    let step = tracker.commit(&[id(3)]);
    owned.publisher.publish(&receipt(&owned, step.low, step.read)).unwrap();
    assert_eq!(group(redis).3, 2, "3-0 is acknowledged, 5-0 and 6-0 are not");
    let step = tracker.commit(&[id(5), id(6)]);
    assert_eq!(step.low, id(6));
    owned.publisher.publish(&receipt(&owned, step.low, step.read)).unwrap();
    assert_eq!(group(redis), ("6-0".to_owned(), Some(6), Some(4), 0));
    assert_eq!(ids(&read_exactly(&mut owned, 4)), (7..=10).map(id).collect::<Vec<_>>());
}

#[test]
fn a_flushed_stream_is_a_new_incarnation() {
    let Some(server) = RedisServer::start() else { return };
    let redis = &mut server.connect();
    add(redis, 100..=110);
    let stream = redis_stream(&server.url());
    let mut owned = own(&stream);
    owned.reader.start(None).unwrap();
    read_exactly(&mut owned, 11);
    owned.publisher.publish(&receipt(&owned, id(110), Some(11))).unwrap();
    run::<()>(redis, "FLUSHALL");
    add(redis, 1..=5);
    let batch = read_until(&mut owned, |batch| batch.restarted.is_some());
    let position = batch.restarted.unwrap();
    assert_eq!((position.incarnation, position.high, position.read), (1, StreamId::MIN, Some(0)));
    assert_eq!(ids(&read_exactly(&mut owned, 5)), (1..=5).map(id).collect::<Vec<_>>());
    // The epoch went with the flush; the lease's renewal puts it back, and then publishing works again.
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = owned.publisher.publish(&receipt(&owned, id(5), Some(5))) {
        assert!(!error.is_fatal() && !matches!(error, SourceError::Fenced), "{error}");
        assert!(Instant::now() < deadline, "{error}");
        thread::park_timeout(SHORT);
    }
    assert_eq!(group(redis), ("5-0".to_owned(), Some(5), Some(0), 0));
    // And a journal from before the flush is told so at the next start.
    owned.lease.release();
    let mut owned = own(&stream);
    let old = Position { high: id(110), low: id(110), incarnation: 3, ..Position::default() };
    let position = owned.reader.start(Some(&old)).unwrap();
    assert_eq!((position.incarnation, position.high, position.read), (4, id(5), Some(5)));
}

#[test]
fn entries_trimmed_before_they_were_read_are_counted() {
    let Some(server) = RedisServer::start() else { return };
    let redis = &mut server.connect();
    add(redis, 1..=10);
    let stream = redis_stream(&server.url());
    let mut owned = own(&stream);
    owned.reader.start(None).unwrap();
    read_exactly(&mut owned, 10);
    add(redis, 11..=20);
    // Whether the reader has these already is a race; from here on it has not.
    let mut seen = 10;
    let deadline = Instant::now() + PATIENCE;
    while seen < 20 {
        seen += owned.reader.read(WANT, SHORT).unwrap().entries.len();
        assert!(Instant::now() < deadline);
    }
    drop(owned);
    add(redis, 21..=60);
    run::<Value>(redis, "XTRIM task_events MAXLEN 15");
    let position = Position { high: id(20), low: id(20), read: Some(20), ..Position::default() };
    let mut owned = own(&stream);
    owned.reader.start(Some(&position)).unwrap();
    let mut lost = 0;
    let mut read = Vec::new();
    while lost < 25 || read.len() < 15 {
        let batch = owned.reader.read(WANT, SHORT).unwrap();
        lost += batch.lost_unseen;
        read.extend(ids(&batch.entries));
        assert!(Instant::now() < deadline, "{lost} lost, {} read", read.len());
    }
    assert_eq!((lost, read), (25, (46..=60).map(id).collect()));
}

#[test]
fn a_destroyed_group_is_made_again_where_the_position_is() {
    let Some(server) = RedisServer::start() else { return };
    let redis = &mut server.connect();
    add(redis, 1..=10);
    let stream = redis_stream(&server.url());
    let mut owned = own(&stream);
    owned.reader.start(None).unwrap();
    for destroy in ["XGROUP DESTROY task_events task-logger", "DEL task_events"] {
        run::<i64>(redis, destroy);
        owned.publisher.publish(&receipt(&owned, id(4), Some(4))).unwrap();
        assert_eq!(group(redis).0, "4-0", "{destroy}");
    }
}

#[test]
fn a_server_that_goes_away_and_comes_back_costs_nothing() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let Some(mut server) = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    let stream = redis_stream(&server.url());
    let mut owned = own(&stream);
    owned.reader.start(None).unwrap();
    let (mut sent, mut read) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        sent.extend(stream.append((0..random.u64(1..500)).map(event).collect()).unwrap());
        for _ in 0..random.usize(0..4) {
            read.extend(ids(&owned.reader.read(WANT, SHORT).unwrap().entries));
        }
        server.stop();
        // Down for as long as the reader needs to notice; what it had on its way may still come.
        let deadline = Instant::now() + PATIENCE;
        loop {
            match owned.reader.read(WANT, SHORT) {
                Ok(batch) => read.extend(ids(&batch.entries)),
                Err(error) => {
                    assert!(!error.is_fatal(), "{error}");
                    break;
                }
            }
            assert!(Instant::now() < deadline);
        }
        let started = Instant::now();
        assert!(owned.reader.read(WANT, SHORT).is_ok_and(|batch| batch.entries.is_empty()), "it backs off");
        assert!(started.elapsed() < Duration::from_secs(5), "and returns within the wait");
        server.start_again();
        read.extend(ids(&read_until(&mut owned, |batch| !batch.entries.is_empty() || batch.added.is_some()).entries));
        // A dropped connection must not fail the first append after it.
        let deadline = Instant::now() + PATIENCE;
        sent.extend(loop {
            match stream.append(vec![event(0)]) {
                Ok(ids) => break ids,
                Err(error) => assert!(!error.is_fatal() && Instant::now() < deadline, "{error}"),
            }
        });
    }
    while read.len() < sent.len() {
        let batch = read_until(&mut owned, |batch| !batch.entries.is_empty());
        read.extend(ids(&batch.entries));
    }
    assert_eq!(read, sent);
}

#[test]
fn a_restarted_process_takes_its_own_lease_back_at_once() {
    let Some(server) = RedisServer::start() else { return };
    let (first, second) = (redis_stream(&server.url()), redis_stream(&server.url()));
    let old = first.try_own(&request("folder", 0, true)).unwrap().unwrap();
    assert!(second.try_own(&request("folder", 0, false)).unwrap().is_none(), "without the lock it proves nothing");
    let new = second.try_own(&request("folder", 0, true)).unwrap().expect("the lock says that the owner is dead");
    assert_eq!(new.epoch, old.epoch + 1);
    let deadline = Instant::now() + PATIENCE;
    while old.lease.is_held() {
        assert!(Instant::now() < deadline, "the old owner never notices");
        thread::park_timeout(SHORT);
    }
    drop(old);
    assert!(new.lease.is_held());
    assert_eq!(run::<i64>(&mut server.connect(), "EXISTS {task_events}:lease"), 1, "only its own may be deleted");
}

#[test]
fn a_lease_that_cannot_be_renewed_is_not_held_any_more_and_comes_back() {
    let Some(mut server) = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    let stream = redis_stream(&server.url());
    let owned = own(&stream);
    server.stop();
    let wait_for = |held: bool| {
        let deadline = Instant::now() + PATIENCE;
        while owned.lease.is_held() != held {
            assert!(Instant::now() < deadline, "is_held stays {}", !held);
            thread::park_timeout(SHORT);
        }
    };
    wait_for(false);
    server.start_again();
    wait_for(true);
    run::<i64>(&mut server.connect(), "DEL {task_events}:lease");
    run::<()>(&mut server.connect(), &format!("SET {{task_events}}:epoch {}", owned.epoch + 1));
    wait_for(false);
}

#[test]
fn a_key_of_another_type_and_a_refused_password_are_fatal() {
    let Some(server) = RedisServer::start() else { return };
    run::<()>(&mut server.connect(), "SET task_events text");
    let stream = redis_stream(&server.url());
    assert!(stream.append(vec![event(1)]).unwrap_err().is_fatal());
    let mut owned = own(&stream);
    assert!(owned.reader.start(None).unwrap_err().is_fatal());
    let Some(server) = RedisServer::start_with(&["--requirepass", "right"]) else { return };
    let error = redis_stream(&server.url()).backlog().unwrap_err();
    assert!(error.is_fatal(), "{error}");
    let error = redis_stream(&format!("{}?pass=wrong", server.url())).backlog().unwrap_err();
    assert!(error.is_fatal() && !error.to_string().contains("wrong"), "{error}");
    redis_stream(&format!("{}?pass=right&db=3", server.url())).append(vec![event(1)]).unwrap();
}

#[test]
fn our_keys_share_the_streams_slot() {
    let Some(server) = RedisServer::start() else { return };
    let config = |stream: &str| RedisConfig {
        url: server.url(),
        stream: stream.to_owned(),
        group: "g".to_owned(),
        event_max: EVENT_MAX,
    };
    for (name, lease) in [("events", "{events}:lease"), ("a:{tag}:b", "a:{tag}:b:lease")] {
        let stream = RedisStream::new(config(name)).unwrap();
        let _owned = own(&stream);
        assert_eq!(run::<i64>(&mut server.connect(), &format!("EXISTS {lease}")), 1, "{lease}");
    }
    assert_eq!(RedisStream::new(config("a:{tag}:b")).unwrap().state_name(), "redis-a:%7Btag%7D:b");
}

#[test]
fn a_loopback_port_and_a_sentinel_work_like_a_socket() {
    let Some(server) = RedisServer::start_tcp(&[]) else { return };
    let stream = redis_stream(&server.tcp_url());
    let sent = stream.append((0..100).map(event).collect()).unwrap();
    assert_eq!(stream.describe(), format!("redis://127.0.0.1:{}/0 task_events", server.port()));
    let Some(sentinel) = RedisServer::start_sentinel(server.port()) else { return };
    let stream = redis_stream(&format!("redis-sentinel://127.0.0.1:{}/mymaster/0", sentinel.port()));
    let mut owned = own(&stream);
    owned.reader.start(None).unwrap();
    assert_eq!(ids(&read_exactly(&mut owned, 100)), sent);
    let wrong = redis_stream(&format!("redis-sentinel://127.0.0.1:{}/nobody", sentinel.port()));
    assert!(wrong.backlog().is_err_and(|error| !error.is_fatal()));
}
