//! What stands behind the published position, as the server counts it, or counted by us where the server does not know.

use redis::{Value, cmd};

use super::{Shared, connect::Control, reply};
use crate::{
    event::StreamId,
    source::{Backlog, SourceError},
};

/// Entries that we count ourselves at most.
const COUNT_MAX: usize = 1000;
/// Entries in one page while counting, and bytes after which counting ends.
const PAGE: (usize, usize) = (100, 4 << 20);

pub(super) fn count(control: &mut Control, shared: &Shared) -> Result<Backlog, SourceError> {
    let Some(stream) = shared.stream_info(control)? else { return Ok(Backlog::default()) };
    let group = shared.group_info(control)?;
    let low = group.as_ref().and_then(|group| group.id("last-delivered-id")).unwrap_or(StreamId::MIN);
    let generated = stream.id("last-generated-id").unwrap_or(StreamId::MIN);
    let last = match stream.get("last-entry") {
        Some(Value::Array(last)) => last.first().and_then(reply::id),
        _ => None,
    };
    if last.is_none_or(|last| last <= low) {
        let entries = pending(control, shared, group.as_ref(), low)?;
        return Ok(Backlog { entries, last, first_unread: None });
    }
    let (counted, first_unread, complete) = count_from(control, shared, low, 1)?;
    let lag = group.as_ref().and_then(|group| group.count("lag"));
    let unread = match lag {
        // Entries trimmed unread stay in the server's lag until the position has passed them.
        Some(lag) => lag.min(stream.count("length").unwrap_or(u64::MAX)),
        None if complete || generated <= low => counted,
        None => {
            let (counted, _, complete) = count_from(control, shared, low, COUNT_MAX)?;
            let bound = stream.count("length").unwrap_or(counted);
            if complete { counted } else { counted.max(bound) }
        }
    };
    let entries = unread.max(counted) + pending(control, shared, group.as_ref(), low)?;
    Ok(Backlog { entries, last, first_unread })
}

/// Entries that an adopted group's consumers left pending at or below its position: they are read again.
fn pending(
    control: &mut Control,
    shared: &Shared,
    group: Option<&reply::Info>,
    low: StreamId,
) -> Result<u64, SourceError> {
    let Some(pending) = group.and_then(|group| group.count("pending")).filter(|&pending| pending > 0) else {
        return Ok(0);
    };
    let mut summary = cmd("XPENDING");
    summary.arg(&shared.stream).arg(&shared.group);
    match control.one(&summary)? {
        // Behind the position they are in the lag already.
        Value::Array(row) if row.get(1).and_then(reply::id).is_some_and(|first| first <= low) => Ok(pending),
        _ => Ok(0),
    }
}

/// Counts entries above `low`: how many, the first, and whether these were all.
fn count_from(
    control: &mut Control,
    shared: &Shared,
    low: StreamId,
    max: usize,
) -> Result<(u64, Option<StreamId>, bool), SourceError> {
    let (mut counted, mut first, mut from, mut bytes) = (0_usize, None, low.next(), 0);
    loop {
        let page = PAGE.0.min(max - counted);
        let mut range = cmd("XRANGE");
        range.arg(&shared.stream).arg(from.to_string()).arg("+").arg("COUNT").arg(page);
        let entries = reply::entries("XRANGE", control.one(&range)?)?;
        counted += entries.len();
        bytes += entries.iter().map(|entry| reply::size(&entry.fields)).sum::<usize>();
        first = first.or(entries.first().map(|entry| entry.id));
        match entries.last() {
            Some(last) if entries.len() == page => from = last.id.next(),
            _ => return Ok((counted as u64, first, true)),
        }
        if counted >= max || bytes >= PAGE.1 {
            return Ok((counted as u64, first, false));
        }
    }
}
