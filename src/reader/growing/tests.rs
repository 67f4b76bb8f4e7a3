//! A file that grows, ends, and is taken away while it is read.

use std::{fs, io::Write};

use super::*;
use crate::{
    event::Id,
    reader::{Logs, Shelf},
};

#[test]
fn a_growing_file_gives_whole_records_until_its_task_ends() {
    let temp = tempfile::tempdir().unwrap();
    let task = temp.path().join("t");
    fs::create_dir(&task).unwrap();
    let path = task.join("03-agent-output.jsonl");
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(b"{\"n\":1}\n").unwrap();
    let logs = Logs::new(temp.path().to_owned());
    let folder = || logs.folder(Shelf::Tasks, &Id::parse("t").unwrap()).unwrap().unwrap();
    let open = |at| Growing::new(folder(), folder().open("03-agent-output.jsonl").unwrap().unwrap(), at);
    let mut growing = open(2);
    let text = |grown| match grown {
        Grown::Piece(piece) => String::from_utf8(piece).unwrap(),
        other => format!("{other:?}"),
    };
    assert_eq!(text(growing.next(4).unwrap()), "n\":1");
    assert_eq!(text(growing.next(100).unwrap()), "}\n");
    assert_eq!(growing.next(100).unwrap(), Grown::Nothing);
    file.write_all(b"{\"n\":2}\n{\"n\"").unwrap();
    assert_eq!(text(growing.next(100).unwrap()), "{\"n\":2}\n");
    assert_eq!(growing.next(100).unwrap(), Grown::Nothing, "a record that has no end yet");
    file.write_all(b":3}\n").unwrap();
    fs::write(task.join("04-final-result.json"), r#"{"success":true}"#).unwrap();
    assert_eq!(text(growing.next(100).unwrap()), "{\"n\":3}\n", "what came before the end comes first");
    assert_eq!(growing.next(100).unwrap(), Grown::Ended);
    fs::write(&path, "{}\n").unwrap();
    assert!(growing.next(100).is_err(), "it got shorter");
    let mut removed = open(0);
    fs::remove_file(&path).unwrap();
    assert_eq!(text(removed.next(100).unwrap()), "{}\n");
    assert!(removed.next(100).is_err());
}
