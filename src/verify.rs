//! `verify`: a user's own proof that a stream and a `LOGS_DIR` belong together. Writes nothing, holds no lease, and may run
//! beside the service.
//!
//! The published position is taken first; everything up to it was journaled before. Then the journal, which stands in for what
//! is not applied yet; then the stream up to the position, which says what must stand where ([`rules`], [`expected`]); then the
//! files ([`tree`], [`judge`], [`documents`]). While a service runs, files move under the walk (a flow joins its task), so the
//! directories of findings are looked at again before anything is said.
//!
//! Memory: 32 bytes an entry (4 more with `--content`), some 200 a task, and what the journal holds above its checkpoint.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::sync_channel,
    thread,
    time::Duration,
};

use crate::{
    cli::Verify,
    committer::tombstones,
    config::Config,
    event::{Entry, Id, StreamId},
    journal::JournalError,
    recover,
    source::{
        SourceError,
        walk::{self, Part, Remains, Walk},
    },
};

mod rules;

mod content;
mod expected;

mod pending;

mod documents;
mod finding;
mod judge;
mod record;
mod tree;

mod private;
mod report;

pub use finding::{Finding, Kind};

use expected::Expected;
use finding::Findings;
use judge::{Judge, Scope};
use pending::Pending;
use report::Tally;
use tree::Tree;

/// Status when something is wrong.
const FOUND: u8 = 1;
/// Status when nothing could be looked at.
const BLIND: u8 = 2;
/// Looks at directories with findings, and the pause before each.
const AGAIN: (usize, Duration) = (4, Duration::from_millis(150));
/// Entries handed on at once, and batches on their way.
const BATCH: (usize, usize) = (500, 4);
/// The same, in bytes.
const BATCH_BYTES: usize = 4 << 20;

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The stream.
    #[error("cannot read the stream")]
    Stream(#[from] SourceError),
    /// The journal.
    #[error("cannot read the journal")]
    Journal(#[from] JournalError),
    /// The files.
    #[error("cannot look at {path}")]
    Files {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No task has such an id.
    #[error("--task: no task can have this id")]
    Task,
    /// The result could not be told.
    #[error("cannot write the result")]
    Tell(#[source] io::Error),
}

impl VerifyError {
    /// The command's status.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(BLIND)
    }
}

/// The command.
pub fn run(config: &Config, what: &Verify, out: &mut dyn Write) -> Result<ExitCode, VerifyError> {
    let mut tally = Tally::new();
    let checked = check(config, what, &mut tally);
    tally.end();
    let (findings, scope) = checked?;
    let told = match what.json {
        true => writeln!(out, "{}", tally.json(&findings, &scope)),
        false => tally.text(&findings, &scope, out),
    };
    told.map_err(VerifyError::Tell)?;
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

fn check(config: &Config, what: &Verify, tally: &mut Tally) -> Result<(Findings, Scope), VerifyError> {
    let only = match &what.task {
        Some(task) => Some(Id::parse(task).map_err(|_| VerifyError::Task)?.dir_name().into_owned()),
        None => None,
    };
    let mut stream = walk::open(config)?;
    let before = stream.remains()?;
    let until = before.published.unwrap_or(StreamId::MIN);
    if before.published.is_none() {
        tally.unknown("published position: there is none, so no entry is expected yet");
    }
    let state_dir = config.state_dir.join(stream.state_name());
    let mut pending = Pending::read(&state_dir)?;
    if !pending.known {
        tally.unknown("journal: there is none");
    }
    let began = recover::beginning(&state_dir).unwrap_or(StreamId::MIN);
    let mut expected = Expected::new(config.event_max, what.content);
    expected.began = began;
    expected.removed = removed(&state_dir, &pending)?;
    let lost = expect(config, &mut expected, &mut *stream, &before, &pending, tally)?;
    let after = stream.remains()?;
    let scope = Scope {
        until,
        since: what.since.unwrap_or(StreamId::MIN),
        began,
        // Entries may have been trimmed since they were read.
        first: before.first.zip(after.first).map(|(before, after)| before.max(after)),
        deleted: before.deleted.max(after.deleted),
        letters_removed: before.letters_removed || after.letters_removed,
        others: lost > 0 || pending.incarnation > 0 || private::has_others(config, &stream.state_name()),
    };
    let findings = || Findings::new(what.limit, only.as_deref());
    let mut judge = Judge { expected: &mut expected, scope, findings: findings(), tally, beyond: Vec::new() };
    let mut look = Look { config, state_dir, only: only.as_deref() };
    look.at(&pending, None, &mut judge)?;
    let mut last = u64::MAX;
    for round in 0..AGAIN.0 {
        beyond(&mut *stream, &mut judge)?;
        let total = judge.findings.total();
        if total == 0 || (round > 1 && total == last) || round + 1 == AGAIN.0 {
            break;
        }
        last = total;
        thread::sleep(AGAIN.1);
        let found = std::mem::replace(&mut judge.findings, findings());
        pending = Pending::read(&look.state_dir)?;
        judge.expected.note_removed(&removed(&look.state_dir, &pending)?);
        let counted = judge.tally.again();
        look.at(&pending, Some(&found.dirs), &mut judge)?;
        judge.tally.resume(counted);
    }
    Ok((judge.findings, scope))
}

/// Directories that retention removed: the journal's, which was read before, and those noted since.
fn removed(state_dir: &Path, pending: &Pending) -> Result<HashMap<u64, StreamId>, VerifyError> {
    let noted = tombstones::read(state_dir);
    let mut removed = noted.map_err(|source| VerifyError::Files { path: state_dir.to_owned(), source })?;
    removed.extend(pending.removed());
    Ok(removed)
}

/// Reads dead letters and entries up to the published position. Also returns how many entries are damaged.
fn expect(
    config: &Config,
    expected: &mut Expected,
    stream: &mut dyn Walk,
    remains: &Remains,
    pending: &Pending,
    tally: &mut Tally,
) -> Result<u64, VerifyError> {
    stream.each(Part::Letters, StreamId::MIN, StreamId::MAX, &mut |copy| {
        if let Some(letter) = walk::letter(copy) {
            expected.bury(&letter);
        }
    })?;
    // Where older entries are gone, a flow's join may be among them: then its `.state` knows it.
    let noted = |dir: &str| match remains.whole {
        true => None,
        false => pending.joined(dir).or_else(|| tree::noted_join(&config.logs_dir, dir)),
    };
    let until = remains.published.unwrap_or(StreamId::MIN);
    let lost = read(stream, StreamId::MIN, until, |entry| {
        tally.entries += 1;
        tally.progress(None);
        expected.take(&entry, &noted);
    })?;
    Ok(lost)
}

/// What stands behind the published position is the stream's, too, if the stream has it by now.
fn beyond(stream: &mut dyn Walk, judge: &mut Judge<'_>) -> Result<(), VerifyError> {
    let mut beyond = std::mem::take(&mut judge.beyond);
    if beyond.is_empty() && judge.findings.is_empty() {
        return Ok(());
    }
    beyond.sort();
    let mut met = vec![false; beyond.len()];
    read(stream, judge.scope.until, StreamId::MAX, |entry| {
        judge.expected.take_beyond(&entry);
        let from = beyond.partition_point(|seen| seen.id < entry.id);
        let to = beyond.partition_point(|seen| seen.id <= entry.id);
        met[from..to].fill(true);
    })?;
    for (seen, _) in beyond.iter().zip(met).filter(|(_, met)| !met) {
        let what = "has an id that the stream does not have";
        judge.findings.add(Kind::Foreign, &seen.dir, seen.file, Some(seen.id), what);
    }
    Ok(())
}

/// Reads entries in a thread of its own, so that the stream is asked for the next ones while these are looked at.
fn read(
    stream: &mut dyn Walk,
    after: StreamId,
    until: StreamId,
    mut each: impl FnMut(Entry),
) -> Result<u64, SourceError> {
    let (send, batches) = sync_channel::<Vec<Entry>>(BATCH.1);
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut batch = Vec::with_capacity(BATCH.0);
            let mut bytes = 0;
            let lost = stream.each(Part::Events, after, until, &mut |entry| {
                bytes += entry.size();
                batch.push(entry);
                if batch.len() >= BATCH.0 || bytes >= BATCH_BYTES {
                    bytes = 0;
                    // It fails only when the other side panicked, which is told there.
                    drop(send.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH.0))));
                }
            });
            drop(send.send(batch));
            lost
        });
        batches.into_iter().flatten().for_each(&mut each);
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Where to look.
struct Look<'a> {
    config: &'a Config,
    state_dir: PathBuf,
    only: Option<&'a str>,
}

