//! Trimming: takes entries away that nobody needs any more. Needs of other groups are looked up in the same script that trims,
//! so that none can appear in between; it runs under the epoch's guard.

use redis::{Value, cmd};

use super::{Shared, publish::Guarded, reply};
use crate::{event::StreamId, source::SourceError};

/// Most entries of one call; about a millisecond of the server's time.
const ENTRIES_MAX: u32 = 10_000;

/// `KEYS`: the stream. `ARGV`: up to where, our group, the lowest first entry that the stream can have, entries that were read
/// of it (empty: not known), most entries of one call. Returns the number of entries that went away and the first one's id, or
/// -1 when the stream is another one than was read. Ids are compared as text: their numbers need more bits than Lua's have.
const SCRIPT: &str = r"
local function parts(id) return string.match(id, '^(%d+)-(%d+)$') end
local function less(a, b) return #a < #b or (#a == #b and a < b) end
local function below(a, b)
    local ams, aseq = parts(a)
    local bms, bseq = parts(b)
    return less(ams, bms) or (ams == bms and less(aseq, bseq))
end
local function info(flat)
    local named = {}
    for at = 1, #flat, 2 do named[flat[at]] = flat[at + 1] end
    return named
end
if redis.call('EXISTS', KEYS[1]) == 0 then return {0, ''} end
local stream = info(redis.call('XINFO', 'STREAM', KEYS[1]))
local first = stream['first-entry'] and stream['first-entry'][1]
if not first then return {0, ''} end
local to = ARGV[1]
if below(first, ARGV[3]) or below(stream['last-generated-id'], to) then return {-1, first} end
if stream['entries-added'] and ARGV[4] ~= '' and stream['entries-added'] < tonumber(ARGV[4]) then return {-1, first} end
local ours = false
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local group = info(flat)
    ours = ours or group['name'] == ARGV[2]
    if below(group['last-delivered-id'], to) then to = group['last-delivered-id'] end
    if group['pending'] > 0 then
        local oldest = redis.call('XPENDING', KEYS[1], group['name'])[2]
        if oldest and below(oldest, to) then to = oldest end
    end
end
if not ours or not below(first, to) then return {0, first} end
return {redis.call('XTRIM', KEYS[1], 'MINID', '~', to, 'LIMIT', ARGV[5]), first}
";

/// What is known of the stream from one trimming to the next.
#[derive(Debug, Default)]
pub(super) struct Trimmed {
    /// Up to where the last call was to trim.
    until: StreamId,
    /// The first entry at that time: none can come before it.
    first: StreamId,
    told: bool,
}

// === impl Trimmed ===

impl Trimmed {
    /// Trims below `until`, in whole nodes, and returns how many entries that were. The entry `until` itself stays. `read` is the
    /// number of entries that were read up to there, as far as known.
    pub(super) fn trim(
        &mut self,
        shared: &Shared,
        guarded: &mut Guarded,
        until: StreamId,
        read: Option<u64>,
    ) -> Result<u64, SourceError> {
        if until < self.until {
            // A new incarnation, which the reader has begun to read.
            *self = Self::default();
        }
        self.until = until;
        let mut eval = cmd("EVAL");
        eval.arg(SCRIPT).arg(1).arg(&shared.stream).arg(until.to_string()).arg(&shared.group);
        eval.arg(self.first.to_string()).arg(read.map(|read| read.to_string()).unwrap_or_default()).arg(ENTRIES_MAX);
        let reply = reply::accepted(guarded.run(&[eval])?.pop().unwrap_or(Value::Nil))?;
        let wrong = || SourceError::Reply { command: "EVAL" };
        let Value::Array(pair) = reply else { return Err(wrong()) };
        let removed = pair.first().and_then(reply::integer).ok_or_else(wrong)?;
        let Ok(removed) = u64::try_from(removed) else {
            if !std::mem::replace(&mut self.told, true) {
                tracing::warn!("the stream is not the one that was read: it is not trimmed until it is read again");
            }
            return Ok(0);
        };
        self.told = false;
        self.first = pair.get(1).and_then(reply::id).map_or(self.first, |first| first.max(self.first));
        Ok(removed)
    }
}
