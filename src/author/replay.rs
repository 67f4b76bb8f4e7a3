//! `replay`: a recorded task of `LOGS_DIR` through another set of plugins, by the service's own path (decode, chain, layout,
//! journal, files) with a recording as the stream, and what differs from what was recorded.
//!
//! What a folder does not tell, and what is therefore not as it was: events that left no record (those without a valid key);
//! the text of an event that is a gap, which stays one; which webhook flow a record came from, so that plugins see a flow's
//! events under the task; whether an absent `content` was an empty one; which of the ids in `metadata.json` was which
//! lifecycle event, beyond one of each. What was redacted stays redacted: the originals are not in the folder.
//!
//! Exit status: 0 nothing differs, 2 something does, 1 it could not be done.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use cap_std::{ambient_authority, fs::Dir};
use serde_json::Value;

mod diff;
mod lifecycle;
mod record;
mod recorded;
mod show;
mod stream;

use recorded::Recorded;
use stream::RecordedStream;

use crate::{
    cli::Replay,
    committer::files,
    config::{Config, Fsync},
    ending::Ending,
    event::{Entry, Id, InvalidId, Key, StreamId},
    metrics::DataPath,
    owner::Owner,
    plugin::{self, CompileLimits, HostConfig, MemoryError, PluginError, PluginHost},
    reader::{Logs, ReadError, Shelf},
    retention::Rules,
    shutdown::{Request, Signals},
    status::Status,
};

/// Something differs.
const DIFFERS: u8 = 2;
/// Between two looks at whether it is through.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Folder in `--out` for what is not done yet.
const WORK: &str = ".replay";

