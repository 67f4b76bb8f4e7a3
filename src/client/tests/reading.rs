//! What the commands print, of a service and of its folder alike.

use super::*;

fn a_task(service: &Service) {
    let long = "z".repeat(5000);
    let records = [
        r#"{"timestamp":"2026-01-01T00:00:00Z","type":"output","content":"one\ntwo \u001b[31mred\u001b]0;x\u0007","id":"1-0"}"#,
        r#"{"timestamp":"2026-01-01T00:00:01Z","type":"tool_call","name":"Bash","input":{"command":"ls"},"id":"2-0"}"#,
        r#"{"timestamp":"2026-01-01T00:00:02Z","type":"tool_result","content":"gone","is_error":true,"id":"3-0"}"#,
        r#"{"timestamp":"2026-01-01T00:00:03Z","type":"gap","kind":"task:output","reason":"refused","id":"4-0"}"#,
        "no json",
        &format!(r#"{{"timestamp":"2026-01-01T00:00:04Z","type":"thinking","content":"{long}","id":"5-0"}}"#),
    ];
    service.write("a%2Fb/03-agent-output.jsonl", records.join("\n") + "\n");
    service.write(
        "a%2Fb/03-user-inputs.jsonl",
        "{\"timestamp\":\"2026-01-01T00:00:02Z\",\"type\":\"user_input\",\"content\":\"yes\",\"id\":\"2-1\"}\n",
    );
    service.write(
        "a%2Fb/04-final-result.json",
        r#"{"success":false,"status":"failed","error":"no\u001b[2Jway","completed_at":"2026-01-01T00:00:05Z"}"#,
    );
    service.write(
        "a%2Fb/metadata.json",
        r#"{"task_id":"a/b","status":"failed","source":"jira","assigned_agent":"coder","model":"m-1","input_message":"Fix\nit",
            "created_at":"2026-01-01T00:00:00Z","started_at":"2026-01-01T00:00:00Z","completed_at":"2026-01-01T00:00:05Z",
            "plugins":[{"name":"redact","version":"1.0.0","sha256":"00"}]}"#,
    );
}

#[test]
fn logs_are_readable_and_end_with_the_tasks_end() {
    let service = Service::start();
    a_task(&service);
    let expected = format!(
        "2026-01-01T00:00:00Z  output       one\n    two red\n\
         2026-01-01T00:00:01Z  tool_call    Bash {{\"command\":\"ls\"}}\n\
         2026-01-01T00:00:02Z  user_input   yes\n\
         2026-01-01T00:00:02Z  tool_result  (error) gone\n\
         2026-01-01T00:00:03Z  gap          task:output: not written, refused\n\
         2026-01-01T00:00:04Z  thinking     {}\n    … 1000 more characters\n\
         2026-01-01T00:00:05Z  failed: noway\n",
        "z".repeat(4000)
    );
    for line in ["logs a/b", "logs a/b -f"] {
        assert_eq!(both(&service, line), (ExitCode::SUCCESS, expected.clone()), "{line}");
    }
    for line in [
        "logs ..",
        "logs nothing -f",
        "get nothing metadata.json",
        "get a/b ../x",
        "get a/b none.json",
        "show x",
        "wait x",
        "archive x -O /nonexistent/x",
    ] {
        assert_eq!(refused(&service, line), ExitCode::from(66), "{line}");
    }
    let nowhere = Origin::Folder("/nonexistent".into());
    for line in ["logs x", "ls", "show x", "get x y", "search x", "wait x"] {
        let error = read_from(&nowhere, line, Screen::default(), &mut Vec::new()).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::from(66), "{line}");
    }
}

#[test]
fn every_filter_chooses_the_same_records_of_both() {
    let service = Service::start();
    a_task(&service);
    let ids = |line: &str| {
        let (_, text) = both(&service, &format!("logs a/b -o raw {line}"));
        let ids =
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>().join(" ")
    };
    for (line, expected) in [
        ("--file 03-user-inputs.jsonl", "2-1"),
        ("--type output,gap", "1-0 4-0"),
        ("--type output --type gap", "1-0 4-0"),
        ("--tool Bash", "2-0"),
        ("--level error", "3-0"),
        ("--level warn", "3-0 4-0"),
        ("--since 2026-01-01T00:00:02Z --until 2026-01-01T00:00:03Z", "2-1 3-0"),
        ("-q YES", "2-1"),
        ("--grep=gone", "3-0"),
        ("--regex ^z+$", "5-0"),
        ("--tail 2", "4-0 5-0"),
        ("--tail 1 --type output", "1-0"),
        ("--limit 2", "1-0 2-0"),
        ("-n 2 --order desc", "5-0 4-0"),
        ("--order desc", "5-0 4-0 3-0 2-1 2-0 1-0"),
        ("--tail 0", ""),
        ("-f --tail 2", "4-0 5-0"),
        ("-f --limit 1", "1-0"),
    ] {
        assert_eq!(ids(line), expected, "{line}");
    }
    let (_, page) = both(&service, "logs a/b -o json -n 2");
    let page: Value = serde_json::from_str(&page).unwrap();
    let next = page["next"].as_str().unwrap();
    assert_eq!(page["records"][1]["cursor"], next);
    assert_eq!(ids(&format!("--after {next} -n 1")), "2-1");
    assert_eq!(ids(&format!("--after {next} --order desc")), "1-0");
}

