//! A service behind a network that fails, and the record of what its producers were told: the judge of whatever happens to the
//! stream itself, which then proves nothing any more. Knows only tasks' output events, by markers; ids play no part in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use fastrand::Rng;
use redis::Connection;
use serde_json::Value;

use crate::{
    checker::Stream,
    fault_proxy::FaultProxy,
    redis_server::RedisServer,
    rig::{Node, Rig, eventually, last_id, published, within},
};

/// Tasks that live at once.
const TASKS: u64 = 12;

/// One service process, its Redis, and the proxy between them.
pub(crate) struct Scene {
    pub(crate) rig: Rig,
    pub(crate) proxy: FaultProxy,
    pub(crate) server: RedisServer,
    /// Servers that were failed over from.
    pub(crate) retired: Vec<RedisServer>,
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
    /// Sets tasks apart from those before.
    set: u64,
    sent: BTreeMap<String, Vec<Sent>>,
}

/// How many of the entries are undecodable.
#[derive(Clone, Copy)]
enum Broken {
    None,
    Some,
    All,
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
        let durable = ["--appendonly", "yes", "--appendfsync", "always"];
        let server = RedisServer::start_tcp(&[&durable[..], &["--enable-debug-command", "local"]].concat())?;
        let proxy = FaultProxy::start(server.socket(), seed);
        let rig = Rig::embedded().with_bundled(&["redact"]).set("REDIS_URL", &proxy.url()).set("HOLD_MAX", "100ms");
        let node = rig.spawn_owner();
        let redis = server.connect();
        let (ledger, rng) = (Ledger::default(), Rng::with_seed(seed));
        Some(Self { rig, proxy, server, retired: Vec::new(), node, redis, ledger, rng })
    }

    /// Appends so many entries, some of them undecodable.
    pub(crate) fn produce(&mut self, count: u64) {
        self.ledger.produce(&mut self.redis, &mut self.rng, &vec!["*".to_owned(); count as usize], Broken::Some);
    }

    /// Appends good entries.
    pub(crate) fn produce_sound(&mut self, count: u64) {
        self.ledger.produce(&mut self.redis, &mut self.rng, &vec!["*".to_owned(); count as usize], Broken::None);
    }

    /// Appends undecodable entries.
    pub(crate) fn produce_broken(&mut self, count: u64) {
        self.ledger.produce(&mut self.redis, &mut self.rng, &vec!["*".to_owned(); count as usize], Broken::All);
    }

    /// Appends good entries under these ids.
    pub(crate) fn produce_under(&mut self, ids: Vec<String>) {
        self.ledger.produce(&mut self.redis, &mut self.rng, &ids, Broken::None);
    }

    /// The server was started again, or another one took its place.
    pub(crate) fn reconnect(&mut self) {
        self.redis = self.server.connect();
    }

    /// Before data is destroyed: waits until all of it is committed, or appends some whose loss is then excused.
    #[track_caller]
    pub(crate) fn leave_or_settle(&mut self) {
        self.settle();
        self.await_files();
        if self.rng.bool() {
            let from = self.ledger.made() + 1;
            self.produce_sound(40);
            self.ledger.excuse(from..=from + 39);
        }
    }

    /// The epoch of the ownership.
    pub(crate) fn epoch(&self) -> u64 {
        self.node.json("/health")["epoch"].as_u64().unwrap_or(0)
    }

    /// Waits until everything stands where it must: files follow what is published.
    #[track_caller]
    pub(crate) fn await_files(&self) {
        within(Duration::from_secs(30), || self.ledger.wrong(&self.rig).is_empty());
        self.ledger.prove(&self.rig);
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
        self.await_files();
        assert!(self.node.is_running(), "it died");
    }

    /// The last look, after an orderly end. `whole`: the stream was left alone and proves everything by itself, too.
    #[track_caller]
    pub(crate) fn end(mut self, whole: bool) {
        self.judge();
        self.node.terminate();
        self.ledger.prove(&self.rig);
        if whole {
            Stream::of_redis(&mut self.redis).prove(&self.rig, &[]);
        }
    }
}

