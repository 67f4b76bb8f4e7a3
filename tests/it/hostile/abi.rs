//! Lies across the component boundary, in components that no compiler makes: pointers, lengths, discriminants, texts that
//! are none, and code where only data is expected.

use std::time::{Duration, Instant};

use task_logger::plugin::{Effects, Outcome};

use super::components::Hostile;
use crate::guests::{Log, Stage, entry, outputs, run};

/// Every poison event costs itself alone, by its class; the events around it pass, nothing staged remains, nothing is said.
#[track_caller]
fn costs_its_event_only(name: &str, component: &[u8], class: &str) {
    let mut stage = Stage::new();
    // Short: what never ends is met several times until it stands alone.
    let timeout = if class == "timeout" { "30ms" } else { "1s" };
    let sidecar = format!("timeout = '{timeout}'");
    stage.put_bytes("hostile.toml", sidecar.as_bytes()).put_bytes("hostile.wasm", component);
    let host = stage.start();
    let shown = entry(&host, "hostile.wasm").unwrap();
    assert_eq!(shown["state"], "live", "{name}: {shown}");
    let (log, mut lane) = (Log::default(), host.lane());
    let dead = || Outcome::Dead { reason: "plugin_failed", plugin: "hostile".into(), code: class.to_owned() };
    for at in [0, 2, 4] {
        let mut texts = ["a", "b", "c", "d", "e"];
        texts[at] = "Poison-secret";
        let events = outputs(&texts);
        let decided = log.capture(|| run(&mut lane, &events, false)).unwrap();
        for (n, outcome) in decided.outcomes.iter().enumerate() {
            assert_eq!(*outcome, if n == at { dead() } else { Outcome::Pass }, "{name}: poison at {at}, event {n}");
        }
        assert_eq!((decided.outcomes.len(), decided.effects), (5, Effects::default()), "{name}");
    }
    assert!(!log.text().contains("secret"), "{name}: {}", log.text());
}

/// The smallest: everything passes, so that what the others show is their misdeed.
#[test]
fn the_plain_component_passes() {
    let mut stage = Stage::new();
    stage.put_bytes("hostile.wasm", &Hostile::default().build());
    let host = stage.start();
    let mut lane = host.lane();
    let decided = run(&mut lane, &outputs(&["a", "Poison"]), false).unwrap();
    assert_eq!(decided.outcomes, [Outcome::Pass, Outcome::Pass], "{}", host.report());
}

/// Grows the memory to a bit over `mib` and puts where the new part begins into `$i`.
fn grown(mib: usize) -> String {
    format!("(local.set $i (i32.shl (memory.grow (i32.const {})) (i32.const 16)))", mib * 16)
}

/// Writes bytes at 4096, where nothing stands.
fn bytes(bytes: &[u8]) -> String {
    let one = |(at, byte): (usize, &u8)| format!("(i32.store8 (i32.const {}) (i32.const {byte}))", 4096 + at);
    bytes.iter().enumerate().map(one).collect()
}

/// The verdict becomes this case with this text.
fn verdict(case: u8, at: i64, length: i64) -> String {
    format!(
        "(i32.store8 (local.get $verdict) (i32.const {case})) (i32.store offset=4 (local.get $verdict) (i32.const {at}))
        (i32.store offset=8 (local.get $verdict) (i32.const {length}))"
    )
}

