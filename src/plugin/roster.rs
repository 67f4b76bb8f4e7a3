//! The files of the plugin folders and what became of them: live, refused, in each other's way; and from that, why
//! nothing is read. Pure bookkeeping under [`Live`](super::live::Live)'s lock.

use std::{
    collections::BTreeMap,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Instant,
};

use super::{
    Blocked,
    generation::Generation,
    loader::{LoadError, Plugin},
    required::{MemoryError, Requirements},
};

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
    pub(super) previous: Option<Arc<Plugin>>,
    /// It runs from the last good bytes, not from the file.
    pub(super) degraded: bool,
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
}

// === impl Roster ===

impl Roster {
    /// The plugins that run, by file name.
    pub(super) fn live(&self) -> Vec<Arc<Plugin>> {
        self.files.values().filter_map(|entry| Some(Arc::clone(&entry.live.as_ref()?.plugin))).collect()
    }

    /// Why nothing is read.
    pub(super) fn stops(&self) -> impl Iterator<Item = (&Arc<str>, &str)> {
        self.stops.iter().map(|(name, (_, reason))| (name, reason.as_str()))
    }

    pub(super) fn entry(&mut self, file: &str, dir: &Path) -> &mut FileEntry {
        self.files.entry(file.to_owned()).or_insert_with(|| FileEntry {
            dir: dir.to_owned(),
            live: None,
            refused: None,
            spoiled: None,
            again: false,
        })
    }

    /// Whether a plugin may stand in its file's place beside what runs.
    pub(super) fn check(&self, file: &str, plugin: &Plugin) -> Result<(), LoadError> {
        // Of two that collide the later file is refused; an earlier one displaces what is live.
        let earlier = self.files.range::<str, _>((Bound::Unbounded, Bound::Excluded(file)));
        let before = earlier.filter_map(|(_, entry)| Some(&*entry.live.as_ref()?.plugin));
        if let Some(reason) = Generation::conflict(plugin, before) {
            return Err(LoadError::Conflict(reason));
        }
        let mut after = self.live();
        after.retain(|live| live.candidate.file != file && Generation::conflict(live, [plugin].into_iter()).is_none());
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

    pub(super) fn displace(&mut self, file: &str, plugin: &Plugin) {
        for (other, entry) in &mut self.files {
            let Some(live) = entry.live.as_ref().filter(|_| other != file) else { continue };
            if let Some(reason) = Generation::conflict(&live.plugin, [plugin].into_iter()) {
                let pair = live.plugin.pair.clone();
                entry.refused = Some(Refused { pair, reason, since: Instant::now(), said: false, conflict: true });
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
                None => format!("required plugin {name} is missing: no file in PLUGINS_DIR is that plugin"),
            },
        }
    }

    pub(super) fn notice(&self, generation: &Generation) -> Option<String> {
        let mut parts = Vec::new();
        let degraded = self.files.iter().filter(|(_, entry)| entry.live.as_ref().is_some_and(|live| live.degraded));
        parts.extend(degraded.map(|(file, _)| format!("{file} is refused, its last good version runs")));
        if self.required.is_none() && !generation.plugins.is_empty() {
            parts.push("REQUIRED_PLUGINS=none: nothing stops reading when a redactor is missing".to_owned());
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
