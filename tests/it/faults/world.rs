//! A service with a producer and a judge: fed in bursts, hurt by rules of `FAILPOINTS`, started again, and looked at while it
//! runs idle. Random by its seed alone.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use fastrand::Rng;

use crate::{
    checker::{Id, Stream, verify},
    load::{Fields, Load, entry, send},
    rig::{Node, PATIENCE, Rig, eventually, last_id, published, struck, within},
};

/// Small segments and frequent checkpoints: what is seldom otherwise comes within a burst.
pub(crate) const SMALL: &str =
    "journal::bytes=return(65536);log::bytes=return(65536);dead::bytes=return(2048);checkpoint::every=return(100)";

/// Which stream a world stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Redis,
    Embedded,
}

/// A service under load, with all that it ever took in.
pub(crate) struct World {
    pub(crate) rig: Rig,
    pub(crate) source: Source,
    pub(crate) rng: Rng,
    pub(crate) node: Option<Node>,
    load: Load,
    rules: PathBuf,
    made: u64,
    /// Ids that were answered with.
    acked: BTreeSet<Id>,
    /// Kinds of findings that a test has made itself.
    pub(crate) tolerated: Vec<&'static str>,
    /// Whether all that stands in `LOGS_DIR` is made old again and again.
    pub(crate) ages: bool,
    /// Further rules that always hold.
    often: &'static str,
    /// The stream as it was seen last: what was trimmed since stays known.
    seen: RefCell<Stream>,
}

/// Something that is wrong, as `task-logger verify` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Defect {
    pub(crate) kind: String,
    pub(crate) file: String,
    pub(crate) told: String,
}

impl Defect {
    fn of(id: Id) -> Self {
        Self { told: id.to_string(), ..Self::default() }
    }
}

/// Everything that `task-logger verify` finds.
pub(crate) fn defects_of(rig: &Rig) -> Vec<Defect> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let findings = verify(rig, &[])["findings"].as_array().cloned().unwrap_or_default();
    let defect = |finding: &serde_json::Value| Defect {
        kind: text(&finding["kind"]),
        file: text(&finding["file"]),
        told: finding.to_string(),
    };
    findings.iter().map(defect).collect()
}

/// What is that old is over for every test.
pub(crate) const AGED: Duration = Duration::from_secs(10 * 86_400);

/// Makes a task or a flow so old, if it stands in a checkpoint and is younger; whether it stands there.
pub(crate) fn age(rig: &Rig, dir: &str, by: Duration) -> bool {
    let aged = || {
        let file = fs::File::options().write(true).open(rig.logs().join(dir).join(".state"))?;
        let is_old = file.metadata()?.modified()?.elapsed().is_ok_and(|age| age >= by);
        // What was seen to be old must stay as it was seen.
        if is_old { Ok(()) } else { file.set_modified(SystemTime::now() - by) }
    };
    aged().is_ok()
}

/// The same for all of them.
pub(crate) fn age_all(rig: &Rig, by: Duration) {
    for parent in ["", "_webhooks/"] {
        let names = fs::read_dir(rig.logs().join(parent)).into_iter().flatten().flatten();
        for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
            age(rig, &format!("{parent}{name}"), by);
        }
    }
}

impl World {
    /// One on a stream of its own; `None` after a message where there is no Redis.
    pub(crate) fn new(source: Source, seed: u64) -> Option<Self> {
        let rig = match source {
            Source::Redis => Rig::redis()?,
            Source::Embedded => Rig::embedded(),
        };
        Some(Self::on(rig, source, seed))
    }

    /// The same with settings and plugins of the test's own.
    pub(crate) fn on(rig: Rig, source: Source, seed: u64) -> Self {
        let rules = rig.root().join("failpoints");
        let rig = rig.set("FAILPOINTS_FILE", rules.to_str().unwrap());
        let world = Self {
            rig,
            source,
            rng: Rng::with_seed(seed),
            node: None,
            load: Load::new(seed, 12),
            rules,
            made: 0,
            acked: BTreeSet::new(),
            tolerated: Vec::new(),
            ages: false,
            often: "",
            seen: RefCell::default(),
        };
        world.arm("");
        world
    }

    /// Puts rules in place, beside [`SMALL`], for the running process and those to come.
    pub(crate) fn arm(&self, rules: &str) {
        let new = self.rules.with_extension("new");
        fs::write(&new, format!("{SMALL};{};{rules}", self.often)).unwrap();
        fs::rename(new, &self.rules).unwrap();
    }

    /// Rules that hold beside all others, from now on.
    #[cfg(feature = "failpoints")]
    pub(crate) fn always(&mut self, rules: &'static str) {
        self.often = rules;
        self.arm("");
    }

    /// Starts the process; with rules in place it may be gone before it listens.
    pub(crate) fn start(&mut self) {
        let mut node = self.rig.spawn_silent();
        assert!(within(PATIENCE, || node.learn_address() || node.ended().is_some()), "{}", node.log());
        self.node = Some(node);
    }

    /// Starts it and waits until it takes events in.
    pub(crate) fn start_owner(&mut self) {
        self.start();
        eventually("the process owns the stream", || self.node().takes_events());
    }

    pub(crate) fn node(&mut self) -> &mut Node {
        self.node.as_mut().expect("started")
    }

