//! The files of the plugin folders and what became of them: live, refused, in each other's way; and from that, why
//! nothing is read. Pure bookkeeping under [`Live`](super::live::Live)'s lock.

use std::{
    collections::BTreeMap,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use metrics::gauge;

use super::{
    Blocked,
    generation::{Generation, Shadow},
    loader::{LoadError, Plugin},
    required::{MemoryError, Requirements},
};
use crate::metrics::{PLUGIN_LIVE_GENERATION, PLUGIN_REDACTS};

/// Plugins in a chain.
pub(super) const PLUGINS_MAX: usize = 64;
/// Plugins beside it.
const SHADOWS_MAX: usize = 8;

/// First and longest pause before a refused candidate is tried again whose refusal may pass.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

pub(super) const NOTHING_REQUIRED: &str = "REQUIRED_PLUGINS=none: nothing stops reading when a redactor is missing";

/// Everything known of plugin files.
pub(super) struct Roster {
    pub(super) number: u64,
    pub(super) files: BTreeMap<String, FileEntry>,
    pub(super) required: Requirements,
    /// Plugins by name that stopped reading: the pair, and why.
    pub(super) stops: BTreeMap<Arc<str>, (String, String)>,
    /// Said once.
    pub(super) memory_error: Option<String>,
}

/// A file of the plugin folders.
pub(super) struct FileEntry {
    pub(super) dir: PathBuf,
    pub(super) live: Option<LiveEntry>,
    /// A plugin that only watches, or waits until it can; never beside `live`.
    pub(super) shadow: Option<ShadowEntry>,
    pub(super) refused: Option<Refused>,
    /// The pair that was taken back.
    pub(super) spoiled: Option<String>,
    /// To be considered again although the file did not change.
    pub(super) again: bool,
}

/// A file's plugin in the chain.
pub(super) struct LiveEntry {
    pub(super) plugin: Arc<Plugin>,
    pub(super) since: Instant,
    /// Since which generation.
    pub(super) generation: u64,
    pub(super) previous: Option<Arc<Plugin>>,
    /// It runs from the last good bytes, not from the file.
    pub(super) degraded: bool,
}

/// A file's plugin in shadow mode.
pub(super) struct ShadowEntry {
    pub(super) plugin: Arc<Plugin>,
    pub(super) since: Instant,
    /// Why it cannot watch now; `None`: it does.
    pub(super) waits: Option<String>,
}

/// A candidate that did not make it.
pub(super) struct Refused {
    pub(super) pair: String,
    pub(super) reason: String,
    pub(super) since: Instant,
    /// It was reported.
    pub(super) said: bool,
    /// Another file is in its way: it is tried again when that changes.
    pub(super) conflict: bool,
    /// When it is tried again although nothing changed; `None`: never.
    pub(super) retry: Option<Retry>,
}

/// When a candidate is tried again whose refusal may be the machine's fault.
#[derive(Clone, Copy)]
pub(super) struct Retry {
    at: Instant,
    pause: Duration,
}

// === impl Retry ===

impl Retry {
    pub(super) fn first() -> Self {
        Self { at: Instant::now() + RETRY.0, pause: RETRY.0 }
    }

    /// After another failure.
    pub(super) fn later(self) -> Self {
        let pause = (self.pause * 2).min(RETRY.1);
        Self { at: Instant::now() + pause, pause }
    }
}

// === impl Refused ===

impl Refused {
    /// Whether its time has come again.
    pub(super) fn is_due(&self) -> bool {
        self.retry.is_some_and(|retry| Instant::now() >= retry.at)
    }
}

// === impl FileEntry ===

impl FileEntry {
    /// What runs, or would, of it.
    pub(super) fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        let live = self.live.iter().map(|live| &live.plugin);
        live.chain(self.shadow.iter().map(|shadow| &shadow.plugin))
    }
}

// === impl Roster ===

impl Roster {
    /// The plugins that run, by file name.
    pub(super) fn live(&self) -> Vec<Arc<Plugin>> {
        self.files.values().filter_map(|entry| Some(Arc::clone(&entry.live.as_ref()?.plugin))).collect()
    }

    /// The plugins in shadow mode, by file name.
    pub(super) fn shadows(&self) -> Vec<Arc<Plugin>> {
        self.files.values().filter_map(|entry| Some(Arc::clone(&entry.shadow.as_ref()?.plugin))).collect()
    }

