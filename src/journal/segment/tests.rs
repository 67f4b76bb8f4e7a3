//! Segments torn at every byte, with NUL tails, recycled and damaged.

use super::*;

fn bodies(random: &mut fastrand::Rng, count: usize, max: usize) -> Vec<Vec<u8>> {
    let sizes: Vec<_> = (0..count).map(|_| random.usize(0..=max)).collect();
    sizes.into_iter().map(|size| std::iter::repeat_with(|| random.u8(..)).take(size).collect()).collect()
}

fn write(writer: &mut SegmentWriter, bodies: &[Vec<u8>]) -> Vec<u64> {
    let ends = bodies.iter().map(|body| {
        writer.stage(&[body]).unwrap();
        writer.write().unwrap();
        writer.tail()
    });
    ends.collect()
}

fn read(path: &Path, first: Option<u64>) -> (Vec<Vec<u8>>, u64, End) {
    let mut scan = Scan::open(path, first).unwrap();
    let expected = first.unwrap_or(scan.next_sequence())..;
    let mut found = Vec::new();
    for (expected, frame) in expected.zip(scan.by_ref()) {
        let frame = frame.unwrap();
        assert_eq!(frame.sequence, expected);
        found.push(frame.body.to_vec());
    }
    let end = scan.end().unwrap();
    (found, scan.tail(), end)
}

fn seeded() -> fastrand::Rng {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}

