//! The files below `deploy/`, each loaded by the tool that reads it and held against what a running service really exports,
//! takes and answers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use task_logger::config::SETTINGS;

use crate::rig::{Rig, eventually, target_dir};

mod promql;

use promql::Exported;

/// A file of the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap()
}

/// A tool that `make` puts into `target/tools`, or that is installed. `None` after a message where it is missing, unless the
/// variable says that it is required: a skip is never silent.
fn tool(path: &str, required: &str) -> Option<PathBuf> {
    let ours = target_dir().join("tools").join(path);
    let name = ours.file_name().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    let found = std::iter::once(ours.clone()).chain(on_path).find(|path| path.is_file());
    if found.is_none() {
        let name = name.display();
        assert!(std::env::var(required).as_deref() != Ok("1"), "{name} is missing, {required}=1");
        eprintln!("SKIPPED: {name} is missing");
    }
    found
}

fn promtool() -> Option<PathBuf> {
    tool("promtool", "REQUIRE_PROMTOOL")
}

#[track_caller]
fn well(output: &Output) -> String {
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    told
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let Some(promtool) = promtool() else { return };
    let run = |args: [&str; 2], file: &str| Command::new(&promtool).args(args).arg(project(file)).output().unwrap();
    well(&run(["check", "rules"], "deploy/prometheus/alerts.yml"));
    well(&run(["test", "rules"], "deploy/prometheus/alerts_test.yml"));
}

#[test]
fn every_alert_has_its_cases_and_says_what_to_do() {
    let (rules, cases) = (text("deploy/prometheus/alerts.yml"), text("deploy/prometheus/alerts_test.yml"));
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 12);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        for part in ["expr:", "severity:", "summary:", "runbook:"] {
            assert!(alert.contains(part), "{name} has no {part}");
        }
        let mut fires = (false, false);
        for case in cases.split("alertname: ").skip(1).filter(|case| case.lines().next() == Some(name)) {
            match case.lines().nth(1).unwrap().trim() {
                "exp_alerts: []" => fires.1 = true,
                _ => fires.0 = true,
            }
        }
        assert_eq!(fires, (true, true), "{name}: a case in which it fires, one in which it does not");
    }
}

/// The expressions of a rules file: one line, or a block.
fn rule_expressions(rules: &str) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = rules.lines().collect();
    let mut all = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(expr) = line.trim_start().strip_prefix("expr: ") else { continue };
        let block = lines[at + 1..].iter().take_while(|next| indent(next) > indent(line));
        all.push(if expr == "|" {
            block.map(|line| line.trim()).collect::<Vec<_>>().join(" ")
        } else {
            expr.to_owned()
        });
    }
    all
}

/// The dashboard's panels, and its expressions with Grafana's variables filled in.
fn dashboard() -> (Vec<Value>, Vec<String>) {
    let model: Value = serde_json::from_str(&text("deploy/grafana/dashboard.json")).unwrap();
    let panels = model["panels"].as_array().unwrap().clone();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap().clone());
    let filled = targets.map(|target| {
        let expr = target["expr"].as_str().unwrap();
        expr.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$instance", ".*")
    });
    let filled = filled.collect();
    (panels, filled)
}

#[test]
fn alerts_and_dashboard_name_what_a_service_exports() {
    let Some(rig) = Rig::redis() else { return };
    let rig = rig.with_bundled(&["redact", "usage"]);
    let node = rig.spawn_owner();
    node.append(&[
        json!({"type": "task:created", "task_id": "t-1", "data": {"title": "a"}}),
        json!({"type": "task:output", "task_id": "t-1", "data": {"content": "AKIAIOSFODNN7EXAMPLE"}}),
    ]);
    rig.wait_published(&mut rig.connect());
    assert_eq!(node.get("/tasks").0, 200);
    eventually("a checkpoint was made", || node.metrics().contains("task_logger_checkpoint_seconds_bucket"));
    let metrics = node.metrics();
    let exported = Exported::read(&metrics);

    let rules = rule_expressions(&text("deploy/prometheus/alerts.yml"));
    let (_, panels) = dashboard();
    assert!(rules.len() >= 12 && panels.len() >= 50);
    let wrong: Vec<String> = rules
        .iter()
        .chain(&panels)
        .flat_map(|expr| exported.missing(expr).into_iter().map(move |why| format!("{why}: {expr}")))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // And the other way round: this test must be able to fail.
    for bad in [
        "task_logger_no_such_total",
        "sum by (reasons) (task_logger_events_dead_total)",
        "task_logger_blocked_by{part!=\"stand-by\"}",
        "task_logger_owner{part=\"x\"}",
    ] {
        assert!(!exported.missing(bad).is_empty(), "{bad}");
    }
}

