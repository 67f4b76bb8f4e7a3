//! `GET /tasks/{id}/logs` with parameters, `/stream` and `/counts`: a task's records as a page, a body that is streamed, or
//! events that follow the task as it grows.

use std::{io, sync::Arc};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Query, State, rejection::PathRejection, rejection::QueryRejection},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::{
    App,
    follow::{Follow, POLL},
    pieces::{Piece, Reading},
    problem::Problem,
    query::{Asked, FILTERS, Format, LOGS, STREAM, refuse_format},
    tasks,
};
use crate::{
    event::{Id, Key},
    reader::{Counts, Shelf},
};

/// Records of the past that a stream begins with.
pub(super) const HISTORY: u64 = 1000;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(super) type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;
pub(super) type IdPath = Result<Path<String>, PathRejection>;

pub(super) async fn logs(
    State(app): State<Arc<App>>,
    path: IdPath,
    query: Pairs,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let pairs = pairs(query)?;
    let asked = Asked::read(&pairs, &[&FILTERS, &LOGS], Timestamp::now())?;
    let format = asked.format(&headers);
    if pairs.is_empty() && matches!(format, None | Some(Format::Json)) {
        return tasks::logs(State(app), path).await;
    }
    let id = task(path)?;
    match format.unwrap_or(Format::Json) {
        Format::Json => page(app, id, asked).await,
        _ if asked.wait.is_some() => Err(Problem::bad_request("bad_query", "`wait` asks for a page: `format=json`.")),
        Format::Sse => follow(app, id, asked, Format::Sse, &headers).await,
        format => streamed(app, id, asked, format).await,
    }
}

pub(super) async fn stream(
    State(app): State<Arc<App>>,
    path: IdPath,
    query: Pairs,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = Asked::read(&pairs(query)?, &[&FILTERS, &STREAM], Timestamp::now())?;
    let format = match asked.format(&headers) {
        Some(Format::Ndjson) => Format::Ndjson,
        // Whatever a browser accepts, this is what it gets here; another form must be asked for by name.
        _ if asked.format.is_none_or(|format| format == Format::Sse) => Format::Sse,
        _ => return Err(refuse_format()),
    };
    follow(app, task(path)?, asked, format, &headers).await
}

/// Numbers of a task's records, and of those that a filter wants.
pub(super) async fn counts(State(app): State<Arc<App>>, path: IdPath, query: Pairs) -> Result<Response, Problem> {
    let asked = Asked::read(&pairs(query)?, &[&FILTERS], Timestamp::now())?;
    let id = task(path)?;
    let counts = app.scan(move |app| {
        let folder = app.logs.folder(Shelf::Tasks, &id)?.ok_or_else(Problem::task_not_found)?;
        Ok(Counts::of(&folder, &asked.files, &asked.filter, app.limits.scan_time)?)
    });
    Ok(([(header::CACHE_CONTROL, "no-cache")], Json(counts.await?)).into_response())
}

/// A page, at once or as soon as there is something.
async fn page(app: Arc<App>, id: Id, asked: Asked) -> Result<Response, Problem> {
    let bounds = asked.page()?;
    let deadline = asked.wait.map(|wait| Instant::now() + wait);
    let mut listener = app.bell.listen(Key::Task(id.clone()));
    let (mut pause, mut asked) = (POLL.0, asked);
    loop {
        let (task, of) = (id.clone(), asked.clone());
        let found = app.scan(move |app| collect(app, &task, of, bounds)).await?;
        let waits = found.given == 0 && found.ended.is_none() && !found.more;
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match left.filter(|left| waits && !left.is_zero() && !app.stop.is_cancelled()) {
            None => return Ok(found.into_response()),
            Some(left) => {
                // What was looked at and is not wanted is not looked at again.
                asked.after = Some(found.next);
                asked.tail = None;
                tokio::select! {
                    () = app.stop.cancelled() => {}
                    () = listener.heard() => pause = POLL.0,
                    () = tokio::time::sleep(pause.min(left)) => pause = (pause * 2).min(POLL.1),
                }
            }
        }
    }
}

