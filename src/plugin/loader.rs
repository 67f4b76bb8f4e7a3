//! From a pair of files to a proven plugin: size, shape, sidecar, compiling, types, `init`, manifest, self-test. Nothing here
//! changes what runs; a plugin that comes out can be put into a chain.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicBool},
};

use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    bindings::{Input, Manifest, Pre},
    budget::Budget,
    circuit::Circuit,
    compile::{CompileError, Compiler},
    engine::{EngineError, Runtime},
    hex,
    instance::{CallError, Class, Instance},
    kinds::Kinds,
    meters::Meters,
    seal::{Seal, SealError, Signatures},
    shadow::Record,
    sidecar::{Ceilings, Isolation, Sidecar, SidecarError},
    state::Identity,
    verdict,
};
use crate::{
    event::{Event, Id, InvalidId, Key, StreamId},
    layout,
};

/// Largest component, in bytes; a Python one is near 40 MB.
pub(super) const COMPONENT_BYTES_MAX: u64 = 64 << 20;
/// Largest sidecar, in bytes.
pub(super) const SIDECAR_BYTES_MAX: u64 = 256 << 10;
const FILES_MAX: usize = 64;
const CODES_MAX: usize = 256;
const KINDS_MAX: usize = 256;
const VERSION_CHARS_MAX: usize = 100;

/// Why a candidate is refused. All texts are for people: what is wrong and what would be right.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// The file could not be taken.
    #[error("{0}")]
    File(String),
    /// Not signed by whom it should be.
    #[error("{0}")]
    Seal(#[from] SealError),
    /// Not WebAssembly at all, or a file that is being written.
    #[error("is not a WebAssembly component (its first bytes are something else)")]
    NotWasm,
    /// A plain module.
    #[error(
        "is a core WebAssembly module, not a component: build it for wasm32-wasip2, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// The sidecar.
    #[error("{0}")]
    Sidecar(#[from] SidecarError),
    /// The compiler.
    #[error("{0}")]
    Compile(#[from] CompileError),
    /// Imports, exports or types.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// `init`.
    #[error("init failed: {0}")]
    Init(CallError),
    /// What it says it is.
    #[error("its manifest is not valid: {0}")]
    Manifest(String),
    /// The synthetic call.
    #[error("the self-test (one call with an event of each kind it wants) failed: {0}")]
    SelfTest(CallError),
    /// The text of a synthetic event's key; cannot happen.
    #[error("{0}")]
    Id(#[from] InvalidId),
    /// It does not go with what is live.
    #[error("{0}")]
    Conflict(String),
}

/// A pair of files as read.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// `NAME.wasm`.
    pub(super) file: String,
    /// The folder it stands in.
    pub(super) dir: PathBuf,
    pub(super) wasm: Bytes,
    pub(super) sidecar: Option<Bytes>,
    pub(super) signatures: Signatures,
}

/// A file whose bytes could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// What tells it apart from other such files, in a pair's place.
    pub(super) looks: String,
    /// For people.
    pub(super) reason: String,
}

/// A proven plugin version. Immutable but for its counters; outlives every instance made from it.
pub(super) struct Plugin {
    /// `NAME.wasm`.
    pub(super) file: String,
    /// The folder it stands in.
    pub(super) dir: PathBuf,
    /// Of both files, hex.
    pub(super) pair: String,
    /// Of the component, hex.
    pub(super) sha256: String,
    pub(super) config_hash: String,
    pub(super) identity: Arc<Identity>,
    pub(super) manifest: Manifest,
    pub(super) kinds: Kinds,
    pub(super) sidecar: Sidecar,
    /// Who signed it; may change while the files do not.
    pub(super) seal: Mutex<Seal>,
    pre: Pre,
    meters: OnceLock<Meters>,
    /// Failures of a redactor, over all lanes.
    pub(super) budget: Mutex<Budget>,
    /// Timeouts of one that is no redactor, over all lanes.
    pub(super) circuit: Mutex<Circuit>,
    /// What it came to, if it is a shadow.
    pub(super) record: Record,
}

/// What it takes to prove a candidate.
pub(super) struct Prover<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) compiler: &'a Compiler,
    pub(super) ceilings: Ceilings,
    pub(super) stop: &'a AtomicBool,
}

// === impl LoadError ===

