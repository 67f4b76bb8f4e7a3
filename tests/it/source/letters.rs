//! Dead letters in the hands of operators, on both streams: replay and removal, digests, the bound, requests to the owner.

use task_logger::source::{LetterPolicy, Letters, Payload, REPLAY_OF, Replayed, digest};

use super::{faults::Proxy, *};

const SECRET: &str = "hunter2-in-the-payload";

impl Rig {
    fn open_with(&self, letters: LetterPolicy) -> Arc<dyn Stream> {
        match self {
            Self::Redis(server) => Arc::new(redis_stream(&server.url()).with_letters(letters)),
            Self::Embedded(dir) => {
                let stream = EmbeddedStream::open(dir.path(), "task_events", EVENT_MAX).unwrap();
                Arc::new(stream.with_segment_bytes(64 << 10).with_letters(letters))
            }
        }
    }
}

/// Their own ids, and those of their entries.
fn pairs(letters: &[&task_logger::source::Letter]) -> Vec<(StreamId, StreamId)> {
    letters.iter().map(|letter| (letter.at, letter.id)).collect()
}

fn all(letters: &mut dyn Letters) -> Vec<task_logger::source::Letter> {
    let mut found: Vec<task_logger::source::Letter> = Vec::new();
    loop {
        let page = letters.page(found.last().map_or(StreamId::MIN, |last| last.at)).unwrap();
        if page.is_empty() {
            return found;
        }
        found.extend(page);
    }
}

/// Everything in the stream from the first on.
fn entries(stream: &dyn Stream) -> Vec<Entry> {
    let mut owned = stream.try_own(&request("look", 0, false)).unwrap().expect("nobody owns it");
    owned.reader.start(Some(&Position::default())).unwrap();
    let mut entries = Vec::new();
    loop {
        let batch = owned.reader.read(WANT, SHORT).unwrap();
        if batch.entries.is_empty() {
            return entries;
        }
        entries.extend(batch.entries);
    }
}

#[test]
fn a_letter_is_read_back_replayed_once_and_removed() {
    on_both(|rig| {
        let stream = rig.open();
        let sent = stream.append((0..2100).map(event).collect()).unwrap();
        let mut owned = own(&*stream);
        let dead: Vec<_> = sent.iter().enumerate().map(|(n, &id)| letter(id, Some(event(n as u64)))).collect();
        owned.publisher.bury(&dead, false).unwrap();
        let mut letters = stream.letters().unwrap();
        let read = all(&mut *letters);
        assert_eq!(read.iter().map(|letter| letter.id).collect::<Vec<_>>(), sent);
        assert_eq!((&*read[7].reason, &*read[7].code, read[7].attempts), ("bad_json", "eof", 1));
        assert_eq!(read[7].payload, Payload::Fields(event(7)));
        assert!(read[7].first_seen <= read[7].last_seen, "{:?}", read[7]);
        // Twice in one call, and again: each once.
        let at = read[7].at;
        let replayed = letters.replay(&[at, read[9].at, at]).unwrap();
        let (Replayed::As(new), Replayed::As(other)) = (replayed[0], replayed[1]) else { panic!("{replayed:?}") };
        assert!(new > *sent.last().unwrap() && other > new);
        assert!(matches!(replayed[2], Replayed::NoLetter | Replayed::As(_)), "{replayed:?}");
        assert_eq!(letters.replay(&[at]).unwrap(), [Replayed::NoLetter]);
        assert_eq!(letters.remove(&pairs(&[&read[7], &read[9], &read[0], &read[2099]])).unwrap(), 2);
        let left = all(&mut *letters);
        assert_eq!(left.len(), 2096);
        drop(owned);
        let tail: Vec<_> = entries(&*stream).into_iter().filter(|entry| entry.id > sent[2099]).collect();
        assert_eq!(ids(&tail), [new, other]);
        let mut expected = event(7);
        expected.push((Bytes::from_static(REPLAY_OF.as_bytes()), sent[7].to_string().into()));
        assert_eq!(tail[0].fields, expected);
        // What is left is buried no second time, and what is new is.
        let mut owned = own(&*stream);
        owned.publisher.bury(&[letter(sent[0], None), letter(sent[1], None), letter(new, None)], true).unwrap();
        let with_new = all(&mut *letters);
        assert_eq!(with_new.len(), 2097);
        // A replay of a replay names the first.
        let again = letters.replay(&[with_new.last().unwrap().at]).unwrap();
        let Replayed::As(again) = again[0] else { panic!("{again:?}") };
        assert_eq!(letters.entry(again).unwrap(), Some(expected));
        assert_eq!(letters.remove(&pairs(&with_new.iter().collect::<Vec<_>>())).unwrap(), 2096);
        assert!(all(&mut *letters).is_empty());
        owned.publisher.bury(&[letter(sent[3], Some(event(3)))], false).unwrap();
        assert_eq!(all(&mut *letters).len(), 1);
    });
}

