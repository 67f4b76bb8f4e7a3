//! What surrounds every route: request ids, the access log, the guard, panics, and answers for what is not there.

use std::{any::Any, sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use super::{App, problem::Problem};
use crate::metrics;

/// Longest request id that is taken over from a client, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 64;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Puts everything around the routes, the outermost last.
pub(super) fn around(routes: Router, app: Arc<App>) -> Router {
    routes.layer(CatchPanicLayer::custom(panicked)).layer(from_fn_with_state(app, guarded)).layer(from_fn(accounted))
}

/// Answers for a path that is not served.
pub(super) async fn no_such_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_such_route", "There is nothing under this path.")
}

/// Answers for a method that a path does not take; the router adds `Allow`.
pub(super) async fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "This path does not take this method; see Allow.")
}

async fn guarded(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match app.guard.check(request.method(), request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Gives the request an id, counts it, and logs it without its query.
async fn accounted(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request.headers().get(REQUEST_ID).filter(|id| is_request_id(id)).cloned();
    let id = id.unwrap_or_else(new_request_id);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    // Of level error, so that whatever is logged about a request carries its id.
    let span = tracing::error_span!("request", http.request_id = ?id);
    let mut response = next.run(request).instrument(span).await;
    tracing::debug!(
        http.method = %method,
        http.path = path,
        http.status = response.status().as_u16(),
        http.request_id = ?id,
        http.milliseconds = started.elapsed().as_millis(),
        "answered"
    );
    metrics::answered(
        route.unwrap_or_else(|| metrics::OTHER.to_owned()),
        response.status().as_u16(),
        started.elapsed(),
    );
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn is_request_id(id: &HeaderValue) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.as_bytes().iter().all(allowed)
}

fn new_request_id() -> HeaderValue {
    let text = format!("{:016x}", fastrand::u64(..));
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("0"))
}

// The panic's text may hold anything: it is neither answered nor logged here; the panic hook has named the place.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a request handler panicked");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The service could not answer.").into_response()
}