// === impl Ledger ===

impl Ledger {
    /// Appends an entry under each id (`*`: the server's) and notes it.
    fn produce(&mut self, redis: &mut Connection, rng: &mut Rng, ids: &[String], broken: Broken) {
        let mut pipe = redis::pipe();
        for id in ids {
            self.made += 1;
            let (task, marker) = (format!("t{}{:02}", self.set, rng.u64(..TASKS)), marker(self.made));
            let broken = match broken {
                Broken::None => false,
                Broken::Some => rng.u8(..30) == 0,
                Broken::All => true,
            };
            let data = match broken {
                true => format!("not json {marker}"),
                false => {
                    let content = format!("{marker} {}", "words ".repeat(rng.usize(..30)));
                    serde_json::json!({ "content": content }).to_string()
                }
            };
            let add = pipe.cmd("XADD").arg("task_events").arg(id);
            add.arg("type").arg("task:output").arg("task_id").arg(&task).arg("data").arg(data).ignore();
            self.sent.entry(task).or_default().push(Sent { marker, broken, optional: false });
        }
        pipe.query::<()>(redis).unwrap();
    }

    /// From here on other tasks are fed: nothing is said of their order against those before.
    pub(crate) fn other_tasks(&mut self) {
        self.set += 1;
    }

    /// The number of the last entry made.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// Whether these entries (by number) stand in the files is no matter: they were taken away from the stream.
    pub(crate) fn excuse(&mut self, numbers: RangeInclusive<u64>) {
        let excused: BTreeSet<String> = numbers.map(marker).collect();
        for sent in self.sent.values_mut().flatten() {
            sent.optional |= excused.contains(&sent.marker);
        }
    }

    /// How many of these good entries stand in no file.
    pub(crate) fn absent(&self, rig: &Rig, numbers: RangeInclusive<u64>) -> u64 {
        let texts: String = self.sent.keys().map(|task| text(rig, task)).collect();
        numbers.filter(|&number| !texts.contains(&marker(number))).count() as u64
    }

    /// Every entry stands once, in order, in its task's file.
    #[track_caller]
    pub(crate) fn prove(&self, rig: &Rig) {
        let wrong = self.wrong(rig);
        assert!(wrong.is_empty(), "{} tasks are wrong: {wrong:#?}", wrong.len());
    }

    /// What is wrong, a line a task.
    fn wrong(&self, rig: &Rig) -> Vec<String> {
        self.sent
            .iter()
            .filter_map(|(task, sent)| wrong_with(sent, &text(rig, task)).map(|why| format!("{task}: {why}")))
            .collect()
    }
}

fn marker(number: u64) -> String {
    format!("mark-{number:07}-end")
}

fn text(rig: &Rig, task: &str) -> String {
    std::fs::read_to_string(rig.logs().join(task).join("03-agent-output.jsonl")).unwrap_or_default()
}

fn wrong_with(sent: &[Sent], text: &str) -> Option<String> {
    let mut lines = text.lines().peekable();
    for one in sent {
        let is_it = |line: &&str| match one.broken {
            true => line.contains("\"type\":\"gap\""),
            false => line.contains(&one.marker),
        };
        if lines.next_if(is_it).is_none() && !one.optional {
            return Some(format!("{} (broken: {}) is not next, but {:.200?}", one.marker, one.broken, lines.peek()));
        }
    }
    if let Some(line) = lines.next() {
        return Some(format!("more than was sent: {line:.200}"));
    }
    let torn = text.lines().find(|line| serde_json::from_str::<Value>(line).is_err());
    torn.map(|line| format!("torn: {line:.200}"))
}

/// Runs a command of words without spaces.
pub(crate) fn run<T: redis::FromRedisValue>(redis: &mut Connection, line: &str) -> T {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    command.query(redis).unwrap_or_else(|error| panic!("{line}: {error}"))
}
