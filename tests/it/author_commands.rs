//! `plugin check`, `run`, `test` and `bench`: the program on the bundled plugins and on guests that misbehave.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{guests::misbehave, rig::bundled};

/// A folder with a plugin `p` and files for it.
struct Desk {
    folder: TempDir,
}

/// What the program did.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Desk {
    fn new(wasm: &[u8], sidecar: &str) -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        desk.write("p.wasm", wasm);
        if !sidecar.is_empty() {
            desk.write("p.toml", sidecar.as_bytes());
        }
        desk
    }

    /// The guest that does what its configuration says.
    fn misbehaving(config: &str) -> Self {
        Self::new(misbehave(), &format!("timeout = '100ms'\n[config]\n{config}\n"))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn asked(&self, args: &[&str], env: &[(&str, &str)]) -> Said {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("author-cache");
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_task-logger"))
            .arg("plugin")
            .args(args)
            .current_dir(self.folder.path())
            .env_clear()
            .env("CACHE_DIR", cache)
            .envs(env.iter().copied())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
    }

    fn check(&self) -> Said {
        self.asked(&["check", "p.wasm"], &[])
    }

    fn run(&self, events: &str) -> Said {
        self.write("events.jsonl", events.as_bytes()).asked(&["run", "p.wasm", "--events", "events.jsonl"], &[])
    }

    fn run_json(&self, events: &str) -> Value {
        self.write("events.jsonl", events.as_bytes());
        let said = self.asked(&["run", "p.wasm", "--events", "events.jsonl", "--json"], &[]);
        assert_eq!((said.code, &*said.err), (0, ""), "{}", said.out);
        serde_json::from_str(&said.out).unwrap()
    }
}

fn output(task: &str, content: &str) -> String {
    format!("{}\n", json!({"type": "task:output", "task_id": task, "data": {"content": content}}))
}

/// Verdict, code, and how often it was held, of each event.
fn verdicts(report: &Value) -> Vec<String> {
    let one = |event: &Value| {
        let code = event["code"].as_str().map(|code| format!(" {code}")).unwrap_or_default();
        let held = event["held"].as_u64().map(|n| format!(" held {n}")).unwrap_or_default();
        format!("{}{code}{held}", event["verdict"].as_str().unwrap())
    };
    report["events"].as_array().unwrap().iter().map(one).collect()
}

// === check ===

#[test]
fn check_takes_what_the_service_takes() {
    for name in ["redact", "usage", "transcript"] {
        let (wasm, sidecar) = bundled(name);
        let desk = Desk::new(&wasm, &String::from_utf8(sidecar).unwrap());
        fs::rename(desk.path("p.wasm"), desk.path(&format!("{name}.wasm"))).unwrap();
        fs::rename(desk.path("p.toml"), desk.path(&format!("{name}.toml"))).unwrap();
        let file = format!("{name}.wasm");
        let said = desk.asked(&["check", &file], &[]);
        assert_eq!((said.code, &*said.err), (0, ""), "{}", said.out);
        for topic in ["file", "signature", "sidecar", "compile", "imports", "world", "manifest", "init", "self-test"] {
            assert!(said.out.contains(&format!("ok       {topic}")), "{topic}: {}", said.out);
        }
        assert!(!said.out.contains("warning") && said.out.ends_with("the service would take it\n"), "{}", said.out);
        let said = desk.asked(&["check", &file, "--json"], &[]);
        let report: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!((said.code, &report["good"], &report["bytes"]), (0, &json!(true), &json!(wasm.len())));
        for figure in ["memory_bytes", "instantiate_us", "compile_us"] {
            assert!(report[figure].as_f64().unwrap() > 0.0, "{figure}: {report:#}");
        }
    }
}

