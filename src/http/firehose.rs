//! `GET /tasks/events`: every task that appears, changes or goes, as server-sent events. Nothing of the past is sent and nothing
//! is resumed: who connects, or is told to by `resync`, lists the tasks and goes on from there.

use std::{io, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::State,
    response::Response,
};
use futures_util::stream;
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast},
    time::{Instant, sleep_until},
};

use super::{
    App,
    bare::Bare,
    follow::{HEARTBEAT, RETRY, place},
    problem::Problem,
    query::Format,
    records::headed,
};
use crate::reader::Change;

/// Bytes that are sent at once before more changes are looked at.
const PIECE: usize = 32 << 10;

/// One who listens.
struct Firehose {
    app: Arc<App>,
    changes: broadcast::Receiver<Change>,
    sent: Instant,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn task_events(_: Bare, State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let place = place(&app)?;
    let changes = app.index.changes();
    let firehose = Firehose { app, changes, sent: Instant::now(), greeted: false, _place: place };
    let pieces = stream::unfold(firehose, |mut firehose| async {
        let piece = firehose.next().await?;
        Some((Ok::<_, io::Error>(piece), firehose))
    });
    Ok(headed(Format::Sse, Body::from_stream(pieces)))
}

// === impl Firehose ===

impl Firehose {
    /// The next piece; `None` when it is over.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(Bytes::from_static(RETRY.as_bytes()));
        }
        let first = tokio::select! {
            biased;
            () = self.app.stop.cancelled() => return None,
            change = self.changes.recv() => match change {
                Ok(change) => Ok(change),
                Err(broadcast::error::RecvError::Lagged(_)) => Err(()),
                Err(broadcast::error::RecvError::Closed) => return None,
            },
            () = sleep_until(self.sent + HEARTBEAT) => return Some(self.given("event: ping\ndata: {}\n\n".to_owned())),
        };
        let mut piece = String::new();
        let mut next = first;
        loop {
            match next {
                Ok(change) => push(&mut piece, &change),
                Err(()) => {
                    // What it missed, and what waits behind that, is in the list that it asks for now.
                    self.changes = self.app.index.changes();
                    push(&mut piece, &Change::Everything);
                }
            }
            if piece.len() >= PIECE {
                break;
            }
            next = match self.changes.try_recv() {
                Ok(change) => Ok(change),
                Err(broadcast::error::TryRecvError::Lagged(_)) => Err(()),
                Err(_) => break,
            };
        }
        Some(self.given(piece))
    }

    fn given(&mut self, piece: String) -> Bytes {
        self.sent = Instant::now();
        piece.into()
    }
}

fn push(piece: &mut String, change: &Change) {
    #[derive(Serialize)]
    struct Removed<'i> {
        task_id: &'i str,
    }
    let (name, data) = match change {
        Change::Task(row) => ("task", serde_json::to_string(&**row)),
        Change::Removed(id) => ("removed", serde_json::to_string(&Removed { task_id: id.as_str() })),
        Change::Everything => ("resync", Ok("{}".to_owned())),
    };
    // Nothing of these can fail to be written.
    if let Ok(data) = data {
        piece.push_str(&format!("event: {name}\ndata: {data}\n\n"));
    }
}
