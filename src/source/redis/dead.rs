//! The dead letter stream: copies letters under the epoch's guard, each once.

use std::collections::HashSet;

use redis::{Cmd, cmd};

use super::{Shared, publish::Guarded, reply};
use crate::{
    event::StreamId,
    source::{DeadLetter, Fields, SourceError, letter},
};

/// Bytes of letters in one transaction.
const GROUP_BYTES: usize = 4 << 20;
/// Aim for a page of the dead letter stream, in bytes, when it is searched.
const PAGE_BYTES: usize = 4 << 20;

/// Copies letters, in order. With `may_exist` those that stand there already are left out.
pub(super) fn bury(
    shared: &Shared,
    guarded: &mut Guarded,
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
        bytes += fields.as_deref().map_or(0, reply::size);
        group.push(super::xadd(&shared.dead_key, &letter::copy(letter, &shared.stream, fields.as_ref())));
        if bytes >= GROUP_BYTES {
            send(guarded, &std::mem::take(&mut group))?;
            bytes = 0;
        }
    }
    send(guarded, &group)
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
    Ok(found)
}
