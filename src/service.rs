//! Build, spawn, drain: the parts of the service and how they are wired. HTTP comes first and goes last, so that the service
//! can be asked while the data path starts, stands by, or ends.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use tokio_util::sync::CancellationToken;

use crate::{
    bell::Bell,
    committer::describe,
    config::Config,
    ending::Ending,
    folder,
    http::{self, Access, HttpParts, Limits, PluginView},
    metrics::{self, DataPath, Recorder, SyncFailures},
    owner::Owner,
    plugin::{CompileLimits, HostConfig, PluginError, PluginHost},
    reader::Index,
    source::{
        self, SourceError, Stream,
        embedded::EmbeddedStream,
        redis::{RedisConfig, RedisStream},
    },
    status::{BacklogView, Status},
    tokens::{Tokens, TokensError},
};

/// How often the stream is asked how much it holds, and the metrics are kept up.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The service, built and not yet running.
pub struct Service {
    config: Arc<Config>,
    status: Arc<Status>,
    bell: Arc<Bell>,
    stream: Arc<dyn Stream>,
    host: Arc<PluginHost>,
    recorder: Recorder,
    sync_failures: SyncFailures,
    access: Access,
    listener: TcpListener,
    address: SocketAddr,
}

/// The running service.
pub struct Running {
    stop: Arc<Ending>,
    failed: Arc<Mutex<Option<String>>>,
    http_stop: CancellationToken,
    host: Arc<PluginHost>,
    sync_failures: SyncFailures,
    owner: Option<JoinHandle<()>>,
    watch: Option<JoinHandle<()>>,
    http: Option<JoinHandle<()>>,
}

