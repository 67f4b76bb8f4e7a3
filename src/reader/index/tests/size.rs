//! Many tasks: what lists of them take. The figures are printed; they are judged in the ignored tests, which are for a machine
//! that does nothing else: `cargo test --release --lib index::tests::size -- --ignored --nocapture`.

use super::*;

fn metadata(n: usize) -> String {
    let plugin = json!({"name": "redact", "version": "0.1.0", "sha256": "0".repeat(64), "config_hash": "1".repeat(64),
        "chain": "2".repeat(64)});
    let status = ["completed", "completed", "completed", "failed", "running"][n % 5];
    let source = ["github", "jira", "slack", "dashboard"][n % 4];
    let agent = ["brain", "planner", "coder"][n % 3];
    let created = jiff::Timestamp::from_second(1_700_000_000 + i64::try_from(n * 37 % 1_000_000).unwrap()).unwrap();
    serde_json::to_string_pretty(&json!({
        "source": source,
        "assigned_agent": agent,
        "input_message": format!("Issue {n}: after a {} the client retries without a pause. Please fix it.", n % 600),
        "annotations": {"usage": {"cost_usd": (n % 1000) as f64 / 100.0, "duration_seconds": (n % 700) as f64 / 10.0,
            "input_tokens": n % 100_000, "output_tokens": n % 5000, "models": ["claude-sonnet-4-5"], "num_turns": n % 50,
            "tool_calls": n % 100, "tool_errors": n % 4}},
        "task_id": format!("task-{n:08x}"), "created_at": created.to_string(), "started_at": created.to_string(),
        "status": status, "plugins": [plugin, plugin, plugin], "layout_version": 1, "event_ids": ["1-0", "2-0", "3-0"],
    }))
    .unwrap()
}

fn table(rows: usize) -> Table {
    let mut table = Table::default();
    for n in 0..rows {
        let task = id(&format!("task-{n:08x}"));
        table.put(Row::read(&task, metadata(n).as_bytes(), |_| Vec::new(), jiff::Timestamp::UNIX_EPOCH));
    }
    table
}

/// Lists, filters and pages, with what a client sends; an answer is made into text, too.
fn figures(table: &mut Table) -> Duration {
    let text = |text: &str| TaskQuery { text: Some(text.to_owned()), ..TaskQuery::default() };
    let of = |facet: usize, value: &str| {
        let mut query = TaskQuery::default();
        query.facets[facet].push(value.to_owned());
        query
    };
    let since = Some("2023-11-20T00:00:00Z".parse().unwrap());
    let queries = [
        ("first page", TaskQuery::default()),
        ("1000 rows", TaskQuery { limit: 1000, ..TaskQuery::default() }),
        ("by cost", TaskQuery { by: Field::Cost, ..TaskQuery::default() }),
        ("status", of(0, "failed")),
        ("two facets", {
            let mut query = of(0, "running");
            query.facets[1].push("jira".to_owned());
            query
        }),
        ("nothing", of(2, "nobody")),
        ("since, errors", TaskQuery { since, errors: Some(true), by: Field::Errors, ..TaskQuery::default() }),
        ("text of many", text("the client")),
        ("text of few", text("ISSUE 1777:")),
        ("text of none", text("something else")),
    ];
    let mut all = Vec::new();
    for (name, query) in queries {
        let ordered = Instant::now();
        if !table.is_ordered(query.by) {
            table.order(query.by);
            println!("  order by {:9} {:>9.2?}, once", query.by.name(), ordered.elapsed());
        }
        let mut took = Vec::new();
        for _ in 0..20 {
            let mut query = query.clone();
            for _ in 0..5 {
                let begun = Instant::now();
                let page = query.page(table);
                assert!(serde_json::to_vec(&page).unwrap().len() > 50);
                took.push(begun.elapsed());
                let Some(next) = page.next else { break };
                query.after = Place::parse(&next, query.by);
            }
        }
        took.sort();
        println!("  {name:18} {:>9.2?} median, {:>9.2?} at most", took[took.len() / 2], took[took.len() - 1]);
        all.extend(took);
    }
    all.sort();
    let p99 = all[all.len() * 99 / 100];
    println!("  p99 of all {p99:.2?}");
    p99
}

#[test]
fn twenty_thousand_rows_are_listed_filtered_and_paged() {
    let begun = Instant::now();
    let mut table = table(20_000);
    println!("20,000 rows made in {:.2?}", begun.elapsed());
    figures(&mut table);
}

