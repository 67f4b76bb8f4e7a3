//! Components that are hostile before they see an event: bombs for the compiler, limits of an instance, manifests that lie,
//! imports that are not offered. All are refused with a reason, and what else is in the folder goes live.

use std::time::{Duration, Instant};

use super::components::Hostile;
use crate::guests::{Stage, entry, misbehave, outputs, run};

/// Refuses the component for this reason while its neighbour goes live and works.
#[track_caller]
fn refused(name: &str, component: &[u8], reason: &str) {
    let mut stage = Stage::new();
    stage.put("good", "[config]\nname = 'good'\nfiles = []");
    stage.put_bytes("hostile.toml", b"timeout = '30ms'").put_bytes("hostile.wasm", component);
    let host = stage.start();
    let shown = entry(&host, "hostile.wasm").unwrap();
    assert_eq!(shown["state"], "refused", "{name}: {shown}");
    let said = shown["refused"]["reason"].as_str().unwrap();
    assert!(said.contains(reason), "{name}: {said}");
    assert!(said.len() < 1000 && !said.contains(char::is_control), "{name}: {said:?}");
    assert_eq!(entry(&host, "good.wasm").unwrap()["state"], "live", "{name}");
    assert_eq!(run(&mut host.lane(), &outputs(&["a"]), false).unwrap().outcomes.len(), 1, "{name}");
}

#[test]
fn an_init_that_lies_traps_or_never_ends_is_refused() {
    let big = |at: usize, list: bool| {
        // 10 MiB of text, or as many empty texts.
        let length = if list { 1_300_000 } else { 10 << 20 };
        format!(
            "(local.set $i (i32.shl (memory.grow (i32.const 170)) (i32.const 16)))
            (i32.store (i32.const {at}) (local.get $i)) (i32.store (i32.const {}) (i32.const {length}))",
            at + 4
        )
    };
    for (name, init, reason) in [
        ("an init that traps", "unreachable", "init failed: trap"),
        ("an init that never ends", "(loop $on (br $on))", "init failed: timeout"),
        (
            "an init that wants all memory",
            "(loop $on (br_if $on (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
            "init failed: memory",
        ),
        (
            "an init that writes a file",
            "(call $append (i32.const 1024) (i32.const 7) (i32.const 1024) (i32.const 7))",
            "in init that is for process only",
        ),
        (
            "an init that sets a state",
            "(call $set-state (i32.const 1024) (i32.const 7))",
            "in init that is for process only",
        ),
        (
            "an init that logs without end",
            "(loop $on (call $log (i32.const 3) (i32.const 1024) (i32.const 7)) (br $on))",
            "exceeded a quota",
        ),
        ("a version of 10 MB", &big(524, false), "init failed: trap"),
        ("a name of 10 MB", &big(516, false), "init failed: trap"),
        ("a million kinds", &big(536, true), "init failed: trap"),
        ("a hundred thousand kinds", &big(536, true).replace("1300000", "100000"), "more than 256"),
        ("a hundred thousand files", &big(544, true).replace("1300000", "100000"), "more than 64 files"),
        ("a hundred thousand codes", &big(552, true).replace("1300000", "100000"), "more than 256 codes"),
        ("a name that is no UTF-8", "(i32.store8 (i32.const 1024) (i32.const 255))", "init failed: trap"),
        ("no such role", "(i32.store8 (i32.const 532) (i32.const 9))", "init failed: trap"),
        ("a manifest beyond the memory", "(local.set $ret (i32.const -4))", "init failed: trap"),
        ("a misaligned manifest", "(local.set $ret (i32.const 514))", "init failed: trap"),
    ] {
        refused(name, &Hostile { init, ..Hostile::default() }.build(), reason);
    }
    let start = "(func $at-start (loop $on (br $on))) (start $at-start)";
    refused("a start that never ends", &Hostile { core: start, ..Hostile::default() }.build(), "init failed: timeout");
    let process = "(loop $on (br $on))";
    refused("a process that never ends", &Hostile { process, ..Hostile::default() }.build(), "self-test");
    let process = "unreachable";
    refused("a process that traps", &Hostile { process, ..Hostile::default() }.build(), "self-test");
}

