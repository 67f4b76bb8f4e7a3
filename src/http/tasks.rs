//! One task: at a glance, and its logs in one object.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{App, bare::Bare, body::Pulled, problem::Problem};
use crate::{
    event::Id,
    metrics,
    reader::{Shelf, TaskLogs},
};

const SKIPPED: HeaderName = HeaderName::from_static("x-skipped-records");

pub(super) async fn task(
    _: Bare,
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Some(id) = id.ok().and_then(|Path(id)| Id::parse(&id).ok()) else { return Err(Problem::task_not_found()) };
    let found = app.scan(move |app| Ok(app.logs.overview(&id)?)).await?;
    found.map(streamed).ok_or_else(Problem::task_not_found)
}

pub(super) async fn logs(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    // The one error that keeps the predecessor's body.
    let not_found = || (StatusCode::NOT_FOUND, Json(json!({"detail": "Task not found"}))).into_response();
    let Some(id) = id.ok().and_then(|Path(id)| Id::parse(&id).ok()) else { return Ok(not_found()) };
    let limit = app.limits.logs_body;
    let found = app
        .scan(move |app| match app.logs.folder(Shelf::Tasks, &id)? {
            Some(folder) => Ok(Some(folder.logs(limit)?)),
            None => Ok(None),
        })
        .await?;
    let Some(logs) = found else { return Ok(not_found()) };
    Ok(streamed(logs))
}

fn streamed(body: TaskLogs) -> Response {
    let mut headers = vec![
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_LENGTH, HeaderValue::from(body.len())),
    ];
    if body.skipped() > 0 {
        metrics::skipped_records(body.skipped());
        headers.push((SKIPPED, HeaderValue::from(body.skipped())));
    }
    let len = body.len();
    let mut response = Body::new(Pulled::new(body.into_reader(), len)).into_response();
    response.headers_mut().extend(headers);
    response
}
