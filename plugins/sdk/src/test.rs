//! The service as a plugin sees it, natively: `cargo test` runs a plugin without WebAssembly, and what it asked for can be
//! looked at. The service's rules hold here, too; breaking one panics and says which, as it would end the call there.

use std::collections::BTreeMap;

use crate::{
    config,
    host::{Host, Level},
    plugin::{Call, Event, Failure, Manifest, Plugin, Role, Verdict},
};

/// Largest state, in bytes.
const STATE_BYTES_MAX: usize = 64 * 1024;
/// Longest log line, in bytes.
const LOG_BYTES_MAX: usize = 4096;

/// One instance of a plugin and one task's effects.
#[derive(Debug)]
pub struct TestHost<P> {
    plugin: P,
    manifest: Manifest,
    host: Host,
    task: Option<String>,
    sequence: u64,
    effects: Effects,
}

/// What the calls that did not fail asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The task's state.
    pub state: String,
    /// Counts by name; what the manifest does not name counts as `other`.
    pub counts: BTreeMap<String, u64>,
    /// Log lines in order, those of `new` first.
    pub logs: Vec<(Level, String)>,
    /// Extra files by name.
    pub files: BTreeMap<String, String>,
    /// `annotations.<plugin>`.
    pub annotations: serde_json::Map<String, serde_json::Value>,
}

/// What a [`Host`] is asked for natively.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// `None` while the plugin is made.
    manifest: Option<Manifest>,
    staged: Effects,
}

// === impl TestHost ===

impl<P: Plugin> TestHost<P> {
    /// Makes the plugin as the service does; `config` is the sidecar's `[config]` as JSON, `{}` without one.
    ///
    /// # Errors
    /// What the plugin says of its configuration.
    pub fn new(config: &str) -> Result<Self, Failure> {
        let host = Host { record: Default::default() };
        let plugin = P::new(config::read(config)?, &host)?;
        let manifest = plugin.manifest();
        check(&manifest);
        host.record.borrow_mut().manifest = Some(manifest.clone());
        let mut effects = std::mem::take(&mut host.record.borrow_mut().staged);
        effects.counts = named(&manifest, effects.counts);
        Ok(Self { plugin, manifest, host, task: Some("task".to_owned()), sequence: 0, effects })
    }

    /// The next calls are for this task; `None`: a webhook flow that has not joined one. State and effects stay.
    pub fn set_task(&mut self, task: Option<&str>) {
        self.task = task.map(str::to_owned);
    }

    /// One call with these kinds and data; `flush` as the service would say: a `task:completed` or `task:failed` is there.
    ///
    /// # Errors
    /// The plugin's own failure; its effects are gone.
    ///
    /// # Panics
    /// A rule of the service is broken.
    pub fn process(&mut self, events: &[(&str, &str)]) -> Result<Vec<Verdict>, Failure> {
        let ends = events.iter().any(|(kind, _)| matches!(*kind, "task:completed" | "task:failed"));
        self.call(events, ends)
    }

    /// The same with `flush`.
    ///
    /// # Errors
    /// As [`Self::process`].
    ///
    /// # Panics
    /// As [`Self::process`].
    pub fn flush(&mut self, events: &[(&str, &str)]) -> Result<Vec<Verdict>, Failure> {
        self.call(events, true)
    }

    /// What the plugin says it is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the calls so far asked for.
    pub fn effects(&self) -> &Effects {
        &self.effects
    }

    /// The plugin itself.
    pub fn plugin(&self) -> &P {
        &self.plugin
    }

    fn call(&mut self, events: &[(&str, &str)], flush: bool) -> Result<Vec<Verdict>, Failure> {
        let ids: Vec<String> =
            (self.sequence..).take(events.len()).map(|sequence| format!("1700000000000-{sequence}")).collect();
        self.sequence += u64::try_from(events.len()).unwrap_or_default();
        let views: Vec<Event<'_>> = events
            .iter()
            .zip(&ids)
            .map(|((kind, data), id)| Event { id, kind, timestamp_ms: 1_700_000_000_000.0, data })
            .collect();
        self.host.record.borrow_mut().staged = Effects { counts: BTreeMap::new(), ..self.effects.clone() };
        let call = Call { task: self.task.as_deref(), events: &views, flush, host: &self.host };
        let verdicts = self.plugin.process(&call)?;
        self.judge(&verdicts, events.len(), flush);
        let staged = std::mem::take(&mut self.host.record.borrow_mut().staged);
        let mut counts = std::mem::take(&mut self.effects.counts);
        for (name, n) in named(&self.manifest, staged.counts) {
            *counts.entry(name).or_default() += n;
        }
        self.effects = Effects { counts, ..staged };
        Ok(verdicts)
    }

