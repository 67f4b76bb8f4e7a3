//! Sends events: lines of a file or of standard input, into the stream or to the running service.
//!
//! A line is sent as soon as no further one is waiting, so a pipe is live and a file goes in large batches; at most one batch
//! is in memory, and the next is read only when it was taken.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use serde_json::Value;

use crate::{
    cli::Publish,
    config::Config,
    ingest::{self, IngestError},
    shutdown::Signals,
    source::Fields,
};

pub(crate) mod lines;
mod sink;
pub mod stream_json;

pub use sink::{Sink, SinkError};

use lines::{Lines, Next};
use stream_json::Translator;

/// Most events of a batch.
const BATCH_EVENTS_MAX: usize = 500;
/// A batch is sent when its events reach this size, in bytes.
const BATCH_BYTES: usize = 1 << 20;
/// Longest line taken, as a multiple of `MAX_EVENT`: JSON can need six bytes for one.
const LINE_FACTOR: usize = 6;
/// Refused lines that are told one by one.
const TOLD_MAX: u64 = 20;
/// Status when lines were refused.
const BAD_INPUT: u8 = 64;

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines read.
    pub lines: u64,
    /// Events that the other side took.
    pub events: u64,
    /// Lines that are no event, or too large for one.
    pub refused: u64,
}

/// Why not everything was sent.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The input's file.
    #[error("cannot open {path}")]
    Open {
        /// Its name.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The input broke off.
    #[error("cannot read line {line}")]
    Read {
        /// Its number.
        line: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The other side did not take a batch.
    #[error("{taken} events were taken; those of the lines {from} to {to} were not")]
    Sink {
        /// Events taken before.
        taken: u64,
        /// First line with an event in the batch.
        from: u64,
        /// Last one.
        to: u64,
        /// Why.
        #[source]
        source: SinkError,
    },
    /// The place to send to cannot be used.
    #[error("cannot publish")]
    Connect(#[source] SinkError),
    /// Signals could not be taken over.
    #[error("cannot take signals over")]
    Signals(#[source] io::Error),
}

/// The command: opens both ends, sends, sums up on standard error.
pub fn run(config: &Config, what: &Publish) -> Result<ExitCode, PublishError> {
    let started = Instant::now();
    let sink = Sink::open(config).map_err(PublishError::Connect)?;
    let input: Box<dyn Read + Send> = match &what.file {
        Some(path) => Box::new(File::open(path).map_err(|source| PublishError::Open { path: path.clone(), source })?),
        None => Box::new(io::stdin()),
    };
    // Ctrl-C reaches the producer in the pipe, too. Its end of input still has to be published; a second one ends us.
    let _signals = what.stream_json.is_some().then(Signals::install).transpose().map_err(PublishError::Signals)?;
    let translator = what.stream_json.as_ref().map(|task| Translator::new(task, what.announce));
    // The first thread is the one that signals interrupt, and a socket with a timeout then fails: nothing is sent from there.
    let sending = || send(input, translator, sink, config.event_max, &mut io::stderr());
    let sent = std::thread::scope(|scope| scope.spawn(sending).join());
    let summary = sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let seconds = started.elapsed().as_secs_f64();
    let Summary { lines, events, refused } = summary;
    say(
        &mut io::stderr(),
        &format!(
            "published {events} event{} from {lines} line{} ({refused} refused) in {seconds:.1} s",
            if events == 1 { "" } else { "s" },
            if lines == 1 { "" } else { "s" }
        ),
    );
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) })
}

/// Sends an input's events, each as soon as nothing more is waiting. Without a translator a line is an event. Refused lines
/// are told on `told` by their number; their text is not.
pub fn send(
    input: impl Read,
    mut translator: Option<Translator>,
    sink: Sink,
    event_max: usize,
    told: &mut dyn io::Write,
) -> Result<Summary, PublishError> {
    let mut lines = Lines::new(input, event_max.saturating_mul(LINE_FACTOR));
    let mut sending = Sending { sink, event_max, summary: Summary::default(), from: 0, to: 0, told };
    let (mut line, mut events) = (Vec::new(), Vec::new());
    loop {
        let next = lines.next(&mut line);
        let number = lines.number();
        sending.summary.lines = number;
        match (&next, &mut translator) {
            (Ok(Next::Line), Some(translator)) => translator.line(&line, &mut events),
            (Ok(Next::Line), None) if line.trim_ascii().is_empty() => {}
            (Ok(Next::Line), None) => match std::str::from_utf8(&line) {
                Ok(text) => sending.add(text.to_owned(), number, None)?,
                Err(_) => sending.refuse(number, "not UTF-8"),
            },
            (Ok(Next::TooLong), translator) => {
                sending.refuse(number, "too long");
                if let Some(translator) = translator {
                    translator.too_large(number, &mut events);
                }
            }
            (Ok(Next::End) | Err(_), translator) => {
                if let Some(translator) = translator {
                    translator.end(&mut events);
                }
            }
        }
        for event in events.drain(..) {
            sending.add(Value::Object(event).to_string(), number, translator.as_mut())?;
        }
        let done = !matches!(next, Ok(Next::Line | Next::TooLong));
        if done || !lines.has_next() {
            sending.flush()?;
        }
        if done {
            next.map_err(|source| PublishError::Read { line: number + 1, source })?;
            return Ok(sending.summary);
        }
    }
}

/// A batch in the making.
struct Sending<'a> {
    sink: Sink,
    event_max: usize,
    summary: Summary,
    from: u64,
    to: u64,
    told: &'a mut dyn io::Write,
}

impl Sending<'_> {
    fn add(&mut self, event: String, number: u64, translator: Option<&mut Translator>) -> Result<(), PublishError> {
        match self.fields(&event) {
            Ok(fields) => {
                if self.sink.is_empty() {
                    self.from = number;
                }
                self.to = number;
                self.sink.add(event, fields);
            }
            Err(reason) => {
                self.refuse(number, &reason);
                // A marker stands in its place; it is small.
                if let Some(translator) = translator {
                    let mut marker = Vec::new();
                    translator.too_large(number, &mut marker);
                    for event in marker {
                        self.add(Value::Object(event).to_string(), number, None)?;
                    }
                }
            }
        }
        if self.sink.events() >= BATCH_EVENTS_MAX || self.sink.bytes() >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn fields(&self, event: &str) -> Result<Fields, String> {
        let fields = ingest::fields_of_text(event).map_err(|error| match error {
            IngestError::NotJson { .. } => "not valid JSON",
            _ => "not a JSON object with fields",
        })?;
        let size: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        match size > self.event_max {
            true => Err(format!("{size} bytes, larger than MAX_EVENT ({})", self.event_max)),
            false => Ok(fields),
        }
    }

    fn refuse(&mut self, number: u64, reason: &str) {
        self.summary.refused += 1;
        if self.summary.refused <= TOLD_MAX {
            say(self.told, &format!("line {number} was not published: {reason}"));
        }
    }

    fn flush(&mut self) -> Result<(), PublishError> {
        let events = self.sink.events();
        let (from, to, taken) = (self.from, self.to, self.summary.events);
        self.sink.flush().map_err(|source| PublishError::Sink { taken, from, to, source })?;
        self.summary.events += u64::try_from(events).unwrap_or(u64::MAX);
        Ok(())
    }
}

/// Says something on standard error; when that is gone nobody is left to tell.
fn say(told: &mut dyn io::Write, text: &str) {
    drop(writeln!(told, "{text}"));
}

#[cfg(test)]
mod tests;
