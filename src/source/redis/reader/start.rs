//! Where reading begins: the journal's position, an existing group, or the stream's first entry; and where it begins again when
//! the stream was replaced.

use redis::{Value, cmd};

use super::{RedisReader, reply};
use crate::{event::StreamId, position::Position, source::SourceError};

/// Ids in one page of XPENDING.
const PENDING_PAGE: usize = 1000;

impl RedisReader {
    /// The position to go on from.
    pub(super) fn start_at(&mut self, durable: Option<&Position>) -> Result<Position, SourceError> {
        let pending = self.pending()?;
        let position = match durable {
            Some(position) => {
                let info = self.shared.stream_info(&mut self.control)?;
                let generated = info.and_then(|info| info.id("last-generated-id")).unwrap_or(StreamId::MIN);
                self.incarnation = position.incarnation;
                match generated < position.high {
                    true => self.restart()?,
                    false => {
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

    /// A new incarnation: from where its group stands, which came with it, or from its first entry.
    pub(super) fn restart(&mut self) -> Result<Position, SourceError> {
        let incarnation = self.incarnation + 1;
        let generated = self.shared.stream_info(&mut self.control)?.and_then(|info| info.id("last-generated-id"));
        let group = self.group_position()?.filter(|group| Some(group.high) <= generated);
        let mut position = match group {
            Some(group) => group,
            None => {
                self.ensure_group(StreamId::MIN)?;
                self.first_position()?
            }
        };
        position.incarnation = incarnation;
        self.go_to(&position);
        Ok(position)
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
