//! Walks `LOGS_DIR`: which directories and files may be there, and their lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, BufRead, BufReader},
    path::Path,
};

use cap_std::{ambient_authority, fs::Dir as Root};

use super::{
    VerifyError,
    documents::{Documents, spot},
    finding::Kind,
    judge::{Judge, Order, Seen, Spot},
    pending::{Dir, Overlaid, Pending},
    record,
    rules::File,
};
use crate::{
    committer::files::load,
    event::{Id, Key},
    layout::{self, FINAL_RESULT, INPUT, METADATA, STATE_FILE, WEBHOOKS_DIR, key_state::KeyState},
};

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// The task that a flow's `.state` says it joined.
pub(super) fn noted_join(logs: &Path, dir: &str) -> Option<Id> {
    let flow = Id::from_dir_name(dir.strip_prefix(WEBHOOKS_DIR)?.strip_prefix('/')?)?;
    let root = Root::open_ambient_dir(logs, ambient_authority()).ok()?;
    load(&root, &Key::Flow(flow)).ok()?.0.joined
}

/// The tree to walk.
pub(super) struct Tree<'a> {
    pub(super) logs: &'a Path,
    root: Root,
    pub(super) pending: &'a Pending,
}

/// What is known of a directory's files.
struct Listed {
    /// Names with lengths; `None`: no regular file.
    files: BTreeMap<String, Option<u64>>,
    state: KeyState,
    /// `.state` does not tell which files there must be.
    stateless: bool,
}

impl<'a> Tree<'a> {
    pub(super) fn open(logs: &'a Path, pending: &'a Pending) -> Result<Self, VerifyError> {
        let root = Root::open_ambient_dir(logs, ambient_authority())
            .map_err(|source| VerifyError::Files { path: logs.to_owned(), source })?;
        Ok(Self { logs, root, pending })
    }

    /// The directories of tasks and flows, those that are only in the journal included; what is none of them is foreign.
    pub(super) fn directories(
        &self,
        state_dir: &Path,
        judge: &mut Judge<'_>,
    ) -> Result<BTreeSet<Box<str>>, VerifyError> {
        let mut dirs: BTreeSet<Box<str>> = self.pending.dirs().map(Into::into).collect();
        for (name, is_dir) in self.names(self.logs)? {
            match &*name {
                // Where a volume is mounted, its file system has one.
                "lost+found" => {}
                layout::STATE_DIR if is_dir => {}
                WEBHOOKS_DIR if is_dir => {
                    for (flow, is_dir) in self.names(&self.logs.join(WEBHOOKS_DIR))? {
                        let dir = format!("{WEBHOOKS_DIR}/{flow}");
                        if is_dir && Id::from_dir_name(&flow).is_some() {
                            dirs.insert(dir.into());
                        } else {
                            judge.findings.add(Kind::Foreign, "", &dir, None, "no flow has such a directory");
                        }
                    }
                }
                _ if self.logs.join(&name) == state_dir => {}
                _ if is_dir && Id::from_dir_name(&name).is_some() => drop(dirs.insert(name.into())),
                _ => judge.findings.add(Kind::Foreign, "", &name, None, "no task has such a directory"),
            }
        }
        Ok(dirs)
    }