    /// Appends some entries, and one that is a dead letter at once. What the embedded stream refuses was not taken in.
    pub(crate) fn feed(&mut self, count: usize) {
        if self.ages {
            age_all(&self.rig, AGED);
        }
        let mut batch: Vec<Fields> = Vec::new();
        while batch.len() < count {
            let fields = self.load.next();
            // There are no plugins here that could be asked to drop.
            if !fields.iter().any(|(_, value)| value.contains("please-")) {
                batch.push(fields);
            }
        }
        batch.push(entry(&[("type", "task:output"), ("task_id", "task-00001"), ("data", "no json")]));
        self.send(batch);
    }

    /// Appends an output of a task, with a marker that the judge looks for.
    pub(crate) fn say(&mut self, task: &str) {
        self.made += 1;
        let data = serde_json::json!({"content": format!("mark-9{:06}-end", self.made)}).to_string();
        self.send(vec![entry(&[("type", "task:output"), ("task_id", task), ("data", &data)])]);
    }

    /// The number in the last line that was said.
    pub(crate) fn said(&self) -> u64 {
        self.made
    }

    /// Ends the process and judges what it left, down to every record's content.
    #[track_caller]
    pub(crate) fn end(&mut self) {
        self.judge("all of it");
        self.node.take().unwrap().terminate();
        assert_eq!(self.defects(), []);
        self.stream().prove(&self.rig, &[]);
    }

    pub(crate) fn send(&mut self, batch: Vec<Fields>) {
        match self.source {
            Source::Redis => send(&mut self.rig.connect(), batch),
            Source::Embedded => {
                // JSON has no doubled fields.
                let batch: Vec<BTreeMap<_, _>> = batch.into_iter().map(|fields| fields.into_iter().collect()).collect();
                let body = serde_json::to_string(&batch).unwrap();
                let Some(node) = &self.node else { return };
                let (status, answer) = node.post_answer("/events", &body);
                if status == 200 {
                    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
                    let ids = answer["ids"].as_array().unwrap().iter();
                    self.acked.extend(ids.map(|id| Id::parse(id.as_str().unwrap()).unwrap()));
                }
            }
        }
    }

    /// Feeds until the process is gone, and returns how it ended.
    #[track_caller]
    #[cfg(feature = "failpoints")]
    pub(crate) fn feed_until_dead(&mut self) -> std::process::ExitStatus {
        for _ in 0..400 {
            if let Some(ended) = self.node().ended() {
                return ended;
            }
            self.feed(30);
            within(Duration::from_millis(60), || self.node().ended().is_some());
        }
        panic!("the process lives:\n{}", self.node().log());
    }

    /// Everything wrong with what is there now, up to the published position.
    pub(crate) fn defects(&self) -> Vec<Defect> {
        let mut defects = defects_of(&self.rig);
        let there: BTreeSet<Id> = self.stream().entries.iter().map(|entry| entry.id).collect();
        // An answer was a promise.
        let broken =
            self.acked.difference(&there).map(|id| Defect { kind: "not in the stream".into(), ..Defect::of(*id) });
        defects.extend(broken);
        defects.retain(|defect| !self.tolerated.contains(&&*defect.kind));
        defects
    }

    /// Whether the published position is the stream's end.
    pub(crate) fn is_published(&self) -> bool {
        match self.source {
            Source::Redis => {
                let mut redis = self.rig.connect();
                published(&mut redis) == last_id(&mut redis)
            }
            Source::Embedded => {
                // From the file: what the process shows is up to a second old.
                let file = self.rig.root().join("stream/task_events/position");
                let bytes = fs::read(file).unwrap_or_default();
                let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
                let at = number(0).zip(number(8)).map(|(ms, seq)| Id(ms, seq));
                self.stream().entries.last().is_none_or(|last| at >= Some(last.id))
            }
        }
    }

    /// The stream with everything that ever stood in it.
    pub(crate) fn stream(&self) -> Stream {
        let now = match self.source {
            Source::Redis => Stream::of_redis(&mut self.rig.connect()),
            Source::Embedded => Stream::of_embedded(&self.rig.root().join("stream")),
        };
        let all = now.with_earlier(&self.seen.borrow());
        *self.seen.borrow_mut() = all.clone();
        all
    }

    /// Waits until all is published, and asks `task-logger verify` what is wrong.
    #[track_caller]
    pub(crate) fn judge(&mut self, after: &str) {
        let published = within(Duration::from_secs(60), || self.is_published());
        let mut defects = self.defects();
        if published && !defects.is_empty() {
            // What is wrong stays wrong; what was only on its way does not, and is told all the same.
            let first = defects.clone();
            if within(Duration::from_secs(10), || self.defects().is_empty()) {
                struck("(only the look was wrong)");
                eprintln!("after {after}: found by a look at moving files alone: {first:#?}");
                return;
            }
            defects = self.defects();
        }
        if published && defects.is_empty() {
            return;
        }
        let log = self.node.as_ref().map(Node::log).unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(30).collect();
        eprintln!("{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        let some: Vec<_> = defects.iter().take(8).map(|defect| &defect.told).collect();
        panic!("after {after}: published {published}, {} defects: {some:#?}", defects.len());
    }

    /// Starts it without rules, lets it finish, and judges.
    #[track_caller]
    #[cfg(feature = "failpoints")]
    pub(crate) fn recover(&mut self, after: &str) {
        self.arm("");
        self.node = None;
        self.start_owner();
        self.judge(after);
    }
}