#[test]
fn a_digest_keeps_the_text_in_the_stream_only_and_says_what_trimming_must_leave() {
    on_both(|rig| {
        let stream = rig.open_with(LetterPolicy { digest: true, ..LetterPolicy::default() });
        let secret = fields(&[("type", "task:output"), ("data", SECRET)]);
        let sent = stream.append(vec![event(1), secret.clone(), secret.clone(), secret.clone()]).unwrap();
        let gone = StreamId { ms: sent[3].ms + 1, seq: 0 };
        let mut owned = own(&*stream);
        assert_eq!(owned.publisher.oldest_needed().unwrap(), None);
        owned.publisher.bury(&[letter(sent[2], Some(secret.clone()))], false).unwrap();
        owned.publisher.bury(&[letter(sent[1], None), letter(gone, None)], true).unwrap();
        assert!(!format!("{:?}", rig.buried()).contains(SECRET));
        let mut letters = stream.letters().unwrap();
        let read = all(&mut *letters);
        let size = secret.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum();
        assert_eq!(read[0].payload, Payload::Digest { sha256: digest(&secret), size });
        assert_eq!(read[2].payload, Payload::Gone);
        assert_eq!(owned.publisher.oldest_needed().unwrap(), Some(sent[1]));
        let replayed = letters.replay(&[read[1].at, read[2].at]).unwrap();
        assert!(matches!(replayed[..], [Replayed::As(_), Replayed::NoEntry]), "{replayed:?}");
        assert_eq!(owned.publisher.oldest_needed().unwrap(), Some(sent[2]));
        letters.remove(&pairs(&[&read[0]])).unwrap();
        assert_eq!(owned.publisher.oldest_needed().unwrap(), None);
        assert_eq!(all(&mut *letters).len(), 1);
    });
}

#[test]
fn full_letters_are_refused_until_there_is_room() {
    on_both(|rig| {
        let stream = rig.open_with(LetterPolicy { bytes_max: 1 << 20, ..LetterPolicy::default() });
        let large = fields(&[("data", &"x".repeat(200 << 10))]);
        let sent = stream.append(vec![large.clone(); 20]).unwrap();
        let dead: Vec<_> = sent.iter().map(|&id| letter(id, Some(large.clone()))).collect();
        let mut owned = own(&*stream);
        let mut letters = stream.letters().unwrap();
        let mut removed = Vec::new();
        let mut may_exist = false;
        while removed.len() < sent.len() {
            // All of them again, as a publisher does that tries again: what was removed meanwhile does not come back.
            let buried = owned.publisher.bury(&dead, std::mem::replace(&mut may_exist, true));
            let now = all(&mut *letters);
            assert!((1..=5).contains(&now.len()), "{}", now.len());
            match buried {
                Ok(()) => assert_eq!(removed.len() + now.len(), sent.len()),
                Err(SourceError::LettersFull { bytes, max }) => {
                    // Memory as the server counts it, with what its allocator rounds up.
                    assert!(bytes > max / 2 && bytes < max * 2, "{bytes}");
                }
                Err(error) => panic!("{error}"),
            }
            assert!(owned.publisher.letters_bytes().unwrap() < 2 << 20);
            letters.remove(&pairs(&now.iter().collect::<Vec<_>>())).unwrap();
            removed.extend(now.into_iter().map(|letter| letter.id));
        }
        assert_eq!(removed, sent);
        // One that is larger than all the room is taken alone.
        let giant = fields(&[("data", &"x".repeat(2 << 20))]);
        owned.publisher.bury(&[letter(sent[0], Some(giant))], false).unwrap();
        let refused = owned.publisher.bury(&[letter(sent[1], Some(event(1)))], false);
        assert!(matches!(refused, Err(SourceError::LettersFull { .. })), "{refused:?}");
    });
}

#[test]
fn a_request_to_put_an_entry_stands_until_it_is_settled() {
    on_both(|rig| {
        let stream = rig.open();
        let sent = stream.append((0..3).map(event).collect()).unwrap();
        let mut letters = stream.letters().unwrap();
        letters.ask_to_put(sent[1]).unwrap();
        letters.ask_to_put(sent[1]).unwrap();
        assert_eq!((letters.is_asked(sent[1]).unwrap(), letters.is_asked(sent[0]).unwrap()), (true, false));
        for _ in 0..2 {
            let mut owned = own(&*stream);
            assert_eq!(owned.desk.asked().unwrap(), [sent[1]]);
        }
        let mut owned = own(&*stream);
        owned.desk.settled(&[sent[1], sent[2]]).unwrap();
        assert!(owned.desk.asked().unwrap().is_empty() && !letters.is_asked(sent[1]).unwrap());
    });
}