    fn names(&self, path: &Path) -> Result<Vec<(String, bool)>, VerifyError> {
        let fail = |source| VerifyError::Files { path: path.to_owned(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let is_dir = entry.file_type().map_err(fail)?.is_dir();
            names.push((entry.file_name().to_string_lossy().into_owned(), is_dir));
        }
        Ok(names)
    }

    /// Looks at one directory.
    pub(super) fn directory(&self, dir: &str, judge: &mut Judge<'_>) {
        judge.tally.dirs += 1;
        let place = judge.expected.find(dir);
        let mut seen = Seen::default();
        if place.is_some() {
            self.look(dir, place, judge, &mut seen);
            return;
        }
        // What stands in a directory that no entry names is told one by one only when entries explain some of it.
        let inner = judge.findings.empty();
        let outer = std::mem::replace(&mut judge.findings, inner);
        self.look(dir, None, judge, &mut seen);
        let inner = std::mem::replace(&mut judge.findings, outer);
        if seen.explained {
            judge.findings.absorb(inner);
        } else {
            judge.findings.add(Kind::Foreign, dir, "", None, "no entry names this directory");
        }
    }

    fn look(&self, dir: &str, place: Option<u32>, judge: &mut Judge<'_>, seen: &mut Seen) {
        let is_flow = dir.starts_with(WEBHOOKS_DIR);
        let pending = self.pending.dir(dir);
        let Some(listed) = self.list(dir, is_flow, judge) else { return };
        // Only the service makes one that is whole.
        seen.explained |= !listed.stateless;
        let documents = match is_flow {
            true => Documents::default(),
            false => judge.documents(self.logs, spot(dir, place), pending, seen),
        };
        let mut names: BTreeSet<&str> = listed.files.keys().map(String::as_str).collect();
        names.extend(pending.into_iter().flat_map(Dir::files));
        for name in names {
            let tail = pending.and_then(|pending| pending.tail(name));
            if tail.is_some_and(|tail| tail.is_gone()) || name == STATE_FILE {
                continue;
            }
            if listed.files.get(name) == Some(&None) {
                judge.findings.add(Kind::Foreign, dir, name, None, "is no file");
                continue;
            }
            let file = File::ALL.into_iter().find(|file| file.name() == name);
            match (file, name) {
                (Some(File::Metadata), _) | (_, METADATA | INPUT | FINAL_RESULT) if !is_flow => {}
                (Some(file @ (File::Flow | File::Other)), _) => {
                    self.lines(Spot { dir, place, file }, judge, &documents, seen);
                }
                (Some(file @ (File::Agent | File::Inputs)), _) if !is_flow => {
                    self.lines(Spot { dir, place, file }, judge, &documents, seen);
                }
                // A plugin's extra: the service noted what it wrote.
                _ if listed.state.lengths.contains_key(name)
                    || pending.is_some_and(|pending| pending.named.contains(name)) => {}
                _ if listed.stateless && layout::is_public_file(name) => {
                    judge.tally.unknown("files of tasks whose .state is lost");
                }
                _ => judge.findings.add(Kind::Foreign, dir, name, None, "nothing of the service's wrote it"),
            }
        }
        self.lengths(dir, &listed, pending, judge);
        if !is_flow {
            judge.state(spot(dir, place), &documents, seen);
        }
        if documents.resumed
            && let Some(place) = place
            && judge.expected.places[place as usize].removed.is_none()
        {
            judge.expected.places[place as usize].resumed = seen.lowest;
        }
        judge.doubles(dir, seen);
    }

    fn list(&self, dir: &str, is_flow: bool, judge: &mut Judge<'_>) -> Option<Listed> {
        let name = dir.rsplit('/').next().unwrap_or(dir);
        let id = Id::from_dir_name(name)?;
        let key = if is_flow { Key::Flow(id) } else { Key::Task(id) };
        // `.state` before the lengths: files only grow.
        let (state, unusable) = match load(&self.root, &key) {
            Ok(loaded) => loaded,
            Err(error) => {
                judge.findings.add(Kind::Unreadable, dir, STATE_FILE, None, error.to_string());
                (KeyState::default(), Some(String::new()))
            }
        };
        match unusable.as_deref() {
            None | Some("") => {}
            Some("none") if self.pending.dir(dir).is_some() => {}
            Some("none") => judge.tally.unknown("directories without a .state: what their files were is not known"),
            Some(why) => judge.findings.add(Kind::Unreadable, dir, STATE_FILE, None, why),
        }
        let mut files = BTreeMap::new();
        if self.is_cleared(dir) {
            return Some(Listed { files, state: KeyState::default(), stateless: false });
        }
        let listed = (|| {
            for entry in fs::read_dir(self.logs.join(dir))? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                match entry.metadata() {
                    Ok(metadata) => drop(files.insert(name, metadata.is_file().then_some(metadata.len()))),
                    // Moved to its task since it was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })();
        match listed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                judge.findings.add(Kind::Unreadable, dir, "", None, error.to_string());
                return None;
            }
            _ => {}
        }
        let stateless = unusable.is_some();
        Some(Listed { files, state, stateless })
    }

    /// Whether what stands in a directory goes away.
    fn is_cleared(&self, dir: &str) -> bool {
        self.pending.dir(dir).is_some_and(|pending| pending.cleared.is_some())
    }

    /// Files that are shorter than what was written to them.
    fn lengths(&self, dir: &str, listed: &Listed, pending: Option<&Dir>, judge: &mut Judge<'_>) {
        let mut required: BTreeMap<&str, u64> = BTreeMap::new();
        if !listed.stateless {
            required.extend(listed.state.lengths.iter().map(|(name, length)| (&**name, *length)));
        }
        for name in pending.into_iter().flat_map(|pending| &pending.named) {
            // What is pending begins where the file ended; a file that is replaced or removed has no length to keep.
            required.remove(&**name);
            let begins = pending.and_then(|pending| pending.tail(name)?.begins()).filter(|begins| *begins > 0);
            required.extend(begins.map(|begins| (&**name, begins)));
        }
        for (name, length) in required {
            let is = listed.files.get(name).copied().flatten();
            let replaced = listed.state.replaced.contains(name);
            match is {
                Some(is) if is >= length || replaced => {}
                Some(is) => {
                    let what = format!("has {is} of the {length} bytes that were written to it");
                    judge.findings.add(Kind::Short, dir, name, None, what);
                }
                None => {
                    judge.findings.add(Kind::Short, dir, name, None, format!("is gone with its {length} bytes"));
                }
            }
        }
    }

    /// The lines of a file.
    fn lines(&self, at: Spot<'_>, judge: &mut Judge<'_>, documents: &Documents, seen: &mut Seen) {
        let name = at.file.name();
        let file = match fs::File::open(self.logs.join(at.dir).join(name)) {
            Ok(file) => Some(file).filter(|_| !self.is_cleared(at.dir)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return judge.findings.add(Kind::Unreadable, at.dir, name, None, error.to_string()),
        };
        let tail = self.pending.dir(at.dir).and_then(|dir| dir.tail(name));
        let mut reader = BufReader::with_capacity(CHUNK, Overlaid::new(file, tail));
        let (mut order, mut line, mut number) = (Order::default(), Vec::new(), 0_u64);
        loop {
            line.clear();
            match reader.read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => number += 1,
                Err(error) => return judge.findings.add(Kind::Unreadable, at.dir, name, None, error.to_string()),
            }
            judge.tally.bytes += line.len() as u64;
            let Some(body) = line.strip_suffix(b"\n") else {
                let what = format!("line {number} has no end");
                return judge.findings.add(Kind::Torn, at.dir, name, None, what);
            };
            match record::read(body, at.file) {
                Err(why) => judge.findings.add(Kind::Torn, at.dir, name, None, format!("line {number} {why}")),
                Ok(told) => {
                    let row = judge.sight(at, told.id, Some(&told), &mut order, seen);
                    let lines = judge.expected.lines.as_ref().filter(|_| documents.plain && told.gap.is_none());
                    if let Some((lines, row)) = lines.zip(row) {
                        judge.tally.compared += 1;
                        if !lines.agree(row, &line) {
                            judge.add(Kind::WrongRecord, at, told.id, "is not what its entry says, and no plugin ran");
                        }
                    }
                }
            }
        }
    }
}
