//! Errors as `application/problem+json`: a status, a stable code, a sentence. Causes go to the log, not to the client.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::reader::ReadError;

/// One error answer.
#[derive(Debug)]
pub(super) struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    blocked: Option<serde_json::Value>,
}

// === impl Problem ===

impl Problem {
    /// `detail` is shown to the client: never a producer's text.
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts { status, code, detail: detail.into(), headers: Vec::new(), blocked: None }))
    }

    pub(super) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// Logs the cause under the code; the client sees only the code.
    pub(super) fn internal(action: &'static str, cause: &dyn std::error::Error) -> Self {
        let because = cause.source().map(ToString::to_string).unwrap_or_default();
        tracing::error!(action, error = %cause, because, "request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The service could not answer; its log says why.")
    }

    pub(super) fn task_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "task_not_found", "Task not found")
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Adds the reasons why events are not being taken in.
    pub(super) fn blocked(mut self, reasons: serde_json::Value) -> Self {
        self.0.blocked = Some(reasons);
        self
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::Io { .. } => Self::internal("read", &error),
            ReadError::Gone => Self::new(
                StatusCode::GONE,
                "cursor_gone",
                "What the cursor names is no more: the files were removed, replaced or cut. Begin anew.",
            ),
            ReadError::TooLarge { size, limit } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "logs_too_large",
                format!(
                    "The files hold {size} bytes, more than {limit}: read them one by one under /tasks/{{id}}/files."
                ),
            ),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let parts = *self.0;
        let title = parts.status.canonical_reason().unwrap_or("Error");
        let mut body = json!({
            "type": "about:blank", "title": title, "status": parts.status.as_u16(), "code": parts.code, "detail": parts.detail,
        });
        if let (Some(reasons), Some(body)) = (parts.blocked, body.as_object_mut()) {
            body.insert("blocked".to_owned(), reasons);
        }
        let json = HeaderValue::from_static("application/problem+json");
        let mut response = (parts.status, [(header::CONTENT_TYPE, json)], body.to_string()).into_response();
        for (name, value) in parts.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