    /// Puts a plugin in shadow mode in its file's place.
    pub(super) fn admit_shadow(&mut self, plugin: Arc<Plugin>) -> Result<(), LoadError> {
        let file = plugin.file.as_str();
        if let Some(live) = self.files.get(file).and_then(|entry| entry.live.as_ref()) {
            let name = live.plugin.name();
            if self.required.names().contains(&&**name) {
                let reason = format!("it would take the place of the required plugin {name:?}, and decides nothing");
                return Err(LoadError::Conflict(reason));
            }
        }
        let others = || self.files.iter().filter(|(other, _)| *other != file);
        let shadows = || others().filter_map(|(_, entry)| entry.shadow.as_ref());
        if let Some(other) = shadows().find(|other| other.plugin.name() == plugin.name()) {
            let (other, name) = (&other.plugin.file, plugin.name());
            return Err(LoadError::Conflict(format!("{other} is already the shadow named {name:?}")));
        }
        if shadows().count() >= SHADOWS_MAX {
            return Err(LoadError::Conflict(format!("{SHADOWS_MAX} shadows are there already")));
        }
        // What this file enforced before is no last good version of a shadow.
        let removed = self.required.memory().remove(file);
        self.remember(removed);
        self.retry_conflicts();
        let entry = self.entry(&plugin.file, &plugin.dir);
        entry.dir.clone_from(&plugin.dir);
        (entry.live, entry.refused, entry.spoiled) = (None, None, None);
        let (file, name, version) = (&*plugin.file, &**plugin.name(), &*plugin.manifest.version);
        tracing::info!(file, plugin = name, version, sha256 = plugin.sha256, "plugin in shadow mode");
        let waits = Some("it is new".to_owned());
        entry.shadow = Some(ShadowEntry { plugin, since: Instant::now(), waits });
        Ok(())
    }

    /// Notes which shadows can watch these plugins, and says why one cannot.
    pub(super) fn tell_shadows(&mut self, plugins: &[Arc<Plugin>]) {
        for (file, entry) in &mut self.files {
            let Some(shadow) = &mut entry.shadow else { continue };
            let waits = Shadow::of(&shadow.plugin, plugins).err();
            if shadow.waits.is_some() && waits.is_none() {
                shadow.since = Instant::now();
            }
            if shadow.waits != waits {
                if let Some(reason) = &waits {
                    tracing::warn!(file, reason, "shadow waits");
                }
                shadow.waits = waits;
            }
        }
    }

    /// Notes since when the versions that run do, and that those only in `before` do not any more.
    pub(super) fn count_live(&self, before: &Generation) {
        for plugin in before.plugins.iter().map(|plugin| plugin.meters().label()) {
            gauge!(PLUGIN_LIVE_GENERATION, "plugin" => plugin.clone()).set(0.0);
            gauge!(PLUGIN_REDACTS, "plugin" => plugin).set(0.0);
        }
        for live in self.files.values().filter_map(|entry| entry.live.as_ref()) {
            gauge!(PLUGIN_LIVE_GENERATION, "plugin" => live.plugin.meters().label()).set(live.generation as f64);
            let redacts = if live.plugin.is_redactor() { 1.0 } else { 0.0 };
            gauge!(PLUGIN_REDACTS, "plugin" => live.plugin.meters().label()).set(redacts);
        }
    }

    /// Why nothing is read.
    pub(super) fn stops(&self) -> impl Iterator<Item = (&Arc<str>, &str)> {
        self.stops.iter().map(|(name, (_, reason))| (name, reason.as_str()))
    }

    pub(super) fn entry(&mut self, file: &str, dir: &Path) -> &mut FileEntry {
        let memory = self.required.memory();
        self.files.entry(file.to_owned()).or_insert_with(|| FileEntry {
            dir: dir.to_owned(),
            live: None,
            shadow: None,
            refused: None,
            spoiled: memory.spoiled(file),
            again: false,
        })
    }

