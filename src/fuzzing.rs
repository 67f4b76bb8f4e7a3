//! What bytes from outside may come to: readers of entries, ids, journal segments, `.state` files, producers' input and queries
//! meet mutations of a corpus (`tests/corpus`), and must keep what each of them promises. `cargo test` does a little of it, from
//! another seed each time; `make fuzz SECONDS=n` goes on for that long with each reader.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    io::Write as _,
    panic::{self, AssertUnwindSafe},
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fastrand::Rng;
use serde_json::value::RawValue;

use crate::{
    committer::state_file,
    decode::Decoder,
    event::{Entry, Id, StreamId},
    http::{Wanted, limits_of_query, wanted},
    ingest,
    journal::{
        record::Record,
        segment::{Scan, SegmentWriter},
    },
    layout::key_state::KeyState,
    publish::{
        lines::{Lines, Next},
        stream_json::Translator,
    },
};

/// Mutations of `cargo test`, of each reader.
const FEW: u64 = 20_000;
/// Mutations between two looks at the clock.
const STRIDE: u64 = 1000;
/// What the formats are made of.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"null",
    b"1e999",
    b"-0",
    b"18446744073709551616",
    b"data",
    b"task_id",
    b"type",
    b"task:output",
    b"_field.",
    b"..",
    b"/",
    b"%2e",
    b"%",
    b"&",
    b"=",
    b"after",
    b"limit",
    b"bytes=",
    b"-",
    b"\xff",
    b"\xf0\x9f\x98\x80",
    b"\xe2\x80\xae",
    b"2026-02-10T09:00:01Z",
];

type Check = fn(&[u8]);

/// Runs a reader over its corpus and over mutations of that.
fn fuzz(name: &str, more: Vec<Vec<u8>>, check: Check) {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let time = std::env::var("SECONDS").ok().and_then(|text| text.parse().ok()).map(Duration::from_secs);
    println!("{name}: SEED={seed}");
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let mut corpus = more;
    for file in fs::read_dir(dir).into_iter().flatten() {
        corpus.push(fs::read(file.unwrap().path()).unwrap());
    }
    assert!(corpus.len() > 2, "{name} has no corpus");
    let try_one = |bytes: &[u8], which: &str| {
        if let Err(why) = panic::catch_unwind(AssertUnwindSafe(|| check(bytes))) {
            eprintln!("{name}, {which}: SEED={seed}: {} bytes {:?}", bytes.len(), Bytes::copy_from_slice(bytes));
            panic::resume_unwind(why);
        }
    };
    corpus.iter().for_each(|bytes| try_one(bytes, "as it is in the corpus"));
    let (mut rng, began, mut done) = (Rng::with_seed(seed), Instant::now(), 0);
    while time.map_or(done < FEW, |time| began.elapsed() < time) {
        for _ in 0..STRIDE {
            let mut bytes = corpus[rng.usize(..corpus.len())].clone();
            for _ in 0..=rng.u8(..6) {
                mutate(&mut bytes, &corpus, &mut rng);
            }
            done += 1;
            try_one(&bytes, "mutated");
        }
    }
    println!("{name}: {done} mutations in {:.0} s", began.elapsed().as_secs_f64());
}

/// One change: a bit, a byte, a number, a word, a piece removed, doubled, or taken from another input.
fn mutate(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut Rng) {
    let at = rng.usize(..=bytes.len());
    let end = (at + rng.usize(..=8.min(bytes.len() - at))).min(bytes.len());
    match rng.u8(..9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
        1 if at < bytes.len() => bytes[at] = rng.u8(..),
        2 if at + 4 <= bytes.len() => {
            let value = *rng.choice(&[0, 1, 16, 255, 65_535, u32::MAX, u32::MAX - 1, 1 << 31]).unwrap_or(&0);
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        3 => drop(bytes.drain(at..end)),
        4 => bytes.truncate(at),
        5 => {
            let piece = bytes[at..end].to_vec();
            let times = if rng.u8(..20) == 0 { 2000 } else { 2 };
            drop(bytes.splice(at..at, piece.repeat(times)));
        }
        6 => {
            let other = &corpus[rng.usize(..corpus.len())];
            let (from, to) = (rng.usize(..=other.len()), rng.usize(..=other.len()));
            drop(bytes.splice(at..at, other[from.min(to)..from.max(to)].to_vec()));
        }
        _ => drop(bytes.splice(at..end, WORDS[rng.usize(..WORDS.len())].to_vec())),
    }
}

/// Names and values, NUL between them.
fn entry(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == 0).map(Bytes::copy_from_slice);
    let mut fields = Vec::new();
    while let Some(name) = parts.next() {
        fields.push((name, parts.next().unwrap_or_default()));
    }
    let entry = Entry { id: StreamId { ms: 1_700_000_000_000, seq: 1 }, fields };
    match Decoder::new(64 << 10).decode(entry.clone()) {
        Ok(decoded) => {
            let event = decoded.event;
            // Numbers beyond every machine's are JSON, too: values stay as they were written.
            assert!(serde_json::from_str::<BTreeMap<String, &RawValue>>(&event.data).is_ok(), "{}", event.data);
            assert!(!event.data.contains(['\n', '\r']), "one line a record: {:?}", event.data);
            assert_eq!(event.id, entry.id);
        }
        Err(refused) => assert_eq!(refused.entry, entry, "a refused entry is kept as it is"),
    }
}

