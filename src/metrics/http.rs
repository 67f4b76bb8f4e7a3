//! What is counted of HTTP. The `route` label is a route's pattern, never a path, so that its values are a closed set.

use std::time::Duration;

use ::metrics::{counter, describe_counter, describe_histogram, histogram};

use super::Unit;

/// Requests answered, by `route` and `code`, the class of the status (`2xx`).
pub const HTTP_REQUESTS: &str = "task_logger_http_requests_total";
/// Time until a request's answer began, by `route`.
pub const HTTP_SECONDS: &str = "task_logger_http_seconds";

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

pub(super) fn describe() {
    describe_counter!(HTTP_REQUESTS, Unit::Count, "HTTP requests answered, by route and class of the status");
    describe_histogram!(HTTP_SECONDS, Unit::Seconds, "Time until the answer to an HTTP request began, by route");
}

/// Counts a request: `route` is a pattern of the router or [`OTHER`](super::OTHER).
pub fn answered(route: String, status: u16, took: Duration) {
    let class = CLASSES.get(usize::from(status / 100).wrapping_sub(1)).copied().unwrap_or(super::OTHER);
    histogram!(HTTP_SECONDS, "route" => route.clone()).record(took);
    counter!(HTTP_REQUESTS, "route" => route, "code" => class).increment(1);
}
