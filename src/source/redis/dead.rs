//! The dead letter stream: copies letters under the epoch's guard, each once.

use std::collections::{BTreeSet, HashSet};

use redis::{Cmd, cmd};

use super::{Shared, connect::Control, publish::Guarded, reply};
use crate::{
    event::{Entry, StreamId},
    source::{DeadLetter, Fields, SourceError, letter},
};

/// Bytes of letters in one transaction.
const GROUP_BYTES: usize = 4 << 20;
/// Aim for a page of the dead letter stream, in bytes, when it is searched.
const PAGE_BYTES: usize = 4 << 20;

/// Copies letters, in order. With `may_exist` those that stand there already are left out. `used` is what the dead letter
/// stream takes, as far as known: it is measured at first and when the bound is reached, else counted.
pub(super) fn bury(
    shared: &Shared,
    guarded: &mut Guarded,
    used: &mut Option<u64>,
    letters: &[DeadLetter],
    may_exist: bool,
) -> Result<(), SourceError> {
    let buried = match letters.iter().map(|letter| letter.id.ms).min() {
        Some(oldest) if may_exist => buried_since(shared, guarded, oldest, letters)?,
        _ => HashSet::new(),
    };
    let mut group = Vec::new();
    let mut bytes = 0;
    for letter in letters.iter().filter(|letter| !buried.contains(&letter.id)) {
        let fields = match &letter.fields {
            Some(fields) => Some(fields.clone()),
            None => fetch(shared, guarded, letter.id)?,
        };
        let copy = letter::copy(letter, &shared.stream, fields.as_ref(), shared.letters.digest);
        let (size, max) = (letter::size(&copy) as u64, shared.letters.bytes_max);
        let fits = |used: u64| used == 0 || used + size <= max;
        if !used.is_some_and(fits) {
            send(guarded, &std::mem::take(&mut group))?;
            bytes = 0;
            let now = *used.insert(measure(shared, guarded)?);
            if !fits(now) {
                return Err(SourceError::LettersFull { bytes: now, max });
            }
        }
        *used = used.map(|used| used + size);
        bytes += letter::size(&copy);
        group.push(super::xadd(&shared.dead_key, &copy));
        if bytes >= GROUP_BYTES {
            send(guarded, &std::mem::take(&mut group))?;
            bytes = 0;
        }
    }
    send(guarded, &group)
}

/// The memory that the dead letter stream takes, in bytes; 0 when it holds nothing. Every node is looked at: letters differ
/// too much in size for a sample to say anything.
fn measure(shared: &Shared, guarded: &mut Guarded) -> Result<u64, SourceError> {
    let (mut length, mut usage) = (cmd("XLEN"), cmd("MEMORY"));
    length.arg(&shared.dead_key);
    usage.arg("USAGE").arg(&shared.dead_key).arg("SAMPLES").arg(0);
    let replies = guarded.look_up()?.all(&[length, usage])?;
    let wrong = || SourceError::Reply { command: "XLEN" };
    let [length, usage] = <[_; 2]>::try_from(replies).map_err(|_| wrong())?;
    if reply::integer(&reply::accepted(length)?).ok_or_else(wrong)? == 0 {
        return Ok(0);
    }
    match reply::integer(&usage) {
        Some(bytes) => Ok(u64::try_from(bytes).unwrap_or(0)),
        // A user who may not ask for it, or a server that does not know it: read and counted.
        None => walk(shared, guarded),
    }
}

fn walk(shared: &Shared, guarded: &mut Guarded) -> Result<u64, SourceError> {
    let (mut pages, mut bytes) = (Pages::default(), 0);
    loop {
        let page = pages.next(guarded.look_up()?, &shared.dead_key)?;
        if page.is_empty() {
            return Ok(bytes);
        }
        bytes += page.iter().map(|entry| reply::size(&entry.fields) as u64).sum::<u64>();
    }
}

/// Reads a stream in pages of bounded size.
#[derive(Default)]
pub(super) struct Pages {
    after: StreamId,
    mean: usize,
}

impl Pages {
    /// Behind this id.
    pub(super) fn after(after: StreamId) -> Self {
        Self { after, mean: 0 }
    }

    /// Whether that is where it stands.
    pub(super) fn is_at(&self, after: StreamId) -> bool {
        self.after == after
    }

