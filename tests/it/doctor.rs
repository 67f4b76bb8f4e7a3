//! `task-logger doctor` as it is called: on servers and folders that are not as they should be. It must name each thing, say
//! what to do, and change nothing.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::{checker::files_below, redis_server::RedisServer, rig::Rig};

/// What it found, as machines read it.
struct Found {
    status: i32,
    json: Value,
}

/// On this rig's folders, with these variables on top.
fn doctor(rig: &Rig, env: &[(&str, &str)]) -> Found {
    // Folders as a careful operator makes them; each test spoils what it is about.
    for folder in [rig.logs(), rig.root().join("state")] {
        fs::create_dir_all(folder).unwrap();
    }
    let output = rig.command(&["doctor", "--json"]).envs(env.iter().copied()).output().unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", told(&output)));
    Found { status: output.status.code().unwrap(), json }
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl Found {
    /// The one finding of a check whose text contains this.
    #[track_caller]
    fn of(&self, check: &str, text: &str) -> (&str, &str) {
        let all = self.json["findings"].as_array().unwrap();
        let found = all.iter().find(|finding| {
            finding["check"] == check && finding["found"].as_str().is_some_and(|found| found.contains(text))
        });
        let found = found.unwrap_or_else(|| panic!("no {check:?} with {text:?}: {:#}", self.json));
        let (level, advice) = (found["level"].as_str().unwrap(), found["advice"].as_str().unwrap());
        assert_eq!(advice.is_empty(), level == "ok", "what to do is said of everything but what is well: {found}");
        (level, advice)
    }

    #[track_caller]
    fn is(&self, check: &str, text: &str, level: &str) {
        assert_eq!(self.of(check, text).0, level, "{:#}", self.json);
    }
}

/// Everything below a folder, with what is in it.
fn tree(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = files_below(root)
        .into_iter()
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap_or_default()))
        .collect();
    all.sort();
    all
}

#[test]
fn a_well_kept_server_is_well() {
    let Some(server) = RedisServer::start_with(&["--appendonly", "yes"]) else { return };
    let rig = Rig::embedded().with_bundled(&["redact"]);
    let mut redis = server.connect();
    let () = redis::cmd("XADD").arg("task_events").arg("1-1").arg("a").arg("b").query(&mut redis).unwrap();
    let () =
        redis::cmd("XGROUP").arg("CREATE").arg("task_events").arg("task-logger").arg("0").query(&mut redis).unwrap();
    let keys = || -> Vec<String> { redis::cmd("KEYS").arg("*").query(&mut server.connect()).unwrap() };
    let before = (tree(rig.root()), keys());
    let found = doctor(&rig, &[("REDIS_URL", &server.url())]);
    // The disk of the machine that tests run on may be full: that is the one thing that is not the test's.
    let failed: Vec<_> =
        found.json["findings"].as_array().unwrap().iter().filter(|found| found["level"] == "fail").collect();
    let full = failed.iter().all(|found| found["check"] == "space" || found["check"] == "inodes");
    assert!(full && found.status == i32::from(!failed.is_empty()), "{:#}", found.json);
    found.is("redis-persistence", "appendonly yes", "ok");
    found.is("redis-eviction", "noeviction", "ok");
    found.is("redis-role", "master", "ok");
    found.is("stream", "task_events has 1 entries; group \"task-logger\" stands at 0-0, 1 behind", "ok");
    found.is("owner", "nobody", "ok");
    found.is("clock", "Redis is", "ok");
    found.is("fsync", "50 tried", found.of("fsync", "").0);
    found.is("plugins", "redact.wasm, with sidecar", "ok");
    assert_eq!((tree(rig.root()), keys()), before, "it changed something");
}

