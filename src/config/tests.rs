//! Tests of the settings.

use std::{fs, os::unix::ffi::OsStringExt as _};

use super::*;

fn config(env: &[(&str, &str)]) -> Config {
    resolve(&Input::from_env(env.iter().copied())).unwrap()
}

/// What `resolve` says about an environment, one problem a line.
fn problems(env: &[(&str, &str)]) -> String {
    resolve(&Input::from_env(env.iter().copied())).map(|_| String::new()).unwrap_or_else(|invalid| invalid.to_string())
}

#[test]
fn defaults_are_those_of_the_spec() {
    let config = config(&[("HOME", "/nonexistent/home")]);
    assert_eq!(config.redis_url, None);
    assert!(config.logs_dir.is_absolute() && config.logs_dir.ends_with("data/logs/tasks"));
    assert_eq!((config.stream.as_str(), config.group.as_str()), ("task_events", "task-logger"));
    assert_eq!((config.batch, config.port), (10, 8090));
    assert_eq!(config.host.to_string(), "127.0.0.1");
    assert_eq!(config.log_level, tracing::Level::INFO);
    assert_eq!(config.required, Required::Redactors);
    assert_eq!(config.fsync, Fsync::Always);
    assert_eq!(config.state_dir, config.logs_dir.join(".task-logger"));
    assert!(config.cache_dir.ends_with("home/.cache/task-logger"));
    assert_eq!(config.hold_max, Duration::from_secs(1));
    assert_eq!(config.shutdown_grace, Duration::from_secs(25));
    assert_eq!((config.read_window, config.event_max, config.plugin_memory_max), (32 << 20, 16 << 20, 256 << 20));
    assert!(config.lanes >= 1);
    assert_eq!(config.service_url(), "http://127.0.0.1:8090");
}

#[test]
fn every_setting_has_a_rule_that_holds() {
    for setting in SETTINGS {
        let bad = match setting.kind {
            Kind::Text => "two\nlines",
            Kind::Secret => "two words",
            Kind::RedisUrl => "localhost:6379",
            Kind::HttpUrl => "ftp://host",
            // Any text names a folder, or a file that holds no tokens.
            Kind::Path | Kind::Tokens => continue,
            Kind::Hosts => "host:80",
            Kind::Origins => "logs.example",
            Kind::Paths => "::",
            Kind::Host => "example",
            Kind::Number(..) => "-1",
            Kind::Size(..) => "5 MiB",
            Kind::Time(..) => "5",
            Kind::Level => "LOUD",
            Kind::Format => "xml",
            Kind::Fsync => "interval:0",
            Kind::Payload | Kind::Trim => "some",
            Kind::Age => "30",
            Kind::Room => "many",
            Kind::Names => "Redact",
            Kind::Keys => ",",
        };
        let shown = if setting.is_secret() { "[secret]" } else { bad };
        let expected = format!("{}={shown:?} is not valid: {}", setting.name, setting.kind.rule());
        assert_eq!(problems(&[(setting.name, bad)]), expected);
    }
}

#[test]
fn a_bad_key_is_named() {
    let key = "RWTcHmB1aJg0pdpOSVN3Mh9HPRQm1+1n0IiwmAfoxtuRncZlGMCiJtN7";
    assert!(config(&[]).trusted_keys.is_empty());
    let ids: Vec<_> = config(&[("PLUGIN_TRUSTED_KEYS", key)]).trusted_keys.ids().map(|id| id.to_string()).collect();
    assert_eq!(ids, ["A534986875601EDC"]);
    let text = problems(&[("PLUGIN_TRUSTED_KEYS", &format!("{key},RWbad,/nonexistent/our.pub"))]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].starts_with("PLUGIN_TRUSTED_KEYS=\"RWbad\" is not valid: expected minisign public keys"),
        "{text}"
    );
    assert!(lines[1].starts_with("PLUGIN_TRUSTED_KEYS=\"/nonexistent/our.pub\""), "{text}");
}

