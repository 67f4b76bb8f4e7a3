//! What only the embedded stream has: files that a crash leaves, a clock that steps back, segments that come and go.

use std::{
    fs::File,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
};

use task_logger::source::embedded::entries;

use super::*;

fn open(dir: &Path) -> EmbeddedStream {
    EmbeddedStream::open(dir, "task_events", EVENT_MAX).unwrap().with_segment_bytes(16 << 10)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(dir.join("task_events")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = listed.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    found.sort();
    found
}

fn all(dir: &Path) -> Vec<StreamId> {
    entries(dir, "task_events", false).unwrap().map(|entry| entry.unwrap().id).collect()
}

#[test]
fn a_torn_tail_is_repaired_and_what_was_answered_stays() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut sent = Vec::new();
    for _ in 0..30 {
        let stream = open(dir.path());
        sent.extend(stream.append((0..random.u64(1..60)).map(event).collect()).unwrap());
        drop(stream);
        // As a kill in the middle of a write leaves it: the beginning of one more frame behind the last.
        let last = segments(dir.path()).pop().unwrap();
        let bytes = std::fs::read(&last).unwrap();
        let tail = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(31) as u64 + 1;
        let size = random.usize(0..100);
        let torn: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(size).collect();
        // The last field ends with a digit, so the tail is exact.
        File::options().write(true).open(&last).unwrap().write_all_at(&torn, tail).unwrap();
        assert_eq!(all(dir.path()), sent);
    }
    assert!(segments(dir.path()).len() > 2);
    let stream = open(dir.path());
    let mut owned = own(&stream);
    owned.reader.start(None).unwrap();
    assert_eq!(ids(&read_exactly(&mut owned, sent.len())), sent);
}

#[test]
fn ids_ascend_although_the_clock_stands_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    let stream = open(dir.path());
    let first = stream.append(vec![event(1)]).unwrap();
    // Published by an owner whose clock was an hour ahead: ids go on above it.
    let ahead = StreamId { ms: first[0].ms + 3_600_000, seq: 3 };
    let mut owned = own(&stream);
    owned.publisher.publish(&receipt(&owned, ahead, Some(1))).unwrap();
    drop(owned);
    let next = stream.append(vec![event(2), event(3)]).unwrap();
    assert_eq!(next, [ahead.next(), ahead.next().next()]);
    drop(stream);
    assert_eq!(open(dir.path()).append(vec![event(4)]).unwrap(), [next[1].next()]);
}

#[test]
fn a_second_process_is_told_to_publish_over_http_and_sees_the_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (open(dir.path()), open(dir.path()));
    let mut owned = own(&first);
    let sent = first.append((0..20).map(event).collect()).unwrap();
    let refused = second.append(vec![event(1)]).unwrap_err();
    assert!(refused.is_fatal() && refused.to_string().contains("HTTP"), "{refused}");
    for (published, left) in [(0, 19), (9, 10), (19, 0)] {
        owned.publisher.publish(&receipt(&owned, sent[published], Some(published as u64 + 1))).unwrap();
        assert_eq!(second.backlog().unwrap(), first.backlog().unwrap());
        assert_eq!(second.backlog().unwrap().entries, left);
    }
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.path()), 0o700);
    assert_eq!(mode(&segments(dir.path())[0]), 0o640);
}

#[test]
fn a_reader_follows_a_live_writer_over_many_segments() {
    let dir = tempfile::tempdir().unwrap();
    let stream = open(dir.path());
    let mut owned = own(&stream);
    owned.reader.start(None).unwrap();
    let (sent, read) = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut random = fastrand::Rng::new();
            let mut sent = Vec::new();
            while sent.len() < 5000 {
                sent.extend(stream.append((0..random.u64(1..40)).map(event).collect()).unwrap());
            }
            sent
        });
        let mut read = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while !sending.is_finished() || read.len() < 5000 {
            let batch = owned.reader.read(WANT, SHORT).unwrap();
            assert_eq!(batch.lost_unseen, 0);
            read.extend(ids(&batch.entries));
            assert!(Instant::now() < deadline, "{} read", read.len());
        }
        read.extend(ids(&owned.reader.read(WANT, SHORT).unwrap().entries));
        (sending.join().unwrap(), read)
    });
    assert_eq!(read, sent);
    assert!(segments(dir.path()).len() > 10);
}

#[test]
fn damage_in_the_middle_is_counted_as_lost_and_passed() {
    let dir = tempfile::tempdir().unwrap();
    let stream = open(dir.path());
    let sent = stream.append((0..1000).map(event).collect()).unwrap();
    drop(stream);
    let files = segments(dir.path());
    assert!(files.len() > 3);
    let first_of = |file: &PathBuf| file.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let hit = File::options().write(true).open(&files[1]).unwrap();
    hit.write_all_at(&[0xff; 40], 4000).unwrap();
    let stream = open(dir.path());
    let mut owned = own(&stream);
    owned.reader.start(None).unwrap();
    let (mut read, mut lost) = (Vec::new(), 0);
    let deadline = Instant::now() + PATIENCE;
    while (read.len() as u64 + lost) < 1000 {
        let batch = owned.reader.read(WANT, SHORT).unwrap();
        lost += batch.lost_unseen;
        read.extend(ids(&batch.entries));
        assert!(Instant::now() < deadline, "{} read, {lost} lost", read.len());
    }
    assert!(lost > 0 && lost < first_of(&files[2]) - first_of(&files[1]), "{lost}");
    assert!(read.iter().all(|id| sent.contains(id)) && read.is_sorted());
    assert_eq!(read.last(), sent.last());
}

#[test]
fn a_log_that_was_replaced_is_a_new_incarnation() {
    let dir = tempfile::tempdir().unwrap();
    let stream = open(dir.path());
    let sent = stream.append((0..3).map(event).collect()).unwrap();
    let mut owned = own(&stream);
    let ahead = Position { incarnation: 2, high: StreamId { ms: sent[2].ms + 1, seq: 0 }, ..Position::default() };
    let position = owned.reader.start(Some(&ahead)).unwrap();
    assert_eq!((position.incarnation, position.high, position.read), (3, StreamId::MIN, Some(0)));
    assert_eq!(ids(&read_exactly(&mut owned, 3)), sent);
}