#[test]
fn a_lying_answer_costs_its_event_only() {
    let answer = |disc: u8, at: &str, length: i64| {
        format!(
            "(i32.store8 (local.get $ret) (i32.const {disc})) (i32.store offset=4 (local.get $ret) {at})
            (i32.store offset=8 (local.get $ret) (i32.const {length}))"
        )
    };
    let list = "(i32.load offset=4 (local.get $ret))";
    for (name, misdeed, class) in [
        ("a list that is longer than the memory", answer(0, list, 10_000_000), "trap"),
        ("a list of the greatest length", answer(0, list, 0x7fff_ffff), "trap"),
        ("a length whose bytes overflow", answer(0, list, 0x1555_5556), "trap"),
        (
            "a list of millions that is there",
            format!("{}{}", grown(60), answer(0, "(local.get $i)", 5_000_000)),
            "trap",
        ),
        ("an empty list", answer(0, list, 0), "verdicts"),
        ("a misaligned list", answer(0, &format!("(i32.add {list} (i32.const 2))"), 1), "trap"),
        ("a list beyond the memory", answer(0, "(i32.const -16)", 1), "trap"),
        ("no such result", answer(2, list, 1), "trap"),
        ("a misaligned result", "(global.set $answer (i32.const 770))".to_owned(), "trap"),
        ("a result beyond the memory", "(global.set $answer (i32.const -4))".to_owned(), "trap"),
        ("no such verdict", verdict(5, 0, 0), "trap"),
        ("a text beyond the memory", verdict(1, -100, 200), "trap"),
        ("a text of 4 GiB", verdict(1, 0, -1), "trap"),
        ("a text of 48 MiB", format!("{}{}", grown(48), verdict(1, 196_608, 48 << 20)), "trap"),
        ("a text that is no UTF-8", bytes(&[b'{', 0xff, 0xfe, b'}']) + &verdict(1, 4096, 4), "trap"),
        ("a text cut in a character", bytes(&[0xe2, 0x82]) + &verdict(1, 4096, 2), "trap"),
        ("a surrogate in UTF-8", bytes(&[0xed, 0xa0, 0x80]) + &verdict(1, 4096, 3), "trap"),
        ("a code that is no UTF-8", bytes(&[0xc0, 0x80]) + &verdict(2, 4096, 2), "trap"),
        ("a quarantine code that is no UTF-8", bytes(&[0xf5]) + &verdict(4, 4096, 1), "trap"),
        ("a hold of a plugin that may not", verdict(3, 0, 0), "hold"),
        ("a zero byte for data", bytes(&[0]) + &verdict(1, 4096, 1), "json"),
        ("a failure that quotes the event", answer(1, "(i32.load offset=24 (local.get $event))", 20), "failure"),
        ("a failure beyond the memory", answer(1, "(i32.const -8)", 100), "trap"),
        ("a failure that is no UTF-8", bytes(&[0x80]) + &answer(1, "(i32.const 4096)", 1), "trap"),
    ] {
        costs_its_event_only(name, &Hostile::on_poison(&misdeed), class);
    }
}

#[test]
fn a_lie_to_a_host_function_costs_its_event_only() {
    let text = |at: i64, length: i64| format!("(i32.const {at}) (i32.const {length})");
    let bad = bytes(&[b'"', 0xff, b'"']);
    let bad_text = text(4096, 3);
    for (name, misdeed) in [
        ("a log line beyond the memory", format!("(call $log (i32.const 1) {})", text(-10, 100))),
        ("a log line that is no UTF-8", format!("{bad} (call $log (i32.const 1) {bad_text})")),
        ("no such level", format!("(call $log (i32.const 77) {})", text(0, 0))),
        ("a log line of 48 MiB", format!("{} (call $log (i32.const 1) {})", grown(48), text(196_608, 48 << 20))),
        ("a counter that is no UTF-8", format!("{bad} (call $count {bad_text} (i32.const 1))")),
        ("a state that is no UTF-8", format!("{bad} (call $set-state {bad_text})")),
        ("a state beyond the memory", format!("(call $set-state {})", text(0, -1))),
        ("a file name that is no UTF-8", format!("{bad} (call $append {bad_text} {})", text(1024, 1))),
        ("a file text that is no UTF-8", format!("{bad} (call $append (i32.const 1035) (i32.const 11) {bad_text})")),
        ("an annotation that is no UTF-8", format!("{bad} (call $annotate {bad_text})")),
        ("an annotation of zeros", format!("(call $annotate {})", text(8192, 4096))),
    ] {
        costs_its_event_only(name, &Hostile::on_poison(&misdeed), "trap");
    }
}

