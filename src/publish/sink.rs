//! Where events are sent: a stream, or the HTTP of a running service. Either takes a batch as a whole.
//!
//! A batch is tried again only when it is certain that nothing of it arrived: no connection, or an answer that says so.
//! Else an event could stand in the stream twice.

use std::{
    io, mem,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tracing::warn;

use crate::{
    config::{Config, Secret},
    source::{
        Fields, SourceError, Stream,
        redis::{RedisConfig, RedisStream},
    },
};

/// How long a batch is tried while the other side cannot be reached.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// First wait between two tries; each is twice the one before, up to a bound.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long a request may take: the answer comes after a sync.
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// How much of a refusal's body is shown, in bytes.
const ANSWER_MAX: u64 = 2048;

/// Collects a batch and sends it.
pub struct Sink {
    target: Target,
    events: usize,
    bytes: usize,
    retry_max: Duration,
}

enum Target {
    Stream { stream: Arc<dyn Stream>, batch: Vec<Fields> },
    Http { agent: ureq::Agent, url: String, token: Option<Secret>, body: Vec<u8> },
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Nobody listens there, for all the time that was given.
    #[error("cannot reach {place} for {} s: is it running?", RETRY_MAX.as_secs())]
    Unreachable {
        /// Where.
        place: String,
        /// The last try's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The service asks for another token.
    #[error("{place} asks for a token: set API_TOKEN")]
    Token {
        /// Where.
        place: String,
    },
    /// The service said no.
    #[error("{place} answered {status}: {answer}")]
    Answer {
        /// Where.
        place: String,
        /// The status.
        status: u16,
        /// The body's begin.
        answer: String,
    },
    /// The connection broke while an answer was due: the batch may have been taken.
    #[error("no answer from {place}; the events may have been taken")]
    Broken {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The stream.
    #[error(transparent)]
    Stream(#[from] SourceError),
}

/// What became of one try.
enum Tried {
    Taken,
    /// Nothing arrived; worth another try.
    Again(Box<dyn std::error::Error + Send + Sync>),
    Failed(SinkError),
}

// === impl Sink ===

impl Sink {
    /// The service at `TASK_LOGGER_URL` when that is given, else Redis when `REDIS_URL` is, else the service on this machine.
    pub fn open(config: &Config) -> Result<Self, SinkError> {
        match (&config.url, RedisConfig::of(config)) {
            (None, Some(redis)) => Ok(Self::stream(Arc::new(RedisStream::new(redis)?))),
            _ => Ok(Self::http(&config.service_url(), config.api_token.clone())),
        }
    }

    /// Into a stream.
    pub fn stream(stream: Arc<dyn Stream>) -> Self {
        Self::to(Target::Stream { stream, batch: Vec::new() })
    }

    /// To the service at this URL.
    pub fn http(url: &str, token: Option<Secret>) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_MAX))
            .build()
            .new_agent();
        Self::to(Target::Http { agent, url: format!("{url}/events"), token, body: Vec::new() })
    }

    fn to(target: Target) -> Self {
        Self { target, events: 0, bytes: 0, retry_max: RETRY_MAX }
    }

    /// Gives up on an unreachable place after this time; the default is a minute.
    #[must_use]
    pub fn retry_max(self, retry_max: Duration) -> Self {
        Self { retry_max, ..self }
    }

    /// Events in the batch.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Bytes in the batch.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Adds an event, given both as its JSON text and as the fields of a stream entry.
    pub fn add(&mut self, text: String, fields: Fields) {
        self.events += 1;
        match &mut self.target {
            Target::Stream { batch, .. } => {
                self.bytes += fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
                batch.push(fields);
            }
            Target::Http { body, .. } => {
                self.bytes += text.len() + 1;
                body.extend_from_slice(text.as_bytes());
                body.push(b'\n');
            }
        }
    }

    /// Sends the batch; returns when it was taken.
    pub fn flush(&mut self) -> Result<(), SinkError> {
        if self.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let mut wait = RETRY_FIRST;
        let mut told = false;
        loop {
            match self.try_once() {
                Tried::Taken => break,
                Tried::Failed(error) => return Err(error),
                Tried::Again(source) => {
                    let place = self.place();
                    if began.elapsed() + wait > self.retry_max {
                        return Err(SinkError::Unreachable { place, source });
                    }
                    if !mem::replace(&mut told, true) {
                        warn!("cannot reach {place} ({source}); trying again for {} s", self.retry_max.as_secs());
                    }
                    thread::sleep(wait);
                    wait = (wait * 2).min(RETRY_WAIT_MAX);
                }
            }
        }
        (self.events, self.bytes) = (0, 0);
        match &mut self.target {
            Target::Stream { batch, .. } => batch.clear(),
            Target::Http { body, .. } => body.clear(),
        }
        Ok(())
    }

    fn place(&self) -> String {
        match &self.target {
            Target::Stream { stream, .. } => stream.describe(),
            Target::Http { url, .. } => url.clone(),
        }
    }

    fn try_once(&self) -> Tried {
        match &self.target {
            Target::Stream { stream, batch } => match stream.append(batch.clone()) {
                Ok(_) => Tried::Taken,
                Err(SourceError::Redis(error)) if error.is_connection_refusal() => Tried::Again(error.into()),
                Err(error) => Tried::Failed(error.into()),
            },
            Target::Http { agent, url, token, body } => {
                let mut request = agent.post(url).content_type("application/x-ndjson");
                if let Some(token) = token {
                    request = request.header("authorization", format!("Bearer {}", token.expose()));
                }
                match request.send(body.as_slice()) {
                    Ok(answer) => self.judge(answer),
                    Err(error) if never_arrived(&error) => Tried::Again(error.into()),
                    Err(error) => Tried::Failed(SinkError::Broken { place: self.place(), source: Box::new(error) }),
                }
            }
        }
    }

    fn judge(&self, mut answer: ureq::http::Response<ureq::Body>) -> Tried {
        let place = self.place();
        match answer.status().as_u16() {
            200..=299 => Tried::Taken,
            401 | 403 => Tried::Failed(SinkError::Token { place }),
            status => {
                let body = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string().unwrap_or_default();
                let problem: Value = serde_json::from_str(&body).unwrap_or_default();
                // It has too much in hand, and took nothing of this.
                if status == 429 || (status == 503 && problem["code"] == "busy") {
                    return Tried::Again(format!("it is busy ({status})").into());
                }
                let mut answer = problem["detail"].as_str().unwrap_or(body.trim()).to_owned();
                if status >= 500 {
                    answer.push_str(" The events may have been taken.");
                }
                Tried::Failed(SinkError::Answer { place, status, answer })
            }
        }
    }
}

/// Whether the request cannot have reached anybody.
fn never_arrived(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Timeout(ureq::Timeout::Connect) => {
            true
        }
        _ => false,
    }
}
