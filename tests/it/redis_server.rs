//! A private redis-server: its own folder, a unix socket (and a loopback port when asked), killed on drop. Used by every test
//! that needs Redis and by the benchmark; names nothing else of the tests.
#![allow(dead_code, reason = "each of the binaries that include this file uses a part of it")]

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A running server. Nothing else listens on its socket; dropping it kills it and removes its folder.
pub(crate) struct RedisServer {
    dir: tempfile::TempDir,
    child: Option<Child>,
    port: Option<u16>,
    args: Vec<String>,
}

/// How long the server may take to start or to answer, far above what it takes.
const PATIENCE: Duration = Duration::from_secs(20);

impl RedisServer {
    /// Starts one on a unix socket, without persistence. `None` after a message where there is no redis-server, unless
    /// `REQUIRE_REDIS=1`: a skip is never silent.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with more arguments, for instance `["--appendonly", "yes"]`.
    pub(crate) fn start_with(args: &[&str]) -> Option<Self> {
        let server = Self {
            dir: tempfile::Builder::new().prefix("redis-").tempdir().unwrap(),
            child: None,
            port: None,
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
        };
        server.first_start()
    }

    /// One that listens on a free loopback port as well.
    pub(crate) fn start_tcp(args: &[&str]) -> Option<Self> {
        Self::start_on_port(args, None)
    }

    /// A sentinel that watches the master `mymaster` on a loopback port.
    pub(crate) fn start_sentinel(master_port: u16) -> Option<Self> {
        let conf = format!("sentinel monitor mymaster 127.0.0.1 {master_port} 1\n");
        Self::start_on_port(&["sentinel.conf", "--sentinel"], Some(conf))
    }

    fn start_on_port(args: &[&str], conf: Option<String>) -> Option<Self> {
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let server = Self {
                dir: tempfile::Builder::new().prefix("redis-").tempdir().unwrap(),
                child: None,
                port: Some(port),
                args: args.iter().map(|&arg| arg.to_owned()).collect(),
            };
            if let Some(conf) = &conf {
                std::fs::write(server.dir.path().join("sentinel.conf"), conf).unwrap();
            }
            // Another process may take the port between the look and the start: then the next one is tried.
            match server.first_start() {
                Some(server) if server.child.is_none() => continue,
                started => return started,
            }
        }
        panic!("no free port");
    }

    fn first_start(mut self) -> Option<Self> {
        let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_err() {
            assert!(std::env::var("REQUIRE_REDIS").as_deref() != Ok("1"), "redis-server is missing, REQUIRE_REDIS=1");
            eprintln!("SKIPPED: redis-server is not installed");
            return None;
        }
        if !self.spawn() {
            assert!(self.port.is_some(), "redis-server did not start: {}", self.log());
            self.stop();
        }
        Some(self)
    }

    /// Starts the process; `false` when it ended before it answered.
    fn spawn(&mut self) -> bool {
        assert!(self.child.is_none());
        let sentinel = self.args.iter().any(|arg| arg == "--sentinel");
        let child = Command::new("redis-server")
            .current_dir(self.dir.path())
            .args(&self.args)
            .args(["--port", &self.port.unwrap_or(0).to_string(), "--bind", "127.0.0.1"])
            .args(["--unixsocket", "socket", "--logfile", "log", "--daemonize", "no"])
            .args(if sentinel { &[][..] } else { &["--save", ""] })
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let child = self.child.insert(child);
        let deadline = Instant::now() + PATIENCE;
        let client = redis::Client::open(format!("redis+unix://{}", self.dir.path().join("socket").display())).unwrap();
        loop {
            let answered = client.get_connection().and_then(|mut c| redis::cmd("PING").query::<String>(&mut c));
            match answered {
                Ok(_) => return true,
                // Protected by a password: it answers, which is all that is asked here.
                Err(error) if error.code().is_some_and(|code| code == "NOAUTH") => return true,
                Err(_) if child.try_wait().unwrap().is_some() => return false,
                Err(error) => assert!(Instant::now() < deadline, "redis-server does not answer: {error}"),
            }
            thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Kills the process; what it did not persist is gone.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Removes what a stopped server persisted.
    pub(crate) fn forget_data(&self) {
        assert!(self.child.is_none(), "it runs");
        drop(std::fs::remove_dir_all(self.dir.path().join("appendonlydir")));
        drop(std::fs::remove_file(self.dir.path().join("dump.rdb")));
    }

    /// Starts it again on the same socket, port and folder.
    pub(crate) fn start_again(&mut self) {
        let started = self.spawn();
        assert!(started, "redis-server did not start again: {}", self.log());
    }

    /// For `REDIS_URL`: the unix socket, database 0.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// For `REDIS_URL`: the loopback port of [`RedisServer::start_tcp`].
    pub(crate) fn tcp_url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port())
    }

    /// The loopback port of [`RedisServer::start_tcp`].
    pub(crate) fn port(&self) -> u16 {
        self.port.expect("started with start_tcp")
    }

    /// The unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// The server's process id, to read its CPU time or to pause it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    /// A connection of the test's own.
    pub(crate) fn connect(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}
