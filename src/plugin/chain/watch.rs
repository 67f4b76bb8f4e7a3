//! Runs shadows over what the chain decided: each on what was given at its place, its verdicts compared with what came of
//! it. Nothing in here changes an outcome, an effect or a budget; see [`shadow`](crate::plugin::shadow) for the rules.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{LaneChain, Pass, REUSED_CALLS_MAX, Slot};
use crate::{
    event::{Event, Key},
    plugin::{
        Outcome, Slice,
        bindings::Input,
        generation::{Generation, Shadow},
        instance::{CallError, Class, Instance},
        loader::Plugin,
        meters::{self, Verdicts},
        shadow::{
            TIMEOUT_MAX,
            difference::{Fate, Show, places},
            memory::Memory,
        },
        verdict::{self, Decision},
    },
    status::Heartbeat,
};

/// A lane's part of a shadow.
pub(super) struct Watching {
    pub(super) shadow: Shadow,
    kept: Option<Instance>,
    states: Memory,
}

/// Events as they stood before and after a place of the chain.
pub(super) struct View {
    /// Which shadow it is for.
    shadow: usize,
    before: Vec<Slot>,
    /// `None`: nothing happened to them.
    after: Option<Vec<Slot>>,
}

/// What a shadow says of an event.
enum Said {
    Decision(Decision),
    Hold,
    /// It was not asked.
    Nothing,
}

/// What one round of questions to a shadow shares.
struct Round<'a> {
    live: &'a super::Live,
    heartbeat: Option<&'a Heartbeat>,
    task: Option<&'a str>,
    state: Arc<str>,
    /// It set one.
    changed: bool,
    /// Time of its calls, which is counted already.
    paid: Duration,
    said: Vec<Said>,
}

// === impl LaneChain ===

impl LaneChain {
    /// Shows the shadows what was decided.
    pub(super) fn watch(&mut self, slice: &Slice<'_>, passes: &[Pass]) {
        if self.watching.is_empty() {
            return;
        }
        let mut start = 0;
        for pass in passes {
            let events = slice.events.get(start..).unwrap_or_default();
            for view in &pass.views {
                let began = Instant::now();
                let Some(watching) = self.watching.get_mut(view.shadow) else { continue };
                let plugin = Arc::clone(&watching.shadow.plugin);
                let round = Round {
                    live: &self.live,
                    heartbeat: self.heartbeat.as_deref(),
                    task: slice.task,
                    state: watching.state(slice),
                    changed: false,
                    paid: Duration::ZERO,
                    said: Vec::with_capacity(view.before.len()),
                };
                // Texts may be shown only if someone took the secrets out of them.
                let redacted = !plugin.is_redactor() && self.generation.plugins.iter().any(|other| other.is_redactor());
                let paid = watching.look(round, events, pass, view, redacted);
                pay(&plugin, began.elapsed().saturating_sub(paid));
                if !plugin.record.may_ask(Instant::now()) {
                    watching.rest();
                }
            }
            start += pass.slots.len();
        }
        if let Some(ended) = slice.events.get(..start).unwrap_or_default().iter().find(|event| event.ends_task()) {
            self.forget(&ended.key);
        }
    }

    /// Forgets what shadows know of a key.
    pub fn forget(&mut self, key: &Key) {
        self.watching.iter_mut().for_each(|watching| watching.states.forget(key));
    }
}

// === impl Watching ===

impl Watching {
    pub(super) fn new(shadow: &Shadow) -> Self {
        Self { shadow: shadow.clone(), kept: None, states: Memory::default() }
    }

    /// The same one beside another chain.
    pub(super) fn beside(mut self, shadow: &Shadow) -> Self {
        if shadow.beside != self.shadow.beside {
            self.states.clear();
        }
        self.shadow = shadow.clone();
        self
    }

    /// Its own state of the key, else that of the plugin beside it.
    fn state(&self, slice: &Slice<'_>) -> Arc<str> {
        let own = slice.events.first().and_then(|event| self.states.get(&event.key));
        let beside = || slice.states.get(self.shadow.plugin.name()).filter(|_| self.shadow.beside);
        own.or_else(beside).map_or_else(|| Arc::from(""), Arc::clone)
    }

