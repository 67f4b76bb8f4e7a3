//! The command line's side of HTTP: commands that ask a running service and print. Every text that comes from a task is made
//! harmless for a terminal first.
//!
//! Exit codes: 0 as asked; 1 the service is unhealthy, `forget` found nothing to forget, or the task that was waited for failed;
//! 75 the time to wait for it ran out; and of [`ClientError`]: 64 what was asked makes no sense, 66 no such task, file or folder,
//! 69 the service cannot be reached, 76 it answered with an error or something unforeseen, 77 the token is missing or wrong, 74
//! the output cannot be written, or files not read. A closed pipe behind the output is no error.

use std::{
    io::{self, Read as _, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use serde_json::Value;
use ureq::{Agent, Body, http::Response};

use crate::{
    cli::Read,
    config::Secret,
    reader::{InvalidFilter, ReadError},
    terminal,
};

mod figures;
mod files;
mod folder;
mod logs;
mod plugin;
mod print;
mod progress;
mod screen;
mod search;
pub(crate) mod table;
mod tasks;
mod top;
mod wait;

pub(crate) use plugin::plugin_report;
pub use plugin::{forget, plugins};
pub use screen::Screen;

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Time until an answer begins.
const ANSWER: Duration = Duration::from_secs(60);
/// Largest answer that is taken whole, in bytes; files are read as they come.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Between two attempts to go on with an answer that broke off.
const AGAIN: Duration = if cfg!(test) { Duration::from_millis(1) } else { Duration::from_secs(1) };
/// How long it is tried without an answer, for instance while the service restarts.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which service to ask.
#[derive(Clone, Debug)]
pub struct Target {
    /// `http://host:port`, without a slash at the end.
    pub base: String,
    /// Its `API_TOKEN`.
    pub token: Option<Secret>,
}

/// Where logs are read from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A running service.
    Service(Target),
    /// A `LOGS_DIR`.
    Folder(PathBuf),
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
    /// The task has no such file.
    #[error("the task has no such file; `task-logger show TASK` lists those it has")]
    NoSuchFile,
    /// There is no such folder to read.
    #[error("cannot read {}", dir.display())]
    NoFolder {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// The files cannot be read.
    #[error(transparent)]
    Files(#[from] ReadError),
    /// What was asked for makes no sense.
    #[error("what is to be looked for {0}")]
    Filter(InvalidFilter),
    /// Bytes that no terminal shows.
    #[error("an archive is nothing for a terminal: name a file by -O FILE, or pipe it")]
    Terminal,
    /// What was printed in part is another file now.
    #[error("the file has changed since its first part was printed")]
    Changed,
    /// A file cannot be saved.
    #[error("cannot save {path}")]
    Save {
        /// Where to.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
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

/// How something is asked for.
#[derive(Clone, Copy, Default)]
struct Asking<'a> {
    /// Only these bytes.
    range: Option<&'a str>,
    /// The range of this version alone.
    version: Option<&'a str>,
    /// Longest time between two pieces of the answer.
    silence: Option<Duration>,
    /// Longest time for all of it.
    whole: Option<Duration>,
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

/// Does what reads logs.
pub fn read(origin: &Origin, what: &Read, screen: Screen, out: &mut dyn Write) -> Result<ExitCode, ClientError> {
    let mut out = io::BufWriter::with_capacity(64 << 10, out);
    let out = &mut out;
    let done = match (what, origin) {
        (Read::Logs(asked), Origin::Service(target)) => logs::logs(&Client::new(target), asked, screen, out),
        (Read::Logs(asked), Origin::Folder(dir)) => folder::logs(dir, asked, screen, out),
        (Read::Ls(asked), _) => tasks::ls(origin, asked, screen, out),
        (Read::Show { task, json }, _) => tasks::show(origin, task, *json, screen, out),
        (Read::Get { task, file, output }, _) => files::get(origin, (task, file), output.as_deref(), screen, out),
        (Read::Archive(asked), _) => files::archive(origin, asked, screen, out),
        (Read::Search(asked), _) => search::search(origin, asked, screen, out),
        (Read::Top(asked), _) => top::top(origin, asked, screen, out),
        (Read::Wait { task, timeout }, _) => {
            let code = wait::wait(origin, task, *timeout, out)?;
            out.flush()?;
            return Ok(code);
        }
    };
    unless_closed(done.and_then(|()| Ok(out.flush()?)).map(|()| ExitCode::SUCCESS))
}

// === impl ClientError ===

impl ClientError {
    /// Exit code when nobody answers.
    pub const UNREACHABLE: u8 = 69;

    /// What the process ends with, see the module's table.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Filter(_) | Self::Terminal => 64,
            Self::NoSuchTask | Self::NoSuchFile | Self::NoFolder { .. } => 66,
            Self::Unreachable { .. } => Self::UNREACHABLE,
            Self::Output(_) | Self::Files(_) | Self::Save { .. } => 74,
            Self::Broken(_) | Self::Refused { .. } | Self::Foreign { .. } | Self::Changed => 76,
            Self::Unauthorized => 77,
        })
    }
}

impl From<InvalidFilter> for ClientError {
    fn from(why: InvalidFilter) -> Self {
        // No source: its text is all of the message already.
        Self::Filter(why)
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
        self.ask(path, &Asking { range, ..Asking::default() })
    }

    fn ask(&self, path: &str, asking: &Asking<'_>) -> Result<Response<Body>, ClientError> {
        let mut request = self.agent.get(format!("{}{path}", self.target.base));
        if let Some(token) = &self.target.token {
            request = request.header("authorization", format!("Bearer {}", token.expose()));
        }
        if let Some(range) = asking.range {
            request = request.header("range", range);
        }
        if let Some(version) = asking.version {
            request = request.header("if-range", version);
        }
        let request = request.config().timeout_per_read(asking.silence).timeout_global(asking.whole).build();
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
                let problem = self.json(answer)?;
                match problem["code"].as_str() {
                    Some("task_not_found") => Err(ClientError::NoSuchTask),
                    Some("file_not_found") => Err(ClientError::NoSuchFile),
                    _ => {
                        let detail = problem["detail"].as_str().map(terminal::plain).unwrap_or_default();
                        Err(ClientError::Refused { status, detail })
                    }
                }
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