impl Look<'_> {
    /// Looks at all directories, or those of findings again.
    fn at(
        &mut self,
        pending: &Pending,
        again: Option<&HashSet<Box<str>>>,
        judge: &mut Judge<'_>,
    ) -> Result<(), VerifyError> {
        let tree = Tree::open(&self.config.logs_dir, pending)?;
        private::look(self.config, &self.state_dir, pending, judge)?;
        let mut dirs = tree.directories(&self.config.state_dir, judge)?;
        let chosen = match (again, self.only) {
            (Some(again), _) => Some(related(judge.expected, again.iter().map(|dir| &**dir))),
            (None, Some(task)) => Some(related(judge.expected, [task])),
            (None, None) => None,
        };
        if let Some((places, names)) = &chosen {
            dirs.retain(|dir| names.contains(dir));
            judge.expected.forget(places);
        }
        let count = dirs.len();
        for dir in dirs {
            tree.directory(&dir, judge);
            judge.tally.progress(Some(count));
        }
        let is_chosen = |place: u32| chosen.as_ref().is_none_or(|(places, _)| places.contains(&place));
        judge.missing(&is_chosen);
        judge.letters();
        Ok(())
    }
}

/// Directories and the ones that share entries with them: a flow and its task. Places, and names with those of no place.
fn related<'d>(expected: &Expected, dirs: impl IntoIterator<Item = &'d str>) -> (HashSet<u32>, HashSet<Box<str>>) {
    let mut names: HashSet<Box<str>> = dirs.into_iter().map(Into::into).collect();
    let mut places: HashSet<u32> = names.iter().filter_map(|dir| expected.find(dir)).collect();
    let joined: Vec<u32> = places.iter().filter_map(|at| expected.places[*at as usize].joined).collect();
    places.extend(joined);
    let flows =
        (0_u32..).zip(&expected.places).filter(|(_, place)| place.joined.is_some_and(|task| places.contains(&task)));
    let flows: Vec<u32> = flows.map(|(at, _)| at).collect();
    places.extend(flows);
    names.extend(places.iter().map(|at| expected.places[*at as usize].dir.clone()));
    (places, names)
}
