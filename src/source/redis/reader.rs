//! The owner's reading side: holes by XRANGE, then XREAD from the last id, with the next request on its way while the caller
//! works on this reply. Reading has no side effects, so after any error the connection is dropped and nothing is lost.

use std::{
    collections::VecDeque,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use redis::cmd;

use super::{
    Shared,
    connect::Control,
    lock,
    recent::{Recent, Seen, digest},
    reply,
    wire::{DataConnection, Reply},
};
use crate::{
    event::{Entry, StreamId},
    position::Position,
    source::{Batch, Published, Reader, SourceError, Want},
};

mod start;

/// Longest BLOCK: a stop waits no longer than this for a reply.
const BLOCK_MAX: Duration = Duration::from_millis(500);
/// Most entries in one reply under backlog.
const COUNT_MAX: usize = 4000;
/// Aim for a reply's size under backlog, in bytes: larger ones only delay the first entry.
const REPLY_BYTES: usize = 4 << 20;
/// How often the stream's counters are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Between tries after an error: the first pause, doubled up to the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Reads a stream from a position.
pub(super) struct RedisReader {
    shared: Arc<Shared>,
    control: Control,
    data: Option<DataConnection>,
    /// The COUNT of the request whose reply has not been received.
    asked: Option<usize>,
    incarnation: u64,
    /// The last id that was received; the next request starts behind it.
    last: StreamId,
    /// Holes that are still to be read again.
    holes: VecDeque<StreamId>,
    /// Entries ever added to the stream up to `last`, where it is known.
    seen: Option<u64>,
    count: usize,
    /// Size of an entry, in bytes: the last reply's mean, or what is left of a larger one before.
    mean: usize,
    next_check: Instant,
    failures: u32,
    retry_at: Instant,
    recent: Recent,
    /// What was read lately of the incarnations before, while it may come again.
    repeats: Vec<Seen>,
    /// Whether it is to be seen that the stream is still the one that was read.
    doubted: bool,
    /// The last id that was read when it last was seen to be. What was read since may be another stream's.
    anchor: StreamId,
}

/// What a look at the stream's counters says.
#[derive(Default)]
struct Checked {
    restarted: Option<Position>,
    lost: u64,
    added: Option<u64>,
}

// === impl RedisReader ===

impl RedisReader {
    pub(super) fn new(shared: Arc<Shared>, recent: Recent) -> Self {
        let now = Instant::now();
        Self {
            control: shared.control(),
            shared,
            data: None,
            asked: None,
            incarnation: 0,
            last: StreamId::MIN,
            holes: VecDeque::new(),
            seen: None,
            count: 1,
            mean: 1024,
            next_check: now,
            failures: 0,
            retry_at: now,
            recent,
            repeats: Vec::new(),
            doubted: true,
            anchor: StreamId::MIN,
        }
    }

    fn go_to(&mut self, position: &Position) {
        self.incarnation = position.incarnation;
        self.recent.set_incarnation(position.incarnation);
        (self.last, self.anchor) = (position.high, position.high);
        self.holes = position.holes.iter().copied().collect();
        self.seen = position.read.map(|read| read + position.above + position.holes.len() as u64);
        self.drop_data();
    }

    fn drop_data(&mut self) {
        (self.data, self.asked) = (None, None);
    }

    fn try_read(&mut self, want: Want, wait: Duration) -> Result<Batch, SourceError> {
        if !self.holes.is_empty() {
            return self.read_holes(want);
        }
        // Only with nothing on its way do the counters and `last` speak of the same moment.
        if self.asked.is_none() && Instant::now() >= self.next_check {
            let checked = self.check()?;
            if checked.restarted.is_some() || checked.lost > 0 {
                return Ok(Batch { restarted: checked.restarted, lost_unseen: checked.lost, ..Batch::default() });
            }
        }
        self.ask(want, wait)?;
        let entries = self.receive(want, wait)?;
        if !entries.is_empty() {
            let repeated = self.note(&entries);
            return Ok(Batch { entries, repeated, ..Batch::default() });
        }
        let checked = if Instant::now() >= self.next_check { self.check()? } else { Checked::default() };
        Ok(Batch { restarted: checked.restarted, lost_unseen: checked.lost, added: checked.added, ..Batch::default() })
    }

    /// Sends the next request, unless one is on its way.
    fn ask(&mut self, want: Want, wait: Duration) -> Result<(), SourceError> {
        if self.asked.is_some() {
            return Ok(());
        }
        let count = self.count.max(want.count).min(want.bytes.min(REPLY_BYTES) / self.mean).clamp(1, COUNT_MAX);
        // BLOCK 0 would be for ever.
        let block = wait.min(BLOCK_MAX).max(Duration::from_millis(1)).as_millis() as u64;
        let mut command = cmd("XREAD");
        command.arg("COUNT").arg(count).arg("BLOCK").arg(block);
        command.arg("STREAMS").arg(&self.shared.stream).arg(self.last.to_string());
        let data = match &mut self.data {
            Some(data) => data,
            // Well above BLOCK, which may be overrun.
            None => self.data.insert(DataConnection::open(&self.shared.server, BLOCK_MAX + super::CONTROL_TIMEOUT)?),
        };
        data.send(&command.get_packed_command())?;
        self.asked = Some(count);
        Ok(())
    }

    /// Takes the reply, and under backlog sends the next request before it unpacks this one.
    fn receive(&mut self, want: Want, wait: Duration) -> Result<Vec<Entry>, SourceError> {
        let (Some(data), Some(asked)) = (&mut self.data, self.asked.take()) else { return Ok(Vec::new()) };
        let reply = data.receive()?;
        let Some(last) = reply.last else {
            self.count = want.count;
            return Ok(Vec::new());
        };
        // The server counts up from what was asked for; anything else is a reply to something else.
        if last <= self.last {
            return Err(SourceError::Reply { command: "XREAD" });
        }
        let before = (self.last, self.seen);
        self.last = last;
        let (received, bytes) = (reply.count, reply.bytes);
        self.seen = self.seen.map(|seen| seen + received as u64);
        self.mean = (bytes / received.max(1)).max(self.mean / 10 * 9).max(64);
        let full = received >= asked;
        self.count = if full { asked.max(want.count).saturating_mul(2).min(COUNT_MAX) } else { want.count };
        let left = Want { bytes: want.bytes.saturating_sub(bytes), ..want };
        if full && left.bytes >= self.mean && Instant::now() < self.next_check {
            // A request that cannot be sent must not take this reply with it.
            if let Err(error) = self.ask(left, wait) {
                self.failed(&error);
            }
        }
        let entries = Reply::into_entries(reply);
        if entries.is_err() {
            (self.last, self.seen) = before;
        }
        entries
    }

    /// Remembers entries, and returns the ids of those that were read, and committed, in an earlier incarnation.
    fn note(&mut self, entries: &[Entry]) -> Vec<StreamId> {
        let seen: Vec<Seen> = entries.iter().map(|entry| (entry.id, digest(&entry.fields))).collect();
        let Some(&(until, _)) = self.repeats.last() else {
            self.recent.note(&seen);
            return Vec::new();
        };
        let (repeated, new): (Vec<Seen>, Vec<Seen>) =
            seen.into_iter().partition(|seen| self.repeats.binary_search(seen).is_ok());
        self.recent.note(&new);
        if self.last > until {
            self.repeats = Vec::new();
        }
        repeated.into_iter().map(|(id, _)| id).collect()
    }

    /// Entries of holes, those that are gone as lost.
    fn read_holes(&mut self, want: Want) -> Result<Batch, SourceError> {
        let count = (want.bytes.min(REPLY_BYTES) / self.mean).clamp(1, 256).min(self.holes.len());
        let ids: Vec<_> = self.holes.range(..count).copied().collect();
        let ranges = ids.iter().map(|id| {
            let mut range = cmd("XRANGE");
            range.arg(&self.shared.stream).arg(id.to_string()).arg(id.to_string());
            range
        });
        let mut batch = Batch::default();
        let replies = self.control.all(&ranges.collect::<Vec<_>>())?;
        for (id, reply) in ids.into_iter().zip(replies) {
            match reply::entries("XRANGE", reply)?.pop() {
                Some(entry) => batch.entries.push(entry),
                None => batch.lost.push(id),
            }
        }
        self.holes.drain(..count);
        let bytes: usize = batch.entries.iter().map(|entry| reply::size(&entry.fields)).sum();
        self.mean = (bytes / batch.entries.len().max(1)).max(self.mean / 10 * 9).max(64);
        self.recent.note(&batch.entries.iter().map(|entry| (entry.id, digest(&entry.fields))).collect::<Vec<_>>());
        Ok(batch)
    }

    /// Looks whether the stream is still the one that was read, and whether anything was trimmed before it was read.
    fn check(&mut self) -> Result<Checked, SourceError> {
        let info = self.shared.stream_info(&mut self.control)?;
        self.next_check = Instant::now() + CHECK_EVERY;
        if !self.is_same(info.as_ref())? {
            let position = self.restart(&[])?;
            return Ok(Checked { restarted: Some(position), ..Checked::default() });
        }
        let generated = info.as_ref().and_then(|info| info.id("last-generated-id"));
        let (Some(info), Some(generated)) = (info, generated) else { return Ok(Checked::default()) };
        let mut checked = Checked::default();
        let Some(added) = info.count("entries-added") else { return Ok(checked) };
        let caught_up = generated == self.last;
        let length = info.count("length").unwrap_or(0);
        let first = start::first_entry(&info);
        // All that stands in the stream is unread: what was added since and does not stand there is lost.
        let unread = match first {
            _ if caught_up => Some(0),
            None => Some(0),
            Some(first) if first > self.last => Some(length),
            Some(_) => None,
        };
        if let (Some(seen), Some(unread)) = (self.seen, unread) {
            checked.lost = added.saturating_sub(seen).saturating_sub(unread);
            self.seen = Some(seen + checked.lost);
        }
        if caught_up {
            checked.added = Some(added);
            // Also when it is lower: a stream that was deleted and made anew counts from 0, with higher ids.
            self.seen = Some(added);
        }
        Ok(checked)
    }

    fn failed(&mut self, error: &SourceError) {
        self.drop_data();
        self.control.disconnect();
        // What the server lost, it lost while we were away.
        self.doubted = true;
        self.next_check = Instant::now();
        let pause = PAUSE.0.saturating_mul(1 << self.failures.min(10)).min(PAUSE.1);
        self.retry_at = Instant::now() + pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.failures += 1;
        tracing::debug!(%error, failures = self.failures, "reading failed");
    }
}

impl Reader for RedisReader {
    fn published(&mut self) -> Result<Option<Published>, SourceError> {
        let info = self.shared.stream_info(&mut self.control)?;
        let generated = info.and_then(|info| info.id("last-generated-id")).unwrap_or(StreamId::MIN);
        let group = self.shared.group_info(&mut self.control)?;
        let low = group.and_then(|group| group.id("last-delivered-id")).filter(|low| *low <= generated);
        Ok(low.map(|low| Published { low, is_ours: false }))
    }

    fn start(&mut self, durable: Option<&Position>) -> Result<Position, SourceError> {
        let position = self.start_at(durable)?;
        self.go_to(&position);
        Ok(position)
    }

    fn read(&mut self, want: Want, wait: Duration) -> Result<Batch, SourceError> {
        let pause = self.retry_at.saturating_duration_since(Instant::now());
        if !pause.is_zero() {
            let until = Instant::now() + pause.min(wait);
            while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                thread::park_timeout(left);
            }
            if pause > wait {
                return Ok(Batch::default());
            }
        }
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.try_read(want, left) {
                // One request blocks no longer than `BLOCK_MAX`.
                Ok(batch) if is_nothing(&batch) && Instant::now() < deadline => {}
                Ok(batch) => {
                    self.failures = 0;
                    return Ok(batch);
                }
                Err(error) => {
                    self.failed(&error);
                    return Err(error);
                }
            }
        }
    }
}

fn is_nothing(batch: &Batch) -> bool {
    batch.entries.is_empty()
        && batch.lost.is_empty()
        && batch.lost_unseen == 0
        && batch.restarted.is_none()
        && batch.added.is_none()
}

// === adopted entries ===

impl RedisReader {
    /// Hands the group's pending entries to the publisher, which acknowledges them.
    fn adopt(&self, pending: Vec<StreamId>) {
        *lock(&self.shared.adopted) = pending;
    }
}
