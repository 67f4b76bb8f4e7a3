//! The committer's part in retention: the last look at a key before its directory goes away.

use super::{Running, describe};
use crate::{event::Key, fault, slice::Retire};

impl Running {
    /// Takes a key's directory away, unless something of it is new: written by another key's lane, or not yet in a checkpoint,
    /// which would bring it back.
    pub(super) fn retire(&mut self, key: &Key, Retire { until, written, after, accepted }: &Retire) {
        let table = &self.committer.table;
        let is_over = match self.group.touches(key) {
            true => Ok(false),
            false => table.may_clear(key, self.checkpointed, *written),
        };
        let still = after.as_ref().map_or(Ok(false), |task| Ok(self.group.touches(task) || table.has(task)?));
        match (is_over, still) {
            (Ok(true), Ok(false)) => {}
            (Err(error), _) | (_, Err(error)) => {
                tracing::debug!(error = describe(error), "a directory cannot be removed");
                return;
            }
            _ if fault::mutated("mutation::retire_unsettled") => {}
            _ => return,
        }
        // All up to there stood in the directory, also what came by other lanes.
        let until = self.tracker().low().max(*until);
        self.group.retire(key, until, &mut self.committer.table);
        self.committer.metrics.removed.increment(1);
        // There is room for all that were asked for.
        drop(accepted.try_send(key.clone()));
    }
}
