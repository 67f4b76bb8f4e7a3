//! What holds for every stream.

use super::*;

#[test]
fn entries_come_in_order_with_doubled_fields_and_every_byte() {
    on_both(|rig| {
        let stream = rig.open();
        let mut owned = own(&*stream);
        owned.reader.start(None).unwrap();
        let odd: Fields = vec![
            (Bytes::from_static(b"data"), Bytes::from_static(b"one\r\n$3\r\n")),
            (Bytes::from_static(b"data"), Bytes::from_static(b"\0\xff")),
            (Bytes::new(), Bytes::new()),
        ];
        let mut sent = vec![odd];
        sent.extend((0..500).map(event));
        let ids_sent = stream.append(sent.clone()).unwrap();
        assert!(ids_sent.is_sorted() && ids_sent.iter().collect::<BTreeSet<_>>().len() == sent.len());
        let read = read_exactly(&mut owned, sent.len());
        assert_eq!(ids(&read), ids_sent);
        assert_eq!(read.into_iter().map(|entry| entry.fields).collect::<Vec<_>>(), sent);
    });
}

#[test]
fn an_empty_read_waits_and_an_append_wakes_it() {
    on_both(|rig| {
        let stream = rig.open();
        let mut owned = own(&*stream);
        owned.reader.start(None).unwrap();
        let started = Instant::now();
        let wait = Duration::from_millis(200);
        assert!(owned.reader.read(WANT, wait).unwrap().entries.is_empty());
        assert!(started.elapsed() >= wait, "{:?}", started.elapsed());
        thread::scope(|scope| {
            let reading = scope.spawn(|| read_exactly(&mut owned, 1));
            stream.append(vec![event(1)]).unwrap();
            assert_eq!(reading.join().unwrap()[0].fields, event(1));
        });
    });
}

#[test]
fn nothing_is_lost_or_doubled_over_random_restarts_of_the_reader() {
    on_both(|rig| {
        let seed = fastrand::u64(..);
        eprintln!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let stream = rig.open();
        let sent = stream.append((0..3000).map(event).collect()).unwrap();
        let mut durable: Option<Position> = None;
        let mut committed = Vec::new();
        while committed.len() < sent.len() {
            let mut owned = own(&*stream);
            let position = owned.reader.start(durable.as_ref()).unwrap();
            let mut tracker = Tracker::new(&position);
            let mut open = Vec::new();
            for _ in 0..random.usize(1..8) {
                let batch = owned.reader.read(Want { count: random.usize(1..50), bytes: 1 << 20 }, SHORT).unwrap();
                assert!(batch.lost.is_empty() && batch.lost_unseen == 0 && batch.restarted.is_none(), "{batch:?}");
                for entry in batch.entries {
                    assert!(tracker.take(entry.id), "{} came twice", entry.id);
                    open.push(entry.id);
                }
                random.shuffle(&mut open);
                let done: Vec<_> = open.drain(..random.usize(0..=open.len())).collect();
                let step = tracker.commit(&done);
                let mut position = durable.take().unwrap_or_else(|| position.clone());
                position.apply(&step);
                owned.publisher.publish(&journal::recovered(owned.epoch, &position)).unwrap();
                durable = Some(position);
                committed.extend(done);
            }
        }
        assert_eq!(committed.iter().collect::<BTreeSet<_>>().len(), committed.len());
        committed.sort_unstable();
        assert_eq!(committed, sent);
        assert_eq!(stream.backlog().unwrap().entries, 0);
        let position = durable.unwrap();
        assert_eq!((position.read, position.above, &position.holes[..]), (Some(3000), 0, &[][..]));
    });
}

#[test]
fn holes_are_read_again_first_and_those_that_are_gone_are_lost() {
    on_both(|rig| {
        let stream = rig.open();
        let sent = stream.append((0..10).map(event).collect()).unwrap();
        let gone = StreamId { ms: sent[0].ms - 1, seq: 7 };
        let position = Position {
            high: sent[7],
            low: gone.previous(),
            holes: vec![gone, sent[2], sent[5]],
            read: Some(0),
            ..Position::default()
        };
        let mut owned = own(&*stream);
        assert_eq!(owned.reader.start(Some(&position)).unwrap(), position);
        let first = read_until(&mut owned, |batch| !batch.entries.is_empty());
        assert_eq!((ids(&first.entries), first.lost), (vec![sent[2], sent[5]], vec![gone]));
        assert_eq!(ids(&read_exactly(&mut owned, 2)), sent[8..]);
    });
}

#[test]
fn one_owner_at_a_time_and_each_has_a_higher_epoch() {
    on_both(|rig| {
        let (first, second) = (rig.open(), rig.open());
        let owned = own(&*first);
        assert!(owned.lease.is_held());
        assert!(second.try_own(&request("b", 0, false)).unwrap().is_none());
        assert!(second.try_own(&request("b", 0, true)).unwrap().is_none(), "another folder's lock proves nothing");
        owned.lease.release();
        assert!(!owned.lease.is_held());
        let next = second.try_own(&request("b", owned.epoch + 5, false)).unwrap().expect("it was given up");
        assert_eq!(next.epoch, owned.epoch + 6);
        assert!(first.try_own(&request("a", 0, true)).unwrap().is_none());
        let epoch = next.epoch;
        drop(next);
        assert_eq!(first.try_own(&request("a", 0, false)).unwrap().expect("dropped").epoch, epoch + 1);
    });
}