    /// What it keeps is out of date when it is asked again.
    fn rest(&mut self) {
        self.kept = None;
        self.states.clear();
    }

    /// Asks about a pass's events and compares. Returns the time of the calls.
    fn look(&mut self, mut round: Round<'_>, events: &[Event], pass: &Pass, view: &View, redacted: bool) -> Duration {
        let plugin = Arc::clone(&self.shadow.plugin);
        let Some(key) = events.first().map(|event| &event.key) else { return Duration::ZERO };
        let alive: Vec<(usize, &Event, &str)> = events
            .iter()
            .zip(&view.before)
            .enumerate()
            .filter_map(|(at, (event, slot))| Some((at, event, slot.text(event)?)))
            .collect();
        let wanted: Vec<Input<'_>> = alive
            .iter()
            .filter(|(_, event, _)| plugin.wants(&event.kind))
            .map(|(_, event, data)| Input { event, data })
            .collect();
        if !wanted.is_empty() {
            self.ask(&mut round, &wanted, pass.flush);
        }
        self.keep(key, &round);
        let mut said = std::mem::take(&mut round.said).into_iter();
        let (mut verdicts, mut skipped) = (Verdicts::default(), 0);
        for (at, event, data) in alive {
            let mine = if plugin.wants(&event.kind) { said.next() } else { Some(Said::Decision(Decision::Pass)) };
            let mine = match &mine {
                Some(Said::Decision(decision)) => {
                    verdicts[meters::index(decision)] += 1;
                    Fate::of(decision, data)
                }
                Some(Said::Hold) => {
                    verdicts[5] += 1;
                    Fate::Hold
                }
                Some(Said::Nothing) | None => {
                    skipped += 1;
                    continue;
                }
            };
            let chain = view.fate(at, event, data);
            if chain.is_same(&mine) {
                plugin.record.agreed();
            } else if plugin.record.differed(&plugin, chain.name(), mine.name(), Instant::now()) {
                let written = pass.slots.get(at).and_then(|slot| slot.text(event));
                let places = places(&chain, &mine, Show { written, redacted });
                plugin.record.sample(event, &chain, &mine, places);
            }
        }
        plugin.meters().decided(&verdicts);
        if skipped > 0 {
            plugin.record.skipped(&plugin, skipped);
        }
        round.paid
    }

    /// Keeps the state that it set; after a gap in what it saw there is none.
    fn keep(&mut self, key: &Key, round: &Round<'_>) {
        if round.said.iter().any(|said| matches!(said, Said::Nothing)) {
            self.states.forget(key);
        } else if round.changed {
            self.states.set(key, Arc::clone(&round.state));
        }
    }

