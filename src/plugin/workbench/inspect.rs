//! All that the service does before a plugin goes live, step by step, with what a person should know of each step. It does not
//! end at the first thing that is wrong, where later steps can still be taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::{OnDesk, Pair, Refusal, Workbench};
use crate::{
    layout,
    plugin::{
        bindings::HOST,
        hex,
        loader::LoadError,
        seal,
        sidecar::{Ceilings, Isolation, OnFailure, Sidecar},
    },
};

/// Instances made to say how long one takes.
const INSTANCES: usize = 50;
/// Longest time spent on that.
const INSTANCES_TIME: Duration = Duration::from_secs(1);
/// Names shown of a list.
const LIST_MAX: usize = 12;
/// Ceilings that cut nothing.
const NONE: Ceilings = Ceilings { memory: usize::MAX, timeout: Duration::MAX };

/// What was found.
#[derive(Debug, Default)]
pub struct Inspection {
    /// In the order of the steps.
    pub findings: Vec<Finding>,
    /// Figures of the steps that were taken.
    pub facts: Facts,
}

/// One thing to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The step.
    pub topic: &'static str,
    /// How much it matters.
    pub grade: Grade,
    /// For people.
    pub text: String,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Good,
    /// It goes live, but may not do what its author thinks.
    Warning,
    /// The service refuses it.
    Wrong,
}

/// Figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Size of the component, in bytes.
    pub bytes: usize,
    /// Of the component, hex.
    pub sha256: String,
    /// Time to get compiled code.
    pub compile: Option<Duration>,
    /// It was compiled before.
    pub cached: bool,
    /// What it imports, by name.
    pub imports: Vec<String>,
    /// Linear memory after `init`, in bytes.
    pub memory: Option<usize>,
    /// Median time to make an instance, `init` included.
    pub instantiate: Option<Duration>,
}

// === impl Workbench ===

impl Workbench {
    /// Looks at a plugin as the service would before it goes live.
    pub fn inspect(&self, pair: &Pair) -> Inspection {
        let mut found = Inspection::default();
        let candidate = &pair.candidate;
        found.facts.bytes = candidate.wasm.len();
        found.facts.sha256 = hex(&Sha256::digest(&candidate.wasm));
        self.file(pair, &mut found);
        self.signature(pair, &mut found);
        let sidecar = self.sidecar(pair, &mut found);
        if candidate.wasm.starts_with(b"\0asm\x0d\0\x01\0") {
            match self.compile(pair, &mut found) {
                Ok(component) => self.imports(&component, &mut found),
                Err(error) => {
                    found.wrong("compile", &error.to_string());
                    return found;
                }
            }
        }
        if sidecar.is_none() {
            // The rest goes by it.
            return found;
        }
        match self.prove(pair, false) {
            Ok(on_desk) => self.proven(&on_desk, &mut found),
            Err(refusal) => refused(&refusal, &mut found),
        }
        found
    }

    fn file(&self, pair: &Pair, found: &mut Inspection) {
        let file = &pair.candidate.file;
        let bytes = pair.candidate.wasm.len();
        if !file.ends_with(".wasm") || !layout::is_public_file(file) {
            found.wrong(
                "file",
                &format!("{file:?}: the service only looks at names like NAME.wasm of letters, digits, '.', '_' and '-', at most 100"),
            );
        } else {
            found.good("file", &format!("{file}, {}, sha256 {}", size(bytes), found.facts.sha256));
        }
    }

    /// Who signed it, against whom the operator trusts.
    fn signature(&self, pair: &Pair, found: &mut Inspection) {
        match seal::check(&self.trusted, &pair.candidate) {
            Err(error) => found.wrong("signature", &error.to_string()),
            Ok(seal) => {
                let whose = seal.signer().map_or_else(|| "none".to_owned(), |keys| format!("of the key {keys}"));
                let trust = match (seal.trusted, self.trusted.is_empty()) {
                    (true, _) => ", trusted",
                    (false, true) => ", not looked at: PLUGIN_TRUSTED_KEYS is not set here",
                    (false, false) => "",
                };
                found.good("signature", &format!("{whose}{trust}"));
            }
        }
    }