impl LoadError {
    /// Whether the same files may do another time: what failed may be the machine's fault, which was short of time, memory or
    /// files.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::File(_) | Self::Compile(CompileError::Timeout(_) | CompileError::Spawn(_)) => true,
            Self::Init(error) | Self::SelfTest(error) => matches!(error.class, Class::Timeout | Class::Busy),
            _ => false,
        }
    }
}

// === impl Candidate ===

impl Candidate {
    /// Digest of the pair, hex: one unit.
    pub(super) fn pair(&self) -> String {
        let mut digest = Sha256::new().chain_update(Sha256::digest(&self.wasm));
        if let Some(sidecar) = &self.sidecar {
            digest.update(Sha256::digest(sidecar));
        }
        hex(&digest.finalize())
    }
}

// === impl Prover ===

impl Prover<'_> {
    /// Proves a candidate.
    pub(super) fn prove(&self, candidate: &Candidate) -> Result<Plugin, LoadError> {
        match candidate.wasm.get(..8) {
            Some(b"\0asm\x0d\0\x01\0") => {}
            Some(b"\0asm\x01\0\0\0") => return Err(LoadError::CoreModule),
            _ => return Err(LoadError::NotWasm),
        }
        let sha256 = hex(&Sha256::digest(&candidate.wasm));
        let sidecar = Sidecar::parse(candidate.sidecar.as_deref(), &sha256, self.ceilings)?;
        let component = self.compiler.compile(self.runtime.engine(), &candidate.wasm, &sha256, self.stop)?;
        let pre = self.runtime.link(&component)?;
        let (_, manifest, staged) =
            Instance::new(self.runtime, &pre, None, sidecar.limits, &sidecar.config).map_err(LoadError::Init)?;
        let (identity, kinds) = check(&manifest, &sidecar).map_err(LoadError::Manifest)?;
        let plugin = Plugin {
            pair: candidate.pair(),
            file: candidate.file.clone(),
            dir: candidate.dir.clone(),
            sha256,
            config_hash: sidecar.config_hash(),
            identity: Arc::new(identity),
            manifest,
            kinds,
            sidecar,
            seal: Mutex::default(),
            pre,
            meters: OnceLock::new(),
            budget: Mutex::default(),
            circuit: Mutex::default(),
            record: Record::default(),
        };
        match self.runtime.sink() {
            Some(sink) => sink.committed(&plugin.identity, &staged),
            None => staged.logs.iter().for_each(|(level, line)| super::chain::say(&plugin, *level, line)),
        }
        self.self_test(&plugin)?;
        Ok(plugin)
    }

    fn self_test(&self, plugin: &Plugin) -> Result<(), LoadError> {
        let mut kinds: Vec<String> = plugin.kinds.examples();
        kinds.extend(plugin.sidecar.kinds.iter().flat_map(Kinds::examples));
        kinds.sort();
        kinds.dedup();
        kinds.retain(|kind| plugin.wants(kind));
        if kinds.is_empty() {
            return Err(LoadError::Manifest("its kinds and the sidecar's have none in common".to_owned()));
        }
        let key = Key::Task(Id::parse("self-test")?);
        let events: Vec<Event> = (1..).zip(&kinds).map(|(seq, kind)| synthetic(key.clone(), kind, seq)).collect();
        let inputs: Vec<Input<'_>> = events.iter().map(|event| Input { event, data: &event.data }).collect();
        let mut instance = plugin.instance(self.runtime).map_err(LoadError::Init)?;
        let limits = plugin.sidecar.limits;
        let (verdicts, _) =
            instance.process(limits, Arc::from(""), Some("self-test"), &inputs, true).map_err(LoadError::SelfTest)?;
        verdict::check(verdicts, &plugin.identity, true).map_err(LoadError::SelfTest)?;
        Ok(())
    }
}

fn synthetic(key: Key, kind: &str, seq: u64) -> Event {
    let data = json!({ "content": "self-test", "selftest": true });
    Event {
        id: StreamId { ms: 1_700_000_000_000, seq },
        kind: kind.into(),
        key,
        task: None,
        timestamp: "2023-11-14T22:13:20Z".into(),
        timestamp_ms: 1_700_000_000_000,
        data: data.to_string(),
        says_failed: false,
        size: 0,
    }
}

