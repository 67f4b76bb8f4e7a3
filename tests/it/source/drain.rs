//! How fast the reader alone drains a backlog, against a plain XREADGROUP + XACK loop on the same server. Ignored by default:
//! `cargo test --release --test it drain -- --ignored --nocapture`.

use redis::Value;

use super::*;

const ENTRIES: u64 = 200_000;

#[test]
#[ignore = "a measurement"]
fn drain_rates_of_the_reader_and_of_a_plain_group_loop() {
    let Some(server) = RedisServer::start_tcp(&[]) else { return };
    let stream = redis_stream(&server.tcp_url());
    let data = "x".repeat(450);
    for chunk in (0..ENTRIES).collect::<Vec<_>>().chunks(1000) {
        let event = |n: &u64| {
            fields(&[("type", "task:output"), ("task_id", &format!("task-{n}")), ("timestamp", "now"), ("data", &data)])
        };
        stream.append(chunk.iter().map(event).collect()).unwrap();
    }
    for round in 0..3 {
        let group = format!("plain{round}");
        let mut redis = redis::Client::open(server.tcp_url()).unwrap().get_connection().unwrap();
        redis::cmd("XGROUP").arg("CREATE").arg("task_events").arg(&group).arg(0).exec(&mut redis).unwrap();
        let (started, mut plain) = (Instant::now(), 0);
        while plain < ENTRIES {
            let mut read = redis::cmd("XREADGROUP");
            read.arg("GROUP").arg(&group).arg("c").arg("COUNT").arg(1000).arg("STREAMS").arg("task_events").arg(">");
            let Value::Array(mut streams) = read.query::<Value>(&mut redis).unwrap() else { panic!() };
            let Some(Value::Array(mut pair)) = streams.pop() else { panic!() };
            let Some(Value::Array(entries)) = pair.pop() else { panic!() };
            let ids = entries.iter().map(|entry| match entry {
                Value::Array(entry) => entry[0].clone(),
                other => panic!("{other:?}"),
            });
            let mut ack = redis::cmd("XACK");
            ack.arg("task_events").arg(&group);
            for id in ids {
                let Value::BulkString(id) = id else { panic!() };
                ack.arg(id);
            }
            plain += ack.query::<u64>(&mut redis).unwrap();
        }
        let plain_rate = rate(started);
        let mut owned = own(&stream);
        let position = Position::default();
        owned.reader.start(Some(&position)).unwrap();
        let (started, mut read, mut reads) = (Instant::now(), 0, 0);
        let (mut last, mut bytes) = (StreamId::MIN, 0);
        while read < ENTRIES {
            let batch = owned.reader.read(WANT, SHORT).unwrap();
            read += batch.entries.len() as u64;
            reads += 1;
            last = batch.entries.last().map_or(last, |entry| entry.id);
            bytes += batch.entries.iter().flat_map(|e| &e.fields).map(|(n, v)| n.len() + v.len()).sum::<usize>();
        }
        let own_rate = rate(started);
        eprintln!(
            "XREADGROUP+XACK {plain_rate:.0}/s, reader {own_rate:.0}/s ({:.2}), {reads} reads, {} bytes each, last {last}",
            own_rate / plain_rate,
            bytes as u64 / ENTRIES,
        );
    }
}

fn rate(started: Instant) -> f64 {
    ENTRIES as f64 / started.elapsed().as_secs_f64()
}
