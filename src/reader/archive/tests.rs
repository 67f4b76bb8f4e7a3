//! Archives against the archivers that people have, and against files that change meanwhile.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use super::*;
use crate::{
    event::Id,
    reader::{Logs, Shelf},
};

fn opened(root: &Path, id: &str, format: Format) -> Archive {
    filtered(root, id, format, &[], Filter::default())
}

fn filtered(root: &Path, id: &str, format: Format, names: &[String], filter: Filter) -> Archive {
    let id = Id::parse(id).unwrap();
    let folder = Logs::new(root.to_owned()).folder(Shelf::Tasks, &id).unwrap().unwrap();
    Archive::open(folder, &id.dir_name(), format, names, filter).unwrap()
}

fn all(mut archive: Archive) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    while let Some(piece) = archive.piece()? {
        bytes.extend(piece);
    }
    Ok(bytes)
}

type Members = BTreeMap<String, (Vec<u8>, u64, u64)>;

/// Checks what Python's own modules find in it: content, time and mode of each member, by name. Without Python nothing is
/// checked, which is an error where it is required.
#[track_caller]
fn check(format: Format, bytes: &[u8], expected: &Members) {
    match members(format, bytes) {
        Some(found) => assert!(found == *expected, "{format:?}: {:?}", found.keys()),
        None => assert!(std::env::var_os("REQUIRE_PYTHON").is_none(), "python3 is missing"),
    }
}

fn members(format: Format, bytes: &[u8]) -> Option<Members> {
    const TAR: &str = r#"
import io, json, sys, tarfile
data = sys.stdin.buffer.read()
tar = tarfile.open(fileobj=io.BytesIO(data), mode="r:")
for m in tar.getmembers():
    print(json.dumps([m.name, tar.extractfile(m).read().hex(), m.mtime, m.mode]))
"#;
    const ZIP: &str = r#"
import calendar, io, json, struct, sys, zipfile
z = zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read()))
assert z.testzip() is None
for m in z.infolist():
    extra, time = m.extra, None
    while extra:
        kind, length = struct.unpack("<HH", extra[:4])
        if kind == 0x5455: time = struct.unpack("<I", extra[5:9])[0]
        extra = extra[4 + length:]
    assert abs(calendar.timegm(m.date_time) - time) < 2
    print(json.dumps([m.filename, z.read(m).hex(), time, m.external_attr >> 16 & 0o777]))
"#;
    let plain = match format {
        Format::TarGz => {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
            plain
        }
        Format::TarZst => zstd::stream::decode_all(bytes).unwrap(),
        Format::Zip => bytes.to_vec(),
    };
    let program = if format == Format::Zip { ZIP } else { TAR };
    let mut python = Command::new("python3");
    let mut python = python.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    let mut stdin = python.stdin.take().unwrap();
    let writing = std::thread::spawn(move || stdin.write_all(&plain));
    let output = python.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let members = text.lines().map(|line| {
        let (name, hex, time, mode): (String, String, u64, u64) = serde_json::from_str(line).unwrap();
        let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
        let bytes = hex.as_bytes().chunks(2).map(byte).collect();
        (name, (bytes, time, mode))
    });
    Some(members.collect())
}

const ALL: [Format; 3] = [Format::TarGz, Format::TarZst, Format::Zip];

