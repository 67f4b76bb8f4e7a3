//! The assembled body and the pages against plain ways of making them.

use std::{fs, io::Read};

use serde_json::Value;

use super::*;

fn seeded() -> fastrand::Rng {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}

#[test]
fn an_assembled_body_is_what_parsing_each_line_gives() {
    let mut random = seeded();
    let lines: [&[u8]; 9] =
        [b"{\"a\":1}", b"{\"b\":[\"\\n\", null]}", b"", b"  ", b"\r", b"{bad", b"\xff", b"7", b"{\"c\":\"\xc3\xa9\"} "];
    for _ in 0..300 {
        let temp = tempfile::tempdir().unwrap();
        let logs = Logs::new(temp.path().to_owned());
        let folder = temp.path().join("t");
        fs::create_dir(&folder).unwrap();
        let mut expected = serde_json::Map::new();
        let (mut skipped, mut size) = (0, 0);
        for (key, name) in [("webhook_flow", layout::WEBHOOK_FLOW), ("agent_output", layout::AGENT_OUTPUT)] {
            let mut content = Vec::new();
            let mut records = Vec::new();
            // Half of the files are without flaw.
            let choices = if random.bool() { 2 } else { lines.len() };
            for _ in 0..random.usize(0..8) {
                let line = lines[random.usize(0..choices)];
                content.extend_from_slice(line);
                content.push(b'\n');
                match serde_json::from_slice::<Value>(line) {
                    Ok(record) => records.push(record),
                    Err(_) if line.trim_ascii().is_empty() => {}
                    Err(_) => skipped += 1,
                }
            }
            size += content.len() as u64;
            if random.bool() {
                content.extend_from_slice(b"{\"torn\":1}");
            }
            fs::write(folder.join(name), content).unwrap();
            expected.insert(key.to_owned(), Value::Array(records));
        }
        let folder = logs.folder(Shelf::Tasks, &Id::parse("t").unwrap()).unwrap().unwrap();
        let body = folder.logs(size).unwrap();
        assert_eq!(body.skipped(), skipped);
        let (len, mut text) = (body.len(), Vec::new());
        body.into_reader().read_to_end(&mut text).unwrap();
        assert_eq!(text.len() as u64, len);
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), Value::Object(expected));
        let refused = size.checked_sub(1).map(|limit| folder.logs(limit).err());
        assert!(refused.is_none_or(|error| matches!(error, Some(ReadError::TooLarge { .. }))));
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("t")).unwrap();
    let path = temp.path().join("t/extra.bin");
    fs::write(&path, [7; 100]).unwrap();
    let logs = Logs::new(temp.path().to_owned());
    let folder = logs.folder(Shelf::Tasks, &Id::parse("t").unwrap()).unwrap().unwrap();
    let file = folder.open("extra.bin").unwrap().unwrap();
    fs::write(&path, [7; 10]).unwrap();
    let mut section = file.section(0, 100);
    let error = section.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn what_is_not_there_yet_reads_as_empty() {
    let temp = tempfile::tempdir().unwrap();
    let logs = Logs::new(temp.path().join("a/b"));
    let id = Id::parse("t").unwrap();
    assert!(logs.check().is_err());
    assert_eq!(logs.count_tasks().unwrap(), 0);
    for shelf in [Shelf::Tasks, Shelf::Flows] {
        assert!(logs.folder(shelf, &id).unwrap().is_none());
    }
    fs::create_dir_all(temp.path().join("a/b/t")).unwrap();
    assert!(logs.check().is_ok());
    let folder = logs.folder(Shelf::Tasks, &id).unwrap().unwrap();
    assert_eq!(folder.files().unwrap(), []);
}