    /// The next entries; empty: no more.
    pub(super) fn next(&mut self, control: &mut Control, key: &str) -> Result<Vec<Entry>, SourceError> {
        // Sizes are not known at first, and one of the next may be far larger than those before.
        let count = PAGE_BYTES.checked_div(self.mean).map_or(16, |count| count.clamp(1, 1000));
        let mut range = cmd("XRANGE");
        range.arg(key).arg(self.after.next().to_string()).arg("+").arg("COUNT").arg(count);
        let page = reply::entries("XRANGE", control.one(&range)?)?;
        if let Some(last) = page.last() {
            self.after = last.id;
            let bytes: usize = page.iter().map(|entry| reply::size(&entry.fields)).sum();
            self.mean = (bytes / page.len()).max(self.mean / 10 * 9).max(64);
        }
        Ok(page)
    }
}

fn send(guarded: &mut Guarded, group: &[Cmd]) -> Result<(), SourceError> {
    if group.is_empty() {
        return Ok(());
    }
    guarded.run(group)?.into_iter().try_for_each(|reply| reply::accepted(reply).map(drop))
}

/// The original fields; `None`: the entry is gone.
fn fetch(shared: &Shared, guarded: &mut Guarded, id: StreamId) -> Result<Option<Fields>, SourceError> {
    let mut range = cmd("XRANGE");
    range.arg(&shared.stream).arg(id.to_string()).arg(id.to_string());
    let found = reply::entries("XRANGE", guarded.look_up()?.one(&range)?)?;
    Ok(found.into_iter().next().map(|entry| entry.fields))
}

/// Which of the letters stand in the dead letter stream. Looks backwards, no further than the time of the oldest original: a
/// letter cannot be older than its entry.
fn buried_since(
    shared: &Shared,
    guarded: &mut Guarded,
    oldest_ms: u64,
    letters: &[DeadLetter],
) -> Result<HashSet<StreamId>, SourceError> {
    let wanted: HashSet<StreamId> = letters.iter().map(|letter| letter.id).collect();
    let mut found = HashSet::new();
    let (mut until, mut count) = ("+".to_owned(), 16_usize);
    while found.len() < wanted.len() {
        let mut range = cmd("XREVRANGE");
        range.arg(&shared.dead_key).arg(&until).arg(format!("{oldest_ms}-0")).arg("COUNT").arg(count);
        let page = reply::entries("XREVRANGE", guarded.look_up()?.one(&range)?)?;
        found.extend(page.iter().filter_map(letter::original).filter(|id| wanted.contains(id)));
        let Some(last) = page.last().filter(|_| page.len() == count) else { break };
        until = last.id.previous().to_string();
        let mean = page.iter().map(|entry| reply::size(&entry.fields)).sum::<usize>() / count;
        count = (PAGE_BYTES / mean.max(1)).clamp(1, 2 * count);
    }
    // Those that operators removed since were there.
    let missing: Vec<StreamId> = wanted.difference(&found).copied().collect();
    for ids in missing.chunks(1000) {
        let scores = ids.iter().map(|id| {
            let mut score = cmd("ZSCORE");
            score.arg(&shared.removed_key).arg(id.to_string());
            score
        });
        let replies = guarded.look_up()?.all(&scores.collect::<Vec<_>>())?;
        for (id, reply) in ids.iter().zip(replies) {
            if reply::accepted(reply)? != redis::Value::Nil {
                found.insert(*id);
            }
        }
    }
    Ok(found)
}

// === impl Needed ===

/// Which entries letters without their fields refer to. What was seen is kept, so that each look reads only new letters.
#[derive(Default)]
pub(super) struct Needed {
    pages: Pages,
    /// Entries with their letters.
    seen: BTreeSet<(StreamId, StreamId)>,
}

impl Needed {
    /// The lowest of them whose letter still stands.
    pub(super) fn lowest(&mut self, shared: &Shared, control: &mut Control) -> Result<Option<StreamId>, SourceError> {
        loop {
            let page = self.pages.next(control, &shared.dead_key)?;
            if page.is_empty() {
                break;
            }
            self.seen.extend(page.iter().filter_map(|copy| Some((letter::refers_to(copy)?, copy.id))));
        }
        while let Some(&(id, at)) = self.seen.first() {
            let mut range = cmd("XRANGE");
            range.arg(&shared.dead_key).arg(at.to_string()).arg(at.to_string());
            if !reply::entries("XRANGE", control.one(&range)?)?.is_empty() {
                return Ok(Some(id));
            }
            self.seen.pop_first();
        }
        Ok(None)
    }
}
