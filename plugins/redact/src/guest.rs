//! The component: one [`Redactor`] per instance, one state per task.

use std::sync::OnceLock;

use crate::{CODES, Redactor};
use bindings::{
    exports::task_logger::plugin::processor::{Event, Failure, Guest, Manifest, Role, Verdict},
    task_logger::plugin::host,
};

mod bindings {
    //! Generated from `wit/plugin.wit`.
    #![allow(unsafe_code, missing_docs, unreachable_pub, reason = "generated calls across the component boundary")]
    wit_bindgen::generate!({ path: "../../wit", world: "plugin" });
    export!(Component with_types_in self);
    use super::Component;
}

struct Component;

static REDACTOR: OnceLock<Redactor> = OnceLock::new();

/// Code of an event whose data is not JSON.
const NOT_JSON: &str = "not_json";

impl Guest for Component {
    fn init(config: String) -> Result<Manifest, Failure> {
        let redactor = Redactor::new(&config).map_err(|error| Failure { message: error.to_string() })?;
        REDACTOR.get_or_init(|| redactor);
        Ok(Manifest {
            name: "redact".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: Role::Redactor,
            kinds: vec!["*".to_owned()],
            files: Vec::new(),
            codes: CODES.iter().copied().chain([NOT_JSON]).map(str::to_owned).collect(),
        })
    }

    fn process(_task: Option<String>, events: Vec<Event>, flush: bool) -> Result<Vec<Verdict>, Failure> {
        let Some(redactor) = REDACTOR.get() else { return Err(Failure { message: "not initialized".to_owned() }) };
        let views: Vec<crate::Event<'_>> =
            events.iter().map(|event| crate::Event { kind: &event.kind, data: &event.data }).collect();
        let outcome = redactor.process(&host::get_state(), &views, flush);
        if let Some(state) = &outcome.state {
            host::set_state(state);
        }
        for (code, count) in outcome.counts {
            host::count(code, count);
        }
        let verdicts = outcome.verdicts.into_iter().map(|verdict| match verdict {
            crate::Verdict::Pass => Verdict::Pass,
            crate::Verdict::Replace(data) => Verdict::Replace(data),
            crate::Verdict::Hold => Verdict::Hold,
            crate::Verdict::NotJson => Verdict::Quarantine(NOT_JSON.to_owned()),
        });
        Ok(verdicts.collect())
    }
}
