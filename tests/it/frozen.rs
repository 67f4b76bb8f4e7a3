//! The plugin interface is frozen at 1.0.0: what was built against it runs in every 1.x service, and what asks for more than a
//! service has is told so.

use std::{fs, path::Path};

use serde_json::json;
use sha2::{Digest, Sha256};
use task_logger::plugin::Outcome;
use wasmtime::{
    Engine, Store,
    component::{Component, HasSelf, Linker},
};

use crate::{
    conformance::{Bench, Language, replaced, told},
    guests::{Stage, entry},
};

/// `processor` and the world, without comments and white space.
const PROCESSOR_SHA256: &str = "2124e78cfc5f1c7667d0df744881dc1c1fd3180adfe3d27f05f6ab4bd20f0f8c";

mod later {
    //! A later service's side of its interface.
    #![allow(missing_docs, unreachable_pub, reason = "generated")]
    wasmtime::component::bindgen!({ path: "tests/fixtures/later", world: "plugin" });
}

/// A later service, as far as a guest sees it.
#[derive(Default)]
struct Later {
    logs: Vec<String>,
    counts: Vec<(String, u32)>,
    state: String,
}

impl later::task_logger::plugin::host::Host for Later {
    fn log(&mut self, _: later::task_logger::plugin::host::Level, message: String) {
        self.logs.push(message);
    }

    fn count(&mut self, name: String, n: u32) {
        self.counts.push((name, n));
    }

    fn get_state(&mut self) -> String {
        self.state.clone()
    }

    fn set_state(&mut self, value: String) {
        self.state = value;
    }

    fn append_file(&mut self, _: String, _: String) {}

    fn replace_file(&mut self, _: String, _: String) {}

    fn annotate(&mut self, _: String) {}

    fn now_ms(&mut self) -> f64 {
        0.0
    }
}

fn refusal(wasm: &[u8]) -> String {
    let mut stage = Stage::new();
    stage.put_bytes("guest.wasm", wasm);
    let shown = entry(&stage.start(), "guest.wasm").unwrap();
    assert_eq!(shown["state"], "refused", "{shown:#}");
    shown["refused"]["reason"].as_str().unwrap().to_owned()
}

/// The frozen component as if it had been built against another version: the names are of the same length.
fn of_version(version: &str) -> Vec<u8> {
    let mut wasm = Language::Frozen.guest().to_vec();
    let (old, new) = (b"@1.0.0", format!("@{version}"));
    assert_eq!(old.len(), new.len());
    let places: Vec<usize> = (0..wasm.len() - old.len()).filter(|at| wasm[*at..].starts_with(old)).collect();
    assert!(places.len() >= 9, "{} imports and two exports", places.len());
    places.iter().for_each(|at| wasm[*at..*at + old.len()].copy_from_slice(new.as_bytes()));
    wasm
}