#[test]
fn check_warns_of_what_goes_live_but_not_as_wished() {
    let sidecar = "memory = '1GiB'\ntimeout = '50s'\non_failure = 'halt'\n[config]\nmode = 'reach'\n";
    let said = Desk::new(misbehave(), sidecar)
        .asked(&["check", "p.wasm"], &[("PLUGIN_MEMORY_MAX", "32MiB"), ("PLUGIN_TIMEOUT_MAX", "3s")]);
    assert_eq!(said.code, 0, "{}", said.out);
    for text in [
        "asks for memory 1024.0 MiB, but PLUGIN_MEMORY_MAX is 32.0 MiB",
        "asks for timeout 50s, but PLUGIN_TIMEOUT_MAX is 3s",
        "one event that it fails on stops the whole service",
        "its file is \"p\", but state, REQUIRED_PLUGINS and metrics go by its name \"misbehave\"",
        "wasi:sockets (",
    ] {
        let found = said.out.lines().find(|line| line.contains(text));
        assert!(found.is_some_and(|line| line.starts_with("warning")), "{text}: {}", said.out);
    }
    let said = Desk::new(misbehave(), "mode = 'shadow'\n[config]\nmode = 'stamp'\nversion = 'v'\n");
    let checked = said.check();
    assert!(checked.code == 0 && checked.out.contains("warning  sidecar   mode = \"shadow\""), "{}", checked.out);
    assert_eq!(said.run_json(&output("t", "x"))["events"][0]["data"]["stamp"], "v", "a desk shows what it would do");
    let said = Desk::misbehaving("mode = 'reach'").check();
    let files = said.out.lines().find(|line| line.contains("wasi:filesystem")).unwrap();
    assert!(files.contains("the service grants nothing of it: there is no folder, calls will fail"), "{files}");
}

