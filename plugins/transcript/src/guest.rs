//! The component: one append per call.

use std::sync::OnceLock;

use crate::page::{Config, Page};
use bindings::{
    exports::task_logger::plugin::processor::{Event, Failure, Guest, Manifest, Role, Verdict},
    task_logger::plugin::host,
};

mod bindings {
    //! Generated from `wit/plugin.wit`.
    #![allow(unsafe_code, missing_docs, unreachable_pub, reason = "generated calls across the component boundary")]
    wit_bindgen::generate!({ path: "../../wit", world: "plugin" });
    export!(Transcript with_types_in self);
    use super::Transcript;
}

struct Transcript;

static CONFIG: OnceLock<Config> = OnceLock::new();

const FILE: &str = "transcript.md";

impl Guest for Transcript {
    fn init(config: String) -> Result<Manifest, Failure> {
        let config = Config::parse(&config).map_err(|error| Failure { message: error.to_string() })?;
        CONFIG.get_or_init(|| config);
        Ok(Manifest {
            name: "transcript".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: Role::Standard,
            kinds: vec!["task:*".to_owned()],
            files: vec![FILE.to_owned()],
            codes: Vec::new(),
        })
    }

    fn process(task: Option<String>, events: Vec<Event>, _flush: bool) -> Result<Vec<Verdict>, Failure> {
        let config = CONFIG.get_or_init(Config::default);
        let state = host::get_state();
        let mut page = Page::resume(config, task.as_deref().unwrap_or_default(), &state);
        let mut text = String::new();
        for event in &events {
            page.add(&event.kind, event.timestamp_ms, &event.data, &mut text);
        }
        if !text.is_empty() {
            host::append_file(FILE, &text);
        }
        let next = page.into_state();
        if next != state {
            host::set_state(&next);
        }
        Ok(events.iter().map(|_| Verdict::Pass).collect())
    }
}
