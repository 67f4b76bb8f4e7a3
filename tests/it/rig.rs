//! The service as its users run it: the real binary with a clean environment and folders of its own, killed when dropped.
//! Everything here waits on a condition with a deadline.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{guests, redis_server::RedisServer};

/// How long anything may take that takes far less.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// How long it may take until what a process said last is read.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Folders and settings of one or several processes that share a stream.
pub(crate) struct Rig {
    root: tempfile::TempDir,
    redis: Option<RedisServer>,
    env: BTreeMap<String, String>,
}

/// A running process.
pub(crate) struct Node {
    child: Child,
    address: String,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    assert!(within(PATIENCE, is_so), "not within {PATIENCE:?}: {what}");
}

/// Whether something becomes so in time.
pub(crate) fn within(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !is_so() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::park_timeout(Duration::from_millis(5));
    }
    true
}

/// Lets time pass, for tests in which a process is killed at a random moment.
pub(crate) fn let_pass(time: Duration) {
    within(time, || false);
}

/// A seed for a random test, printed so that a failure can be repeated with `SEED`.
pub(crate) fn seed(test: &str) -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{test}: SEED={seed}");
    seed
}

/// Names a file in which each fault that strikes leaves a line, for [`crate::torture`].
pub(crate) const TALLY: &str = "TASK_LOGGER_TALLY";

/// Counts a fault that has struck.
pub(crate) fn struck(fault: &str) {
    if let Some(tally) = std::env::var_os(TALLY) {
        let mut file = OpenOptions::new().create(true).append(true).open(tally).unwrap();
        file.write_all(format!("{fault}\n").as_bytes()).unwrap();
    }
}

/// The folder of what cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned()
}

/// A bundled plugin's component and sidecar, built once when missing.
pub(crate) fn bundled(name: &str) -> (Vec<u8>, Vec<u8>) {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| guest_build(&["redact", "usage", "transcript"]));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins").join(name).join(format!("{name}.toml"));
    let wasm = target_dir().join("wasm32-wasip2/plugin").join(format!("{name}.wasm"));
    (fs::read(wasm).unwrap(), fs::read(source).unwrap_or_default())
}

/// Builds guests; cargo does nothing when they are fresh.
fn guest_build(packages: &[&str]) {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--profile=plugin", "--target=wasm32-wasip2", "--target-dir"]).arg(target_dir());
    build.args(packages.iter().flat_map(|package| ["-p", package]));
    let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
    assert!(status.success(), "plugins do not build: rustup target add wasm32-wasip2");
}

// === impl Rig ===

impl Rig {
    /// On a private Redis; `None` after a message where there is none.
    pub(crate) fn redis() -> Option<Self> {
        let server = RedisServer::start()?;
        let mut rig = Self::embedded().set("REDIS_URL", &server.url());
        rig.redis = Some(server);
        Some(rig)
    }

    /// On a Redis that is there already.
    pub(crate) fn on_server(self, server: RedisServer) -> Self {
        let mut rig = self.set("REDIS_URL", &server.url());
        rig.redis = Some(server);
        rig
    }

    /// On the embedded stream.
    pub(crate) fn embedded() -> Self {
        let rig = Self {
            // KEEP=1 leaves what a failed test is about.
            root: tempfile::Builder::new()
                .prefix("rig-")
                .disable_cleanup(std::env::var_os("KEEP").is_some())
                .tempdir()
                .unwrap(),
            redis: None,
            env: BTreeMap::new(),
        };
        fs::create_dir(rig.plugins_dir()).unwrap();
        // Compiled once for all tests. The folder must be private to the user.
        let cache = target_dir().join("tmp/compiled");
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
        builder.create(&cache).unwrap();
        rig.set("PORT", "0")
            .set("HOST", "127.0.0.1")
            .set("LANES", "2")
            .set("REQUIRED_PLUGINS", "none")
            .set_path("CACHE_DIR", &cache)
    }

