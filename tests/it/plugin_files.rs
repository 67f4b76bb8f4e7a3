//! The plugin folder: what is refused and why, what is required, what stays when something breaks.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, SystemTime},
};

use task_logger::{
    config::Required,
    plugin::{Outcome, forget_in},
};

use crate::guests::{Stage, cpu_time, entry, eventually, misbehave, outputs, run};

const REDACTOR: &str = "[config]\nname = 'redact'\nrole = 'redactor'\nmode = 'stamp'\nversion = 'good'\n";

fn good() -> Outcome {
    Outcome::Replace("{\"content\":\"a\",\"stamp\":\"good\"}".to_owned())
}

fn refusal(stage: &mut Stage, file: &str) -> String {
    let host = stage.start();
    let entry = entry(&host, file).unwrap_or_else(|| panic!("{file} is in the report: {}", host.report()));
    assert_eq!(entry["state"], "refused", "{entry}");
    entry["refused"]["reason"].as_str().expect("a reason").to_owned()
}

#[test]
fn refused_candidates_say_why() {
    for (sidecar, reason) in [
        ("nosuch = true", "unknown field `nosuch`"),
        ("mode = 'shadow'\nrequired = true", "cannot be required"),
        ("mode = 'shadow'\n[config]\nrole = 'redactor'", "only beside an enforcing redactor of its name"),
        ("mode = 'shadow'\nkinds = ['task:*']\n[config]\nrole = 'redactor'", "narrows the kinds of a redactor"),
        ("sha256 = 'ff'", "write NAME.wasm first"),
        ("memory = '1MiB'", "init failed: memory"),
        ("[config]\nmode = 'bad-manifest'", "is not [a-z][a-z0-9-]{0,39}"),
        ("[config]\nmode = 'narrow-redactor'", "must want the kinds [\"*\"]"),
        ("kinds = ['task:*']\n[config]\nrole = 'redactor'", "narrows the kinds of a redactor"),
        ("on_failure = 'skip'\n[config]\nrole = 'redactor'", "never skipped"),
        ("kinds = ['webhook:*']\n[config]\nkinds = ['task:*']", "none in common"),
        ("[config]\nkinds = ['x*y']", "neither exact nor a prefix"),
        ("[config]\nfiles = ['metadata.json']", "is a standard one"),
        ("[config]\nfiles = ['Metadata.JSON']", "is a standard one"),
        ("[config]\nfiles = ['../x']", "is not [A-Za-z0-9]"),
        ("[config]\ncodes = ['No Code']", "code \"No Code\" is not"),
        ("[config]\nmode = 'init-fail'", "init failed: failure: told to fail"),
        ("[config]\nmode = 'init-trap'", "init failed: trap: wasm trap"),
        ("[config]\nmode = 'init-loop'", "init failed: timeout: ran past its time limit"),
        ("[config]\nmode = 'trap'", "self-test"),
        ("[config]\nmode = 'hold'\nrole = 'redactor'", "held on flush"),
        ("[config]\nmode = 'short'", "9 verdicts for 10 events"),
        ("[config]\nno-such-key = 1", "unknown field `no-such-key`"),
    ] {
        let mut stage = Stage::new();
        stage.put("p", sidecar);
        let said = refusal(&mut stage, "p.wasm");
        assert!(said.contains(reason), "{sidecar}: {said}");
    }
}

#[test]
fn a_candidate_whose_time_ran_out_is_tried_again_and_refused_once() {
    let mut stage = Stage::new();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    // A machine that is too busy for it, for a while.
    let until = (now + Duration::from_secs(4)).as_millis();
    stage.put("p", &format!("timeout = '20ms'\n[config]\nmode = 'wait'\nuntil = '{until}'\n"));
    stage.put("q", "[config]\nname = 'q'\nmode = 'trap'");
    let host = stage.start();
    let refused = entry(&host, "p.wasm").unwrap()["refused"].clone();
    assert!(refused["reason"].as_str().unwrap().contains("ran past its time limit"), "{refused}");
    eventually("it goes live when it does not run out of time any more", || {
        entry(&host, "p.wasm").unwrap()["state"] == "live"
    });
    assert_eq!(entry(&host, "q.wasm").unwrap()["state"], "refused", "what fails for good is not tried again");
}

