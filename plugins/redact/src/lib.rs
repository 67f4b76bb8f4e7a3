//! `redact`: takes secrets out of events before anything else sees them. [`plugin`] makes a plugin of [`Redactor`]. An
//! event goes down these files: [`json`] finds an output's text, [`event`] looks at each string, [`scan`] finds in
//! a text what [`tokens`], [`names`] with [`assign`], [`url`], [`block`] and [`command`] know, [`value`] tells secrets from
//! placeholders, [`stream`] joins what the agent said in pieces, and [`left`] keeps what a piece that went out tells of the next.
//!
//! The rules are no regular expressions: each is a literal, which [`finder`] finds, and a run of byte classes after it. That
//! is linear too, and it knows when a text ends in the middle of a secret, which `hold` needs.

mod assign;
mod block;
mod command;
mod config;
mod event;
mod finder;
mod json;
mod left;
mod names;
mod plugin;
mod scan;
mod stream;
mod tokens;
mod url;
mod value;

pub use config::{Config, ConfigError, ENTRIES_MAX, VALUE_BYTES_MIN};

use task_logger_plugin::{
    Failure,
    json::{NotJson, decode},
};

use event::Counts;
use scan::Scanner;
use stream::{Carry, Decided, Stream};

/// Every kind that stands in `[REDACTED:kind]`; also the counters and the names of the rules.
pub static CODES: std::sync::LazyLock<Vec<&'static str>> = std::sync::LazyLock::new(|| {
    let others = [
        "password",
        "secret",
        "token",
        "api_key",
        "azure_storage_key",
        "private_key",
        "cookie",
        "url_password",
        "key",
        "value",
    ];
    let mut codes: Vec<&str> = tokens::TOKENS.iter().map(|token| token.code).chain(others).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
});

/// The rules of one configuration, compiled. Keeps nothing of any task.
#[derive(Debug)]
pub struct Redactor {
    scanner: Scanner,
}

/// What a redactor sees of an event.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// `task:output`, ...
    pub kind: &'a str,
    /// JSON text of an object.
    pub data: &'a str,
}

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it is, byte for byte.
    Pass,
    /// This data instead.
    Replace(String),
    /// Undecided, with all after it.
    Hold,
    /// Its data is not JSON, so nothing can be said of it.
    NotJson,
}

/// What a call decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// One for each event.
    pub verdicts: Vec<Verdict>,
    /// The task's new state, when it changed.
    pub state: Option<String>,
    /// Secrets found, by kind, of the events that were decided.
    pub counts: Vec<(&'static str, u32)>,
}

/// Where an event's text is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Nowhere: it has no literal of any rule.
    Clean,
    /// Event by event.
    Alone,
    /// With the texts before and after it.
    Streamed,
}

// === impl Redactor ===

impl Redactor {
    /// Compiles the rules; `config` is the sidecar's `[config]` as JSON, `{}` for the defaults.
    pub fn new(config: &str) -> Result<Self, Failure> {
        Ok(Self::compile(task_logger_plugin::config::read(config)?)?)
    }

