//! Filters, orders and pages.

use std::collections::BTreeMap;

use super::*;

fn seeded() -> fastrand::Rng {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}

/// A task as its metadata tells it, with few values, so that many are equal and some unknown.
fn random_row(random: &mut fastrand::Rng, task: &str) -> Row {
    let mut metadata = json!({"annotations": {"usage": {}}});
    let mut maybe = |value: Value| if random.u8(0..4) == 0 { Value::Null } else { value };
    let (status, source, agent, model, n, hour) = (
        fastrand::usize(0..4),
        fastrand::u8(0..3),
        fastrand::u8(0..3),
        fastrand::u8(0..3),
        fastrand::u8(0..5),
        fastrand::u8(0..24),
    );
    metadata["status"] = maybe(json!(["created", "running", "completed", "failed"][status]));
    metadata["source"] = maybe(json!(format!("source {source}")));
    metadata["assigned_agent"] = maybe(json!(format!("agent,{agent}")));
    metadata["model"] = maybe(json!(format!("model-{model}")));
    metadata["input_message"] = maybe(json!(format!("Title Ä{n}")));
    metadata["created_at"] = maybe(json!(format!("2026-01-01T{hour:02}:00:00Z")));
    metadata["started_at"] = maybe(json!(format!("2026-01-02T{hour:02}:00:00Z")));
    metadata["completed_at"] = maybe(json!(format!("2026-01-03T{hour:02}:00:00Z")));
    for key in ["cost_usd", "duration_seconds", "input_tokens", "output_tokens", "tool_errors"] {
        metadata["annotations"]["usage"][key] = maybe(json!(n));
    }
    Row::read(&id(task), metadata.to_string().as_bytes(), |_| Vec::new(), jiff::Timestamp::UNIX_EPOCH)
}

fn random_query(random: &mut fastrand::Rng) -> TaskQuery {
    let mut query = TaskQuery { limit: random.usize(1..20), ..TaskQuery::default() };
    query.by = Field::ALL[random.usize(0..8)];
    query.descending = random.bool();
    let values = ["running", "source 1", "agent,2", "model-0"];
    for (wanted, value) in query.facets.iter_mut().zip(values) {
        match random.u8(0..6) {
            0 => wanted.push(value.to_owned()),
            1 => wanted.extend([value.to_owned(), "failed".to_owned(), "nowhere".to_owned()]),
            _ => {}
        }
    }
    let time = |hour: u8| Some(format!("2026-01-01T{hour:02}:00:00Z").parse().unwrap());
    match random.u8(0..5) {
        0 => query.since = time(random.u8(0..24)),
        1 => query.until = time(random.u8(0..24)),
        2 => (query.since, query.until) = (time(6), time(18)),
        _ => {}
    }
    match random.u8(0..5) {
        0 => query.text = Some("tITLE ä3".to_owned()),
        1 => query.text = Some("7".to_owned()),
        _ => {}
    }
    query.errors = [None, None, Some(true), Some(false)][random.usize(0..4)];
    query
}

/// Whether a row is wanted, but for what the facet says that is left out.
fn wanted(query: &TaskQuery, row: &Row, without: Option<usize>) -> bool {
    let values = [&row.status, &row.source, &row.agent, &row.model];
    let facets = query.facets.iter().zip(values).enumerate().all(|(at, (wanted, value))| {
        Some(at) == without
            || wanted.is_empty()
            || value.as_deref().is_some_and(|value| wanted.iter().any(|wanted| wanted == value))
    });
    let created = row.created_at.as_deref().map(|at| at.parse::<jiff::Timestamp>().unwrap());
    let time = query.since.is_none_or(|since| created.is_some_and(|at| at >= since))
        && query.until.is_none_or(|until| created.is_some_and(|at| at < until));
    let text = query.text.as_ref().is_none_or(|text| {
        let title = row.title.as_deref().unwrap_or_default().to_lowercase();
        title.contains(&text.to_lowercase()) || row.task_id.as_str().contains(&text.to_lowercase())
    });
    facets && time && text && query.errors.is_none_or(|errors| errors == row.errors.is_some_and(|errors| errors > 0))
}

fn expected_order(query: &TaskQuery, rows: &BTreeMap<String, Row>) -> Vec<Row> {
    let mut wanted: Vec<Row> = rows.values().filter(|row| wanted(query, row, None)).cloned().collect();
    let key = |row: &Row| -> Option<f64> {
        let time = |text: &Option<Box<str>>| {
            text.as_deref().map(|text| text.parse::<jiff::Timestamp>().unwrap().as_second() as f64)
        };
        match query.by {
            Field::Created => time(&row.created_at),
            Field::Started => time(&row.started_at),
            Field::Completed => time(&row.completed_at),
            Field::Duration => row.duration_seconds,
            Field::Cost => row.cost_usd,
            Field::Tokens => match (row.input_tokens, row.output_tokens) {
                (None, None) => None,
                (input, output) => Some((input.unwrap_or(0) + output.unwrap_or(0)) as f64),
            },
            Field::Errors => row.errors.map(|errors| errors as f64),
            Field::Id => Some(0.0),
        }
    };
    wanted.sort_by(|a, b| {
        let way = |order: std::cmp::Ordering| if query.descending { order.reverse() } else { order };
        let ids = || way(a.task_id.cmp(&b.task_id));
        match (key(a), key(b)) {
            (Some(a), Some(b)) => way(a.total_cmp(&b)).then_with(ids),
            // Unknown is last, whichever way.
            (a, b) => a.is_none().cmp(&b.is_none()).then_with(ids),
        }
    });
    wanted
}

