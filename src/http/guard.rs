//! Who may ask: the bearer token, and requests that a foreign web page makes a browser send.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header, uri::Authority};
use sha2::{Digest, Sha256};

use super::problem::Problem;
use crate::config::Secret;

/// Checks every request.
pub(super) struct Guard {
    /// Digest of the token: comparing digests takes the same time wherever they differ.
    token: Option<[u8; 32]>,
}

// === impl Guard ===

impl Guard {
    pub(super) fn new(token: Option<&Secret>) -> Self {
        Self { token: token.map(|token| digest(token.expose().as_bytes())) }
    }

    pub(super) fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Problem> {
        if !method.is_safe() && is_cross_origin(headers) {
            let detail = "Requests that a page of another origin makes are refused.";
            return Err(Problem::new(StatusCode::FORBIDDEN, "cross_origin", detail));
        }
        let Some(expected) = &self.token else { return Ok(()) };
        if matches!(path, "/health" | "/ready") {
            return Ok(());
        }
        match headers.get(header::AUTHORIZATION).and_then(bearer) {
            Some(given) if same(&digest(given), expected) => Ok(()),
            given => {
                let detail = match given {
                    Some(_) => "The token is not the service's API_TOKEN.",
                    None => "This needs `Authorization: Bearer API_TOKEN`.",
                };
                let ask = HeaderValue::from_static("Bearer realm=\"task-logger\"");
                let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
                Err(problem.with(header::WWW_AUTHENTICATE, ask))
            }
        }
    }
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

fn digest(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// Whether a browser says that another site's page asks. Other clients send neither header.
fn is_cross_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let authority = |text: &str| text.parse::<Authority>().ok();
    let origin = origin.to_str().ok().and_then(|text| text.split_once("://")).and_then(|(_, rest)| authority(rest));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).and_then(authority);
    origin.is_none() || origin != host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_token_guards_everything_but_health_and_ready() {
        let guard = Guard::new(Some(&Secret::new("s3cret")));
        let check = |path: &str, pairs: &[_]| guard.check(&Method::GET, path, &headers(pairs)).is_ok();
        assert!(check("/health", &[]) && check("/ready", &[]));
        for path in ["/", "/tasks", "/metrics", "/nothing", "/health/", "/ready/x"] {
            assert!(!check(path, &[]), "{path}");
            assert!(check(path, &[("authorization", "bearer s3cret")]), "{path}");
        }
        for wrong in ["s3cret", "Basic s3cret", "Bearer s3cre", "Bearer s3crett", "Bearer ", "Bearer"] {
            assert!(!check("/tasks", &[("authorization", wrong)]), "{wrong}");
        }
        assert!(Guard::new(None).check(&Method::GET, "/tasks", &HeaderMap::new()).is_ok());
    }

    #[test]
    fn pages_of_other_origins_cannot_post() {
        let guard = Guard::new(None);
        let check = |method: Method, pairs: &[_]| guard.check(&method, "/events", &headers(pairs)).is_ok();
        assert!(check(Method::POST, &[("host", "localhost:8090")]));
        assert!(check(Method::POST, &[("host", "localhost:8090"), ("origin", "http://localhost:8090")]));
        assert!(check(Method::POST, &[("sec-fetch-site", "same-origin"), ("origin", "http://any")]));
        assert!(!check(Method::POST, &[("host", "localhost:8090"), ("origin", "http://evil.example")]));
        assert!(!check(Method::POST, &[("host", "localhost:8090"), ("origin", "null")]));
        assert!(!check(Method::POST, &[("sec-fetch-site", "cross-site")]));
        assert!(check(Method::GET, &[("sec-fetch-site", "cross-site")]));
    }
}
