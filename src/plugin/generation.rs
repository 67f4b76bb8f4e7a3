//! A chain as a value: which plugins run, in which order. Never changed, only replaced by the next one; lives as long as
//! someone runs it.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{PluginProvenance, Provenance, hex, loader::Plugin, meters::Share};

/// An ordered chain.
#[derive(Debug, Default)]
pub(super) struct Generation {
    /// Redactors first; by file name within redactors and within the rest.
    pub(super) plugins: Vec<Arc<Plugin>>,
    /// What runs beside the chain; no part of its digest.
    pub(super) shadows: Vec<Shadow>,
    pub(super) provenance: Arc<Provenance>,
    /// Its part in the number of generations in memory.
    counted: Option<Share>,
}

/// A plugin that watches.
#[derive(Clone, Debug)]
pub(super) struct Shadow {
    pub(super) plugin: Arc<Plugin>,
    /// It is given what the plugin at this place of the chain is given, or would be.
    pub(super) place: usize,
    /// It is compared with the plugin at that place, which has its name; else with passing everything.
    pub(super) beside: bool,
}

impl Generation {
    /// Orders plugins and names the result.
    pub(super) fn new(number: u64, mut plugins: Vec<Arc<Plugin>>) -> Self {
        plugins.sort_by(|a, b| (!a.is_redactor(), &a.file).cmp(&(!b.is_redactor(), &b.file)));
        let mut digest = Sha256::new();
        for plugin in &plugins {
            digest.update(Sha256::digest(plugin.name().as_bytes()));
            digest.update(&plugin.sha256);
            digest.update(&plugin.config_hash);
        }
        let provenance = Provenance {
            generation: number,
            chain_digest: hex(&digest.finalize()),
            plugins: plugins
                .iter()
                .map(|plugin| PluginProvenance {
                    name: plugin.name().to_string(),
                    version: plugin.manifest.version.clone(),
                    sha256: plugin.sha256.clone(),
                    config_hash: plugin.config_hash.clone(),
                })
                .collect(),
        };
        Self { plugins, shadows: Vec::new(), provenance: Arc::new(provenance), counted: None }
    }

    /// With plugins that watch, those that can: see [`Shadow::of`].
    pub(super) fn watched_by(mut self, shadows: &[Arc<Plugin>]) -> Self {
        self.shadows = shadows.iter().filter_map(|shadow| Shadow::of(shadow, &self.plugins).ok()).collect();
        self
    }

    /// Counts it among those in memory until it is dropped.
    pub(super) fn counted(mut self, share: Share) -> Self {
        self.counted = Some(share);
        self
    }

    /// Whether it is what these would make.
    pub(super) fn is_of(&self, plugins: &[Arc<Plugin>], shadows: &[Arc<Plugin>]) -> bool {
        let same = |mine: Vec<&Arc<Plugin>>, others: &[Arc<Plugin>]| {
            mine.len() == others.len()
                && mine.iter().all(|plugin| others.iter().any(|other| Arc::ptr_eq(plugin, other)))
        };
        let able: Vec<Arc<Plugin>> =
            shadows.iter().filter(|shadow| Shadow::of(shadow, plugins).is_ok()).map(Arc::clone).collect();
        same(self.plugins.iter().collect(), plugins)
            && same(self.shadows.iter().map(|shadow| &shadow.plugin).collect(), &able)
    }

    /// Why a plugin cannot join these: a chain has one plugin of a name, one writer of a file.
    pub(super) fn conflict<'a>(plugin: &Plugin, others: impl Iterator<Item = &'a Plugin>) -> Option<String> {
        for other in others {
            if other.name() == plugin.name() {
                return Some(format!("{} is already the plugin named {:?}", other.file, plugin.name()));
            }
            let clash = |file: &Arc<str>| other.identity.files.iter().any(|theirs| theirs.eq_ignore_ascii_case(file));
            if let Some(file) = plugin.identity.files.iter().find(|file| clash(file)) {
                return Some(format!("the extra file {file:?} is already written by {:?}", other.name()));
            }
        }
        None
    }
}

// === impl Shadow ===

impl Shadow {
    /// Where a shadow stands beside these plugins.
    ///
    /// # Errors
    /// It cannot watch them, in words for people: raw data is for redactors that a live one vouches for.
    pub(super) fn of(plugin: &Arc<Plugin>, plugins: &[Arc<Plugin>]) -> Result<Self, String> {
        let name = plugin.name();
        // By the order of the chain, whether these stand in it already or not.
        let place = |of: &Plugin| {
            let rank = |plugin: &Plugin| (!plugin.is_redactor(), plugin.file.clone());
            plugins.iter().filter(|other| rank(other) < rank(of)).count()
        };
        let shadow = |of: &Plugin, beside: bool| Self { plugin: Arc::clone(plugin), place: place(of), beside };
        let beside = plugins.iter().find(|other| other.name() == name);
        match beside {
            Some(other) if other.is_redactor() != plugin.is_redactor() => {
                let role = |redactor: bool| if redactor { "redactor" } else { "standard" };
                let (its, live) = (role(plugin.is_redactor()), role(other.is_redactor()));
                Err(format!("its role is {its}, but {name:?}, which it would watch ({}), is {live}", other.file))
            }
            Some(other) => Ok(shadow(other, true)),
            None if plugin.is_redactor() => Err(format!(
                "a redactor in shadow mode is given raw data, so it runs only beside an enforcing redactor of its name, \
                 and none named {name:?} is live"
            )),
            None => Ok(shadow(plugin, false)),
        }
    }
}
