//! The command line's side of HTTP: commands that ask a running service and print. Every text that comes from a task is made
//! harmless for a terminal first.
//!
//! Exit codes: 0 as asked; 1 the service is unhealthy, or `forget` found nothing to forget; and of [`ClientError`]: 66 no such
//! task, 69 the service cannot be reached, 76 it answered with an error or something unforeseen, 77 the token is missing or
//! wrong, 74 the output cannot be written. A closed pipe behind the output is no error.

use std::{
    io::{self, Read, Write},
    process::ExitCode,
    time::Duration,
};

use serde_json::Value;
use ureq::{Agent, Body, http::Response};

use crate::{config::Secret, terminal};

mod logs;
mod plugin;
pub(crate) mod table;

pub use logs::logs;
pub(crate) use plugin::plugin_report;
pub use plugin::{forget, plugins};

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Time until an answer begins.
const ANSWER: Duration = Duration::from_secs(60);
/// Largest answer that is taken whole, in bytes; files are read as they come.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Which service to ask.
#[derive(Clone, Debug)]
pub struct Target {
    /// `http://host:port`, without a slash at the end.
    pub base: String,
    /// Its `API_TOKEN`.
    pub token: Option<Secret>,
}

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer.
    #[error("cannot reach the service at {base}")]
    Unreachable {
        /// The address.
        base: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The answer broke off.
    #[error("the answer broke off")]
    Broken(#[source] io::Error),
    /// The task is not known.
    #[error("there is no such task; `task-logger ls` lists those there are")]
    NoSuchTask,
    /// The service wants another token, or one at all.
    #[error("the service refuses the token; set API_TOKEN to its own")]
    Unauthorized,
    /// Another error answer.
    #[error("the service answered {status}: {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What the service says.
        detail: String,
    },
    /// An answer of another form.
    #[error("what answers at {base} is not this service")]
    Foreign {
        /// The address.
        base: String,
    },
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

/// A client of one service.
struct Client<'a> {
    target: &'a Target,
    agent: Agent,
}

/// Prints whether the service is well. 0: healthy. 1: not, or not to be reached, which is what a container's health check
/// wants to know.
pub fn health(target: &Target, out: &mut dyn Write) -> Result<ExitCode, ClientError> {
    let client = Client::new(target);
    let answer = client.get("/health", None).and_then(|answer| {
        let healthy = answer.status().as_u16() == 200;
        Ok((healthy, client.json(answer)?))
    });
    let done = match answer {
        Ok((healthy, body)) if body["service"] == "task-logger" => {
            let text = |key: &str| terminal::plain(body[key].as_str().unwrap_or("unknown"));
            writeln!(out, "{} ({}, {})", text("status"), text("role"), text("stream")).and_then(|()| {
                for part in ["stalled", "blocked", "notices"] {
                    for (name, what) in named(&body[part]) {
                        writeln!(out, "{part}: {name}{what}")?;
                    }
                }
                Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            })
        }
        Ok(_) => writeln!(out, "unhealthy: what answers is not this service").map(|()| ExitCode::FAILURE),
        Err(error) => writeln!(out, "unhealthy: {}", terminal::plain(&chain(&error))).map(|()| ExitCode::FAILURE),
    };
    unless_closed(done.map_err(ClientError::Output))
}

/// Prints a table of all tasks, by id.
pub fn ls(target: &Target, out: &mut dyn Write) -> Result<ExitCode, ClientError> {
    unless_closed(list(target, out))
}

fn list(target: &Target, out: &mut dyn Write) -> Result<ExitCode, ClientError> {
    let client = Client::new(target);
    let mut table = table::Table::new(&["TASK", "STATUS", "CREATED", "STARTED", "COMPLETED"]);
    let mut path = "/tasks?sort=id&limit=500".to_owned();
    loop {
        let page = client.json(client.ok(client.get(&path, None)?)?)?;
        let tasks = page["tasks"].as_array().ok_or_else(|| client.foreign())?;
        for task in tasks {
            let text = |key: &str| task[key].as_str().unwrap_or("-").to_owned();
            table.row(["task_id", "status", "created_at", "started_at", "completed_at"].map(text).to_vec());
        }
        table.print(out)?;
        match page["next"].as_str() {
            Some(next) => path = format!("/tasks?sort=id&limit=500&after={}", in_url(next)),
            None => return Ok(ExitCode::SUCCESS),
        }
    }
}