#[test]
fn only_components_that_fit_are_taken() {
    let processor = "(instance (export \"init\" (func)) (export \"process\" (func)))";
    for (text, reason) in [
        ("(module)".to_owned(), "build it for wasm32-wasip2"),
        ("(component)".to_owned(), "does not export `task-logger:plugin/processor@1.0.0`"),
        ("(component (import \"wasi:http/types@0.2.0\" (instance)))".to_owned(), "imports `wasi:http/types@0.2.0`"),
        ("(component (import \"wasi:cli/stdin@0.3.0\" (instance)))".to_owned(), "imports `wasi:cli/stdin@0.3.0`"),
        ("(component (import \"env\" (func)))".to_owned(), "imports `env`"),
        (
            format!("(component (import \"wasi:cli/environment@0.2.0\" {processor}))"),
            "does not export `task-logger:plugin/processor@1.0.0`",
        ),
        (
            "(component (instance $i) (export \"task-logger:plugin/processor@1.0.0\" (instance $i)))".to_owned(),
            "does not fit the plugin interface",
        ),
    ] {
        let mut stage = Stage::new();
        stage.put_bytes("p.wasm", &wat::parse_str(&text).expect("WebAssembly text"));
        let said = refusal(&mut stage, "p.wasm");
        assert!(said.contains(reason), "{text}: {said}");
    }
    for bytes in [b"".as_slice(), b"\0asm", b"\x7fELF\x02\x01\x01\0", &misbehave()[..1000]] {
        let mut stage = Stage::new();
        stage.put_bytes("p.wasm", bytes);
        let said = refusal(&mut stage, "p.wasm");
        assert!(said.contains("is not a WebAssembly component") || said.contains("does not compile"), "{said}");
    }
}

#[test]
fn names_and_files_belong_to_one_plugin() {
    let mut stage = Stage::new();
    stage.put("b", "[config]\nname = 'x'\nfiles = []").put("c", "[config]\nname = 'y'\nfiles = ['shared.md']");
    stage.put("d", "[config]\nname = 'x'\nfiles = []").put("e", "[config]\nname = 'z'\nfiles = ['Shared.md']");
    let host = stage.start();
    let state = |file: &str| entry(&host, file).map(|entry| entry["state"].as_str().unwrap().to_owned());
    let states = || ["a", "b", "c", "d", "e"].map(|stem| state(&format!("{stem}.wasm")).unwrap_or_default());
    assert_eq!(states(), ["", "live", "live", "refused", "refused"]);
    let reason = entry(&host, "d.wasm").unwrap()["refused"]["reason"].to_string();
    assert!(reason.contains("b.wasm is already the plugin named"), "{reason}");
    // The later by file name is refused, also when it was there before.
    stage.put("a", "[config]\nname = 'x'\nfiles = []");
    eventually("a displaces b", || states()[..2] == ["live", "refused"]);
    // Whoever is next takes the name when it is free.
    stage.take("a.wasm");
    eventually("b is back", || states() == ["", "live", "live", "refused", "refused"]);
    stage.take("b.wasm").take("c.wasm");
    eventually("d and e follow", || states() == ["", "", "", "live", "live"]);
}

#[test]
fn a_broken_candidate_leaves_the_last_good_one_running() {
    let mut stage = Stage::new();
    stage.put("redact", REDACTOR);
    let host = stage.start();
    let mut lane = host.lane();
    stage.put_bytes("redact.wasm", b"not wasm");
    eventually("the reason is shown", || {
        entry(&host, "redact.wasm").unwrap()["refused"]["reason"].as_str().is_some_and(|s| s.contains("first bytes"))
    });
    assert_eq!(entry(&host, "redact.wasm").unwrap()["state"], "live");
    assert_eq!(run(&mut lane, &outputs(&["a"]), false).unwrap().outcomes, [good()]);
    // After a restart too, from the bytes that ran last.
    let host = stage.start();
    assert_eq!(entry(&host, "redact.wasm").unwrap()["state"], "degraded");
    assert_eq!(run(&mut host.lane(), &outputs(&["a"]), false).unwrap().outcomes, [good()]);
    assert!(stage.status.notices()["plugins"].contains("last good version"));
    stage.put_bytes("redact.wasm", misbehave());
    eventually("the file is good again", || entry(&host, "redact.wasm").unwrap()["state"] == "live");
    assert_eq!(entry(&host, "redact.wasm").unwrap().get("refused"), None);
}

