//! What operators and their tools ask: health, readiness, metrics, plugins.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State, rejection::PathRejection, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{App, bare::Bare, problem::Problem};
use crate::metrics::{self, Disk};

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadyQuery {
    write: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricsQuery {
    format: Option<String>,
}

pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    let stalled = app.status.stalled(app.limits.standstill);
    let role = app.status.role.load();
    let (code, status) = match stalled.is_empty() {
        true => (StatusCode::OK, "healthy"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
    };
    let heartbeats: Map<String, Value> = app
        .status
        .heartbeats()
        .into_iter()
        .map(|(name, silent)| (name, silent.map_or(json!("idle"), |silent| json!(seconds(silent)))))
        .collect();
    let body = json!({
        "status": status,
        "service": "task-logger",
        "version": env!("CARGO_PKG_VERSION"),
        "role": role.role,
        "epoch": role.epoch,
        "stream": role.stream,
        "uptime_seconds": seconds(app.status.uptime()),
        "heartbeats": heartbeats,
        "stalled": stalled.into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "blocked": app.status.blocked(),
        "notices": app.status.notices(),
    });
    (code, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

pub(super) async fn ready(
    State(app): State<Arc<App>>,
    query: Result<Query<ReadyQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let unknown = || Problem::bad_request("bad_query", "The only parameter is `write`.");
    let Query(query) = query.map_err(|_| unknown())?;
    let write = match query.write.as_deref() {
        None | Some("0" | "false") => false,
        Some("" | "1" | "true") => true,
        Some(_) => return Err(unknown()),
    };
    if write {
        let blocked = app.status.blocked();
        if !blocked.is_empty() {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "blocked", "Events are not being taken in.");
            return Err(problem.blocked(json!(blocked)));
        }
    }
    let read = app.blocking(|app| Ok(app.logs.check())).await?;
    if let Err(error) = read {
        let because = std::error::Error::source(&error).map(ToString::to_string);
        tracing::debug!(%error, because, "logs cannot be read");
        let detail = "LOGS_DIR cannot be read.";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "logs_unreadable", detail));
    }
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(json!({"status": "ready"}))).into_response())
}

pub(super) async fn metrics(
    State(app): State<Arc<App>>,
    query: Result<Query<MetricsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let unknown = || Problem::bad_request("bad_query", "The only parameter is `format`: `json` or `prometheus`.");
    let Query(query) = query.map_err(|_| unknown())?;
    let prometheus = match query.format.as_deref() {
        None => asks_for_text(&headers),
        Some("json") => false,
        Some("prometheus") => true,
        Some(_) => return Err(unknown()),
    };
    app.scan(move |app| {
        // Metrics are most wanted when something is broken: what cannot be counted is left out.
        let tasks = app.logs.count_tasks().inspect_err(|error| tracing::warn!(%error, "cannot count tasks")).ok();
        let disk = Disk::of(&app.logs_dir).ok();
        metrics::refresh(&app.status, disk, tasks);
        let varies = (header::VARY, HeaderValue::from_static("Accept"));
        if prometheus {
            let kind = (header::CONTENT_TYPE, HeaderValue::from_static(PROMETHEUS));
            return Ok(([kind, varies], app.metrics.render()).into_response());
        }
        Ok(([varies], Json(overview(app, tasks, disk))).into_response())
    })
    .await
}

pub(super) async fn plugins(State(app): State<Arc<App>>, _: Bare) -> Result<Response, Problem> {
    let report = app.blocking(|app| Ok(app.plugins.report())).await?;
    Ok(Json(report).into_response())
}

pub(super) async fn forget_plugin(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let no_such = || Problem::new(StatusCode::NOT_FOUND, "no_such_plugin", "No plugin of this name is required.");
    let Path(name) = name.map_err(|_| no_such())?;
    match app.blocking(move |app| Ok(app.plugins.forget(&name))).await? {
        Ok(true) => Ok(Json(json!({"forgotten": true})).into_response()),
        Ok(false) => Err(no_such()),
        Err(why) => Err(Problem::new(StatusCode::CONFLICT, "not_forgotten", why)),
    }
}

/// The JSON form: the predecessor's three keys first.
fn overview(app: &App, tasks: Option<u64>, disk: Option<Disk>) -> Value {
    let backlog = app.status.backlog.load();
    let role = app.status.role.load();
    let values = app.metrics.values();
    let total = |name: &str| count(values.get(name).copied().unwrap_or(0.0));
    let by_label = |name: &str, label: &str| -> Map<String, Value> {
        let start = format!("{name}{{{label}=\"");
        let labelled = values.iter().filter_map(|(series, value)| {
            let label = series.strip_prefix(&start)?.strip_suffix("\"}")?;
            Some((label.to_owned(), json!(count(*value))))
        });
        labelled.collect()
    };
    let dead = by_label(metrics::EVENTS_DEAD, "reason");
    json!({
        "queue_depth": backlog.depth,
        "queue_lag": backlog.lag,
        "tasks_processed": tasks,
        "lag_seconds": if backlog.lag_seconds.is_finite() { backlog.lag_seconds } else { 0.0 },
        "events": {
            "read": by_label(metrics::EVENTS, "kind"),
            "written": total(metrics::EVENTS_WRITTEN),
            "dropped": total(metrics::EVENTS_DROPPED),
            "failed": dead.values().filter_map(Value::as_u64).sum::<u64>(),
            "dead": dead,
            "lost": total(metrics::EVENTS_LOST),
            "duplicate": total(metrics::EVENTS_DUPLICATE),
            "held": total(metrics::HELD_EVENTS),
        },
        "files_created": total(metrics::FILES_CREATED),
        "disk": disk.map(|disk| json!({
            "used_bytes": disk.used, "total_bytes": disk.total, "free_bytes": disk.free,
        })),
        "published": backlog.low.to_string(),
        "role": role.role,
        "epoch": role.epoch,
        "uptime_seconds": seconds(app.status.uptime()),
    })
}

/// Whether the client names a text format; a browser's or curl's `*/*` does not.
fn asks_for_text(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges = accepted.flat_map(|value| value.split(',')).filter_map(|range| range.split(';').next());
    let first = ranges.find(|range| {
        let range = range.trim();
        range.eq_ignore_ascii_case("application/json")
            || range.eq_ignore_ascii_case("text/plain")
            || range.eq_ignore_ascii_case("application/openmetrics-text")
    });
    first.is_some_and(|range| !range.trim().eq_ignore_ascii_case("application/json"))
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are whole and not negative")]
fn count(value: f64) -> u64 {
    value as u64
}
