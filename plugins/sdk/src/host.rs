//! What a plugin may ask of the service: in the component the frozen interface's functions, natively a record of what was
//! asked, which [`crate::test::TestHost`] reads.

#[cfg(target_family = "wasm")]
use crate::guest::calls;
#[cfg(not(target_family = "wasm"))]
use crate::test::Record;

/// The service, for the time of a call. Everything asked of it is staged: gone if the call fails, durable in one commit with
/// the events that the call decided. What a rule forbids ends the call (natively: the test, by a panic that says which).
#[derive(Debug)]
pub struct Host {
    #[cfg(not(target_family = "wasm"))]
    pub(crate) record: std::cell::RefCell<Record>,
    /// Only this crate makes one.
    #[cfg(target_family = "wasm")]
    pub(crate) _private: (),
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the author.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Someone must look.
    Error,
}

// === impl Host ===

impl Host {
    /// One line for the service's log (4 KiB, then it is cut). From a redactor's `process` only the fact is logged: the text
    /// may be raw.
    pub fn log(&self, level: Level, message: &str) {
        self.do_log(level, message);
    }

    /// Adds to a counter in `/metrics`; a name that is not in the manifest's codes counts as `other`.
    pub fn count(&self, name: &str, n: u32) {
        self.do_count(name, n);
    }

    /// This plugin's state of this task or flow, `""` at first; kept over restarts and new versions of the plugin. Not in
    /// `new`.
    pub fn state(&self) -> String {
        self.do_state()
    }

    /// Replaces that state (64 KiB). It is written to disk: nothing unredacted, and nothing learnt from held events.
    pub fn set_state(&self, value: &str) {
        self.do_set_state(value);
    }

    /// Appends to an extra file of the task, byte for byte; the name must be in the manifest's files.
    pub fn append_file(&self, name: &str, text: &str) {
        self.do_file(name, text, false);
    }

    /// Replaces an extra file of the task; the last call before a commit wins.
    pub fn replace_file(&self, name: &str, text: &str) {
        self.do_file(name, text, true);
    }

    /// Merges a JSON object into the task's `metadata.json` under `annotations.<plugin name>`; null removes a key.
    pub fn annotate(&self, json: &str) {
        self.do_annotate(json);
    }
}

#[cfg(target_family = "wasm")]
impl Host {
    fn do_log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Debug => calls::Level::Debug,
            Level::Info => calls::Level::Info,
            Level::Warn => calls::Level::Warn,
            Level::Error => calls::Level::Error,
        };
        calls::log(level, message);
    }

    fn do_count(&self, name: &str, n: u32) {
        calls::count(name, n);
    }

    fn do_state(&self) -> String {
        calls::get_state()
    }

    fn do_set_state(&self, value: &str) {
        calls::set_state(value);
    }

    fn do_file(&self, name: &str, text: &str, replace: bool) {
        if replace { calls::replace_file(name, text) } else { calls::append_file(name, text) }
    }

    fn do_annotate(&self, json: &str) {
        calls::annotate(json);
    }
}

#[cfg(not(target_family = "wasm"))]
impl Host {
    fn do_log(&self, level: Level, message: &str) {
        self.record.borrow_mut().log(level, message);
    }

    fn do_count(&self, name: &str, n: u32) {
        self.record.borrow_mut().count(name, n);
    }

    fn do_state(&self) -> String {
        self.record.borrow_mut().state()
    }

    fn do_set_state(&self, value: &str) {
        self.record.borrow_mut().set_state(value);
    }

    fn do_file(&self, name: &str, text: &str, replace: bool) {
        self.record.borrow_mut().file(name, text, replace);
    }

    fn do_annotate(&self, json: &str) {
        self.record.borrow_mut().annotate(json);
    }
}
