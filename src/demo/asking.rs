//! Asks the demonstration's own service over HTTP.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;

use crate::config::Secret;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A client of one service.
pub(super) struct Asking {
    agent: ureq::Agent,
    url: String,
    token: Option<Secret>,
}

/// No usable answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// None at all.
    #[error("no answer to GET {path}")]
    Http {
        /// What was asked.
        path: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// Not what it should be.
    #[error("GET {path} was answered with {status}, not with a JSON document")]
    Answer {
        /// What was asked.
        path: String,
        /// The status.
        status: u16,
    },
}

// === impl Asking ===

impl Asking {
    /// For a service that listens there.
    pub(super) fn new(mut address: SocketAddr, token: Option<Secret>) -> Self {
        if address.ip().is_unspecified() {
            let loopback = if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
            address.set_ip(loopback);
        }
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(ANSWER_MAX));
        Self { agent: config.build().new_agent(), url: format!("http://{address}"), token }
    }

    /// The service's address.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Status and body.
    pub(super) fn get(&self, path: &str, accept: &str) -> Result<(u16, String), AskError> {
        let failed = |source| AskError::Http { path: path.to_owned(), source: Box::new(source) };
        let mut request = self.agent.get(format!("{}{path}", self.url)).header("accept", accept);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {}", token.expose()));
        }
        let mut answer = request.call().map_err(failed)?;
        let body = answer.body_mut().read_to_string().map_err(failed)?;
        Ok((answer.status().as_u16(), body))
    }

    /// A JSON document.
    pub(super) fn json(&self, path: &str) -> Result<Value, AskError> {
        let (status, body) = self.get(path, "application/json")?;
        let bad = || AskError::Answer { path: path.to_owned(), status };
        if status != 200 {
            return Err(bad());
        }
        serde_json::from_str(&body).map_err(|_| bad())
    }
}
