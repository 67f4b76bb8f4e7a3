//! Plugins: WebAssembly components that see every event before it is written. This file is the face that the lanes, HTTP and
//! the service use; below it, in the order of a plugin's life: [`watch`] sees a file, [`loader`] proves it, [`generation`]
//! puts it in a chain, [`chain`] runs the chain over a slice, [`instance`] is one store. [`bindings`] is the only file that
//! names WIT types, [`engine`] the only one that configures wasmtime.

use std::sync::Arc;

use crate::event::Event;

pub mod compile;

/// One key's consecutive events for the chain, held ones first.
pub struct Slice<'a> {
    /// The task, or `None` for a webhook flow that has not joined.
    pub task: Option<&'a str>,
    /// The events in stream order.
    pub events: &'a [Event],
    /// Nothing may be held: the hold limit is reached, or a `task:completed`/`task:failed` is among the events.
    pub flush: bool,
    /// The plugins' states of this key.
    pub states: &'a States,
}

/// Plugin states of a key, by manifest name. Few plugins: a sorted list is the smallest map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct States(Vec<(Arc<str>, Arc<str>)>);

/// What the chain made of a slice.
pub struct Decided {
    /// One for each event from the first on; the events after them are held and come again.
    pub outcomes: Vec<Outcome>,
    /// What the deciding calls asked for; commits together with the outcomes.
    pub effects: Effects,
    /// The generation that decided.
    pub provenance: Arc<Provenance>,
}

/// What becomes of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Written as it came.
    Pass,
    /// Written with this data (JSON text of an object, checked by the host, on one line).
    Replace(String),
    /// Not written; a gap record with the plugin's code stands in its place.
    Drop {
        /// Manifest name.
        plugin: Arc<str>,
        /// From the manifest's codes, else `other`.
        code: String,
    },
    /// To the dead letter; a gap record stands in its place.
    Dead {
        /// `refused` (the plugin's verdict) or `plugin_failed`.
        reason: &'static str,
        /// Manifest name.
        plugin: Arc<str>,
        /// The plugin's code, or the class of the failure: `trap`, `timeout`, `memory`, `verdicts`, `failure`, ...
        code: String,
    },
}

/// Staged effects of a slice, in the order of the calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// New plugin states.
    pub states: Vec<(Arc<str>, Arc<str>)>,
    /// Writes to extra files.
    pub files: Vec<ExtraWrite>,
    /// Objects to merge under `annotations.<plugin>`.
    pub annotations: Vec<(Arc<str>, serde_json::Map<String, serde_json::Value>)>,
}

/// One write to an extra file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraWrite {
    /// From the manifest: `[A-Za-z0-9][A-Za-z0-9._-]{0,99}`, no standard name.
    pub name: Arc<str>,
    /// Whether it replaces the file or is appended to it.
    pub replace: bool,
    /// Byte for byte.
    pub text: String,
}

/// Which chain decided, for `metadata.json`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Counts generations of this process.
    pub generation: u64,
    /// Digest over all plugins and their configs, in order.
    pub chain_digest: String,
    /// The plugins in order.
    pub plugins: Vec<PluginProvenance>,
}

/// One plugin of a chain.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PluginProvenance {
    /// Manifest name.
    pub name: String,
    /// Manifest version.
    pub version: String,
    /// Of the component's bytes, hex.
    pub sha256: String,
    /// Of the sidecar's `[config]`, hex.
    pub config_hash: String,
}

/// Why the chain did not run: the slice stays as it is and comes again when [`PluginHost::wait`] returns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugins block: {reason}")]
pub struct Blocked {
    /// For people; never a producer's or a guest's text.
    pub reason: String,
}

// === impl States ===

impl States {
    /// A plugin's state, if it ever set one.
    pub fn get(&self, plugin: &str) -> Option<&Arc<str>> {
        let at = self.0.binary_search_by(|(name, _)| (**name).cmp(plugin)).ok()?;
        self.0.get(at).map(|(_, state)| state)
    }

    /// Replaces a plugin's state.
    pub fn set(&mut self, plugin: Arc<str>, state: Arc<str>) {
        match self.0.binary_search_by(|(name, _)| name.cmp(&plugin)) {
            Ok(at) => self.0[at].1 = state,
            Err(at) => self.0.insert(at, (plugin, state)),
        }
    }

    /// All states, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|(name, state)| (name, state))
    }

    /// Whether no plugin has a state.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
