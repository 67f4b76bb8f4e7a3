//! The component: one state read, one state write and one file per call, and none of them when nothing was learnt.

use crate::tally::Tally;
use bindings::{
    exports::task_logger::plugin::processor::{Event, Failure, Guest, Manifest, Role, Verdict},
    task_logger::plugin::host,
};

mod bindings {
    //! Generated from `wit/plugin.wit`.
    #![allow(unsafe_code, missing_docs, unreachable_pub, reason = "generated calls across the component boundary")]
    wit_bindgen::generate!({ path: "../../wit", world: "plugin" });
    export!(Usage with_types_in self);
    use super::Usage;
}

struct Usage;

const FILE: &str = "usage.json";

impl Guest for Usage {
    fn init(_config: String) -> Result<Manifest, Failure> {
        Ok(Manifest {
            name: "usage".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: Role::Standard,
            kinds: vec!["task:*".to_owned()],
            files: vec![FILE.to_owned()],
            codes: Vec::new(),
        })
    }

    fn process(_task: Option<String>, events: Vec<Event>, _flush: bool) -> Result<Vec<Verdict>, Failure> {
        let mut tally: Option<Tally> = None;
        let mut changed = false;
        let mut ended = false;
        for event in &events {
            if !Tally::wants(&event.kind, &event.data) {
                continue;
            }
            let tally = tally.get_or_insert_with(|| Tally::from_state(&host::get_state()));
            changed |= tally.add(&event.kind, event.timestamp_ms, &event.data);
            ended |= matches!(event.kind.as_str(), "task:completed" | "task:failed");
        }
        if let Some(tally) = tally.filter(|_| changed) {
            host::set_state(&tally.to_state());
            host::replace_file(FILE, &tally.report());
            if ended {
                host::annotate(&tally.summary());
            }
        }
        Ok(events.iter().map(|_| Verdict::Pass).collect())
    }
}