    /// The same from the configuration itself.
    pub fn compile(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { scanner: Scanner::new(config::Checked::new(config)?)? })
    }

    /// Decides a task's next events. With `flush` nothing is held.
    pub fn process(&self, state: &str, events: &[Event<'_>], flush: bool) -> Outcome {
        let mut stream =
            Stream::new(&self.scanner, if state.is_empty() { Carry::default() } else { Carry::parse(state) });
        let mut verdicts = vec![Verdict::Pass; events.len()];
        let mut counts: Vec<(usize, &'static str)> = Vec::new();
        let mut decided = Vec::new();
        for (index, event) in events.iter().enumerate() {
            let way = if event.kind == stream::KIND {
                self.push(&mut stream, index, event.data, &mut decided)
            } else {
                Way::Alone
            };
            for decided in decided.drain(..) {
                let data = events[decided.event].data;
                verdicts[decided.event] = self.settled(data, &decided, &mut counts);
            }
            if way == Way::Alone {
                verdicts[index] = self.alone(event, index, &mut counts);
            }
        }
        if flush {
            stream.flush(&mut decided);
            for decided in decided.drain(..) {
                let data = events[decided.event].data;
                verdicts[decided.event] = self.settled(data, &decided, &mut counts);
            }
        }
        let held = stream.held().unwrap_or(events.len());
        verdicts[held..].fill(Verdict::Hold);
        let next = stream.into_carry().state();
        Outcome { verdicts, state: (next != state).then_some(next), counts: totals(&counts, held) }
    }

    /// Gives an output's text to the stream, unless it is plainly clean or has nothing to do with it.
    fn push(&self, stream: &mut Stream<'_>, index: usize, data: &str, decided: &mut Vec<Decided>) -> Way {
        let Some(raw) = json::content(data).ok().flatten().and_then(|range| data.get(range)) else { return Way::Alone };
        if stream.is_idle() {
            let open = self.scanner.ends_open(end(raw.as_bytes(), ENDING));
            if !open && stream.is_apart(raw) && !self.scanner.plausible(data.as_bytes(), true) {
                return if stream.pass(raw).is_ok() { Way::Clean } else { Way::Alone };
            }
            if event::is_whole_document(raw).unwrap_or(false) {
                // What it leaves counts, if it is text at all.
                stream.pass(raw).ok();
                return Way::Alone;
            }
        }
        match decode(raw) {
            // Where nothing is said, nothing changes, least of all what is open.
            Ok(text) if text.is_empty() => Way::Alone,
            Ok(text) => {
                stream.push(index, text.into_owned(), decided);
                Way::Streamed
            }
            Err(NotJson) => Way::Alone,
        }
    }

    /// An output whose text the stream decided: its other strings are looked at, too.
    fn settled(&self, data: &str, decided: &Decided, counts: &mut Vec<(usize, &'static str)>) -> Verdict {
        counts.extend(decided.counts.iter().map(|code| (decided.event, *code)));
        let Ok(Some(range)) = json::content(data) else { return Verdict::NotJson };
        self.rewritten(data, Some((range, decided.text.as_deref())), decided.event, counts)
    }

    fn alone(&self, event: &Event<'_>, index: usize, counts: &mut Vec<(usize, &'static str)>) -> Verdict {
        if !self.scanner.plausible(event.data.as_bytes(), false) {
            return Verdict::Pass;
        }
        self.rewritten(event.data, None, index, counts)
    }

    fn rewritten(
        &self,
        data: &str,
        skip: Option<(std::ops::Range<usize>, Option<&str>)>,
        index: usize,
        counts: &mut Vec<(usize, &'static str)>,
    ) -> Verdict {
        let mut found = Counts::new();
        let verdict = match event::rewrite(&self.scanner, data, skip, 0, &mut found) {
            Ok(Some(new)) => Verdict::Replace(new),
            Ok(None) => Verdict::Pass,
            Err(NotJson) => Verdict::NotJson,
        };
        counts.extend(found.into_iter().map(|code| (index, code)));
        verdict
    }
}

/// How much of a text's end tells whether something is open there, undecoded.
const ENDING: usize = 96;

/// The last bytes of a text.
fn end(raw: &[u8], length: usize) -> &[u8] {
    &raw[raw.len().saturating_sub(length)..]
}

fn totals(counts: &[(usize, &'static str)], held: usize) -> Vec<(&'static str, u32)> {
    let mut totals: Vec<(&'static str, u32)> = Vec::new();
    for (_, code) in counts.iter().filter(|(index, _)| *index < held) {
        match totals.iter_mut().find(|(known, _)| known == code) {
            Some((_, total)) => *total += 1,
            None => totals.push((code, 1)),
        }
    }
    totals
}

#[cfg(test)]
mod tests;
