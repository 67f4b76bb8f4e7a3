//! One plugin's answer about consecutive events: a call, and after a failure calls about halves, so that only what fails
//! alone is failed. Keeps instances, gives up worn ones, and asks a plugin that keeps timing out about one event at a time.

use std::{sync::Arc, time::Instant};

use super::{Answer, End, LaneChain, Question, REUSED_CALLS_MAX, lock};
use crate::plugin::{
    Blocked,
    bindings::Input,
    budget::Budget,
    circuit,
    instance::{CallError, Class},
    loader::Plugin,
    verdict,
};

impl LaneChain {
    /// Asks a plugin about events; on failure about halves of them, so that only what fails alone is failed. `before`:
    /// whether they are part of others, and how often it was asked about those.
    pub(super) fn ask(
        &mut self,
        question: &Question<'_>,
        inputs: &[Input<'_>],
        state: &mut Arc<str>,
        budget: &mut Budget,
        before: (bool, u32),
    ) -> Result<Answer, End> {
        let (is_part, mut tries) = before;
        let throttled = self.is_throttled(question.plugin);
        if throttled && inputs.len() > 1 {
            return self.ask_halves(question, inputs, state, budget, tries);
        }
        tries += 1;
        // Alone after a failure it is on a new instance already, unless it is alone for being slow.
        let was_kept = throttled && self.kept[question.at].is_some();
        let mut called = self.call(question, inputs, state, throttled);
        if called.is_err() && inputs.len() == 1 && (!is_part || was_kept) {
            // Once may be the instance's fault; this one is new.
            tries += 1;
            called = self.call(question, inputs, state, throttled);
        }
        if let Err(error) = &called
            && error.class == Class::Busy
        {
            // What this lane keeps makes room; the slice comes again.
            self.kept.iter_mut().for_each(|kept| *kept = None);
            return Err(End::Blocked(Blocked { reason: format!("plugin {}: {error}", question.plugin.name()) }));
        }
        let error = match called {
            Ok(mut answer) => {
                answer.tries = vec![tries; answer.decisions.len()];
                if let Some(new) = answer.staged.iter().find_map(|staged| staged.state.as_ref()) {
                    *state = Arc::clone(new);
                }
                budget.well(answer.decisions.len() as u64);
                if !question.plugin.is_redactor() {
                    lock(&question.plugin.circuit).well(answer.decisions.len() as u64);
                }
                return Ok(answer);
            }
            Err(error) => error,
        };
        match inputs {
            [input] => self.fail(question, input.event, &error, budget, tries),
            _ => self.ask_halves(question, inputs, state, budget, tries),
        }
    }

    fn ask_halves(
        &mut self,
        question: &Question<'_>,
        inputs: &[Input<'_>],
        state: &mut Arc<str>,
        budget: &mut Budget,
        tries: u32,
    ) -> Result<Answer, End> {
        let (left, right) = inputs.split_at(inputs.len() / 2);
        let mut answer = self.ask(question, left, state, budget, (true, tries))?;
        if !answer.held {
            let more = self.ask(question, right, state, budget, (true, tries))?;
            answer.decisions.extend(more.decisions);
            answer.tries.extend(more.tries);
            answer.staged.extend(more.staged);
            answer.held = more.held;
        }
        Ok(answer)
    }

    fn call(
        &mut self,
        question: &Question<'_>,
        inputs: &[Input<'_>],
        state: &Arc<str>,
        throttled: bool,
    ) -> Result<Answer, CallError> {
        let plugin = question.plugin;
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.beat();
        }
        let began = Instant::now();
        let result = self.kept[question.at].take().map_or_else(|| plugin.instance(self.live.runtime()), Ok).and_then(
            |mut instance| {
                let mut limits = plugin.sidecar.limits;
                if throttled {
                    limits.timeout = circuit::short(limits.timeout);
                }
                let (verdicts, staged) =
                    instance.process(limits, Arc::clone(state), question.task, inputs, question.flush)?;
                let (decisions, held) = verdict::check(verdicts, &plugin.identity, question.flush)?;
                plugin.meters().answered(&decisions, &staged, instance.memory());
                if plugin.reuses() {
                    match instance.worn(REUSED_CALLS_MAX) {
                        None => self.kept[question.at] = Some(instance),
                        Some(wear) => plugin.meters().recycled(wear),
                    }
                }
                Ok(Answer { decisions, held, staged: vec![staged], ..Answer::default() })
            },
        );
        plugin.meters().called(began.elapsed(), inputs.iter().map(|input| input.data.len()).sum());
        if let Err(error) = &result {
            plugin.meters().failed(error.class);
        }
        result
    }

    fn is_throttled(&self, plugin: &Plugin) -> bool {
        !plugin.is_redactor() && lock(&plugin.circuit).is_open(Instant::now())
    }

    /// A standard plugin timed out on an event by itself.
    pub(super) fn throttle(&self, plugin: &Plugin) {
        let began = lock(&plugin.circuit).timed_out(Instant::now());
        if began {
            plugin.meters().suspended();
            let name = &**plugin.name();
            tracing::warn!(plugin = name, "plugin keeps running into its time limit: it gets less time for a minute");
        }
    }
}
