//! A disk that loses what was not synced: made from a record of system calls, it says what may stand there after the power
//! went at a given line.
//!
//! A call may be lost until a sync that began after it has ended. Of the bytes written to a file since its last sync any
//! sectors may be there or not; of directory changes see [`Names`].

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use fastrand::Rng;

use super::trace::{Act, Call, Data};

/// What a sector is: it stands there whole or not at all.
const SECTOR: usize = 512;

/// What becomes of directory changes that nothing synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// They are lost from some point on, and a file's sync keeps all before it: journaling file systems (ext4, XFS, btrfs).
    InOrder,
    /// Each is lost or not by itself, and only the directory's own sync keeps them: all that POSIX promises.
    Any,
}

type Inode = usize;

/// A change, by inodes.
enum Change {
    /// A name appears (a new file, directory or link).
    Name {
        dir: Inode,
        name: String,
        inode: Inode,
        is_dir: bool,
    },
    Unname {
        dir: Inode,
        name: String,
    },
    Rename {
        from: (Inode, String),
        to: (Inode, String),
        inode: Inode,
        is_dir: bool,
    },
    Bytes {
        inode: Inode,
        offset: u64,
        data: Data,
    },
    Length {
        inode: Inode,
        length: u64,
    },
}

struct Logged {
    begun: usize,
    /// The line from which on it cannot be lost: for journaling file systems, for POSIX.
    kept: [usize; 2],
    ended: usize,
    change: Change,
}

/// The changes of a record.
pub(super) struct Disk {
    root: PathBuf,
    log: Vec<Logged>,
}

/// What a tree holds while the record is read.
struct Live {
    names: HashMap<PathBuf, Inode>,
    dirs: HashSet<Inode>,
    next: Inode,
}

// === impl Disk ===

impl Disk {
    /// Reads calls below `root`, which was an empty folder.
    pub(super) fn new(root: &Path, calls: &[Call]) -> Self {
        let mut live = Live { names: HashMap::from([(root.to_owned(), 0)]), dirs: HashSet::from([0]), next: 1 };
        let mut disk = Self { root: root.to_owned(), log: Vec::new() };
        for call in calls {
            match &call.act {
                Act::Sync(path) => {
                    if let Some(&inode) = live.names.get(path) {
                        disk.synced(call, Some(inode));
                    }
                }
                Act::SyncAll => disk.synced(call, None),
                act => live.changes(act).into_iter().for_each(|change| {
                    let kept = [usize::MAX; 2];
                    disk.log.push(Logged { begun: call.begun, kept, ended: call.ended, change });
                }),
            }
        }
        disk
    }

    fn synced(&mut self, sync: &Call, inode: Option<Inode>) {
        for logged in self.log.iter_mut().filter(|logged| logged.ended < sync.begun) {
            let (own, name) = match &logged.change {
                Change::Bytes { inode: of, .. } | Change::Length { inode: of, .. } => (inode == Some(*of), false),
                Change::Name { dir, .. } | Change::Unname { dir, .. } => (inode == Some(*dir), true),
                Change::Rename { from, to, .. } => (inode == Some(from.0) || inode == Some(to.0), true),
            };
            for (kept, also) in logged.kept.iter_mut().zip([name, false]) {
                if own || also || inode.is_none() {
                    *kept = (*kept).min(sync.ended);
                }
            }
        }
    }

    /// Writes what may stand on the disk after the power went after `line`.
    pub(super) fn after(&self, line: usize, names: Names, rng: &mut Rng, into: &Path) {
        let issued: Vec<&Logged> = self.log.iter().filter(|logged| logged.begun <= line).collect();
        let kept = |logged: &Logged| logged.kept[names as usize] <= line;
        // A journaling file system commits directory changes in order: some prefix, never less than what was synced.
        let is_name = |logged: &Logged| !matches!(logged.change, Change::Bytes { .. } | Change::Length { .. });
        let synced = issued.iter().rposition(|logged| is_name(logged) && kept(logged)).map_or(0, |at| at + 1);
        let cut = rng.usize(synced..=issued.len());
        // Some lose much, some little.
        let share = rng.f64();
        let mut tree = Tree::default();
        for (at, logged) in issued.into_iter().enumerate() {
            let survives = match names {
                _ if kept(logged) => true,
                Names::InOrder if is_name(logged) => at < cut,
                _ => rng.f64() < share,
            };
            match (survives, &logged.change) {
                (true, change) if kept(logged) => tree.apply(change),
                // It may have been on its way: torn.
                (true, Change::Bytes { inode, offset, data }) => tree.tear(*inode, *offset, data, rng),
                (true, change) => tree.apply(change),
                (false, _) => {}
            }
        }
        tree.write(0, into);
    }

    /// As if nothing had ever been synced.
    pub(super) fn forget_syncs(&mut self) {
        self.log.iter_mut().for_each(|logged| logged.kept = [usize::MAX; 2]);
    }

