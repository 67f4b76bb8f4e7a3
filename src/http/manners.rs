//! What surrounds every route: request ids, the access log, foreign origins, the guard, compression, each client's share, panics,
//! and answers for what is not there.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use tower_http::{catch_panic::CatchPanicLayer, cors::CorsLayer};
use tracing::Instrument;

use super::{App, clients, encoding, problem::Problem};
use crate::metrics;

/// Longest request id that is taken over from a client, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 64;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Time for which a browser need not ask again what pages of an allowed origin may do.
const PREFLIGHT_AGE: Duration = Duration::from_secs(600);

/// Request headers that decide what an answer looks like, or whether there is one.
const VARIES: [&str; 3] = ["Accept", "Accept-Encoding", "Authorization"];

/// The name of the token that allowed a request, on its way to the access log.
#[derive(Clone)]
struct TokenName(Arc<str>);

/// Puts everything around the routes, the outermost last.
pub(super) fn around(routes: Router, app: Arc<App>) -> Router {
    let origins = cors(app.guard.origins());
    let routes = routes
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(&app), clients::shared))
        .layer(from_fn(encoding::encoded))
        .layer(from_fn_with_state(app, guarded));
    match origins {
        Some(origins) => routes.layer(origins),
        None => routes,
    }
    .layer(from_fn(accounted))
}

/// What pages of these origins may do. A preflight carries no token: it is answered before the guard.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    let given = [
        header::ACCEPT,
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_RANGE,
        header::RANGE,
        HeaderName::from_static("last-event-id"),
        REQUEST_ID,
    ];
    let shown = [
        header::ACCEPT_RANGES,
        header::CONTENT_DISPOSITION,
        header::CONTENT_RANGE,
        header::ETAG,
        header::LINK,
        header::RETRY_AFTER,
        HeaderName::from_static("x-skipped-records"),
        REQUEST_ID,
    ];
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::HEAD, Method::POST])
            .allow_headers(given)
            .expose_headers(shown)
            .max_age(PREFLIGHT_AGE)
    })
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
    match app.guard.check(request.method(), request.uri(), request.headers()) {
        Ok(token) => {
            let mut response = next.run(request).await;
            if let Some(token) = token {
                response.extensions_mut().insert(TokenName(Arc::clone(token.name())));
            }
            response
        }
        Err(problem) => problem.into_response(),
    }
}

/// Gives the request an id, counts it, and logs it: without its query, which may hold what somebody searches for, and without the
/// token, of which only the name is told.
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
        http.token = response.extensions().get::<TokenName>().map_or("", |name| &name.0),
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
    vary(headers);
    response
}

/// Adds what all answers vary by to what this one does.
fn vary(headers: &mut HeaderMap) {
    let known = headers.get_all(header::VARY).iter().filter_map(|value| value.to_str().ok());
    let known = known.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty());
    let mut names: Vec<String> = VARIES.map(str::to_owned).into();
    for name in known {
        if !names.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            names.push(name.to_owned());
        }
    }
    if let Ok(value) = HeaderValue::try_from(names.join(", ")) {
        headers.insert(header::VARY, value);
    }
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
