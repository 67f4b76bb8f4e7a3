//! Runs the current chain over a slice: holds cut it, failures bisect it, effects are kept only of calls that decided.
//! One runner per lane; it owns the lane's instances. Nothing in here waits but for a guest within its deadline.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Instant,
};

use super::{
    Blocked, Decided, Effects, Outcome, Slice, States,
    bindings::Input,
    budget::Budget,
    generation::Generation,
    instance::{CallError, Class, Instance},
    live::Live,
    loader::Plugin,
    meters::{self, Share, Verdicts},
    sidecar::OnFailure,
    state::{Level, Staged},
    verdict::Decision,
};
use crate::{
    event::{Event, Key},
    status::Heartbeat,
};

mod ask;
mod watch;

use watch::{View, Watching};

/// Calls after which a kept instance is replaced.
const REUSED_CALLS_MAX: u32 = 10_000;
/// Events in one call; more bring no speed, and a failure costs more.
const CALL_EVENTS_MAX: usize = 256;
/// Data in one call, in bytes, unless one event alone is larger.
const CALL_BYTES_MAX: usize = 4 << 20;

/// A lane's runner of chains.
pub struct LaneChain {
    live: Arc<Live>,
    generation: Arc<Generation>,
    /// Kept instances, by the plugin's place in the chain.
    kept: Vec<Option<Instance>>,
    /// What runs beside the chain, as in the generation.
    watching: Vec<Watching>,
    /// Events of keys that wait, counted for who holds them.
    held: HashMap<Key, Share>,
    heartbeat: Option<Arc<Heartbeat>>,
    /// The state of keys that have none.
    no_state: Arc<str>,
}

/// What one pass over consecutive events made.
#[derive(Default)]
struct Pass {
    slots: Vec<Slot>,
    asked: Vec<Asked>,
    /// The place of the redactor that holds what is not in `slots`.
    holder: Option<usize>,
    flush: bool,
    /// What shadows are to look at.
    views: Vec<View>,
}

#[derive(Clone)]
enum Slot {
    /// In the chain, with new data if a plugin replaced it.
    Live(Option<String>),
    /// With how often the plugin was asked about it.
    Gone(Outcome, u32),
}

/// A plugin's part in a pass.
#[derive(Default)]
struct Asked {
    /// Its place in the chain.
    plugin: usize,
    answer: Answer,
}

#[derive(Default)]
struct Answer {
    /// For the first events asked about; those after them are held if `held`, else there are none.
    decisions: Vec<Decision>,
    /// For each of them, how often the plugin was asked about the event.
    tries: Vec<u32>,
    held: bool,
    staged: Vec<Staged>,
}

/// What a plugin is asked about, but for the events.
struct Question<'a> {
    at: usize,
    plugin: &'a Arc<Plugin>,
    task: Option<&'a str>,
    flush: bool,
}

/// A holding redactor's answer, kept while the ones before it are called again.
struct Memo {
    plugin: usize,
    inputs: Vec<(usize, Option<String>)>,
    answer: Answer,
}

/// The end of a pass without a result.
enum End {
    Blocked(Blocked),
    /// A redactor's budget is used up.
    Spent(usize),
}

// === impl LaneChain ===

impl LaneChain {
    pub(super) fn new(live: Arc<Live>) -> Self {
        let generation = Arc::clone(&live.current().generation);
        let kept = generation.plugins.iter().map(|_| None).collect();
        let watching = generation.shadows.iter().map(Watching::new).collect();
        let no_state = Arc::from("");
        Self { live, generation, kept, watching, held: HashMap::new(), heartbeat: None, no_state }
    }

    /// Beats before every guest call, so that a long bisection does not look like a standstill.
    pub fn set_heartbeat(&mut self, heartbeat: Arc<Heartbeat>) {
        self.heartbeat = Some(heartbeat);
    }

    /// Whether there is nothing to run: every event passes.
    pub fn is_empty(&self) -> bool {
        let current = self.live.current();
        current.blocked.is_none() && current.generation.plugins.is_empty() && current.generation.shadows.is_empty()
    }

    /// Gives back what this lane keeps of a chain that is not the current one any more; for a lane without work.
    pub fn refresh(&mut self) {
        let current = Arc::clone(&self.live.current());
        self.adopt(&current.generation);
    }

