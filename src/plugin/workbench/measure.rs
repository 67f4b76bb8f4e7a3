//! Measures a plugin on the path that the service uses, without a sink: [`LaneChain::process`], with both isolations; and
//! apart from it compiling, making instances, memory, and instructions counted as fuel.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use super::{Pair, Settings, WorkbenchError, ceilings, live};
use crate::{
    event::Event,
    plugin::{
        LaneChain, Outcome, Slice, States,
        bindings::Input,
        compile::{CompileLimits, Compiler},
        engine::{Runtime, Ticker},
        hex,
        instance::Instance,
        live::Live,
        loader::{Plugin, Prover},
        sidecar::Isolation,
        sink::Sink,
    },
};

/// Before anything is measured.
const WARM_UP: Duration = Duration::from_millis(300);
/// At least so long and so many rounds over all events are measured, with each isolation.
const ROUNDS_TIME: Duration = Duration::from_millis(1500);
const ROUNDS_MIN: usize = 20;
/// Never longer than this.
const ROUNDS_TIME_MAX: Duration = Duration::from_secs(20);
/// Instances made, in a pool that is warm.
const INSTANCES: usize = 200;
/// Compilations, as long as they are short.
const COMPILES: usize = 3;
const COMPILES_TIME: Duration = Duration::from_secs(2);
const LOADS: usize = 9;

/// What a plugin is measured with.
#[derive(Debug)]
pub struct Load {
    /// Consecutive events of one task each.
    pub slices: Vec<Vec<Event>>,
}

/// What was measured. Times are medians unless said otherwise.
#[derive(Debug)]
pub struct Figures {
    /// Manifest name.
    pub name: String,
    /// Manifest version.
    pub version: String,
    /// `call` or `reuse`, as the sidecar says.
    pub isolation: &'static str,
    /// Size of the component, in bytes.
    pub component_bytes: usize,
    /// Events in all slices together.
    pub events: usize,
    /// Bytes of their data together.
    pub bytes: usize,
    /// Slices: calls, where nothing fails.
    pub calls: usize,
    /// Events that were not decided: held when the call ended.
    pub held: usize,
    /// Events that the plugin failed on in a round.
    pub failed: usize,
    /// Time of the service's path for an event, a fresh instance for each call.
    pub call: Spread,
    /// The same with instances that are kept.
    pub reuse: Spread,
    /// The guest call alone, with a kept instance: without what the chain does around it.
    pub crossing: Spread,
    /// Making an instance, `init` included.
    pub instantiate: Duration,
    /// Compiling in a child process, as the service does.
    pub compile: Duration,
    /// Taking compiled code from the cache; `None`: there is no cache.
    pub cached: Option<Duration>,
    /// Linear memory after all rounds with one instance, in bytes.
    pub memory: usize,
    /// This process's memory when all was measured but fuel, and its peak till then, in bytes.
    pub rss: Option<(usize, usize)>,
    /// Fuel of `init`.
    pub fuel_init: u64,
    /// Fuel of one round over the events.
    pub fuel_round: u64,
}

/// Times for one event.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// Events in a second, over all rounds.
    pub per_second: f64,
    /// Median over calls, in microseconds for an event.
    pub p50_us: f64,
    /// 99th percentile over calls, in microseconds for an event.
    pub p99_us: f64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// No desk.
    #[error(transparent)]
    Workbench(#[from] WorkbenchError),
    /// The service would not take it.
    #[error("{file} would be refused: {reason}")]
    Refused {
        /// Its file.
        file: String,
        /// The service's words.
        reason: String,
    },
    /// The service would stop.
    #[error("measuring ended: {0}")]
    Blocked(String),
    /// Nothing to measure with.
    #[error("there are no events to measure with")]
    NoEvents,
}

