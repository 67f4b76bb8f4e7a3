//! Ownership: asks for the stream, and while it has it runs the data path: reader, lanes, committer, publisher, applier,
//! checkpointer. Ends when asked, when another owner took over, or when the process must exit.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicU64, mpsc::sync_channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    bell::Bell,
    committer::{
        Committer, Progress,
        apply::Applying,
        checkpoint::Checkpointing,
        describe,
        files::{FilesError, TaskFiles},
        publish::Publishing,
        table::Table,
        tombstones::Tombstones,
        trim::Trimming,
    },
    condemned::{Condemned, Hearing, Sentence},
    config::Config,
    decode::RecordedGaps,
    ending::{Cause, Ending},
    event::StreamId,
    fault,
    journal::{self, Journal, JournalError, replay::Checkpoint, segment},
    lane::Lane,
    metrics::DataPath,
    plugin::PluginHost,
    position::{Position, Tracker},
    reading::Reading,
    recover::{self, RecoverError, Recovered},
    retention::Retention,
    source::{OwnRequest, Owned, SourceError, Stream},
    status::{Role, Status},
    suspicion::Suspicion,
    window::Window,
};

mod state_folder;

use state_folder::{lock, state_id};

/// How often a standby asks for the stream.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Batches of entries on their way to a lane. Their bytes are bounded by the window; this is the bound of their number.
const LANE_QUEUE: usize = 16_384;
/// Batches of slices on their way to the committer.
const SLICE_QUEUE: usize = 256;
/// Bytes that plugins may have made beyond what came in and that are not yet in the files; then lanes wait.
const SURPLUS_WINDOW: usize = 64 << 20;
/// Groups on their way to the publisher and to the applier.
const GROUP_QUEUE: usize = 64;

/// What the owner's thread works with.
pub struct Owner {
    /// Settings.
    pub config: Arc<Config>,
    /// The stream.
    pub stream: Arc<dyn Stream>,
    /// What a recording knows by gap records alone; a stream has none.
    pub gaps: Arc<RecordedGaps>,
    /// The plugins.
    pub host: Arc<PluginHost>,
    /// What is said of it all.
    pub status: Arc<Status>,
    /// Who follows which task.
    pub bell: Arc<Bell>,
    /// Counters.
    pub metrics: Arc<DataPath>,
}