    /// Ends instances of versions that are gone and makes those of new ones, in the time of which nothing else runs here.
    fn adopt(&mut self, generation: &Arc<Generation>) {
        if Arc::ptr_eq(&self.generation, generation) {
            return;
        }
        let began = Instant::now();
        let live = Arc::clone(&self.live);
        let _wasi = live.enter();
        let old = std::mem::replace(&mut self.generation, Arc::clone(generation));
        let mut kept: Vec<_> = old.plugins.iter().zip(std::mem::take(&mut self.kept)).collect();
        for plugin in &generation.plugins {
            let same = kept.iter_mut().find(|(known, _)| Arc::ptr_eq(known, plugin));
            self.kept.push(match same {
                Some((_, instance)) => instance.take(),
                // A failure is told by the first call, which tries again.
                None if plugin.reuses() => plugin.instance(live.runtime()).ok(),
                None => None,
            });
        }
        let mut watching = std::mem::take(&mut self.watching);
        for shadow in &generation.shadows {
            let same = watching.iter().position(|known| Arc::ptr_eq(&known.shadow.plugin, &shadow.plugin));
            self.watching.push(match same {
                Some(at) => watching.swap_remove(at).beside(shadow),
                None => Watching::new(shadow),
            });
        }
        // Stores of versions that are gone end here.
        drop((kept, watching));
        drop(old);
        live.adopted(began.elapsed());
    }

    /// Runs the chain of this moment over a slice. Takes as long as guests run, each call within its deadline.
    ///
    /// # Errors
    /// [`Blocked`]: a required plugin is missing, a redactor failed too often, or a plugin's policy is to halt. Nothing has
    /// happened; the slice comes again when [`PluginHost::wait_changed`](super::PluginHost::wait_changed) reports a change
    /// since before this call, which it does at once if the version before the redactor's returned.
    pub fn process(&mut self, slice: &Slice<'_>) -> Result<Decided, Blocked> {
        let current = Arc::clone(&self.live.current());
        if let Some(blocked) = &current.blocked {
            return Err(blocked.clone());
        }
        self.adopt(&current.generation);
        let mut decided = Decided {
            outcomes: Vec::with_capacity(slice.events.len()),
            tries: Vec::with_capacity(slice.events.len()),
            effects: Effects::default(),
            provenance: Arc::clone(&current.generation.provenance),
        };
        if current.generation.plugins.is_empty() && current.generation.shadows.is_empty() {
            decided.outcomes.resize(slice.events.len(), Outcome::Pass);
            decided.tries.resize(slice.events.len(), 1);
            return Ok(decided);
        }
        let live = Arc::clone(&self.live);
        let _wasi = live.enter();
        self.pieces(slice, &mut decided)?;
        Ok(decided)
    }

    /// Cuts a long slice into calls of bounded size. A hold inside moves the cut, a hold at its begin widens the piece.
    fn pieces(&mut self, slice: &Slice<'_>, decided: &mut Decided) -> Result<(), Blocked> {
        let mut states = Cow::Borrowed(slice.states);
        let mut passes = Vec::new();
        let (mut start, mut factor) = (0, 1);
        while start < slice.events.len() {
            let rest = slice.events.get(start..).unwrap_or_default();
            let events = rest.get(..piece_len(rest, factor)).unwrap_or(rest);
            let is_last = events.len() == rest.len();
            // In the midst of a slice there is more to come, so holding is never in vain.
            let pass = match self.pass(slice.task, events, slice.flush && is_last, &states) {
                Ok(pass) => pass,
                Err(End::Blocked(blocked)) => return Err(blocked),
                Err(End::Spent(at)) => return Err(self.spent(at)),
            };
            let (done, wanted) = (pass.slots.len(), events.len());
            for asked in &pass.asked {
                let plugin = &self.generation.plugins[asked.plugin];
                if let Some(state) = asked.answer.staged.iter().rev().find_map(|staged| staged.state.as_ref()) {
                    states.to_mut().set(Arc::clone(plugin.name()), Arc::clone(state));
                }
            }
            passes.push(pass);
            start += done;
            factor = if done == 0 { factor * 2 } else { 1 };
            if done < wanted && is_last {
                break;
            }
        }
        self.settle(&passes)?;
        self.watch(slice, &passes);
        self.count_held(slice, passes.last(), slice.events.len() - start);
        for pass in passes {
            self.commit(pass, decided);
        }
        Ok(())
    }

    /// Notes who holds a key's events, until the key comes again.
    fn count_held(&mut self, slice: &Slice<'_>, last: Option<&Pass>, events: usize) {
        let Some(key) = slice.events.first().map(|event| &event.key) else { return };
        if !self.held.is_empty() {
            self.held.remove(key);
        }
        let holder = last.and_then(|pass| pass.holder).and_then(|at| self.generation.plugins.get(at));
        if let Some(plugin) = holder.filter(|_| events > 0) {
            self.held.insert(key.clone(), plugin.meters().holding(events as u64));
        }
    }

