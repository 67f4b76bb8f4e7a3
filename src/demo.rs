//! The demonstration: the service on the embedded stream in a fresh folder, with the bundled plugins, fed with a bundled
//! session. It tells what became of the session and fails when any of it is not as it should be.

use std::{
    env, fs,
    io::{self, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tracing::warn;

use crate::{
    config::{Config, Required},
    publish::{self, PublishError, Sink},
    service::{Running, Service, ServiceError},
    shutdown::{self, Request, Signals},
};

mod asking;
mod report;
mod session;

use asking::{AskError, Asking};
use session::{BadSession, Session};

/// Names of the bundled plugins' files, without `.wasm`, which are their manifest names, too.
const PLUGINS: [&str; 3] = ["redact", "usage", "transcript"];
/// How long the plugins may take to compile, and the service to become ready.
const READY_MAX: Duration = Duration::from_secs(180);
/// How long the session may take to be through.
const DRAINED_MAX: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why the demonstration failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The bundled plugins are not there.
    #[error("no {name}.wasm in {folders}: run `make plugins`, or set PLUGINS_DIR")]
    Plugins {
        /// Which one.
        name: &'static str,
        /// Where it was looked for.
        folders: String,
    },
    /// A file or folder of the demonstration.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Signals, or standard output.
    #[error("cannot set up")]
    Setup(#[from] io::Error),
    /// The service did not start.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The session was not taken.
    #[error("cannot publish the session")]
    Publish(#[from] PublishError),
    /// The service's HTTP did not answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The bundled session.
    #[error("the bundled session cannot be used")]
    Session(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something did not come about in its time.
    #[error("{what} not within {} s; last seen: {seen}", limit.as_secs())]
    Late {
        /// What.
        what: &'static str,
        /// The time.
        limit: Duration,
        /// How far it came.
        seen: String,
    },
    /// A signal came first.
    #[error("ended by a signal")]
    Ended,
}

/// Runs it; with `exit` it ends after the session, else it keeps serving until a signal.
pub fn run(config: Config, exit: bool) -> Result<ExitCode, DemoError> {
    let began = Instant::now();
    let signals = Signals::install()?;
    let config = prepared(config)?;
    let (logs, stream_dir, token) = (config.logs_dir.clone(), config.stream_dir.clone(), config.api_token.clone());
    let (grace, event_max) = (config.shutdown_grace, config.event_max);
    say(&format!("task-logger demo\n  folder   {}\n  plugins  {}", shown_folder(&logs), PLUGINS.join(", ")))?;

    let service = Service::build(config)?;
    let asking = Asking::new(service.address(), token);
    let stream = service.stream();
    let running = service.spawn();

    let told = (|| {
        let stage = Stage { asking: &asking, signals: &signals, running: &running, logs: &logs };
        stage.wait("the service was ready", READY_MAX, || {
            let (status, body) = asking.get("/ready?write", "application/json")?;
            Ok((status == 200, body))
        })?;
        say(&format!("  ready    after {:.1} s", began.elapsed().as_secs_f64()))?;
        let session = Session::bundled(Timestamp::now())?;
        publish::send(session.text.as_bytes(), None, Sink::stream(stream), event_max, &mut io::stderr())?;
        stage.drained(&session)?;
        let well = stage.tell(&session, &stream_dir)?;
        say(&format!(
            "\n{} in {:.1} s",
            if well { "All is well," } else { "NOT all is well," },
            began.elapsed().as_secs_f64()
        ))?;
        Ok::<bool, DemoError>(well)
    })();

    match told {
        Ok(true) if !exit => {
            say(&format!("\n{}\nServing until Ctrl-C.", urls(&asking)))?;
            Ok(shutdown::supervise(running, &signals, grace))
        }
        Ok(well) => {
            let met = running.drain(grace);
            Ok(if well && met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => {
            if !running.drain(grace) {
                warn!("the grace period was not enough");
            }
            Err(error)
        }
    }
}

/// The settings of the demonstration: a fresh folder, the embedded stream, the bundled plugins, a free port.
fn prepared(config: Config) -> Result<Config, DemoError> {
    let folder = fresh_folder(&Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string())?;
    let logs_dir = folder.join("logs/tasks");
    // The last one, so that whoever tries a plugin installs it here, and no other demo sees it.
    let own_plugins = folder.join("plugins");
    for path in [&logs_dir, &own_plugins] {
        fs::create_dir_all(path).map_err(|source| DemoError::Io { action: "create", path: path.clone(), source })?;
    }
    let port = match TcpListener::bind((config.host, config.port)) {
        Ok(_) => config.port,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            say(&format!("port {} is taken; a free one is used", config.port))?;
            0
        }
        // The service's own attempt tells it better.
        Err(_) => config.port,
    };
    Ok(Config {
        redis_url: None,
        state_dir: logs_dir.join(crate::layout::STATE_DIR),
        logs_dir,
        stream_dir: folder.join("stream"),
        plugins_dirs: plugins_dirs(&config)?.into_iter().chain([own_plugins]).collect(),
        required: Required::List(PLUGINS.map(str::to_owned).to_vec()),
        port,
        ..config
    })
}

/// `data/demo-…`, made here and now: no other run's and nobody's files are in it.
fn fresh_folder(stamp: &str) -> Result<PathBuf, DemoError> {
    let failed = |path: &Path, source| DemoError::Io { action: "create", path: path.to_owned(), source };
    let data = std::path::absolute("data")?;
    fs::create_dir_all(&data).map_err(|source| failed(&data, source))?;
    let mut folder = data.join(format!("demo-{stamp}"));
    for n in 2.. {
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                folder = data.join(format!("demo-{stamp}-{n}"))
            }
            made => {
                made.map_err(|source| failed(&folder, source))?;
                break;
            }
        }
    }
    Ok(folder)
}

/// `PLUGINS_DIR`, where the bundled plugins are in it; else the folder that `make plugins` fills, beside the program's own.
fn plugins_dirs(config: &Config) -> Result<Vec<PathBuf>, DemoError> {
    let lacks = |folders: &[PathBuf]| {
        let has = |name: &str| folders.iter().any(|folder| folder.join(format!("{name}.wasm")).is_file());
        PLUGINS.into_iter().find(|name| !has(name))
    };
    let program = env::current_exe()?;
    let built = program.parent().and_then(Path::parent).map(|target| target.join("plugins"));
    let given = config.plugins_dirs.clone();
    let with_built: Vec<_> = built.into_iter().chain(given.iter().cloned()).collect();
    for folders in [given, with_built.clone()] {
        if lacks(&folders).is_none() {
            return Ok(folders);
        }
    }
    let folders: Vec<_> = with_built.iter().map(|folder| folder.display().to_string()).collect();
    Err(DemoError::Plugins { name: lacks(&with_built).unwrap_or_default(), folders: folders.join(", ") })
}

/// The running service and where its files are.
struct Stage<'a> {
    asking: &'a Asking,
    signals: &'a Signals,
    running: &'a Running,
    logs: &'a Path,
}

impl Stage<'_> {
    /// Looks until it is so. The text is what was seen, for the message when it never is.
    fn wait(
        &self,
        what: &'static str,
        limit: Duration,
        mut look: impl FnMut() -> Result<(bool, String), DemoError>,
    ) -> Result<(), DemoError> {
        let began = Instant::now();
        loop {
            let (done, seen) = look()?;
            if done {
                return Ok(());
            }
            if began.elapsed() > limit || self.running.failed() {
                return Err(DemoError::Late { what, limit, seen });
            }
            match self.signals.wait(LOOK_EVERY) {
                Some(Request::Drain) => return Err(DemoError::Ended),
                Some(Request::Rescan) => self.running.rescan(),
                None => {}
            }
        }
    }

    /// Until every event is published and stands in the files.
    fn drained(&self, session: &Session) -> Result<(), DemoError> {
        self.wait("the session was drained", DRAINED_MAX, || {
            let depth = self.asking.json("/metrics")?["queue_depth"].as_u64();
            let records = report::records(self.logs).map_err(|source| self.unreadable(source))?;
            let ended = report::ended(self.logs, &session.tasks).map_err(|source| self.unreadable(source))?;
            let (tasks, all) = (session.tasks.len(), session.records);
            let done = depth == Some(0) && records == all && ended == tasks;
            let depth = depth.map_or("unknown".to_owned(), |depth| depth.to_string());
            Ok((done, format!("queue depth {depth}, {records} of {all} records, {ended} of {tasks} tasks ended")))
        })
    }

    /// Prints the story; `false` when it is not as it should be.
    fn tell(&self, session: &Session, stream_dir: &Path) -> Result<bool, DemoError> {
        let unreadable = |source| self.unreadable(source);
        say(&format!(
            "  session  {} events of {} tasks, drained\n\nWhat was written\n{}",
            session.events,
            session.tasks.len(),
            report::tree(self.logs).map_err(unreadable)?
        ))?;

        let (_, metrics) = self.asking.get("/metrics", "text/plain")?;
        let counts = report::plugin_counts(&metrics, "redact");
        let lines: Vec<_> = counts
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(rule, count)| format!("  {count:>4}  {rule}"))
            .collect();
        say(&format!("Redactions per rule\n{}", lines.join("\n")))?;
        let examples = report::examples(self.logs).map_err(unreadable)?;
        say(&format!("\nAs they stand in the files\n  {}", examples.join("\n  ")))?;
        say(&format!("\nUsage per task\n{}", report::usage(self.logs, &session.tasks).trim_end()))?;

        let gaps = report::gaps(self.logs).map_err(unreadable)?;
        let gaps_shown = if gaps.is_empty() { "none".to_owned() } else { gaps.join("\n  ") };
        say(&format!(
            "\nThe malformed event left a gap record, and is kept as it came in the dead letters of {}\n  {gaps_shown}",
            shown_folder(stream_dir)
        ))?;

        let leaks = session.leaks(self.logs).map_err(unreadable)?;
        let secrets = session.secrets();
        if leaks.is_empty() {
            say(&format!(
                "\nNone of the session's {secrets} secrets is in any file of LOGS_DIR, the journal included."
            ))?;
        } else {
            say(&format!("\nSECRETS FOUND: {}", leaks.join(", ")))?;
        }
        let told = [
            (!counts.is_empty(), "nothing was redacted"),
            (gaps.len() == 1, "the malformed event is not told by exactly one gap record"),
            (leaks.is_empty(), "a secret was written"),
        ];
        for (_, trouble) in told.iter().filter(|(well, _)| !well) {
            say(&format!("TROUBLE: {trouble}"))?;
        }
        Ok(told.iter().all(|(well, _)| *well))
    }

    fn unreadable(&self, source: io::Error) -> DemoError {
        DemoError::Io { action: "read", path: self.logs.to_owned(), source }
    }
}

fn urls(asking: &Asking) -> String {
    let url = asking.url();
    let paths = [
        "/tasks",
        "/tasks/task-7f3a9c21d0b4/logs",
        "/tasks/task-7f3a9c21d0b4/files/transcript.md",
        "/metrics",
        "/plugins",
        "/health",
    ];
    let lines: Vec<_> = paths.iter().map(|path| format!("  curl {url}{path}")).collect();
    let install = format!("  task-logger plugin install NAME.wasm --url {url}");
    format!("Try\n{}\nand your own plugin, live (plugins/README.md)\n{install}", lines.join("\n"))
}

/// Relative to the working directory where it is below it: shorter, and no machine's path.
fn shown_folder(path: &Path) -> String {
    let here = env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

impl From<BadSession> for DemoError {
    fn from(error: BadSession) -> Self {
        Self::Session(Box::new(error))
    }
}
