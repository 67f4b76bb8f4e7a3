//! Contract tests: a real listener on loopback, real folders, a real client.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    config::Secret,
    event::StreamId,
    metrics,
    source::{Backlog, Fields, Letters, OwnRequest, Owned, SourceError},
    tokens::Tokens,
};

mod archive;
mod bad_input;
mod files;
mod firehose;
mod intake;
mod lists;
mod manners;
mod openapi;
mod operation;
mod page;
mod reading;
mod records;
mod search;

/// A stream that only takes events in and keeps them for the test to look at.
#[derive(Default)]
pub(crate) struct AppendOnly {
    pub(crate) taken: Mutex<Vec<Fields>>,
    calls: AtomicU64,
    fail: Mutex<Option<SourceError>>,
}

impl Stream for AppendOnly {
    fn state_name(&self) -> String {
        "append-only".to_owned()
    }

    fn try_own(&self, _: &OwnRequest) -> Result<Option<Owned>, SourceError> {
        Err(SourceError::Config("append only".to_owned()))
    }

    fn append(&self, events: Vec<Fields>) -> Result<Vec<StreamId>, SourceError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(error) = self.fail.lock().unwrap().take() {
            return Err(error);
        }
        let mut taken = self.taken.lock().unwrap();
        let first = taken.len() as u64;
        let ids = (0..events.len() as u64).map(|n| StreamId { ms: 1000 + first + n, seq: 0 }).collect();
        taken.extend(events);
        Ok(ids)
    }

    fn backlog(&self) -> Result<Backlog, SourceError> {
        Err(SourceError::Config("append only".to_owned()))
    }

    fn letters(&self) -> Result<Box<dyn Letters>, SourceError> {
        Err(SourceError::Config("append only".to_owned()))
    }

    fn describe(&self) -> String {
        "append only".to_owned()
    }
}

/// A report and a list of requirements, as a plugin host would have them.
#[derive(Default)]
struct Plugins {
    required: Mutex<Vec<String>>,
}

impl PluginView for Plugins {
    fn report(&self) -> Value {
        assert!(!self.required.lock().unwrap().contains(&"panics".to_owned()), "a handler that panics");
        let required = self.required.lock().unwrap();
        let digest = "0123456789abcdef";
        let plugin = |name| json!({"name": name, "sha256": digest, "state": "live", "files": []});
        json!({"plugins": required.iter().map(plugin).collect::<Vec<_>>(), "required": *required})
    }

    fn forget(&self, name: &str) -> Result<bool, String> {
        let mut required = self.required.lock().unwrap();
        let before = required.len();
        required.retain(|known| known != name);
        Ok(required.len() < before)
    }
}

/// A running service.
pub(crate) struct Service {
    pub(crate) base: String,
    addr: SocketAddr,
    pub(crate) logs: TempDir,
    pub(crate) status: Arc<Status>,
    bell: Arc<Bell>,
    index: Index,
    pub(crate) stream: Arc<AppendOnly>,
    plugins: Arc<Plugins>,
    stop: CancellationToken,
    runtime: Runtime,
    served: Option<JoinHandle<std::io::Result<()>>>,
}

/// What a service is started with.
#[derive(Default)]
pub(crate) struct With {
    pub(crate) token: Option<&'static str>,
    pub(crate) tokens: Option<PathBuf>,
    pub(crate) hosts: Option<&'static [&'static str]>,
    pub(crate) origins: &'static [&'static str],
    pub(crate) limits: Limits,
}

/// An answer as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// What a service is made of, and what the test holds of it.
fn parts(with: &With, logs: &Path) -> (HttpParts, Arc<Status>, Arc<Bell>, Arc<AppendOnly>, Arc<Plugins>) {
    let (status, stream, plugins) = (Arc::<Status>::default(), Arc::<AppendOnly>::default(), Arc::default());
    let bell = Arc::<Bell>::default();
    let parts = HttpParts {
        logs_dir: logs.join("tasks"),
        index: Index::start(logs.join("tasks")),
        status: Arc::clone(&status),
        bell: Arc::clone(&bell),
        stream: Arc::<AppendOnly>::clone(&stream),
        plugins: Arc::<Plugins>::clone(&plugins),
        access: Access {
            tokens: Arc::new(Tokens::new(with.token.map(Secret::new).as_ref(), with.tokens.as_deref()).unwrap()),
            hosts: with.hosts.map(|hosts| hosts.iter().map(|host| (*host).to_owned()).collect()),
            origins: with.origins.iter().map(|origin| (*origin).to_owned()).collect(),
        },
        metrics: metrics::install().unwrap(),
        limits: with.limits,
    };
    (parts, status, bell, stream, plugins)
}

