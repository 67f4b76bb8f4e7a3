//! Lists of tasks and flows, and a task at a glance.

use super::{reading::a_task, *};

fn ids(answer: &Answer) -> Vec<String> {
    let list = answer.json();
    list["tasks"].as_array().unwrap().iter().map(|task| task["task_id"].as_str().unwrap().to_owned()).collect()
}

/// Every page from this one on, by `Link` as by `next`.
fn follow(service: &Service, first: &str) -> Vec<String> {
    let (mut path, mut all) = (first.to_owned(), Vec::new());
    loop {
        let answer = service.list(&path);
        assert_eq!(answer.status, 200, "{answer:?}");
        all.extend(ids(&answer));
        let next = answer.json()["next"].clone();
        let Some(link) = answer.header("link").strip_suffix(">; rel=\"next\"") else {
            assert_eq!(next, Value::Null);
            return all;
        };
        path = link.strip_prefix('<').unwrap().to_owned();
        let after = path.rsplit_once("after=").unwrap().1.replace("%2F", "/").replace("%3A", ":");
        assert_eq!(next, after);
    }
}

fn some_tasks(service: &Service) {
    let usage = |cost: f64, errors: u64| json!({"usage": {"cost_usd": cost, "tool_errors": errors, "input_tokens": 5}});
    for (task, metadata) in [
        (
            "a%2Fb",
            json!({"status": "completed", "source": "jira", "assigned_agent": "brain", "model": "m1",
            "input_message": "Fix the Türe\nplease", "created_at": "2026-01-01T00:00:00Z", "annotations": usage(0.5, 1)}),
        ),
        (
            "t1",
            json!({"status": "failed", "source": "github", "assigned_agent": "coder", "created_at": "2026-01-03T00:00:00Z",
            "annotations": usage(2.0, 0)}),
        ),
        (
            "t2",
            json!({"status": "running", "source": "github", "assigned_agent": "brain", "model": "m1,m2",
            "created_at": "2026-01-02T00:00:00Z", "annotations": usage(0.25, 0)}),
        ),
        ("t3", json!({"status": 7, "created_at": [], "annotations": "none"})),
    ] {
        service.write(&format!("{task}/metadata.json"), metadata.to_string());
    }
    service.write("_webhooks/w/02-webhook-flow.jsonl", "{}\n");
    service.write(".task-logger/x", "");
    service.write("%5Fodd/.state", "");
    for folder in ["%2e", "lost+found"] {
        service.write(&format!("{folder}/metadata.json"), "{}");
    }
    service.write("a file", "");
}

#[test]
fn tasks_are_listed_newest_first_with_all_that_is_known() {
    let service = Service::start();
    let empty = service.list("/tasks").json();
    let none = json!({"status": {}, "source": {}, "agent": {}, "model": {}});
    assert_eq!(empty, json!({"tasks": [], "next": null, "total": 0, "counts": none, "complete": true}));
    some_tasks(&service);
    let answer = service.until("/tasks", |list| list["total"] == 5);
    assert_eq!(answer.header("cache-control"), "no-cache");
    // Of those that nobody knows the beginning of, the last by id comes first.
    assert_eq!(ids(&answer), ["t1", "t2", "a/b", "t3", "_odd"]);
    let list = answer.json();
    let keys: Vec<_> = list["tasks"][0].as_object().unwrap().keys().cloned().collect();
    let row = [
        "task_id",
        "status",
        "source",
        "agent",
        "model",
        "title",
        "created_at",
        "started_at",
        "completed_at",
        "duration_seconds",
        "cost_usd",
        "input_tokens",
        "output_tokens",
        "turns",
        "tool_calls",
        "errors",
        "redactions",
        "updated_at",
    ];
    assert_eq!(keys, row);
    assert_eq!(list["tasks"][2]["title"], "Fix the Türe");
    assert_eq!(list["tasks"][3]["status"], Value::Null);
    assert!(list["tasks"][4]["updated_at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let counts = json!({
        "status": {"completed": 1, "failed": 1, "running": 1}, "source": {"github": 2, "jira": 1},
        "agent": {"brain": 2, "coder": 1}, "model": {"m1": 1, "m1,m2": 1},
    });
    assert_eq!((&list["counts"], &list["total"], &list["complete"]), (&counts, &json!(5), &json!(true)));
}

