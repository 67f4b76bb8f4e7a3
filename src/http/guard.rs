//! Who may ask: hosts that a foreign page cannot have made up, pages of other origins, and tokens with their scopes.

use std::{net::IpAddr, sync::Arc};

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, uri::Authority};

use super::problem::Problem;
use crate::tokens::{Scope, Token, Tokens};

/// What is answered without a token: what probes ask, and what the service is.
const OPEN: [&str; 4] = ["/health", "/ready", "/openapi.json", "/docs"];

/// Whom HTTP serves.
#[derive(Clone, Debug)]
pub struct Access {
    /// Whose tokens are asked for, by everything but [`OPEN`] and the page's own files.
    pub tokens: Arc<Tokens>,
    /// Names in `Host` under which the service may be asked, besides addresses and `localhost`; `None`: any.
    pub hosts: Option<Vec<String>>,
    /// Origins whose pages may read and post: `https://logs.example`.
    pub origins: Vec<String>,
}

/// Checks every request.
pub(super) struct Guard(Access);

// === impl Guard ===

impl Guard {
    pub(super) fn new(access: Access) -> Self {
        Self(access)
    }

    /// Origins whose pages may read and post.
    pub(super) fn origins(&self) -> &[String] {
        &self.0.origins
    }

    /// The token that allows the request; `None` when there are no tokens, or none is needed.
    pub(super) fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Option<Token>, Problem> {
        if !self.is_own_host(uri, headers) {
            let detail = "The service is not known under the name in `Host`; ALLOWED_HOSTS lists further ones.";
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", detail));
        }
        if !method.is_safe() && is_cross_origin(headers) && !self.is_allowed_origin(headers) {
            let detail = "Requests that a page of another origin makes are refused.";
            return Err(Problem::new(StatusCode::FORBIDDEN, "cross_origin", detail));
        }
        if self.0.tokens.is_open() || OPEN.contains(&uri.path()) || is_page(method, uri.path()) {
            return Ok(None);
        }
        let Some(given) = headers.get(header::AUTHORIZATION).and_then(bearer) else {
            return Err(unauthorized("This needs `Authorization: Bearer TOKEN`."));
        };
        let Some(token) = self.0.tokens.find(given) else {
            return Err(unauthorized("The token is none that the service knows."));
        };
        let scope = scope(method, uri.path());
        if !token.allows(scope) {
            let (name, detail) = (scope.as_str(), format!("The token lacks the scope `{}`.", scope.as_str()));
            let ask = format!("Bearer realm=\"task-logger\", error=\"insufficient_scope\", scope=\"{name}\"");
            let problem = Problem::new(StatusCode::FORBIDDEN, "scope_missing", detail);
            let ask = HeaderValue::try_from(ask).unwrap_or(HeaderValue::from_static("Bearer"));
            return Err(problem.with(header::WWW_AUTHENTICATE, ask));
        }
        Ok(Some(token))
    }

    /// A page that has its own name point to this machine (DNS rebinding) is sent to a name; an address cannot be made to point
    /// elsewhere, nor can `localhost`.
    fn is_own_host(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let Some(allowed) = &self.0.hosts else { return true };
        let own = |authority: &Authority| {
            let host = authority.host().trim_end_matches('.');
            let address = host.trim_start_matches('[').trim_end_matches(']');
            host.eq_ignore_ascii_case("localhost")
                || address.parse::<IpAddr>().is_ok()
                || allowed.iter().any(|name| name.eq_ignore_ascii_case(host))
        };
        let named = headers.get_all(header::HOST).iter().map(|host| host.to_str().ok().and_then(authority));
        // A browser always names a host; what does not is no page.
        named.chain(uri.authority().map(|authority| Some(authority.clone()))).all(|host| host.as_ref().is_some_and(own))
    }

    fn is_allowed_origin(&self, headers: &HeaderMap) -> bool {
        let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
        origin.is_some_and(|origin| self.0.origins.iter().any(|allowed| allowed == origin))
    }
}

fn scope(method: &Method, path: &str) -> Scope {
    match (method.is_safe(), path) {
        (true, _) => Scope::Read,
        (false, "/events") => Scope::Ingest,
        (false, _) => Scope::Admin,
    }
}

fn unauthorized(detail: &'static str) -> Problem {
    let ask = HeaderValue::from_static("Bearer realm=\"task-logger\"");
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).with(header::WWW_AUTHENTICATE, ask)
}

