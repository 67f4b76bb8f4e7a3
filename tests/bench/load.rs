//! The backlog: task output of many interleaved tasks, one to four consecutive events of a task each.

use redis::{Connection, Value};

/// What stands in the stream.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Size of an event's `content`.
    pub(crate) bytes: usize,
    /// How many events.
    pub(crate) events: usize,
    /// Of how many tasks.
    pub(crate) tasks: usize,
}

const WORDS: [&str; 16] = [
    "running",
    "tests",
    "in",
    "src/lib.rs",
    "error[E0308]:",
    "expected",
    "found",
    "`String`,",
    "Compiling",
    "serde",
    "v1.0.228",
    "ok",
    "commit 3f1c9a7e",
    "writing",
    "the",
    "migration",
];

impl Load {
    /// Appends all events and returns the id of the last. The same events each time.
    pub(crate) fn fill(&self, redis: &mut Connection, stream: &str) -> String {
        let mut random = fastrand::Rng::with_seed(1);
        let mut last = String::new();
        let mut added = 0;
        while added < self.events {
            let mut pipe = redis::pipe();
            for _ in 0..1000 {
                let task = random.usize(..self.tasks);
                for _ in 0..random.usize(1..=4).min(self.events - added) {
                    pipe.cmd("XADD")
                        .arg(stream)
                        .arg("*")
                        .arg("type")
                        .arg("task:output")
                        .arg("task_id")
                        .arg(format!("task-{task:06}"))
                        .arg("timestamp")
                        .arg("2026-01-31T12:00:00.123456+00:00")
                        .arg("data")
                        .arg(self.data(task, &mut random));
                    added += 1;
                }
            }
            let ids: Vec<Value> = pipe.query(redis).unwrap();
            if let Some(Value::BulkString(id)) = ids.last() {
                last = String::from_utf8(id.clone()).unwrap();
            }
        }
        last
    }

    /// One event's data.
    pub(crate) fn data(&self, task: usize, random: &mut fastrand::Rng) -> String {
        let mut content = String::with_capacity(self.bytes + 16);
        while content.len() < self.bytes {
            content.push_str(WORDS[random.usize(..WORDS.len())]);
            content.push_str(if random.u8(..8) == 0 { "\\n" } else { " " });
        }
        format!("{{\"task_id\": \"task-{task:06}\", \"content\": \"{content}\"}}")
    }
}
