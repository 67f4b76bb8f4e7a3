//! The body of a live range (RFC 8673): a file of records from a place on, and what is appended to it, until its task ends.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, Bytes};

use super::{
    App,
    body::{Feed, fed},
    follow::POLL,
};
use crate::{
    bell::Listener,
    event::{Id, Key},
    reader::{Growing, Grown},
};

/// Bytes of one piece.
const PIECE: usize = 128 << 10;

/// When to look again: when the applier says so, and now and then, since another process may write.
struct Growth {
    listener: Listener,
    pause: Duration,
}

/// Follows a file. The body ends when the task does; when the service stops, or the file is removed, replaced or cut, it breaks.
pub(super) fn follow(app: &Arc<App>, id: Id, growing: Growing) -> Body {
    let (feed, body) = fed();
    let growth = Growth { listener: app.bell.listen(Key::Task(id)), pause: POLL.0 };
    tokio::spawn(feed_from(Arc::clone(app), growing, growth, feed));
    body
}

async fn feed_from(app: Arc<App>, mut growing: Growing, mut growth: Growth, feed: Feed) {
    loop {
        let looked = app.blocking(move |_| {
            let grown = growing.next(PIECE);
            Ok((growing, grown?))
        });
        let Ok((same, grown)) = looked.await else { return };
        growing = same;
        let sent = async {
            match grown {
                Grown::Piece(piece) => {
                    growth.grew();
                    feed.piece(Bytes::from(piece)).await
                }
                Grown::Nothing => tokio::select! {
                    () = growth.wait() => true,
                    () = feed.gone() => false,
                },
                Grown::Ended => {
                    feed.end().await;
                    false
                }
            }
        };
        // Whatever waits here waits for the client or for the writer.
        let goes_on = tokio::select! {
            biased;
            () = app.stop.cancelled() => false,
            goes_on = sent => goes_on,
        };
        if !goes_on {
            return;
        }
    }
}

// === impl Growth ===

impl Growth {
    /// Something came: more may follow soon.
    fn grew(&mut self) {
        self.pause = POLL.0;
    }

    /// Returns when it is worth to look again.
    async fn wait(&mut self) {
        tokio::select! {
            biased;
            () = self.listener.heard() => self.pause = POLL.0,
            () = tokio::time::sleep(self.pause) => self.pause = (self.pause * 5 / 4).min(POLL.1),
        }
    }
}
