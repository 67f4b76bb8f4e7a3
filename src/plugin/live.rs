//! What runs now, and the one place that changes it: candidates are proven and put into a new generation, files that are
//! gone are taken out, redactors that fail too often are taken back, and reading stops while a requirement is not met.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use metrics::{counter, gauge, histogram};

use super::{
    Blocked, PluginError,
    compile::Compiler,
    engine::Runtime,
    generation::Generation,
    loader::{Candidate, LoadError, Plugin, Prover, Unreadable},
    meters::Level,
    required::Requirements,
    roster::{FileEntry, LiveEntry, Refused, Retry, Roster},
    seal::{self, Seal},
    sidecar::{self, Ceilings},
};
use crate::{
    metrics::{
        NO_REDACTOR, PLUGIN_GENERATION, PLUGIN_GENERATIONS_ALIVE, PLUGIN_REDACTORS, PLUGIN_REFUSED,
        PLUGIN_REFUSED_FILES, PLUGIN_SWAP_SECONDS,
    },
    status::Status,
    trust::TrustedKeys,
};

mod failing;

/// A file that did not change for this long is not being written any more: what is wrong with it is said.
pub(super) const STILL: Duration = Duration::from_secs(2);

const UNREDACTED: &str = "no redactor is in the chain: events are written as they come";

/// What runs now, and what it takes to change it. Lives as long as the service.
pub(super) struct Live {
    runtime: Runtime,
    /// Guests' WASI calls are synchronous and need some runtime; this one has no threads and no clock.
    wasi: tokio::runtime::Runtime,
    compiler: Compiler,
    ceilings: Ceilings,
    pub(super) trusted: TrustedKeys,
    current: ArcSwap<Current>,
    /// Held while candidates are proven, so that they come one by one. Taken before `inner`.
    proving: Mutex<()>,
    inner: Mutex<Roster>,
    version: Mutex<u64>,
    changed: Condvar,
    status: Arc<Status>,
    /// Generations in memory.
    pub(super) alive: Arc<Level>,
    /// What swaps cost the lanes.
    pub(super) swaps: Swaps,
    /// Ends a compilation that the service's end must not wait for.
    pub(super) stop: AtomicBool,
}

/// How often a lane took over a new generation, and how long that kept it from its events.
#[derive(Debug, Default)]
pub(super) struct Swaps {
    pub(super) count: AtomicU64,
    /// Nanoseconds.
    pub(super) slowest: AtomicU64,
}

/// What a look at a file came to.
pub(super) enum Prepared {
    /// Nothing that was not known.
    Known,
    /// What runs, perhaps signed anew.
    Same(Candidate, Seal),
    /// Its pair, and why it does not go live.
    Refused(String, LoadError),
    /// It may go live.
    Proven(Candidate, Arc<Plugin>),
}

/// One consistent view for a slice.
pub(super) struct Current {
    pub(super) generation: Arc<Generation>,
    pub(super) blocked: Option<Blocked>,
}

// === impl Prepared ===

impl Prepared {
    /// It may go live, with a sidecar that names the component or was signed together with it.
    pub(super) fn is_bound(&self) -> bool {
        let Self::Proven(candidate, plugin) = self else { return false };
        let names_it = |sidecar: &[u8]| sidecar::pinned(sidecar).is_some();
        candidate.sidecar.as_deref().is_some_and(|sidecar| lock(&plugin.seal).trusted || names_it(sidecar))
    }
}

// === impl Live ===

impl Live {
    pub(super) fn new(
        runtime: Runtime,
        compiler: Compiler,
        ceilings: Ceilings,
        trusted: TrustedKeys,
        required: Requirements,
        status: Arc<Status>,
    ) -> std::io::Result<Self> {
        let inner = Roster { number: 0, files: BTreeMap::new(), required, stops: BTreeMap::new(), memory_error: None };
        let none = Current { generation: Arc::new(Generation::new(0, Vec::new())), blocked: None };
        Ok(Self {
            runtime,
            wasi: tokio::runtime::Builder::new_current_thread().build()?,
            compiler,
            ceilings,
            trusted,
            current: ArcSwap::from_pointee(none),
            proving: Mutex::new(()),
            inner: Mutex::new(inner),
            version: Mutex::new(0),
            changed: Condvar::new(),
            status,
            alive: Arc::new(Level::new(gauge!(PLUGIN_GENERATIONS_ALIVE))),
            swaps: Swaps::default(),
            stop: AtomicBool::new(false),
        })
    }

