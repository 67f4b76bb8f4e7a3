//! What becomes of the chain when a plugin fails too often: the version before it returns, or nothing is read.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::counter;

use super::{Live, Refused, lock};
use crate::{
    metrics::PLUGIN_REFUSED,
    plugin::{Blocked, budget::Budget, instance::Class, loader::Plugin},
};

/// A generation younger than this gives way to the one before it when its redactor fails too often.
const YOUNG: Duration = Duration::from_secs(600);

// === impl Live ===

impl Live {
    /// A plugin's policy is to halt: nothing is read until it changes.
    pub(in crate::plugin) fn halt(&self, plugin: &Arc<Plugin>, class: Class) -> Blocked {
        let reason = format!("plugin {} failed on an event ({class}) and its policy is to halt", plugin.name());
        self.stop_reading(plugin, reason)
    }

    /// A redactor's budget is used up: the version before it returns if it is young, else nothing is read.
    pub(in crate::plugin) fn spent(&self, plugin: &Arc<Plugin>) -> Blocked {
        let reason = format!("redactor {} failed on too many events", plugin.name());
        let mut inner = self.inner();
        let (file, number) = (&plugin.file, inner.number);
        let entry = inner.files.get_mut(file);
        let young = entry.and_then(|entry| {
            let live = entry.live.as_mut().filter(|live| Arc::ptr_eq(&live.plugin, plugin))?;
            if live.since.elapsed() >= YOUNG {
                return None;
            }
            let previous = live.previous.take()?;
            *lock(&previous.budget) = Budget::default();
            live.plugin = previous;
            live.since = Instant::now();
            live.generation = number + 1;
            live.degraded = true;
            entry.spoiled = Some(plugin.pair.clone());
            entry.refused = Some(Refused {
                pair: plugin.pair.clone(),
                reason: "taken back: it failed on too many events; the version before it runs again".to_owned(),
                since: Instant::now(),
                said: true,
                conflict: false,
                retry: None,
            });
            Some(())
        });
        if young.is_none() {
            drop(inner);
            return self.stop_reading(plugin, reason);
        }
        tracing::error!(file, plugin = &**plugin.name(), "{reason}: the version before it runs again");
        counter!(PLUGIN_REFUSED).increment(1);
        let taken = inner.required.memory().take_back(file, &plugin.pair);
        inner.remember(taken);
        self.publish(&mut inner);
        Blocked { reason }
    }

    fn stop_reading(&self, plugin: &Arc<Plugin>, reason: String) -> Blocked {
        let mut inner = self.inner();
        let runs = inner.live().iter().any(|live| Arc::ptr_eq(live, plugin));
        // Another lane may have come first, or the plugin was replaced while this lane ran it.
        if runs && !inner.stops.contains_key(plugin.name()) {
            tracing::error!(plugin = &**plugin.name(), "{reason}: nothing is read until it changes");
            inner.stops.insert(Arc::clone(plugin.name()), (plugin.pair.clone(), reason.clone()));
            self.publish(&mut inner);
        }
        Blocked { reason }
    }
}
