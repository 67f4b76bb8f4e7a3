//! One suite for all languages: the compiled guests of `tests/conformance` through the real host. A test's name carries the
//! language. What a guest has to do is written down in `tests/conformance/README.md`; `make conformance` builds them.

use std::{
    fs,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use serde_json::{Value, json};
use task_logger::{
    event::Event,
    plugin::{Decided, LaneChain, Outcome, PluginHost, Slice, States},
};

use crate::{
    guests::{Log, Stage, entry, event},
    rig::target_dir,
};

mod effects;
mod fields;
mod memory;
mod service;
mod starting;
mod verdicts;

/// A language of which there is a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Rust,
    Python,
    Js,
    C,
    /// The component of `tests/fixtures`, built when the interface was frozen.
    Frozen,
}

/// One guest in a host of its own, with the states of one task, and everything that it logs and counts.
pub(crate) struct Bench {
    stage: Stage,
    host: Arc<PluginHost>,
    lane: LaneChain,
    states: States,
    task: Option<&'static str>,
    log: Log,
    recorder: PrometheusRecorder,
}

/// A module with a test for each case.
macro_rules! suite {
    ($language:ident, $variant:ident: $($of:ident::$case:ident,)*) => {
        mod $language {
            use super::{Language, effects, fields, service, starting, verdicts};

            $(#[test]
            fn $case() {
                $of::$case(Language::$variant);
            })*
        }
    };
}

macro_rules! in_all_languages {
    ($($cases:tt)*) => {
        suite!(rust, Rust: $($cases)*);
        suite!(python, Python: $($cases)*);
        suite!(js, Js: $($cases)*);
        suite!(c, C: $($cases)*);
        suite!(frozen, Frozen: $($cases)*);
    };
}

in_all_languages!(
    starting::the_manifest_says_what_it_was_told,
    starting::a_wrong_configuration_is_refused_in_the_guests_words,
    starting::init_logs_and_counts,
    verdicts::every_verdict,
    verdicts::what_a_hold_stops_comes_again,
    verdicts::a_hold_is_released_in_the_same_call,
    verdicts::nothing_is_held_on_flush,
    verdicts::a_standard_plugin_may_not_hold,
    verdicts::a_failure_is_an_events_own,
    verdicts::a_trap_is_an_events_own,
    verdicts::a_redactors_failure_message_is_not_shown,
    verdicts::an_undeclared_file_is_not_written,
    verdicts::a_call_of_256_mixed_events,
    verdicts::after_a_trap_the_others_effects_happen_once,
    effects::the_state_outlives_the_host,
    effects::a_state_belongs_to_one_key,
    effects::extras_are_written_byte_for_byte,
    effects::an_annotation_is_merged,
    effects::log_lines_keep_their_level,
    effects::a_redactors_log_lines_are_not_shown,
    effects::counters,
    effects::a_kept_instance_keeps_nothing_of_a_task,
    fields::every_field_arrives,
    fields::texts_arrive_as_they_are,
    fields::what_passes_stays_byte_for_byte,
    fields::a_mebibyte_crosses,
    fields::an_event_of_no_task,
    service::everything_is_there_once_after_a_kill,
);

// === impl Language ===

impl Language {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Js => "js",
            Self::C => "c",
            Self::Frozen => "frozen",
        }
    }

    /// The compiled guest. The first of the tests to need it compiles it to machine code, the others find that in the cache.
    pub(crate) fn guest(self) -> &'static [u8] {
        static GUESTS: [OnceLock<Vec<u8>>; 5] = [const { OnceLock::new() }; 5];
        GUESTS[self as usize].get_or_init(|| {
            let path = match self {
                Self::Frozen => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conformance-1.0.0.wasm"),
                built => target_dir().join("conformance").join(format!("{}.wasm", built.name())),
            };
            let wasm = fs::read(&path).unwrap_or_else(|error| {
                panic!("{}: {error}: build it with `make conformance-{}`", path.display(), self.name())
            });
            let mut stage = Stage::new();
            stage.put_bytes("warm.wasm", &wasm);
            stage.start();
            wasm
        })
    }
}

// === impl Bench ===

impl Bench {
    /// A guest under a sidecar, live.
    pub(crate) fn new(language: Language, sidecar: &str) -> Self {
        Self::of(language.guest(), sidecar)
    }