#[test]
fn every_form_is_what_it_says() {
    let service = Service::start();
    a_task(&service);
    let (_, whole) = both(&service, "logs a/b -o json");
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!((whole["records"].as_array().unwrap().len(), &whole["ended"]), (6, &"failed".into()));
    let (_, lines) = both(&service, "logs a/b -o ndjson");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(Value::from(lines), whole["records"]);
    let (_, lines) = both(&service, "logs a/b -o ndjson -f --tail 0");
    assert_eq!(lines, "{\"end\":{\"status\":\"failed\"}}\n");
    let (_, empty) = both(&service, "logs a/b -o json --type none");
    assert_eq!(serde_json::from_str::<Value>(&empty).unwrap()["records"], serde_json::json!([]));
    let (_, file) = both(&service, "get a/b 03-agent-output.jsonl");
    let (_, raw) = both(&service, "logs a/b -o raw --file 03-agent-output.jsonl");
    assert_eq!(raw, file.replace("no json\n", ""), "as they stand in the file");
    let (_, markdown) = both(&service, "logs a/b -o md --type output");
    assert_eq!(
        markdown,
        "### output · 2026-01-01T00:00:00Z\n\n```\none\ntwo red\n```\n\n---\n\n    2026-01-01T00:00:05Z  failed: noway\n"
    );
    // Nothing is coloured but what the command adds itself.
    let colours = Screen { terminal: true, colours: true, progress: false };
    let (_, text) = run(|out| read_from(&origins(&service)[0], "logs a/b --level error", colours, out));
    assert_eq!(
        text,
        "\u{1b}[2m2026-01-01T00:00:02Z\u{1b}[0m  \u{1b}[31mtool_result\u{1b}[0m  (error) gone\n\
         \u{1b}[1m2026-01-01T00:00:05Z  failed: noway\u{1b}[0m\n"
    );
}

#[test]
fn a_task_that_is_on_its_way_is_waited_for() {
    let service = Service::start();
    std::thread::scope(|scope| {
        let service = &service;
        let told =
            scope.spawn(move || run(|out| read_from(&origins(service)[0], "logs late -o raw", Screen::default(), out)));
        let record = r#"{"timestamp":"2026-01-01T00:00:00Z","type":"output","content":"here","id":"1-0"}"#;
        service.write("late/03-agent-output.jsonl", format!("{record}\n"));
        assert_eq!(told.join().unwrap(), (ExitCode::SUCCESS, format!("{record}\n")));
    });
}

