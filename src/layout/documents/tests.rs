//! What the documents become, event by event.

use super::*;

fn event(seq: u64, stage: Stage, data: Result<&str, &str>) -> Lifecycle {
    let data = data.map(str::to_owned).map_err(str::to_owned);
    Lifecycle { id: StreamId { ms: 1, seq }, stage, timestamp: format!("T{seq}").into(), data }
}

fn files(documents: &Documents) -> Map<String, Value> {
    let parse = |(name, file): (&str, Vec<u8>)| (name.to_owned(), serde_json::from_slice(&file).unwrap());
    documents.render("t").into_iter().map(parse).collect()
}

#[test]
fn a_second_created_adds_and_never_replaces() {
    let mut documents = Documents::default();
    let first = r#"{"task_id":"t","input_message":"hi","conversation_id":"c","source":"dashboard","status":"new"}"#;
    documents.lifecycle(&event(1, Stage::Created, Ok(first)));
    documents.lifecycle(&event(2, Stage::Created, Ok(r#"{"session_id":"s","conversation_id":null}"#)));
    documents.lifecycle(&event(3, Stage::Started, Err("too_large")));
    let expected = json!({
        "metadata.json": {"input_message": "hi", "conversation_id": "c", "source": "dashboard", "_field.status": "new",
            "session_id": "s", "task_id": "t", "created_at": "T1", "started_at": "T3", "status": "running",
            "plugins": [], "layout_version": 1, "event_ids": ["1-1", "1-2"]},
        "01-input.json": {"message": "hi"},
    });
    assert_eq!(Value::from(files(&documents)), expected);
    let rendered: std::collections::HashMap<_, _> = documents.render("t").into_iter().collect();
    let file = |name: &str| rendered.get(name).cloned();
    let again = Documents::from_files(file(METADATA), file(INPUT), file(FINAL_RESULT));
    assert_eq!(again.render("t"), documents.render("t"));
}

#[test]
fn a_later_failure_supersedes_and_keeps_the_result() {
    let mut documents = Documents::default();
    let data = r#"{"result":"r","cost_usd":0.5,"duration_seconds":2.0,"usage":{"input_tokens":3},"num_turns":2}"#;
    documents.lifecycle(&event(1, Stage::Completed { failed: false }, Ok(data)));
    let earlier = json!({"success": true, "result": "r",
        "metrics": {"cost_usd": 0.5, "duration_seconds": 2.0, "input_tokens": 3, "output_tokens": null},
        "completed_at": "T1", "status": "completed", "usage": {"input_tokens": 3}, "num_turns": 2});
    assert_eq!(files(&documents)["04-final-result.json"], earlier);
    documents.lifecycle(&event(2, Stage::Failed, Ok(r#"{"error":"e"}"#)));
    let expected =
        json!({"success": false, "error": "e", "completed_at": "T2", "status": "failed", "earlier": [earlier]});
    assert_eq!(files(&documents)["04-final-result.json"], expected);
    assert_eq!(files(&documents)["metadata.json"]["status"], "failed");
}

#[test]
fn a_dropped_end_still_ends_the_task() {
    let mut documents = Documents::default();
    documents.lifecycle(&event(1, Stage::Completed { failed: true }, Err("plugin_failed")));
    let expected = json!({"success": false, "gap": "plugin_failed", "completed_at": "T1"});
    assert_eq!(files(&documents)["04-final-result.json"], expected);
    assert_eq!(files(&documents)["metadata.json"]["event_ids"], json!([]));
}

#[test]
fn what_is_too_deep_is_kept_as_text() {
    let mut documents = Documents::default();
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let data = format!(r#"{{"fits":{},"deep":{},"n":1.50}}"#, nested(DEPTH_MAX), nested(DEPTH_MAX + 1));
    documents.lifecycle(&event(1, Stage::Created, Ok(&data)));
    documents.lifecycle(&event(2, Stage::Completed { failed: false }, Ok(&data)));
    documents.lifecycle(&event(3, Stage::Failed, Ok(&data)));
    let model = serde_json::to_vec(&documents).unwrap();
    assert_eq!(serde_json::from_slice::<Documents>(&model).unwrap(), documents);
    let metadata = &files(&documents)["metadata.json"];
    assert_eq!((&metadata["deep"], &metadata["n"]), (&json!(nested(DEPTH_MAX + 1)), &json!(1.5)));
    assert_eq!(metadata["fits"].to_string(), nested(DEPTH_MAX));
}

#[test]
fn bounded_everything_annotations_of_a_plugin_have_a_limit() {
    let mut documents = Documents::default();
    for n in 0..100 {
        documents.annotate("p", Map::from_iter([(format!("k{n}"), Value::from("x".repeat(60 << 10)))]));
    }
    documents.annotate("p", Map::from_iter([("k0".to_owned(), 1.into()), ("k1".to_owned(), Value::Null)]));
    documents.annotate("p", Map::from_iter([("new".to_owned(), 2.into())]));
    let metadata = &files(&documents)["metadata.json"];
    assert!(metadata.to_string().len() < ANNOTATIONS_BYTES_MAX + 1024);
    assert_eq!((&metadata["annotations"]["p"]["k0"], &metadata["annotations"]["p"]["new"]), (&json!(1), &json!(2)));
    assert_eq!(metadata["annotations_omitted"], json!({"p": 96}));
}

#[test]
fn annotations_merge_and_null_removes() {
    let mut documents = Documents::default();
    let object = |value: Value| value.as_object().cloned().unwrap();
    documents.annotate("p", object(json!({"a": 1, "b": 2})));
    documents.annotate("p", object(json!({"a": null, "c": 3})));
    assert_eq!(files(&documents)["metadata.json"]["annotations"], json!({"p": {"b": 2, "c": 3}}));
}

#[test]
fn extras_that_did_not_fit_are_counted_by_file_until_the_file_is_whole() {
    let (mut documents, mut flow) = (Documents::default(), Documents::default());
    documents.omit_extra("a.md");
    flow.omit_extra("a.md");
    flow.omit_extra("b.json");
    documents.join(&flow);
    assert!(documents.is_cut("a.md") && documents.is_cut("b.json") && !documents.is_cut("c"));
    let metadata = documents.metadata("t");
    assert_eq!(metadata["extras_omitted"], json!({"a.md": 2, "b.json": 1}));
    let read = Documents::from_files(Some(serde_json::to_vec(&metadata).unwrap()), None, None);
    assert!(read.is_cut("a.md"));
    assert!(documents.is_whole("b.json") && !documents.is_whole("b.json"));
    assert_eq!(documents.metadata("t")["extras_omitted"], json!({"a.md": 2}));
}