#[test]
#[ignore = "judges times"]
fn a_hundred_thousand_rows_answer_within_20_ms() {
    assert!(figures(&mut table(100_000)) <= Duration::from_millis(20));
}

#[test]
#[ignore = "writes 100,000 folders and judges times"]
fn a_hundred_thousand_tasks_are_indexed_within_seconds_and_kept_fresh_for_little() {
    let temp = tempfile::tempdir_in(std::env::var("TASK_LOGGER_SIZE_DIR").unwrap_or("/tmp".to_owned())).unwrap();
    let root = temp.path();
    for n in 0..100_000 {
        let folder = root.join(format!("task-{n:08x}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("metadata.json"), metadata(n)).unwrap();
        fs::write(folder.join("01-input.json"), "{\"message\": \"hello\"}").unwrap();
        fs::write(folder.join("03-agent-output.jsonl"), "{}\n").unwrap();
        fs::write(folder.join("04-final-result.json"), "{\"success\": true}").unwrap();
    }
    let resident = || {
        let status = fs::read_to_string("/proc/self/statm").unwrap();
        (status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096) >> 20
    };
    let (begun, before) = (Instant::now(), resident());
    let index = Index::start(root.to_owned());
    while !index.is_complete() {
        index.catch_up();
    }
    let built = begun.elapsed();
    println!("100,000 tasks indexed in {built:.2?}, {} MiB", resident() - before);
    let mut answers = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        index.catch_up();
        index.tasks(&TaskQuery::default()).unwrap();
        answers.push(begun.elapsed());
    }
    answers.sort();
    println!("asked a hundred times: median {:.2?}, at most {:.2?}", answers[50], answers[99]);
    write(root, "fresh/metadata.json", "{\"created_at\":\"2030-01-01T00:00:00Z\"}");
    let begun = Instant::now();
    index.touched(&Key::Task(id("fresh")));
    index.catch_up();
    assert_eq!(index.tasks(&TaskQuery::default()).unwrap().tasks[0].task_id, id("fresh"));
    println!("a task that was hinted at is listed after {:.2?}", begun.elapsed());
    write(root, "unhinted/metadata.json", "{\"created_at\":\"2031-01-01T00:00:00Z\"}");
    let begun = Instant::now();
    while index.tasks(&TaskQuery::default()).unwrap().tasks[0].task_id != id("unhinted") {
        index.catch_up();
        std::thread::yield_now();
    }
    println!("one that another process wrote, after {:.2?}", begun.elapsed());
    fs::remove_dir_all(root.join("task-00000000")).unwrap();
    index.touched(&Key::Task(id("task-00000000")));
    index.catch_up();
    assert_eq!(index.tasks(&TaskQuery::default()).unwrap().total, Some(100_001));
    assert!(built < Duration::from_secs(10));
    drop(index);
    let mut scanner = scan::Scanner::new(Arc::new(Shared::new(root.to_owned())));
    for look in ["all is new", "nothing has changed", "again", "again"] {
        assert!(scanner.look_around().is_ok());
        println!("looking around takes {:.2?}: {look}", scanner.cost);
    }
}

#[test]
fn a_hint_shows_a_task_among_thousands_at_once() {
    let (temp, index) = started();
    let root = temp.path().join("tasks");
    for n in 0..3000 {
        fs::create_dir_all(root.join(format!("t{n}"))).unwrap();
    }
    let newest = || {
        index.catch_up();
        index.tasks(&TaskQuery::default()).unwrap().tasks.first().and_then(|row| row.created_at.clone())
    };
    eventually("all are listed", || {
        index.catch_up();
        index.tasks(&TaskQuery::default()).unwrap().total == Some(3000)
    });
    for n in 0..50 {
        let created = format!("2030-01-01T00:00:{n:02}Z");
        write(&root, &format!("new-{n}/metadata.json"), &json!({"created_at": created}).to_string());
        index.touched(&Key::Task(id(&format!("new-{n}"))));
        eventually("the new one is first", || newest().as_deref() == Some(&*created));
    }
    for n in 0..50 {
        fs::remove_dir_all(root.join(format!("new-{n}"))).unwrap();
        index.touched(&Key::Task(id(&format!("new-{n}"))));
    }
    eventually("they are gone", || newest().is_none());
}