    /// The sidecar's wishes against the operator's ceilings. `None` if it is not valid.
    fn sidecar(&self, pair: &Pair, found: &mut Inspection) -> Option<Sidecar> {
        let text = pair.candidate.sidecar.as_deref();
        let parse = |ceilings| Sidecar::parse(text, &found.facts.sha256, ceilings);
        let (wish, granted) = match (parse(NONE), parse(self.ceilings)) {
            (Ok(wish), Ok(granted)) => (wish, granted),
            (Err(error), _) | (_, Err(error)) => {
                found.wrong("sidecar", &error.to_string());
                return None;
            }
        };
        let isolation = if granted.isolation == Isolation::Reuse { "reuse" } else { "call" };
        let limits = granted.limits;
        let what = if text.is_some() { "" } else { "none, so the defaults: " };
        found.good(
            "sidecar",
            &format!(
                "{what}isolation {isolation}, on_failure {}, timeout {:?}, memory {}, config {} bytes{}",
                granted.on_failure.as_str(),
                limits.timeout,
                size(limits.memory),
                granted.config.len(),
                if granted.required { ", required" } else { "" },
            ),
        );
        if wish.limits.memory > limits.memory {
            let (wish, granted) = (size(wish.limits.memory), size(limits.memory));
            found.warn("sidecar", &format!("asks for memory {wish}, but PLUGIN_MEMORY_MAX is {granted}: it gets that"));
        }
        if wish.limits.timeout > limits.timeout {
            let (wish, granted) = (wish.limits.timeout, limits.timeout);
            found.warn(
                "sidecar",
                &format!("asks for timeout {wish:?}, but PLUGIN_TIMEOUT_MAX is {granted:?}: it gets that"),
            );
        }
        if granted.shadow {
            let text = "mode = \"shadow\": it runs beside the chain and writes nothing; a redactor only beside an enforcing one of its name";
            found.warn("sidecar", text);
        }
        if granted.on_failure == OnFailure::Halt {
            found.warn("sidecar", "on_failure = \"halt\": one event that it fails on stops the whole service");
        }
        Some(granted)
    }

    fn compile(&self, pair: &Pair, found: &mut Inspection) -> Result<Component, LoadError> {
        let (compiler, engine) = (self.live.compiler(), self.live.runtime().engine());
        let (wasm, sha256) = (&pair.candidate.wasm, &found.facts.sha256);
        let began = Instant::now();
        let (component, cached) = match compiler.cached(engine, sha256) {
            Some(component) => (component, true),
            None => (compiler.compile(engine, wasm, sha256, &AtomicBool::new(false))?, false),
        };
        let took = began.elapsed();
        let how = if cached { "taken from the cache" } else { "compiled" };
        found.good("compile", &format!("{how} in {}", time(took)));
        found.facts.compile = Some(took);
        found.facts.cached = cached;
        Ok(component)
    }

    /// What it imports, and what is not granted of it. What is not even offered is found when it is linked.
    fn imports(&self, component: &Component, found: &mut Inspection) {
        let engine = self.live.runtime().engine();
        let names: Vec<String> =
            component.component_type().imports(engine).map(|(name, _)| name.chars().take(200).collect()).collect();
        let mut packages: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for name in &names {
            let (package, interface) = name.split_once('/').unwrap_or((name, ""));
            packages.entry(package).or_default().insert(interface.split('@').next().unwrap_or_default());
        }
        for (package, interfaces) in packages {
            let list: Vec<&str> = interfaces.into_iter().collect();
            let text = format!("{package} ({}): {}", list.join(" "), granted(package));
            match package {
                "wasi:sockets" => found.warn("imports", &format!("{text}; Python's own modules import it unused")),
                _ => found.good("imports", &text),
            }
        }
        if names.is_empty() {
            found.good("imports", "nothing");
        }
        found.facts.imports = names;
    }

    fn proven(&self, on_desk: &OnDesk, found: &mut Inspection) {
        let plugin = &on_desk.plugin;
        let manifest = &plugin.manifest;
        found.good("world", "task-logger:plugin@1.0.0, imports and exports fit");
        found.good(
            "manifest",
            &format!(
                "{} {}, {}; kinds {}; files {}; codes {}",
                on_desk.name(),
                on_desk.version(),
                on_desk.role(),
                list(&manifest.kinds),
                list(&manifest.files),
                list(&manifest.codes),
            ),
        );
        for line in &on_desk.init_logs {
            found.good("init", &format!("logged {}: {}", line.level, line.text));
        }
        let stem = plugin.file.trim_end_matches(".wasm");
        if stem != on_desk.name() {
            let name = on_desk.name();
            found.warn(
                "manifest",
                &format!("its file is {stem:?}, but state, REQUIRED_PLUGINS and metrics go by its name {name:?}"),
            );
        }
        if plugin.is_redactor() {
            found.good(
                "manifest",
                "a redactor: once it was live, nothing is read without it (`plugin forget` lifts that), unless REQUIRED_PLUGINS is set",
            );
        }
        self.instances(on_desk, found);
        found.good("self-test", "one call with an event of each kind it wants went well");
    }