#[test]
fn a_manifest_that_changes_between_instances_is_refused() {
    let random = r#"(import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
        (core func $random (canon lower (func $random "get-random-u64")))
        (core instance $randoms (export "get" (func $random)))"#;
    let component = Hostile {
        version: "abcdefgh",
        component: random,
        with: r#"(with "random" (instance $randoms))"#,
        core: r#"(import "random" "get" (func $random (result i64)))"#,
        // Eight letters of the version, anew each time; the name has seven.
        init: "(i64.store (i32.const 1031) (i64.or (i64.and (call $random) (i64.const 0x0f0f0f0f0f0f0f0f)) (i64.const 0x6060606060606060)))",
        ..Hostile::default()
    };
    // An import stands before every function.
    refused("a manifest of chance", &component.build(), "its manifest is another one than at first");
}

#[test]
fn file_names_that_lead_elsewhere_are_refused() {
    let long = "x".repeat(101);
    for file in [
        "../x",
        "/etc/x",
        "a/b",
        "a\\b",
        ".",
        "..",
        "...",
        ".state",
        ".hidden",
        "a\0b",
        "",
        " ",
        "a b",
        "x\n",
        "-x",
        "_x",
        "~",
        "é.txt",
        "a\u{202e}txt.b",
        "%2e%2e%2fx",
        "C:x",
        &long,
    ] {
        refused(file, &Hostile { file, ..Hostile::default() }.build(), "is not [A-Za-z0-9]");
    }
    for file in ["metadata.json", "METADATA.JSON", "01-Input.json", "03-agent-output.JSONL", "05-Other-Events.jsonl"] {
        refused(file, &Hostile { file, ..Hostile::default() }.build(), "is a standard one");
    }
    // Names that are reserved elsewhere are names here: they reach nothing.
    let mut stage = Stage::new();
    stage.put_bytes("hostile.wasm", &Hostile { file: "CON", ..Hostile::default() }.build());
    assert_eq!(entry(&stage.start(), "hostile.wasm").unwrap()["state"], "live");
}

