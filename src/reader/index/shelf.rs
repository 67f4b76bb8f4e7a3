//! What the index knows of the folders below one parent: how each stood when it was read, and which are to be looked at now.

use std::{
    collections::HashMap,
    io,
    time::{Duration, SystemTime},
};

use super::look::{Listed, Parent, Stamp};
use crate::event::Id;

/// Of the folders that nothing is expected of so many are looked at each time.
const SLICE: usize = 2048;
/// What changed less than this ago may change again without showing it: file times are coarse.
const SETTLED: Duration = Duration::from_secs(2);
/// What goes on and has changed within this time is looked at each time.
const LIVELY: Duration = Duration::from_secs(15 * 60);

/// The folders of a parent.
#[derive(Default)]
pub(super) struct Shelf {
    places: HashMap<Id, usize>,
    seen: Vec<Option<Seen>>,
    free: Vec<usize>,
    /// The parent as it was listed, if nothing can have been missed.
    listed: Option<Listed>,
    pass: u32,
    next: usize,
}

struct Seen {
    id: Id,
    stamp: Stamp,
    /// It changed so lately when it was read that it is to be read again.
    unsettled: bool,
    goes_on: bool,
    pass: u32,
}

/// What a listing told.
#[derive(Default)]
pub(super) struct News {
    pub(super) appeared: Vec<Id>,
    pub(super) gone: Vec<Id>,
}

// === impl Shelf ===

impl Shelf {
    /// Lists the parent if that has changed.
    pub(super) fn list(&mut self, parent: &Parent) -> io::Result<News> {
        let (listed, now) = (parent.listed()?, now());
        let mut news = News::default();
        if self.listed == Some(listed) {
            return Ok(news);
        }
        self.listed = None;
        self.pass = self.pass.wrapping_add(1);
        parent.list(|id| match self.places.get(&id).and_then(|place| self.seen.get_mut(*place)?.as_mut()) {
            Some(seen) => seen.pass = self.pass,
            None => news.appeared.push(id),
        })?;
        self.listed = is_settled(listed.changed, now).then_some(listed);
        let gone = self.seen.iter().flatten().filter(|seen| seen.pass != self.pass);
        news.gone = gone.map(|seen| seen.id.clone()).collect();
        Ok(news)
    }

    /// All that it knows: the parent is gone.
    pub(super) fn all(&mut self) -> Vec<Id> {
        self.listed = None;
        self.places.keys().cloned().collect()
    }

    /// Forgets how everything stood, so that it is looked at again.
    pub(super) fn doubt(&mut self) {
        self.listed = None;
        self.seen.iter_mut().flatten().for_each(|seen| seen.stamp = Stamp::default());
    }

    /// Folders that are to be looked at now.
    pub(super) fn due(&mut self) -> Vec<Id> {
        let now = now();
        let all = self.seen.len();
        let end = self.next.saturating_add(SLICE);
        // The slice may reach around the end.
        let in_slice = |at: usize| (self.next..end).contains(&at) || (self.next..end).contains(&(at + all));
        let lively = |seen: &Seen| seen.goes_on && age(seen.stamp.newest(), now) < LIVELY;
        let due = self.seen.iter().enumerate().filter_map(|(at, seen)| Some((at, seen.as_ref()?)));
        let due = due.filter(|(at, seen)| seen.unsettled || lively(seen) || in_slice(*at));
        let due = due.map(|(_, seen)| seen.id.clone()).collect();
        self.next = if all == 0 { 0 } else { end % all };
        due
    }

    /// Whether a folder that stands like this is to be read.
    pub(super) fn is_news(&self, id: &Id, stamp: &Stamp) -> bool {
        let Some(seen) = self.seen(id) else { return true };
        seen.stamp != *stamp || seen.unsettled && is_settled(stamp.newest(), now())
    }

    /// Whether a folder has been read.
    pub(super) fn knows(&self, id: &Id) -> bool {
        self.places.contains_key(id)
    }

    fn seen(&self, id: &Id) -> Option<&Seen> {
        self.seen.get(*self.places.get(id)?)?.as_ref()
    }

    /// Notes how a folder stood when it was read.
    pub(super) fn put(&mut self, id: Id, stamp: Stamp, goes_on: bool) {
        let place = match self.places.get(&id) {
            Some(place) => *place,
            None => {
                let place = self.free.pop().unwrap_or_else(|| {
                    self.seen.push(None);
                    self.seen.len() - 1
                });
                self.places.insert(id.clone(), place);
                place
            }
        };
        let unsettled = !is_settled(stamp.newest(), now());
        if let Some(seen) = self.seen.get_mut(place) {
            *seen = Some(Seen { id, stamp, unsettled, goes_on, pass: self.pass });
        }
    }

    /// Forgets a folder.
    pub(super) fn remove(&mut self, id: &Id) {
        if let Some(place) = self.places.remove(id) {
            if let Some(seen) = self.seen.get_mut(place) {
                *seen = None;
            }
            self.free.push(place);
        }
    }
}

/// Nanoseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// How long ago something was, or how long until it will be by a clock that is ahead.
fn age(time: i64, now: i64) -> Duration {
    Duration::from_nanos(now.abs_diff(time))
}

fn is_settled(time: i64, now: i64) -> bool {
    age(time, now) > SETTLED
}
