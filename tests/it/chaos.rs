//! Files of every bad kind dropped into the folder of a running service, at random, under load: no gap, no wrong chain, each
//! refusal explained once. `TASK_LOGGER_CHAOS_SECONDS` says for how long, `SEED` repeats a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Write as _,
    os::unix::fs::symlink,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use fastrand::Rng;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    checker::Stream,
    guests::misbehave,
    load::{entry, send},
    rig::{Node, Rig, eventually, let_pass, seed},
};

/// Components that differ, compiled once each; versions differ by their sidecars, too.
const VARIANTS: u64 = 5;

fn variant(version: u64) -> Vec<u8> {
    [misbehave(), &[0, 3, 1, b'c', (version % VARIANTS) as u8]].concat()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sidecar(version: u64) -> String {
    let sha256 = digest(&variant(version));
    format!(
        "isolation = 'reuse'\nsha256 = '{sha256}'\n[config]\nmode = 'stamp'\nname = 'stamp'\nrole = 'redactor'\nfiles = []\nversion = 'v{version}'\n"
    )
}

/// Of `v17`.
fn number(version: &Value) -> u64 {
    version.as_str().and_then(|text| text.strip_prefix('v')).unwrap().parse().unwrap()
}

/// Someone who drops files.
struct Chaos {
    rig: Rig,
    rng: Rng,
    /// The version that was put last, whole.
    version: u64,
    /// Versions that were in the folder, whole.
    whole: BTreeSet<u64>,
    /// Bad files beside the plugin, with a word of what is said of each.
    junk: BTreeMap<String, &'static str>,
    /// Times that the plugin's own file became another one that is no good.
    spoilt: usize,
    done: BTreeMap<&'static str, u64>,
}

impl Chaos {
    fn path(&self, file: &str) -> PathBuf {
        self.rig.plugins_dir().join(file)
    }

    /// Moves something into place that was made beside it.
    fn place(&self, file: &str, make: impl FnOnce(&PathBuf)) {
        let staged = self.rig.root().join("staged");
        make(&staged);
        fs::rename(staged, self.path(file)).unwrap();
    }

    fn next(&mut self) -> u64 {
        self.version += 1;
        self.whole.insert(self.version);
        self.version
    }

    fn good(&mut self) {
        let version = self.next();
        let pair = [("stamp.toml", sidecar(version).into_bytes()), ("stamp.wasm", variant(version))];
        let first = self.rng.usize(..2);
        for (file, bytes) in [&pair[first], &pair[1 - first]] {
            self.rig.put_file(file, bytes);
            self.pause(80);
        }
    }

    /// Written in place, piece by piece.
    fn slowly(&mut self, bytes: &[u8], file: &str) {
        let mut to = File::create(self.path(file)).unwrap();
        for piece in bytes.chunks(bytes.len() / 4 + 1) {
            to.write_all(piece).unwrap();
            self.pause(120);
        }
    }

    fn pause(&mut self, most: u64) {
        let_pass(Duration::from_millis(self.rng.u64(..most)));
    }

    /// Puts something bad under a name; what its refusal says.
    fn bad(&mut self, file: &str) -> &'static str {
        let kind = self.rng.usize(..7);
        let name = ["truncated", "garbage", "link", "huge", "elf", "module", "half"][kind];
        *self.done.entry(name).or_default() += 1;
        match name {
            "truncated" | "half" => {
                let wasm = variant(self.rng.u64(..VARIANTS));
                let cut = self.rng.usize(9..wasm.len() / 2);
                if name == "half" {
                    self.slowly(&wasm[..cut], file);
                } else {
                    fs::write(self.path(file), &wasm[..cut]).unwrap();
                }
                "does not compile"
            }
            "garbage" => {
                let bytes: Vec<u8> = (0..self.rng.usize(1..5000)).map(|_| self.rng.u8(b'a'..=b'z')).collect();
                self.place(file, |staged| fs::write(staged, bytes).unwrap());
                "first bytes"
            }
            "link" => {
                let outside = self.rig.root().join("outside.wasm");
                fs::write(&outside, variant(0)).unwrap();
                self.place(file, |staged| symlink(outside, staged).unwrap());
                "links must stay in the folder"
            }
            "huge" => {
                self.place(file, |staged| File::create(staged).unwrap().set_len(200 << 20).unwrap());
                "larger than"
            }
            "elf" => {
                let head = [b"\x7fELF\x02\x01\x01\0".as_slice(), &self.rng.u64(..).to_le_bytes()].concat();
                self.place(file, |staged| fs::write(staged, head).unwrap());
                "first bytes"
            }
            _ => {
                let module = [b"\0asm\x01\0\0\0\0\x05\x01x".as_slice(), &self.rng.u32(..).to_le_bytes()[..3]].concat();
                self.place(file, |staged| fs::write(staged, module).unwrap());
                "core WebAssembly module"
            }
        }
    }

    fn step(&mut self) {
        let whole = variant(self.version);
        let name = match self.rng.u8(..10) {
            0..=2 => {
                self.good();
                "good"
            }
            3 => {
                let version = self.next();
                self.rig.put_file("stamp.toml", sidecar(version).as_bytes());
                self.slowly(&variant(version), "stamp.wasm");
                "slow"
            }
            4 => {
                self.spoilt += 1;
                self.bad("stamp.wasm");
                "spoilt"
            }
            5 => {
                fs::remove_file(self.path("stamp.wasm")).unwrap();
                self.pause(500);
                self.rig.put_file("stamp.wasm", &whole);
                "deleted"
            }
            6 => {
                self.touch("stamp.wasm");
                "touched"
            }
            _ if self.junk.len() < 40 => {
                let file = format!("junk-{:02}.wasm", self.junk.len());
                let said = self.bad(&file);
                self.junk.insert(file, said);
                "junk"
            }
            _ => {
                let file = format!("junk-{:02}.wasm", self.rng.usize(..self.junk.len()));
                self.touch(&file);
                "junk touched"
            }
        };
        *self.done.entry(name).or_default() += 1;
        self.pause(250);
    }

    /// New times for the same bytes; a link's target is left alone.
    fn touch(&self, file: &str) {
        let path = self.path(file);
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
            File::options().write(true).open(path).unwrap().set_modified(SystemTime::now()).unwrap();
        }
    }
}