#[test]
fn a_careless_server_is_found() {
    let args = ["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "no"];
    let Some(server) = RedisServer::start_with(&args) else { return };
    let rig = Rig::embedded();
    let url = server.url();
    let found = doctor(&rig, &[("REDIS_URL", &url)]);
    assert_eq!(found.status, 1);
    found.is("redis-eviction", "allkeys-lru", "fail");
    assert!(found.of("redis-eviction", "").1.contains("CONFIG SET maxmemory-policy noeviction"));
    found.is("redis-persistence", "no snapshots", "fail");
    let mut redis = server.connect();
    let set = |redis: &mut redis::Connection, name: &str, value: &str| {
        redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query::<()>(redis).unwrap();
    };
    set(&mut redis, "maxmemory", "0");
    set(&mut redis, "save", "3600 1");
    let () = redis::cmd("SET").arg("task_events").arg("text").query(&mut redis).unwrap();
    let () = redis::cmd("SET").arg("{task_events}:lease").arg("{\"host\":\"h\"}").query(&mut redis).unwrap();
    let found = doctor(&rig, &[("REDIS_URL", &url)]);
    found.is("redis-eviction", "without effect", "warn");
    found.is("redis-persistence", "save 3600 1", "warn");
    found.is("stream", "task_events is a string", "fail");
    found.is("owner", "the lease of h does not expire", "fail");
}

#[test]
fn a_replica_is_found() {
    let Some(master) = RedisServer::start_tcp(&["--appendonly", "yes"]) else { return };
    let of = format!("127.0.0.1 {}", master.port());
    let replica = RedisServer::start_with(&["--replicaof", &of]).unwrap();
    let found = doctor(&Rig::embedded(), &[("REDIS_URL", &replica.url())]);
    assert_eq!(found.status, 1);
    found.is("redis-role", "slave: it refuses writes", "fail");
}

#[test]
fn a_server_that_does_not_answer_or_refuses_is_found() {
    let rig = Rig::embedded();
    let nobody = format!("redis+unix://{}", rig.root().join("no-socket").display());
    let found = doctor(&rig, &[("REDIS_URL", &nobody)]);
    assert_eq!((found.status, &found.json["complete"]), (1, &Value::Bool(true)));
    assert!(found.of("redis", "no-socket").1.contains("start Redis"));
    found.is("fsync", "a sync takes", found.of("fsync", "").0);
    let Some(server) = RedisServer::start_with(&["--requirepass", "right"]) else { return };
    let found = doctor(&rig, &[("REDIS_URL", &format!("{}?pass=wrong", server.url()))]);
    assert!(found.of("redis", "").1.contains("password"), "{:#}", found.json);
    assert!(!found.json.to_string().contains("wrong"), "a password is shown");
}

#[test]
fn an_owner_is_shown() {
    let Some(server) = RedisServer::start_with(&["--appendonly", "yes"]) else { return };
    let rig = Rig::embedded().set("REDIS_URL", &server.url());
    let node = rig.spawn();
    crate::rig::eventually("it owns the stream", || node.is_owner());
    doctor(&rig, &[]).is("owner", "epoch 1, lease for ", "ok");
}

#[test]
fn memory_is_no_disk() {
    let shm = Path::new("/dev/shm");
    let is_tmpfs = fs::read_to_string("/proc/mounts").unwrap().lines().any(|line| line.contains(" /dev/shm tmpfs "));
    assert!(is_tmpfs, "Linux mounts a tmpfs there");
    let temp = tempfile::tempdir_in(shm).unwrap();
    let logs = temp.path().join("logs");
    let found = doctor(&Rig::embedded(), &[("LOGS_DIR", logs.to_str().unwrap())]);
    assert_eq!(found.status, 1);
    let (level, advice) = found.of("file-system", "LOGS_DIR /dev/shm");
    assert_eq!(level, "fail");
    assert!(advice.contains("use a disk"), "{advice}");
    found.is("folder", "is not there yet; the service makes it", "ok");
}

#[test]
fn wrong_rights_are_found() {
    let rig = Rig::embedded().with_bundled(&["redact"]);
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let (cache, stream) = (rig.root().join("cache"), rig.root().join("stream"));
    fs::create_dir(&cache).unwrap();
    fs::create_dir(&stream).unwrap();
    let plugins = rig.plugins_dir();
    let look = || doctor(&rig, &[("CACHE_DIR", cache.to_str().unwrap())]);
    for (path, bad) in [(&plugins, 0o777), (&cache, 0o770), (&stream, 0o755)] {
        mode(path, bad);
    }
    fs::write(plugins.join("no plugin's name.wasm"), "").unwrap();
    let found = look();
    assert_eq!(found.status, 1);
    found.is("plugin-folder", "can be written by everybody", "fail");
    found.is("plugin-folder", "\"no plugin's name.wasm\" is ignored", "warn");
    found.is("folder", "is not this user's alone", "warn");
    found.is("folder", "raw events", "warn");
    for (path, good) in [(&plugins, 0o755), (&cache, 0o700), (&stream, 0o700)] {
        mode(path, good);
    }
    mode(&plugins.join("redact.wasm"), 0o666);
    let found = look();
    found.is("plugin-folder", "mode 0755", "ok");
    found.is("plugins", "redact.wasm, with sidecar can be written by everybody", "fail");
    mode(&plugins.join("redact.wasm"), 0o644);
    std::os::unix::fs::symlink("/no/such", plugins.join("linked.wasm")).unwrap();
    look().is("plugins", "link", "fail");
    fs::remove_file(plugins.join("linked.wasm")).unwrap();
    fs::remove_dir(&stream).unwrap();
    fs::write(&stream, "").unwrap();
    look().is("folder", "is no folder", "fail");
}

#[test]
fn required_plugins_that_are_nowhere_are_found() {
    let found = doctor(&Rig::embedded().set("REQUIRED_PLUGINS", "redact"), &[]);
    assert_eq!(found.status, 1);
    found.is("plugins", "nothing will be read", "fail");
    doctor(&Rig::embedded().set("REQUIRED_PLUGINS", ""), &[]).is("plugins", "written raw", "warn");
}

#[test]
fn settings_are_looked_at_first() {
    let rig = Rig::embedded();
    let near = doctor(&rig, &[("LOG_DIR", "/x")]);
    assert_eq!((near.status, &near.json["complete"]), (1, &Value::Bool(true)));
    near.is("settings", "did you mean LOGS_DIR?", "fail");
    near.is("fsync", "a sync takes", near.of("fsync", "").0);
    let wrong = doctor(&rig, &[("PORT", "http"), ("LOG_DIR", "/x")]);
    assert_eq!((wrong.status, &wrong.json["complete"]), (2, &Value::Bool(false)));
    assert_eq!(wrong.json["findings"].as_array().unwrap().len(), 2);
    wrong.is("settings", "PORT=\"http\" is not valid", "fail");
}

#[test]
fn a_low_limit_and_times_in_the_future_are_found() {
    let rig = Rig::embedded();
    doctor(&rig, &[]);
    let program = rig.command(&["doctor"]);
    let line = format!("ulimit -n 512; exec {} doctor --json", program.get_program().to_str().unwrap());
    let mut shell = Command::new("sh");
    shell.env_clear().current_dir(rig.root()).args(["-c", &line]);
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let task = rig.logs().join("t-1");
    fs::create_dir(&task).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
    fs::File::open(&task).unwrap().set_modified(later).unwrap();
    let output = shell.output().unwrap();
    let found = Found { status: output.status.code().unwrap(), json: serde_json::from_slice(&output.stdout).unwrap() };
    assert_eq!(found.status, 1);
    found.is("open-files", "at most 512", "fail");
    found.is("file-times", "in the future", "warn");
}

#[test]
fn people_read_it_in_columns() {
    let rig = Rig::embedded();
    let output = rig.command(&["doctor"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let columns = text.lines().take_while(|line| !line.is_empty()).all(|line| {
        line.starts_with("ok    ")
            || line.starts_with("warn  ")
            || line.starts_with("FAIL  ")
            || line.starts_with("      ")
    });
    assert!(columns && text.contains("  -> ") && text.trim_end().ends_with("to put right"), "{text}");
}
