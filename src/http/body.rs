//! Bodies in pieces: answers read from blocking readers as the client takes them, requests received within limits.

use std::{
    io::{self, Read},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    http::StatusCode,
};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use super::{Limits, problem::Problem};

/// Bytes of one piece of an answer.
const PIECE: usize = 128 << 10;

type Source = Box<dyn Read + Send>;

/// A body of known length, read a piece at a time: a client that does not take it holds a piece and no thread.
pub(super) struct Pulled {
    state: State,
    left: u64,
}

enum State {
    Ready(Source),
    Reading(JoinHandle<(Source, io::Result<Vec<u8>>)>),
    Ended,
}

/// A body of unknown length that is fed from elsewhere, a piece ahead. It ends only when its feed says so: a feed that is dropped
/// breaks the connection, so that a client never takes a part for the whole.
struct Fed {
    pieces: mpsc::Receiver<Option<Bytes>>,
    ended: bool,
}

/// Where a [`fed`] body comes from.
pub(super) struct Feed(mpsc::Sender<Option<Bytes>>);

/// A received request body, and its share of the bytes that may be in flight.
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    share: Option<OwnedSemaphorePermit>,
}

// === impl Pulled ===

impl Pulled {
    pub(super) fn new(source: Source, len: u64) -> Self {
        Self { state: State::Ready(source), left: len }
    }
}

impl http_body::Body for Pulled {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ready(_) | State::Ended if self.left == 0 => return Poll::Ready(None),
                State::Ended => return Poll::Ready(None),
                State::Ready(source) => {
                    let want = usize::try_from(self.left).map_or(PIECE, |left| left.min(PIECE));
                    self.state = State::Reading(tokio::task::spawn_blocking(move || read_piece(source, want)));
                }
                State::Reading(mut reading) => {
                    let Poll::Ready(read) = Pin::new(&mut reading).poll(cx) else {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    };
                    let (source, piece) = read.map_err(io::Error::other)?;
                    let piece = piece?;
                    if piece.is_empty() {
                        // The announced length cannot be met: the connection must break, not the file look complete.
                        return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
                    }
                    self.left = self.left.saturating_sub(piece.len() as u64);
                    self.state = State::Ready(source);
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from(piece)))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

fn read_piece(mut source: Source, want: usize) -> (Source, io::Result<Vec<u8>>) {
    let mut piece = Vec::with_capacity(want);
    let read = (&mut source).take(want as u64).read_to_end(&mut piece);
    (source, read.map(|_| piece))
}

// === impl Fed ===

/// A body and what feeds it.
pub(super) fn fed() -> (Feed, Body) {
    let (feed, pieces) = mpsc::channel(1);
    (Feed(feed), Body::new(Fed { pieces, ended: false }))
}

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = std::task::ready!(self.pieces.poll_recv(cx));
        self.ended = !matches!(piece, Some(Some(_)));
        Poll::Ready(match piece {
            Some(Some(piece)) => Some(Ok(Frame::data(piece))),
            Some(None) => None,
            None => Some(Err(io::ErrorKind::UnexpectedEof.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

// === impl Feed ===

impl Feed {
    /// Gives a piece as soon as there is room for it; `false`: the client is gone.
    pub(super) async fn piece(&self, piece: Bytes) -> bool {
        self.0.send(Some(piece)).await.is_ok()
    }

    /// Says that there is no more.
    pub(super) async fn end(&self) {
        // Nobody waits for the end when the client is gone.
        drop(self.0.send(None).await);
    }

    /// Whether the client is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.0.is_closed()
    }

    /// Returns when the client is gone.
    pub(super) async fn gone(&self) {
        self.0.closed().await;
    }
}

// === impl Received ===

impl Received {
    /// Receives a body of `POST /events`.
    pub(super) async fn from(mut body: Body, limits: &Limits, all: &Arc<Semaphore>) -> Result<Self, Problem> {
        let limit = limits.events_body;
        if http_body::Body::size_hint(&body).lower() > limit as u64 {
            return Err(too_large(limit));
        }
        let deadline = Instant::now() + limits.body_time;
        let mut received = Self { bytes: Vec::new(), share: None };
        loop {
            let frame = timeout_at(deadline, timeout(limits.body_idle, body.frame()));
            let frame = match frame.await {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => return Ok(received),
                Ok(Err(_)) | Err(_) => {
                    let detail = "The body did not arrive in time.";
                    return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", detail));
                }
            };
            let frame = frame.map_err(|_| Problem::bad_request("broken_body", "The body ended early."))?;
            let Ok(data) = frame.into_data() else { continue };
            if received.bytes.len() + data.len() > limit {
                return Err(too_large(limit));
            }
            received.grow(&data, all)?;
        }
    }

    fn grow(&mut self, data: &[u8], all: &Arc<Semaphore>) -> Result<(), Problem> {
        let want = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(all).try_acquire_many_owned(want) else {
            let detail = "Too many bytes of events are being received at the moment.";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail);
            return Err(problem.with(axum::http::header::RETRY_AFTER, axum::http::HeaderValue::from_static("1")));
        };
        match &mut self.share {
            Some(share) => share.merge(more),
            None => self.share = Some(more),
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", format!("A body may hold {limit} bytes."))
}