#[test]
fn fail_closed_removing_a_redactor_stops_reading() {
    let mut stage = Stage::new();
    stage.put("redact", REDACTOR);
    let host = stage.start();
    let mut lane = host.lane();
    assert!(host.forget("redact").is_err(), "a live one cannot be forgotten");
    stage.take("redact.wasm");
    eventually("reading stops", || host.gate().is_err());
    assert!(run(&mut lane, &outputs(&["a"]), false).is_err(), "nothing passes raw");
    assert!(stage.status.blocked()["plugins"].contains("redact.wasm is gone"));
    // A restart does not forget.
    let host = stage.start();
    assert!(host.gate().is_err());
    assert_eq!(host.report()["missing"], serde_json::json!(["redact"]));
    // A broken file is no reason to run the old bytes of another name, a good one ends it.
    assert!(!host.forget("nosuch").unwrap());
    assert!(host.forget("redact").unwrap());
    assert!(host.gate().is_ok() && stage.status.blocked().is_empty());
    assert!(stage.status.notices().contains_key("redactor"), "that there is no redactor is said");
    assert!(stage.start().gate().is_ok(), "after a restart too");
}

#[test]
fn a_required_plugin_cannot_be_replaced_by_something_else() {
    let mut stage = Stage::new();
    stage.put("redact", REDACTOR);
    let host = stage.start();
    let refused = || entry(&host, "redact.wasm").unwrap()["refused"]["reason"].as_str().map(str::to_owned);
    stage.put_bytes("redact.toml", b"[config]\nname = 'redact'");
    eventually("a standard plugin is refused", || refused().is_some_and(|s| s.contains("is a live redactor")));
    stage.put_bytes("redact.toml", b"[config]\nname = 'other'\nrole = 'redactor'");
    eventually("another name is refused", || refused().is_some_and(|s| s.contains("required plugin \"redact\"")));
    assert_eq!(run(&mut host.lane(), &outputs(&["a"]), false).unwrap().outcomes, [good()]);
}

#[test]
fn requirements_by_list_by_sidecar_and_none() {
    let mut stage = Stage::new().required(Required::List(vec!["usage".to_owned()]));
    let host = stage.start();
    assert!(host.gate().unwrap_err().reason.contains("no file in PLUGINS_DIR is that plugin"));
    assert!(host.forget("usage").is_err(), "the operator's list stands");
    stage.put("u", "[config]\nname = 'usage'\nfiles = []");
    eventually("the plugin is there", || host.gate().is_ok());
    // A redactor is not on the list, a sidecar's wish counts beside it.
    stage.put("redact", REDACTOR).put("s", "required = true\n[config]\nname = 's'\nfiles = []");
    eventually("all are live", || host.report()["chain"].as_array().unwrap().len() == 3);
    assert_eq!(host.report()["required"], serde_json::json!(["s", "usage"]));
    stage.take("redact.wasm");
    eventually("the redactor is gone", || host.report()["chain"].as_array().unwrap().len() == 2);
    assert!(host.gate().is_ok());
    stage.take("s.wasm");
    eventually("the sidecar's wish stops reading", || host.gate().is_err());
    let mut stage = stage.required(Required::None);
    assert!(stage.start().gate().is_ok());
    assert!(stage.status.notices()["plugins"].contains("REQUIRED_PLUGINS=none"));
}

