//! The guide, as a new user follows it: every block of `plugins/README.md` that is marked `run=…` is executed, those of one mark
//! as one shell session, against a running service. And the README's whole plugin is built as it stands there.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use crate::rig::{Node, Rig, target_dir};

/// What stands between a user and `task-logger` in a session: the tools of a template are set up already, as `make conformance`
/// has them, and what was published a moment ago may still be on its way into the logs.
const WRAPPER: &str = r#"#!/bin/bash
set -eu
if [ "${1:-} ${2:-}" = "plugin new" ]; then
  "$REAL" "$@"
  made="${!#}"
  if [ -e "$made/requirements.txt" ] && [ -e "$made/pyproject.toml" ]; then
    ln -s "$TOOLS/python/.venv" "$made/.venv"; touch -d 2000-01-01 "$made/requirements.txt"
  elif [ -e "$made/package.json" ]; then
    ln -s "$TOOLS/js/node_modules" "$made/node_modules"; touch -d 2000-01-01 "$made/package.json" "$made/package-lock.json"
  elif [ -e "$made/Cargo.toml" ]; then
    mkdir -p "$TOOLS/rust"; ln -s "$TOOLS/rust" "$made/target"; cp "$ROOT/Cargo.lock" "$made/"
  fi
elif [ "${1:-}" = logs ]; then
  for try in $(seq 600); do
    "$REAL" "$@" 2>/dev/null && exit 0
    sleep 0.05
  done
  exec "$REAL" "$@"
else
  exec "$REAL" "$@"
fi
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The fenced blocks of a text whose first line begins so, in order, joined.
fn blocks(text: &str, fence: &str) -> String {
    let mut found = String::new();
    let mut inside = false;
    for line in text.lines() {
        match (inside, line.strip_prefix("```")) {
            (false, Some(info)) => {
                inside = info == fence || info.strip_prefix(fence).is_some_and(|r| r.starts_with(' '))
            }
            (true, Some(_)) => inside = false,
            (true, None) => found.extend([line, "\n"]),
            (false, None) => {}
        }
    }
    found
}

/// What the language needs beyond the service, if it is not there.
fn lacks(language: &str) -> Option<&'static str> {
    let tools = target_dir().join("tools");
    match language {
        "python" if !tools.join("python/.venv/done").is_file() => Some("make conformance-python"),
        "js" if !tools.join("js/node_modules/.done").is_file() => Some("make conformance-js"),
        "c" => {
            let probe = "echo 'int main(void) { return 0; }' | clang --target=wasm32-wasi -x c - -o /dev/null";
            let works = Command::new("sh").args(["-c", probe]).output().is_ok_and(|probe| probe.status.success());
            (!works).then_some("make setup-c")
        }
        _ => None,
    }
}

/// Runs a session in a folder of the rig's; its output.
fn session(rig: &Rig, node: &Node, script: &str) -> String {
    let bin = rig.root().join("bin");
    let desk = rig.root().join("desk");
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(&desk).unwrap();
    let wrapper = bin.join("task-logger");
    fs::write(&wrapper, WRAPPER).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = rig.command(&[]);
    let given: Vec<_> =
        command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
    command = Command::new("bash");
    command.args(["-euxo", "pipefail", "-c", script]).current_dir(&desk).env_clear();
    command.envs(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
    for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "LANG", "TMPDIR"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    let path = [bin.display().to_string(), std::env::var("PATH").unwrap()].join(":");
    // Everything that a new plugin's folder needs was fetched when the service and the tools were built.
    command.env("PATH", path).env("CARGO_NET_OFFLINE", "true").env("TOOLS", target_dir().join("tools"));
    command.env("REAL", env!("CARGO_BIN_EXE_task-logger")).env("ROOT", root()).env("TASK_LOGGER_URL", node.url());
    let done = command.output().unwrap();
    let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{}\n{text}", done.status);
    text
}

fn guide() -> String {
    fs::read_to_string(root().join("plugins/README.md")).unwrap()
}

/// The five-minute path of a language: from nothing to a live plugin in under five commands, then what it does.
#[track_caller]
fn five_minutes(language: &str) {
    if let Some(set_up) = lacks(language) {
        assert!(std::env::var("REQUIRE_GUESTS").as_deref() != Ok("1"), "{language}: run `{set_up}`");
        return eprintln!("SKIPPED: {language}: run `{set_up}`");
    }
    let script = blocks(&guide(), &format!("sh run={language}"));
    let install = script.lines().position(|line| line.starts_with("task-logger plugin install ")).unwrap();
    assert!(install + 1 < 5, "{} commands until the plugin is live", install + 1);
    let rig = Rig::embedded().with_bundled(&["redact"]);
    let node = rig.spawn_owner();
    let text = session(&rig, &node, &script);
    assert!(text.contains("live after "), "{text}");
    // What was published says the word, what is logged does not.
    let logged: String = text.lines().filter(|line| !line.starts_with('+')).collect();
    assert!(logged.contains("my password is [REDACTED]"), "{text}");
    let report = node.json("/plugins");
    let live = report["plugins"].as_array().unwrap().iter().filter(|plugin| plugin["state"] == "live").count();
    assert!(live >= 2, "{report:#}");
}

#[test]
fn the_guide_works_in_rust() {
    five_minutes("rust");
}

#[test]
fn the_guide_works_in_python() {
    five_minutes("python");
}

#[test]
fn the_guide_works_in_javascript() {
    five_minutes("js");
}

#[test]
fn the_guide_works_in_c() {
    five_minutes("c");
}

#[test]
fn every_command_of_the_guide_is_run() {
    let text = guide();
    for line in text.lines().filter(|line| line.starts_with("```sh") || line.starts_with("```bash")) {
        let mark = line.strip_prefix("```sh run=").unwrap_or_else(|| panic!("not run by any test: {line}"));
        assert!(["rust", "python", "js", "c"].contains(&mark), "{line}");
    }
}

#[test]
fn the_readmes_plugin_is_whole() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let source = blocks(&readme, "rust plugin");
    assert!((10..=20).contains(&source.lines().filter(|line| !line.trim().is_empty()).count()), "{source}");
    let rig = Rig::embedded();
    let node = rig.spawn_owner();
    let desk: PathBuf = rig.root().join("desk/mine");
    session(&rig, &node, "task-logger plugin new --lang rust mine");
    // Its own folder for what is built: another test builds the template's own source under the same crate name.
    fs::remove_file(desk.join("target")).unwrap();
    let built = target_dir().join("tools/readme");
    fs::create_dir_all(&built).unwrap();
    symlink(built, desk.join("target")).unwrap();
    fs::write(desk.join("src/lib.rs"), &source).unwrap();
    fs::remove_file(desk.join("src/tests.rs")).unwrap();
    let text =
        session(&rig, &node, "cd mine && make && task-logger plugin run mine.wasm --events cases/words/events.jsonl");
    assert!(text.contains("[REDACTED]"), "{text}");
}