    /// A component that is a conformance guest.
    pub(crate) fn of(wasm: &[u8], sidecar: &str) -> Self {
        let stage = Stage::new();
        stage.put_bytes("guest.toml", sidecar.as_bytes()).put_bytes("guest.wasm", wasm);
        Self::on(stage)
    }

    /// A guest that may use other memory and time than the host's tests grant.
    pub(crate) fn with_room(language: Language, memory: usize, timeout: Duration, sidecar: &str) -> Self {
        let stage = Stage::new().ceilings(memory, timeout);
        let sidecar = format!("memory = '{memory}B'\ntimeout = '{}ms'\n{sidecar}", timeout.as_millis());
        stage.put_bytes("guest.toml", sidecar.as_bytes()).put_bytes("guest.wasm", language.guest());
        Self::on(stage)
    }

    fn on(mut stage: Stage) -> Self {
        let (log, recorder) = (Log::default(), PrometheusBuilder::new().build_recorder());
        // The report makes the counters, if no call did before.
        let start = || {
            let host = stage.start();
            let shown = entry(&host, "guest.wasm");
            (host, shown)
        };
        let (host, shown) = log.capture(|| metrics::with_local_recorder(&recorder, start));
        let state = shown.map(|entry| entry["state"].clone());
        assert_eq!(state, Some(json!("live")), "{:#}", host.report());
        Self { lane: host.lane(), stage, host, states: States::default(), task: Some("t"), log, recorder }
    }

    /// The same folder, states and task in a new host, with a new log and new counters.
    pub(crate) fn restart(self) -> Self {
        let Self { stage, states, task, lane, host, .. } = self;
        drop((lane, host));
        Self { states, task, ..Self::on(stage) }
    }

    /// The slice is of a flow that has not joined.
    pub(crate) fn of_no_task(mut self) -> Self {
        self.task = None;
        self
    }

    /// Runs a slice and keeps the states that it sets, as the lane does.
    pub(crate) fn ask(&mut self, events: &[Event], flush: bool) -> Decided {
        let slice = Slice { task: self.task, events, flush, states: &self.states };
        let (lane, recorder) = (&mut self.lane, &self.recorder);
        let decided = self.log.capture(|| metrics::with_local_recorder(recorder, || lane.process(&slice))).unwrap();
        for (name, state) in &decided.effects.states {
            self.states.set(Arc::clone(name), Arc::clone(state));
        }
        decided
    }

    pub(crate) fn outcomes(&mut self, events: &[Event]) -> Vec<Outcome> {
        self.ask(events, false).outcomes
    }

    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    pub(crate) fn host(&self) -> &PluginHost {
        &self.host
    }

    /// What the guest counted under a name; 0 if nothing.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        self.metric("task_logger_plugin_count_total", &format!("name=\"{name}\""))
    }

    /// Calls of the guest.
    pub(crate) fn calls(&self) -> u64 {
        self.metric("task_logger_plugin_calls_total", "")
    }

    fn metric(&self, metric: &str, label: &str) -> u64 {
        let shown = self.recorder.handle().render();
        let of_it = |line: &&str| line.strip_prefix(metric).is_some_and(|labels| labels.contains(label));
        let mut values = shown.lines().filter(of_it).filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        values.next().unwrap_or_default()
    }
}

/// Events with this data, numbered from 1.
pub(crate) fn told(data: &[Value]) -> Vec<Event> {
    (1..).zip(data).map(|(seq, data)| event(seq, "task:output", &data.to_string())).collect()
}

/// An event for each action without arguments.
pub(crate) fn doing(actions: &[&str]) -> Vec<Event> {
    told(&actions.iter().map(|action| json!({ "do": action })).collect::<Vec<_>>())
}

/// The new data of an outcome that replaces.
#[track_caller]
pub(crate) fn replaced(outcome: &Outcome) -> Value {
    let Outcome::Replace(data) = outcome else { panic!("no replacement: {outcome:?}") };
    serde_json::from_str(data).unwrap()
}

/// What stands for an event on which the guest failed.
pub(crate) fn dead(class: &str) -> Outcome {
    Outcome::Dead { reason: "plugin_failed", plugin: "conformance".into(), code: class.to_owned() }
}

/// Who released the text: the outcome of a hold that ends.
pub(crate) fn released() -> Value {
    json!({ "released": true })
}
