//! A key's entries that are not decided yet, in stream order: runs of events, and between them entries that could not be
//! decoded, whose gap records must keep their place.

use std::{collections::VecDeque, time::Instant};

use crate::{
    condemned::Sentence,
    decode::{Decoded, Refused},
    event::{Event, Id, Key, StreamId, charge},
    json::Members,
    plugin::States,
};

/// Most events of one call, and most that may be held for one key.
const EVENTS_MAX: usize = 64;
/// Most bytes of one call (a single larger event goes alone), and most that may be held for one key.
const BYTES_MAX: usize = 1 << 20;

/// A key in a lane's memory.
#[derive(Debug)]
pub(crate) struct KeyQueue {
    /// The key.
    pub(crate) key: Key,
    /// The plugins' states, ahead of what is journaled by what is on its way there.
    pub(crate) states: States,
    /// The task that a flow joined.
    pub(crate) joined: Option<Id>,
    /// Whether it is in the list of keys to process.
    pub(crate) touched: bool,
    /// The lane's last batch that decided something of it.
    pub(crate) batch: u64,
    runs: VecDeque<Run>,
}

#[derive(Debug)]
enum Run {
    Events { events: Vec<Event>, members: Vec<Members>, arrived: Vec<Instant> },
    Refused(Box<(Refused, usize)>),
    Condemned(Box<(Event, Sentence)>),
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// The queue is empty.
    Nothing,
    /// An entry that could not be decoded.
    Refused,
    /// An event that no plugin may see.
    Condemned,
    /// Events for one call.
    Events {
        /// How many.
        count: usize,
        /// Whether no more would fit: if all are held, they must be flushed.
        full: bool,
        /// Whether no later event can ever come in the same call, so that holding is pointless.
        last: bool,
    },
}

impl KeyQueue {
    pub(crate) fn new(key: Key, states: States, joined: Option<Id>) -> Self {
        Self { key, states, joined, touched: false, batch: 0, runs: VecDeque::new() }
    }

    /// How many events wait, and what they cost of the window.
    pub(crate) fn waiting(&self) -> (u32, usize) {
        let events =
            self.runs.iter().flat_map(|run| if let Run::Events { events, .. } = run { &events[..] } else { &[] });
        events.fold((0, 0), |(count, bytes), event| (count + 1, bytes + charge(event.size)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(crate) fn push_event(&mut self, Decoded { event, members }: Decoded, now: Instant) {
        if let Some(Run::Events { events, members: all, arrived }) = self.runs.back_mut() {
            events.push(event);
            all.push(members);
            arrived.push(now);
            return;
        }
        self.runs.push_back(Run::Events { events: vec![event], members: vec![members], arrived: vec![now] });
    }

    pub(crate) fn push_refused(&mut self, refused: Refused, size: usize) {
        self.runs.push_back(Run::Refused(Box::new((refused, size))));
    }

    pub(crate) fn push_condemned(&mut self, event: Event, sentence: Sentence) {
        self.runs.push_back(Run::Condemned(Box::new((event, sentence))));
    }

    /// Takes events that are condemned out of those that wait; whether there are any.
    pub(crate) fn condemn(&mut self, sentence: impl Fn(StreamId) -> Option<Sentence>) -> bool {
        let is_condemned = |run: &Run| match run {
            Run::Events { events, .. } => events.iter().any(|event| sentence(event.id).is_some()),
            _ => false,
        };
        if !self.runs.iter().any(is_condemned) {
            return false;
        }
        for run in std::mem::take(&mut self.runs) {
            let Run::Events { events, members, arrived } = run else {
                self.runs.push_back(run);
                continue;
            };
            // What follows a condemned one begins a run of its own.
            for ((event, members), arrived) in events.into_iter().zip(members).zip(arrived) {
                match sentence(event.id) {
                    Some(sentence) => self.push_condemned(event, sentence),
                    None => self.push_event(Decoded { event, members }, arrived),
                }
            }
        }
        true
    }

    pub(crate) fn ahead(&self) -> Ahead {
        let events = match self.runs.front() {
            None => return Ahead::Nothing,
            Some(Run::Refused(_)) => return Ahead::Refused,
            Some(Run::Condemned(_)) => return Ahead::Condemned,
            Some(Run::Events { events, .. }) => events,
        };
        let (mut count, mut bytes) = (0, 0);
        let mut joins = false;
        for event in events {
            bytes += event.data.len();
            if count == EVENTS_MAX || (count > 0 && bytes > BYTES_MAX) {
                break;
            }
            count += 1;
            // Calls up to and including the joining event know no task, later ones do: never both in one call.
            joins = matches!(self.key, Key::Flow(_)) && self.joined.is_none() && event.task.is_some();
            if joins {
                break;
            }
        }
        let full = count == EVENTS_MAX || bytes >= BYTES_MAX;
        let last = joins || (count == events.len() && self.runs.len() > 1);
        Ahead::Events { count, full, last }
    }

    /// The first `count` events of the queue's head.
    pub(crate) fn events(&self, count: usize) -> &[Event] {
        match self.runs.front() {
            Some(Run::Events { events, .. }) => events.get(..count).unwrap_or_default(),
            _ => &[],
        }
    }

    /// The task that calls for this key are told.
    pub(crate) fn task(&self) -> Option<&str> {
        match &self.key {
            Key::Task(id) => Some(id.as_str()),
            Key::Flow(_) => self.joined.as_ref().map(Id::as_str),
        }
    }

    /// Takes the first `count` events, with their members.
    pub(crate) fn pop_events(&mut self, count: usize) -> Vec<(Event, Members)> {
        let Some(Run::Events { events, members, arrived }) = self.runs.front_mut() else { return Vec::new() };
        let count = count.min(events.len());
        let popped = events.drain(..count).zip(members.drain(..count)).collect();
        arrived.drain(..count);
        if events.is_empty() {
            self.runs.pop_front();
        }
        popped
    }

    pub(crate) fn pop_refused(&mut self) -> Option<(Refused, usize)> {
        match self.runs.pop_front()? {
            Run::Refused(refused) => Some(*refused),
            other => {
                self.runs.push_front(other);
                None
            }
        }
    }

    pub(crate) fn pop_condemned(&mut self) -> Option<(Event, Sentence)> {
        match self.runs.pop_front()? {
            Run::Condemned(condemned) => Some(*condemned),
            other => {
                self.runs.push_front(other);
                None
            }
        }
    }

    /// When the first event that waits was read.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        match self.runs.front()? {
            Run::Events { arrived, .. } => arrived.first().copied(),
            Run::Refused(_) | Run::Condemned(_) => None,
        }
    }
}