#[test]
fn a_requirement_can_be_lifted_where_no_service_runs() {
    let mut stage = Stage::new();
    stage.put("redact", REDACTOR);
    stage.start().stop();
    stage.take("redact.wasm");
    assert!(stage.start().gate().is_err());
    let state = stage.path("state");
    assert_eq!(fs::metadata(state.join("plugins")).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(forget_in(&state, "redact").unwrap());
    assert!(!forget_in(&state, "redact").unwrap());
    assert!(stage.start().gate().is_ok());
}

#[test]
fn a_redactor_that_fails_too_often_is_taken_back() {
    let mut stage = Stage::new();
    stage.put("redact", REDACTOR);
    let host = stage.start();
    let mut lane = host.lane();
    let bad =
        "[config]\nname = 'redact'\nrole = 'redactor'\nmode = 'trap'\nversion = 'bad'\nmatch = 'a'\nkinds = ['*']";
    // The self-test's data has no `"content":"a"`: it proves well and fails on real events.
    stage.put_bytes("redact.toml", bad.replace("'a'", "'nt\":\"a'").as_bytes());
    eventually("the bad version is live", || entry(&host, "redact.wasm").unwrap()["version"] == "bad");
    for n in 1..=4 {
        let decided = run(&mut lane, &outputs(&["a"]), false).unwrap();
        assert!(matches!(decided.outcomes[..], [Outcome::Dead { .. }]), "{n}");
    }
    assert!(run(&mut lane, &outputs(&["a"]), false).is_err(), "the fifth in a row is not quarantined");
    assert_eq!(run(&mut lane, &outputs(&["a"]), false).unwrap().outcomes, [good()], "the version before it returned");
    let shown = entry(&host, "redact.wasm").unwrap();
    assert!(shown["refused"]["reason"].as_str().unwrap().contains("failed on too many events"), "{shown}");
    assert!(host.gate().is_ok());
    // It does not come again by itself.
    let seen = host.wait_changed(0, Duration::ZERO);
    assert_eq!(host.wait_changed(seen, Duration::from_millis(2500)), seen);
    assert_eq!(run(&mut lane, &outputs(&["a"]), false).unwrap().outcomes, [good()]);
    // Nor by a restart, but when the operator says so.
    let host = stage.start();
    assert_eq!(run(&mut host.lane(), &outputs(&["a"]), false).unwrap().outcomes, [good()]);
    let shown = entry(&host, "redact.wasm").unwrap();
    assert!(shown["refused"]["reason"].as_str().unwrap().contains("was taken back before"), "{shown}");
    host.rescan();
    eventually("it has another chance", || entry(&host, "redact.wasm").unwrap()["version"] == "bad");
}

#[test]
fn a_guest_sees_no_more_memory_than_its_sidecar_says() {
    let mut stage = Stage::new();
    for (stem, memory) in [("small", "8MiB"), ("large", "1GiB")] {
        let config = format!("name = '{stem}'\nfiles = []\nmode = 'memory'\nmatch = 'poison'");
        stage.put(stem, &format!("memory = '{memory}'\n[config]\n{config}"));
    }
    let host = stage.start();
    assert_eq!(entry(&host, "small.wasm").unwrap()["memory_bytes"], 8 << 20);
    assert_eq!(entry(&host, "large.wasm").unwrap()["memory_bytes"], 64 << 20, "the operator's ceiling");
    let decided = run(&mut host.lane(), &outputs(&["poison"]), false).unwrap();
    let dead = |plugin: &str, code: &str| Outcome::Dead {
        reason: "plugin_failed",
        plugin: plugin.into(),
        code: code.to_owned(),
    };
    assert_eq!(decided.outcomes, [dead("large", "memory")]);
}

#[test]
fn a_first_redactor_that_fails_too_often_stops_reading() {
    let mut stage = Stage::new();
    stage.put("redact", "[config]\nname = 'redact'\nrole = 'redactor'\nmode = 'loop'\nmatch = 'poison'");
    let host = stage.start();
    let mut lane = host.lane();
    let poison = outputs(&["poison"; 64]);
    let began = cpu_time();
    assert!(run(&mut lane, &poison, false).is_err());
    assert!(cpu_time() - began < Duration::from_secs(8), "64 endless loops do not each run to their deadline");
    assert!(host.gate().unwrap_err().reason.contains("failed on too many events"));
    // The operator may try again, and 4 in 100 are no reason to stop.
    host.rescan();
    assert!(host.gate().is_ok());
    let mut contents = vec!["fine"; 200];
    for at in [10, 60, 110, 160] {
        contents[at] = "poison";
    }
    let decided = run(&mut lane, &outputs(&contents), true).unwrap();
    assert_eq!(decided.outcomes.iter().filter(|outcome| **outcome != Outcome::Pass).count(), 4);
}

#[test]
fn links_inside_the_folder_only_and_regular_files_only() {
    let mut stage = Stage::new();
    let outside = stage.path("outside.wasm");
    fs::write(&outside, misbehave()).unwrap();
    std::os::unix::fs::symlink(&outside, stage.folder().join("link.wasm")).unwrap();
    assert!(refusal(&mut stage, "link.wasm").contains("links must stay in the folder"));
    fs::create_dir(stage.folder().join("dir.wasm")).unwrap();
    assert!(refusal(&mut stage, "dir.wasm").contains("not a regular file"));
    let pipe = stage.folder().join("pipe.wasm");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    assert!(refusal(&mut stage, "pipe.wasm").contains("not a regular file"));
    stage.put_bytes(".hidden.wasm", misbehave());
    stage.put_bytes("half.wasm.tmp", misbehave());
    assert_eq!(stage.start().report()["chain"], serde_json::json!([]));
}

#[test]
fn config_maps_are_swapped_by_their_link() {
    let mut stage = Stage::new();
    let folder = stage.folder();
    let version = |n: &str| {
        let dir = folder.join(format!("..{n}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("redact.wasm"), misbehave()).unwrap();
        fs::write(dir.join("redact.toml"), REDACTOR.replace("good", n)).unwrap();
        let link = folder.join("..data_tmp");
        std::os::unix::fs::symlink(format!("..{n}"), &link).unwrap();
        fs::rename(&link, folder.join("..data")).unwrap();
    };
    version("one");
    for file in ["redact.wasm", "redact.toml"] {
        std::os::unix::fs::symlink(format!("..data/{file}"), folder.join(file)).unwrap();
    }
    let host = stage.start();
    assert_eq!(entry(&host, "redact.wasm").unwrap()["version"], "one");
    version("two");
    eventually("the new data is live", || entry(&host, "redact.wasm").unwrap()["version"] == "two");
}

#[test]
fn a_folder_may_come_later() {
    let mut stage = Stage::new();
    fs::remove_dir(stage.folder()).unwrap();
    let host = stage.start();
    fs::create_dir(stage.folder()).unwrap();
    stage.put("redact", REDACTOR);
    eventually("it is seen", || host.report()["chain"] == serde_json::json!(["redact"]));
    fs::rename(stage.folder(), stage.path("old")).unwrap();
    eventually("it is missed", || host.gate().is_err());
    fs::rename(stage.path("old"), stage.folder()).unwrap();
    eventually("it is seen again", || host.gate().is_ok());
}

#[test]
fn compiles_in_a_child_and_caches() {
    let mut stage = Stage::new().with_child();
    stage.put("redact", REDACTOR);
    let host = stage.start();
    assert_eq!(run(&mut host.lane(), &outputs(&["a"]), false).unwrap().outcomes, [good()]);
    let cache = stage.path("cache");
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    let cached = || fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let [file] = &cached()[..] else { panic!("one compiled component: {:?}", cached()) };
    // A damaged one is compiled again.
    let whole = fs::read(file).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(file, damaged).unwrap();
    let host = stage.start();
    assert_eq!(run(&mut host.lane(), &outputs(&["a"]), false).unwrap().outcomes, [good()]);
    assert!(fs::read(file).unwrap() == whole, "the cache is whole again");
    // The child's reason is shown.
    let mut bad = misbehave().to_vec();
    let at = bad.len() / 2;
    bad[at..at + 64].fill(0xff);
    stage.put_bytes("bad.wasm", &bad);
    let said = refusal(&mut stage, "bad.wasm");
    assert!(said.contains("does not compile"), "{said}");
}