    fn judge(&self, verdicts: &[Verdict], events: usize, flush: bool) {
        assert_eq!(verdicts.len(), events, "one verdict for each event");
        let held = verdicts.iter().position(|verdict| *verdict == Verdict::Hold);
        if held.is_some() {
            assert!(self.manifest.role == Role::Redactor, "only a redactor may hold");
            assert!(!flush, "nothing may be held with flush");
        }
        for verdict in verdicts {
            match verdict {
                Verdict::Replace(data) => {
                    let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(data);
                    assert!(object.is_ok(), "a replacement must be the JSON text of an object: {data}");
                }
                Verdict::Drop(code) | Verdict::Quarantine(code) => {
                    assert!(self.manifest.codes.contains(code), "{code:?} is not in the manifest's codes");
                }
                Verdict::Pass | Verdict::Hold => {}
            }
        }
    }
}

// === impl Record ===

impl Record {
    pub(crate) fn log(&mut self, level: Level, message: &str) {
        let end = message.floor_char_boundary(LOG_BYTES_MAX);
        self.staged.logs.push((level, message.get(..end).unwrap_or_default().to_owned()));
    }

    pub(crate) fn count(&mut self, name: &str, n: u32) {
        *self.staged.counts.entry(name.to_owned()).or_default() += u64::from(n);
    }

    pub(crate) fn state(&mut self) -> String {
        self.running("the state");
        self.staged.state.clone()
    }

    pub(crate) fn set_state(&mut self, value: &str) {
        self.running("the state");
        assert!(value.len() <= STATE_BYTES_MAX, "a state of {} bytes; {STATE_BYTES_MAX} are allowed", value.len());
        value.clone_into(&mut self.staged.state);
    }

    pub(crate) fn file(&mut self, name: &str, text: &str, replace: bool) {
        let manifest = self.running("files");
        assert!(manifest.files.iter().any(|file| file == name), "{name:?} is not in the manifest's files");
        let file = self.staged.files.entry(name.to_owned()).or_default();
        if replace {
            file.clear();
        }
        file.push_str(text);
    }

    pub(crate) fn annotate(&mut self, json: &str) {
        self.running("annotations");
        let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json);
        let Ok(object) = object else { panic_on(json) };
        for (key, value) in object {
            if value.is_null() {
                self.staged.annotations.remove(&key);
            } else {
                self.staged.annotations.insert(key, value);
            }
        }
    }

    fn running(&self, what: &str) -> &Manifest {
        let Some(manifest) = &self.manifest else { not_in_new(what) };
        manifest
    }
}

#[allow(clippy::panic, reason = "fails the author's test")]
fn panic_on(json: &str) -> ! {
    panic!("an annotation must be the JSON text of an object: {json}")
}

#[allow(clippy::panic, reason = "fails the author's test")]
fn not_in_new(what: &str) -> ! {
    panic!("{what} of a task cannot be asked for in `new`: no task is there")
}

/// The service's rules for manifests.
fn check(manifest: &Manifest) {
    let lower = |text: &str, others: &str| {
        let mut bytes = text.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_lowercase())
            && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || others.contains(char::from(byte)))
            && text.len() <= 40
    };
    let Manifest { name, role, kinds, files, codes, .. } = manifest;
    assert!(lower(name, "-"), "the name {name:?} is not [a-z][a-z0-9-]{{0,39}}");
    assert!(*role == Role::Standard || kinds.as_slice() == ["*"], "a redactor's kinds must be [\"*\"]");
    for code in codes {
        assert!(lower(code, "_-"), "the code {code:?} is not [a-z][a-z0-9_-]{{0,39}}");
    }
    assert!(codes.len() <= 256, "more than 256 codes");
    for file in files {
        let first = file.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        let rest = file.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        assert!(first && rest && file.len() <= 100, "the file {file:?} is not [A-Za-z0-9][A-Za-z0-9._-]{{0,99}}");
    }
}

fn named(manifest: &Manifest, counts: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut named = BTreeMap::new();
    for (name, n) in counts {
        let name = if manifest.codes.contains(&name) { name } else { "other".to_owned() };
        *named.entry(name).or_default() += n;
    }
    named
}
