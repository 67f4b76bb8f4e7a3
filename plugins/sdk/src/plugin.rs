//! What an author writes against: the trait, and the types that it speaks in.

use std::{cell::OnceCell, fmt, thread::LocalKey};

use serde::de::DeserializeOwned;

use crate::{host::Host, json};

/// A plugin. One value serves one instance: many tasks, one call after the other. Keep nothing of a task in it; what a task
/// needs again goes into its state ([`Host::set_state`]).
pub trait Plugin: Sized + 'static {
    /// The sidecar's `[config]`. An unknown key, a missing one or a wrong type is refused by name before [`Self::new`] is
    /// called. `#[serde(default)]` makes keys optional; [`NoConfig`] takes none at all.
    type Config: DeserializeOwned;

    /// Called once per instance, first. Of the host only [`Host::log`] and [`Host::count`] are there.
    ///
    /// # Errors
    /// The plugin does not go live; the message is shown to the operator.
    fn new(config: Self::Config, host: &Host) -> Result<Self, Failure>;

    /// What it is; the same for every instance of one configuration.
    fn manifest(&self) -> Manifest;

    /// The verdict on one event.
    ///
    /// # Errors
    /// The whole call has failed: its effects are gone, and the sidecar's `on_failure` applies to the event that fails again.
    fn event(&self, event: &Event<'_>, call: &Call<'_>) -> Result<Verdict, Failure> {
        let _ = (event, call);
        Ok(Verdict::Pass)
    }

    /// The verdicts on the next events of one task, one each. Override it to look at several events together, to hold, or to
    /// read and write the state once per call; by default each event is given to [`Self::event`].
    ///
    /// # Errors
    /// As [`Self::event`].
    fn process(&self, call: &Call<'_>) -> Result<Vec<Verdict>, Failure> {
        call.events.iter().map(|event| self.event(event, call)).collect()
    }
}

/// One call: consecutive events of one task, and the host to ask while they are decided.
#[derive(Debug)]
pub struct Call<'a> {
    /// The task; `None`: a webhook flow that has not joined one.
    pub task: Option<&'a str>,
    /// In stream order, held ones first.
    pub events: &'a [Event<'a>],
    /// Nothing may be held: the hold limit is reached, or the task ends in this call.
    pub flush: bool,
    /// State, files, annotations, log and counters.
    pub host: &'a Host,
}

/// An event. Its texts are views of what the service sent, gone when the call returns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event<'a> {
    /// Stream id, `1700000000000-0`.
    pub id: &'a str,
    /// `task:output`, ...: an open set.
    pub kind: &'a str,
    /// The producer's time, whole milliseconds since 1970.
    pub timestamp_ms: f64,
    /// JSON text of an object.
    pub data: &'a str,
}

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Unchanged, byte for byte.
    Pass,
    /// New data: JSON text of an object.
    Replace(String),
    /// Not written; a marker with this code, one of the manifest's, stands in its place.
    Drop(String),
    /// Redactors only: undecided. It and all after it in this call come again, with the task's next events or with `flush`.
    Hold,
    /// Refused with this code, one of the manifest's: to the dead letter.
    Quarantine(String),
}

/// What a plugin is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Identity, `[a-z][a-z0-9-]{0,39}`.
    pub name: String,
    /// Shown and recorded, never compared.
    pub version: String,
    /// Whether it runs before what is no redactor.
    pub role: Role,
    /// Kinds wanted, exact or a prefix and `*`; a redactor must want `*`.
    pub kinds: Vec<String>,
    /// Extra files that it may write, `[A-Za-z0-9][A-Za-z0-9._-]{0,99}`.
    pub files: Vec<String>,
    /// Counter names and reason codes that it may use, `[a-z][a-z0-9_-]{0,39}`, at most 256.
    pub codes: Vec<String>,
}

/// Where a plugin stands in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs first, gets every kind, fails closed.
    Redactor,
    /// Sees redacted data only.
    Standard,
}

/// Why a plugin does not start, or a call failed. Any error becomes one by `?`.
pub struct Failure {
    message: String,
}

/// The [`Plugin::Config`] of a plugin that has no configuration: any key is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub struct NoConfig {}

/// A type that [`crate::export!`] names.
#[doc(hidden)]
pub trait Exported: Plugin {
    /// Where the instance's one value is kept.
    fn slot() -> &'static LocalKey<OnceCell<Self>>;
}

// === impl Event ===

impl Event<'_> {
    /// Passes the data's text values through `change`: [`Verdict::Replace`] when one of them differs afterwards, else
    /// [`Verdict::Pass`]. Keys, numbers, order, white space and the spelling of unchanged texts keep their bytes; see
    /// [`json::rewrite`] for more.
    ///
    /// # Errors
    /// The data is not JSON; the service sends none such.
    pub fn rewrite(&self, mut change: impl FnMut(&str) -> String) -> Result<Verdict, Failure> {
        let new =
            json::rewrite(self.data, |token, text| (!token.is_key).then(|| change(text)).filter(|new| new != text))?;
        Ok(new.map_or(Verdict::Pass, Verdict::Replace))
    }

    /// The data as a value of one's own type.
    ///
    /// # Errors
    /// It has another shape.
    pub fn parse<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        Ok(serde_json::from_str(self.data)?)
    }
}

// === impl Verdict ===

impl Verdict {
    /// Replaces an event's data by what serializes to a JSON object.
    ///
    /// # Errors
    /// It cannot be serialized.
    pub fn replace(data: &impl serde::Serialize) -> Result<Self, Failure> {
        Ok(Self::Replace(serde_json::to_string(data)?))
    }

    /// [`Verdict::Drop`] with this code.
    pub fn drop(code: impl Into<String>) -> Self {
        Self::Drop(code.into())
    }

    /// [`Verdict::Quarantine`] with this code.
    pub fn quarantine(code: impl Into<String>) -> Self {
        Self::Quarantine(code.into())
    }
}

// === impl Manifest ===

impl Manifest {
    /// A redactor: it gets every kind.
    pub fn redactor(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self::new(name.into(), version.into(), Role::Redactor)
    }

    /// Any other plugin; it gets every kind unless [`Self::kinds`] says less.
    pub fn standard(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self::new(name.into(), version.into(), Role::Standard)
    }

    fn new(name: String, version: String, role: Role) -> Self {
        Self { name, version, role, kinds: vec!["*".to_owned()], files: Vec::new(), codes: Vec::new() }
    }

    /// The kinds wanted: events of others never cross into the plugin.
    pub fn kinds<T: Into<String>>(mut self, kinds: impl IntoIterator<Item = T>) -> Self {
        self.kinds = kinds.into_iter().map(Into::into).collect();
        self
    }

    /// The extra files that it may write.
    pub fn files<T: Into<String>>(mut self, files: impl IntoIterator<Item = T>) -> Self {
        self.files = files.into_iter().map(Into::into).collect();
        self
    }

    /// The counters and reason codes that it may use.
    pub fn codes<T: Into<String>>(mut self, codes: impl IntoIterator<Item = T>) -> Self {
        self.codes = codes.into_iter().map(Into::into).collect();
        self
    }
}

// === impl Failure ===

impl Failure {
    /// A failure in one's own words. From a redactor's `process` nobody sees them but the author at the desk.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    /// The words.
    pub fn message(&self) -> &str {
        &self.message
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn into_message(self) -> String {
        self.message
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !message.contains(&cause_text) {
                message.push_str(": ");
                message.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self { message }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failure").field(&self.message).finish()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
