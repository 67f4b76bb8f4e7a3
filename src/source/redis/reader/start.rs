//! Where reading begins: the journal's position, an existing group, or the stream's first entry; and where it begins again when
//! the stream was replaced: flushed, deleted and filled anew, restored, or failed over to a replica that is behind.

use redis::{Value, cmd};

use super::{
    RedisReader,
    reply::{self, Info},
};
use crate::{
    event::StreamId,
    position::Position,
    source::{
        SourceError,
        redis::recent::{Seen, digest},
    },
};

/// Ids in one page of XPENDING.
const PENDING_PAGE: usize = 1000;
/// Neighbours that are asked for at each step of the search for the newest entry that is still there: some may be deleted.
const NEIGHBOURS: usize = 4;

impl RedisReader {
    /// The position to go on from.
    pub(super) fn start_at(&mut self, durable: Option<&Position>) -> Result<Position, SourceError> {
        self.recent.load(durable);
        let pending = self.pending()?;
        let position = match durable {
            Some(position) => {
                self.go_to(position);
                let info = self.shared.stream_info(&mut self.control)?;
                match self.is_same(info.as_ref())? {
                    false => self.restart(&position.holes)?,
                    true => {
                        self.ensure_group(position.low)?;
                        position.clone()
                    }
                }
            }
            None => match self.group_position()? {
                Some(group) => with_holes(group, &pending),
                None => {
                    self.ensure_group(StreamId::MIN)?;
                    self.first_position()?
                }
            },
        };
        self.adopt(pending);
        Ok(position)
    }

    /// Whether the stream is the one that was read up to `last`. Asked with every new connection, and when the counters fell.
    pub(super) fn is_same(&mut self, info: Option<&Info>) -> Result<bool, SourceError> {
        let generated = info.and_then(|info| info.id("last-generated-id")).unwrap_or(StreamId::MIN);
        if generated < self.last {
            return Ok(false);
        }
        let added = info.and_then(|info| info.count("entries-added"));
        // Fewer than we counted: it was made anew, whatever its ids are now. What we read last may be of the new one.
        if !self.recent.is_empty() && self.seen.zip(added).is_some_and(|(seen, added)| added < seen) {
            return Ok(false);
        }
        if !self.doubted {
            self.anchor = self.last;
            return Ok(true);
        }
        // A replica that was behind and got new entries since may have ids above ours, and below, too. The last entry that we read
        // tells: a history that has it has all before it.
        let is_same = match info.and_then(first_entry) {
            Some(first) if first <= self.last => match self.look_up(&[self.last])?.pop() {
                Some((_, found)) => self.recent.find(self.last).is_none_or(|noted| noted == found),
                // Deleted, or never there.
                None => self.recent.is_empty(),
            },
            // What stands there comes behind it.
            _ => true,
        };
        if is_same {
            (self.doubted, self.anchor) = (false, self.last);
        }
        Ok(is_same)
    }

    /// A new incarnation. It begins where the two streams part: behind the newest entry that was read and still stands there, of
    /// which `open` were not committed. If none does, from where its group stands, if that came with it, or from its first entry.
    pub(super) fn restart(&mut self, open: &[StreamId]) -> Result<Position, SourceError> {
        let incarnation = self.incarnation + 1;
        let mut position = match self.parting()? {
            Some(at) => {
                self.ensure_group(at)?;
                let holes: Vec<_> = open.iter().copied().filter(|&id| id < at).collect();
                let low = holes.first().map_or(at, |first| first.previous());
                Position { low, high: at, holes, ..Position::default() }
            }
            None => self.unknown_stream()?,
        };
        position.incarnation = incarnation;
        self.repeats = self.recent.sorted();
        self.doubted = false;
        self.go_to(&position);
        Ok(position)
    }

    /// Where to begin in a stream that has nothing of what was read lately.
    fn unknown_stream(&mut self) -> Result<Position, SourceError> {
        let info = self.shared.stream_info(&mut self.control)?;
        let generated = info.and_then(|info| info.id("last-generated-id")).unwrap_or(StreamId::MIN);
        let oldest = self.recent.sorted().first().map(|(id, _)| *id);
        // A group that stands within what was read lately stands there because we published that, to this stream or its
        // predecessor: it says nothing. One that is older came with a backup.
        let came_with_it =
            |group: &Position| group.high <= generated && oldest.is_none_or(|oldest| group.high < oldest);
        match self.group_position()?.filter(came_with_it) {
            Some(group) => Ok(group),
            None => {
                self.ensure_group(StreamId::MIN)?;
                self.first_position()
            }
        }
    }

    /// The newest entry that was read while the stream was known to be the same, and that stands in it as it did.
    fn parting(&mut self) -> Result<Option<StreamId>, SourceError> {
        let Some(info) = self.shared.stream_info(&mut self.control)? else { return Ok(None) };
        let Some(first) = first_entry(&info) else { return Ok(None) };
        let mut known = self.recent.sorted();
        known.retain(|(id, _)| (first..=self.anchor).contains(id));
        let (mut low, mut high, mut found) = (0, known.len(), None);
        while low < high {
            let middle = low + (high - low) / 2;
            let asked = known.get(middle..high.min(middle + NEIGHBOURS)).unwrap_or_default();
            let standing = self.look_up(&asked.iter().map(|(id, _)| *id).collect::<Vec<_>>())?;
            match asked.iter().rposition(|seen| standing.contains(seen)) {
                Some(at) => {
                    found = asked.get(at).map(|(id, _)| *id);
                    low = middle + at + 1;
                }
                None => high = middle,
            }
        }
        Ok(found)
    }

