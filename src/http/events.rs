//! `POST /events`: one event, an array, or NDJSON, appended to the stream in one call.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderValue, StatusCode, header},
};
use serde_json::{Value, json};

use super::{App, body::Received, problem::Problem};
use crate::{
    ingest::{self, IngestError},
    source::SourceError,
};

/// Appends all events of the body, or none when one of them has no event's shape. After a 503 it is not known whether they
/// were appended.
pub(super) async fn append(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, Problem> {
    let received = Received::from(body, &app.limits, &app.body_bytes).await?;
    let appended = app.blocking(move |app| {
        let events = match ingest::events(&received.bytes, app.limits.events) {
            Ok(events) => events,
            Err(error) => return Ok(Err(shape(error))),
        };
        if events.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        // `received` lives until the stream has taken the events: its bytes count as in flight so long.
        let ids = app.stream.append(events).map_err(refused);
        drop(received);
        Ok(ids)
    });
    let ids: Vec<String> = appended.await??.iter().map(ToString::to_string).collect();
    Ok(Json(json!({"ids": ids})))
}

fn shape(error: IngestError) -> Problem {
    let detail = format!("{error}; nothing was appended.");
    match error {
        IngestError::TooMany { .. } => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_events", detail),
        IngestError::NotJson { .. } => Problem::bad_request("not_json", detail),
        IngestError::NotAnObject { .. } => Problem::bad_request("not_an_object", detail),
        IngestError::Empty => Problem::bad_request("no_event", detail),
    }
}

fn refused(error: SourceError) -> Problem {
    match error {
        SourceError::TooLarge { size, limit } => {
            let detail = format!("An event has {size} bytes, more than {limit}; nothing was appended.");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "event_too_large", detail)
        }
        other => {
            let because = std::error::Error::source(&other).map(ToString::to_string);
            tracing::warn!(error = %other, because, "cannot append events");
            let detail = "The stream does not take events at the moment.";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stream_unavailable", detail);
            problem.with(header::RETRY_AFTER, HeaderValue::from_static("1"))
        }
    }
}
