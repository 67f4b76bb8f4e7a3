//! `task-logger dlq`: dead letters in the hands of operators. Works on the stream itself, beside any owner; HTTP serves none of
//! it. Status 0: done for all that was asked; 1: some of it was not there, or it failed.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use crate::{
    cli::{DlqCommand, Purge},
    config::Config,
    event::StreamId,
    service,
    source::{Letter, Letters, Replayed, SourceError},
};

mod show;

/// Between two looks whether the owner has done what it was asked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Letters that are removed, or replayed, at once.
const AT_ONCE: usize = 500;

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DlqError {
    /// The embedded stream is not where the settings say.
    #[error("there is no embedded stream in {0}: set STREAM_DIR, or REDIS_URL")]
    NoStream(String),
    /// The stream.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

/// Does what was asked. A closed pipe behind the output is no error.
pub fn run(config: &Config, command: &DlqCommand, out: &mut dyn Write) -> Result<ExitCode, DlqError> {
    if config.redis_url.is_none() && !config.stream_dir.is_dir() {
        return Err(DlqError::NoStream(config.stream_dir.display().to_string()));
    }
    let stream = service::open_stream(config)?;
    let mut letters = stream.letters()?;
    let letters = &mut *letters;
    let done = match command {
        DlqCommand::Ls(which) => show::list(letters, which, out),
        DlqCommand::Show { id, json } => show::one(letters, *id, *json, out),
        DlqCommand::Replay { ids } => replay(letters, ids, out),
        DlqCommand::Put { id, wait } => put(letters, *id, *wait, out),
        DlqCommand::Purge { what, yes } => purge(letters, what, *yes, out),
    };
    let flushed = out.flush();
    match done.and_then(|all| flushed.map(|()| all).map_err(Into::into)) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        Err(DlqError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    }
}

/// Hands every letter to `each`.
fn for_each(
    letters: &mut dyn Letters,
    mut each: impl FnMut(&mut dyn Letters, Letter) -> Result<(), DlqError>,
) -> Result<(), DlqError> {
    let mut after = StreamId::MIN;
    loop {
        let page = letters.page(after)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.at;
        for letter in page {
            each(letters, letter)?;
        }
    }
}

/// The letters of entries, by the entries' ids. Two streams that stood under one name may have had an entry of the same id.
fn find(letters: &mut dyn Letters, ids: &[StreamId]) -> Result<BTreeMap<StreamId, Vec<StreamId>>, DlqError> {
    let mut found: BTreeMap<StreamId, Vec<StreamId>> = ids.iter().map(|&id| (id, Vec::new())).collect();
    for_each(letters, |_, letter| {
        if let Some(of) = found.get_mut(&letter.id) {
            of.push(letter.at);
        }
        Ok(())
    })?;
    Ok(found)
}

fn replay(letters: &mut dyn Letters, ids: &[StreamId], out: &mut dyn Write) -> Result<bool, DlqError> {
    let found = find(letters, ids)?;
    let mut seen = std::collections::BTreeSet::new();
    let mut all = true;
    // In the order in which they are asked for, so that the caller has it in hand.
    let mut asked: Vec<(StreamId, StreamId)> = Vec::new();
    for id in ids.iter().filter(|&&id| seen.insert(id)) {
        match &found[id][..] {
            [] => {
                all = false;
                writeln!(out, "{id}: there is no such letter")?;
            }
            of => asked.extend(of.iter().map(|&at| (*id, at))),
        }
    }
    for chunk in asked.chunks(AT_ONCE) {
        let ats: Vec<_> = chunk.iter().map(|(_, at)| *at).collect();
        for ((id, _), replayed) in chunk.iter().zip(letters.replay(&ats)?) {
            all &= matches!(replayed, Replayed::As(_));
            match replayed {
                Replayed::As(new) => writeln!(out, "{id}: replayed as {new}")?,
                Replayed::NoLetter => writeln!(out, "{id}: there is no such letter any more")?,
                Replayed::NoEntry => {
                    writeln!(out, "{id}: the letter holds no fields, and the entry is gone from the stream")?;
                }
            }
        }
    }
    Ok(all)
}

fn put(letters: &mut dyn Letters, id: StreamId, wait: Duration, out: &mut dyn Write) -> Result<bool, DlqError> {
    if letters.entry(id)?.is_none() {
        writeln!(out, "{id}: there is no such entry in the stream")?;
        return Ok(false);
    }
    letters.ask_to_put(id)?;
    let deadline = Instant::now() + wait;
    while letters.is_asked(id)? {
        if Instant::now() >= deadline {
            writeln!(out, "{id}: noted; whoever owns the stream does it when it comes to this entry")?;
            return Ok(true);
        }
        thread::park_timeout(LOOK_EVERY);
    }
    let moved = !find(letters, &[id])?[&id].is_empty();
    match moved {
        true => writeln!(out, "{id}: is among the dead letters")?,
        false => writeln!(out, "{id}: was processed before")?,
    }
    Ok(moved)
}

fn purge(letters: &mut dyn Letters, what: &Purge, yes: bool, out: &mut dyn Write) -> Result<bool, DlqError> {
    let mut ats = Vec::new();
    let mut all = true;
    match what {
        Purge::All => for_each(letters, |_, letter| {
            ats.push((letter.at, letter.id));
            Ok(())
        })?,
        Purge::Before(time) => for_each(letters, |_, letter| {
            ats.extend(
                letter
                    .last_seen
                    .parse::<jiff::Timestamp>()
                    .is_ok_and(|at| at < *time)
                    .then_some((letter.at, letter.id)),
            );
            Ok(())
        })?,
        Purge::Of(ids) => {
            for (id, of) in find(letters, ids)? {
                if of.is_empty() {
                    all = false;
                    writeln!(out, "{id}: there is no such letter")?;
                }
                ats.extend(of.into_iter().map(|at| (at, id)));
            }
        }
    }
    if !ats.is_empty() && !yes && io::stdin().is_terminal() && !agreed(ats.len(), out)? {
        writeln!(out, "nothing is removed")?;
        return Ok(false);
    }
    let mut removed = 0;
    for chunk in ats.chunks(AT_ONCE) {
        removed += letters.remove(chunk)?;
    }
    writeln!(out, "{removed} letters removed")?;
    Ok(all)
}

fn agreed(count: usize, out: &mut dyn Write) -> Result<bool, DlqError> {
    write!(out, "Remove {count} letters for good? [yes/no] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "yes"))
}
