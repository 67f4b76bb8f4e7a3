//! What may stand in a plugin folder and is no plugin, what may be done to the compile cache, and what compiling may cost:
//! nothing of it blocks, reads outside the folder, or runs.

use std::{
    fs::{self, File},
    os::unix::{
        fs::{FileExt as _, PermissionsExt as _, chown, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use task_logger::plugin::{CompileLimits, Outcome, PluginHost};

use crate::guests::{Log, Stage, entry, eventually, misbehave, outputs, run};

const REDACTOR: &str = "[config]\nname = 'redact'\nrole = 'redactor'\nmode = 'stamp'\nversion = 'good'\n";

fn good() -> Outcome {
    Outcome::Replace("{\"content\":\"a\",\"stamp\":\"good\"}".to_owned())
}

fn state(host: &PluginHost, file: &str) -> String {
    entry(host, file).map(|entry| entry["state"].as_str().unwrap().to_owned()).unwrap_or_default()
}

#[track_caller]
fn refused(host: &PluginHost, file: &str, reason: &str) {
    let entry = entry(host, file).unwrap_or_else(|| panic!("{file}: {}", host.report()));
    assert_eq!(entry["state"], "refused", "{entry}");
    let said = entry["refused"]["reason"].as_str().unwrap();
    assert!(said.contains(reason), "{file}: {said}");
}

fn sparse(path: &Path, bytes: u64) {
    File::create(path).unwrap().set_len(bytes).unwrap();
}

#[test]
fn what_is_no_file_of_the_folder_is_refused() {
    let mut stage = Stage::new();
    let (folder, outside) = (stage.folder(), stage.path("outside"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("p.wasm"), misbehave()).unwrap();
    let link = |to: &Path, name: &str| symlink(to, folder.join(name)).unwrap();
    link(&outside.join("p.wasm"), "absolute.wasm");
    link(Path::new("../outside/p.wasm"), "above.wasm");
    link(&outside, "out");
    link(Path::new("out/p.wasm"), "by-folder.wasm");
    link(Path::new("absolute.wasm"), "by-link.wasm");
    link(Path::new("loop-b.wasm"), "loop-a.wasm");
    link(Path::new("loop-a.wasm"), "loop-b.wasm");
    link(Path::new("nothing"), "dangling.wasm");
    link(Path::new("/proc/self/exe"), "proc.wasm");
    fs::create_dir(folder.join("dir.wasm")).unwrap();
    assert!(Command::new("mkfifo").arg(folder.join("pipe.wasm")).status().unwrap().success());
    let socket = UnixListener::bind(folder.join("socket.wasm")).unwrap();
    sparse(&folder.join("large.wasm"), 200 << 20);
    sparse(&folder.join("zeros.wasm"), 60 << 20);
    fs::write(folder.join("beside.wasm"), misbehave()).unwrap();
    sparse(&folder.join("beside.toml"), 300 << 10);
    fs::write(folder.join("piped.wasm"), misbehave()).unwrap();
    assert!(Command::new("mkfifo").arg(folder.join("piped.toml")).status().unwrap().success());
    fs::write(folder.join("unbound.wasm"), misbehave()).unwrap();
    link(Path::new("nothing"), "unbound.toml");
    let device = Command::new("mknod").arg(folder.join("device.wasm")).args(["c", "1", "5"]).output().unwrap();
    let began = Instant::now();
    let host = stage.start();
    assert!(began.elapsed() < Duration::from_secs(30), "nothing of it blocks");
    for (file, reason) in [
        ("absolute.wasm", "links must stay in the folder"),
        ("above.wasm", "links must stay in the folder"),
        ("by-folder.wasm", "links must stay in the folder"),
        ("by-link.wasm", "links must stay in the folder"),
        ("loop-a.wasm", "links must stay in the folder"),
        ("proc.wasm", "links must stay in the folder"),
        ("dangling.wasm", "is a link to a file that is not there"),
        ("dir.wasm", "is not a regular file"),
        ("pipe.wasm", "is not a regular file"),
        ("socket.wasm", "is not a regular file"),
        ("large.wasm", "is larger than 65536 KiB"),
        ("zeros.wasm", "is not a WebAssembly component"),
        ("beside.wasm", "beside.toml is larger than 256 KiB"),
        ("piped.wasm", "piped.toml is not a regular file"),
        ("unbound.wasm", "unbound.toml is a link to a file that is not there"),
    ] {
        refused(&host, file, reason);
    }
    // Only root makes device files.
    if device.status.success() {
        refused(&host, "device.wasm", "is not a regular file");
    }
    assert_eq!(host.report()["chain"], serde_json::json!([]));
    drop(socket);
}

#[test]
fn links_inside_the_folder_and_second_names_are_files() {
    let mut stage = Stage::new();
    let folder = stage.folder();
    fs::create_dir(folder.join("store")).unwrap();
    fs::write(folder.join("store/v1"), misbehave()).unwrap();
    symlink("store/v1", folder.join("current")).unwrap();
    symlink("current", folder.join("linked.wasm")).unwrap();
    fs::write(folder.join("linked.toml"), "[config]\nname = 'linked'\nfiles = []").unwrap();
    let other = stage.path("other-name");
    fs::write(&other, misbehave()).unwrap();
    fs::hard_link(&other, folder.join("hard.wasm")).unwrap();
    fs::write(folder.join("hard.toml"), "[config]\nname = 'hard'\nfiles = []").unwrap();
    let host = stage.start();
    assert_eq!([state(&host, "linked.wasm"), state(&host, "hard.wasm")], ["live", "live"]);
    // Changed under its other name, of which the folder's watch hears nothing.
    File::options().write(true).open(&other).unwrap().write_all_at(b"no longer", 0).unwrap();
    eventually("the change is found", || !entry(&host, "hard.wasm").unwrap()["refused"].is_null());
    assert_eq!(state(&host, "hard.wasm"), "live", "what ran stays");
}

#[test]
fn a_folder_that_is_a_link_is_followed_when_it_moves() {
    let mut stage = Stage::new();
    let folder = stage.folder();
    fs::remove_dir(&folder).unwrap();
    for version in ["one", "two"] {
        let dir = stage.path(version);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("redact.toml"), REDACTOR.replace("good", version)).unwrap();
        fs::write(dir.join("redact.wasm"), misbehave()).unwrap();
    }
    symlink("one", &folder).unwrap();
    let host = stage.start();
    let version = || entry(&host, "redact.wasm").map(|entry| entry["version"].clone()).unwrap_or_default();
    assert_eq!(version(), "one");
    let next = stage.path("next");
    symlink("two", &next).unwrap();
    fs::rename(&next, &folder).unwrap();
    eventually("the other folder's file is live", || version() == "two");
    assert!(host.gate().is_ok(), "the redactor was never missed");
}

#[test]
fn what_cannot_be_read_is_not_what_was_taken_away() {
    let mut stage = Stage::new();
    stage.put("redact", REDACTOR);
    let host = stage.start();
    let path = stage.folder().join("redact.wasm");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if File::open(&path).is_ok() {
        // Root reads everything: the mode is no change that matters.
        eventually("it is as it was", || state(&host, "redact.wasm") == "live");
    } else {
        eventually("it is refused", || !entry(&host, "redact.wasm").unwrap()["refused"].is_null());
    }
    assert!(host.gate().is_ok());
    assert_eq!(run(&mut host.lane(), &outputs(&["a"]), false).unwrap().outcomes, [good()]);
    // A dangling link in its place takes nothing away, either.
    fs::remove_file(&path).unwrap();
    symlink("nothing", &path).unwrap();
    eventually("the link is refused", || !entry(&host, "redact.wasm").unwrap()["refused"].is_null());
    assert!(host.gate().is_ok());
}

#[test]
fn odd_names_are_passed_over_and_said_once() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut stage = Stage::new();
    let folder = stage.folder();
    let odd: [&[u8]; 5] = [b"\xff\xfe.wasm", b"new\nline.wasm", b"sp ace.wasm", b"\x1b[31m.wasm", "ü.wasm".as_bytes()];
    for name in odd {
        fs::write(folder.join(std::ffi::OsStr::from_bytes(name)), misbehave()).unwrap();
    }
    fs::write(folder.join(".hidden.wasm"), misbehave()).unwrap();
    let log = Log::default();
    let host = log.capture(|| stage.start());
    assert_eq!(host.report()["plugins"], serde_json::json!([]));
    let text = log.text();
    assert_eq!(text.matches("ignored: a plugin's file name is").count(), odd.len(), "{text}");
    assert!(!text.contains('\x1b') && text.lines().all(|line| line.len() > 20), "no name breaks the log: {text}");
}

/// The one file of the cache.
fn cached(stage: &Stage) -> PathBuf {
    let files: Vec<_> = fs::read_dir(stage.path("cache")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("one compiled component: {files:?}") };
    file.clone()
}

#[test]
fn only_a_whole_private_file_of_the_cache_runs() {
    type Misdeed = fn(&Path, &Path);
    let misdeeds: [(&str, Misdeed); 9] = [
        ("altered", |file, _| {
            let bytes = fs::read(file).unwrap();
            let at = bytes.len() / 2;
            File::options().write(true).open(file).unwrap().write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
        }),
        ("truncated", |file, _| {
            let bytes = fs::metadata(file).unwrap().len();
            File::options().write(true).open(file).unwrap().set_len(bytes - 1).unwrap();
        }),
        ("empty", |file, _| drop(File::create(file).unwrap())),
        ("longer", |file, _| {
            let bytes = fs::metadata(file).unwrap().len();
            File::options().write(true).open(file).unwrap().write_all_at(b"x", bytes).unwrap();
        }),
        ("writable by others", |file, _| fs::set_permissions(file, fs::Permissions::from_mode(0o666)).unwrap()),
        ("another's", |file, _| {
            if chown(file, Some(65534), None).is_err() {
                // Only root gives files away.
                fs::remove_file(file).unwrap();
            }
        }),
        ("a link", |file, beside| {
            fs::rename(file, beside).unwrap();
            symlink(beside, file).unwrap();
        }),
        ("a directory", |file, _| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }),
        ("a pipe", |file, _| {
            fs::remove_file(file).unwrap();
            assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
        }),
    ];
    let mut stage = Stage::new().with_child();
    stage.put("redact", REDACTOR);
    assert_eq!(state(&stage.start(), "redact.wasm"), "live");
    for (what, misdeed) in misdeeds {
        // With a compiler that compiles nothing, what runs comes from the cache.
        stage = stage.with_compiler("/bin/false");
        assert_eq!(state(&stage.start(), "redact.wasm"), "live", "{what}");
        let file = cached(&stage);
        misdeed(&file, &stage.path("beside"));
        let host = stage.start();
        refused(&host, "redact.wasm", "does not compile");
        assert!(host.gate().is_err(), "{what}: the redactor is missing");
        // Compiled again, and kept.
        if file.is_dir() {
            fs::remove_dir(&file).unwrap();
        } else {
            fs::remove_file(&file).ok();
        }
        stage = stage.with_child();
        let host = stage.start();
        assert_eq!(run(&mut host.lane(), &outputs(&["a"]), false).unwrap().outcomes, [good()], "{what}");
    }
}

#[test]
fn a_damaged_cache_is_made_whole_again() {
    let mut stage = Stage::new().with_child();
    stage.put("redact", REDACTOR);
    stage.start().stop();
    let file = cached(&stage);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    stage.start().stop();
    assert!(fs::read(cached(&stage)).unwrap().len() > whole.len() / 2);
    assert_eq!(fs::metadata(cached(&stage)).unwrap().permissions().mode() & 0o777, 0o600);
    // A folder that others may write is none of ours: everything is compiled, nothing is kept or read.
    fs::set_permissions(stage.path("cache"), fs::Permissions::from_mode(0o777)).unwrap();
    let log = Log::default();
    let host = log.capture(|| stage.start());
    assert_eq!(state(&host, "redact.wasm"), "live");
    assert!(log.text().contains("can be written by others"), "{}", log.text());
}

#[test]
fn a_cache_in_a_plugin_folder_is_not_used() {
    let mut stage = Stage::new().with_child().cache_in("plugins/.cache");
    stage.put("redact", REDACTOR);
    let log = Log::default();
    let host = log.capture(|| stage.start());
    assert_eq!(run(&mut host.lane(), &outputs(&["a"]), false).unwrap().outcomes, [good()]);
    assert!(log.text().contains("is inside a plugin folder"), "{}", log.text());
    assert_eq!(fs::read_dir(stage.folder().join(".cache")).unwrap().count(), 0, "nothing was put there");
}

/// A valid component, not a plugin, that takes seconds to compile: one module of many functions.
pub(crate) fn heavy(functions: usize) -> Vec<u8> {
    let body = "(i32.add (i32.mul (local.get 0) (i32.const 7)) (local.get 0)) (local.set 0)".repeat(100);
    let function = format!("(func (param i32) (result i32) {body} (local.get 0))");
    wat::parse_str(format!("(component (core module {}))", function.repeat(functions))).unwrap()
}

fn limited(limits: CompileLimits, wasm: &[u8], reason: &str) {
    let mut stage = Stage::new().with_child();
    stage.put("redact", REDACTOR);
    stage.start().stop();
    // The redactor comes from the cache; only the other one meets the limits.
    stage = stage.compile_limits(limits);
    let host = stage.start();
    let mut lane = host.lane();
    stage.put_bytes("heavy.wasm", wasm);
    let said = |host: &Arc<PluginHost>| {
        let entry = entry(host, "heavy.wasm").unwrap_or_default();
        entry["refused"]["reason"].as_str().unwrap_or_default().to_owned()
    };
    let mut calls = 0;
    eventually("it is refused", || {
        assert_eq!(run(&mut lane, &outputs(&["a"]), false).unwrap().outcomes, [good()], "the others go on");
        calls += 1;
        !said(&host).is_empty()
    });
    assert!(said(&host).contains(reason), "{}", said(&host));
    assert!(calls > 10, "{calls} calls meanwhile");
    assert_eq!(fs::read_dir(stage.path("cache")).unwrap().count(), 1, "nothing half compiled is left");
}

#[test]
fn compiling_ends_at_its_wall_time() {
    let wall = Duration::from_millis(300);
    let limits = CompileLimits { wall, ..CompileLimits::default() };
    limited(limits, &heavy(3000), "compiling took longer than 0.3 s");
}

#[test]
fn compiling_ends_at_its_cpu_time() {
    let limits = CompileLimits { cpu_seconds: 1, ..CompileLimits::default() };
    limited(limits, &heavy(8000), "compiling exceeded its limits (4096 MiB of address space, 1 s of CPU time");
}

#[test]
fn compiling_ends_at_its_memory() {
    let limits = CompileLimits { address_space: 96 << 20, ..CompileLimits::default() };
    limited(limits, &heavy(8000), "compiling exceeded its limits (96 MiB of address space");
}

#[test]
fn compiled_code_has_a_limit() {
    let limits = CompileLimits { compiled: 64 << 10, ..CompileLimits::default() };
    limited(limits, &heavy(300), "compiling exceeded its limits");
}
