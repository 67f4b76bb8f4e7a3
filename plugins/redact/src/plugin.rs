//! [`Redactor`] as a plugin: one per instance, one state per task.

use task_logger_plugin::{Call, Failure, Host, Manifest, Plugin, export};

use crate::{CODES, Config, Event, Redactor, Verdict};

/// Code of an event whose data is not JSON.
const NOT_JSON: &str = "not_json";

export!(Redactor);

impl Plugin for Redactor {
    type Config = Config;

    fn new(config: Config, _: &Host) -> Result<Self, Failure> {
        Ok(Self::compile(config)?)
    }

    fn manifest(&self) -> Manifest {
        Manifest::redactor("redact", env!("CARGO_PKG_VERSION")).codes(CODES.iter().copied().chain([NOT_JSON]))
    }

    fn process(&self, call: &Call<'_>) -> Result<Vec<task_logger_plugin::Verdict>, Failure> {
        let views: Vec<Event<'_>> =
            call.events.iter().map(|event| Event { kind: event.kind, data: event.data }).collect();
        let outcome = self.process(&call.host.state(), &views, call.flush);
        if let Some(state) = &outcome.state {
            call.host.set_state(state);
        }
        for (code, count) in outcome.counts {
            call.host.count(code, count);
        }
        Ok(outcome.verdicts.into_iter().map(task_logger_plugin::Verdict::from).collect())
    }
}

impl From<Verdict> for task_logger_plugin::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Replace(data) => Self::Replace(data),
            Verdict::Hold => Self::Hold,
            Verdict::NotJson => Self::quarantine(NOT_JSON),
        }
    }
}