    /// Whether a plugin may stand in its file's place beside what runs.
    pub(super) fn check(&self, plugin: &Plugin) -> Result<(), LoadError> {
        let file = plugin.file.as_str();
        let others = self.files.iter().filter(|(other, entry)| *other != file && entry.live.is_some()).count();
        if others >= PLUGINS_MAX {
            return Err(LoadError::Conflict(format!("{PLUGINS_MAX} plugins are live already")));
        }
        // Of two that collide the later file is refused; an earlier one displaces what is live.
        let earlier = self.files.range::<str, _>((Bound::Unbounded, Bound::Excluded(file)));
        let before = earlier.filter_map(|(_, entry)| Some(&*entry.live.as_ref()?.plugin));
        if let Some(reason) = Generation::conflict(plugin, before) {
            return Err(LoadError::Conflict(reason));
        }
        let mut after = self.live();
        after.retain(|live| live.file != file && Generation::conflict(live, [plugin].into_iter()).is_none());
        let missing_before = self.required.missing(&self.live());
        let stays = |name: &str| **plugin.name() == *name || after.iter().any(|live| **live.name() == *name);
        for name in self.required.names().into_iter().filter(|name| !missing_before.contains(name)) {
            if !stays(name) {
                let reason = format!("it would take the place of the required plugin {name:?}");
                return Err(LoadError::Conflict(reason));
            }
        }
        let replaced = self.live().into_iter().find(|live| live.name() == plugin.name());
        if replaced.is_some_and(|live| live.is_redactor()) && !plugin.is_redactor() {
            return Err(LoadError::Manifest(format!("{:?} is a live redactor, this one is not", plugin.name())));
        }
        Ok(())
    }

    pub(super) fn displace(&mut self, plugin: &Plugin) {
        for (other, entry) in &mut self.files {
            let Some(live) = entry.live.as_ref().filter(|_| *other != plugin.file) else { continue };
            if let Some(reason) = Generation::conflict(&live.plugin, [plugin].into_iter()) {
                let pair = live.plugin.pair.clone();
                entry.refused =
                    Some(Refused { pair, reason, since: Instant::now(), said: false, conflict: true, retry: None });
                entry.live = None;
            }
        }
    }

    pub(super) fn retry_conflicts(&mut self) {
        for entry in self.files.values_mut() {
            entry.again |= entry.refused.as_ref().is_some_and(|refused| refused.conflict);
        }
    }

    pub(super) fn clear_stops(&mut self, clear: impl Fn(&String) -> bool) {
        let all = self.live();
        self.stops.retain(|name, (pair, _)| {
            let over = clear(pair);
            if let Some(plugin) = all.iter().find(|plugin| over && plugin.name() == name) {
                *plugin.budget.lock().unwrap_or_else(PoisonError::into_inner) = super::budget::Budget::default();
            }
            !over
        });
    }

    pub(super) fn blocked(&self, plugins: &[Arc<Plugin>]) -> Option<Blocked> {
        let mut reasons: Vec<String> = self.required.missing(plugins).into_iter().map(|name| self.why(name)).collect();
        reasons.extend(self.stops.values().map(|(_, reason)| reason.clone()));
        (!reasons.is_empty()).then(|| Blocked { reason: reasons.join("; ") })
    }

    /// Why a required plugin does not run.
    pub(super) fn why(&self, name: &str) -> String {
        let file = self.required.file_of(name);
        match file.and_then(|file| Some((file, self.files.get(file)?))) {
            Some((file, entry)) if entry.refused.is_some() => {
                format!("required plugin {name} is missing: {file} is refused (GET /plugins says why)")
            }
            Some((file, _)) => format!("required plugin {name} is missing: {file} is another plugin now"),
            None => match file {
                Some(file) => format!(
                    "required plugin {name} is missing: {file} is gone (put it back, or lift the requirement with \
                     `task-logger plugin forget {name}`)"
                ),
                None => {
                    let refused = self.files.iter().filter(|(_, entry)| entry.refused.is_some());
                    let files: Vec<&str> = refused.map(|(file, _)| file.as_str()).collect();
                    let also = match &files[..] {
                        [] => String::new(),
                        files => format!(" (refused: {}; GET /plugins says why)", files.join(", ")),
                    };
                    format!("required plugin {name} is missing: no file in PLUGINS_DIR is that plugin{also}")
                }
            },
        }
    }

    pub(super) fn notice(&self) -> Option<String> {
        let mut parts = Vec::new();
        let degraded = self.files.iter().filter(|(_, entry)| entry.live.as_ref().is_some_and(|live| live.degraded));
        parts.extend(degraded.map(|(file, _)| format!("{file} is refused, its last good version runs")));
        if self.required.is_none() {
            parts.push(NOTHING_REQUIRED.to_owned());
        }
        parts.extend(self.memory_error.clone());
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    pub(super) fn remember(&mut self, result: Result<(), MemoryError>) {
        match result {
            Ok(()) => {}
            Err(error) => {
                let error = error.to_string();
                if self.memory_error.as_ref() != Some(&error) {
                    tracing::error!(error, "what is required will not be known after a restart");
                    self.memory_error = Some(error);
                }
            }
        }
    }
}