    /// Sets a variable of the processes to come.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn set_path(self, name: &str, path: &Path) -> Self {
        self.set(name, path.to_str().unwrap())
    }

    /// Puts bundled plugins into the folder; whatever is put in with it is required.
    pub(crate) fn with_bundled(self, names: &[&str]) -> Self {
        for name in names {
            let (wasm, sidecar) = bundled(name);
            self.put_plugin(name, &sidecar, &wasm);
        }
        self.set("REQUIRED_PLUGINS", &names.join(","))
    }

    /// Puts the misbehaving guest into the folder under a file name, with the lines of its sidecar.
    pub(crate) fn put_guest(&self, stem: &str, sidecar: &str) {
        self.put_plugin(stem, sidecar.as_bytes(), guests::misbehave());
    }

    /// Puts a plugin into the folder, each file by a rename, the sidecar first.
    pub(crate) fn put_plugin(&self, stem: &str, sidecar: &[u8], wasm: &[u8]) {
        self.put_file(&format!("{stem}.toml"), sidecar);
        self.put_file(&format!("{stem}.wasm"), wasm);
    }

    /// Puts one file into the folder of plugins by a rename.
    pub(crate) fn put_file(&self, name: &str, bytes: &[u8]) {
        let staged = self.root.path().join(format!("staged-{name}"));
        fs::write(&staged, bytes).unwrap();
        fs::rename(staged, self.plugins_dir().join(name)).unwrap();
    }

    /// Removes a file from the folder of plugins.
    pub(crate) fn take_file(&self, name: &str) {
        fs::remove_file(self.plugins_dir().join(name)).unwrap();
    }

    /// `LOGS_DIR`.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.path().join("logs")
    }

    /// What stands beside `LOGS_DIR`.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn plugins_dir(&self) -> PathBuf {
        self.root.path().join("plugins")
    }

    /// A file of a task, once it is there.
    pub(crate) fn read(&self, path: &str) -> String {
        let path = self.logs().join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A connection of the test's own.
    pub(crate) fn connect(&self) -> redis::Connection {
        self.redis.as_ref().unwrap().connect()
    }

    /// The command with the environment of this rig, for `serve` and for everything else.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_task-logger"));
        command.env_clear().current_dir(self.root.path()).args(args);
        command.env("LOGS_DIR", self.logs()).env("PLUGINS_DIR", self.plugins_dir());
        command.env("STREAM_DIR", self.root.path().join("stream")).env("STATE_DIR", self.root.path().join("state"));
        command.envs(&self.env);
        command
    }

    /// Starts a process and waits until it listens.
    pub(crate) fn spawn(&self) -> Node {
        let node = self.spawn_silent();
        self.until_listening(node)
    }

    /// The same with further variables of its own.
    #[cfg(feature = "failpoints")]
    pub(crate) fn spawn_with(&self, env: &[(&str, &str)]) -> Node {
        let mut command = self.command(&["serve"]);
        command.envs(env.iter().copied());
        self.until_listening(Self::started(command))
    }

    /// The same under another program, which must become the service itself or leave it as the child.
    pub(crate) fn spawn_under(&self, wrapper: &[String]) -> Node {
        let serve = self.command(&["serve"]);
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).arg(serve.get_program()).args(serve.get_args()).env_clear();
        command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(self.root.path());
        self.until_listening(Self::started(command))
    }

    fn until_listening(&self, mut node: Node) -> Node {
        let listening = within(PATIENCE, || node.learn_address() || node.child.try_wait().unwrap().is_some());
        assert!(listening && !node.address.is_empty(), "it does not listen:\n{}", node.log());
        node
    }

    /// Starts a process that may end before it listens.
    pub(crate) fn spawn_silent(&self) -> Node {
        Self::started(self.command(&["serve"]))
    }

    fn started(mut command: Command) -> Node {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&log);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stderr.read(&mut buffer) {
                sink.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        Node { child, address: String::new(), log, reader: Some(reader) }
    }

    /// Starts a process and waits until it owns the stream and takes events in.
    pub(crate) fn spawn_owner(&self) -> Node {
        let node = self.spawn();
        eventually("the process owns the stream and takes events in", || node.takes_events());
        node
    }

    /// Waits until an event of each task that is posted now stands in the task's files, so all before it do.
    #[track_caller]
    pub(crate) fn settle(&self, node: &Node, tasks: &[&str]) {
        let one =
            |task: &&str| serde_json::json!({"type": "task:thinking", "task_id": task, "data": {"content": "last"}});
        let ids = node.append(&tasks.iter().map(one).collect::<Vec<_>>());
        for (task, id) in tasks.iter().zip(ids) {
            let file = self.logs().join(task).join("03-agent-output.jsonl");
            eventually("the last event is written", || {
                fs::read_to_string(&file).is_ok_and(|text| text.contains(&format!("\"id\":\"{id}\"")))
            });
        }
    }

    /// Waits until the published position has reached the stream's end.
    #[track_caller]
    pub(crate) fn wait_published(&self, redis: &mut redis::Connection) {
        eventually("the position is published up to the stream's end", || published(redis) == last_id(redis));
    }
}

