//! The plugin: one state read, one state write and one file per call, and none of them when nothing was learnt.

use task_logger_plugin::{Call, Failure, Host, Manifest, NoConfig, Plugin, Verdict, export};

use crate::tally::Tally;

const FILE: &str = "usage.json";

/// Keeps nothing but the task's state.
#[derive(Clone, Copy, Debug)]
pub struct Usage;

export!(Usage);

impl Plugin for Usage {
    type Config = NoConfig;

    fn new(_: NoConfig, _: &Host) -> Result<Self, Failure> {
        Ok(Self)
    }

    fn manifest(&self) -> Manifest {
        Manifest::standard("usage", env!("CARGO_PKG_VERSION")).kinds(["task:*"]).files([FILE])
    }

    fn process(&self, call: &Call<'_>) -> Result<Vec<Verdict>, Failure> {
        let mut tally: Option<Tally> = None;
        let mut changed = false;
        let mut ended = false;
        for event in call.events {
            if !Tally::wants(event.kind, event.data) {
                continue;
            }
            let tally = tally.get_or_insert_with(|| Tally::from_state(&call.host.state()));
            changed |= tally.add(event.kind, event.timestamp_ms, event.data);
            ended |= matches!(event.kind, "task:completed" | "task:failed");
        }
        if let Some(tally) = tally.filter(|_| changed) {
            call.host.set_state(&tally.to_state());
            call.host.replace_file(FILE, &tally.report());
            if ended {
                call.host.annotate(&tally.summary());
            }
        }
        Ok(vec![Verdict::Pass; call.events.len()])
    }
}