#[test]
fn metrics_are_read_by_prometheus() {
    let Some(promtool) = promtool() else { return };
    let node = Rig::embedded().spawn();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), node.metrics()).unwrap();
    let output = Command::new(promtool)
        .args(["check", "metrics", "--extended"])
        .stdin(fs::File::open(file.path()).unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    // 3: it was read, and there is something about names.
    assert!(output.status.success() || output.status.code() == Some(3), "{told}");
    assert!(!told.contains("error while linting"), "{told}");
}

#[test]
fn the_dashboard_is_sound() {
    let (panels, expressions) = dashboard();
    let mut ids: Vec<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), panels.len(), "two panels have the same id");
    let mut cells = std::collections::BTreeMap::new();
    for panel in &panels {
        let title = panel["title"].as_str().unwrap();
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let place = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().unwrap());
        let [x, y, w, h] = place;
        assert!(w > 0 && h > 0 && x + w <= 24, "{title}: {place:?}");
        for cell in (y..y + h).flat_map(|row| (x..x + w).map(move |column| (row, column))) {
            let other = cells.insert(cell, title);
            assert_eq!(other, None, "{title} stands on another panel at {cell:?}");
        }
        let targets = panel["targets"].as_array().unwrap();
        assert_eq!(targets.is_empty(), panel["type"] == "row", "{title}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expr = target["expr"].as_str().unwrap();
            assert!(expr.contains("job=~\"$job\"") && expr.contains("instance=~\"$instance\""), "{title}: {expr}");
        }
    }
    let model: Value = serde_json::from_str(&text("deploy/grafana/dashboard.json")).unwrap();
    let variables = model["templating"]["list"].as_array().unwrap();
    let named: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(named, ["datasource", "job", "instance"]);

    let Some(promtool) = promtool() else { return };
    let recorded = |(at, expr): (usize, &String)| json!({"record": format!("panel:{at}"), "expr": expr});
    let rules: Vec<Value> = expressions.iter().enumerate().map(recorded).collect();
    let file = tempfile::Builder::new().suffix(".yml").tempfile().unwrap();
    // JSON is YAML.
    fs::write(file.path(), json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()).unwrap();
    well(&Command::new(promtool).args(["check", "rules"]).arg(file.path()).output().unwrap());
}

/// `25s` and the like.
fn seconds(text: &str) -> u64 {
    text.trim().strip_suffix('s').unwrap().parse().unwrap()
}

#[test]
fn the_systemd_unit_is_sound() {
    let unit = text("deploy/systemd/task-logger.service");
    let value = |key: &str| {
        let mut values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let value = values.next().unwrap_or_else(|| panic!("no {key}"));
        assert!(key == "Environment" || values.next().is_none(), "{key} twice");
        value
    };
    for (key, expected) in [
        ("Restart", "always"),
        ("DynamicUser", "yes"),
        ("ProtectSystem", "strict"),
        ("NoNewPrivileges", "yes"),
        ("MemoryDenyWriteExecute", "no"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("CapabilityBoundingSet", ""),
    ] {
        assert_eq!(value(key), expected, "{key}");
    }
    assert!(!unit.lines().any(|line| line.starts_with("WatchdogSec")), "the service does not speak sd_notify");
    let settings: Vec<(&str, &str)> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("Environment=")?.split_once('='))
        .inspect(|(name, _)| assert!(is_setting(name), "{name} is no setting"))
        .collect();
    let set = |name: &str| settings.iter().find(|(own, _)| *own == name).unwrap().1;
    assert!(seconds(value("TimeoutStopSec")) > seconds(set("SHUTDOWN_GRACE")));
    assert_eq!(set("LOGS_DIR"), format!("/var/lib/{}/tasks", value("StateDirectory")));
    assert_eq!(set("CACHE_DIR"), format!("/var/cache/{}", value("CacheDirectory")));

    let Some(analyze) = tool("systemd-analyze", "REQUIRE_SYSTEMD") else { return };
    let temp = tempfile::tempdir().unwrap();
    let copy = temp.path().join("task-logger.service");
    // It looks for the program, which is not installed here.
    fs::write(&copy, unit.replace("/usr/local/bin/task-logger", env!("CARGO_BIN_EXE_task-logger"))).unwrap();
    let told = well(&Command::new(analyze).arg("verify").arg(&copy).output().unwrap());
    assert!(!told.contains("task-logger.service:"), "{told}");
}

fn is_setting(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.name == name || setting.is_secret() && setting.file_name() == name)
}