/// A page as it was read.
struct Found {
    records: Vec<u8>,
    given: u64,
    next: crate::reader::Cursor,
    more: bool,
    ended: Option<&'static str>,
}

fn collect(app: &App, id: &Id, asked: Asked, bounds: (u64, u64)) -> Result<Found, Problem> {
    let mut reading = Reading::begin(app, id, asked, Format::Json, bounds)?.ok_or_else(Problem::task_not_found)?;
    let mut records = Vec::new();
    let (more, ended) = loop {
        match reading.next()? {
            Piece::Some(piece) => records.extend_from_slice(&piece),
            Piece::Idle => break (false, None),
            Piece::Ended(how) => break (false, Some(how)),
            Piece::Full => break (true, None),
        }
    };
    Ok(Found { records, given: reading.given(), next: reading.cursor(), more, ended })
}

impl IntoResponse for Found {
    fn into_response(self) -> Response {
        let mut body = Vec::with_capacity(self.records.len() + 256);
        body.extend_from_slice(b"{\"records\":[");
        body.extend_from_slice(&self.records);
        let rest = json!({"next": self.next.to_string(), "more": self.more, "ended": self.ended}).to_string();
        body.extend_from_slice(b"],");
        body.extend_from_slice(rest.get(1..).unwrap_or_default().as_bytes());
        headed(Format::Json, Body::from(body))
    }
}

/// A body that is read as it is taken, up to what there is now.
async fn streamed(app: Arc<App>, id: Id, asked: Asked, format: Format) -> Result<Response, Problem> {
    let bounds = asked.bounds();
    let reading = app
        .scan(move |app| Ok(Reading::begin(app, &id, asked, format, bounds)?))
        .await?
        .ok_or_else(Problem::task_not_found)?;
    let pieces = stream::try_unfold(Some(reading), |reading| async {
        let Some(mut reading) = reading else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || (reading.next(), reading)).await.map_err(io::Error::other)?;
        match read {
            (Ok(Piece::Some(piece)), reading) => Ok(Some((Bytes::from(piece), Some(reading)))),
            (Ok(_), _) => Ok(None),
            // The connection must break: what was sent is not all.
            (Err(error), _) => Err(io::Error::other(error)),
        }
    });
    Ok(headed(format, Body::from_stream(pieces)))
}

/// History, then what comes, in one answer.
async fn follow(
    app: Arc<App>,
    id: Id,
    mut asked: Asked,
    format: Format,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    if let Some(last) = headers.get(LAST_EVENT_ID).and_then(|last| last.to_str().ok())
        && asked.after.is_none()
        && !last.is_empty()
    {
        let detail = "`Last-Event-ID` is no cursor of this service.";
        asked.after = Some(last.parse().map_err(|_| Problem::bad_request("bad_query", detail))?);
        asked.tail = None;
    }
    if asked.after.is_none() {
        asked.tail.get_or_insert(HISTORY);
    }
    let task = id.clone();
    let there = app.blocking(move |app| Ok(app.logs.folder(Shelf::Tasks, &task)?.is_some())).await?;
    if !there {
        return Err(Problem::task_not_found());
    }
    let follow = Follow::new(app, id, asked, format)?;
    let pieces = stream::unfold(follow, |mut follow| async {
        let piece = follow.next().await?;
        Some((piece, follow))
    });
    Ok(headed(format, Body::from_stream(pieces)))
}

pub(super) fn headed(format: Format, body: Body) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    // No proxy is to compress it, and gather it for that; our own compression holds nothing back.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    response
}

pub(super) fn pairs(query: Pairs) -> Result<Vec<(String, String)>, Problem> {
    let malformed = |_| Problem::bad_request("bad_query", "The query is malformed.");
    query.map(|Query(pairs)| pairs).map_err(malformed)
}

pub(super) fn task(path: IdPath) -> Result<Id, Problem> {
    path.ok().and_then(|Path(id)| Id::parse(&id).ok()).ok_or_else(Problem::task_not_found)
}