#[test]
fn every_folder_setting_is_read() {
    let config = config(&[("LOGS_DIR", "/a/l"), ("STATE_DIR", "/a/s"), ("CACHE_DIR", "/a/c"), ("STREAM_DIR", "/a/t")]);
    let folders = [&config.logs_dir, &config.state_dir, &config.cache_dir, &config.stream_dir];
    assert_eq!(folders.map(|folder| folder.to_str().unwrap()), ["/a/l", "/a/s", "/a/c", "/a/t"]);
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = problems(&[("PORT", "many"), ("LOG_DIR", "/x"), ("HOLD_MAX", "5"), ("API_TOKEN", "a b")]);
    let names: Vec<_> = text.lines().map(|line| line.split(['=', ' ']).next().unwrap()).collect();
    assert_eq!(names, ["LOG_DIR", "PORT", "API_TOKEN", "HOLD_MAX"]);
    assert!(!text.contains("a b") && !text.contains("/x"), "{text}");
}

#[test]
fn flags_come_before_variables_before_files_before_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    fs::write(&one, "from-env-file\n").unwrap();
    fs::write(&two, "from-flag-file\r\n").unwrap();
    let mut input = Input::from_env([("API_TOKEN_FILE", one.to_str().unwrap()), ("PORT", "1")]);
    let token = |input: &Input| resolve(input).unwrap().api_token.unwrap().expose().to_owned();
    assert_eq!(token(&input), "from-env-file");
    input.env.insert("API_TOKEN".into(), "from-env".into());
    assert_eq!(token(&input), "from-env");
    input.flags.insert("API_TOKEN_FILE".into(), two.to_str().unwrap().into());
    assert_eq!(token(&input), "from-flag-file");
    input.flags.insert("API_TOKEN".into(), "from-flag".into());
    assert_eq!(token(&input), "from-flag");
    input.flags.insert("PORT".into(), "2".into());
    assert_eq!(resolve(&input).unwrap().port, 2);
}

#[test]
fn empty_means_unset() {
    let config = config(&[("PORT", ""), ("REDIS_URL", ""), ("API_TOKEN", ""), ("LOG_DIR", ""), ("API_TOKEN_FILE", "")]);
    assert_eq!((config.port, config.redis_url, config.api_token), (8090, None, None));
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_and_its_text_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let text = problems(&[("API_TOKEN_FILE", missing.to_str().unwrap())]);
    assert!(text.starts_with("API_TOKEN_FILE=") && text.contains("can be read"), "{text}");
    let bad = dir.path().join("bad");
    fs::write(&bad, "not a token").unwrap();
    let text = problems(&[("API_TOKEN_FILE", bad.to_str().unwrap())]);
    assert!(text.starts_with("API_TOKEN=\"[secret]\"") && !text.contains("not a token"), "{text}");
}

#[test]
fn durations_and_sizes_take_units() {
    for (text, ms) in [("250ms", 250), ("2s", 2000), ("1m", 60_000), ("0s", 0), ("10S", 10_000)] {
        assert_eq!(config(&[("HOLD_MAX", text)]).hold_max, Duration::from_millis(ms), "{text}");
    }
    for bad in ["2", "1.5s", "s", "2 s", "1d", "-1s", "61s", "99999999999999999999s"] {
        assert!(problems(&[("HOLD_MAX", bad)]).contains("expected a number with its unit"), "{bad}");
    }
    for (text, bytes) in [("64KiB", 64 << 10), ("16MB", 16_000_000), ("2mib", 2 << 20), ("4096", 4096), ("4096B", 4096)]
    {
        assert_eq!(config(&[("MAX_EVENT", text)]).event_max, bytes, "{text}");
    }
    for bad in ["1", "1TiB", "MiB", "1.5MiB", "999999999999GiB"] {
        assert!(problems(&[("MAX_EVENT", bad)]).contains("expected bytes"), "{bad}");
    }
}