    /// Asks; after a failure about halves, while there is time.
    fn ask(&mut self, round: &mut Round<'_>, inputs: &[Input<'_>], flush: bool) {
        let plugin = Arc::clone(&self.shadow.plugin);
        if !plugin.record.may_ask(Instant::now()) {
            round.said.extend(inputs.iter().map(|_| Said::Nothing));
            return;
        }
        let was_kept = self.kept.is_some();
        let mut called = self.call(&plugin, round, inputs, flush);
        if called.is_err() && was_kept {
            // It may have been the instance's fault; this one is new.
            called = self.call(&plugin, round, inputs, flush);
        }
        match called {
            Ok((decisions, held)) => {
                let done = decisions.len();
                round.said.extend(decisions.into_iter().map(Said::Decision));
                if held {
                    // It is asked on, so that it knows what came, but the first one's verdict is the hold.
                    let at = round.said.len();
                    self.ask(round, inputs.get(done..).unwrap_or_default(), true);
                    if let Some(said @ Said::Decision(_)) = round.said.get_mut(at) {
                        *said = Said::Hold;
                    }
                }
            }
            Err(error) if error.class == Class::Busy => round.said.extend(inputs.iter().map(|_| Said::Nothing)),
            Err(error) if inputs.len() == 1 => round.said.push(Said::Decision(Decision::Failed(error.class))),
            Err(_) => {
                let (left, right) = inputs.split_at(inputs.len() / 2);
                self.ask(round, left, flush);
                self.ask(round, right, flush);
            }
        }
    }

    fn call(
        &mut self,
        plugin: &Plugin,
        round: &mut Round<'_>,
        inputs: &[Input<'_>],
        flush: bool,
    ) -> Result<(Vec<Decision>, bool), CallError> {
        if let Some(heartbeat) = round.heartbeat {
            heartbeat.beat();
        }
        let began = Instant::now();
        let mut run = || -> Result<_, CallError> {
            let mut instance = match self.kept.take() {
                Some(instance) => instance,
                None => plugin.instance(round.live.runtime())?,
            };
            let mut limits = plugin.sidecar.limits;
            limits.timeout = limits.timeout.min(TIMEOUT_MAX);
            let (verdicts, staged) = instance.process(limits, Arc::clone(&round.state), round.task, inputs, flush)?;
            let (decisions, held) = verdict::check(verdicts, &plugin.identity, flush)?;
            plugin.meters().answered(&decisions, &staged, instance.memory());
            plugin.meters().counted(&staged.counts);
            if let Some(state) = staged.state {
                round.state = state;
                round.changed = true;
            }
            if plugin.reuses() {
                match instance.worn(REUSED_CALLS_MAX) {
                    None => self.kept = Some(instance),
                    Some(wear) => plugin.meters().recycled(wear),
                }
            }
            Ok((decisions, held))
        };
        let called = run();
        let took = began.elapsed();
        round.paid += took;
        pay(plugin, took);
        plugin.meters().called(took, inputs.iter().map(|input| input.data.len()).sum());
        if let Err(error) = &called {
            plugin.meters().failed(error.class);
        }
        called
    }
}

/// Counts a shadow's time; says when that suspends it.
fn pay(plugin: &Plugin, took: Duration) {
    if plugin.record.took(Instant::now(), took) {
        plugin.meters().suspended();
        let name = &**plugin.name();
        tracing::warn!(plugin = name, "shadow takes too much time: it is not asked for a while");
    }
}

// === impl View ===

impl View {
    /// Views for the shadows at a place: those beside the plugin there, or those without one.
    pub(super) fn at<'a>(
        generation: &'a Generation,
        place: usize,
        beside: bool,
        slots: &'a [Slot],
    ) -> impl Iterator<Item = Self> + 'a {
        let here = generation.shadows.iter().enumerate();
        here.filter(move |(_, shadow)| shadow.place == place && shadow.beside == beside).map(|(shadow, _)| Self {
            shadow,
            before: slots.to_vec(),
            after: None,
        })
    }

    /// What the plugin at the place made of them.
    pub(super) fn came_to(&mut self, slots: &[Slot]) {
        self.after = Some(slots.to_vec());
    }

    /// What the chain made of an event at this place.
    fn fate<'a>(&'a self, at: usize, event: &'a Event, data: &'a str) -> Fate<'a> {
        match self.after.as_ref().and_then(|after| after.get(at)) {
            None | Some(Slot::Live(None)) => Fate::Pass(data),
            Some(slot @ Slot::Live(Some(_))) => match slot.text(event) {
                Some(new) if new != data => Fate::Replace(new),
                _ => Fate::Pass(data),
            },
            Some(Slot::Gone(Outcome::Drop { code, .. }, _)) => Fate::Drop(code),
            Some(Slot::Gone(Outcome::Dead { reason: "refused", code, .. }, _)) => Fate::Quarantine(code),
            Some(Slot::Gone(Outcome::Dead { code, .. }, _)) => Fate::Failed(code),
            Some(Slot::Gone(Outcome::Pass | Outcome::Replace(_), _)) => Fate::Pass(data),
        }
    }
}

// === impl Slot ===

impl Slot {
    /// The data that it has now, if it is still in the chain.
    fn text<'a>(&'a self, event: &'a Event) -> Option<&'a str> {
        match self {
            Self::Live(Some(data)) => Some(data),
            Self::Live(None) => Some(&event.data),
            Self::Gone(..) => None,
        }
    }
}
