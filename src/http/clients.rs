//! Each client's share: how many answers of unknown length it may have open, and how many scans of files. A client is an address;
//! of IPv6 the network of 64 bits, since that is what one machine is given.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{App, problem::Problem};

/// Clients that are remembered before those without open work are forgotten.
const REMEMBERED: usize = 1024;
/// What proxies are told, lest they gather an answer before they pass it on.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

tokio::task_local! {
    /// The share of the client whose request is being answered.
    static SHARE: Arc<Share>;
}

/// Where a request came from; put into it by its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// The shares of all clients with open work.
pub(super) struct Clients {
    streams: usize,
    scans: usize,
    shares: Mutex<HashMap<IpAddr, Arc<Share>>>,
}

struct Share {
    streams: Arc<Semaphore>,
    scans: Arc<Semaphore>,
}

/// A body that holds its client's place as long as it is open.
struct Placed {
    body: Body,
    _place: OwnedSemaphorePermit,
}

/// A client's place among its own scans; none for work that no request waits for.
pub(super) async fn scan() -> Option<OwnedSemaphorePermit> {
    let share = SHARE.try_with(Arc::clone).ok()?;
    Arc::clone(&share.scans).acquire_owned().await.ok()
}

/// Answers within the client's share.
pub(super) async fn shared(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(Peer(address)) = request.extensions().get().copied() else { return next.run(request).await };
    let share = app.clients.share(address);
    let mut response = SHARE.scope(Arc::clone(&share), next.run(request)).await;
    let streams =
        response.body().size_hint().exact().is_none() && !response.headers().contains_key(header::CONTENT_LENGTH);
    if !streams {
        return response;
    }
    let Ok(place) = Arc::clone(&share.streams).try_acquire_owned() else {
        let detail = "This client has too many streams open; others go on when some end.";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", detail);
        return problem.with(header::RETRY_AFTER, HeaderValue::from_static("5")).into_response();
    };
    response.headers_mut().insert(UNBUFFERED, HeaderValue::from_static("no"));
    response.map(|body| Body::new(Placed { body, _place: place }))
}

// === impl Clients ===

impl Clients {
    pub(super) fn new(streams: usize, scans: usize) -> Self {
        Self { streams, scans, shares: Mutex::default() }
    }

    fn share(&self, address: IpAddr) -> Arc<Share> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.len() >= REMEMBERED {
            // Open work holds a share, or a place of one.
            shares.retain(|_, share| Arc::strong_count(share) > 1 || share.is_in_use(self));
        }
        Arc::clone(
            shares
                .entry(network(address))
                .or_insert_with(|| Arc::new(Share { streams: places(self.streams), scans: places(self.scans) })),
        )
    }
}

// === impl Share ===

impl Share {
    fn is_in_use(&self, clients: &Clients) -> bool {
        self.streams.available_permits() < clients.streams || self.scans.available_permits() < clients.scans
    }
}

fn places(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)))
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

// === impl Placed ===

impl HttpBody for Placed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_network_of_64_bits() {
        let clients = Clients::new(1, 1);
        let share = |address: &str| clients.share(address.parse().unwrap());
        assert!(Arc::ptr_eq(&share("10.0.0.1"), &share("::ffff:10.0.0.1")));
        assert!(Arc::ptr_eq(&share("2001:db8::1"), &share("2001:db8::ffff:1")));
        assert!(!Arc::ptr_eq(&share("10.0.0.1"), &share("10.0.0.2")));
        assert!(!Arc::ptr_eq(&share("2001:db8::1"), &share("2001:db8:0:1::1")));
    }

    #[test]
    fn only_clients_with_open_work_are_remembered() {
        let clients = Clients::new(1, 1);
        let busy = clients.share("10.0.0.1".parse().unwrap());
        let place = Arc::clone(&busy.streams).try_acquire_owned().unwrap();
        drop(busy);
        for n in 0..3000_u32 {
            clients.share(IpAddr::V4((0x0b00_0000 + n).into()));
        }
        assert!(clients.shares.lock().unwrap().len() <= REMEMBERED + 1);
        let again = clients.share("10.0.0.1".parse().unwrap());
        assert!(Arc::clone(&again.streams).try_acquire_owned().is_err(), "its place was forgotten");
        drop(place);
        assert!(Arc::clone(&again.streams).try_acquire_owned().is_ok());
    }
}