#[test]
fn retention_is_off_until_it_is_set() {
    assert!(!config(&[]).retain.any());
    let all = config(&[("RETAIN", "30d"), ("RETAIN_IDLE", "36h"), ("RETAIN_BYTES", "2TiB")]).retain;
    let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
    assert_eq!(all, Rules { ended: hours(720), idle: hours(36), bytes: Some(2 << 40) });
    assert!(!config(&[("RETAIN", "off"), ("RETAIN_IDLE", "OFF"), ("RETAIN_BYTES", "off")]).retain.any());
    for bad in ["0d", "59s", "1w", "3661d", "-1d"] {
        assert!(problems(&[("RETAIN", bad)]).contains("expected off, or a number with its unit"), "{bad}");
    }
    assert!(problems(&[("RETAIN_BYTES", "1KiB")]).contains("RETAIN_BYTES"), "less than that holds nothing");
}

#[test]
fn levels_take_the_names_of_python() {
    for (text, level) in [
        ("warning", tracing::Level::WARN),
        ("CRITICAL", tracing::Level::ERROR),
        ("Notset", tracing::Level::TRACE),
        ("debug", tracing::Level::DEBUG),
    ] {
        assert_eq!(config(&[("LOG_LEVEL", text)]).log_level, level);
    }
}

#[test]
fn the_host_is_open_only_with_a_token_or_when_given() {
    let host = |env: &[(&str, &str)]| config(env).host.to_string();
    assert_eq!(host(&[]), "127.0.0.1");
    assert_eq!(host(&[("API_TOKEN", "t")]), "0.0.0.0");
    assert_eq!(host(&[("API_TOKEN", "t"), ("HOST", "localhost")]), "127.0.0.1");
    assert_eq!(host(&[("HOST", "[::]")]), "::");
    let open = config(&[("HOST", "0.0.0.0")]);
    assert!(open.warnings().iter().any(|warning| warning.contains("without API_TOKEN")));
    assert_eq!(open.service_url(), "http://127.0.0.1:8090");
    assert_eq!(config(&[("HOST", "::"), ("PORT", "1")]).service_url(), "http://[::1]:1");
    assert_eq!(config(&[("TASK_LOGGER_URL", "http://logs:8090/")]).service_url(), "http://logs:8090");
}

#[test]
fn whom_http_serves_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("tokens");
    std::fs::write(&path, "page read s3cret-token\nci SECRET\n").unwrap();
    let text = problems(&[("API_TOKENS_FILE", path.to_str().unwrap())]);
    assert!(text.starts_with("API_TOKENS_FILE=") && text.contains("it line 2 ") && !text.contains("SECRET"), "{text}");
    assert!(problems(&[("API_TOKENS_FILE", "/nonexistent/tokens")]).ends_with("it cannot be read"));
    std::fs::write(&path, "page read s3cret-token\n").unwrap();
    let good = config(&[("API_TOKENS_FILE", path.to_str().unwrap())]);
    assert_eq!((good.api_tokens, good.host.to_string().as_str()), (Some(path), "0.0.0.0"));
    assert!(good.api_token.is_none() && config(&[]).api_tokens.is_none());

    let hosts = config(&[("ALLOWED_HOSTS", "Logs.Example., a-b , ")]).allowed_hosts;
    assert_eq!(hosts, ["logs.example", "a-b"]);
    let origins = config(&[("CORS_ORIGINS", "https://logs.example, http://localhost:3000")]).cors_origins;
    assert_eq!(origins, ["https://logs.example", "http://localhost:3000"]);
    for bad in
        ["*", "null", "https://logs.example/", "https://logs.example:443", "HTTPS://x", "https://X", "https://u@x", ","]
    {
        assert!(problems(&[("CORS_ORIGINS", bad)]).contains("CORS_ORIGINS="), "{bad}");
    }
    assert_eq!((config(&[]).client_streams, config(&[("CLIENT_STREAMS", "9")]).client_streams), (256, 9));
}