/// Why an ownership could not begin.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot use the state folder {path}")]
    State {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("cannot read the stream")]
    Source(#[from] SourceError),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

// === impl StartError ===

impl StartError {
    /// Whether the next try may succeed: there was no room in the files, or no permission.
    fn may_pass(&self) -> bool {
        match self {
            Self::State { source, .. } => segment::may_pass(source),
            Self::Recover(RecoverError::Journal(error)) | Self::Journal(error) => error.may_pass(),
            Self::Recover(RecoverError::Files(error)) | Self::Files(error) => error.may_pass(),
            Self::Source(error) | Self::Recover(RecoverError::Dead(error)) => {
                matches!(error, SourceError::Io { .. }) && !error.is_fatal()
            }
            Self::Thread(_) => false,
        }
    }
}

// === impl Owner ===

impl Owner {
    /// Works until a drain is asked for, or returns why the process must exit.
    pub fn run(&self, stop: &Ending) -> Option<String> {
        while !stop.is_draining() {
            let ended = self.own(stop);
            self.status.set_blocked("owner", None);
            self.status.set_blocked("dead_letters", None);
            self.status.set_blocked("suspicion", None);
            self.status.set_notice("careful", None);
            self.status.set_notice("trim", None);
            self.status.set_notice("retention", None);
            match ended {
                Ok(Some(Cause::Fatal(why))) => return Some(why),
                Ok(Some(Cause::Lost(why))) if !stop.is_draining() => tracing::warn!(why, "ownership lost; standing by"),
                Ok(_) => {}
                Err(StartError::Source(error @ SourceError::LettersFull { .. })) => {
                    tracing::warn!("{error}; trying again");
                    self.status.set_blocked("dead_letters", Some(error.to_string()));
                }
                Err(error) if error.may_pass() => {
                    let error = describe(error);
                    tracing::error!(error, "files cannot be written; trying again");
                    self.status.set_blocked("start", Some(error));
                }
                Err(StartError::Source(error)) if !error.is_fatal() => {
                    tracing::warn!(error = describe(error), "stream cannot be reached; trying again");
                    self.status.set_blocked("stream", Some("the stream cannot be reached".into()));
                }
                Err(error) => return Some(describe(error)),
            }
            stop.wait(ASK_EVERY);
        }
        None
    }

    /// Asks for the stream once; with it, works until the end of the ownership.
    fn own(&self, stop: &Ending) -> Result<Option<Cause>, StartError> {
        let name = self.stream.state_name();
        let dir = recover::state_dir(&self.config.state_dir, &name)
            .map_err(|source| StartError::State { path: self.config.state_dir.join(&name), source })?;
        let lock = lock(&dir).map_err(|source| StartError::State { path: dir.clone(), source })?;
        let request = OwnRequest {
            epoch_min: recover::epoch_of(&dir)?,
            state_id: state_id(&dir).map_err(|source| StartError::State { path: dir.clone(), source })?,
            holds_local_lock: lock.is_some(),
            chain_digest: self.host.chain_digest(),
            state_dir: Some(dir.clone()),
        };
        let Some(owned) = self.stream.try_own(&request)? else {
            self.stand_by();
            return Ok(None);
        };
        self.status.set_blocked("stream", None);
        self.status.set_blocked("standby", None);
        tracing::info!(epoch = owned.epoch, stream = self.stream.describe(), "owning the stream");
        let lease = Arc::clone(&owned.lease);
        let ended = match self.session(stop, &dir, owned, request.epoch_min, lock.is_some()) {
            // A successor that took over while we started has moved our files away.
            Err(error) if !lease.is_held() => Ok(Some(Cause::Lost(describe(error)))),
            ended => ended,
        };
        // What the threads of this ownership said of themselves ends with them.
        for part in ["plugins", "read", "disk", "publish", "suspicion"] {
            self.status.set_blocked(part, None);
        }
        self.status.set_blocked("stream", Some("the stream is not owned".into()));
        lease.release();
        drop(lock);
        let role = Role { role: "standby", epoch: 0, stream: self.stream.describe() };
        self.status.role.store(Arc::new(role));
        ended
    }

    fn stand_by(&self) {
        if self.status.role.load().role != "standby" {
            tracing::info!(stream = self.stream.describe(), "another process owns the stream; standing by");
        }
        let role = Role { role: "standby", epoch: 0, stream: self.stream.describe() };
        self.status.role.store(Arc::new(role));
        self.status.set_blocked("stream", None);
        self.status.set_blocked("start", None);
        self.status.set_blocked("standby", Some("another process owns the stream; this one stands by".into()));
    }

    /// Says what cannot be known without the journal of earlier owners.
    fn note_loss(&self, recovered: &Recovered, epoch: u64, position: &Position) {
        let why = match &recovered.old {
            Some(why) => format!("the journal is an old copy ({why})"),
            None if recovered.position.is_none() && epoch > 1 && position.low > StreamId::MIN => {
                "the journal is gone".to_owned()
            }
            None => return,
        };
        let low = position.low;
        tracing::error!(%low, "{why}: what was in flight up to here may be missing; `task-logger verify` tells");
        let notice = format!("{why}: went on at {low}; what was in flight then may be missing");
        self.status.set_notice("journal", Some(notice));
    }

    fn session(
        &self,
        stop: &Ending,
        dir: &Path,
        owned: Owned,
        known_epoch: u64,
        holds_lock: bool,
    ) -> Result<Option<Cause>, StartError> {
        let Owned { epoch, lease, mut reader, mut publisher, desk } = owned;
        let config = &self.config;
        let name = self.stream.state_name();
        let mut files = TaskFiles::open(&config.logs_dir, &name, epoch, open_files_max())?;
        // Elsewhere than in our own log anybody may move the position; an owner that this journal knows nothing of is a sign that
        // it was one of us.
        let published = reader.published()?.filter(|published| published.is_ours || epoch > known_epoch + 1);
        let published = published.map(|published| published.low);
        let recovered = recover::recover(dir, epoch, &mut files, published, |dead| publisher.bury(dead, true));
        let recovered = recovered.map_err(|error| match error {
            RecoverError::Dead(error) => StartError::Source(error),
            error => error.into(),
        })?;
        let position = reader.start(recovered.position.as_ref())?;
        match &recovered.position {
            Some(recovered) if *recovered == position => publisher.publish(&journal::recovered(epoch, recovered))?,
            // The group's or another incarnation's: no record tells of its holes.
            _ => {
                let sequence = recovered.next_sequence - 1;
                Checkpoint { epoch, sequence, position: position.clone() }.write(dir)?;
            }
        }
        if recovered.position.is_none() && position.high > StreamId::MIN {
            recover::note_beginning(dir, position.high)
                .map_err(|source| StartError::State { path: dir.to_owned(), source })?;
        }
        let condemned = Arc::new(Condemned::new(position.low));
        let suspicion = Suspicion::begin(dir, &position, holds_lock)
            .map_err(|source| StartError::State { path: dir.to_owned(), source })?;
        if let Some((id, deaths)) = suspicion.poison() {
            tracing::error!(%id, deaths, "the process died of this entry each time that it ran alone: it becomes a dead letter");
            condemned.condemn(id, Sentence::poison(deaths));
        }
        let suspicion = Arc::new(suspicion);
        self.note_loss(&recovered, epoch, &position);
        let role = Role { role: "owner", epoch, stream: self.stream.describe() };
        self.status.role.store(Arc::new(role));
        self.status.set_blocked("start", None);

        let ending = Arc::new(Ending::default());
        let window = Arc::new(Window::new(config.read_window));
        let surplus = Arc::new(Window::new(SURPLUS_WINDOW));
        let tracker = Arc::new(Mutex::new(Tracker::new(&position)));
        let progress = Arc::new(Progress::default());
        progress.reached(recovered.next_sequence - 1);
        progress.cover(position.low);
        let checkpointed: Vec<Arc<AtomicU64>> = (0..config.lanes).map(|_| Arc::default()).collect();

        let began = position.high;
        let removed = Tombstones::load(dir).map_err(|source| StartError::State { path: dir.to_owned(), source })?;

        let (slices_in, slices) = sync_channel(SLICE_QUEUE);
        let (synced_in, synced) = sync_channel(GROUP_QUEUE);
        let (published_in, published) = sync_channel(GROUP_QUEUE);
        let (jobs_in, jobs) = sync_channel(1);
        let (done_in, done) = sync_channel(1);
        let committer = Committer {
            journal: Journal::create(dir, epoch, recovered.next_sequence)?,
            table: Table::settled(files.sibling("t")?, removed),
            position,
            tracker: Arc::clone(&tracker),
            fsync: config.fsync,
            publish: synced_in,
            checkpoint: jobs_in,
            checkpointed: done,
            lanes: checkpointed.clone(),
            progress: Arc::clone(&progress),
            lease: Arc::clone(&lease),
            status: Arc::clone(&self.status),
            metrics: Arc::clone(&self.metrics),
            ending: Arc::clone(&ending),
        };
        let checkpointing = Checkpointing {
            files: files.sibling("c")?,
            state_dir: dir.to_owned(),
            epoch,
            progress: Arc::clone(&progress),
            status: Arc::clone(&self.status),
            metrics: Arc::clone(&self.metrics),
            lease: Arc::clone(&lease),
            ending: Arc::clone(&ending),
        };
        let trimming = config.trim.then(|| Trimming {
            progress: Arc::clone(&progress),
            status: Arc::clone(&self.status),
            metrics: Arc::clone(&self.metrics),
            next: Instant::now(),
            published: StreamId::MIN,
        });
        let aside = files.sibling("x")?;
        let applying = Applying {
            files,
            window: Arc::clone(&window),
            surplus: Arc::clone(&surplus),
            progress,
            bell: Arc::clone(&self.bell),
            status: Arc::clone(&self.status),
            metrics: Arc::clone(&self.metrics),
            lease: Arc::clone(&lease),
            ending: Arc::clone(&ending),
        };
        let publishing = Publishing {
            publisher,
            trimming,
            condemned: Arc::clone(&condemned),
            status: Arc::clone(&self.status),
            metrics: Arc::clone(&self.metrics),
            ending: Arc::clone(&ending),
        };
        let mut lanes = Vec::new();
        let mut reading_lanes = Vec::new();
        for (number, checkpointed) in checkpointed.iter().enumerate() {
            let (entries_in, entries) = sync_channel(LANE_QUEUE);
            reading_lanes.push(entries_in);
            let lane = self.lane(number, began, checkpointed, [&window, &surplus], &condemned, &ending);
            lanes.push((lane, entries, slices_in.clone()));
        }
        let retention = Retention {
            rules: config.retain,
            files: aside,
            logs_dir: config.logs_dir.clone(),
            state_name: name.clone(),
            lanes: reading_lanes.clone(),
            tracker: Arc::clone(&tracker),
            began,
            status: Arc::clone(&self.status),
            ending: Arc::clone(&ending),
        };
        let reading = Reading {
            reader,
            tracker,
            window,
            lease: Arc::clone(&lease),
            host: Arc::clone(&self.host),
            lanes: reading_lanes,
            lost: slices_in,
            batch: config.batch,
            suspicion: Arc::clone(&suspicion),
            status: Arc::clone(&self.status),
            metrics: Arc::clone(&self.metrics),
            ending: Arc::clone(&ending),
        };

        let hearing = Hearing { desk, condemned, ending: Arc::clone(&ending) };

        let mut threads = Threads { ending: Arc::clone(&ending), all: Vec::new() };
        threads.spawn("committer", move || committer.run(slices))?;
        threads.spawn("publisher", move || publishing.run(synced, published_in))?;
        threads.spawn("applier", move || applying.run(published))?;
        threads.spawn("checkpointer", move || checkpointing.run(jobs, done_in))?;
        for (lane, entries, slices) in lanes {
            threads.spawn("lane", move || lane.run(entries, slices))?;
        }
        threads.spawn("reader", move || reading.run())?;
        threads.spawn("hearing", move || hearing.run())?;
        threads.spawn("retention", move || retention.run())?;

        while !stop.is_draining() && !ending.is_over() {
            stop.wait(Duration::from_millis(100));
            fault::pass("owner::look");
            if !lease.is_held() {
                // The threads find out when what they wait for has timed out; whoever asks should not wait as long.
                self.status.set_blocked("stream", Some("the lease cannot be renewed".into()));
                ending.lost("the lease ran out");
            }
        }
        if stop.is_draining() {
            suspicion.stopping();
        }
        ending.drain();
        threads.join();
        if !ending.has_panicked() {
            suspicion.ended();
        }
        lease.release();
        Ok(ending.cause())
    }

    fn lane(
        &self,
        number: usize,
        taken: StreamId,
        checkpointed: &Arc<AtomicU64>,
        [window, surplus]: [&Arc<Window>; 2],
        condemned: &Arc<Condemned>,
        ending: &Arc<Ending>,
    ) -> Lane {
        Lane {
            number,
            taken,
            window: Arc::clone(window),
            surplus: Arc::clone(surplus),
            condemned: Arc::clone(condemned),
            chain: self.host.lane(),
            host: Arc::clone(&self.host),
            logs_dir: self.config.logs_dir.clone(),
            hold_max: self.config.hold_max,
            event_max: self.config.event_max,
            gaps: Arc::clone(&self.gaps),
            checkpointed: Arc::clone(checkpointed),
            status: Arc::clone(&self.status),
            metrics: Arc::clone(&self.metrics),
            ending: Arc::clone(ending),
        }
    }
}

/// The threads of an ownership. Each ends when the one before it in the data's way is gone.
struct Threads {
    ending: Arc<Ending>,
    all: Vec<JoinHandle<()>>,
}

impl Threads {
    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
        let ending = Arc::clone(&self.ending);
        let panicking = name.to_owned();
        let guarded = move || {
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
                // Nothing is known of what it held: exit and recover from the journal.
                ending.panicked(&panicking);
            }
        };
        match std::thread::Builder::new().name(name.to_owned()).spawn(guarded) {
            Ok(handle) => {
                self.all.push(handle);
                Ok(())
            }
            Err(error) => {
                self.ending.fatal("cannot start a thread");
                Err(StartError::Thread(error))
            }
        }
    }

    fn join(&mut self) {
        for handle in self.all.drain(..) {
            // A panic was caught inside and noted as the ending's cause.
            drop(handle.join());
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.ending.drain();
        self.join();
    }
}

/// Task files that may be open at once: half of what the process may open.
fn open_files_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(65_536);
    usize::try_from(limit / 2).unwrap_or(usize::MAX).clamp(64, 32_768)
}