    pub(super) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Needed on a thread that calls guests, for as long as it does.
    pub(super) fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.wasi.enter()
    }

    /// A lane took over a generation.
    pub(super) fn adopted(&self, took: Duration) {
        histogram!(PLUGIN_SWAP_SECONDS).record(took);
        self.swaps.count.fetch_add(1, Relaxed);
        self.swaps.slowest.fetch_max(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn current(&self) -> Guard<Arc<Current>> {
        self.current.load()
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Roster> {
        lock(&self.inner)
    }

    /// Waits until something changed since `seen`; the number to pass next time.
    pub(super) fn wait_changed(&self, seen: u64, timeout: Duration) -> u64 {
        let version = lock(&self.version);
        let wait = self.changed.wait_timeout_while(version, timeout, |version| *version == seen);
        *wait.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Proves a file as it is now (`Err`: its bytes could not be read), which changes nothing yet.
    pub(super) fn prepare(&self, file: &str, dir: &Path, read: Result<Candidate, Unreadable>) -> Prepared {
        let _one = lock(&self.proving);
        let candidate = match read {
            Ok(candidate) => candidate,
            Err(error) => return Prepared::Refused(error.looks, LoadError::File(error.reason)),
        };
        let pair = candidate.pair();
        let seal = match seal::check(&self.trusted, &candidate) {
            Ok(seal) => seal,
            // Not the pair's name alone: the same pair is looked at anew when its signature changes.
            Err(error) => return Prepared::Refused(format!("{pair} untrusted"), error.into()),
        };
        {
            let mut inner = self.inner();
            let entry = inner.entry(file, dir);
            if entry.plugins().any(|plugin| plugin.pair == pair) {
                return Prepared::Same(candidate, seal);
            }
            if !entry.again && entry.refused.as_ref().is_some_and(|refused| refused.pair == pair && !refused.is_due()) {
                return Prepared::Known;
            }
            if entry.spoiled.as_ref() == Some(&pair) {
                let reason = "this version was taken back before: it failed on too many events".to_owned();
                return Prepared::Refused(pair, LoadError::File(reason));
            }
        }
        match self.prove(&candidate) {
            Ok(plugin) => Prepared::Proven(candidate, Arc::new(plugin)),
            Err(LoadError::Compile(super::compile::CompileError::Stopped)) => Prepared::Known,
            Err(error) => Prepared::Refused(pair, error),
        }
    }

    /// Does what [`Live::prepare`] found to be right.
    pub(super) fn take(&self, file: &str, dir: PathBuf, prepared: Prepared) {
        let _one = lock(&self.proving);
        if let Some(entry) = self.inner().files.get_mut(file) {
            entry.again = false;
        }
        match prepared {
            Prepared::Known => {}
            Prepared::Same(candidate, seal) => self.stays(&candidate, seal),
            Prepared::Refused(pair, error) => self.refuse(file, dir, pair, &error),
            Prepared::Proven(candidate, plugin) => {
                let pair = plugin.pair.clone();
                if let Err(error) = self.admit(plugin, Some(&candidate)) {
                    self.refuse(file, dir, pair, &error);
                }
            }
        }
    }

    /// The file is again what runs.
    fn stays(&self, candidate: &Candidate, seal: Seal) {
        let mut inner = self.inner();
        let Some(entry) = inner.files.get_mut(&candidate.file) else { return };
        entry.refused = None;
        let mut resigned = false;
        if let Some(live) = &mut entry.live {
            live.degraded = false;
            let before = std::mem::replace(&mut *lock(&live.plugin.seal), seal.clone());
            resigned = before != seal;
        } else if let Some(shadow) = &entry.shadow {
            *lock(&shadow.plugin.seal) = seal;
        }
        if resigned {
            // A restart asks for today's signatures.
            let kept = inner.required.memory().keep(candidate);
            inner.remember(kept);
        }
        self.publish(&mut inner);
    }

    /// Takes a file out that is gone.
    pub(super) fn remove(&self, file: &str) {
        let _one = lock(&self.proving);
        let mut inner = self.inner();
        let Some(entry) = inner.files.remove(file) else { return };
        for plugin in entry.plugins() {
            tracing::info!(file, plugin = &**plugin.name(), "plugin removed");
        }
        if !inner.required.needs_file(file) {
            let removed = inner.required.memory().remove(file);
            inner.remember(removed);
        }
        inner.retry_conflicts();
        self.publish(&mut inner);
    }

    /// Says what is wrong with files that did not change any more.
    pub(super) fn say_refused(&self, still: impl Fn(&Refused) -> bool) {
        let mut inner = self.inner();
        for (file, entry) in &mut inner.files {
            if let Some(refused) = entry.refused.as_mut().filter(|refused| !refused.said && still(refused)) {
                refused.said = true;
                counter!(PLUGIN_REFUSED).increment(1);
                let tried_again = refused.retry.is_some();
                tracing::error!(file, reason = refused.reason, tried_again, "plugin refused; what ran before stays");
            }
        }
        let said = inner.files.values().filter(|entry| entry.refused.as_ref().is_some_and(|refused| refused.said));
        gauge!(PLUGIN_REFUSED_FILES).set(said.count() as f64);
    }

    /// Whether a file is to be considered again although it did not change.
    pub(super) fn wants_again(&self, file: &str) -> bool {
        let is_due = |entry: &FileEntry| entry.refused.as_ref().is_some_and(Refused::is_due);
        self.inner().files.get(file).is_some_and(|entry| entry.again || is_due(entry))
    }

    /// Whether there is a refusal that was not said yet.
    pub(super) fn has_unsaid(&self) -> bool {
        self.inner().files.values().any(|entry| entry.refused.as_ref().is_some_and(|refused| !refused.said))
    }

    /// Gives everything another chance: the operator asked for it.
    pub(super) fn retry(&self) {
        let mut inner = self.inner();
        let Roster { files, required, .. } = &mut *inner;
        for (file, entry) in files {
            entry.again = true;
            if entry.spoiled.take().is_some()
                && let Err(error) = required.memory().unspoil(file)
            {
                tracing::warn!(file, %error, "a version that was taken back stays so after a restart");
            }
            if let Some(refused) = &mut entry.refused {
                refused.said = false;
            }
        }
        inner.clear_stops(|_| true);
        self.publish(&mut inner);
    }

    /// Reading goes on although nothing changed: what plugins failed on is gone.
    pub(super) fn lift_stops(&self) {
        let mut inner = self.inner();
        inner.clear_stops(|_| true);
        self.publish(&mut inner);
    }

    /// Lifts the requirement of a plugin that is not there any more.
    pub(super) fn forget(&self, name: &str) -> Result<bool, PluginError> {
        let mut inner = self.inner();
        if inner.required.is_listed(name) {
            return Err(PluginError::Listed(name.chars().take(64).collect()));
        }
        if inner.live().iter().any(|plugin| **plugin.name() == *name) {
            return Err(PluginError::IsLive(name.chars().take(64).collect()));
        }
        let known = inner.required.forget(name)?;
        self.publish(&mut inner);
        Ok(known)
    }

    /// Runs just this plugin, whatever ran before: an author's desk has no folder, no memory and no requirement.
    pub(super) fn put_on_desk(&self, plugin: Arc<Plugin>) {
        let mut inner = self.inner();
        inner.number += 1;
        let generation = Arc::new(Generation::new(inner.number, vec![plugin]));
        self.current.store(Arc::new(Current { generation, blocked: None }));
    }

    pub(super) fn prove(&self, candidate: &Candidate) -> Result<Plugin, LoadError> {
        let _wasi = self.enter();
        let (runtime, compiler, stop) = (&self.runtime, &self.compiler, &self.stop);
        // Before anything looks into the bytes; the last good ones come here, too.
        let seal = seal::check(&self.trusted, candidate)?;
        let plugin = Prover { runtime, compiler, ceilings: self.ceilings, stop }.prove(candidate)?;
        *lock(&plugin.seal) = seal;
        Ok(plugin)
    }

    /// Puts a proven plugin in its file's place; without `fresh`, the file's bytes, it runs from the last good ones.
    fn admit(&self, plugin: Arc<Plugin>, fresh: Option<&Candidate>) -> Result<(), LoadError> {
        let mut inner = self.inner();
        if plugin.is_shadow() {
            inner.admit_shadow(plugin)?;
            self.publish(&mut inner);
            return Ok(());
        }
        inner.check(&plugin)?;
        inner.retry_conflicts();
        inner.displace(&plugin);
        let generation = inner.number + 1;
        let entry = inner.entry(&plugin.file, &plugin.dir);
        entry.dir.clone_from(&plugin.dir);
        entry.shadow = None;
        let previous = entry.live.take().map(|live| live.plugin);
        if fresh.is_some() {
            entry.refused = None;
            entry.spoiled = None;
        }
        let degraded = fresh.is_none();
        let since = Instant::now();
        entry.live = Some(LiveEntry { plugin: Arc::clone(&plugin), since, generation, previous, degraded });
        let learnt = inner.required.learn(&plugin);
        inner.remember(learnt);
        let signed_by = lock(&plugin.seal).signer();
        let (file, name, version) = (&*plugin.file, &**plugin.name(), &*plugin.manifest.version);
        tracing::info!(file, plugin = name, version, sha256 = plugin.sha256, signed_by, degraded, "plugin live");
        self.publish(&mut inner);
        // What is kept is for a restart; that it runs now does not wait for the disk.
        if let Some(candidate) = fresh {
            let kept = inner.required.memory().keep(candidate);
            let known = inner.memory_error.is_some();
            inner.remember(kept);
            if inner.memory_error.is_some() != known {
                self.publish(&mut inner);
            }
        }
        Ok(())
    }

    /// Keeps what runs; where nothing does, the file's last good bytes.
    fn refuse(&self, file: &str, dir: PathBuf, pair: String, error: &LoadError) {
        let conflict = matches!(error, LoadError::Conflict(_));
        let reason = error.to_string();
        let last_good = {
            let mut inner = self.inner();
            let entry = inner.entry(file, &dir);
            entry.dir.clone_from(&dir);
            if let Some(known) = entry.refused.as_mut().filter(|known| known.pair == pair) {
                known.retry = known.retry.map(Retry::later);
                // Where a guest was when its time was up is another place each time.
                if known.reason == reason || (known.retry.is_some() && error.may_pass()) {
                    return;
                }
            }
            let retry = error.may_pass().then(Retry::first);
            entry.refused =
                Some(Refused { pair: pair.clone(), reason, since: Instant::now(), said: false, conflict, retry });
            if entry.plugins().next().is_some() || conflict {
                None
            } else {
                inner.required.memory().last_good(file, &dir).unwrap_or_else(|error| {
                    tracing::warn!(file, %error, "cannot read the last good version");
                    None
                })
            }
        };
        let restored = last_good
            .filter(|candidate| candidate.pair() != pair)
            .map(|candidate| self.prove(&candidate).and_then(|plugin| self.admit(Arc::new(plugin), None)));
        if let Some(Err(error)) = restored {
            tracing::warn!(file, %error, "the last good version does not run either");
        }
        self.publish(&mut self.inner());
    }

    /// Makes a new generation if the plugins changed, and says whether events may be read. The only writer of `current`.
    fn publish(&self, inner: &mut Roster) {
        let (plugins, shadows) = (inner.live(), inner.shadows());
        inner.tell_shadows(&plugins);
        inner.clear_stops(|stop| !plugins.iter().any(|plugin| plugin.pair == *stop));
        let blocked = inner.blocked(&plugins);
        let old = self.current.load_full();
        let is_same = old.generation.is_of(&plugins, &shadows);
        let generation = if is_same {
            Arc::clone(&old.generation)
        } else {
            inner.number += 1;
            let new = Generation::new(inner.number, plugins).watched_by(&shadows).counted(Level::share(&self.alive, 1));
            inner.count_live(&old.generation);
            Arc::new(new)
        };
        gauge!(PLUGIN_GENERATION).set(inner.number as f64);
        self.status.set_blocked("plugins", blocked.as_ref().map(|blocked| blocked.reason.clone()));
        self.status.set_notice("plugins", inner.notice());
        let redactors = generation.plugins.iter().filter(|plugin| plugin.is_redactor()).count();
        gauge!(PLUGIN_REDACTORS).set(redactors as f64);
        gauge!(NO_REDACTOR).set(if redactors == 0 { 1.0 } else { 0.0 });
        self.status.set_notice("redactor", (redactors == 0).then(|| UNREDACTED.to_owned()));
        if is_same && blocked == old.blocked {
            return;
        }
        self.current.store(Arc::new(Current { generation, blocked }));
        *lock(&self.version) += 1;
        self.changed.notify_all();
    }

    /// Says at the start what an operator should know.
    pub(super) fn first(&self) {
        let mut inner = self.inner();
        self.publish(&mut inner);
        let current = self.current();
        if let Some(blocked) = &current.blocked {
            tracing::error!("{blocked}");
        }
        if !current.generation.plugins.iter().any(|plugin| plugin.is_redactor()) {
            tracing::warn!("{UNREDACTED}");
        }
        if inner.required.is_none() {
            tracing::warn!("{}", super::roster::NOTHING_REQUIRED);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Values are replaced whole, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