#[test]
fn an_embedded_replay_that_is_cut_short_is_finished_or_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::Embedded(dir);
    let Rig::Embedded(dir) = &rig else { unreachable!() };
    let folder = dir.path().join("task_events");
    let (stream, sent) = {
        let stream = rig.open();
        let sent = stream.append((0..4).map(event).collect()).unwrap();
        let mut owned = own(&*stream);
        owned.publisher.bury(&sent.iter().map(|&id| letter(id, None)).collect::<Vec<_>>(), true).unwrap();
        (stream, sent)
    };
    let at: Vec<_> = all(&mut *stream.letters().unwrap()).iter().map(|letter| letter.at).collect();
    // It is noted for two letters, one of which was appended before the process died.
    let mut again = event(1);
    again.push((Bytes::from_static(REPLAY_OF.as_bytes()), sent[1].to_string().into()));
    let id = |at: StreamId| serde_json::json!({"ms": at.ms, "seq": at.seq});
    let noted = serde_json::json!({"after": 4,
        "letters": [[id(at[1]), id(sent[1]), sent[1].to_string()], [id(at[2]), id(sent[2]), sent[2].to_string()]]});
    stream.append(vec![again]).unwrap();
    drop(stream);
    std::fs::write(folder.join("dead/replaying"), noted.to_string()).unwrap();
    let stream = rig.open();
    let mut letters = stream.letters().unwrap();
    let replayed = letters.replay(&at[1..3]).unwrap();
    assert!(matches!(replayed[..], [Replayed::NoLetter, Replayed::As(_)]), "{replayed:?}");
    assert!(!folder.join("dead/replaying").try_exists().unwrap());
    drop((stream, letters));
    let stream = rig.open();
    assert_eq!(entries(&*stream).len(), 6);
    let left: Vec<_> = all(&mut *stream.letters().unwrap()).iter().map(|letter| letter.id).collect();
    assert_eq!(left, [sent[0], sent[3]]);
}

#[test]
fn an_embedded_stream_in_use_is_asked_to_act() {
    let rig = Rig::Embedded(tempfile::tempdir().unwrap());
    let (holder, other) = (rig.open(), rig.open());
    let sent = holder.append((0..3).map(event).collect()).unwrap();
    let mut owned = own(&*holder);
    owned.publisher.bury(&sent.iter().map(|&id| letter(id, None)).collect::<Vec<_>>(), true).unwrap();
    let mut letters = other.letters().unwrap();
    let read = all(&mut *letters);
    let at: Vec<_> = read.iter().map(|letter| letter.at).collect();
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut letters = other.letters().unwrap();
            (letters.replay(&at[..2]).unwrap(), letters.remove(&pairs(&read.iter().collect::<Vec<_>>())).unwrap())
        });
        while !asking.is_finished() {
            assert!(owned.desk.asked().unwrap().is_empty());
            thread::park_timeout(Duration::from_millis(5));
        }
        let (replayed, removed) = asking.join().unwrap();
        assert!(matches!(replayed[..], [Replayed::As(_), Replayed::As(_)]) && removed == 1, "{replayed:?} {removed}");
    });
    assert!(all(&mut *letters).is_empty());
    let asked = std::fs::read_dir(match &rig {
        Rig::Embedded(dir) => dir.path().join("task_events/asked"),
        Rig::Redis(_) => unreachable!(),
    });
    assert_eq!(asked.unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_replay_happens_once_although_replies_are_lost_and_others_replay_too() {
    let Some(server) = RedisServer::start() else { return };
    let stream = redis_stream(&server.url());
    let sent = stream.append((0..40).map(event).collect()).unwrap();
    own(&stream).publisher.bury(&sent.iter().map(|&id| letter(id, None)).collect::<Vec<_>>(), true).unwrap();
    let at: Vec<_> = all(&mut *stream.letters().unwrap()).iter().map(|letter| letter.at).collect();
    let proxy = Proxy::start(&server, false);
    let cut_off = redis_stream(&proxy.url());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| at.iter().for_each(|&at| drop(stream.letters().unwrap().replay(&[at]).unwrap())));
        }
        let (mut cut, mut cuts) = (20, 0);
        for &at in at.iter().rev() {
            let deadline = Instant::now() + PATIENCE;
            loop {
                proxy.cut_after(cut);
                cut = (cut + 13) % 700 + 20;
                match cut_off.letters().unwrap().replay(&[at]) {
                    Ok(_) => break,
                    Err(error) => assert!(!error.is_fatal() && Instant::now() < deadline, "{error}"),
                }
                cuts += 1;
            }
        }
        assert!(cuts > 0, "nothing was ever cut");
    });
    let again: Vec<_> = entries(&stream).into_iter().skip(40).collect();
    let of: BTreeSet<_> = again.iter().map(|entry| entry.fields.last().unwrap().1.clone()).collect();
    assert_eq!((again.len(), of.len(), all(&mut *stream.letters().unwrap()).len()), (40, 40, 0));
}