#[test]
fn archives_hold_public_files_with_their_times_under_the_ids_folder() {
    let temp = tempfile::tempdir().unwrap();
    // As long as an id may be: with a file's name it is longer than any head of tar has room for.
    for id in ["t1", "a/b:é", "..", &"x".repeat(200)] {
        let dir = Id::parse(id).unwrap().dir_name().into_owned();
        let folder = temp.path().join(&dir);
        fs::create_dir(&folder).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_760_000_001);
        let mut expected = BTreeMap::new();
        let noise: Vec<u8> = (0..300_000).map(|_| fastrand::u8(..)).collect();
        let extra = "e".repeat(100);
        for (name, content) in [
            ("01-input.json", b"{}".to_vec()),
            ("03-agent-output.jsonl", b"{\"n\":1}\n".repeat(60_000)),
            ("empty.jsonl", Vec::new()),
            ("metadata.json", noise),
            (extra.as_str(), vec![7; 512]),
        ] {
            fs::write(folder.join(name), &content).unwrap();
            expected.insert(format!("{dir}/{name}"), (content, 1_760_000_001, 0o644));
        }
        fs::OpenOptions::new()
            .append(true)
            .open(folder.join("03-agent-output.jsonl"))
            .unwrap()
            .write_all(b"{\"to")
            .unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            fs::File::open(entry.unwrap().path()).unwrap().set_modified(at).unwrap();
        }
        fs::write(folder.join(".state"), "SECRET").unwrap();
        fs::create_dir(folder.join("folder")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", folder.join("link.json")).unwrap();
        for format in ALL {
            let bytes = all(opened(temp.path(), id, format)).unwrap();
            check(format, &bytes, &expected);
            assert!(bytes == all(opened(temp.path(), id, format)).unwrap(), "{format:?} differs from itself");
        }
    }
}

#[test]
fn an_empty_task_is_an_empty_archive() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("t")).unwrap();
    for format in ALL {
        let bytes = all(opened(temp.path(), "t", format)).unwrap();
        check(format, &bytes, &Members::new());
    }
}

#[test]
fn a_file_that_grows_is_packed_as_long_as_it_was_and_one_that_shrinks_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("t");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("03-agent-output.jsonl");
    // More than one piece, whatever is compressed away.
    let noise: String = (0..1_000_000).map(|_| fastrand::alphanumeric()).collect();
    let line = format!("{{\"c\":\"{noise}\"}}\n");
    for format in ALL {
        fs::write(&path, &line).unwrap();
        let archive = opened(temp.path(), "t", format);
        let at = |path| fs::metadata(path).unwrap().modified().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let at = at(&path).as_secs();
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"late\":1}\n").unwrap();
        let expected = ("t/03-agent-output.jsonl".to_owned(), (line.clone().into_bytes(), at, 0o644));
        check(format, &all(archive).unwrap(), &[expected].into());

        let mut archive = opened(temp.path(), "t", format);
        assert!(!archive.piece().unwrap().unwrap().is_empty());
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();
        assert!(all(archive).is_err(), "{format:?}");
    }
    // One that is replaced is packed as it was when it was opened.
    fs::write(folder.join("metadata.json"), "old").unwrap();
    fs::write(&path, "").unwrap();
    let archive = opened(temp.path(), "t", Format::Zip);
    fs::write(folder.join(".new"), "newer").unwrap();
    fs::rename(folder.join(".new"), folder.join("metadata.json")).unwrap();
    let found = members(Format::Zip, &all(archive).unwrap());
    assert!(found.is_none_or(|found| found["t/metadata.json"].0 == b"old"));
}

