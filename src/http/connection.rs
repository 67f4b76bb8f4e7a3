//! Connections: accepted up to a bound, cut when their client stands still, finished within a bound when the service stops.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, Sleep, interval, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{HttpParts, Limits, clients::Peer, router};
use crate::{metrics::Recorder, status::Status, tokens::Tokens};

/// Pause after an accept that failed for want of something (descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two upkeeps of the metrics.
const UPKEEP: Duration = Duration::from_secs(5);
/// Silence after which a client is asked whether it is there, the time between two such questions, and how many get no answer.
const PROBE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
const PROBES: u32 = 3;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Serves until `stop`, then lets open requests finish within [`Limits::drain`] and closes.
pub async fn serve(listener: TcpListener, parts: HttpParts, stop: CancellationToken) -> io::Result<()> {
    let limits = parts.limits;
    let mut tasks = JoinSet::new();
    let (tokens, status) = (Arc::clone(&parts.access.tokens), Arc::clone(&parts.status));
    tasks.spawn(keep_up(parts.metrics.clone(), tokens, status, stop.clone()));
    let service = router(parts, stop.clone());
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        while tasks.try_join_next().is_some() {}
        let place = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place.map_err(io::Error::other)?,
        };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let peer = Peer(peer.ip());
                let connection = connection(stream, peer, service.clone(), limits, stop.clone());
                tasks.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    () = sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    drop(listener);
    let drained = timeout(limits.drain, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(connections = tasks.len(), "requests did not finish in time");
        tasks.shutdown().await;
    }
    Ok(())
}

async fn connection(stream: TcpStream, peer: Peer, service: Router, limits: Limits, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true).and_then(|()| probe(&stream)) {
        tracing::debug!(%error, "cannot set the options of a connection");
    }
    let stream = TokioIo::new(Unstuck { stream, limit: limits.write_stall, stalled: None });
    let asked = Arc::new(AtomicBool::new(false));
    let service = TowerToHyperService::new(service);
    let service = service_fn({
        let asked = Arc::clone(&asked);
        move |mut request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(peer);
            service.call(request)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(stream, service);
    tokio::pin!(connection);
    let mut stopping = false;
    let served = loop {
        tokio::select! {
            served = connection.as_mut() => break served,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                // hyper would wait for the first request of a connection that has made none.
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended early");
    }
}

/// Lets the kernel ask a silent client whether it is there: one that waits for logs sends nothing itself.
fn probe(stream: &TcpStream) -> io::Result<()> {
    let probe = TcpKeepalive::new().with_time(PROBE.0).with_interval(PROBE.1).with_retries(PROBES);
    SockRef::from(stream).set_tcp_keepalive(&probe)
}

/// What has to be done now and then.
async fn keep_up(metrics: Recorder, tokens: Arc<Tokens>, status: Arc<Status>, stop: CancellationToken) {
    let mut tick = interval(UPKEEP);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = tick.tick() => metrics.upkeep(),
        }
        let tokens = Arc::clone(&tokens);
        match tokio::task::spawn_blocking(move || tokens.refresh()).await {
            Ok(Ok(true)) => {
                tracing::info!("API_TOKENS_FILE was read again");
                status.set_notice("tokens", None);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "API_TOKENS_FILE cannot be used: its last good state holds");
                status.set_notice("tokens", Some(format!("API_TOKENS_FILE {error}: its last good state holds")));
            }
            Ok(Ok(false)) | Err(_) => {}
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// A connection that fails when its client takes nothing of an answer for too long.
struct Unstuck {
    stream: TcpStream,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

// === impl Unstuck ===

impl Unstuck {
    fn watch<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Unstuck {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Unstuck {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, from);
        self.watch(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, from);
        self.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