    /// One run of the chain over events that fit a call.
    fn pass(&mut self, task: Option<&str>, events: &[Event], flush: bool, states: &States) -> Result<Pass, End> {
        let generation = Arc::clone(&self.generation);
        let mut len = events.len();
        let mut memo: Option<Memo> = None;
        let mut holder = None;
        'again: loop {
            let mut slots: Vec<Slot> = (0..len).map(|_| Slot::Live(None)).collect();
            let mut asked = Vec::with_capacity(generation.plugins.len());
            let mut views = Vec::new();
            for (at, plugin) in generation.plugins.iter().enumerate() {
                views.extend(View::at(&generation, at, false, &slots));
                let mut wanted = Vec::with_capacity(len);
                let mut inputs = Vec::with_capacity(len);
                for (i, (slot, event)) in slots.iter().zip(events).enumerate() {
                    if let Slot::Live(data) = slot
                        && plugin.wants(&event.kind)
                    {
                        wanted.push(i);
                        inputs.push(Input { event, data: data.as_deref().unwrap_or(&event.data) });
                    }
                }
                if wanted.is_empty() {
                    views.extend(View::at(&generation, at, true, &slots));
                    continue;
                }
                let mut answer = match memo.take_if(|memo| memo.plugin == at && memo.is_about(&wanted, &slots)) {
                    Some(memo) => memo.answer,
                    None => {
                        let mut state =
                            states.get(plugin.name()).map_or_else(|| Arc::clone(&self.no_state), Arc::clone);
                        let mut budget = lock(&plugin.budget).clone();
                        let question = Question { at, plugin, task, flush };
                        self.ask(&question, &inputs, &mut state, &mut budget, (false, 0))?
                    }
                };
                if answer.held {
                    answer.held = false;
                    plugin.meters().held();
                    len = wanted[answer.decisions.len()];
                    holder = Some(at);
                    if len == 0 {
                        return Ok(Pass { holder, ..Pass::default() });
                    }
                    if at > 0 {
                        // For the redactors before this one the held events have not happened: they are asked anew.
                        wanted.truncate(answer.decisions.len());
                        memo = Some(Memo::new(at, &wanted, &slots, answer));
                        continue 'again;
                    }
                    slots.truncate(len);
                }
                let seen = views.len();
                views.extend(View::at(&generation, at, true, &slots));
                for ((i, decision), tries) in wanted.iter().zip(&mut answer.decisions).zip(&answer.tries) {
                    apply(&mut slots[*i], plugin, decision, *tries);
                }
                views.iter_mut().skip(seen).for_each(|view| view.came_to(&slots));
                asked.push(Asked { plugin: at, answer });
            }
            views.extend(View::at(&generation, generation.plugins.len(), false, &slots));
            return Ok(Pass { slots, asked, holder, flush, views });
        }
    }

    /// An event on which a plugin fails, alone and on a fresh instance, takes the plugin's policy.
    fn fail(
        &self,
        question: &Question<'_>,
        event: &Event,
        error: &CallError,
        budget: &mut Budget,
        tries: u32,
    ) -> Result<Answer, End> {
        let plugin = question.plugin;
        match self.live.runtime().sink() {
            Some(sink) => sink.failed(event.id, error),
            None => plugin.meters().say_failed(error, event),
        }
        let spent = budget.failed();
        if error.class == Class::Timeout && !plugin.is_redactor() {
            self.throttle(plugin);
        }
        if plugin.sidecar.on_failure == OnFailure::Halt {
            return Err(End::Blocked(self.live.halt(plugin, error.class)));
        }
        if plugin.is_redactor() && spent {
            return Err(End::Spent(question.at));
        }
        Ok(Answer { decisions: vec![Decision::Failed(error.class)], tries: vec![tries], ..Answer::default() })
    }

    /// Writes redactors' failures into their shared budgets; if one is used up, nothing of the slice has happened.
    fn settle(&self, passes: &[Pass]) -> Result<(), Blocked> {
        for (at, plugin) in self.generation.plugins.iter().enumerate().filter(|(_, plugin)| plugin.is_redactor()) {
            let mut budget = lock(&plugin.budget);
            let answers = passes.iter().flat_map(|pass| &pass.asked).filter(|asked| asked.plugin == at);
            for decision in answers.flat_map(|asked| &asked.answer.decisions) {
                match decision {
                    Decision::Failed(_) => drop(budget.failed()),
                    _ => budget.well(1),
                }
            }
            if budget.is_spent() {
                drop(budget);
                return Err(self.spent(at));
            }
        }
        Ok(())
    }

    fn spent(&self, at: usize) -> Blocked {
        self.live.spent(&self.generation.plugins[at])
    }

    fn commit(&self, pass: Pass, decided: &mut Decided) {
        for Asked { plugin, answer } in pass.asked {
            let plugin = &self.generation.plugins[plugin];
            let mut verdicts = Verdicts::default();
            for decision in &answer.decisions {
                verdicts[meters::index(decision)] += 1;
            }
            plugin.meters().decided(&verdicts);
            for staged in answer.staged {
                plugin.meters().counted(&staged.counts);
                match self.live.runtime().sink() {
                    Some(sink) => sink.committed(&plugin.identity, &staged),
                    None => staged.logs.iter().for_each(|(level, line)| say_some(plugin, *level, line)),
                }
                let effects = &mut decided.effects;
                if let Some(state) = staged.state {
                    match effects.states.iter_mut().find(|(name, _)| name == plugin.name()) {
                        Some((_, known)) => *known = state,
                        None => effects.states.push((Arc::clone(plugin.name()), state)),
                    }
                }
                effects.files.extend(staged.files);
                effects.annotations.extend(staged.annotation.map(|object| (Arc::clone(plugin.name()), object)));
            }
        }
        for slot in pass.slots {
            let (outcome, tries) = match slot {
                Slot::Live(None) => (Outcome::Pass, 1),
                Slot::Live(Some(data)) => (Outcome::Replace(data), 1),
                Slot::Gone(outcome, tries) => (outcome, tries),
            };
            decided.outcomes.push(outcome);
            decided.tries.push(tries);
        }
    }
}