fn ids(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(id) = Id::parse(&text) {
        let name = id.dir_name().into_owned();
        assert!(!name.is_empty() && name.len() <= 255 && !name.starts_with('.'), "{name:?}");
        assert!(!name.contains(['/', '\0', '\n']), "{name:?}");
        assert_eq!(Id::from_dir_name(&name), Some(id), "an id and its folder's name are one to one");
    }
    if let Some(id) = Id::from_dir_name(&text) {
        assert_eq!(id.dir_name(), text, "a name that is an id's is written in one way only");
    }
    if let Ok(id) = text.parse::<StreamId>() {
        assert_eq!(id.to_string().parse::<StreamId>().ok(), Some(id));
    }
}

/// A segment of some frames.
fn segment(bodies: &[&[u8]]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::create(dir.path(), "segment", 4096, 7).unwrap();
    for body in bodies {
        writer.stage(&[body]).unwrap();
        writer.write().unwrap();
    }
    fs::read(writer.path()).unwrap()
}

fn journal(bytes: &[u8]) {
    thread_local!(static FILE: RefCell<tempfile::NamedTempFile> = RefCell::new(tempfile::NamedTempFile::new().unwrap()));
    drop(postcard::from_bytes::<Record>(bytes));
    FILE.with_borrow_mut(|file| {
        file.as_file().set_len(0).unwrap();
        std::io::Seek::rewind(file.as_file_mut()).unwrap();
        file.write_all(bytes).unwrap();
        let Ok(mut scan) = Scan::open(file.path(), None) else { return };
        let mut next = scan.next_sequence();
        for frame in scan.by_ref() {
            let frame = frame.unwrap();
            assert_eq!(frame.sequence, next);
            next = next.wrapping_add(1);
            drop(postcard::from_bytes::<Record>(&frame.body));
        }
        assert!(scan.tail() <= bytes.len() as u64);
        scan.end().unwrap();
    });
}

fn state(bytes: &[u8]) {
    drop(KeyState::from_bytes(bytes));
    if let Some((_, body)) = state_file::newest(bytes) {
        drop(KeyState::from_bytes(body));
    }
}

fn publish(bytes: &[u8]) {
    if let Ok(events) = ingest::events(bytes, 100) {
        // An empty array is a batch of none; an empty text is a mistake.
        assert!(events.len() <= 100 && (!events.is_empty() || bytes.trim_ascii_start().starts_with(b"[")));
        assert!(events.iter().all(|fields| fields.iter().any(|(name, _)| &**name == b"timestamp")), "each is stamped");
    }
    let (mut lines, mut line) = (Lines::new(bytes, 4096), Vec::new());
    let (mut translator, mut events) = (Translator::new("t", true), Vec::new());
    loop {
        match lines.next(&mut line).unwrap() {
            Next::Line => translator.line(&line, &mut events),
            Next::TooLong => translator.too_large(lines.number(), &mut events),
            Next::End => break,
        }
    }
    translator.end(&mut events);
    for event in events {
        assert_eq!(event["task_id"], "t");
        ingest::fields(event).expect("what is translated can be published");
    }
}

fn query(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(uri) = format!("/tasks?{text}").parse() {
        let limits = limits_of_query(&uri);
        assert!(limits.iter().flatten().all(|limit| (1..=1000).contains(limit)), "{limits:?}");
    }
    for len in [0, 1, 10, u64::MAX] {
        if let Wanted::Part(start, end) = wanted(&text, len) {
            assert!(start < end && end <= len, "{text:?} of {len}");
        }
    }
}

#[test]
fn no_bytes_break_the_decoder_of_entries() {
    fuzz("entry", Vec::new(), entry);
}

#[test]
fn no_bytes_break_ids() {
    fuzz("ids", Vec::new(), ids);
}

#[test]
fn no_bytes_break_the_reader_of_the_journal() {
    let record = postcard::to_stdvec(&Record::default()).unwrap();
    let whole = segment(&[&record, b"two", &[0; 600]]);
    let torn = [&whole[..whole.len() / 8], &[0; 100][..]].concat();
    fuzz("journal", vec![whole, torn, segment(&[]), record], journal);
}

#[test]
fn no_bytes_break_the_reader_of_state() {
    let body = KeyState::default().to_bytes();
    let file = state_file::fresh(1, 1, &body);
    fuzz("state", vec![[&file[..], &[0; 3000]].concat(), file, body], state);
}

#[test]
fn no_bytes_break_what_producers_send() {
    fuzz("publish", Vec::new(), publish);
}

#[test]
fn no_bytes_break_queries() {
    fuzz("query", Vec::new(), query);
}