/// Checks a manifest by itself.
fn check(manifest: &Manifest, sidecar: &Sidecar) -> Result<(Identity, Kinds), String> {
    let Manifest { name, version, redactor, kinds, files, codes } = manifest;
    let shown = |text: &str| text.chars().take(100).collect::<String>();
    if !is_name(name, b"-") {
        return Err(format!("name {:?} is not [a-z][a-z0-9-]{{0,39}}", shown(name)));
    }
    if version.chars().count() > VERSION_CHARS_MAX || version.chars().any(char::is_control) {
        return Err(format!("version is longer than {VERSION_CHARS_MAX} characters or has control characters"));
    }
    if kinds.is_empty() || kinds.len() > KINDS_MAX {
        return Err(format!("it wants no kinds, or more than {KINDS_MAX}"));
    }
    let wanted = Kinds::parse(kinds).map_err(|kind| format!("kind {kind:?} is neither exact nor a prefix and *"))?;
    if *redactor {
        if !wanted.is_all() {
            return Err("a redactor must want the kinds [\"*\"]".to_owned());
        }
        if sidecar.kinds.as_ref().is_some_and(|kinds| !kinds.is_all()) {
            return Err("the sidecar narrows the kinds of a redactor".to_owned());
        }
        if sidecar.on_failure == super::sidecar::OnFailure::Skip {
            return Err("the sidecar says on_failure = \"skip\", but a redactor is never skipped".to_owned());
        }
    }
    if files.len() > FILES_MAX {
        return Err(format!("more than {FILES_MAX} files"));
    }
    for file in files {
        if !layout::is_public_file(file) {
            return Err(format!("file {:?} is not [A-Za-z0-9][A-Za-z0-9._-]{{0,99}}", shown(file)));
        }
        if layout::STANDARD_FILES.iter().any(|standard| standard.eq_ignore_ascii_case(file)) {
            return Err(format!("file {file:?} is a standard one"));
        }
    }
    if codes.len() > CODES_MAX {
        return Err(format!("more than {CODES_MAX} codes"));
    }
    if let Some(code) = codes.iter().find(|code| !is_name(code, b"_-")) {
        return Err(format!("code {:?} is not [a-z][a-z0-9_-]{{0,39}}", shown(code)));
    }
    let sorted = |texts: &[String]| {
        let mut texts: Vec<Arc<str>> = texts.iter().map(|text| Arc::from(text.as_str())).collect();
        texts.sort();
        texts.dedup();
        texts
    };
    let identity =
        Identity { name: name.as_str().into(), redactor: *redactor, codes: sorted(codes), files: sorted(files) };
    Ok((identity, wanted))
}

fn is_name(text: &str, also: &[u8]) -> bool {
    text.len() <= 40
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || also.contains(&b))
}

// === impl Plugin ===

impl Plugin {
    /// Whether events of a kind cross to it.
    pub(super) fn wants(&self, kind: &str) -> bool {
        self.kinds.wants(kind) && self.sidecar.kinds.as_ref().is_none_or(|kinds| kinds.wants(kind))
    }

    /// A new instance, which must say what the first one said.
    pub(super) fn instance(&self, runtime: &Runtime) -> Result<Instance, CallError> {
        let identity = Some(Arc::clone(&self.identity));
        let (instance, manifest, staged) =
            Instance::new(runtime, &self.pre, identity, self.sidecar.limits, &self.sidecar.config)?;
        if manifest != self.manifest {
            let reason = "its manifest is another one than at first".to_owned();
            return Err(CallError::said(Class::Manifest, Some(reason)));
        }
        let meters = self.meters.get();
        if let Some(meters) = meters {
            meters.counted(&staged.counts);
        }
        Ok(instance.counted(meters.map(Meters::instance)))
    }

    /// Its counters; made when it first goes live.
    pub(super) fn meters(&self) -> &Meters {
        self.meters.get_or_init(|| Meters::new(&self.identity, self.sidecar.shadow))
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.identity.name
    }

    pub(super) fn is_redactor(&self) -> bool {
        self.identity.redactor
    }

    /// Whether it only watches.
    pub(super) fn is_shadow(&self) -> bool {
        self.sidecar.shadow
    }

    pub(super) fn reuses(&self) -> bool {
        self.sidecar.isolation == Isolation::Reuse
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("file", &self.file).field("manifest", &self.manifest).finish()
    }
}