/// All documents below `deploy/kubernetes`, by file name.
fn manifests(python: &Path) -> Vec<(String, Value)> {
    let script = "import json, sys, yaml; print(json.dumps([d for d in yaml.safe_load_all(open(sys.argv[1])) if d]))";
    let mut all = Vec::new();
    for entry in fs::read_dir(project("deploy/kubernetes")).unwrap() {
        let path = entry.unwrap().path();
        let output = Command::new(python).args(["-c", script]).arg(&path).output().unwrap();
        well(&output);
        let documents: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        all.extend(documents.into_iter().map(|document| (name.clone(), document)));
    }
    all
}

#[test]
fn the_kubernetes_manifests_are_sound() {
    let Some(validate) = tool("kubernetes/bin/kubernetes-validate", "REQUIRE_KUBERNETES") else { return };
    let all = manifests(&validate.with_file_name("python"));
    let one = |kind: &str| {
        &all.iter().find(|(_, document)| document["kind"] == kind).unwrap_or_else(|| panic!("no {kind}")).1
    };
    // Kinds that are no part of Kubernetes itself have no schema there.
    let foreign = ["Kustomization", "PodMonitor"];
    for (name, document) in &all {
        if !foreign.iter().any(|kind| document["kind"] == *kind) {
            let file = project("deploy/kubernetes").join(name);
            well(&Command::new(&validate).arg("--strict").arg(file).output().unwrap());
        }
    }
    let listed: Vec<&str> =
        one("Kustomization")["resources"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for (name, document) in &all {
        let expected = !foreign.iter().any(|kind| document["kind"] == *kind);
        assert_eq!(listed.contains(&name.as_str()), expected, "{name} in kustomization.yaml");
    }

    let spec = &one("Deployment")["spec"];
    let (labels, pod) = (&spec["template"]["metadata"]["labels"], &spec["template"]["spec"]);
    for selector in [
        &spec["selector"]["matchLabels"],
        &one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        &one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        &one("Service")["spec"]["selector"],
        &one("PodMonitor")["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    let container = &pod["containers"][0];
    let dockerfile = text("Dockerfile");
    assert!(dockerfile.contains("USER 10001:10001"));
    assert_eq!(
        (&pod["securityContext"]["runAsUser"], &pod["securityContext"]["runAsNonRoot"]),
        (&json!(10001), &json!(true))
    );
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let env: Vec<(&str, &str)> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| (variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap()))
        .inspect(|(name, _)| assert!(is_setting(name), "{name} is no setting"))
        .collect();
    let set = |name: &str| env.iter().find(|(own, _)| *own == name).unwrap().1;
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > seconds(set("SHUTDOWN_GRACE")));
    assert_eq!(set("REDIS_URL"), "", "the image's own would win over the file");
    let mounts: Vec<&str> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["mountPath"].as_str().unwrap())
        .collect();
    let mounted = |path: &str| mounts.iter().any(|mount| Path::new(path).starts_with(mount));
    for path in ["/data/logs/tasks", "/data/plugins", set("CACHE_DIR"), set("REDIS_URL_FILE"), set("API_TOKEN_FILE")] {
        assert!(mounted(path), "{path} is not mounted");
    }
    let keys = one("Secret")["stringData"].as_object().unwrap();
    for name in ["REDIS_URL_FILE", "API_TOKEN_FILE"] {
        assert!(keys.contains_key(Path::new(set(name)).file_name().unwrap().to_str().unwrap()), "{name}");
    }
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/health");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/ready");
}

/// What the probes of the manifests stand on.
#[test]
fn a_standby_is_alive_and_ready_to_read() {
    let Some(rig) = Rig::redis() else { return };
    let owner = rig.spawn_owner();
    let standby = rig.spawn();
    eventually("it stands by", || standby.json("/health")["role"] == "standby");
    assert_eq!(["/health", "/ready", "/ready?write"].map(|path| standby.get(path).0), [200, 200, 503]);
    assert_eq!(["/health", "/ready", "/ready?write"].map(|path| owner.get(path).0), [200, 200, 200]);
    let metrics = standby.metrics();
    assert!(metrics.contains("task_logger_blocked_by{part=\"standby\"} 1"), "{metrics}");
    assert!(metrics.contains("task_logger_blocked_by{part=\"stream\"} 0"), "{metrics}");
}

#[test]
fn every_blocking_part_is_a_known_label() {
    for path in crate::checker::files_below(&project("src")) {
        let text = fs::read_to_string(&path).unwrap();
        for part in text.split("set_blocked(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let known = task_logger::metrics::BLOCKING_PARTS.contains(&part) || part == "owner";
            assert!(known, "{}: {part} is not in BLOCKING_PARTS", path.display());
        }
    }
}