    /// The folder whose record it is.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}

// === impl Live ===

impl Live {
    fn changes(&mut self, act: &Act) -> Vec<Change> {
        match act {
            Act::Open { path, create, truncate } => match self.names.get(path) {
                Some(&inode) if *truncate => vec![Change::Length { inode, length: 0 }],
                None if *create => vec![self.make(path, false)],
                _ => Vec::new(),
            },
            Act::Write { path, offset, data } => {
                let change = |inode| Change::Bytes { inode, offset: *offset, data: data.clone() };
                self.names.get(path).copied().map(change).into_iter().collect()
            }
            Act::Truncate { path, length } => {
                self.names.get(path).map(|&inode| Change::Length { inode, length: *length }).into_iter().collect()
            }
            Act::Mkdir(path) => vec![self.make(path, true)],
            Act::Remove(path) => {
                self.names.remove(path);
                vec![Change::Unname { dir: self.dir(path), name: name(path) }]
            }
            Act::Rename { from, to } => {
                let inode = self.names[from];
                let moved: Vec<PathBuf> = self.names.keys().filter(|path| path.starts_with(from)).cloned().collect();
                for path in moved {
                    let inode = self.names.remove(&path).unwrap();
                    let rest = path.strip_prefix(from).unwrap();
                    self.names.insert(if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) }, inode);
                }
                let (from, to) = ((self.dir(from), name(from)), (self.dir(to), name(to)));
                vec![Change::Rename { from, to, inode, is_dir: self.dirs.contains(&inode) }]
            }
            Act::Link { from, to } => {
                let inode = self.names[from];
                self.names.insert(to.clone(), inode);
                vec![Change::Name { dir: self.dir(to), name: name(to), inode, is_dir: false }]
            }
            Act::Sync(_) | Act::SyncAll | Act::Answer(_) => Vec::new(),
        }
    }

    fn make(&mut self, path: &Path, is_dir: bool) -> Change {
        let inode = self.next;
        self.next += 1;
        self.names.insert(path.to_owned(), inode);
        if is_dir {
            self.dirs.insert(inode);
        }
        Change::Name { dir: self.dir(path), name: name(path), inode, is_dir }
    }

    fn dir(&self, path: &Path) -> Inode {
        self.names[path.parent().unwrap()]
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// What stands on the disk.
#[derive(Default)]
struct Tree<'d> {
    dirs: HashMap<Inode, BTreeMap<&'d str, (Inode, bool)>>,
    files: HashMap<Inode, Content<'d>>,
}

#[derive(Default)]
struct Content<'d> {
    length: u64,
    /// Writes, in order; where nothing was written there are zeros.
    parts: Vec<(u64, Part<'d>)>,
}

enum Part<'d> {
    Whole(&'d Data),
    Torn(Vec<u8>),
    /// Nothing beyond this length survived a truncation.
    Cut,
}

// === impl Tree ===

impl<'d> Tree<'d> {
    fn apply(&mut self, change: &'d Change) {
        match change {
            Change::Name { dir, name, inode, is_dir } => {
                self.dirs.entry(*dir).or_default().insert(name, (*inode, *is_dir));
            }
            Change::Unname { dir, name } => {
                self.dirs.entry(*dir).or_default().remove(&**name);
            }
            Change::Rename { from, to, inode, is_dir } => {
                let was = self.dirs.entry(from.0).or_default().remove(&*from.1);
                // The name that it was made under may be lost; the one that it has now is not.
                self.dirs.entry(to.0).or_default().insert(&to.1, was.unwrap_or((*inode, *is_dir)));
            }
            Change::Bytes { inode, offset, data } => self.put(*inode, *offset, data.len(), Part::Whole(data)),
            Change::Length { inode, length } => {
                let content = self.files.entry(*inode).or_default();
                content.length = *length;
                content.parts.push((*length, Part::Cut));
            }
        }
    }

    fn put(&mut self, inode: Inode, offset: u64, length: u64, part: Part<'d>) {
        let content = self.files.entry(inode).or_default();
        content.length = content.length.max(offset + length);
        content.parts.push((offset, part));
    }

    /// Some sectors of it, the others as they were.
    fn tear(&mut self, inode: Inode, offset: u64, data: &'d Data, rng: &mut Rng) {
        let Data::Bytes(bytes) = data else { return self.put(inode, offset, data.len(), Part::Whole(data)) };
        if rng.bool() {
            return self.put(inode, offset, data.len(), Part::Whole(data));
        }
        let mut at = 0;
        while at < bytes.len() {
            let start = offset as usize + at;
            let end = (bytes.len()).min(at + SECTOR - start % SECTOR);
            if rng.bool() {
                self.put(inode, start as u64, (end - at) as u64, Part::Torn(bytes[at..end].to_vec()));
            }
            at = end;
        }
    }

    fn write(&self, dir: Inode, into: &Path) {
        fs::create_dir_all(into).unwrap();
        for (name, (inode, is_dir)) in self.dirs.get(&dir).into_iter().flatten() {
            let path = into.join(name);
            match is_dir {
                true => self.write(*inode, &path),
                false => self.files.get(inode).unwrap_or(&Content::default()).write(&path),
            }
        }
    }
}

// === impl Content ===

impl Content<'_> {
    fn write(&self, path: &Path) {
        let mut file = fs::File::create(path).unwrap();
        for (offset, part) in &self.parts {
            match part {
                Part::Whole(Data::Bytes(bytes)) => file.write_all_at(bytes, *offset).unwrap(),
                Part::Torn(bytes) => file.write_all_at(bytes, *offset).unwrap(),
                // Sparse: what was there is overwritten only where it exists.
                Part::Whole(Data::Zeros(length)) => {
                    let there = file.metadata().unwrap().len();
                    if there > *offset {
                        let zeros = vec![0; usize::try_from((there - offset).min(*length)).unwrap()];
                        file.write_all_at(&zeros, *offset).unwrap();
                    }
                }
                Part::Cut => file.set_len(*offset).unwrap(),
            }
        }
        file.set_len(self.length).unwrap();
        file.flush().unwrap();
    }
}

// === impl Data ===

impl Data {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(length) => *length,
        }
    }
}