#[test]
fn fsync_and_required_plugins_are_read() {
    assert_eq!(config(&[("FSYNC", "interval:250")]).fsync, Fsync::Interval(Duration::from_millis(250)));
    assert_eq!(config(&[("FSYNC", "interval:5ms")]).fsync, Fsync::Interval(Duration::from_millis(5)));
    assert_eq!(config(&[("FSYNC", "Never")]).fsync, Fsync::Never);
    assert_eq!(config(&[("REQUIRED_PLUGINS", "none")]).required, Required::None);
    let list = Required::List(vec!["redact".into(), "usage".into()]);
    assert_eq!(config(&[("REQUIRED_PLUGINS", "redact, usage,redact")]).required, list);
    assert!(problems(&[("REQUIRED_PLUGINS", "none,redact")]).contains("REQUIRED_PLUGINS"));
}

#[test]
fn folders_may_not_stand_in_one_another() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    fs::create_dir(&logs).unwrap();
    std::os::unix::fs::symlink(&logs, dir.path().join("link")).unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let with = |name: &str, value: &str| {
        problems(&[("LOGS_DIR", &at("logs")), ("CACHE_DIR", &at("cache")), (name, &at(value))])
    };
    assert!(with("STREAM_DIR", "logs/stream").starts_with("STREAM_DIR="));
    assert!(with("STREAM_DIR", "link/stream").starts_with("STREAM_DIR="));
    assert!(with("STREAM_DIR", "other/../logs/stream").starts_with("STREAM_DIR="));
    assert_eq!(with("STREAM_DIR", "logs-stream"), "");
    assert!(with("PLUGINS_DIR", "logs/plugins").starts_with("PLUGINS_DIR="));
    assert!(with("PLUGINS_DIR", "cache/..").starts_with("CACHE_DIR="));
    assert!(with("STATE_DIR", "logs").starts_with("STATE_DIR="));
    assert!(with("STATE_DIR", "logs/state").starts_with("STATE_DIR="));
    assert_eq!(with("STATE_DIR", "logs/.state"), "");
    let cache = problems(&[("LOGS_DIR", &at("logs")), ("CACHE_DIR", &at("logs/.cache"))]);
    assert!(cache.starts_with("CACHE_DIR="), "{cache}");
}

#[test]
fn an_event_must_fit_the_window() {
    assert!(problems(&[("READ_WINDOW", "1MiB")]).starts_with("MAX_EVENT="));
    assert!(!problems(&[("READ_WINDOW", "wrong")]).contains("MAX_EVENT"));
}

#[test]
fn the_cache_has_a_place_without_a_home() {
    let config = config(&[("XDG_CACHE_HOME", "relative")]);
    assert!(config.cache_dir.starts_with(std::env::temp_dir()));
    assert!(super::tests::config(&[("XDG_CACHE_HOME", "/x/cache")]).cache_dir.ends_with("x/cache/task-logger"));
}

#[test]
fn a_value_that_is_not_text_is_a_problem() {
    let mut input = Input::default();
    input.env.insert("PORT".into(), std::ffi::OsString::from_vec(vec![0xff]));
    assert!(resolve(&input).unwrap_err().to_string().ends_with("expected UTF-8"));
}

#[test]
fn the_readme_has_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = fs::read_to_string(path).unwrap();
    let parts: Vec<_> = readme.split("<!-- settings -->").collect();
    assert_eq!(parts.len(), 3, "README.md has a block between two settings marks");
    let mark = "<!-- settings -->";
    let right = format!("{}{mark}\n\n{}\n{mark}{}", parts[0], readme_table(), parts[2]);
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, &right).unwrap();
    } else {
        assert!(
            readme == right,
            "the table of settings changed; `BLESS=1 cargo test --release --lib config` writes it"
        );
    }
}