#[test]
fn code_that_traps_or_never_ends_costs_its_event_only() {
    let spin = "(loop $on (br $on))";
    for (name, core, misdeed, class) in [
        ("a trap", "", "unreachable", "trap"),
        ("an exception that nobody catches", "(tag $thrown)", "(throw $thrown)", "trap"),
        ("an access beyond the memory", "", "(drop (i32.load (i32.const -4)))", "trap"),
        ("a division by zero", "", "(drop (i32.div_u (i32.const 1) (local.get $i)))", "trap"),
        ("an empty table's entry", "(table 1 funcref)", "(call_indirect (i32.const 0))", "trap"),
        ("an endless loop", "", spin, "timeout"),
        ("an endless recursion", "(func $deep (call $deep) (call $deep))", "(call $deep)", "trap"),
        ("an endless tail call", "(func $tail (return_call $tail))", "(return_call $tail)", "timeout"),
        (
            "an endless filling of memory",
            "",
            "(drop (memory.grow (i32.const 800)))
            (loop $on (memory.fill (i32.const 196608) (local.get $i) (i32.const 52428800)) (br $on))",
            "timeout",
        ),
        (
            "memory without end",
            "",
            "(loop $on (br_if $on (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
            "memory",
        ),
        (
            "a table without end",
            "(table $t 1 funcref)",
            "(loop $on (br_if $on (i32.ne (table.grow $t (ref.null func) (i32.const 65536)) (i32.const -1)))) unreachable",
            "trap",
        ),
        (
            "collected memory without end",
            "(type $array (array (mut i32))) (global $kept (mut (ref null $array)) (ref.null $array))",
            "(loop $on (global.set $kept (array.new_default $array (i32.const 1000000))) (br $on))",
            "memory",
        ),
        (
            "logging without end",
            "",
            "(loop $on (call $log (i32.const 3) (i32.const 1024) (i32.const 8)) (br $on))",
            "trap",
        ),
        (
            "counting without end",
            "",
            "(loop $on (call $count (i32.const 1024) (i32.const 7) (i32.const -1)) (br $on))",
            "timeout",
        ),
        (
            "states without end",
            "",
            "(loop $on (call $set-state (i32.const 1024) (i32.const 65536)) (br $on))",
            "timeout",
        ),
        (
            "annotations without end",
            "(data (i32.const 4096) \"{}\")",
            "(loop $on (call $annotate (i32.const 4096) (i32.const 2)) (br $on))",
            "trap",
        ),
        (
            "files without end",
            "(data (i32.const 4096) \"hostile.txt\")",
            "(loop $on (call $append (i32.const 4096) (i32.const 11) (i32.const 4096) (i32.const 0)) (br $on))",
            "trap",
        ),
    ] {
        let component = Hostile { core, misdeed, ..Hostile::default() }.build();
        let began = Instant::now();
        costs_its_event_only(name, &component, class);
        // Three slices of five events; the poison is met in the whole, in each half of it, and alone.
        assert!(began.elapsed() < Duration::from_secs(30), "{name}: {:?}", began.elapsed());
    }
}

#[test]
fn code_where_only_data_is_expected_costs_its_event_only() {
    let poisoned = |what: &str| format!("(if (global.get $poisoned) (then {what}))");
    let log = "(call $log (i32.const 3) (i32.const 1024) (i32.const 7))";
    for (name, post, class) in [
        ("a post-return that traps", "unreachable", "trap"),
        ("a post-return that never ends", "(loop $on (br $on))", "timeout"),
        ("a post-return that calls the host", log, "trap"),
    ] {
        costs_its_event_only(name, &Hostile { post: &poisoned(post), ..Hostile::default() }.build(), class);
    }
    // The allocation for the poison event's own data, 27 bytes.
    let asked = |what: &str| format!("(if (i32.eq (local.get $size) (i32.const 27)) (then {what}))");
    for (name, realloc, class) in [
        ("a realloc that traps", "unreachable", "trap"),
        ("a realloc that never ends", "(loop $on (br $on))", "timeout"),
        ("a realloc that points beyond the memory", "(return (i32.const -8))", "trap"),
        (
            "a realloc that points to the memory's end",
            "(return (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 8)))",
            "trap",
        ),
        ("a realloc that calls the host", log, "trap"),
    ] {
        costs_its_event_only(name, &Hostile { realloc: &asked(realloc), ..Hostile::default() }.build(), class);
    }
}

#[test]
fn resources_without_end_cost_their_event_only() {
    let made = |component: &str, name: &str, import: &str, misdeed: &str| {
        let component = format!("{component} (core instance $made (export \"make\" (func ${name})))");
        let core = format!("(import \"made\" \"make\" (func $make {import}))");
        Hostile {
            component: &component,
            with: "(with \"made\" (instance $made))",
            core: &core,
            misdeed,
            ..Hostile::default()
        }
        .build()
    };
    let own = made(
        "(type $r (resource (rep i32))) (core func $new (canon resource.new $r))",
        "new",
        "(param i32) (result i32)",
        "(loop $on (drop (call $make (i32.const 1))) (br $on))",
    );
    costs_its_event_only("its own", &own, "trap");
    let hosts = made(
        r#"(import "wasi:io/streams@0.2.0" (instance $streams (export "output-stream" (type (sub resource)))))
        (alias export $streams "output-stream" (type $stream))
        (import "wasi:cli/stdout@0.2.0" (instance $stdout (export "output-stream" (type $s (eq $stream)))
          (export "get-stdout" (func (result (own $s))))))
        (core func $get (canon lower (func $stdout "get-stdout")))"#,
        "get",
        "(result i32)",
        "(loop $on (drop (call $make)) (br $on))",
    );
    costs_its_event_only("the host's", &hosts, "trap");
}