#[test]
fn files_of_records_hold_what_a_filter_wants_and_others_stay_whole() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("t");
    fs::create_dir(&folder).unwrap();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_760_000_001);
    let write = |name: &str, content: &[u8]| {
        fs::write(folder.join(name), content).unwrap();
        fs::File::open(folder.join(name)).unwrap().set_modified(at).unwrap();
    };
    let line = |n: u32| {
        let kind = if n.is_multiple_of(3) { "tool_call" } else { "output" };
        format!("{{\"type\":\"{kind}\",\"n\":{n},\"c\":\"{}\"}}\n", "x".repeat(n as usize % 500))
    };
    let lines: Vec<String> = (0..5000).map(line).collect();
    let wanted: String = lines.iter().step_by(3).map(String::as_str).collect();
    write("03-agent-output.jsonl", format!("{}not json\n\n{{\"torn", lines.concat()).as_bytes());
    write("05-other-events.jsonl", b"{\"type\":\"other\"}\n");
    write("metadata.json", b"{\"type\":\"output\"}");
    let member = |name: &str, content: &str| (format!("t/{name}"), (content.as_bytes().to_vec(), 1_760_000_001, 0o644));
    let filter = Filter { kinds: vec!["tool_call".to_owned()], ..Filter::default() };
    for format in ALL {
        let archive = filtered(temp.path(), "t", format, &[], filter.clone());
        let others = [member("05-other-events.jsonl", ""), member("metadata.json", "{\"type\":\"output\"}")];
        let expected = Members::from([member("03-agent-output.jsonl", &wanted)]).into_iter().chain(others).collect();
        check(format, &all(archive).unwrap(), &expected);

        let one = ["05-other-events.jsonl".to_owned()];
        let archive = filtered(temp.path(), "t", format, &one, Filter::default());
        let expected = [member("05-other-events.jsonl", "{\"type\":\"other\"}\n")].into();
        check(format, &all(archive).unwrap(), &expected);
    }
    // What was measured and is gone when it is packed cannot be made good.
    write("03-agent-output.jsonl", lines.concat().repeat(10).as_bytes());
    let mut archive = filtered(temp.path(), "t", Format::TarGz, &[], filter);
    while matches!(archive.at, None | Some(At::Measured { .. })) {
        archive.step().unwrap();
    }
    fs::OpenOptions::new().write(true).open(folder.join("03-agent-output.jsonl")).unwrap().set_len(100_000).unwrap();
    assert!(all(archive).is_err());
}

#[test]
fn pieces_are_bounded_whatever_the_files_hold() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("t");
    fs::create_dir(&folder).unwrap();
    // Nothing but holes: compressed to almost nothing, so that much is read for little.
    fs::File::create(folder.join("blob.bin")).unwrap().set_len(64 << 20).unwrap();
    for n in 0..2 * OPEN_MAX {
        fs::write(folder.join(format!("{n:04}.json")), "{}").unwrap();
    }
    for format in ALL {
        let mut archive = opened(temp.path(), "t", format);
        let mut pieces = 0;
        while let Some(piece) = archive.piece().unwrap() {
            assert!(piece.len() < PIECE + (64 << 10), "{}", piece.len());
            pieces += 1;
        }
        assert!(pieces >= (64 << 20) / (STEP + BLOCK), "{pieces}: the client is not looked after meanwhile");
    }
}

#[test]
fn zip64_is_what_others_read_as_zip64() {
    for large_from in [0, 100, 100_000] {
        let mut zip = Zip::with_large_from(large_from);
        let mut bytes = Vec::new();
        let mut expected = BTreeMap::new();
        for (n, size) in [10, 1000, 0, 200_000].into_iter().enumerate() {
            let path = format!("t/{n}.bin");
            let content: Vec<u8> = (0..size).map(|_| fastrand::u8(..)).collect();
            let modified = Timestamp::from_second(1_760_000_000).unwrap();
            zip.begin(&Head { path: &path, size: content.len() as u64, modified }).unwrap();
            for piece in content.chunks(777) {
                zip.write(piece).unwrap();
                bytes.extend(zip.take());
            }
            zip.end().unwrap();
            expected.insert(path, (content, 1_760_000_000, 0o644));
        }
        zip.finish().unwrap();
        bytes.extend(zip.take());
        check(Format::Zip, &bytes, &expected);
    }
}

#[test]
fn more_members_than_a_short_directory_counts_are_read_too() {
    let mut zip = Zip::new();
    let modified = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(24 * 365 * 20);
    for n in 0..70_000 {
        zip.begin(&Head { path: &n.to_string(), size: 0, modified }).unwrap();
        zip.end().unwrap();
    }
    zip.finish().unwrap();
    assert!(members(Format::Zip, &zip.take()).is_none_or(|found| found.len() == 70_000));
}

#[test]
fn a_tar_never_holds_another_length_than_its_head_says() {
    let head = |size| Head { path: "t/x", size, modified: Timestamp::UNIX_EPOCH };
    let mut tar = Tar::new(Coding::Gzip).unwrap();
    tar.begin(&head(3)).unwrap();
    tar.write(b"12").unwrap();
    assert_eq!(tar.end().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(tar.write(b"34").unwrap_err().kind(), io::ErrorKind::InvalidData);
}
