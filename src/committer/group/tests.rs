//! The room that extra files have.

use super::*;
use crate::committer::files::TaskFiles;

struct Desk {
    table: Table,
    home: Key,
    _dir: tempfile::TempDir,
}

impl Desk {
    /// A task whose files have these lengths already.
    fn new(lengths: &[(&'static str, u64)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = TaskFiles::open(dir.path(), "embedded-x", 1, 16).unwrap();
        let (mut table, home) = (Table::new(files), Key::Task(Id::parse("t").unwrap()));
        let state = &mut table.entry(&home).unwrap().state;
        state.lengths = lengths.iter().map(|(name, length)| (FileName::Borrowed(name), *length)).collect();
        Self { table, home, _dir: dir }
    }

    /// One write in a group of its own: whether anything of it is to be written, and whether the documents are.
    fn write(&mut self, name: &str, replace: bool, bytes: usize) -> (bool, bool) {
        let mut group = Group::default();
        let write = ExtraWrite { name: name.into(), replace, text: "x".repeat(bytes) };
        group.extra(&self.home, true, write, &mut self.table).unwrap();
        let (record, _) = group.into_record(Step::default(), &mut self.table).unwrap();
        let written = record.changes.iter().any(|change| !change.files.is_empty());
        (written, record.changes.iter().any(|change| change.documents.is_some()))
    }

    fn is_cut(&mut self, name: &str) -> bool {
        self.table.entry(&self.home).unwrap().state.documents.is_cut(name)
    }
}

#[test]
fn bounded_everything_extras_of_a_task_have_so_much_room() {
    let mut desk = Desk::new(&[("big.txt", EXTRAS_BYTES_MIN - 100), ("03-agent-output.jsonl", 1000)]);
    assert_eq!(desk.write("a.txt", false, 90), (true, false));
    assert_eq!(desk.write("b.txt", false, 11), (false, true), "one byte too many, and that is noted");
    assert_eq!(desk.write("b.txt", false, 1), (false, true), "it ends where its first part is missing");
    assert_eq!(desk.write("a.txt", false, 10), (true, false), "another file has what is left");
    assert_eq!(desk.write("c.json", true, 1), (false, true));
    // What is replaced makes room, and a file that is written anew is whole.
    assert_eq!(desk.write("big.txt", true, 1000), (true, false));
    assert_eq!(desk.write("c.json", true, 1), (true, true));
    assert!(desk.is_cut("b.txt") && !desk.is_cut("c.json"));
    assert_eq!(desk.write("b.txt", false, 1), (false, true));
    assert_eq!(desk.write("b.txt", true, 1), (true, true));
    assert_eq!(desk.write("b.txt", false, 1), (true, false));
}

#[test]
fn a_task_with_larger_logs_has_room_for_larger_extras() {
    let logs = EXTRAS_BYTES_MIN;
    let mut desk = Desk::new(&[("03-agent-output.jsonl", logs), ("a.txt", logs * EXTRAS_FACTOR - 10)]);
    assert_eq!(desk.write("a.txt", false, 10), (true, false));
    assert_eq!(desk.write("a.txt", false, 1), (false, true));
}
