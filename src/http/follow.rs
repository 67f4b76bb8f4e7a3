//! Following a task: what was, what comes, how it ends. Each follower holds a place and reads by itself, so a slow one costs
//! what it has not taken and nobody waits for it; a hint from the applier or its own look wakes it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Bytes,
    http::{HeaderValue, StatusCode, header},
};
use serde_json::json;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, sleep_until},
};

use super::{
    App,
    pieces::{Piece, Reading},
    problem::Problem,
    query::{Asked, Format},
};
use crate::{
    bell::Listener,
    event::{Id, Key},
    reader::ReadError,
};

/// First and longest time between two looks of its own.
pub(super) const POLL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// A sign of life, when nothing else was sent for so long.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Time that each follower adds to the pause between two looks of all: so many cost no more than so much.
const PACE: Duration = Duration::from_micros(500);
const PACE_MAX: Duration = Duration::from_secs(1);
/// When a client that was cut shall come again.
pub(super) const RETRY: &str = "retry: 1000\n\n";

/// One follower.
pub(super) struct Follow {
    app: Arc<App>,
    id: Id,
    asked: Asked,
    format: Format,
    listener: Listener,
    reading: Option<Reading>,
    state: State,
    /// When it last sent something.
    sent: Instant,
    pause: Duration,
    _place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was sent.
    New,
    Going,
    /// What was read is no more, and was said to be.
    Resync,
    Over,
}

/// A place among the followers.
struct Place {
    app: Arc<App>,
    _permit: OwnedSemaphorePermit,
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        self.app.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Follow ===

impl Follow {
    pub(super) fn new(app: Arc<App>, id: Id, asked: Asked, format: Format) -> Result<Self, Problem> {
        let permit = place(&app)?;
        app.followers.fetch_add(1, Ordering::Relaxed);
        // Before the first look: what is written after it is heard of.
        let listener = app.bell.listen(Key::Task(id.clone()));
        let place = Place { app: Arc::clone(&app), _permit: permit };
        let (sent, pause) = (Instant::now(), POLL.0);
        let state = State::New;
        Ok(Self { app, id, asked, format, listener, reading: None, state, sent, pause, _place: place })
    }

    /// The next piece; `None` when it is over.
    pub(super) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.state == State::New {
            self.state = State::Going;
            if self.format == Format::Sse {
                return Some(Ok(Bytes::from_static(RETRY.as_bytes())));
            }
        }
        while self.state != State::Over && !self.app.stop.is_cancelled() {
            match self.look().await {
                Ok(Some(Piece::Some(piece))) if piece.is_empty() => {}
                Ok(Some(Piece::Some(piece))) => return Some(Ok(self.given(piece))),
                Ok(Some(Piece::Ended(how))) => {
                    self.state = State::Over;
                    return Some(Ok(self.event("end", &json!({ "status": how }))));
                }
                Ok(Some(Piece::Idle | Piece::Full)) => {
                    if self.wait().await {
                        return Some(Ok(self.beat()));
                    }
                }
                // The task was removed.
                Ok(None) => self.state = State::Over,
                Err(ReadError::Gone) if self.state != State::Resync => {
                    // From the start, as if it had just come.
                    self.state = State::Resync;
                    self.reading = None;
                    self.asked.after = None;
                    self.asked.tail = Some(super::records::HISTORY);
                    return Some(Ok(
                        self.event("resync", &json!({"reason": "the files are not the ones that were read"}))
                    ));
                }
                Err(error) => {
                    self.state = State::Over;
                    return Some(Err(io::Error::other(error)));
                }
            }
        }
        None
    }

    async fn look(&mut self) -> Result<Option<Piece>, ReadError> {
        let (app, id, format) = (Arc::clone(&self.app), self.id.clone(), self.format);
        let (reading, asked) = (self.reading.take(), self.asked.clone());
        let read = move || {
            let reading = match reading {
                Some(reading) => Some(reading),
                None => Reading::begin(&app, &id, asked, format, (u64::MAX, u64::MAX))?,
            };
            let Some(mut reading) = reading else { return Ok((None, None)) };
            let piece = reading.next()?;
            Ok((Some(piece), Some(reading)))
        };
        let failed = |error| ReadError::Io { action: "finish", source: io::Error::other(error) };
        let (piece, reading) = tokio::task::spawn_blocking(read).await.map_err(failed)??;
        self.reading = reading;
        Ok(piece)
    }

    /// Waits for something new; `true` when it is time for a sign of life.
    async fn wait(&mut self) -> bool {
        let pace = (PACE * u32::try_from(self.app.followers.load(Ordering::Relaxed)).unwrap_or(u32::MAX)).min(PACE_MAX);
        let beat = self.sent + HEARTBEAT;
        tokio::select! {
            biased;
            () = self.app.stop.cancelled() => false,
            () = sleep_until(beat) => true,
            () = async {
                // Not at once: what comes together is read together.
                self.listener.heard().await;
                sleep(pace).await;
            } => {
                self.pause = POLL.0;
                false
            }
            // Nobody's own look comes sooner than a hint would let it.
            () = sleep(self.pause.max(pace)) => {
                self.pause = (self.pause * 5 / 4).min(POLL.1);
                false
            }
        }
    }

    fn given(&mut self, piece: Vec<u8>) -> Bytes {
        self.state = State::Going;
        self.sent = Instant::now();
        self.pause = POLL.0;
        Bytes::from(piece)
    }

    fn event(&mut self, name: &str, data: &serde_json::Value) -> Bytes {
        self.sent = Instant::now();
        match self.format {
            Format::Sse => format!("event: {name}\ndata: {data}\n\n").into(),
            _ => format!("{}\n", json!({ name: data })).into(),
        }
    }

    fn beat(&mut self) -> Bytes {
        self.event("ping", &json!({}))
    }
}

/// A place among the open streams, while there is one.
pub(super) fn place(app: &App) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        let detail = "As many streams are open as this service allows.";
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", detail);
        problem.with(header::RETRY_AFTER, HeaderValue::from_static("5"))
    })
}

/// Followers at this time.
pub(super) type Followers = AtomicUsize;