/// Why a task was not replayed. Then nothing is left in `--out`.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The id is none.
    #[error("no task has this id")]
    Id(#[from] InvalidId),
    /// There is no such folder.
    #[error("no task {task:?} in {logs}; LOGS_DIR says where to look")]
    NoTask {
        /// Its id.
        task: String,
        /// `LOGS_DIR`.
        logs: PathBuf,
    },
    /// There is nothing in it.
    #[error("the task's folder records no event")]
    Nothing,
    /// `--out` is in use.
    #[error("{0} is not empty: nothing is overwritten")]
    OutInUse(PathBuf),
    /// A folder of plugins is not there.
    #[error("{0} of --plugins is no folder")]
    NoFolder(PathBuf),
    /// The set is empty.
    #[error("there is no plugin in {0}")]
    NoPlugin(String),
    /// One of the set would not run.
    #[error("{file} is refused, and nothing is replayed without it: {reason}")]
    Refused {
        /// Its file.
        file: String,
        /// Why.
        reason: String,
    },
    /// One that is required is not in the set.
    #[error("{0}. What the service requires is required here, too: name its folders in --plugins, before your own")]
    Missing(String),
    /// The plugins stopped it.
    #[error("stopped: {0}")]
    Blocked(String),
    /// The data path failed.
    #[error("failed: {0}")]
    Failed(String),
    /// The set changed under the replay.
    #[error("the plugins changed during the replay: run it again")]
    Changed,
    /// A signal came first.
    #[error("ended by a signal")]
    Ended,
    /// The task's folder cannot be read.
    #[error("cannot read the task's folder")]
    Read(#[from] ReadError),
    /// One of its files cannot be read.
    #[error("cannot read {file}")]
    Unreadable {
        /// Which.
        file: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A line that this service did not write.
    #[error("{file}, byte {at}: no record with an id, so the event that left it has no place in the order")]
    Line {
        /// Its file.
        file: String,
        /// Where it begins.
        at: u64,
    },
    /// The static documents do not tell what happened.
    #[error("the task's documents cannot be turned back into events: {why}")]
    Document {
        /// Why not.
        why: String,
    },
    /// Two records of one event.
    #[error("two records have the id {id}")]
    Doubled {
        /// Theirs.
        id: StreamId,
    },
    /// A folder or file of the replay.
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
    /// The plugin host.
    #[error(transparent)]
    Plugins(#[from] PluginError),
    /// What is required cannot be known.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Signals, a thread, or the output.
    #[error(transparent)]
    Setup(io::Error),
}

/// Runs it and prints what differs.
pub(super) fn run(config: Config, replay: &Replay, out: &mut dyn Write) -> Result<ExitCode, ReplayError> {
    let task = Id::parse(&replay.task)?;
    let logs = Logs::new(config.logs_dir.clone());
    let no_task = || ReplayError::NoTask { task: replay.task.clone(), logs: config.logs_dir.clone() };
    let folder = logs.folder(Shelf::Tasks, &task)?.ok_or_else(no_task)?;
    let recorded = Arc::new(Recorded::of(&folder, task.clone(), started_keys(&config.logs_dir, &task)?)?);
    if recorded.len() == 0 {
        return Err(ReplayError::Nothing);
    }
    let plugins = folders(&replay.plugins)?;
    let work = Work::make(&replay.out)?;
    let provenance = through(&config, plugins, &work, &recorded)?;
    work.publish(&task)?;
    let replayed = Logs::new(replay.out.clone()).folder(Shelf::Tasks, &task)?.ok_or(ReplayError::Nothing)?;
    let difference = diff::compare(&folder, &replayed)?;
    let told = show::Told {
        task: &replay.task,
        out: &replay.out.join(&*task.dir_name()),
        events: recorded.len(),
        gaps: recorded.gaps().len(),
        plugins: &provenance,
        difference: &difference,
    };
    let shown = if replay.json { told.json(out) } else { told.text(out) };
    match shown {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(ReplayError::Setup(error)),
        _ => {}
    }
    Ok(if difference.is_none() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
}

/// The events of a task's folder, wherever it stands, as a stream held them. Those that are gaps are left out: nothing of
/// their data is known.
pub(super) fn entries_of(dir: &Path) -> Result<Vec<Entry>, ReplayError> {
    let failed = |source| ReplayError::Io { action: "open", path: dir.to_owned(), source };
    let dir = fs::canonicalize(dir).map_err(failed)?;
    let logs_dir = dir.parent().unwrap_or(&dir).to_owned();
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let no_task = || ReplayError::NoTask { task: name.clone(), logs: logs_dir.clone() };
    let task = Id::from_dir_name(&name).ok_or_else(no_task)?;
    let folder = Logs::new(logs_dir.clone()).folder(Shelf::Tasks, &task)?.ok_or_else(no_task)?;
    let recorded = Recorded::of(&folder, task.clone(), started_keys(&logs_dir, &task)?)?;
    let gaps = recorded.gaps();
    let entries = (0..recorded.len()).filter_map(|at| recorded.entry(at).transpose());
    entries.filter(|entry| !entry.as_ref().is_ok_and(|entry| gaps.contains_key(&entry.id))).collect()
}

/// What only the task's checkpoint tells. Without one (a copied folder) all is taken to have come with `task:created`.
fn started_keys(logs_dir: &Path, task: &Id) -> Result<Vec<String>, ReplayError> {
    let failed = |source| ReplayError::Io { action: "read the checkpoint in", path: logs_dir.to_owned(), source };
    let root = Dir::open_ambient_dir(logs_dir, ambient_authority()).map_err(failed)?;
    let (state, _) = files::load(&root, &Key::Task(task.clone())).map_err(failed)?;
    Ok(state.documents.started_keys().to_vec())
}

fn folders(text: &str) -> Result<Vec<PathBuf>, ReplayError> {
    let folders: Vec<PathBuf> = text.split(':').filter(|part| !part.is_empty()).map(PathBuf::from).collect();
    match folders.iter().find(|folder| !folder.is_dir()) {
        Some(missing) => Err(ReplayError::NoFolder(missing.clone())),
        None if folders.is_empty() => Err(ReplayError::NoPlugin(text.to_owned())),
        None => Ok(folders),
    }
}

/// The service's data path on the recording. Returns `name version` of each plugin of the chain.
fn through(
    config: &Config,
    plugins_dirs: Vec<PathBuf>,
    work: &Work,
    recorded: &Arc<Recorded>,
) -> Result<Vec<String>, ReplayError> {
    let signals = Signals::install().map_err(ReplayError::Setup)?;
    plugin::inherit_requirements(&config.state_dir, &work.state())?;
    let config = Config {
        redis_url: None,
        logs_dir: work.logs(),
        state_dir: work.state(),
        plugins_dirs: plugins_dirs.clone(),
        // The original files are at their place: a power loss costs a replay.
        fsync: Fsync::Never,
        lanes: 1,
        retain: Rules::default(),
        // What was taken once is taken again; a redaction may have made it longer.
        event_max: usize::MAX,
        ..config.clone()
    };
    let status = Arc::new(Status::default());
    let host = PluginHost::start(
        HostConfig {
            plugins_dirs,
            required: config.required.clone(),
            cache_dir: config.cache_dir.clone(),
            state_dir: config.state_dir.clone(),
            memory_max: config.plugin_memory_max,
            timeout_max: config.plugin_timeout_max,
            compile: CompileLimits::default(),
            trusted_keys: config.trusted_keys.clone(),
            exe: Some(PathBuf::from("/proc/self/exe")),
        },
        Arc::clone(&status),
    )?;
    accept(&host.report(), &config)?;
    host.gate().map_err(|blocked| ReplayError::Missing(blocked.reason))?;
    let provenance = host.provenance();

    let stream = Arc::new(RecordedStream::new(Arc::clone(recorded)));
    let owner = Owner {
        config: Arc::new(config),
        stream: Arc::clone(&stream) as Arc<dyn crate::source::Stream>,
        gaps: recorded.gaps(),
        host: Arc::clone(&host),
        status: Arc::clone(&status),
        bell: Arc::default(),
        metrics: Arc::new(DataPath::new()),
    };
    let stop = Ending::default();
    let ended = std::thread::scope(|scope| {
        let owning = scope.spawn(|| owner.run(&stop));
        let ended = wait(&stream, &status, &signals, || owning.is_finished());
        stop.drain();
        stream.end();
        match owning.join() {
            Ok(None) => ended,
            Ok(Some(why)) => Err(ReplayError::Failed(why)),
            Err(_) => Err(ReplayError::Failed("a thread panicked".to_owned())),
        }
    });
    let changed = host.provenance().chain_digest != provenance.chain_digest;
    host.stop();
    ended?;
    if changed {
        return Err(ReplayError::Changed);
    }
    Ok(provenance.plugins.iter().map(|plugin| format!("{} {}", plugin.name, plugin.version)).collect())
}

/// All of the set must run: a replay without one of it would show what no service does.
fn accept(report: &Value, config: &Config) -> Result<(), ReplayError> {
    let files = report["plugins"].as_array().map(Vec::as_slice).unwrap_or_default();
    if let Some(refused) = files.iter().find(|file| file["refused"].is_object()) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        return Err(ReplayError::Refused { file: text(&refused["file"]), reason: text(&refused["refused"]["reason"]) });
    }
    if files.is_empty() {
        let folders: Vec<_> = config.plugins_dirs.iter().map(|folder| folder.display().to_string()).collect();
        return Err(ReplayError::NoPlugin(folders.join(":")));
    }
    Ok(())
}

/// Until everything is durable, or cannot become so.
fn wait(
    stream: &RecordedStream,
    status: &Status,
    signals: &Signals,
    is_over: impl Fn() -> bool,
) -> Result<(), ReplayError> {
    loop {
        if stream.wait_through(LOOK_EVERY) {
            return Ok(());
        }
        let blocked = status.blocked();
        // What comes and goes by itself (a full disk) is waited for; plugins that stop do not start again here.
        if let Some(reason) = blocked.get("plugins") {
            return Err(ReplayError::Blocked(reason.clone()));
        }
        if is_over() {
            return Err(ReplayError::Failed("the data path ended early".to_owned()));
        }
        if signals.wait(Duration::ZERO) == Some(Request::Drain) {
            return Err(ReplayError::Ended);
        }
    }
}

/// Where the replay writes until it is through; removed when dropped.
struct Work {
    out: PathBuf,
    path: PathBuf,
}

// === impl Work ===

impl Work {
    fn make(out: &Path) -> Result<Self, ReplayError> {
        let failed = |action, path: &Path, source| ReplayError::Io { action, path: path.to_owned(), source };
        fs::create_dir_all(out).map_err(|source| failed("create", out, source))?;
        let mut entries = fs::read_dir(out).map_err(|source| failed("list", out, source))?;
        if entries.next().is_some() {
            return Err(ReplayError::OutInUse(out.to_owned()));
        }
        let path = out.join(WORK);
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).map_err(|source| failed("create", &path, source))?;
        Ok(Self { out: out.to_owned(), path })
    }

    fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Moves the task's folder to where it is to stand, without what only a service needs.
    fn publish(self, task: &Id) -> Result<(), ReplayError> {
        let (from, to) = (self.logs().join(&*task.dir_name()), self.out.join(&*task.dir_name()));
        let moved = match fs::remove_file(from.join(crate::layout::STATE_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::rename(&from, &to),
        };
        moved.map_err(|source| ReplayError::Io { action: "write", path: to, source })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(folder = %self.path.display(), %error, "cannot remove the replay's folder");
        }
    }
}