/// The same within what a second has room for; what is left out is told with the next line that is not.
fn say_some(plugin: &Plugin, level: Level, line: &str) {
    let is_wanted = match level {
        Level::Debug => tracing::enabled!(tracing::Level::DEBUG),
        Level::Info => tracing::enabled!(tracing::Level::INFO),
        Level::Warn | Level::Error => true,
    };
    if !is_wanted {
        return;
    }
    let Some(omitted) = plugin.meters().may_log(Instant::now()) else { return };
    if omitted > 0 {
        let name = &**plugin.name();
        tracing::warn!(plugin = name, omitted, "the plugin logs too much: lines were left out");
    }
    say(plugin, level, line);
}

/// A guest's line in the service's log, under the plugin's name.
pub(super) fn say(plugin: &Plugin, level: Level, line: &str) {
    let name = &**plugin.name();
    match level {
        Level::Debug => tracing::debug!(plugin = name, "{line}"),
        Level::Info => tracing::info!(plugin = name, "{line}"),
        Level::Warn => tracing::warn!(plugin = name, "{line}"),
        Level::Error => tracing::error!(plugin = name, "{line}"),
    }
}

fn piece_len(events: &[Event], factor: usize) -> usize {
    let mut bytes = 0usize;
    let fits = events.iter().take(CALL_EVENTS_MAX.saturating_mul(factor)).take_while(|event| {
        bytes = bytes.saturating_add(event.data.len());
        bytes <= CALL_BYTES_MAX.saturating_mul(factor)
    });
    fits.count().max(factor).min(events.len())
}

/// Takes the new data out of the decision: what remains of it is only counted.
fn apply(slot: &mut Slot, plugin: &Plugin, decision: &mut Decision, tries: u32) {
    let name = || Arc::clone(plugin.name());
    match decision {
        Decision::Pass => {}
        Decision::Replace(data) => *slot = Slot::Live(Some(std::mem::take(data))),
        Decision::Drop(code) => *slot = Slot::Gone(Outcome::Drop { plugin: name(), code: code.clone() }, tries),
        Decision::Quarantine(code) => {
            *slot = Slot::Gone(Outcome::Dead { reason: "refused", plugin: name(), code: code.clone() }, tries);
        }
        Decision::Failed(_) if plugin.sidecar.on_failure == OnFailure::Skip => {}
        Decision::Failed(class) => {
            let code = class.as_str().to_owned();
            *slot = Slot::Gone(Outcome::Dead { reason: "plugin_failed", plugin: name(), code }, tries);
        }
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Counters only: a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Memo ===

impl Memo {
    fn new(plugin: usize, wanted: &[usize], slots: &[Slot], answer: Answer) -> Self {
        let inputs = wanted.iter().map(|i| (*i, slots[*i].data().cloned())).collect();
        Self { plugin, inputs, answer }
    }

    fn is_about(&self, wanted: &[usize], slots: &[Slot]) -> bool {
        self.inputs.len() == wanted.len()
            && self.inputs.iter().zip(wanted).all(|((i, data), j)| i == j && data.as_ref() == slots[*j].data())
    }
}

// === impl Slot ===

impl Slot {
    fn data(&self) -> Option<&String> {
        match self {
            Self::Live(data) => data.as_ref(),
            Self::Gone(..) => None,
        }
    }
}
