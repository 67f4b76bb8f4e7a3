//! The lane's part in retention: keys whose time is over leave its memory, in order with their events.

use std::{
    ops::ControlFlow,
    sync::{
        atomic::Ordering,
        mpsc::{SyncSender, sync_channel},
    },
    time::SystemTime,
};

use super::{Running, queue::KeyQueue};
use crate::{
    event::Key,
    plugin::States,
    slice::{Retire, Slice},
};

/// A key whose time is over, as far as its files tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The key.
    pub key: Key,
    /// When it was written last.
    pub written: SystemTime,
    /// Of a flow: the task that it joined, after which it goes.
    pub after: Option<Key>,
}

impl Running {
    /// Hands keys that are at rest to the committer, and waits for what it says: what the lane knows of a key goes if and only
    /// if its directory does.
    pub(super) fn retire(&mut self, due: &[Due], slices: &SyncSender<Vec<Slice>>) -> ControlFlow<()> {
        let checkpointed = self.lane.checkpointed.load(Ordering::Acquire);
        let (accepted_in, accepted) = sync_channel(due.len());
        // A checkpoint covers a batch as a whole.
        self.batch += 1;
        let mut asked = Vec::new();
        for Due { key, written, after } in due {
            let at_rest = |queue: &KeyQueue| queue.is_empty() && queue.batch <= checkpointed;
            if self.keys.get(key).is_none_or(at_rest) {
                let (until, written, after) = (self.lane.taken, *written, after.clone());
                let retire = Retire { until, written, after, accepted: accepted_in.clone() };
                let slice = Slice::empty(self.lane.number, self.batch, Some(key.clone()));
                asked.push(Slice { retire: Some(retire), ..slice });
            }
        }
        drop(accepted_in);
        if asked.is_empty() {
            return ControlFlow::Continue(());
        }
        self.heartbeat.idle();
        if slices.send(asked).is_err() {
            return ControlFlow::Break(());
        }
        // Ends with the last of the slices.
        for key in accepted {
            self.lane.chain.forget(&key);
            // Not forgotten but empty: until a checkpoint `.state` may still stand there.
            let new = |key: &Key| KeyQueue::new(key.clone(), States::default(), None);
            let queue = self.keys.entry(key).or_insert_with_key(new);
            (queue.states, queue.joined, queue.batch) = (States::default(), None, self.batch);
        }
        self.heartbeat.beat();
        ControlFlow::Continue(())
    }
}