/// Measures a plugin. Takes some seconds, and the time of compiling it several times.
///
/// # Errors
/// The plugin is refused, or fails in a way that stops the service.
pub fn measure(settings: &Settings, pair: &Pair, load: &Load) -> Result<Figures, MeasureError> {
    let events: usize = load.slices.iter().map(Vec::len).sum();
    if events == 0 {
        return Err(MeasureError::NoEvents);
    }
    let runtime = Runtime::new(settings.memory_max).map_err(WorkbenchError::from)?;
    let _ticker = Ticker::start(&runtime).map_err(WorkbenchError::from)?;
    let live = Arc::new(live(runtime, settings)?);
    let stop = AtomicBool::new(false);
    let sha256 = hex(&Sha256::digest(&pair.candidate.wasm));
    let compile = compile(&live, settings, pair, &sha256, &stop)?;
    let refused = |reason: String| MeasureError::Refused { file: pair.candidate.file.clone(), reason };
    let prove = |isolation: Option<Isolation>| {
        let mut plugin = live.prove(&pair.candidate).map_err(|error| refused(error.to_string()))?;
        plugin.sidecar.isolation = isolation.unwrap_or(plugin.sidecar.isolation);
        // A shadow is measured as if it decided.
        plugin.sidecar.shadow = false;
        Ok::<_, MeasureError>(Arc::new(plugin))
    };
    let plugin = prove(None)?;
    let isolation = if plugin.reuses() { "reuse" } else { "call" };
    let cached = from_cache(&live, &sha256);
    let (mut held, mut failed) = (0, 0);
    let mut path = |isolation| -> Result<Spread, MeasureError> {
        live.put_on_desk(prove(Some(isolation))?);
        let mut chain = LaneChain::new(Arc::clone(&live));
        rounds(load, |slice, states| {
            let decided = chain.process(slice).map_err(|blocked| MeasureError::Blocked(blocked.reason))?;
            let is_failure = |outcome: &&Outcome| matches!(outcome, Outcome::Dead { reason: "plugin_failed", .. });
            let found =
                (slice.events.len() - decided.outcomes.len(), decided.outcomes.iter().filter(is_failure).count());
            for (name, state) in decided.effects.states {
                states.set(name, state);
            }
            Ok(found)
        })
        .map(|(spread, counts)| {
            (held, failed) = counts;
            spread
        })
    };
    let (call, reuse) = (path(Isolation::Call)?, path(Isolation::Reuse)?);
    let (crossing, memory) = crossing(&live, &plugin, load)?;
    let instantiate = instantiate(&live, &plugin)?;
    let rss = rss();
    let (fuel_init, fuel_round) = fuel(settings, pair, load)?;
    Ok(Figures {
        name: plugin.name().to_string(),
        version: plugin.manifest.version.clone(),
        isolation,
        component_bytes: pair.candidate.wasm.len(),
        events,
        bytes: load.slices.iter().flatten().map(|event| event.data.len()).sum(),
        calls: load.slices.len(),
        held,
        failed,
        call,
        reuse,
        crossing,
        instantiate,
        compile,
        cached,
        memory,
        rss,
        fuel_init,
        fuel_round,
    })
}

/// Runs all slices again and again, each round with fresh states, and times each slice. `run` says how many events were
/// held and failed.
fn rounds(
    load: &Load,
    mut run: impl FnMut(&Slice<'_>, &mut States) -> Result<(usize, usize), MeasureError>,
) -> Result<(Spread, (usize, usize)), MeasureError> {
    let mut round = |times: Option<&mut Vec<(u32, Duration)>>| {
        let (mut states, mut last, mut counts) = (States::default(), None, (0, 0));
        let mut times = times;
        for events in &load.slices {
            let Some(first) = events.first() else { continue };
            if last.replace(&first.key).is_some_and(|key| *key != first.key) {
                states = States::default();
            }
            let known = states.clone();
            let task = Some(first.key.id().as_str());
            let slice = Slice { task, events, flush: events.iter().any(Event::ends_task), states: &known };
            let began = Instant::now();
            let (held, failed) = run(&slice, &mut states)?;
            if let Some(times) = &mut times {
                times.push((u32::try_from(events.len()).unwrap_or(u32::MAX), began.elapsed()));
            }
            counts = (counts.0 + held, counts.1 + failed);
        }
        Ok::<_, MeasureError>(counts)
    };
    let began = Instant::now();
    let mut counts = round(None)?;
    while began.elapsed() < WARM_UP {
        counts = round(None)?;
    }
    let (mut times, mut done, began) = (Vec::new(), 0, Instant::now());
    while (began.elapsed() < ROUNDS_TIME || done < ROUNDS_MIN) && began.elapsed() < ROUNDS_TIME_MAX {
        round(Some(&mut times))?;
        done += 1;
    }
    Ok((spread(&times), counts))
}

fn spread(times: &[(u32, Duration)]) -> Spread {
    let mut each: Vec<f64> = times.iter().map(|(events, took)| took.as_secs_f64() * 1e6 / f64::from(*events)).collect();
    each.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (each.len() as f64 * share) as usize;
        each.get(index.min(each.len().saturating_sub(1))).copied().unwrap_or(0.0)
    };
    let events: f64 = times.iter().map(|(events, _)| f64::from(*events)).sum();
    let seconds: f64 = times.iter().map(|(_, took)| took.as_secs_f64()).sum();
    Spread { per_second: events / seconds, p50_us: at(0.5), p99_us: at(0.99) }
}