// === impl ClientError ===

impl ClientError {
    /// Exit code when nobody answers.
    pub const UNREACHABLE: u8 = 69;

    /// What the process ends with, see the module's table.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::NoSuchTask => 66,
            Self::Unreachable { .. } => Self::UNREACHABLE,
            Self::Output(_) => 74,
            Self::Broken(_) | Self::Refused { .. } | Self::Foreign { .. } => 76,
            Self::Unauthorized => 77,
        })
    }
}

// === impl Client ===

impl<'a> Client<'a> {
    fn new(target: &'a Target) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            // The service is named by its address; a proxy for the web would not reach it.
            .proxy(None)
            .build();
        Self { target, agent: config.into() }
    }

    fn get(&self, path: &str, range: Option<&str>) -> Result<Response<Body>, ClientError> {
        let mut request = self.agent.get(format!("{}{path}", self.target.base));
        if let Some(token) = &self.target.token {
            request = request.header("authorization", format!("Bearer {}", token.expose()));
        }
        if let Some(range) = range {
            request = request.header("range", range);
        }
        request.call().map_err(|source| self.unreachable(source))
    }

    fn post(&self, path: &str) -> Result<Response<Body>, ClientError> {
        let mut request = self.agent.post(format!("{}{path}", self.target.base));
        if let Some(token) = &self.target.token {
            request = request.header("authorization", format!("Bearer {}", token.expose()));
        }
        request.send_empty().map_err(|source| self.unreachable(source))
    }

    /// The answer if it is no error.
    fn ok(&self, answer: Response<Body>) -> Result<Response<Body>, ClientError> {
        let status = answer.status().as_u16();
        match status {
            200..=299 => Ok(answer),
            401 => Err(ClientError::Unauthorized),
            _ => {
                let detail = self.json(answer)?["detail"].as_str().map(terminal::plain);
                Err(ClientError::Refused { status, detail: detail.unwrap_or_default() })
            }
        }
    }

    fn json(&self, answer: Response<Body>) -> Result<Value, ClientError> {
        let mut text = Vec::new();
        let mut body = answer.into_body().into_reader().take(ANSWER_BYTES_MAX);
        body.read_to_end(&mut text).map_err(ClientError::Broken)?;
        serde_json::from_slice(&text).map_err(|_| self.foreign())
    }

    fn foreign(&self) -> ClientError {
        ClientError::Foreign { base: self.target.base.clone() }
    }

    fn unreachable(&self, source: ureq::Error) -> ClientError {
        ClientError::Unreachable { base: self.target.base.clone(), source: Box::new(source) }
    }
}

/// A list's or an object's entries, as lines.
fn named(value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Array(names) => {
            names.iter().map(|name| (terminal::plain(name.as_str().unwrap_or("?")), String::new())).collect()
        }
        Value::Object(map) => map
            .iter()
            .map(|(name, what)| (terminal::plain(name), format!(": {}", terminal::plain(what.as_str().unwrap_or("?")))))
            .collect(),
        _ => Vec::new(),
    }
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Percent-encoded for one segment of a path or a query's value; never `.` or `..`.
fn in_url(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        match byte.is_ascii_alphanumeric() || at > 0 && matches!(byte, b'-' | b'.' | b'_' | b'~') {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// `logs TASK | head` ends well.
fn unless_closed(done: Result<ExitCode, ClientError>) -> Result<ExitCode, ClientError> {
    match done {
        Err(ClientError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        other => other,
    }
}

#[cfg(test)]
mod tests;