#[test]
fn filters_narrow_the_list_and_each_facet_still_counts_its_other_values() {
    let service = Service::start();
    some_tasks(&service);
    service.until("/tasks", |list| list["total"] == 5);
    for (query, expected) in [
        ("status=failed", vec!["t1"]),
        ("status=failed,running", vec!["t1", "t2"]),
        ("status=failed&status=running&agent=brain", vec!["t2"]),
        ("model=m1%2Cm2", vec!["t2", "a/b"]),
        ("source=nowhere", vec![]),
        ("q=t%C3%9Cre", vec!["a/b"]),
        ("q=A%2FB", vec!["a/b"]),
        ("since=2026-01-02T00:00:00Z", vec!["t1", "t2"]),
        ("until=2026-01-02T00:00:00Z", vec!["a/b"]),
        ("since=2026-01-02T01:00:00%2B01:00&until=2026-01-03T00:00:00Z", vec!["t2"]),
        ("since=1h", vec![]),
        ("errors=true", vec!["t1", "a/b"]),
        ("errors=false", vec!["t2", "t3", "_odd"]),
        ("sort=cost", vec!["t2", "a/b", "t1", "_odd", "t3"]),
        ("sort=-cost", vec!["t1", "a/b", "t2", "t3", "_odd"]),
        ("sort=id", vec!["_odd", "a/b", "t1", "t2", "t3"]),
        ("sort=created&limit=1", vec!["a/b"]),
        // As it was before there was anything to sort by.
        ("after=a%2Fb&limit=2", vec!["t1", "t2"]),
    ] {
        let answer = service.get(&format!("/tasks?{query}"));
        assert_eq!(ids(&answer), expected, "{query}");
    }
    let list = service.get("/tasks?source=github&status=running").json();
    assert_eq!(list["total"], 1);
    assert_eq!(list["counts"]["status"], json!({"failed": 1, "running": 1}));
    assert_eq!(list["counts"]["source"], json!({"github": 1}));
    assert_eq!(list["counts"]["agent"], json!({"brain": 1}));
}

#[test]
fn pages_of_any_order_follow_each_other_by_link_and_by_next() {
    let service = Service::start();
    some_tasks(&service);
    service.until("/tasks", |list| list["total"] == 5);
    for sort in
        ["", "sort=id", "sort=-id", "sort=created", "sort=-cost", "sort=tokens", "sort=-errors", "sort=duration"]
    {
        let all = ids(&service.get(&format!("/tasks?{sort}")));
        for limit in [1, 2, 4, 5] {
            assert_eq!(follow(&service, &format!("/tasks?limit={limit}&{sort}")), all, "{sort} {limit}");
        }
    }
    assert_eq!(follow(&service, "/tasks?q=t&sort=-cost&limit=1&errors=true"), ["t1", "a/b"]);
    assert_eq!(follow(&service, "/tasks?after=_odd&limit=1"), ["a/b", "t1", "t2", "t3"]);
}