#[test]
fn what_is_not_offered_is_refused() {
    let import = |text: &str| Hostile { component: text, ..Hostile::default() }.build();
    let builtin = |call: &str| format!("(core func $b (canon {call})) (core instance $with (export \"b\" (func $b)))");
    for (name, component, reason) in [
        (
            "another host",
            import(r#"(import "task-logger:plugin/admin@1.0.0" (instance))"#),
            "imports `task-logger:plugin/admin",
        ),
        (
            "a host function that there is not",
            import(r#"(import "task-logger:plugin/host@1.1.0" (instance (export "exec" (func (param "c" string)))))"#),
            "needs `exec` of `task-logger:plugin/host@1.1.0`",
        ),
        (
            "HTTP",
            import(r#"(import "wasi:http/outgoing-handler@0.2.0" (instance))"#),
            "imports `wasi:http/outgoing-handler",
        ),
        (
            "a key-value store",
            import(r#"(import "wasi:keyvalue/store@0.2.0" (instance))"#),
            "imports `wasi:keyvalue/store",
        ),
        (
            "WASI of another version",
            import(r#"(import "wasi:clocks/monotonic-clock@0.3.0" (instance))"#),
            "imports `wasi:clocks",
        ),
        (
            "a name that only begins as WASI",
            import(r#"(import "wasi:cli/environment@0.1.0" (instance))"#),
            "imports `wasi:cli",
        ),
        ("a plain function", import(r#"(import "run-on-host" (func))"#), "imports `run-on-host`"),
        ("waiting", import(&builtin("waitable-set.new")), "requires the component model async feature"),
        ("yielding", import(&builtin("thread.yield")), "requires the component model async feature"),
        ("backpressure", import(&builtin("backpressure.inc")), "requires the component model async feature"),
        ("a core module", import(r#"(import "engine" (core module))"#), "imports `engine`"),
    ] {
        refused(name, &component, reason);
    }
}

#[test]
fn more_than_an_instance_may_have_is_refused() {
    let core = |core: &str| Hostile { core, ..Hostile::default() }.build();
    let component = |component: &str| Hostile { component, ..Hostile::default() }.build();
    let too_many = ["(core module $none)", &"(core instance (instantiate $none)) ".repeat(65)].concat();
    let memory = |pages: u32| format!("(core module $more (memory {pages})) (core instance (instantiate $more))");
    for (name, component, reason) in [
        ("a second memory", component(&memory(1)), "2 Wasm linear memories"),
        ("a memory over the limit", component(&memory(65_536)), "exceeds the limit of 0x4000000 bytes"),
        ("a shared memory", core("(memory $s 1 2 shared)"), "does not compile"),
        ("a memory of 64 bits", core("(memory $s i64 1)"), "does not compile"),
        ("a table over the limit", core("(table $t 10000000 funcref)"), "exceeds the limit of 262144"),
        ("too many tables", core(&"(table 1 funcref) ".repeat(17)), "tables count of 17 exceeds"),
        ("too many instances", component(&too_many), "exceeds the configured maximum of 64"),
    ] {
        refused(name, &component, reason);
    }
}

/// A component as text around these fields.
fn component(fields: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {fields})")).unwrap()
}

/// Components in components, which WebAssembly text cannot nest so deep.
fn nested(depth: usize) -> Vec<u8> {
    let head = b"\0asm\x0d\0\x01\0".as_slice();
    let mut inner = head.to_vec();
    for _ in 0..depth {
        let mut size = inner.len();
        let mut outer = [head, &[4]].concat();
        while size > 0x7f {
            outer.push(0x80 | (size & 0x7f) as u8);
            size >>= 7;
        }
        outer.push(size as u8);
        outer.extend(inner);
        inner = outer;
    }
    inner
}

#[test]
fn bombs_for_the_compiler_end_within_its_limits() {
    // Each type holds the one before it twice: small as a file, without end when written out.
    let doubled: String = (1..60).map(|n| format!("(type $t{n} (tuple $t{} $t{}))", n - 1, n - 1)).collect();
    let functions = |count: usize, body: &str| format!("(core module {})", format!("(func {body})").repeat(count));
    let blocks = format!("(core module (func {}{}))", "block ".repeat(50_000), "end ".repeat(50_000));
    let locals = "(core module (func (local".to_owned() + &" i64".repeat(60_000) + ")))";
    let bombs = [
        ("types that double", format!("(type $t0 (tuple u8 u8)) {doubled}")),
        ("twenty thousand functions", functions(20_000, "")),
        ("deep blocks", blocks),
        ("very many locals", locals),
        ("ten thousand components", "(component)".repeat(10_000)),
        ("two thousand modules", "(core module (memory 1))".repeat(2_000)),
    ];
    let mut stage = Stage::new().with_child();
    stage.put("good", "[config]\nname = 'good'\nfiles = []");
    for (n, (_, text)) in bombs.iter().enumerate() {
        stage.put_bytes(&format!("bomb-{n}.wasm"), &component(text));
    }
    stage.put_bytes(&format!("bomb-{}.wasm", bombs.len()), &nested(5_000));
    // Behind the valid head of a real component: noise, zeros without end, a length that lies.
    let mut torn = misbehave()[..4096].to_vec();
    torn.extend(std::iter::repeat_n(0, 8 << 20));
    stage.put_bytes("torn.wasm", &torn);
    stage.put_bytes("long.wasm", b"\0asm\x0d\0\x01\0\x04\xff\xff\xff\xff\x0f");
    let began = Instant::now();
    let host = stage.start();
    for (n, name) in bombs.iter().map(|(name, _)| *name).chain(["components in components"]).enumerate() {
        let shown = entry(&host, &format!("bomb-{n}.wasm")).unwrap();
        assert_eq!(shown["state"], "refused", "{name}: {shown}");
    }
    for file in ["torn.wasm", "long.wasm"] {
        let shown = entry(&host, file).unwrap();
        assert!(shown["refused"]["reason"].as_str().unwrap().contains("does not compile"), "{shown}");
    }
    assert_eq!(entry(&host, "good.wasm").unwrap()["state"], "live");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}
