//! A task's or flow's files: the list, and each file as it stands, in whole or a range of it, streamed.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    App,
    body::Pulled,
    problem::Problem,
    range::{Wanted, wanted},
};
use crate::{
    event::Id,
    reader::{PublicFile, Shelf},
};

/// A file is never a page of this service: whatever it holds, a browser runs nothing of it.
const INERT: &str = "default-src 'none'; sandbox";

pub(super) async fn list_of_task(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    list(&app, Shelf::Tasks, id).await
}

pub(super) async fn list_of_flow(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    list(&app, Shelf::Flows, id).await
}

pub(super) async fn of_task(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    file(&app, Shelf::Tasks, path, &headers).await
}

pub(super) async fn of_flow(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    file(&app, Shelf::Flows, path, &headers).await
}

async fn list(app: &Arc<App>, shelf: Shelf, id: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let Some(id) = id.ok().and_then(|Path(id)| Id::parse(&id).ok()) else { return Err(no_folder(shelf)) };
    let files = app
        .scan(move |app| match app.logs.folder(shelf, &id)? {
            Some(folder) => Ok(Some(folder.files()?)),
            None => Ok(None),
        })
        .await?;
    let files = files.ok_or_else(|| no_folder(shelf))?;
    Ok(([(header::CACHE_CONTROL, "no-cache")], Json(json!({"files": files}))).into_response())
}

async fn file(
    app: &Arc<App>,
    shelf: Shelf,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let Ok(Path((id, name))) = path else { return Err(no_folder(shelf)) };
    let Ok(id) = Id::parse(&id) else { return Err(no_folder(shelf)) };
    let folder = app.blocking(move |app| match app.logs.folder(shelf, &id)? {
        Some(folder) => Ok(Some(folder.open(&name)?)),
        None => Ok(None),
    });
    let file = folder.await?.ok_or_else(|| no_folder(shelf))?;
    let file = file.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "file_not_found", "There is no such file."))?;
    answer(file, headers)
}

fn answer(file: PublicFile, headers: &HeaderMap) -> Result<Response, Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let etag = file.etag();
    let len = file.len();
    let fixed = |value: &str| HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""));
    let mut meta = HeaderMap::new();
    meta.insert(header::ETAG, fixed(&etag));
    meta.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(modified) = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&file.modified()) {
        meta.insert(header::LAST_MODIFIED, fixed(&modified));
    }
    if text(header::IF_NONE_MATCH).is_some_and(|known| names(known, &etag)) {
        return Ok((StatusCode::NOT_MODIFIED, meta).into_response());
    }
    meta.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    meta.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(file.name())));
    meta.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(INERT));
    // A range of another version than the client has would not fit what it has.
    let same = text(header::IF_RANGE).is_none_or(|known| known.trim() == etag);
    let part = text(header::RANGE).filter(|_| same).map_or(Wanted::All, |range| wanted(range, len));
    let (status, start, end) = match part {
        Wanted::All => (StatusCode::OK, 0, len),
        Wanted::Part(start, end) => {
            meta.insert(header::CONTENT_RANGE, fixed(&format!("bytes {start}-{}/{len}", end - 1)));
            (StatusCode::PARTIAL_CONTENT, start, end)
        }
        Wanted::Unsatisfiable => {
            let detail = format!("The file has {len} bytes.");
            let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", detail);
            return Err(problem.with(header::CONTENT_RANGE, fixed(&format!("bytes */{len}"))));
        }
    };
    meta.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    let body = Body::new(Pulled::new(Box::new(file.section(start, end)), end - start));
    Ok((status, meta, body).into_response())
}

/// Whether an `If-None-Match` names this version.
fn names(known: &str, etag: &str) -> bool {
    known.split(',').map(str::trim).any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("json") => "application/json",
        Some("jsonl" | "ndjson") => "application/x-ndjson",
        Some("md") => "text/markdown; charset=utf-8",
        Some("csv") => "text/csv; charset=utf-8",
        Some("txt" | "log") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn no_folder(shelf: Shelf) -> Problem {
    match shelf {
        Shelf::Tasks => Problem::task_not_found(),
        Shelf::Flows => Problem::new(StatusCode::NOT_FOUND, "flow_not_found", "Webhook flow not found"),
    }
}