#[test]
fn a_list_shows_what_another_process_has_just_written_and_removed() {
    let service = Service::start();
    for n in 0..20 {
        service.write(&format!("t{n}/metadata.json"), json!({"status": "running", "n": n}).to_string());
        let running = n + 1;
        service.until("/tasks?limit=1", |list| list["counts"]["status"]["running"] == running);
    }
    fs::remove_dir_all(service.logs.path().join("tasks/t7")).unwrap();
    service.write("t8/metadata.json", r#"{"status":"completed"}"#);
    let list = service.until("/tasks?limit=1", |list| list["total"] == 19);
    assert_eq!(list.json()["counts"]["status"], json!({"running": 18, "completed": 1}));
    let link = service.logs.path().join("tasks/t7");
    std::os::unix::fs::symlink("t8", link).unwrap();
    assert_eq!(service.get("/tasks").json()["total"], 19);
}

#[test]
fn a_task_at_a_glance_has_its_row_documents_and_files() {
    let service = Service::start();
    a_task(&service);
    let answer = service.get("/tasks/t1");
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    let body = answer.json();
    let keys: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["task", "metadata", "input", "final_result", "files"]);
    assert_eq!((&body["task"]["status"], &body["task"]["title"]), (&json!("completed"), &json!("héllo")));
    assert_eq!(body["task"]["duration_seconds"], 1.0);
    // Documents are passed on as written.
    assert!(answer.text().contains("\"final_result\":{\n  \"success\": true\n}"), "{}", answer.text());
    let files = body["files"].as_array().unwrap();
    let names: Vec<_> = files.iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "01-input.json",
            "02-webhook-flow.jsonl",
            "03-agent-output.jsonl",
            "03-user-inputs.jsonl",
            "04-final-result.json",
            "05-other-events.jsonl",
            "metadata.json",
            "usage.json",
        ]
    );
    let file = service.get("/tasks/t1/files/03-agent-output.jsonl");
    assert_eq!((&files[2]["size"], &files[2]["etag"]), (&json!(file.body.len()), &json!(file.header("etag"))));
    assert!(files[2]["modified"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    for path in ["/tasks/t2", "/tasks/..%2ft1", "/tasks/%ff", "/tasks/.state", "/tasks/t1%00", "/tasks/_webhooks"] {
        service.get(path).is_problem(404, "task_not_found");
    }
}

#[test]
fn documents_that_are_no_objects_are_left_out() {
    let service = Service::start();
    service.write("t/metadata.json", "{torn");
    service.write("t/01-input.json", "[1]");
    service.write("t/04-final-result.json", b"{\"a\":\"\xff\"}");
    let body = service.get("/tasks/t").json();
    assert_eq!((&body["metadata"], &body["input"], &body["final_result"]), (&Value::Null, &Value::Null, &Value::Null));
    assert_eq!((&body["task"]["task_id"], &body["task"]["status"]), (&json!("t"), &Value::Null));
    assert_eq!(body["files"].as_array().unwrap().len(), 3);
    service.write("u/.state", "");
    assert_eq!(service.get("/tasks/u").json()["files"], json!([]));
}

#[test]
fn webhook_flows_that_have_not_joined_are_served() {
    let service = Service::start();
    assert_eq!(service.get("/webhooks").json(), json!({"webhooks": [], "next": null}));
    let record = r#"{"timestamp":"2026-01-01T00:00:00Z","stage":"received","data":{},"id":"1-0"}"#;
    service.write("_webhooks/wh-1/02-webhook-flow.jsonl", format!("{record}\n{{\"torn"));
    service.write("_webhooks/wh-1/05-other-events.jsonl", "{}\n{}\n");
    service.write("_webhooks/%2E./02-webhook-flow.jsonl", "{}\n{}\n");
    service.write("_webhooks/joined/.state", "");
    let page = service.until("/webhooks", |page| page["webhooks"].as_array().unwrap().len() == 2).json();
    let (first, second) = (&page["webhooks"][0], &page["webhooks"][1]);
    assert_eq!(first["webhook_event_id"], "..");
    assert_eq!((&first["size"], &first["records"], &first["created_at"]), (&json!(6), &json!(2), &Value::Null));
    let keys: Vec<_> = second.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["webhook_event_id", "size", "records", "created_at", "updated_at"]);
    assert_eq!((&second["size"], &second["records"]), (&json!(record.len() + 7), &json!(3)));
    assert_eq!(second["created_at"], "2026-01-01T00:00:00Z");
    let page = service.get("/webhooks?limit=1");
    assert_eq!(
        (&page.json()["next"], page.header("link")),
        (&json!(".."), "</webhooks?limit=1&after=..>; rel=\"next\"")
    );
    assert_eq!(service.get("/webhooks?after=..").json()["webhooks"][0]["webhook_event_id"], "wh-1");
    assert_eq!(service.get("/webhooks/wh-1/files").json()["files"][0]["lines"], json!(1));
    assert_eq!(service.get("/webhooks/%2E%2E/files/02-webhook-flow.jsonl").text(), "{}\n{}\n");
    service.get("/webhooks/wh-2/files").is_problem(404, "flow_not_found");
    assert_eq!(service.get("/tasks/_webhooks/files").status, 404);
}
