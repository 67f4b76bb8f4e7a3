//! Lists of tasks and webhook flows, and a task's logs in one object.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State, rejection::PathRejection, rejection::QueryRejection},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{App, body::Pulled, problem::Problem};
use crate::{
    event::Id,
    metrics,
    reader::{Shelf, TaskSummary},
};

/// Entries of a page without `limit`.
const PAGE: usize = 100;
/// Entries that a page may have.
const PAGE_MAX: usize = 1000;

const SKIPPED: HeaderName = HeaderName::from_static("x-skipped-records");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Paging {
    after: Option<String>,
    limit: Option<String>,
}

#[derive(Serialize)]
struct TaskPage {
    tasks: Vec<TaskSummary>,
    next: Option<String>,
}

#[derive(Serialize)]
struct FlowPage {
    webhooks: Vec<FlowSummary>,
    next: Option<String>,
}

#[derive(Serialize)]
struct FlowSummary {
    webhook_event_id: String,
    size: u64,
}

pub(super) async fn list_tasks(
    State(app): State<Arc<App>>,
    paging: Result<Query<Paging>, QueryRejection>,
) -> Result<Response, Problem> {
    let (after, limit) = checked(paging)?;
    let page = app
        .scan(move |app| {
            let page = app.logs.page(Shelf::Tasks, after.as_ref(), limit)?;
            let mut tasks = Vec::with_capacity(page.ids.len());
            for id in &page.ids {
                let folder = app.logs.folder(Shelf::Tasks, id);
                match folder.and_then(|folder| folder.map(|folder| folder.summary(id)).transpose()) {
                    Ok(Some(summary)) => tasks.push(summary),
                    // Gone since it was listed.
                    Ok(None) => {}
                    // One task that cannot be read does not hide the others.
                    Err(error) => {
                        tracing::warn!(%error, task = %id, "cannot read a task's metadata");
                        tasks.push(TaskSummary { task_id: id.as_str().to_owned(), ..TaskSummary::default() });
                    }
                }
            }
            let next = page.ids.last().filter(|_| page.more).map(|id| id.as_str().to_owned());
            Ok(TaskPage { tasks, next })
        })
        .await?;
    Ok(linked("/tasks", limit, page.next.clone(), Json(page)))
}

pub(super) async fn list_flows(
    State(app): State<Arc<App>>,
    paging: Result<Query<Paging>, QueryRejection>,
) -> Result<Response, Problem> {
    let (after, limit) = checked(paging)?;
    let page = app
        .scan(move |app| {
            let page = app.logs.page(Shelf::Flows, after.as_ref(), limit)?;
            let mut webhooks = Vec::with_capacity(page.ids.len());
            for id in &page.ids {
                if let Some(folder) = app.logs.folder(Shelf::Flows, id)? {
                    webhooks.push(FlowSummary { webhook_event_id: id.as_str().to_owned(), size: folder.size()? });
                }
            }
            let next = page.ids.last().filter(|_| page.more).map(|id| id.as_str().to_owned());
            Ok(FlowPage { webhooks, next })
        })
        .await?;
    Ok(linked("/webhooks", limit, page.next.clone(), Json(page)))
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
    let mut headers = vec![
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_LENGTH, HeaderValue::from(logs.len())),
    ];
    if logs.skipped() > 0 {
        metrics::skipped_records(logs.skipped());
        headers.push((SKIPPED, HeaderValue::from(logs.skipped())));
    }
    let len = logs.len();
    let mut response = Body::new(Pulled::new(logs.into_reader(), len)).into_response();
    response.headers_mut().extend(headers);
    Ok(response)
}

fn checked(paging: Result<Query<Paging>, QueryRejection>) -> Result<(Option<Id>, usize), Problem> {
    let refuse = |detail: String| Problem::bad_request("bad_query", detail);
    let Query(paging) =
        paging.map_err(|_| refuse("Known parameters are `after` and `limit`, each once.".to_owned()))?;
    let after = match paging.after.as_deref() {
        None | Some("") => None,
        Some(after) => Some(Id::parse(after).map_err(|why| refuse(format!("`after`: {why}.")))?),
    };
    let limit = match paging.limit.as_deref() {
        None => PAGE,
        Some(limit) => match limit.parse() {
            Ok(limit) if (1..=PAGE_MAX).contains(&limit) => limit,
            _ => return Err(refuse(format!("`limit` is a number from 1 to {PAGE_MAX}."))),
        },
    };
    Ok((after, limit))
}

/// How many a query asks for, if it may.
#[cfg(test)]
pub(crate) fn limit_of_query(uri: &axum::http::Uri) -> Option<usize> {
    checked(Query::try_from_uri(uri)).ok().map(|(_, limit)| limit)
}

fn linked(path: &str, limit: usize, next: Option<String>, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    if let Some(next) = next {
        let link = format!("<{path}?after={}&limit={limit}>; rel=\"next\"", in_query(&next));
        if let Ok(link) = HeaderValue::try_from(link) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    response
}

/// Percent-encoded for a query's value.
fn in_query(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().fold(String::new(), |mut out, byte| {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}