    fn instances(&self, on_desk: &OnDesk, found: &mut Inspection) {
        let (plugin, runtime) = (&on_desk.plugin, self.live.runtime());
        let _wasi = self.live.enter();
        let (mut times, mut memory) = (Vec::new(), 0);
        let end = Instant::now() + INSTANCES_TIME;
        while times.len() < INSTANCES && (times.is_empty() || Instant::now() < end) {
            let began = Instant::now();
            match plugin.instance(runtime) {
                Ok(instance) => {
                    times.push(began.elapsed());
                    memory = instance.memory();
                }
                Err(error) => return found.wrong("init", &format!("went well at first, then failed: {error}")),
            }
        }
        times.sort();
        let Some(median) = times.get(times.len() / 2) else { return };
        found.facts.instantiate = Some(*median);
        found.facts.memory = Some(memory);
        found.good("init", &format!("an instance is ready in {}, with {} of memory", time(*median), size(memory)));
        let limit = plugin.sidecar.limits.memory;
        if memory > limit / 4 * 3 {
            let kept = match plugin.reuses() {
                true => "; an instance is replaced once they took half of it",
                false => "",
            };
            let (memory, limit) = (size(memory), size(limit));
            found.warn(
                "init",
                &format!("needs {memory} of {limit} before any event: there is little room for events{kept}"),
            );
        }
        if !plugin.reuses() && *median > Duration::from_millis(1) {
            let median = time(*median);
            found.warn("init", &format!("every call pays {median} for its instance: isolation = \"reuse\" saves that, if the plugin keeps nothing of a task but in the state"));
        }
    }
}

/// What a package of imports comes to in the service.
fn granted(package: &str) -> &'static str {
    match package {
        package if HOST.starts_with(package) => "the service's host functions",
        "wasi:cli" => "no arguments, no environment; what is printed is thrown away",
        "wasi:clocks" => "granted, but for sleeping, which ends the call",
        "wasi:filesystem" => "the service grants nothing of it: there is no folder, calls will fail",
        "wasi:io" => "granted",
        "wasi:random" => "granted",
        "wasi:sockets" => "the service grants nothing of it: calls will fail",
        _ => "not offered",
    }
}

/// The first of them, and how many more there are.
fn list(texts: &[String]) -> String {
    match texts.len() {
        0 => "none".to_owned(),
        n if n > LIST_MAX => {
            format!("{} and {} more", texts.get(..LIST_MAX).unwrap_or_default().join(" "), n - LIST_MAX)
        }
        _ => texts.join(" "),
    }
}

fn refused(refusal: &Refusal, found: &mut Inspection) {
    let topic = topic(&refusal.reason);
    found.wrong(topic, &refusal.reason);
    if let Some(message) = refusal.message.as_ref().filter(|message| !refusal.reason.contains(message.as_str())) {
        found.wrong(topic, &format!("it said: {message}"));
    }
    if !refusal.printed.trim().is_empty() {
        found.wrong(topic, &format!("it printed: {}", refusal.printed.trim_end()));
    }
    for line in &refusal.logs {
        found.wrong(topic, &format!("it logged {}: {}", line.level, line.text));
    }
}

/// The step that words of a refusal are about.
fn topic(reason: &str) -> &'static str {
    let topics = [
        ("is not a WebAssembly", "file"),
        ("is a core WebAssembly", "file"),
        ("its manifest", "manifest"),
        ("init failed", "init"),
        ("the self-test", "self-test"),
    ];
    topics.into_iter().find(|(words, _)| reason.starts_with(words)).map_or("world", |(_, topic)| topic)
}

// === impl Inspection ===

impl Inspection {
    /// Whether the service would take it.
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|finding| finding.grade < Grade::Wrong)
    }

    fn good(&mut self, topic: &'static str, text: &str) {
        self.findings.push(Finding { topic, grade: Grade::Good, text: text.to_owned() });
    }

    fn warn(&mut self, topic: &'static str, text: &str) {
        self.findings.push(Finding { topic, grade: Grade::Warning, text: text.to_owned() });
    }

    fn wrong(&mut self, topic: &'static str, text: &str) {
        self.findings.push(Finding { topic, grade: Grade::Wrong, text: text.to_owned() });
    }
}

// === impl Grade ===

impl Grade {
    /// For machines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }
}

/// Bytes for people.
pub fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// A time for people.
pub fn time(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    match us {
        0.0..1000.0 => format!("{us:.1} µs"),
        1000.0..1_000_000.0 => format!("{:.1} ms", us / 1e3),
        _ => format!("{:.1} s", us / 1e6),
    }
}