#[test]
fn a_fenced_publisher_is_refused() {
    on_both(|rig| {
        let (first, second) = (rig.open(), rig.open());
        let sent = first.append((0..4).map(event).collect()).unwrap();
        let mut old = own(&*first);
        old.reader.start(None).unwrap();
        old.publisher.publish(&receipt(&old, sent[0], Some(1))).unwrap();
        old.lease.release();
        let mut new = second.try_own(&request("b", 0, false)).unwrap().unwrap();
        new.reader.start(None).unwrap();
        new.publisher.publish(&receipt(&new, sent[1], Some(2))).unwrap();
        for _ in 0..2 {
            let refused = old.publisher.publish(&receipt(&old, sent[3], Some(4)));
            assert!(matches!(refused, Err(SourceError::Fenced)), "{refused:?}");
            let refused = old.publisher.bury(&[letter(sent[3], Some(event(3)))], false);
            assert!(matches!(refused, Err(SourceError::Fenced)), "{refused:?}");
        }
        assert!(rig.buried().is_empty());
        assert_eq!(second.backlog().unwrap().entries, 2);
    });
}

#[test]
fn dead_letters_stand_once_with_their_fields_even_when_repeated() {
    on_both(|rig| {
        let stream = rig.open();
        let doubled = fields(&[("type", "task:output"), ("data", "{"), ("data", "{}"), ("id", "the producer's")]);
        let sent = stream.append(vec![doubled.clone(), event(1), event(2)]).unwrap();
        let mut owned = own(&*stream);
        owned.publisher.bury(&[letter(sent[0], Some(doubled))], false).unwrap();
        // As after a crash: some stand there, some do not, and none has its fields in the journal.
        let all: Vec<_> = sent.iter().map(|&id| letter(id, None)).collect();
        owned.publisher.bury(&all, true).unwrap();
        owned.publisher.bury(&all, true).unwrap();
        let gone = StreamId { ms: sent[0].ms, seq: 1 << 40 };
        owned.publisher.bury(&[letter(gone, None)], true).unwrap();
        let buried = rig.buried();
        let get = |letter: &[(String, String)], name: &str| {
            letter.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect::<Vec<_>>()
        };
        let found: Vec<_> = buried.iter().flat_map(|letter| get(letter, "id")).collect();
        let expected: Vec<_> = sent.iter().chain([&gone]).map(StreamId::to_string).collect();
        assert_eq!(found, expected);
        assert_eq!(get(&buried[0], "f:data"), ["{", "{}"]);
        assert_eq!(get(&buried[0], "f:id"), ["the producer's"]);
        assert_eq!(get(&buried[1], "f:n"), ["1"]);
        assert_eq!((get(&buried[0], "reason"), get(&buried[0], "code")), (vec!["bad_json".into()], vec!["eof".into()]));
        assert_eq!(get(&buried[3], "fields"), ["gone"]);
    });
}

#[test]
fn the_backlog_counts_what_stands_behind_the_published_position() {
    on_both(|rig| {
        let stream = rig.open();
        assert_eq!(stream.backlog().unwrap(), task_logger::source::Backlog::default());
        let sent = stream.append((0..30).map(event).collect()).unwrap();
        let backlog = stream.backlog().unwrap();
        assert_eq!((backlog.entries, backlog.first_unread, backlog.last), (30, Some(sent[0]), Some(sent[29])));
        let mut owned = own(&*stream);
        owned.reader.start(None).unwrap();
        for read in [Some(12), None] {
            owned.publisher.publish(&receipt(&owned, sent[11], read)).unwrap();
            let backlog = stream.backlog().unwrap();
            assert_eq!((backlog.entries, backlog.first_unread, backlog.last), (18, Some(sent[12]), Some(sent[29])));
        }
        owned.publisher.publish(&receipt(&owned, sent[29], Some(30))).unwrap();
        let backlog = stream.backlog().unwrap();
        assert_eq!((backlog.entries, backlog.first_unread, backlog.last), (0, None, Some(sent[29])));
    });
}

#[test]
fn the_largest_event_passes_and_a_larger_one_is_refused() {
    on_both(|rig| {
        let stream = rig.open();
        let data = Bytes::from(vec![b'x'; EVENT_MAX - 4]);
        let large: Fields = vec![(Bytes::from_static(b"data"), data.clone())];
        stream.append(vec![event(1), large.clone(), event(2)]).unwrap();
        let refused = stream.append(vec![vec![(Bytes::from_static(b"data1"), data)]]);
        assert!(matches!(refused, Err(SourceError::TooLarge { .. })), "{refused:?}");
        let mut owned = own(&*stream);
        owned.reader.start(None).unwrap();
        let read = read_exactly(&mut owned, 3);
        assert_eq!(read[1].fields, large);
        assert_eq!(read[2].fields, event(2));
    });
}

#[test]
fn ids_ascend_over_appends_from_several_threads() {
    on_both(|rig| {
        let stream = rig.open();
        let appended = thread::scope(|scope| {
            let threads = (0..4).map(|_| {
                scope.spawn(|| {
                    (0..50).flat_map(|n| stream.append(vec![event(n), event(n)]).unwrap()).collect::<Vec<_>>()
                })
            });
            threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(appended.iter().all(|ids| ids.is_sorted()), "each thread's own ascend");
        let all: BTreeSet<_> = appended.into_iter().flatten().collect();
        let mut owned = own(&*stream);
        owned.reader.start(None).unwrap();
        assert_eq!(ids(&read_exactly(&mut owned, 400)), all.into_iter().collect::<Vec<_>>());
    });
}

#[test]
fn a_reader_that_has_caught_up_says_how_many_were_ever_added() {
    on_both(|rig| {
        let stream = rig.open();
        let mut owned = own(&*stream);
        owned.reader.start(None).unwrap();
        stream.append((0..25).map(event).collect()).unwrap();
        read_exactly(&mut owned, 25);
        assert_eq!(read_until(&mut owned, |batch| batch.added.is_some()).added, Some(25));
    });
}
