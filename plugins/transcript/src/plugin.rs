//! The plugin: one append per call.

use task_logger_plugin::{Call, Failure, Host, Manifest, Plugin, Verdict, export};

use crate::page::{Config, Page};

const FILE: &str = "transcript.md";

/// Keeps nothing but its configuration.
#[derive(Clone, Debug)]
pub struct Transcript {
    config: Config,
}

export!(Transcript);

impl Plugin for Transcript {
    type Config = Config;

    fn new(config: Config, _: &Host) -> Result<Self, Failure> {
        Ok(Self { config })
    }

    fn manifest(&self) -> Manifest {
        Manifest::standard("transcript", env!("CARGO_PKG_VERSION")).kinds(["task:*"]).files([FILE])
    }

    fn process(&self, call: &Call<'_>) -> Result<Vec<Verdict>, Failure> {
        let state = call.host.state();
        let mut page = Page::resume(&self.config, call.task.unwrap_or_default(), &state);
        let mut text = String::new();
        for event in call.events {
            page.add(event.kind, event.timestamp_ms, event.data, &mut text);
        }
        if !text.is_empty() {
            call.host.append_file(FILE, &text);
        }
        let next = page.into_state();
        if next != state {
            call.host.set_state(&next);
        }
        Ok(vec![Verdict::Pass; call.events.len()])
    }
}