#[test]
fn check_says_every_reason_for_which_the_service_refuses() {
    let wat = |text: &str| wat::parse_str(text).unwrap();
    let guest = misbehave();
    let config = |config: &str| format!("timeout = '100ms'\n[config]\n{config}\n");
    let processor = r#"(component (instance $i) (export "task-logger:plugin/processor@1.0.0" (instance $i)))"#;
    let cases: Vec<(Vec<u8>, String, &str)> = vec![
        (Vec::new(), String::new(), "is not a WebAssembly component"),
        (b"\x7fELF\x02\x01\x01\0".to_vec(), String::new(), "is not a WebAssembly component"),
        (wat("(module)"), String::new(), "is a core WebAssembly module, not a component: build it for wasm32-wasip2"),
        (guest[..guest.len() / 2].to_vec(), String::new(), "does not compile"),
        (wat("(component)"), String::new(), "does not export `task-logger:plugin/processor@1.0.0`"),
        (
            wat(r#"(component (import "wasi:http/types@0.2.0" (instance)))"#),
            String::new(),
            "imports `wasi:http/types@0.2.0`, which is not offered",
        ),
        (wat(processor), String::new(), "does not fit the plugin interface"),
        (guest.to_vec(), "nosuch = 1".to_owned(), "unknown field `nosuch`"),
        (guest.to_vec(), "memory = 'much'".to_owned(), "memory = \"much\" is not valid: expected a size like"),
        (guest.to_vec(), format!("sha256 = '{}'", "0".repeat(64)), "write NAME.wasm first, then NAME.toml"),
        (guest.to_vec(), config("nosuch = 1"), "init failed: failure: unknown field `nosuch`"),
        (guest.to_vec(), config("mode = 'init-fail'"), "init failed: failure: told to fail"),
        (guest.to_vec(), config("mode = 'init-trap'"), "init failed: trap: wasm trap: wasm `unreachable`"),
        (guest.to_vec(), config("mode = 'init-loop'"), "init failed: timeout: ran past its time limit"),
        (guest.to_vec(), config("mode = 'bad-manifest'"), "its manifest is not valid: name \"Not A Name\" is not"),
        (guest.to_vec(), config("mode = 'narrow-redactor'"), "a redactor must want the kinds [\"*\"]"),
        (guest.to_vec(), config("files = ['metadata.json']"), "file \"metadata.json\" is a standard one"),
        (guest.to_vec(), config("codes = ['A']"), "code \"A\" is not"),
        (guest.to_vec(), config("kinds = []"), "it wants no kinds"),
        (guest.to_vec(), "on_failure = 'skip'\n[config]\nrole = 'redactor'".to_owned(), "a redactor is never skipped"),
        (guest.to_vec(), "kinds = ['a:b']\n[config]\nkinds = ['c:d']".to_owned(), "have none in common"),
        (
            guest.to_vec(),
            config("mode = 'trap'"),
            "the self-test (one call with an event of each kind it wants) failed: trap",
        ),
        (guest.to_vec(), config("mode = 'short'"), "failed: verdicts: 9 verdicts for 10 events"),
        (guest.to_vec(), config("mode = 'bad-json'"), "not a JSON object"),
        (guest.to_vec(), config("mode = 'hold'\nrole = 'redactor'"), "failed: hold: held on flush"),
        (guest.to_vec(), config("mode = 'memory'"), "asked for more than"),
        // The guest's own words, which the service hides.
        (guest.to_vec(), config("mode = 'failure'"), "it said: cannot take {\"content\":\"self-test\""),
        (guest.to_vec(), config("mode = 'panic'"), "cannot take {\"content\":\"self-test\""),
    ];
    for (wasm, sidecar, reason) in cases {
        let desk = Desk::new(&wasm, &sidecar);
        let said = desk.check();
        let line =
            said.out.lines().find(|line| line.contains(reason)).unwrap_or_else(|| panic!("{reason}: {}", said.out));
        assert_eq!(said.code, 1, "{reason}");
        assert!(line.starts_with("WRONG") || reason.starts_with("cannot take"), "{line}");
        assert!(said.out.ends_with("the service would refuse it; what runs would go on\n"), "{}", said.out);
        let json: Value = serde_json::from_str(&desk.asked(&["check", "p.wasm", "--json"], &[]).out).unwrap();
        assert_eq!(json["good"], false, "{reason}");
    }
}

#[test]
fn check_looks_at_names_sizes_and_signatures() {
    let desk = Desk::new(misbehave(), "");
    desk.write("a b.wasm", misbehave());
    let said = desk.asked(&["check", "a b.wasm"], &[]);
    assert!(said.code == 1 && said.out.contains("the service only looks at names like NAME.wasm"), "{}", said.out);
    fs::File::create(desk.path("big.wasm")).unwrap().set_len((64 << 20) + 1).unwrap();
    let said = desk.asked(&["check", "big.wasm"], &[]);
    assert_eq!((said.code, &*said.err), (1, "big.wasm is larger than 65536 KiB\n"));
    let said = desk.asked(&["check", "gone.wasm"], &[]);
    assert!(said.code == 1 && said.err.starts_with("cannot read gone.wasm: No such file"), "{}", said.err);
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let said = desk.asked(&["check", "p.wasm"], &[("PLUGIN_TRUSTED_KEYS", key)]);
    let wrong = said.out.lines().find(|line| line.contains("PLUGIN_TRUSTED_KEYS is set")).unwrap_or(&said.err);
    assert!(said.code == 1 && wrong.starts_with("WRONG    signature"), "{wrong}");
}

// === run ===

#[test]
fn run_shows_what_the_service_hides() {
    let events = format!("{}{}", output("t", "fine"), output("t", "my secret \u{1b}[2Jhere"));
    for (mode, shown) in [
        ("log", "log  error  {\"content\":\"my secret"),
        ("stdout", "printed  {\"content\":\"my secret"),
        ("failure", "it said  cannot take {\"content\":\"my secret"),
        ("panic", "cannot take {\"content\":\"my secret"),
        ("trap", "at  abort+"),
        ("bad-json", "it said  answered [Replace(\"not json\")]"),
        ("loop", "ran past its time limit"),
        ("undeclared-file", "wrote to a file that its manifest does not name"),
    ] {
        let desk = Desk::misbehaving(&format!("role = 'redactor'\nmode = '{mode}'\nmatch = 'secret'"));
        let said = desk.run(&events);
        assert_eq!((said.code, &*said.err), (0, ""), "{mode}");
        assert!(said.out.contains(shown), "{mode}: {}", said.out);
        // A pipe gets no colours, and a guest's own never come through.
        assert!(!said.out.contains('\u{1b}'), "{mode}: {}", said.out);
    }
}

#[test]
fn run_goes_on_where_the_service_stops_and_says_so() {
    let events: String = (0..7).map(|n| output("t", &format!("bad {n}"))).collect();
    let desk = Desk::misbehaving("role = 'redactor'\nmode = 'trap'\nmatch = 'bad'");
    assert_eq!(verdicts(&desk.run_json(&events)), ["failed trap"; 7]);
    let said = desk.run(&events);
    let stop = "the service would stop reading at 1700000000000-5: redactor misbehave failed on too many events";
    assert!(said.out.contains(stop), "{}", said.out);
    let desk = Desk::new(misbehave(), "on_failure = 'halt'\n[config]\nmode = 'trap'\nmatch = 'bad 3'");
    let said = desk.run(&events);
    assert!(
        said.out.contains("stop reading at 1700000000000-4: plugin misbehave failed on an event (trap)"),
        "{}",
        said.out
    );
}

#[test]
fn run_diffs_by_pointer_and_lists_what_is_left() {
    let (wasm, sidecar) = bundled("redact");
    let desk = Desk::new(&wasm, &String::from_utf8(sidecar).unwrap());
    let data = json!({"content": "token ghp_Zx8Qv2Lm5Rt7Wk1Pb4Nc6Hd9Jf3Gs0Ya2Ue5 ok", "same": "kept"});
    let event = json!({"type": "task:output", "task_id": "t", "data": data}).to_string();
    let said = desk.run(&event);
    assert!(
        said.out.contains(
            "  /content\n    - \"token ghp_Zx8Qv2Lm5Rt7Wk1Pb4Nc6Hd9Jf3Gs0Ya2Ue5 ok\"\n    + \"token [REDACTED:"
        ),
        "{}",
        said.out
    );
    assert!(!said.out.contains("/same") && said.out.contains("events  1 replace; 0 of them held"), "{}", said.out);
    let report = desk.run_json(&event);
    assert_eq!(report["plugin"]["role"], "redactor");
    assert_eq!(report["counts"].as_object().unwrap().len(), 1, "{report:#}");
    assert!(!report["events"].to_string().contains("ghp_"), "{report:#}");
}

#[test]
fn run_as_json_is_whole_and_always_the_same() {
    for (mode, key, expected) in [
        (
            "append",
            "files",
            json!({"t": {"f.txt": ["1700000000000-1\n", "1700000000000-3\n"]}, "u": {"f.txt": ["1700000000000-2\n"]}}),
        ),
        ("replace-extra", "files", json!({"t": {"f.txt": ["1700000000000-3"]}, "u": {"f.txt": ["1700000000000-2"]}})),
        ("annotate", "annotations", json!({"t": {"last": "1700000000000-3"}, "u": {"last": "1700000000000-2"}})),
        ("state-count", "state", json!({"t": "2", "u": "1"})),
        ("count", "counts", json!({"c": 6, "other": 9})),
        (
            "drop",
            "events",
            json!([
                {"code": "c", "id": "1700000000000-1", "kind": "task:output", "task": "t", "verdict": "drop"},
                {"code": "c", "id": "1700000000000-2", "kind": "task:output", "task": "u", "verdict": "drop"},
                {"code": "c", "id": "1700000000000-3", "kind": "task:output", "task": "t", "verdict": "drop"},
            ]),
        ),
        (
            "failure",
            "failures",
            json!([1, 3, 2].map(|n| json!({
                "class": "failure", "id": format!("1700000000000-{n}"), "message": "cannot take {\"content\":\"x\"}",
            }))),
        ),
        (
            "log",
            "logs",
            [1, 2, 3].map(|_| json!({"level": "error", "text": "{\"content\":\"x\"}"})).into_iter().collect(),
        ),
    ] {
        let desk = Desk::misbehaving(&format!("mode = '{mode}'\nfiles = ['f.txt']\ncodes = ['c']"));
        // The self-test would fail on every event: only the others are to.
        let desk = match mode {
            "failure" => Desk::misbehaving("mode = 'failure'\nmatch = 'x'"),
            _ => desk,
        };
        let events = [output("t", "x"), output("u", "x"), output("t", "x")].concat();
        let report = desk.run_json(&events);
        assert_eq!(report[key], expected, "{mode}: {report:#}");
        assert_eq!(report, desk.run_json(&events), "{mode}");
    }
}

#[test]
fn run_holds_and_flushes_as_a_lane_does() {
    let desk = Desk::misbehaving("role = 'redactor'\nmode = 'hold-until'\nmatch = 'part'\nuntil = 'end'");
    let (part, end) = (output("t", "part"), output("t", "part end"));
    let done = "{\"type\":\"task:completed\",\"task_id\":\"t\",\"data\":{}}\n";
    for (events, expected) in [
        (format!("{part}{end}"), vec!["pass", "pass"]),
        (format!("{part}\n{end}"), vec!["pass held 1", "pass"]),
        (format!("{part}\n{part}\n{end}"), vec!["pass held 2", "pass held 1", "pass"]),
        // The hold limit passes: flushed.
        (format!("{part}\n\n{part}"), vec!["pass held 1", "pass held 1"]),
        (format!("{part}\n{done}"), vec!["pass held 1", "pass"]),
        // Other tasks go their own way.
        (format!("{part}{}\n{end}", output("u", "free")), vec!["pass held 1", "pass", "pass"]),
        (part.repeat(64), vec!["pass held 1"; 64]),
    ] {
        assert_eq!(verdicts(&desk.run_json(&events)), expected, "{events}");
    }
}

#[test]
fn run_takes_ids_refuses_lines_and_shows_what_cannot_be_decoded() {
    let desk = Desk::misbehaving("mode = 'pass'");
    let events = "{\"id\":\"5-0\",\"type\":\"task:output\",\"task_id\":\"t\",\"data\":{}}\n\
                  {\"type\":\"task:output\",\"data\":{}}\n\
                  {\"type\":\"webhook:received\",\"webhook_event_id\":\"w\",\"data\":\"[1]\"}\n";
    let report = desk.run_json(events);
    assert_eq!(verdicts(&report), ["pass", "refused no_key", "refused not_an_object"]);
    let ids: Vec<&str> = report["events"].as_array().unwrap().iter().filter_map(|event| event["id"].as_str()).collect();
    assert_eq!(ids, ["5-0", "5-1", "5-2"]);
    assert_eq!(report["events"][2]["task"], "_webhooks/w");
    let said = desk.run("{\"type\":\"x:y\"}\nnonsense\n");
    assert_eq!((said.code, &*said.err), (1, "events.jsonl, line 2: not valid JSON\n"));
    let said = Desk::misbehaving("mode = 'init-fail'").run("{\"type\":\"x:y\"}\n");
    assert_eq!((said.code, &*said.err), (1, "p.wasm would be refused: init failed: failure: told to fail\n"));
}

#[test]
fn run_takes_a_recorded_task() {
    let desk = Desk::misbehaving("mode = 'stamp'\nversion = 'v'");
    let lines = "{\"timestamp\":\"2024-01-01T00:00:01Z\",\"type\":\"output\",\"content\":\"a\",\"id\":\"7-1\"}\n\
                 {\"timestamp\":\"2024-01-01T00:00:02Z\",\"type\":\"output\",\"content\":\"b\",\"id\":\"7-2\"}\n";
    desk.write("logs/t/03-agent-output.jsonl", lines.as_bytes());
    let said = desk.asked(&["run", "p.wasm", "--task", "logs/t", "--json"], &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let data: Vec<&Value> = report["events"].as_array().unwrap().iter().map(|event| &event["data"]).collect();
    assert_eq!(data, [&json!({"content": "a", "stamp": "v"}), &json!({"content": "b", "stamp": "v"})]);
    let said = desk.asked(&["run", "p.wasm", "--task", "logs/gone"], &[]);
    assert!(said.code == 1 && !said.err.is_empty(), "{}", said.err);
}

// === test ===

#[test]
fn golden_cases_are_blessed_compared_and_missed() {
    let desk = Desk::misbehaving("mode = 'stamp'\nversion = 'one'\nmatch = 'x'");
    let test = |env: &[(&str, &str)]| desk.asked(&["test", "p.wasm"], env);
    let said = test(&[]);
    assert!(said.code == 1 && said.out.contains("no cases in cases"), "{}", said.out);
    desk.write("cases/a/events.jsonl", output("t", "x").as_bytes());
    desk.write("cases/b/events.jsonl", output("t", "x").as_bytes());
    desk.write("cases/b/sidecar.toml", b"[config]\nmode = 'drop'\n");
    let said = test(&[]);
    assert!(said.code == 1 && said.out.contains("there is no expected.json"), "{}", said.out);
    let said = test(&[("BLESS", "1")]);
    assert!(said.code == 0 && said.out.contains("blessed  a\nblessed  b\n2 cases, 0 failed\n"), "{}", said.out);
    let expected = fs::read_to_string(desk.path("cases/a/expected.json")).unwrap();
    assert_eq!(expected, desk.asked(&["run", "p.wasm", "--events", "cases/a/events.jsonl", "--json"], &[]).out);
    let said = test(&[]);
    assert_eq!((said.code, &*said.out), (0, "ok       a\nok       b\n2 cases, 0 failed\n"));
    desk.write("cases/a/expected.json", expected.replace("\"stamp\": \"one\"", "\"stamp\": \"two\"").as_bytes());
    let said = test(&[]);
    let diff = "FAILED   a\n  differs from expected.json (-: expected, +: found; if that is meant: BLESS=1)\n    /events/0/data/stamp\n      - \"two\"\n      + \"one\"\n";
    assert!(said.code == 1 && said.out.contains(diff) && said.out.contains("2 cases, 1 failed"), "{}", said.out);
    // A version alone is no difference; a plugin that is refused is.
    let sidecar = "[config]\nmode = 'append'\nversion = '2'\n";
    let desk = Desk::new(misbehave(), &sidecar.replace('2', "1"));
    desk.write("cases/a/events.jsonl", output("t", "x").as_bytes());
    assert_eq!(desk.asked(&["test", "p.wasm"], &[("BLESS", "1")]).code, 0);
    desk.write("p.toml", sidecar.as_bytes());
    assert_eq!(desk.asked(&["test", "p.wasm"], &[]).code, 0);
    desk.write("p.toml", b"[config]\nmode = 'init-fail'\n");
    let said = desk.asked(&["test", "p.wasm"], &[]);
    assert!(said.code == 1 && said.err.contains("told to fail"), "{}", said.err);
}

#[test]
fn an_outcome_that_depends_on_isolation_or_on_cuts_is_found() {
    // Counts in its memory: what an instance must not carry over.
    let desk = Desk::misbehaving("mode = 'seen'");
    let events = format!("{}\n{}{}", output("t", "a"), output("t", "b"), output("t", "c"));
    desk.write("cases/a/events.jsonl", events.as_bytes());
    let said = desk.asked(&["test", "p.wasm"], &[("BLESS", "1")]);
    assert_eq!(said.code, 1, "{}", said.out);
    for how in ["with the other `isolation`", "one event a call", "all events in a call"] {
        assert!(said.out.contains(&format!("comes out otherwise {how}")), "{how}: {}", said.out);
    }
    // Holding is no difference, and neither is a state.
    for config in [
        "role = 'redactor'\nmode = 'hold-until'\nmatch = 'part'\nuntil = 'end'",
        "mode = 'state-count'",
        "mode = 'trap'\nmatch = 'part'",
    ] {
        let desk = Desk::misbehaving(config);
        let events = ["free", "part", "free", "part end"].map(|text| output("t", text)).concat();
        desk.write("cases/a/events.jsonl", events.as_bytes());
        let said = desk.asked(&["test", "p.wasm"], &[("BLESS", "1")]);
        assert_eq!(said.code, 0, "{config}: {}", said.out);
    }
}

// === bench ===

#[test]
fn bench_measures_and_its_fuel_is_the_same_every_time() {
    let desk = Desk::new(misbehave(), "isolation = 'reuse'\n[config]\nmode = 'pass'\n");
    let bench = |args: &[&str]| -> Value {
        let said = desk.asked(&[&["bench", "p.wasm", "--json"], args].concat(), &[]);
        // What the service would log of failures is on standard error.
        assert_eq!(said.code, 0, "{}", said.err);
        serde_json::from_str(&said.out).unwrap()
    };
    let (first, second) = (bench(&[]), bench(&[]));
    assert_eq!(first["load"], json!({"events": 1024, "calls": 64, "bytes": 1 << 20, "held": 0, "failed": 0}));
    for path in ["/reuse", "/call", "/crossing"] {
        for figure in ["events_per_second", "us_per_event_p50", "us_per_event_p99"] {
            let figure = format!("{path}/{figure}");
            assert!(first.pointer(&figure).and_then(Value::as_f64).is_some_and(|n| n > 0.0), "{figure}: {first:#}");
        }
    }
    for figure in
        ["instantiate_us", "compile_us", "cached_us", "component_bytes", "memory_bytes", "rss_bytes", "fuel_init"]
    {
        assert!(first[figure].as_f64().is_some_and(|n| n > 0.0), "{figure}: {first:#}");
    }
    for figure in ["fuel_init", "fuel_round", "fuel_per_event", "memory_bytes"] {
        assert_eq!(first[figure], second[figure], "{figure}");
    }
    // More to carry is more work, and a guest that fails is told.
    desk.write("e.jsonl", [output("t", "x"), output("u", "x"), output("t", "x")].concat().as_bytes());
    let small = bench(&["--events", "e.jsonl", "--batch", "2"]);
    assert_eq!((&small["load"]["events"], &small["load"]["calls"]), (&json!(3), &json!(2)));
    desk.write("p.toml", b"[config]\nmode = 'failure'\nmatch = 'x'\n");
    assert_eq!(bench(&["--events", "e.jsonl"])["load"]["failed"], 3);
    let said = desk.write("none.jsonl", b"\n").asked(&["bench", "p.wasm", "--events", "none.jsonl"], &[]);
    assert_eq!((said.code, &*said.err), (1, "there are no events to measure with\n"));
}
