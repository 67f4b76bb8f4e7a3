//! The lean parser against the client's own, on random replies in random pieces.

use super::*;

fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn random_reply(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut out = b"*1\r\n*2\r\n".to_vec();
    bulk(&mut out, b"task_events");
    let entries = random.usize(1..20);
    out.extend_from_slice(format!("*{entries}\r\n").as_bytes());
    for n in 0..entries {
        out.extend_from_slice(b"*2\r\n");
        bulk(&mut out, format!("{}-{n}", random.u64(..)).as_bytes());
        let fields = random.usize(0..6);
        out.extend_from_slice(format!("*{}\r\n", fields * 2).as_bytes());
        for _ in 0..fields * 2 {
            let length = if random.u8(..) == 0 { 70_000 } else { random.usize(0..40) };
            let alphabet = b"\r\n$*-+:0129ax\0\xff";
            let text: Vec<u8> = (0..length).map(|_| alphabet[random.usize(..alphabet.len())]).collect();
            bulk(&mut out, &text);
        }
    }
    out
}

/// Feeds growing prefixes; returns the outcome and how often the parser was asked.
fn feed(random: &mut fastrand::Rng, reply: &[u8]) -> Result<Option<Outcome>, parse::Malformed> {
    let mut parser = Parser::default();
    let mut have = 0;
    loop {
        match parser.feed(&reply[..have])? {
            Progress::Done(outcome) => return Ok(Some(outcome)),
            Progress::Need(needed) => {
                assert!(needed > have, "it asks for what it has");
                if needed > reply.len() {
                    return Ok(None);
                }
                have = random.usize(needed..=reply.len().min(needed + 300));
            }
        }
    }
}

fn seeded() -> fastrand::Rng {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}

#[test]
fn the_lean_parser_reads_what_the_client_reads() {
    let mut random = seeded();
    for _ in 0..500 {
        let reply = random_reply(&mut random);
        let Ok(Some(Outcome::Entries(spans))) = feed(&mut random, &reply) else { panic!("{reply:?}") };
        assert_eq!(spans.end(), reply.len());
        let value = redis::parse_redis_value(&reply).unwrap();
        let theirs = Reply::from_value(value).unwrap();
        assert_eq!((spans.last(), spans.len(), spans.bytes()), (theirs.last, theirs.count, theirs.bytes));
        assert_eq!(spans.slice(&reply.clone().into()), theirs.into_entries().unwrap());
        // Every shorter reply is one that has not wholly arrived.
        let cut = random.usize(0..reply.len());
        assert!(matches!(feed(&mut random, &reply[..cut]), Ok(None)), "cut at {cut}");
    }
}

#[test]
fn damaged_replies_are_refused_or_wait_and_never_give_what_the_client_would_not() {
    let mut random = seeded();
    for _ in 0..3000 {
        let mut reply = random_reply(&mut random);
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..reply.len());
            match random.u8(0..3) {
                0 => reply[at] = random.u8(..),
                1 => drop(reply.remove(at)),
                _ => reply.insert(at, b"\r\n*$0-"[random.usize(..6)]),
            }
        }
        if let Ok(Some(Outcome::Entries(spans))) = feed(&mut random, &reply) {
            let theirs = redis::parse_redis_value(&reply[..spans.end()]).unwrap();
            let theirs = Reply::from_value(theirs).unwrap().into_entries().unwrap();
            assert_eq!(spans.slice(&reply.into()), theirs);
        }
    }
}

#[test]
fn nil_okay_and_refusals() {
    let mut random = seeded();
    assert!(matches!(feed(&mut random, b"*-1\r\n"), Ok(Some(Outcome::Nothing))));
    assert!(matches!(feed(&mut random, b"+OK\r\n"), Ok(Some(Outcome::Okay))));
    match feed(&mut random, b"-WRONGTYPE Operation against\r\n") {
        Ok(Some(Outcome::Refused { code, text, end: 30 })) => {
            assert_eq!((&*code, &*text), ("WRONGTYPE", "Operation against"))
        }
        other => panic!("{other:?}"),
    }
    for malformed in
        ["*0\r\n", "*2\r\n*2\r\n", ":1\r\n", "*1\r\n*2\r\n$-1\r\n*1\r\n", "$5\r\n", "*99999999999999999999\r\n", "\r\n"]
    {
        let result = feed(&mut random, malformed.as_bytes());
        assert!(!matches!(result, Ok(Some(_))), "{malformed:?}: {result:?}");
    }
}
