//! A service behind a network that fails, and the record of what its producers were told: the judge of whatever happens to the
//! stream itself, which then proves nothing any more. Knows only tasks' output events, by markers; ids play no part in it.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use redis::Connection;
use serde_json::Value;

use crate::{
    checker::Stream,
    fault_proxy::FaultProxy,
    redis_server::RedisServer,
    rig::{Node, Rig, eventually, last_id, published},
};

/// Tasks that live at once.
const TASKS: u64 = 12;

/// One service process, its Redis, and the proxy between them.
pub(crate) struct Scene {
    pub(crate) rig: Rig,
    pub(crate) proxy: FaultProxy,
    pub(crate) server: RedisServer,
    pub(crate) node: Node,
    /// Straight to the server.
    pub(crate) redis: Connection,
    pub(crate) ledger: Ledger,
    pub(crate) rng: Rng,
}

/// What was appended, in order.
#[derive(Default)]
pub(crate) struct Ledger {
    made: u64,
    sent: BTreeMap<String, Vec<Sent>>,
}

struct Sent {
    marker: String,
    /// Whether it must leave a gap instead of a record.
    broken: bool,
    /// Redis lost it, or somebody deleted it: it may stand there, and need not.
    optional: bool,
}

// === impl Scene ===

impl Scene {
    /// `None` after a message where there is no `redis-server`.
    pub(crate) fn start(seed: u64) -> Option<Self> {
        Self::start_with(seed, &["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// The same with other arguments of the server.
    pub(crate) fn start_with(seed: u64, args: &[&str]) -> Option<Self> {
        let server = RedisServer::start_tcp(args)?;
        let proxy = FaultProxy::start(server.socket(), seed);
        let rig = Rig::embedded().with_bundled(&["redact"]).set("REDIS_URL", &proxy.url()).set("HOLD_MAX", "100ms");
        let node = rig.spawn_owner();
        let redis = server.connect();
        Some(Self { rig, proxy, server, node, redis, ledger: Ledger::default(), rng: Rng::with_seed(seed) })
    }

    /// Appends so many entries, some of them undecodable.
    pub(crate) fn produce(&mut self, count: u64) {
        self.ledger.produce(&mut self.redis, &mut self.rng, count, None);
    }

    /// Waits until the published position has reached the stream's end.
    #[track_caller]
    pub(crate) fn settle(&mut self) {
        let redis = &mut self.redis;
        eventually("the position is published up to the stream's end", || published(redis) == last_id(redis));
    }

    /// Waits until `/ready?write` answers this.
    #[track_caller]
    pub(crate) fn wait_ready(&self, ready: bool) {
        let status = if ready { 200 } else { 503 };
        eventually(&format!("/ready?write answers {status}"), || self.node.get("/ready?write").0 == status);
    }

    /// A counter of `GET /metrics`.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.node.json("/metrics")["events"][name].as_u64().unwrap_or(0)
    }

    /// All is well: more entries come through, the process is the one that it was, and everything stands where it must.
    #[track_caller]
    pub(crate) fn judge(&mut self) {
        self.proxy.heal();
        self.wait_ready(true);
        self.produce(30);
        self.settle();
        self.ledger.prove(&self.rig);
        assert!(self.node.is_running(), "it died");
    }

    /// The last look, after an orderly end. `whole`: the stream was left alone and proves everything by itself, too.
    #[track_caller]
    pub(crate) fn end(mut self, whole: bool) {
        self.judge();
        self.node.terminate();
        self.ledger.prove(&self.rig);
        if whole {
            Stream::of_redis(&mut self.redis).prove(&self.rig.logs(), &[]);
        }
    }
}

// === impl Ledger ===

impl Ledger {
    /// Appends entries and notes them; with `ids` under these ids, else under the server's.
    pub(crate) fn produce(&mut self, redis: &mut Connection, rng: &mut Rng, count: u64, ids: Option<&[String]>) {
        let mut pipe = redis::pipe();
        for at in 0..count {
            self.made += 1;
            let (task, marker) = (format!("t{:02}", rng.u64(..TASKS)), format!("mark-{:07}-end", self.made));
            let broken = rng.u8(..30) == 0;
            let data = match broken {
                true => format!("not json {marker}"),
                false => {
                    serde_json::json!({"content": format!("{marker} {}", "words ".repeat(rng.usize(..30)))}).to_string()
                }
            };
            let id = ids.and_then(|ids| ids.get(at as usize)).map_or("*", String::as_str);
            let add = pipe.cmd("XADD").arg("task_events").arg(id);
            add.arg("type").arg("task:output").arg("task_id").arg(&task).arg("data").arg(data).ignore();
            self.sent.entry(task).or_default().push(Sent { marker, broken, optional: false });
        }
        pipe.query::<()>(redis).unwrap();
    }

    /// The number of the last entry made.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// Whether these entries (by number) stand in the files is no matter: they were taken away from the stream.
    pub(crate) fn excuse(&mut self, numbers: std::ops::RangeInclusive<u64>) {
        let excused: BTreeSet<String> = numbers.map(|number| format!("mark-{number:07}-end")).collect();
        for sent in self.sent.values_mut().flatten() {
            sent.optional |= excused.contains(&sent.marker);
        }
    }

    /// Every entry stands once, in order, in its task's file.
    #[track_caller]
    pub(crate) fn prove(&self, rig: &Rig) {
        let mut wrong = Vec::new();
        for (task, sent) in &self.sent {
            let path = rig.logs().join(task).join("03-agent-output.jsonl");
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let mut lines = text.lines().peekable();
            for one in sent {
                let stands = lines.peek().is_some_and(|line| {
                    if one.broken { line.contains("\"type\":\"gap\"") } else { line.contains(&one.marker) }
                });
                match stands {
                    true => drop(lines.next()),
                    false if one.optional => {}
                    false => {
                        let found = lines.peek().map(|line| line.chars().take(200).collect::<String>());
                        wrong.push(format!("{task}: {} (gap: {}) is not next, but {found:?}", one.marker, one.broken));
                        break;
                    }
                }
            }
            if let Some(line) = lines.next().filter(|_| wrong.is_empty()) {
                wrong.push(format!("{task}: one more than was sent: {line:.200}"));
            }
            if let Some(line) = text.lines().find(|line| serde_json::from_str::<Value>(line).is_err()) {
                wrong.push(format!("{task}: torn: {line:.200}"));
            }
        }
        assert!(wrong.is_empty(), "{} tasks are wrong: {wrong:#?}", wrong.len());
    }
}