/// Calls of one instance, and the memory that it has in the end.
fn crossing(live: &Live, plugin: &Arc<Plugin>, load: &Load) -> Result<(Spread, usize), MeasureError> {
    let _wasi = live.enter();
    let limits = plugin.sidecar.limits;
    let fresh = || plugin.instance(live.runtime()).map_err(|error| MeasureError::Blocked(error.to_string()));
    let mut instance: Option<Instance> = Some(fresh()?);
    let mut memory = 0;
    let (spread, _) = rounds(load, |slice, states| {
        let mut running = match instance.take() {
            Some(instance) => instance,
            None => fresh()?,
        };
        let state = states.get(plugin.name()).map_or_else(|| Arc::from(""), Arc::clone);
        let events = slice.events.iter().filter(|event| plugin.wants(&event.kind));
        let inputs: Vec<Input<'_>> = events.map(|event| Input { event, data: &event.data }).collect();
        let answer = running.process(limits, state, slice.task, &inputs, slice.flush);
        memory = memory.max(running.memory());
        // A call that fails costs its instance; how many did, the other measurement says.
        if let Ok((_, staged)) = answer {
            if let Some(state) = staged.state {
                states.set(Arc::clone(plugin.name()), state);
            }
            instance = Some(running);
        }
        Ok((0, 0))
    })?;
    Ok((spread, memory))
}

fn instantiate(live: &Live, plugin: &Plugin) -> Result<Duration, MeasureError> {
    let _wasi = live.enter();
    let mut times = Vec::with_capacity(INSTANCES);
    for _ in 0..INSTANCES {
        let began = Instant::now();
        let instance = plugin.instance(live.runtime()).map_err(|error| MeasureError::Blocked(error.to_string()))?;
        times.push(began.elapsed());
        drop(instance);
    }
    Ok(median(times))
}

/// Compiling with nothing cached, in a child process.
fn compile(
    live: &Live,
    settings: &Settings,
    pair: &Pair,
    sha256: &str,
    stop: &AtomicBool,
) -> Result<Duration, MeasureError> {
    let compiler = Compiler::new(settings.exe.clone(), CompileLimits::default(), None).announcing(settings.compiling);
    let (mut times, began) = (Vec::new(), Instant::now());
    while times.len() < COMPILES && (times.is_empty() || began.elapsed() < COMPILES_TIME) {
        let began = Instant::now();
        let compiled = compiler.compile(live.runtime().engine(), &pair.candidate.wasm, sha256, stop);
        let file = pair.candidate.file.clone();
        drop(compiled.map_err(|error| MeasureError::Refused { file, reason: error.to_string() })?);
        times.push(began.elapsed());
    }
    Ok(median(times))
}

fn from_cache(live: &Live, sha256: &str) -> Option<Duration> {
    let mut times = Vec::with_capacity(LOADS);
    for _ in 0..LOADS {
        let began = Instant::now();
        let component = live.compiler().cached(live.runtime().engine(), sha256)?;
        times.push(began.elapsed());
        drop(component);
    }
    Some(median(times))
}

/// Instructions, weighted, of `init` and of one round: the same number every time, on every machine. Compiled for itself.
fn fuel(settings: &Settings, pair: &Pair, load: &Load) -> Result<(u64, u64), MeasureError> {
    let sink = Arc::new(Sink::default());
    let runtime = Runtime::metered(&sink).map_err(WorkbenchError::from)?;
    let _ticker = Ticker::start(&runtime).map_err(WorkbenchError::from)?;
    let wasi = tokio::runtime::Builder::new_current_thread().build().map_err(WorkbenchError::from)?;
    let _wasi = wasi.enter();
    let compiler = Compiler::new(None, CompileLimits::default(), None).announcing(settings.compiling);
    let stop = AtomicBool::new(false);
    let prover = Prover { runtime: &runtime, compiler: &compiler, ceilings: ceilings(settings), stop: &stop };
    let plugin = prover
        .prove(&pair.candidate)
        .map_err(|error| MeasureError::Refused { file: pair.candidate.file.clone(), reason: error.to_string() })?;
    stop.store(true, Ordering::Relaxed);
    let fresh = || plugin.instance(&runtime).map_err(|error| MeasureError::Blocked(error.to_string()));
    let mut instance = fresh()?;
    let init = u64::MAX - instance.fuel();
    let (mut round, mut states, mut last) = (0, States::default(), None);
    for events in &load.slices {
        let Some(first) = events.first() else { continue };
        if last.replace(&first.key).is_some_and(|key| *key != first.key) {
            states = States::default();
        }
        let state = states.get(plugin.name()).map_or_else(|| Arc::from(""), Arc::clone);
        let wanted = events.iter().filter(|event| plugin.wants(&event.kind));
        let inputs: Vec<Input<'_>> = wanted.map(|event| Input { event, data: &event.data }).collect();
        let task = Some(first.key.id().as_str());
        let before = instance.fuel();
        let flush = events.iter().any(Event::ends_task);
        let answer = instance.process(plugin.sidecar.limits, state, task, &inputs, flush);
        round += before - instance.fuel();
        match answer {
            Ok((_, staged)) => {
                if let Some(state) = staged.state {
                    states.set(Arc::clone(plugin.name()), state);
                }
            }
            Err(_) => instance = fresh()?,
        }
    }
    Ok((init, round))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Resident memory of this process and its peak, in bytes.
fn rss() -> Option<(usize, usize)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = |name: &str| -> Option<usize> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some((kib("VmRSS:")? << 10, kib("VmHWM:")? << 10))
}