#[test]
fn what_was_written_is_read_and_the_file_keeps_its_size_and_mode() {
    let mut random = seeded();
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::create(dir.path(), "1-1.wal", 3 << 20, 7).unwrap();
    let written = bodies(&mut random, 2000, 2000);
    for group in written.chunks(7) {
        for body in group {
            let cut = random.usize(0..=body.len());
            writer.stage(&[&body[..cut], &body[cut..]]).unwrap();
        }
        writer.write().unwrap();
    }
    writer.sync().unwrap();
    assert_eq!(writer.next_sequence(), 2007);
    let (found, tail, end) = read(writer.path(), Some(7));
    assert_eq!((found.len(), tail, end), (2000, writer.tail(), End::Clean));
    assert_eq!(found, written);
    let metadata = std::fs::metadata(writer.path()).unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (3 << 20, 0o640));
    assert!(matches!(Scan::open(writer.path(), Some(8)), Err(SegmentError::NotASegment { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(SegmentWriter::create(dir.path(), "1-1.wal", 4096, 1).is_err(), "a live segment was replaced");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "and the failed one is gone");
}

#[test]
fn a_giant_gets_a_segment_of_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let body = vec![7; 3 << 20];
    let mut writer = SegmentWriter::create(dir.path(), "a", size_for(body.len(), 4096), 1).unwrap();
    assert_eq!(writer.room(), Some(body.len() as u64));
    writer.stage(&[&body]).unwrap();
    assert_eq!(writer.room(), None);
    writer.write().unwrap();
    assert_eq!(read(writer.path(), Some(1)), (vec![body], writer.tail(), End::Clean));
}

#[test]
fn torn_at_every_byte_the_frames_before_stay_and_no_more() {
    let mut random = seeded();
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::create(dir.path(), "a", 4096, 1).unwrap();
    // No zeros in the bodies, so that a frame is never whole again with a NUL tail.
    let written: Vec<Vec<u8>> = (0..6).map(|n| vec![random.u8(1..); 1 + n * 7]).collect();
    let ends = write(&mut writer, &written);
    let whole = std::fs::read(writer.path()).unwrap();
    let torn = dir.path().join("torn");
    for cut in FILE_HEADER..writer.tail() {
        let valid = ends.iter().filter(|&&end| end <= cut).count();
        let last_good = ends[..valid].last().copied().unwrap_or(FILE_HEADER);
        let zeros = vec![0; 4096 - cut as usize];
        let mut noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(zeros.len()).collect();
        noise[0] = !whole[cut as usize];
        for (tail, is_noise) in [(&[][..], false), (&zeros, false), (&noise, true)] {
            std::fs::write(&torn, [&whole[..cut as usize], tail].concat()).unwrap();
            let (found, at, end) = read(&torn, Some(1));
            assert_eq!((found.len(), at), (valid, last_good), "cut at {cut}");
            assert_eq!(found, written[..valid], "cut at {cut}");
            match is_noise {
                // Noise may be what an earlier use left: both are right.
                true => assert!(!matches!(end, End::Corrupt { .. }), "cut at {cut}: {end:?}"),
                false => assert_eq!(end == End::Torn, cut > last_good, "cut at {cut}: {end:?}"),
            }
            let mut resumed = SegmentWriter::resume(torn.clone()).unwrap();
            assert_eq!(resumed.next_sequence(), valid as u64 + 1);
            write(&mut resumed, &written[..1]);
            let (found, _, end) = read(&torn, Some(1));
            assert_eq!((found.len(), end), (valid + 1, End::Clean));
        }
    }
}

#[test]
fn damage_in_the_middle_is_told_from_a_torn_tail() {
    let mut random = seeded();
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::create(dir.path(), "a", 3 << 20, 1).unwrap();
    let written = bodies(&mut random, 1500, 2000);
    let ends = write(&mut writer, &written);
    for _ in 0..20 {
        let hit = random.usize(0..ends.len() - 1);
        let from = hit.checked_sub(1).map_or(FILE_HEADER, |before| ends[before]);
        let at = random.u64(from..ends[hit]);
        let mut byte = [0];
        writer.file.read_exact_at(&mut byte, at).unwrap();
        writer.file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
        let (found, _, end) = read(writer.path(), Some(1));
        assert_eq!(found, written[..hit]);
        assert_eq!(end, End::Corrupt { next_valid: ends[hit], sequence: hit as u64 + 2 });
        writer.file.write_all_at(&byte, at).unwrap();
    }
    assert_eq!(read(writer.path(), Some(1)).2, End::Clean);
}

#[test]
fn a_recycled_file_never_gives_older_frames_back() {
    let mut random = seeded();
    let dir = tempfile::tempdir().unwrap();
    // Equal bodies, so that old frames stand exactly where a new one would.
    let body = vec![b'x'; 48];
    let mut path = SegmentWriter::create(dir.path(), "0", 8192, 1).unwrap().into_path();
    for round in 1..30_u64 {
        let spare = Spare::reuse(path).unwrap();
        assert_eq!(spare.size(), 8192);
        // Sequence numbers that even overlap those of the earlier use: the salt alone must tell.
        let mut writer = spare.start(dir.path().join(round.to_string()), 1).unwrap();
        let count = random.usize(0..100);
        write(&mut writer, &vec![body.clone(); count]);
        let (found, tail, end) = read(writer.path(), Some(1));
        assert_eq!((found.len(), tail), (count, writer.tail()));
        assert!(!matches!(end, End::Corrupt { .. }), "{end:?}");
        path = writer.into_path();
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_body_that_looks_like_frames_is_only_a_body() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::create(dir.path(), "a", 8192, 1).unwrap();
    let mut forged = Vec::new();
    for sequence in 1..20_u64 {
        let crc = crc32fast::hash(&sequence.to_le_bytes());
        forged.extend([&0_u32.to_le_bytes()[..], &crc.to_le_bytes(), &sequence.to_le_bytes()].concat());
    }
    write(&mut writer, &[forged.clone(), forged.clone()]);
    // The second frame's header is gone: its body now stands in the open.
    writer.file.write_all_at(&[0; 16], FILE_HEADER + FRAME_HEADER + forged.len() as u64).unwrap();
    let (found, _, end) = read(writer.path(), Some(1));
    assert_eq!((found, end), (vec![forged], End::Clean));
}

#[test]
fn a_failed_write_keeps_what_is_staged_and_can_be_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::create(dir.path(), "a", 4096, 1).unwrap();
    write(&mut writer, &[b"first".to_vec()]);
    let good = std::mem::replace(&mut writer.file, File::open(dir.path().join("a")).unwrap());
    writer.stage(&[b"second"]).unwrap();
    assert!(matches!(writer.write(), Err(SegmentError::Io { action: "write to", .. })));
    assert_eq!((writer.next_sequence(), writer.staged()), (3, 22));
    writer.file = good;
    // As a short write would have left it.
    writer.file.write_all_at(&writer.staged[..19], writer.tail).unwrap();
    writer.cut().unwrap();
    assert_eq!(read(writer.path(), Some(1)).2, End::Clean);
    writer.write().unwrap();
    assert_eq!(read(writer.path(), Some(1)).0, [b"first".to_vec(), b"second".to_vec()]);
    assert_eq!(std::fs::metadata(writer.path()).unwrap().len(), 4096);
}