fn paged(table: &Table, query: &TaskQuery) -> (Vec<Row>, TaskPage) {
    let mut query = query.clone();
    let mut all = Vec::new();
    loop {
        let page = query.page(table);
        assert!(page.tasks.len() <= query.limit);
        all.extend(page.tasks.iter().map(|row| Row::clone(row)));
        match &page.next {
            Some(next) => query.after = Some(Place::parse(next, query.by).unwrap()),
            None => return (all, page),
        }
    }
}

#[test]
fn pages_are_what_sorting_and_filtering_all_rows_gives() {
    let mut random = seeded();
    let (mut table, mut rows) = (Table::default(), BTreeMap::new());
    for round in 0..300 {
        // Rows come, change and go; orders are kept from their first use on.
        for _ in 0..20 {
            let task = format!("task-{}", random.u8(0..100));
            if random.u8(0..4) == 0 {
                assert_eq!(table.remove(&id(&task)), rows.remove(&task).is_some());
            } else {
                let row = random_row(&mut random, &task);
                let news = rows.insert(task, row.clone()) != Some(row.clone());
                assert_eq!(table.put(row).is_some(), news);
            }
        }
        let query = random_query(&mut random);
        if !table.is_ordered(query.by) {
            table.order(query.by);
        }
        let (all, last) = paged(&table, &query);
        let expected = expected_order(&query, &rows);
        assert_eq!(all, expected, "{round} {query:?}");
        assert_eq!(last.total, Some(expected.len()), "{query:?}");
        let Facets { status, source, agent, model } = last.counts;
        for (at, counts) in [status, source, agent, model].into_iter().enumerate() {
            let mut expected = BTreeMap::<String, u32>::new();
            for row in rows.values().filter(|row| wanted(&query, row, Some(at))) {
                let value = [&row.status, &row.source, &row.agent, &row.model][at];
                *expected.entry(value.as_deref().unwrap_or_default().to_owned()).or_default() += 1;
            }
            expected.remove("");
            assert!(counts.0.is_sorted_by(|a, b| a.1 > b.1 || a.1 == b.1 && a.0 < b.0), "{counts:?}");
            let counts: BTreeMap<_, _> = counts.0.into_iter().map(|(value, rows)| (value.to_string(), rows)).collect();
            assert_eq!(counts, expected, "{at} {query:?}");
        }
    }
}

#[test]
fn no_row_comes_twice_or_is_missed_while_others_come_change_and_go() {
    let mut random = seeded();
    for by in [Field::Created, Field::Id] {
        let mut table = Table::default();
        table.order(by);
        let row = |n: usize, status: &str| {
            let metadata = json!({"status": status, "created_at": format!("2026-01-01T00:{:02}:00Z", n % 60)});
            Row::read(
                &id(&format!("t{n}")),
                metadata.to_string().as_bytes(),
                |_| Vec::new(),
                jiff::Timestamp::UNIX_EPOCH,
            )
        };
        for n in 0..500 {
            table.put(row(n, "running"));
        }
        let mut query = TaskQuery { by, limit: 7, ..TaskQuery::default() };
        let mut seen = Vec::new();
        loop {
            let page = query.page(&table);
            seen.extend(page.tasks.iter().map(|row| row.task_id.to_string()));
            for _ in 0..20 {
                // Those that stay change, too; some come and some of those go.
                table.put(row(random.usize(0..500), "completed"));
                table.put(row(random.usize(500..1000), "created"));
                table.remove(&id(&format!("t{}", random.usize(500..1000))));
            }
            let Some(next) = page.next else { break };
            query.after = Some(Place::parse(&next, by).unwrap());
        }
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all, "one came twice");
        assert!((0..500).all(|n| seen.binary_search(&format!("t{n}")).is_ok()), "one is missed");
    }
}

#[test]
fn places_are_read_as_they_are_written() {
    for (text, by) in [
        ("0000000000000007~task", Field::Cost),
        ("-~a~b", Field::Created),
        ("fffffffffffffffe~-~x", Field::Errors),
        ("0000000000000007~task", Field::Id),
        ("-~a", Field::Id),
    ] {
        assert_eq!(Place::parse(text, by).unwrap().text(by), text);
    }
    for wrong in
        ["", "task", "7~task", "000000000000000G~t", "000000000000000A~t", "+000000000000007~t", "~t", "-~", "-~\n"]
    {
        assert_eq!(Place::parse(wrong, Field::Cost), None, "{wrong}");
    }
    assert_eq!(Place::parse("", Field::Id), None);
}

#[test]
fn a_value_that_each_row_has_another_of_takes_bounded_room_in_an_answer() {
    let mut table = Table::default();
    for n in 0..1000 {
        let metadata = json!({"source": format!("s{n}"), "model": "m"});
        table.put(Row::read(
            &id(&format!("t{n}")),
            metadata.to_string().as_bytes(),
            |_| Vec::new(),
            jiff::Timestamp::UNIX_EPOCH,
        ));
    }
    table.order(Field::Created);
    for query in [TaskQuery::default(), TaskQuery { text: Some("t".to_owned()), ..TaskQuery::default() }] {
        let page = query.page(&table);
        assert_eq!((page.counts.source.0.len(), page.counts.model.0.len(), page.total), (100, 1, Some(1000)));
    }
    for n in 0..1000 {
        assert!(table.remove(&id(&format!("t{n}"))));
    }
    assert_eq!((table.len(), table.facets[1].counts().len()), (0, 0));
}