/// Files and reasons of the refusals that were logged.
fn refusals(node: &Node) -> Vec<(String, String)> {
    let part = |line: &str, from: &str, to: &str| {
        line.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map(|(part, _)| part.to_owned())
    };
    let refusal = |line: &str| {
        let reason = line.split_once(" reason=").map(|(_, rest)| rest.to_owned());
        Some((part(line, "file=\"", "\"")?, reason?))
    };
    node.log()
        .lines()
        .filter(|line| line.contains("plugin refused; what ran before stays"))
        .filter_map(refusal)
        .collect()
}

#[test]
fn every_event_is_processed_by_one_whole_version_whatever_is_dropped() {
    let Some(rig) = Rig::redis() else { return };
    // Of its own: so many versions would push out what the other tests share.
    let cache = rig.root().join("cache");
    let rig = rig.set("CACHE_DIR", cache.to_str().unwrap());
    let seconds = std::env::var("TASK_LOGGER_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let rng = Rng::with_seed(seed("chaos"));
    let rig = rig.set("REQUIRED_PLUGINS", "stamp");
    rig.put_plugin("stamp", sidecar(0).as_bytes(), &variant(0));
    let mut redis = rig.connect();
    let node = rig.spawn_owner();
    let (version, whole) = (0, BTreeSet::from([0]));
    let mut chaos = Chaos { rig, rng, version, whole, junk: BTreeMap::new(), spoilt: 0, done: BTreeMap::new() };
    let (began, mut made) = (Instant::now(), 0_u64);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut made = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                send(
                    &mut redis,
                    (made..made + 50).map(|n| {
                        let (task, data) = (format!("t{}", n % 7), format!("{{\"content\":\"mark-{n:06}-end\"}}"));
                        entry(&[("type", "task:output"), ("task_id", &task), ("data", &data)])
                    }),
                );
                made += 50;
                let_pass(Duration::from_millis(20));
            }
            made
        });
        while began.elapsed() < Duration::from_secs(seconds) {
            chaos.step();
        }
        // At last all is well again.
        chaos.good();
        let last = format!("v{}", chaos.version);
        eventually("the last version is live", || {
            let report = node.json("/plugins");
            report["plugins"].as_array().into_iter().flatten().any(|plugin| plugin["version"] == *last)
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        made = load.join().unwrap();
    });
    let Chaos { rig, version, whole, junk, spoilt, done, .. } = &chaos;
    println!("{made} events, {version} versions, {done:?}");
    let of_junk = |node: &Node| refusals(node).into_iter().filter(|(file, _)| file != "stamp.wasm").collect::<Vec<_>>();
    eventually("each bad file is explained", || of_junk(&node).len() >= junk.len());
    // Looked at again and again, and touched: nothing more is said.
    junk.keys().for_each(|file| chaos.touch(file));
    let_pass(Duration::from_millis(2600));
    let told = of_junk(&node);
    assert_eq!(told.len(), junk.len(), "each once: {told:#?}");
    for (file, reason) in &told {
        assert!(reason.contains(junk[file]), "{file}: {reason}, not {}", junk[file]);
    }
    // A pair that is between two versions may stand still for two seconds on a slow machine, and is then explained, too.
    let of_stamp = refusals(&node).len() - told.len();
    assert!(of_stamp <= spoilt + usize::try_from(*version).unwrap(), "{of_stamp} refusals for {spoilt} bad files");
    let metrics = node.get("/metrics?format=prometheus").1;
    let counted = metrics.lines().find_map(|line| line.strip_prefix("task_logger_plugin_refused_candidates_total "));
    if let Some(counted) = counted {
        assert_eq!(counted.trim().parse::<usize>().unwrap(), told.len() + of_stamp);
    }
    rig.wait_published(&mut redis);
    node.terminate();
    Stream::of_redis(&mut redis).prove(rig, &[]);
    let (mut stamped, mut seen) = (0, BTreeSet::new());
    for task in 0..7 {
        for line in rig.read(&format!("t{task}/03-agent-output.jsonl")).lines() {
            assert_eq!(line.matches("\"stamp\":").count(), 1, "{line}");
            let record: Value = serde_json::from_str(line).unwrap();
            let version = number(&record["stamp"]);
            assert!(whole.contains(&version), "never whole in the folder: {line}");
            seen.insert(version);
            stamped += 1;
        }
        let metadata: Value = serde_json::from_str(&rig.read(&format!("t{task}/metadata.json"))).unwrap();
        for plugin in metadata["plugins"].as_array().unwrap() {
            let version = number(&plugin["version"]);
            assert_eq!(plugin["sha256"], digest(&variant(version)), "a mixed pair: {plugin}");
        }
    }
    assert_eq!(stamped, made);
    println!("{} of {} versions stamped events; {} refusals explained", seen.len(), whole.len(), told.len() + of_stamp);
}