#[test]
fn following_ends_with_the_task_and_prints_each_record_once() {
    let record =
        |n: u32| format!("{{\"timestamp\":\"T{n}\",\"type\":\"output\",\"content\":\"c{n}\",\"id\":\"{n}-0\"}}\n");
    for at in 0..2 {
        let service = Service::start();
        service.write("t/metadata.json", "{}");
        let out = Shared::default();
        let following = std::thread::spawn({
            let (mut out, origin) = (out.clone(), origins(&service)[at].clone());
            move || read_from(&origin, "logs t -f", Screen::default(), &mut out)
        });
        let append = |text: &str| {
            let path = service.logs.path().join("tasks/t/03-agent-output.jsonl");
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            file.unwrap().write_all(text.as_bytes()).unwrap();
        };
        append(&(record(1) + "{\"torn\":"));
        out.wait_for("c1");
        append(&format!("1,\"id\":\"1-1\"}}\n{}{}", record(2), record(3)));
        out.wait_for("c3");
        append(&record(4));
        service.write("t/04-final-result.json", r#"{"success":true,"completed_at":"T5"}"#);
        assert_eq!(following.join().unwrap().unwrap(), ExitCode::SUCCESS);
        let lines: Vec<_> = (1..=4).map(|n| format!("T{n}  output       c{n}\n")).collect();
        let text = out.text();
        let known: String = text.split_inclusive('\n').filter(|line| !line.starts_with("-  -")).collect();
        assert_eq!(known, lines.concat() + "T5  completed\n");
        assert_eq!(text.lines().count(), 6, "the torn one, too, once it was whole");
    }
}

#[test]
fn files_that_were_replaced_are_followed_anew() {
    let service = Service::start();
    service.write("t/03-agent-output.jsonl", "{\"type\":\"output\",\"content\":\"old\",\"id\":\"1-0\"}\n");
    let out = Shared::default();
    let following = std::thread::spawn({
        let (mut out, origin) = (out.clone(), origins(&service)[1].clone());
        move || read_from(&origin, "logs t -f -o raw", Screen::default(), &mut out)
    });
    out.wait_for("old");
    let path = service.logs.path().join("tasks/t/03-agent-output.jsonl");
    std::fs::write(path.with_extension("new"), "{\"type\":\"output\",\"content\":\"new\",\"id\":\"2-0\"}\n").unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
    out.wait_for("new");
    service.write("t/04-final-result.json", r#"{"success":true}"#);
    assert_eq!(following.join().unwrap().unwrap(), ExitCode::SUCCESS);
    assert_eq!((out.text().matches("old").count(), out.text().matches("new").count()), (1, 1));
}

#[test]
fn tasks_are_listed_by_filters_and_orders() {
    let service = Service::start();
    for n in 0..601 {
        let (status, agent) = (["running", "completed"][n % 2], ["coder", "planner", "tester"][n % 3]);
        let created = format!("2026-01-01T00:{:02}:{:02}Z", n / 60, n % 60);
        let cost = n as f64 / 100.0;
        service.write(
            &format!("task-{n:03}/metadata.json"),
            format!(r#"{{"status":"{status}","assigned_agent":"{agent}","created_at":"{created}","input_message":"number {n}"}}"#),
        );
        service.write(
            &format!("task-{n:03}/04-final-result.json"),
            format!(r#"{{"success":true,"metrics":{{"cost_usd":{cost}}}}}"#),
        );
    }
    let (_, text) = both(&service, "ls");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 602, "all pages");
    assert!(lines[0].starts_with("TASK") && lines[1].starts_with("task-600") && lines[601].starts_with("task-000"));
    let ids = |line: &str| {
        let (_, text) = both(&service, &format!("ls -o json {line}"));
        let page: Value = serde_json::from_str(&text).unwrap();
        let tasks = page["tasks"].as_array().unwrap().iter();
        tasks.map(|task| task["task_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("").len(), 601);
    assert_eq!(ids("-n 2"), ["task-600", "task-599"]);
    assert_eq!(ids("-n 2 --sort created --status completed"), ["task-001", "task-003"]);
    assert_eq!(ids("-n 2 --sort -id --agent planner,tester --status running"), ["task-598", "task-596"]);
    assert_eq!(ids("-q NUMBER\u{a0}6").len(), 0);
    assert_eq!(ids("-q r-00 -n 3").len() + ids("--since 2026-01-01T00:10:00Z").len(), 1);
    assert_eq!(ids("--until 2026-01-01T00:00:02Z"), ["task-001", "task-000"]);
    assert_eq!(ids("--errors").len(), 0);
}

#[test]
fn a_task_is_shown_at_a_glance() {
    let service = Service::start();
    a_task(&service);
    let (_, text) = both(&service, "show a/b");
    for line in [
        "task       a/b",
        "title      Fix",
        "status     failed",
        "source     jira",
        "agent      coder",
        "model      m-1",
        "created    2026-01-01T00:00:00Z",
        "duration   5.0s",
        "error      noway",
        "plugins    redact 1.0.0",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line:?} in {text}");
    }
    assert!(text.lines().any(|line| line.starts_with("03-agent-output.jsonl  5.")), "{text}");
    let (_, json) = both(&service, "show a/b --json");
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["final_result"]["success"], false);
}

#[test]
fn texts_are_found_in_all_tasks() {
    let service = Service::start();
    a_task(&service);
    for n in 0..3 {
        let created = format!(r#"{{"created_at":"2026-01-02T00:00:0{n}Z"}}"#);
        service.write(&format!("n{n}/metadata.json"), created);
        let record = r#"{"timestamp":"2026-01-01T00:00:01Z","type":"output","content":"a Needle\nin hay","id":"1-0"}"#;
        service.write(&format!("n{n}/03-agent-output.jsonl"), format!("{record}\n{record}\n"));
    }
    let (_, text) = both(&service, "search needle");
    assert_eq!(text.lines().next().unwrap(), "n2  2026-01-01T00:00:01Z  output       a Needle in hay");
    let tasks = |line: &str| {
        let (_, text) = both(&service, line);
        text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(tasks("search needle"), "n2 n2 n1 n1 n0 n0");
    assert_eq!(tasks("search needle -n 3"), "n2 n2 n1");
    assert_eq!(tasks("search --regex ^gone$"), "a/b");
    assert_eq!(tasks("search gone --level error --type tool_result"), "a/b");
    assert_eq!(tasks("search gone --level error --type output"), "");
    assert_eq!(refused(&service, "search ( --regex"), ExitCode::from(64));
    let (_, hits) = both(&service, "search yes --json");
    let hit: Value = serde_json::from_str(&hits).unwrap();
    let cursor = hit["cursor"].as_str().unwrap();
    let (_, next) = both(&service, &format!("logs a/b -o raw -n 1 --after {cursor}"));
    assert!(next.contains("3-0"), "a hit's cursor is a place in its task");
}

#[test]
fn files_and_archives_are_saved_whole() {
    let service = Service::start();
    a_task(&service);
    let temp = tempfile::tempdir().unwrap();
    let stands = std::fs::read(service.logs.path().join("tasks/a%2Fb/03-agent-output.jsonl")).unwrap();
    for (n, origin) in origins(&service).iter().enumerate() {
        let path = temp.path().join(format!("{n}.jsonl"));
        let get = format!("get a/b 03-agent-output.jsonl -O {}", path.display());
        assert_eq!(run(|out| read_from(origin, &get, Screen::default(), out)), (ExitCode::SUCCESS, String::new()));
        assert_eq!(std::fs::read(&path).unwrap(), stands);
        let path = temp.path().join(format!("{n}.tar.zst"));
        let archive = format!("archive a/b -O {}", path.display());
        assert_eq!(run(|out| read_from(origin, &archive, Screen::default(), out)).0, ExitCode::SUCCESS);
        let mut tar = Vec::new();
        zstd::stream::copy_decode(std::fs::File::open(&path).unwrap(), &mut tar).unwrap();
        assert!(tar.windows(stands.len()).any(|bytes| bytes == stands));
        let mut out = Vec::new();
        read_from(origin, "archive a/b --format zip --type output", Screen::default(), &mut out).unwrap();
        assert!(out.starts_with(b"PK"));
        let terminal = Screen { terminal: true, ..Screen::default() };
        let error = read_from(origin, "archive a/b", terminal, &mut Vec::new()).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::from(64));
        let error = read_from(origin, "get a/b metadata.json -O /nonexistent/x", Screen::default(), &mut Vec::new());
        assert_eq!(error.unwrap_err().exit_code(), ExitCode::from(74));
    }
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 4, "nothing but what was asked for");
}

#[test]
fn waiting_ends_with_the_outcome() {
    for at in 0..2 {
        let service = Service::start();
        service.write("t/metadata.json", "{}");
        service.write("good/04-final-result.json", r#"{"success":true}"#);
        service.write("bad/04-final-result.json", r#"{"success":false}"#);
        let origin = origins(&service)[at].clone();
        let wait = |line: &str| run(|out| read_from(&origin, line, Screen::default(), out));
        assert_eq!(wait("wait good"), (ExitCode::SUCCESS, "completed\n".to_owned()));
        assert_eq!(wait("wait bad --timeout 0"), (ExitCode::FAILURE, "failed\n".to_owned()));
        assert_eq!(wait("wait t --timeout 50ms"), (ExitCode::from(75), "still running\n".to_owned()));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait("wait t --timeout 1m"));
            service.write("t/04-final-result.json", r#"{"success":false}"#);
            assert_eq!(waiting.join().unwrap().0, ExitCode::FAILURE);
        });
    }
}

#[test]
fn without_a_terminal_top_prints_tables() {
    let service = Service::start();
    a_task(&service);
    for origin in origins(&service) {
        let (_, text) = run(|out| read_from(&origin, "top --count 2 --interval 1ms", Screen::default(), out));
        assert_eq!(text.matches("1 tasks · failed 1").count(), 2, "{text}");
        assert_eq!(text.matches("a/b   failed  coder").count(), 2, "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