/// The page's own files, which hold nothing of anybody: the page asks for the token with which it asks for data.
fn is_page(method: &Method, path: &str) -> bool {
    (method == Method::GET || method == Method::HEAD) && (path == "/" || path.starts_with("/page/"))
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Whether a browser says that another site's page asks. Other clients send neither header.
fn is_cross_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|text| text.split_once("://")).and_then(|(_, rest)| authority(rest));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).and_then(authority);
    origin.is_none() || origin != host
}

fn authority(text: &str) -> Option<Authority> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    fn guard(token: Option<&str>, hosts: Option<&[&str]>, origins: &[&str]) -> Guard {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let tokens = Tokens::new(token.map(Secret::new).as_ref(), None).unwrap();
        Guard::new(Access { tokens: Arc::new(tokens), hosts: hosts.map(owned), origins: owned(origins) })
    }

    #[test]
    fn a_token_guards_everything_but_health_ready_and_the_page() {
        let with = guard(Some("s3cret"), None, &[]);
        let check = |path: &'static str, pairs: &[_]| {
            with.check(&Method::GET, &Uri::from_static(path), &headers(pairs)).is_ok()
        };
        for path in ["/", "/page/app.js"].into_iter().chain(OPEN) {
            assert!(check(path, &[]), "{path}");
        }
        assert!(with.check(&Method::POST, &Uri::from_static("/"), &headers(&[])).is_err());
        for path in ["/page", "/tasks", "/metrics", "/nothing", "/health/", "/ready/x"] {
            assert!(!check(path, &[]), "{path}");
            assert!(check(path, &[("authorization", "bearer s3cret")]), "{path}");
        }
        for wrong in ["s3cret", "Basic s3cret", "Bearer s3cre", "Bearer s3crett", "Bearer ", "Bearer"] {
            assert!(!check("/tasks", &[("authorization", wrong)]), "{wrong}");
        }
        let open = guard(None, None, &[]);
        assert!(open.check(&Method::GET, &Uri::from_static("/tasks"), &HeaderMap::new()).is_ok());
    }

    #[test]
    fn pages_of_other_origins_cannot_post_unless_they_are_allowed_to() {
        let none = guard(None, None, &[]);
        let check = |guard: &Guard, method: Method, pairs: &[_]| {
            guard.check(&method, &Uri::from_static("/events"), &headers(pairs)).is_ok()
        };
        let (host, evil) = (("host", "localhost:8090"), ("origin", "http://evil.example"));
        assert!(check(&none, Method::POST, &[host]));
        assert!(check(&none, Method::POST, &[host, ("origin", "http://localhost:8090")]));
        assert!(check(&none, Method::POST, &[("sec-fetch-site", "same-origin"), ("origin", "http://any")]));
        assert!(!check(&none, Method::POST, &[host, evil]));
        assert!(!check(&none, Method::POST, &[host, ("origin", "null")]));
        assert!(!check(&none, Method::POST, &[("sec-fetch-site", "cross-site")]));
        assert!(check(&none, Method::GET, &[("sec-fetch-site", "cross-site")]));
        let some = guard(None, None, &["https://logs.example"]);
        assert!(check(
            &some,
            Method::POST,
            &[host, ("origin", "https://logs.example"), ("sec-fetch-site", "cross-site")]
        ));
        for other in ["https://logs.example:444", "http://logs.example", "https://logs.example.evil.example", "null"] {
            assert!(!check(&some, Method::POST, &[host, ("origin", other)]), "{other}");
        }
    }

    #[test]
    fn only_names_that_nobody_else_can_point_here_are_hosts() {
        let guard = guard(None, Some(&["logs.example"]), &[]);
        let check = |uri: &'static str, host: &[(&'static str, &'static str)]| {
            guard.check(&Method::GET, &Uri::from_static(uri), &headers(host)).is_ok()
        };
        for own in [
            "localhost",
            "localhost:8090",
            "LOCALHOST",
            "localhost.",
            "127.0.0.1:8090",
            "127.0.0.2",
            "[::1]:8090",
            "[::1]",
            "10.1.2.3",
            "logs.example",
            "Logs.Example:443",
        ] {
            assert!(check("/tasks", &[("host", own)]), "{own}");
        }
        for foreign in [
            "evil.example",
            "evil.example:8090",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "xlogs.example",
            "",
            "0x7f.1",
            "2130706433",
            "a b",
            "::1",
        ] {
            assert!(!check("/tasks", &[("host", foreign)]), "{foreign}");
        }
        assert!(check("/tasks", &[]), "what names no host is no page");
        assert!(!check("http://evil.example/tasks", &[("host", "localhost")]));
        assert!(!check("/tasks", &[("host", "localhost"), ("host", "evil.example")]));
    }
}