    /// Which of these entries stand in the stream, with their digests.
    fn look_up(&mut self, ids: &[StreamId]) -> Result<Vec<Seen>, SourceError> {
        let ranges = ids.iter().map(|id| {
            let mut range = cmd("XRANGE");
            range.arg(&self.shared.stream).arg(id.to_string()).arg(id.to_string());
            range
        });
        let mut found = Vec::new();
        for reply in self.control.all(&ranges.collect::<Vec<_>>())? {
            found.extend(reply::entries("XRANGE", reply)?.iter().map(|entry| (entry.id, digest(&entry.fields))));
        }
        Ok(found)
    }

    /// Where the group stands; `None`: there is no group.
    fn group_position(&mut self) -> Result<Option<Position>, SourceError> {
        let Some(group) = self.shared.group_info(&mut self.control)? else { return Ok(None) };
        let at = group.id("last-delivered-id").ok_or(SourceError::Reply { command: "XINFO GROUPS" })?;
        let read = group.count("entries-read");
        // At 0 the server says nil, and what was removed before is what was counted.
        if at == StreamId::MIN && read.is_none() {
            return self.first_position().map(Some);
        }
        Ok(Some(Position { low: at, high: at, read, ..Position::default() }))
    }

    /// Below the first entry. What was trimmed before our time counts as read, so that lag is the stream's length.
    fn first_position(&mut self) -> Result<Position, SourceError> {
        let info = self.shared.stream_info(&mut self.control)?;
        let read = info.and_then(|info| info.count("entries-added")?.checked_sub(info.count("length")?));
        Ok(Position { read, ..Position::default() })
    }

    fn ensure_group(&mut self, at: StreamId) -> Result<(), SourceError> {
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(&self.shared.stream).arg(&self.shared.group).arg(at.to_string()).arg("MKSTREAM");
        let reply = self.control.all(&[create])?.pop().unwrap_or(Value::Nil);
        match reply::refusal(&reply) {
            Some(("BUSYGROUP", _)) => Ok(()),
            _ => reply::accepted(reply).map(drop),
        }
    }

    /// Ids that consumers of the group had read and not acknowledged, ascending.
    fn pending(&mut self) -> Result<Vec<StreamId>, SourceError> {
        let mut ids: Vec<StreamId> = Vec::new();
        loop {
            let from = ids.last().map_or(StreamId::MIN, |last| last.next());
            let mut page = cmd("XPENDING");
            page.arg(&self.shared.stream).arg(&self.shared.group).arg(from.to_string()).arg("+").arg(PENDING_PAGE);
            let reply = self.control.all(&[page])?.pop().unwrap_or(Value::Nil);
            if reply::refusal(&reply).is_some_and(|(code, _)| code == "NOGROUP") {
                return Ok(ids);
            }
            let wrong = SourceError::Reply { command: "XPENDING" };
            let Value::Array(rows) = reply::accepted(reply)? else { return Err(wrong) };
            let count = rows.len();
            let id = |row: &Value| match row {
                Value::Array(row) => row.first().and_then(reply::id),
                _ => None,
            };
            match rows.iter().map(id).collect::<Option<Vec<_>>>() {
                Some(page) => ids.extend(page),
                None => return Err(wrong),
            }
            if count < PENDING_PAGE {
                return Ok(ids);
            }
        }
    }
}

/// The id of the stream's first entry.
pub(super) fn first_entry(info: &Info) -> Option<StreamId> {
    match info.get("first-entry") {
        Some(Value::Array(first)) => first.first().and_then(reply::id),
        _ => None,
    }
}

/// What was delivered and not acknowledged is read again: the position's holes.
fn with_holes(group: Position, pending: &[StreamId]) -> Position {
    let holes: Vec<_> = pending.iter().copied().filter(|&id| id <= group.high).collect();
    let Some(first) = holes.first() else { return group };
    Position {
        low: first.previous(),
        // Right once all of them are committed; until then it counts acknowledged entries between them as read.
        read: group.read.and_then(|read| read.checked_sub(holes.len() as u64)),
        holes,
        ..group
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_entries_become_holes_below_the_groups_position() {
        let id = |ms| StreamId { ms, seq: 0 };
        let group = Position { low: id(9), high: id(9), read: Some(9), ..Position::default() };
        assert_eq!(with_holes(group.clone(), &[]), group);
        let holed = with_holes(group, &[id(3), id(7), id(12)]);
        assert_eq!((holed.low, holed.high, holed.read), (id(3).previous(), id(9), Some(7)));
        assert_eq!(holed.holes, [id(3), id(7)]);
    }
}