/// Why the service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// HTTP cannot listen.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A folder cannot be made.
    #[error("cannot create {path}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The stream cannot be used.
    #[error("cannot open the stream")]
    Stream(#[from] SourceError),
    /// Plugins cannot run.
    #[error("cannot start the plugin host")]
    Plugins(#[from] PluginError),
    /// The tokens cannot be read.
    #[error("API_TOKENS_FILE cannot be used")]
    Tokens(#[from] TokensError),
    /// Metrics cannot be kept.
    #[error("cannot keep metrics")]
    Metrics(#[from] metrics::MetricsError),
}

/// The host, and the folders that it watches.
struct Plugins(Arc<PluginHost>, Arc<Config>);

impl PluginView for Plugins {
    fn report(&self) -> serde_json::Value {
        let mut report = self.0.report();
        // Absolute, so that whoever installs a plugin finds them from another directory.
        let folders = self.1.plugins_dirs.iter().map(|dir| std::path::absolute(dir).unwrap_or_else(|_| dir.clone()));
        report["folders"] = folders.map(|dir| dir.display().to_string()).collect();
        report
    }

    fn forget(&self, name: &str) -> Result<bool, String> {
        self.0.forget(name).map_err(describe)
    }
}

// === impl Service ===

impl Service {
    /// Takes what it needs: socket, folders, plugins. Reads nothing yet.
    pub fn build(config: Config) -> Result<Self, ServiceError> {
        raise_open_files();
        let recorder = metrics::install()?;
        let status = Arc::new(Status::default());
        let address = SocketAddr::new(config.host, config.port);
        let listen = |address| {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let bound = listener.local_addr()?;
            Ok((listener, bound))
        };
        let (listener, address) = listen(address).map_err(|source| ServiceError::Listen { address, source })?;
        for path in [&config.logs_dir, &config.state_dir] {
            folder::make(path, 0o750).map_err(|source| ServiceError::Folder { path: path.clone(), source })?;
        }
        let stream = open_stream(&config)?;
        let host = PluginHost::start(
            HostConfig {
                plugins_dirs: config.plugins_dirs.clone(),
                required: config.required.clone(),
                cache_dir: config.cache_dir.clone(),
                trusted_keys: config.trusted_keys.clone(),
                state_dir: config.state_dir.clone(),
                memory_max: config.plugin_memory_max,
                timeout_max: config.plugin_timeout_max,
                // Not by its path: a binary that is replaced must still compile for the running one.
                exe: Some(PathBuf::from("/proc/self/exe")),
                compile: CompileLimits::default(),
            },
            Arc::clone(&status),
        )?;
        let sync_failures = SyncFailures::resume(&config.cache_dir, &config.state_dir, recorder.clone());
        let bell = Arc::default();
        let tokens = Tokens::new(config.api_token.as_ref(), config.api_tokens.as_deref())?;
        let named = address.ip().is_loopback() || !config.allowed_hosts.is_empty();
        let access = Access {
            tokens: Arc::new(tokens),
            hosts: named.then(|| config.allowed_hosts.clone()),
            origins: config.cors_origins.clone(),
        };
        Ok(Self {
            access,
            config: Arc::new(config),
            status,
            bell,
            stream,
            host,
            recorder,
            sync_failures,
            listener,
            address,
        })
    }

    /// Where HTTP listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The stream, to append to.
    pub fn stream(&self) -> Arc<dyn Stream> {
        Arc::clone(&self.stream)
    }

    /// Starts all threads.
    pub fn spawn(self) -> Running {
        let index = Index::start(self.config.logs_dir.clone());
        let hears = index.clone();
        self.bell.tell_lists(move |key| hears.touched(key));
        let stop = Arc::new(Ending::default());
        let failed = Arc::new(Mutex::new(None));
        let http_stop = CancellationToken::new();
        let http = self.spawn_http(index, &http_stop, &failed);
        let watch = self.spawn_watch(&stop, &failed);
        let owner = Owner {
            config: Arc::clone(&self.config),
            stream: Arc::clone(&self.stream),
            gaps: Arc::default(),
            host: Arc::clone(&self.host),
            status: Arc::clone(&self.status),
            bell: Arc::clone(&self.bell),
            metrics: Arc::new(DataPath::new()),
        };
        let owner_stop = Arc::clone(&stop);
        let owner = thread("owner", &failed, move || owner.run(&owner_stop));
        Running { stop, failed, http_stop, host: self.host, sync_failures: self.sync_failures, owner, watch, http }
    }

    fn spawn_http(
        &self,
        index: Index,
        stop: &CancellationToken,
        failed: &Arc<Mutex<Option<String>>>,
    ) -> Option<JoinHandle<()>> {
        let parts = HttpParts {
            logs_dir: self.config.logs_dir.clone(),
            index,
            status: Arc::clone(&self.status),
            bell: Arc::clone(&self.bell),
            stream: Arc::clone(&self.stream),
            plugins: Arc::new(Plugins(Arc::clone(&self.host), Arc::clone(&self.config))),
            access: self.access.clone(),
            metrics: self.recorder.clone(),
            limits: Limits { client_streams: self.config.client_streams, ..Limits::default() },
        };
        let (listener, stop) = (self.listener.try_clone(), stop.clone());
        thread("http", failed, move || {
            let served = (|| {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .thread_name("http")
                    .enable_all()
                    .build()?;
                let served = runtime.block_on(async {
                    let listener = tokio::net::TcpListener::from_std(listener?)?;
                    http::serve(listener, parts, stop).await
                });
                // Blocking work that is still under way holds only reads.
                runtime.shutdown_timeout(Duration::from_secs(1));
                served
            })();
            served.err().map(|error: io::Error| format!("HTTP failed: {error}"))
        })
    }

    /// Keeps what is shown of the stream fresh.
    fn spawn_watch(&self, stop: &Arc<Ending>, failed: &Arc<Mutex<Option<String>>>) -> Option<JoinHandle<()>> {
        let (stop, status, stream) = (Arc::clone(stop), Arc::clone(&self.status), Arc::clone(&self.stream));
        thread("watch", failed, move || {
            while !stop.is_draining() {
                match stream.backlog() {
                    Ok(backlog) => {
                        status.set_blocked("backlog", None);
                        status.backlog.store(Arc::new(view_of(&backlog, &status)));
                    }
                    Err(error) => {
                        let why = match &error {
                            SourceError::Io { .. } => "the stream takes no events",
                            _ => "the stream cannot be asked",
                        };
                        tracing::debug!(error = describe(error), "cannot see how much the stream holds");
                        status.set_blocked("backlog", Some(why.into()));
                    }
                }
                stop.wait(LOOK_EVERY);
            }
            None
        })
    }
}

/// The stream that the settings name.
pub(crate) fn open_stream(config: &Config) -> Result<Arc<dyn Stream>, SourceError> {
    let letters = config.letters;
    match RedisConfig::of(config) {
        Some(redis) => Ok(Arc::new(RedisStream::new(redis)?.with_letters(letters))),
        None => {
            let stream = EmbeddedStream::open(&config.stream_dir, &config.stream, config.event_max)?;
            Ok(Arc::new(stream.with_letters(letters)))
        }
    }
}

/// What `/metrics` shows of a backlog.
fn view_of(backlog: &source::Backlog, status: &Status) -> BacklogView {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
    let age = |ms: u64| (now - ms as f64 / 1000.0).max(0.0);
    let position = status.position();
    BacklogView {
        depth: backlog.entries,
        lag: backlog.entries.saturating_sub(position.open),
        lag_seconds: backlog.first_unread.map_or(0.0, |id| age(id.ms)),
        low: position.low,
        high: position.high,
    }
}

/// A thread whose result, or panic, says why the service failed.
fn thread(
    name: &str,
    failed: &Arc<Mutex<Option<String>>>,
    work: impl FnOnce() -> Option<String> + Send + 'static,
) -> Option<JoinHandle<()>> {
    let (slot, named) = (Arc::clone(failed), name.to_owned());
    let guarded = move || {
        let why = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
            .unwrap_or_else(|_| Some(format!("thread {named} panicked")));
        if let Some(why) = why {
            tracing::error!(why, "failed");
            slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        }
    };
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(guarded);
    if let Err(error) = &spawned {
        let why = format!("cannot start thread {name}: {error}");
        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }
    spawned.ok()
}

/// Raises the soft limit of open files to the hard one: each live task has one or two.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum.map(|maximum| maximum.min(65_536)).or(Some(65_536));
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

// === impl Running ===

impl Running {
    /// Ends: reads no more, commits what is in the lanes, publishes, gives the stream up, lets open requests finish. `false`:
    /// the grace period was exceeded, and what is left is read again at the next start.
    pub fn drain(mut self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        self.stop.drain();
        let mut met = join(self.owner.take(), deadline) && join(self.watch.take(), deadline);
        self.http_stop.cancel();
        met &= join(self.http.take(), deadline);
        if met {
            self.host.stop();
        }
        if let Err(error) = self.sync_failures.keep() {
            tracing::warn!(%error, "the count of failed syncs is not kept");
        }
        met
    }

    /// Whether a part has failed for good.
    pub fn failed(&self) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Looks for changed plugins now.
    pub fn rescan(&self) {
        self.host.rescan();
    }
}

fn join(handle: Option<JoinHandle<()>>, deadline: Instant) -> bool {
    let Some(handle) = handle else { return true };
    while !handle.is_finished() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    handle.join().is_ok()
}