/// The published position: the group's last-delivered-id; `0-0` without a group.
pub(crate) fn published(redis: &mut redis::Connection) -> String {
    let groups: Result<Vec<BTreeMap<String, redis::Value>>, _> =
        redis::cmd("XINFO").arg("GROUPS").arg("task_events").query(redis);
    let ours = |group: &BTreeMap<String, redis::Value>| {
        group.get("name").and_then(|name| redis::from_redis_value_ref::<String>(name).ok()).as_deref()
            == Some("task-logger")
    };
    let group = groups.unwrap_or_default().into_iter().find(ours).unwrap_or_default();
    group.get("last-delivered-id").map_or("0-0".into(), |id| redis::from_redis_value_ref(id).unwrap())
}

/// The stream's last generated id.
pub(crate) fn last_id(redis: &mut redis::Connection) -> String {
    let info: Result<BTreeMap<String, redis::Value>, _> =
        redis::cmd("XINFO").arg("STREAM").arg("task_events").query(redis);
    let info = info.unwrap_or_default();
    info.get("last-generated-id").map_or("0-0".into(), |id| redis::from_redis_value_ref(id).unwrap())
}

/// Appends an entry with these fields and returns its id.
pub(crate) fn add(redis: &mut redis::Connection, fields: &[(&str, &str)]) -> String {
    redis::cmd("XADD").arg("task_events").arg("*").arg(fields).query(redis).unwrap()
}

// === impl Node ===

impl Node {
    pub(crate) fn learn_address(&mut self) -> bool {
        let log = self.log.lock().unwrap();
        let found = log.split_once("listening address=").and_then(|(_, rest)| rest.split_once('\n'));
        if let Some((address, _)) = found {
            self.address = format!("http://{}", address.trim());
        }
        !self.address.is_empty()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `GET /metrics` as Prometheus reads it.
    pub(crate) fn metrics(&self) -> String {
        let request = ureq::get(format!("{}/metrics", self.address)).header("Accept", "text/plain");
        request.call().unwrap().body_mut().read_to_string().unwrap()
    }

    /// Where it listens, `http://127.0.0.1:…`.
    pub(crate) fn url(&self) -> &str {
        &self.address
    }

    /// Its process id, to read what it uses.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Status and body of a GET; status 0 when nobody answers.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(10)))
            .build()
            .into();
        match agent.get(format!("{}{path}", self.address)).call() {
            Ok(mut response) => {
                let body = response.body_mut().read_to_string().unwrap_or_default();
                (response.status().as_u16(), body)
            }
            Err(_) => (0, String::new()),
        }
    }

    /// Status of a POST; 0 when nobody answers.
    pub(crate) fn post(&self, path: &str, body: &str) -> u16 {
        self.post_answer(path, body).0
    }

    /// Status and body of what a POST is answered with; status 0 when nobody answers.
    pub(crate) fn post_answer(&self, path: &str, body: &str) -> (u16, String) {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent: ureq::Agent = config.timeout_global(Some(Duration::from_secs(10))).build().into();
        match agent.post(format!("{}{path}", self.address)).content_type("application/json").send(body) {
            Ok(mut answer) => (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap_or_default()),
            Err(_) => (0, String::new()),
        }
    }

    /// Posts events and returns their ids.
    #[track_caller]
    pub(crate) fn append(&self, events: &[Value]) -> Vec<String> {
        let (status, answer) = self.post_answer("/events", &Value::from(events).to_string());
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// The body of a GET as JSON; null when there is none.
    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).1).unwrap_or_default()
    }

    pub(crate) fn is_owner(&self) -> bool {
        self.json("/health")["role"] == "owner"
    }

    pub(crate) fn takes_events(&self) -> bool {
        self.is_owner() && self.get("/ready?write").0 == 200
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.ended().is_none()
    }

    /// How it ended, if it has; then the log is all that it said.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let ended = self.child.try_wait().unwrap()?;
        // A child of its own may keep the other end for longer.
        within(LAST_WORDS, || self.reader.as_ref().is_none_or(JoinHandle::is_finished));
        Some(ended)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn pause(&self) {
        struck("SIGSTOP");
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM, and no wait.
    pub(crate) fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.strike_dead();
    }

    /// kill -9; it stays here to be looked at.
    pub(crate) fn strike_dead(&mut self) {
        if self.is_running() {
            struck("kill -9");
        }
        self.end();
    }

    /// SIGTERM, and how it ended.
    #[track_caller]
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let mut ended = None;
        eventually("the process ends after SIGTERM", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        let status = ended.unwrap();
        assert!(status.success(), "{status}:\n{}", self.log());
        status
    }

    fn end(&mut self) {
        // Ended already: then there is nothing to kill.
        drop(self.child.kill());
        self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(40).collect::<Vec<_>>();
            eprintln!("--- log of {} ---", self.address);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
