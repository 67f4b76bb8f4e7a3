//! Signatures: what runs with `PLUGIN_TRUSTED_KEYS` and what does not, after restarts and with other keys too; keys and
//! signatures of `plugin keygen` and `plugin sign`, and of the `minisign` tool.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use sha2::{Digest, Sha256};
use task_logger::plugin::{Outcome, PluginHost};
use tempfile::TempDir;

use crate::guests::{Stage, entry, eventually, misbehave, outputs, run};

/// A folder with a key, to sign in.
struct Desk {
    dir: TempDir,
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_task-logger"));
    command.env_clear().current_dir(dir).args(args);
    command
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn done(mut command: Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{command:?}: {out}{err}");
    out
}

#[track_caller]
fn fails(mut command: Command, reason: &str) {
    let output = command.output().unwrap();
    let (out, err) = texts(&output);
    assert!(!output.status.success() && err.contains(reason), "{command:?}: {out}{err}");
}

/// Whether `minisign` is there; `make test` installs it and sets the variable.
fn minisign(dir: &Path, args: &[&str]) -> Option<Output> {
    let made = Command::new("minisign").current_dir(dir).args(args).output();
    match made {
        Ok(output) => Some(output),
        Err(error) => {
            assert!(std::env::var_os("REQUIRE_MINISIGN").is_none(), "minisign: {error}");
            eprintln!("skipped: no minisign ({error})");
            None
        }
    }
}

impl Desk {
    fn new() -> Self {
        let desk = Self { dir: tempfile::tempdir().unwrap() };
        done(command(desk.path(), &["plugin", "keygen", "-W"]));
        desk
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The public key's file, for the setting.
    fn key(&self) -> String {
        self.path().join("plugin.pub").to_str().unwrap().to_owned()
    }

    fn key_id(&self) -> String {
        let text = fs::read_to_string(self.key()).unwrap();
        text.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned()
    }

    /// Signs a pair; the files with their signatures, component last.
    fn sign(&self, stem: &str, wasm: &[u8], sidecar: Option<&str>) -> Vec<(String, Vec<u8>)> {
        let (component, beside) = (format!("{stem}.wasm"), format!("{stem}.toml"));
        fs::write(self.path().join(&component), wasm).unwrap();
        match sidecar {
            Some(text) => fs::write(self.path().join(&beside), text).unwrap(),
            None => drop(fs::remove_file(self.path().join(&beside))),
        }
        done(command(self.path(), &["plugin", "sign", &component]));
        let names = match sidecar {
            Some(_) => vec![format!("{beside}.minisig"), beside, format!("{component}.minisig"), component],
            None => vec![format!("{component}.minisig"), component],
        };
        names.into_iter().map(|name| (name.clone(), fs::read(self.path().join(name)).unwrap())).collect()
    }
}

fn sidecar(version: &str) -> String {
    format!("[config]\nname = 'redact'\nrole = 'redactor'\nmode = 'stamp'\nversion = '{version}'\n")
}

fn put(stage: &Stage, files: &[(String, Vec<u8>)]) {
    for (name, bytes) in files {
        stage.put_bytes(name, bytes);
    }
}

fn reason(host: &PluginHost) -> String {
    let entry = entry(host, "redact.wasm").unwrap_or_default();
    entry["refused"]["reason"].as_str().unwrap_or_default().to_owned()
}

fn shown(host: &PluginHost, key: &str) -> Value {
    entry(host, "redact.wasm").map(|entry| entry[key].clone()).unwrap_or_default()
}

/// What an event is stamped with.
fn stamp(host: &PluginHost) -> String {
    let outcomes = run(&mut host.lane(), &outputs(&["a"]), false).unwrap().outcomes;
    let [Outcome::Replace(data)] = &outcomes[..] else { panic!("{outcomes:?}") };
    serde_json::from_str::<Value>(data).unwrap()["stamp"].as_str().unwrap().to_owned()
}

fn variant(n: u8) -> Vec<u8> {
    [misbehave(), &[0, 3, 1, b'v', n]].concat()
}

#[test]
fn only_what_a_trusted_key_signed_loads() {
    let (ours, theirs) = (Desk::new(), Desk::new());
    let good = ours.sign("redact", misbehave(), Some(&sidecar("good")));
    let foreign = theirs.sign("redact", misbehave(), Some(&sidecar("good")));
    let without = |name: &str| good.iter().filter(|(file, _)| file != name).cloned().collect::<Vec<_>>();
    let altered = |name: &str, with: &[u8]| {
        let mut files = without(name);
        files.push((name.to_owned(), with.to_vec()));
        files
    };
    let weaker = sidecar("good") + "allow = 'everything'\n";
    for (files, said) in [
        (without("redact.wasm.minisig"), "redact.wasm is not signed, and PLUGIN_TRUSTED_KEYS is set"),
        (without("redact.toml.minisig"), "redact.toml is not signed, and PLUGIN_TRUSTED_KEYS is set"),
        (without("redact.toml"), "redact.wasm was signed with a sidecar, which is missing"),
        (altered("redact.wasm", &variant(1)), "redact.wasm does not fit its signature by key"),
        (altered("redact.toml", weaker.as_bytes()), "redact.toml does not fit its signature by key"),
        (altered("redact.wasm.minisig", b"signed, believe me"), "not in minisign's format"),
        (altered("redact.wasm.minisig", &[b'x'; 40 << 10]), "redact.wasm.minisig is larger than 32 KiB"),
        (foreign, &format!("is signed by key {}, which is not in PLUGIN_TRUSTED_KEYS", theirs.key_id())),
    ] {
        let mut stage = Stage::new().trusting(&ours.key());
        put(&stage, &files);
        let host = stage.start();
        assert!(reason(&host).contains(said), "{said}: {}", reason(&host));
        assert_eq!(host.report()["chain"], serde_json::json!([]), "{said}");
    }
    let mut stage = Stage::new().trusting(&ours.key());
    put(&stage, &good);
    let host = stage.start();
    assert_eq!(shown(&host, "state"), "live", "{}", reason(&host));
    assert_eq!((shown(&host, "signed_by"), shown(&host, "trusted")), (ours.key_id().into(), true.into()));
    assert_eq!(host.report()["trusted_keys"], serde_json::json!([ours.key_id()]));
    // Without keys anything runs, and whose signature lies there is shown.
    let mut stage = Stage::new();
    put(&stage, &altered("redact.toml", weaker.replace("allow", "match").as_bytes()));
    let host = stage.start();
    assert_eq!((shown(&host, "signed_by"), shown(&host, "trusted")), (ours.key_id().into(), false.into()));
}

#[test]
fn a_signature_may_come_after_and_may_go() {
    let desk = Desk::new();
    let mut stage = Stage::new().trusting(&desk.key());
    let host = stage.start();
    let files = desk.sign("redact", misbehave(), Some(&sidecar("one")));
    let signature = files.iter().find(|(name, _)| name == "redact.wasm.minisig").unwrap().clone();
    put(&stage, &files.iter().filter(|file| **file != signature).cloned().collect::<Vec<_>>());
    eventually("it is refused", || reason(&host).contains("is not signed"));
    put(&stage, &[signature]);
    eventually("it is live", || shown(&host, "state") == "live");
    assert_eq!(reason(&host), "");
    // A version without a signature changes nothing, nor does a signature that is taken away.
    stage.put_bytes("redact.toml", sidecar("two").as_bytes());
    eventually("the other version is refused", || reason(&host).contains("redact.toml does not fit"));
    assert_eq!(stamp(&host), "one");
    put(&stage, &files);
    eventually("it is as before", || reason(&host).is_empty());
    stage.take("redact.wasm.minisig");
    eventually("the signature is missed", || reason(&host).contains("is not signed"));
    assert_eq!(stamp(&host), "one");
}

#[test]
fn halves_of_two_signed_versions_do_not_mix() {
    let desk = Desk::new();
    let one = desk.sign("redact", &variant(1), Some(&sidecar("one")));
    let two = desk.sign("redact", &variant(2), Some(&sidecar("two")));
    let bare = desk.sign("redact", &variant(3), None);
    let half = |files: &[(String, Vec<u8>)], name: &str| -> Vec<_> {
        files.iter().filter(|(file, _)| file.starts_with(name)).cloned().collect()
    };
    for (wasm, sidecar, said) in [
        (&one, &two, "was signed with another version of its sidecar"),
        (&two, &one, "was signed with another version of its sidecar"),
        (&bare, &one, "was signed as a plugin without a sidecar"),
        (&one, &bare, "was signed with a sidecar, which is missing"),
    ] {
        let mut stage = Stage::new().trusting(&desk.key());
        put(&stage, &half(sidecar, "redact.toml"));
        put(&stage, &half(wasm, "redact.wasm"));
        let host = stage.start();
        assert!(reason(&host).contains(said), "{said}: {}", reason(&host));
    }
}

#[test]
fn last_good_bytes_need_todays_keys() {
    let (old, new) = (Desk::new(), Desk::new());
    let mut stage = Stage::new().trusting(&old.key());
    put(&stage, &old.sign("redact", misbehave(), Some(&sidecar("one"))));
    let host = stage.start();
    assert_eq!(shown(&host, "state"), "live");
    // Broken at the start: the last good one runs, by its kept signature.
    stage.put_bytes("redact.wasm", b"broken");
    let host = stage.start();
    assert_eq!((shown(&host, "state"), shown(&host, "trusted")), ("degraded".into(), true.into()));
    // The key was revoked: neither the file nor the last good one runs, and nothing is read.
    let mut stage = stage.trusting(&new.key());
    let host = stage.start();
    assert_eq!(shown(&host, "state"), "refused");
    assert!(host.gate().is_err(), "fail closed: a required redactor is missing");
    // Signed anew by the new key while both are trusted: then the old one may go.
    put(&stage, &old.sign("redact", misbehave(), Some(&sidecar("one"))));
    let mut stage = stage.trusting(&format!("{},{}", old.key(), new.key()));
    let host = stage.start();
    assert_eq!((shown(&host, "state"), shown(&host, "signed_by")), ("live".into(), old.key_id().into()));
    put(&stage, &new.sign("redact", misbehave(), Some(&sidecar("one"))));
    eventually("the new signature is seen", || shown(&host, "signed_by") == new.key_id());
    stage.put_bytes("redact.wasm", b"broken");
    let mut stage = stage.trusting(&new.key());
    let host = stage.start();
    assert_eq!((shown(&host, "state"), shown(&host, "signed_by")), ("degraded".into(), new.key_id().into()));
    assert!(host.gate().is_ok());
}

#[test]
fn last_good_bytes_of_a_time_without_keys_do_not_run_with_them() {
    let desk = Desk::new();
    let mut stage = Stage::new();
    stage.put("redact", &sidecar("one"));
    assert_eq!(shown(&stage.start(), "state"), "live");
    stage.put_bytes("redact.wasm", b"broken");
    assert_eq!(shown(&stage.start(), "state"), "degraded");
    let mut stage = stage.trusting(&desk.key());
    let host = stage.start();
    assert_eq!(shown(&host, "state"), "refused");
    assert!(host.gate().is_err());
}

#[test]
fn what_minisign_signs_runs_and_it_verifies_ours() {
    let desk = Desk::new();
    let dir = desk.path();
    desk.sign("redact", misbehave(), Some(&sidecar("one")));
    for file in ["redact.wasm", "redact.toml"] {
        let Some(output) = minisign(dir, &["-V", "-p", "plugin.pub", "-m", file]) else { return };
        let (out, err) = texts(&output);
        assert!(output.status.success() && out.contains("Trusted comment: timestamp:"), "{out}{err}");
    }
    // Our key signs in its hands.
    let sign = |args: &[&str]| {
        let output = minisign(dir, &[&["-S", "-s", "plugin.key", "-m", "redact.wasm"], args].concat()).unwrap();
        assert!(output.status.success(), "{:?}", texts(&output));
    };
    let read = |names: &[&str]| -> Vec<_> {
        names.iter().map(|name| ((*name).to_owned(), fs::read(dir.join(name)).unwrap())).collect()
    };
    let start = |files: &[(String, Vec<u8>)], keys: &str| {
        let mut stage = Stage::new().trusting(keys);
        put(&stage, files);
        let host = stage.start();
        (shown(&host, "state"), reason(&host))
    };
    sign(&["-l"]);
    let (state, said) = start(&read(&["redact.wasm.minisig", "redact.wasm"]), &desk.key());
    assert!(state == "refused" && said.contains("legacy format"), "{said}");
    sign(&[]);
    let (state, said) = start(&read(&["redact.wasm.minisig", "redact.wasm"]), &desk.key());
    assert_eq!((state, &*said), ("live".into(), ""), "nothing says that there was a sidecar");
    let all = ["redact.toml.minisig", "redact.toml", "redact.wasm.minisig", "redact.wasm"];
    let (_, said) = start(&read(&all), &desk.key());
    assert!(said.contains("nothing that is signed says that redact.wasm and its sidecar belong together"), "{said}");
    let digest: String = Sha256::digest(misbehave()).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(dir.join("redact.toml"), format!("sha256 = '{digest}'\n{}", sidecar("one"))).unwrap();
    minisign(dir, &["-S", "-s", "plugin.key", "-m", "redact.toml"]);
    assert_eq!(start(&read(&all), &desk.key()), ("live".into(), String::new()));
    // Its key signs in ours.
    minisign(dir, &["-G", "-W", "-p", "tool.pub", "-s", "tool.key"]);
    done(command(dir, &["plugin", "sign", "redact.wasm", "--key", "tool.key"]));
    let key = dir.join("tool.pub");
    assert_eq!(start(&read(&all), key.to_str().unwrap()), ("live".into(), String::new()));
    let output = minisign(dir, &["-V", "-p", "tool.pub", "-m", "redact.wasm"]).unwrap();
    assert!(output.status.success(), "{:?}", texts(&output));
}

#[test]
fn encrypted_keys_are_minisigns_too() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("password"), "correct horse battery\n").unwrap();
    fs::write(dir.join("p.wasm"), misbehave()).unwrap();
    let said = done(command(dir, &["plugin", "keygen", "--password-file", "password"]));
    let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("plugin.key"), 0o600);
    let secret = fs::read_to_string(dir.join("plugin.key")).unwrap();
    assert!(secret.starts_with("untrusted comment: minisign encrypted secret key "), "{secret}");
    assert!(!said.contains(secret.lines().nth(1).unwrap()) && !said.contains("horse"), "no secret is printed: {said}");
    assert!(said.contains(fs::read_to_string(dir.join("plugin.pub")).unwrap().lines().nth(1).unwrap()));
    // Never over another key.
    fails(command(dir, &["plugin", "keygen", "-W"]), "plugin.key is there already");
    fs::rename(dir.join("plugin.key"), dir.join("kept.key")).unwrap();
    fails(command(dir, &["plugin", "keygen", "-W"]), "plugin.pub is there already");
    assert!(!dir.join("plugin.key").try_exists().unwrap());
    fs::rename(dir.join("kept.key"), dir.join("plugin.key")).unwrap();
    // The password comes from a file or the environment, or not at all.
    let sign = || command(dir, &["plugin", "sign", "p.wasm"]);
    fails(sign(), "no password");
    let with = |password: &str| {
        let mut command = sign();
        command.env("PLUGIN_KEY_PASSWORD", password);
        command
    };
    fails(with("wrong"), "does not open with this password");
    assert!(!dir.join("p.wasm.minisig").try_exists().unwrap());
    done(with("correct horse battery"));
    done(command(dir, &["plugin", "sign", "p.wasm", "--password-file", "password"]));
    fs::write(dir.join("empty"), "\n").unwrap();
    fails(command(dir, &["plugin", "keygen", "--out", "e.key", "--password-file", "empty"]), "the password is empty");
    fails(command(dir, &["plugin", "sign", "plugin.key"]), "does not end in .wasm");
    fails(command(dir, &["plugin", "sign", "p.wasm", "--key", "plugin.pub"]), "is a public key");
    fails(command(dir, &["plugin", "sign", "none.wasm"]), "cannot read");
    // minisign asks on standard input where there is no terminal.
    let Some(output) = minisign(dir, &["-V", "-p", "plugin.pub", "-m", "p.wasm"]) else { return };
    assert!(output.status.success(), "{:?}", texts(&output));
    let typed = |args: &[&str], lines: &str| {
        use std::{io::Write as _, process::Stdio};
        let mut child = Command::new("minisign");
        child.current_dir(dir).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{args:?}: {:?}", texts(&output));
    };
    typed(&["-S", "-s", "plugin.key", "-m", "p.wasm", "-x", "theirs"], "correct horse battery\n");
    fs::copy(dir.join("theirs"), dir.join("p.wasm.minisig")).unwrap();
    let mut stage = Stage::new().trusting(dir.join("plugin.pub").to_str().unwrap());
    for name in ["p.wasm.minisig", "p.wasm"] {
        stage.put_bytes(name, &fs::read(dir.join(name)).unwrap());
    }
    assert_eq!(stage.start().report()["plugins"][0]["trusted"], true);
    typed(&["-G", "-p", "tool.pub", "-s", "tool.key"], "another password\nanother password\n");
    let mut ours = command(dir, &["plugin", "sign", "p.wasm", "--key", "tool.key"]);
    ours.env("PLUGIN_KEY_PASSWORD", "another password");
    done(ours);
    let output = minisign(dir, &["-V", "-p", "tool.pub", "-m", "p.wasm"]).unwrap();
    assert!(output.status.success(), "{:?}", texts(&output));
}

#[test]
fn a_bad_key_in_the_setting_ends_the_start_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let start = |keys: &str| {
        let mut command = command(dir.path(), &["serve"]);
        command.env("PLUGIN_TRUSTED_KEYS", keys).env("PORT", "0");
        command
    };
    fails(start("RWQnot-a-key"), "PLUGIN_TRUSTED_KEYS=\"RWQnot-a-key\" is not valid");
    fails(start("/no/such.pub"), "PLUGIN_TRUSTED_KEYS=\"/no/such.pub\" is not valid");
    done(command(dir.path(), &["plugin", "keygen", "-W"]));
    let secret: PathBuf = dir.path().join("plugin.key");
    fails(start(secret.to_str().unwrap()), "holds a secret key");
}
