//! Searching all tasks.

use super::*;

const OUTPUT: &str = "03-agent-output.jsonl";

fn searched() -> Service {
    let service = Service::start();
    for (task, created) in
        [("old", "2026-01-01T00:00:00Z"), ("new", "2026-03-01T00:00:00Z"), ("mid", "2026-02-01T00:00:00Z")]
    {
        service.write(&format!("{task}/metadata.json"), json!({"task_id": task, "created_at": created}).to_string());
        let line = |n: u64| {
            let content = format!("{}needle {n}{}", "é".repeat(90), " tail".repeat(40));
            json!({"timestamp": created, "type": "output", "content": content, "id": format!("{n}-0")}).to_string()
        };
        service.write(&format!("{task}/{OUTPUT}"), format!("{}\n{{\"type\":\"other\"}}\n{}\n", line(1), line(2)));
    }
    service.write("unreadable", "no task");
    service
}

fn found(body: &Value) -> Vec<String> {
    let hits = body["hits"].as_array().unwrap().iter();
    hits.map(|hit| {
        format!(
            "{} {}",
            hit["task_id"].as_str().unwrap(),
            hit["snippet"]["after"].as_str().unwrap().split(' ').nth(1).unwrap()
        )
    })
    .collect()
}

#[test]
fn the_newest_tasks_come_first_and_pages_meet() {
    let service = searched();
    let all = service.get("/search?q=NEEDLE").json();
    assert_eq!(found(&all), ["new 1", "new 2", "mid 1", "mid 2", "old 1", "old 2"]);
    assert_eq!((&all["partial"], &all["next"], &all["tasks"]), (&json!(false), &Value::Null, &json!(3)));
    let hit = &all["hits"][0];
    assert_eq!(hit["snippet"]["match"], "needle");
    assert_eq!((hit["snippet"]["before"].as_str().unwrap(), hit["type"].as_str()), (&*"é".repeat(80), Some("output")));
    for size in 1..7 {
        let (mut hits, mut after) = (Vec::new(), String::new());
        loop {
            let page = service.get(&format!("/search?regex=ne%2Bdle&limit={size}{after}")).json();
            hits.extend(page["hits"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(json!(hits), all["hits"], "{size}");
    }
    // A hit's cursor leads to the record.
    let cursor = hit["cursor"].as_str().unwrap();
    let context = service.get(&format!("/tasks/new/logs?order=desc&limit=5&after={cursor}")).json();
    assert_eq!(context["records"], json!([]));
    assert_eq!(found(&service.get("/search?q=needle&since=2026-02-15T00:00:00Z").json()), ["new 1", "new 2"]);
    assert_eq!(found(&service.get("/search?q=nothing").json()), Vec::<String>::new());
}

#[test]
fn a_search_that_may_cost_no_more_says_so_and_goes_on() {
    let service = Service::start_with(With {
        limits: Limits { scan_time: Duration::ZERO, ..Limits::default() },
        ..With::default()
    });
    service.write("t/metadata.json", r#"{"created_at":"2026-01-01T00:00:00Z"}"#);
    service.write(&format!("t/{OUTPUT}"), "{\"content\":\"needle\"}\n");
    let page = service.get("/search?q=needle").json();
    assert_eq!((&page["partial"], &page["hits"], page["next"].is_string()), (&json!(true), &json!([]), true));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let service = searched();
    for query in [
        "",
        "q=",
        "limit=5",
        "q=a&limit=501",
        "q=a&regex=b",
        "regex=(",
        "q=a&after=x",
        "q=a&file=x.jsonl",
        "q=a&tail=1",
    ] {
        service.get(&format!("/search?{query}")).is_problem(400, "bad_query");
    }
}