#[test]
fn a_component_of_1_0_0_runs_in_a_later_service() {
    let engine = Engine::default();
    let component = Component::new(&engine, Language::Frozen.guest()).unwrap();
    let mut linker = Linker::<Later>::new(&engine);
    later::task_logger::plugin::host::add_to_linker::<_, HasSelf<Later>>(&mut linker, |state| state).unwrap();
    let mut store = Store::new(&engine, Later::default());
    // Without any WASI: what is frozen stands on `host` alone.
    let guest = later::Plugin::instantiate(&mut store, &component, &linker).unwrap();
    let processor = guest.task_logger_plugin_processor();
    let manifest = processor.call_init(&mut store, "{}").unwrap().unwrap();
    assert_eq!((&*manifest.name, &*manifest.kinds), ("conformance", &["*".to_owned()][..]));
    let event = |data: &str| later::exports::task_logger::plugin::processor::Event {
        id: "1-0".to_owned(),
        kind: "task:output".to_owned(),
        timestamp_ms: 0.0,
        data: data.to_owned(),
    };
    let events = [event(r#"{"do":"state"}"#), event(r#"{"do":"count","n":3}"#), event(r#"{"do":"drop"}"#)];
    let verdicts = processor.call_process(&mut store, Some("t"), &events, false).unwrap().unwrap();
    assert_eq!(format!("{verdicts:?}").matches("Verdict::").count(), 3, "{verdicts:?}");
    let host = store.data();
    let counts = [("init".to_owned(), 1), ("counted".to_owned(), 3)];
    assert_eq!((&host.logs[..], &host.counts[..], &*host.state), (&["ready".to_owned()][..], &counts[..], "1"));
}

#[test]
fn a_component_of_a_later_version_runs_if_it_uses_nothing_new() {
    let mut bench = Bench::of(&of_version("1.7.0"), "");
    let outcomes = bench.outcomes(&told(&[json!({ "do": "state" }), json!({ "do": "pass" })]));
    assert_eq!((replaced(&outcomes[0]), &outcomes[1]), (json!({ "count": 1 }), &Outcome::Pass));
}

#[test]
fn a_host_function_of_a_later_version_is_named_in_the_refusal() {
    let host = |version: &str, function: &str| {
        let instance = format!("(instance (export \"log\" (func)) (export \"{function}\" (func (result f64))))");
        wat::parse_str(format!("(component (import \"task-logger:plugin/host@{version}\" {instance}))")).unwrap()
    };
    assert_eq!(
        refusal(&host("1.1.0", "now-ms")),
        "needs `now-ms` of `task-logger:plugin/host@1.1.0`, a host function that this version of the service does not have: \
         update the service, or build the plugin without it against wit/plugin.wit of version 1.0.0"
    );
    // One that never was there.
    assert!(refusal(&host("1.0.0", "open-socket")).contains("needs `open-socket` of `task-logger:plugin/host@1.0.0`"));
}

#[test]
fn another_major_version_is_named_in_the_refusal() {
    let said = refusal(&of_version("2.0.0"));
    assert_eq!(
        said,
        "is built for `task-logger:plugin/host@2.0.0`, but this service speaks `task-logger:plugin/host@1.0.0`: build it \
         against that wit/plugin.wit"
    );
    for name in ["task-logger:plugin/processor@0.9.0", "task-logger:plugin/processor"] {
        let text = format!("(component (instance $i) (export \"{name}\" (instance $i)))");
        let said = refusal(&wat::parse_str(text).unwrap());
        assert!(said.starts_with(&format!("is built for `{name}`, but this service speaks")), "{said}");
    }
}

/// The fixture proves that nothing is missing from the interface; this, that nothing was added or renamed where nothing may be.
#[test]
fn the_text_of_the_interface_is_frozen() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wit = fs::read_to_string(root.join("wit/plugin.wit")).unwrap();
    let code = wit.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    let code: String = code.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
    let (package, rest) = code.split_once("interfacehost{").unwrap();
    let (host, processor) = rest.split_once("interfaceprocessor{").unwrap();
    let digest: String = Sha256::digest(processor).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        digest, PROCESSOR_SHA256,
        "`processor` or the world in wit/plugin.wit has changed. They are frozen: plugins that were built against them would not \
         load any more. New functions go into `host`, with a new minor version of the package; everything else needs a new package"
    );
    assert!(package.starts_with("packagetask-logger:plugin@1."), "{package}");
    for function in [
        "log:func(level:level,message:string);",
        "count:func(name:string,n:u32);",
        "get-state:func()->string;",
        "set-state:func(value:string);",
        "append-file:func(name:string,text:string);",
        "replace-file:func(name:string,text:string);",
        "annotate:func(json:string);",
        "enumlevel{debug,info,warn,error}",
    ] {
        assert!(host.contains(function), "`host` has lost or changed {function}, which frozen plugins import");
    }
}

#[test]
fn the_fixture_is_the_one_that_was_frozen() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let digest: String = Sha256::digest(Language::Frozen.guest()).iter().map(|byte| format!("{byte:02x}")).collect();
    let readme = fs::read_to_string(root.join("tests/fixtures/README.md")).unwrap();
    assert!(readme.contains(&format!("SHA-256 {digest}")), "it was built again, or changed: {digest}");
}
