//! What the end-to-end tests feed the service with: interleaved tasks and webhook flows, malformed entries, secrets whole and
//! split, every event with a marker of its own.

use fastrand::Rng;

/// In every secret's first half and in its second one: neither may ever stand in `LOGS_DIR`.
pub(crate) const CANARIES: [&str; 2] = ["Zq7SecHalfOne", "Zq7SecHalfTwo"];

/// An entry's fields.
pub(crate) type Fields = Vec<(String, String)>;

/// Makes entries, the same ones for the same seed.
pub(crate) struct Load {
    rng: Rng,
    count: u64,
    tasks: Vec<Task>,
    made: u64,
    /// How many tasks live at once.
    live: usize,
}

/// A task in the making.
struct Task {
    id: String,
    flow: Option<String>,
    step: u64,
    /// The second half of a secret, to come with the next output.
    half: Option<String>,
    length: u64,
}

// === impl Load ===

impl Load {
    pub(crate) fn new(seed: u64, live: usize) -> Self {
        Self { rng: Rng::with_seed(seed), count: 0, tasks: Vec::new(), made: 0, live }
    }

    /// The next entry.
    pub(crate) fn next(&mut self) -> Fields {
        while self.tasks.len() < self.live {
            self.made += 1;
            let id = format!("task-{:05}", self.made);
            let flow = self.made.is_multiple_of(2).then(|| format!("hook-{:05}", self.made));
            let length = self.rng.u64(5..60);
            self.tasks.push(Task { id, flow, step: 0, half: None, length });
        }
        self.count += 1;
        if self.rng.u8(..) < 6 {
            return self.malformed();
        }
        let at = self.rng.usize(..self.tasks.len());
        let fields = self.step(at);
        if self.tasks[at].step > self.tasks[at].length {
            self.tasks.swap_remove(at);
        }
        fields
    }

    fn step(&mut self, at: usize) -> Fields {
        let marker = format!("mark-{:07}-end", self.count);
        let rng = &mut self.rng;
        let task = &mut self.tasks[at];
        task.step += 1;
        let id = task.id.clone();
        let text = |kind: &str, content: &str| {
            let data = serde_json::json!({"task_id": id, "content": content}).to_string();
            entry(&[("type", kind), ("task_id", &id), ("timestamp", "2026-02-10T09:00:01Z"), ("data", &data)])
        };
        if let Some(half) = task.half.take() {
            return text("task:output", &format!("{half} {marker}"));
        }
        if let Some(flow) = &task.flow
            && (task.step <= 5 || rng.u8(..) < 10)
        {
            let kinds = ["received", "validated", "matched", "task_created"];
            let kind = kinds.get(task.step as usize - 1).copied().unwrap_or("payload");
            let mut data = serde_json::json!({"source": "github", "note": marker, "headers": {
                "Authorization": format!("Bearer {}{}", CANARIES[0], CANARIES[1])}});
            if kind == "task_created" {
                data["task_id"] = id.clone().into();
            }
            let kind = format!("webhook:{kind}");
            return entry(&[("type", &kind), ("webhook_event_id", flow), ("data", &data.to_string())]);
        }
        if task.step > task.length {
            let (kind, data) = match rng.bool() {
                true => {
                    ("task:completed", serde_json::json!({"result": marker, "cost_usd": 0.25, "status": "completed"}))
                }
                false => ("task:failed", serde_json::json!({"error": marker})),
            };
            return entry(&[("type", kind), ("task_id", &id), ("data", &data.to_string())]);
        }
        match rng.u8(..20) {
            0 => {
                let data = serde_json::json!({"input_message": marker, "source": "dashboard"}).to_string();
                entry(&[("type", "task:created"), ("task_id", &id), ("data", &data)])
            }
            1 => entry(&[("type", "task:started"), ("task_id", &id), ("data", "{}")]),
            2 => {
                let data = serde_json::json!({"name": "Bash", "id": format!("toolu_{}", self.count),
                    "input": {"command": format!("curl -u root:{}{} http://x", CANARIES[0], CANARIES[1])},
                    "password": format!("{}{}", CANARIES[0], CANARIES[1]), "note": marker});
                entry(&[("type", "task:tool_call"), ("task_id", &id), ("data", &data.to_string())])
            }
            3 => text("task:tool_result", &format!("{marker} token=ghp_{}0000{}0000", CANARIES[0], CANARIES[1])),
            4 => text("task:user_input", &marker),
            5 => text("task:output", &format!("please-drop {marker}")),
            6 => text("task:output", &format!("please-quarantine {marker}")),
            7 => text("knowledge:query", &marker),
            8 | 9 => {
                // GitHub's form: ghp_ and 36 characters, over two events.
                task.half = Some(format!("{}000001 and on", CANARIES[1]));
                text("task:output", &format!("{marker} here it comes: ghp_{}0000", CANARIES[0]))
            }
            10 => text("task:thinking", &format!("{marker} {}", "reasons ".repeat(rng.usize(..200)))),
            _ => text(
                "task:output",
                &format!("{marker} plain words of an agent {}", "and more ".repeat(rng.usize(..40))),
            ),
        }
    }

    fn malformed(&mut self) -> Fields {
        let id = format!("task-{:05}", self.made);
        match self.rng.u8(..9) {
            0 => entry(&[("type", "task:output"), ("task_id", &id), ("data", "not json")]),
            1 => entry(&[("type", "task:output"), ("task_id", &id), ("data", "[1,2]")]),
            2 => entry(&[("task_id", &id), ("data", "{}")]),
            3 => entry(&[("type", "task:output"), ("data", "{}")]),
            4 => entry(&[("type", "task:output"), ("task_id", "a\nb"), ("data", "{}")]),
            5 => entry(&[("type", "task:output"), ("task_id", &id), ("data", "{}"), ("data", "{}")]),
            6 => entry(&[("type", "task:output"), ("task_id", &id), ("task_id", "other"), ("data", "{}")]),
            7 => entry(&[("type", "Not A Kind"), ("task_id", &id), ("data", "{}")]),
            _ => entry(&[("type", "task:output"), ("task_id", "../escape"), ("data", "{\"content\":\"x\"}")]),
        }
    }
}

pub(crate) fn entry(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Appends entries in one round trip.
pub(crate) fn send(redis: &mut redis::Connection, entries: impl IntoIterator<Item = Fields>) {
    let mut pipe = redis::pipe();
    for fields in entries {
        pipe.cmd("XADD").arg("task_events").arg("*").arg(&fields[..]).ignore();
    }
    pipe.query::<()>(redis).unwrap();
}
