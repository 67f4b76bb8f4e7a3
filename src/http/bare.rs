//! Requests of routes that take no parameters: one that has some expects something else than it would get.

use axum::{extract::FromRequestParts, http::request::Parts};

use super::problem::Problem;

/// Takes no parameters.
pub(super) struct Bare;

impl<S: Sync> FromRequestParts<S> for Bare {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.uri.query() {
            None | Some("") => Ok(Self),
            Some(_) => Err(Problem::bad_request("bad_query", "There are no parameters.")),
        }
    }
}
