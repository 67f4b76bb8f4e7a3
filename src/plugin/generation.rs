//! A chain as a value: which plugins run, in which order. Never changed, only replaced by the next one; lives as long as
//! someone runs it.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{PluginProvenance, Provenance, hex, loader::Plugin};

/// An ordered chain.
#[derive(Debug, Default)]
pub(super) struct Generation {
    /// Redactors first; by file name within redactors and within the rest.
    pub(super) plugins: Vec<Arc<Plugin>>,
    pub(super) provenance: Arc<Provenance>,
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
        Self { plugins, provenance: Arc::new(provenance) }
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