impl Service {
    pub(crate) fn start() -> Self {
        Self::start_with(With::default())
    }

    pub(crate) fn start_with(with: With) -> Self {
        let runtime = Runtime::new().unwrap();
        let logs = tempfile::tempdir().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let (parts, status, bell, stream, plugins) = parts(&with, logs.path());
        let index = parts.index.clone();
        let stop = CancellationToken::new();
        let served = runtime.spawn(serve(listener, parts, stop.clone()));
        let base = format!("http://{addr}");
        Self { base, addr, logs, status, bell, index, stream, plugins, stop, runtime, served: Some(served) }
    }

    /// Writes a file below `LOGS_DIR`, with the folders above it.
    #[track_caller]
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.logs.path().join("tasks").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Makes the plugin host require a plugin.
    pub(crate) fn require(&self, name: &str) {
        self.plugins.required.lock().unwrap().push(name.to_owned());
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// A list, once all tasks are indexed.
    #[track_caller]
    fn list(&self, path: &str) -> Answer {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = self.get(path);
            if answer.status != 200 || answer.json()["complete"] != false {
                return answer;
            }
            assert!(Instant::now() < deadline, "never complete: {answer:?}");
        }
    }

    /// Asks until the answer is as wanted.
    #[track_caller]
    fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Answer {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = self.get(path);
            if wanted(&answer.json()) {
                return answer;
            }
            assert!(Instant::now() < deadline, "never: {answer:?}");
        }
    }

    fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.ask("POST", path, &[], body)
    }

    /// One request on its own connection, byte for byte as given.
    #[track_caller]
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.addr);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut connection = self.connect();
        connection.write_all(head.as_bytes()).unwrap();
        // A refusal may come, and the connection end, before all of the body is sent.
        let sent = connection.write_all(body);
        let answer = read_answer(&mut connection);
        assert!(sent.is_ok() || answer.status >= 400, "{sent:?}");
        answer
    }

    fn connect(&self) -> TcpStream {
        let connection = TcpStream::connect(self.addr).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        connection
    }

    fn stop(&mut self) {
        self.stop.cancel();
        if let Some(served) = self.served.take() {
            self.runtime.block_on(served).unwrap().unwrap();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

#[track_caller]
fn read_answer(connection: &mut TcpStream) -> Answer {
    let mut all = Vec::new();
    // A reset after the answer is no matter: the answer is what is looked at.
    let end = connection.read_to_end(&mut all);
    let head_end = all.windows(4).position(|four| four == b"\r\n\r\n");
    let head_end = head_end.unwrap_or_else(|| panic!("no answer: {end:?} {:?}", String::from_utf8_lossy(&all)));
    let head = String::from_utf8(all[..head_end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<_, _> = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let body = &all[head_end + 4..];
    let chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
    let body = if chunked && !body.is_empty() { joined(body) } else { body.to_vec() };
    Answer { status, headers, body }
}

/// The pieces of a body of unknown length, which must have a proper end.
#[track_caller]
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n").expect("the body broke");
        let length = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&chunks[end + 2..][..length]);
        chunks = &chunks[end + 2 + length + 2..];
    }
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The text of a body of unknown length.
    #[track_caller]
    fn unchunked(&self) -> String {
        assert_eq!(self.header("transfer-encoding"), "chunked", "{self:?}");
        self.text()
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Checks a problem's status, form and code; what it says must not hold any of these texts.
    #[track_caller]
    fn is_problem(&self, status: u16, code: &str) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let body = self.json();
        assert_eq!((&body["status"], &body["code"]), (&json!(status), &json!(code)));
        assert!(!self.text().contains("SECRET"), "{self:?}");
        assert!(self.header("x-request-id").len() >= 16);
        self
    }
}

fn is_empty_folder(path: &Path) -> bool {
    fs::read_dir(path).unwrap().next().is_none()
}
