//! The component: reads its configuration, answers with the manifest asked for, and leaves each event to the mode.

use std::sync::OnceLock;

use serde::Deserialize;

use crate::{
    floods,
    modes::{Mode, act, before, stamped, verdicts},
};
use bindings::exports::task_logger::plugin::processor::{Event, Failure, Guest, Manifest, Role, Verdict};

pub(crate) mod bindings {
    //! Generated from `wit/plugin.wit`.
    #![allow(unsafe_code, missing_docs, unreachable_pub, reason = "generated calls across the component boundary")]
    wit_bindgen::generate!({ path: "../../wit", world: "plugin" });
    export!(Misbehave with_types_in self);
    use super::Misbehave;
}

struct Misbehave;

static CONFIG: OnceLock<Config> = OnceLock::new();

/// The sidecar's `[config]`; without one a plugin that passes everything.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// What to do with an event that matches.
    pub(crate) mode: Mode,
    /// `redactor` or `standard`.
    pub(crate) role: String,
    /// Manifest name.
    pub(crate) name: String,
    /// Manifest version; `stamp` writes it.
    pub(crate) version: String,
    /// Only events whose data contains this text trigger the mode; all others pass.
    pub(crate) r#match: String,
    /// Manifest kinds.
    pub(crate) kinds: Vec<String>,
    /// Manifest files; the first is the one written to.
    pub(crate) files: Vec<String>,
    /// Manifest codes; the first is the one used.
    pub(crate) codes: Vec<String>,
    /// The text that `hold-until` waits for; other modes have other uses of it.
    pub(crate) until: String,
    /// What does not match is replaced by `{"content":"blank"}`: a redactor that works.
    pub(crate) blank: bool,
    /// How deep `annotate-deep` and `replace-deep` go.
    pub(crate) depth: usize,
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Pass,
            role: "standard".to_owned(),
            name: "misbehave".to_owned(),
            version: "1".to_owned(),
            r#match: String::new(),
            kinds: vec!["*".to_owned()],
            files: vec!["misbehave.txt".to_owned()],
            codes: vec!["misbehaved".to_owned()],
            until: String::new(),
            blank: false,
            depth: 0,
        }
    }
}

// === impl Misbehave ===

impl Guest for Misbehave {
    fn init(config: String) -> Result<Manifest, Failure> {
        let config: Config = serde_json::from_str(&config).map_err(|error| Failure { message: error.to_string() })?;
        match config.mode {
            Mode::InitFail => return Err(Failure { message: "told to fail".to_owned() }),
            Mode::InitTrap => std::process::abort(),
            Mode::InitLoop => loop {
                std::hint::black_box(());
            },
            _ => {}
        }
        let name = if config.mode == Mode::BadManifest { "Not A Name" } else { &config.name };
        let narrow = config.mode == Mode::NarrowRedactor;
        let manifest = Manifest {
            name: name.to_owned(),
            version: version(&config),
            role: if narrow || config.role == "redactor" { Role::Redactor } else { Role::Standard },
            kinds: if narrow { vec!["task:output".to_owned()] } else { config.kinds.clone() },
            files: config.files.clone(),
            codes: config.codes.clone(),
        };
        CONFIG.get_or_init(|| config);
        Ok(manifest)
    }

    fn process(_task: Option<String>, events: Vec<Event>, flush: bool) -> Result<Vec<Verdict>, Failure> {
        let config = CONFIG.get_or_init(Config::default);
        let triggered = |event: &Event| event.data.contains(&config.r#match);
        before(config, &events)?;
        let mut out = Vec::with_capacity(events.len());
        for event in &events {
            out.push(match (triggered(event), config.mode) {
                (true, _) => act(config, event, flush)?,
                (false, Mode::Remember | Mode::RememberAndTrap) => {
                    let found = if floods::holds_reversed(&config.until) { "remembers" } else { "nothing" };
                    stamped(event, found.into())?
                }
                (false, _) if config.blank => Verdict::Replace("{\"content\":\"blank\"}".to_owned()),
                (false, _) => Verdict::Pass,
            });
        }
        Ok(verdicts(config, &events, out))
    }
}

/// The version of the manifest; a chameleon's changes at its moment.
fn version(config: &Config) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
    let changes = config.mode == Mode::Chameleon && config.until.parse().is_ok_and(|moment: u128| now >= moment);
    if changes { "changed".to_owned() } else { config.version.clone() }
}
