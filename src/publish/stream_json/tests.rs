//! Tests of the translation, on own lines and on real sessions where they are at hand.

use std::path::Path;

use super::*;

/// All events of these lines and their end, without the two that announce the task.
fn translate(lines: &[&str]) -> Vec<Event> {
    let mut translator = Translator::new("t-1", true);
    let mut events = Vec::new();
    for line in lines {
        translator.line(line.as_bytes(), &mut events);
    }
    translator.end(&mut events);
    let announced: Vec<_> = events.drain(..2).map(|event| kind(&event)).collect();
    assert_eq!(announced, ["task:created", "task:started"]);
    events
}

fn kind(event: &Event) -> String {
    event["type"].as_str().unwrap().to_owned()
}

fn kinds(events: &[Event]) -> Vec<String> {
    events.iter().map(kind).collect()
}

const USAGE: &str = r#"{"input_tokens":3,"output_tokens":8}"#;

fn assistant(content: &str) -> String {
    format!(
        r#"{{"type":"assistant","message":{{"id":"msg_A","role":"assistant","model":"m-1","content":{content},"stop_reason":null,"usage":{USAGE}}},"parent_tool_use_id":null,"session_id":"s","uuid":"u"}}"#
    )
}

#[test]
fn blocks_of_an_assistant_line_become_events_with_its_numbers() {
    let line = assistant(
        r#"[{"type":"text","text":"Hello"},{"type":"thinking","thinking":"Hm","signature":"c2ln"},{"type":"tool_use","id":"toolu_1","name":"Bash","input":{"command":"ls"}}]"#,
    );
    let events = translate(&[&line]);
    assert_eq!(kinds(&events), ["task:output", "task:thinking", "task:tool_call", "task:failed"]);
    assert_eq!(events[0]["data"]["content"], "Hello");
    assert_eq!((&events[1]["data"]["content"], &events[1]["data"]["signature"]), (&json!("Hm"), &json!("c2ln")));
    let call = &events[2]["data"];
    assert_eq!(
        (&call["name"], &call["input"], &call["_tool_use_id"]),
        (&json!("Bash"), &json!({"command": "ls"}), &json!("toolu_1"))
    );
    for event in &events[..3] {
        let data = &event["data"];
        assert_eq!(event["task_id"], "t-1");
        assert_eq!((&data["message_id"], &data["model"]), (&json!("msg_A"), &json!("m-1")));
        assert_eq!(data["usage"]["output_tokens"], 8);
        assert_eq!(data.get("parent_tool_use_id"), Some(&Value::Null));
        assert!(event["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    }
}

#[test]
fn results_of_tools_are_one_text_and_keep_their_structure() {
    let call = assistant(r#"[{"type":"tool_use","id":"toolu_1","name":"Read","input":{}}]"#);
    let plain = r#"{"type":"user","message":{"role":"user","content":[{"tool_use_id":"toolu_1","type":"tool_result","content":"a\nb"}]},"parent_tool_use_id":"toolu_0","tool_use_result":{"stdout":"a\nb"}}"#;
    let blocks = r#"{"type":"user","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_9","is_error":true,"content":[{"type":"text","text":"one"},{"type":"image","source":{"data":"aW1n"}},{"type":"text","text":"two"}]},{"type":"text","text":"beside"}]}}"#;
    let events = translate(&[&call, plain, blocks]);
    assert_eq!(kinds(&events[1..]), ["task:tool_result", "task:tool_result", "task:raw_output", "task:failed"]);
    let first = &events[1]["data"];
    assert_eq!(
        (&first["name"], &first["content"], &first["is_error"]),
        (&json!("Read"), &json!("a\nb"), &json!(false))
    );
    assert_eq!((&first["parent_tool_use_id"], &first["_tool_use_id"]), (&json!("toolu_0"), &json!("toolu_1")));
    assert_eq!(first["tool_use_result"]["stdout"], "a\nb");
    let second = &events[2]["data"];
    assert_eq!((&second["content"], &second["is_error"]), (&json!("one\ntwo"), &json!(true)));
    assert_eq!(second["content_blocks"][1]["source"]["data"], "aW1n");
    assert_eq!(second.get("name"), None);
    assert!(events[3]["data"]["raw"].as_str().unwrap().contains("beside"));
}

#[test]
fn every_other_line_is_raw_output() {
    let lines = [
        r#"{"type":"system","subtype":"init","session_id":"s"}"#,
        r#"{"type":"system","subtype":"task_started","task_id":"theirs"}"#,
        r#"{"type":"user","message":{"role":"user","content":"typed"}}"#,
        r#"{"type":"user","message":{"role":"user","content":[{"type":"text","text":"injected"}]},"isSynthetic":true}"#,
        r#"{"type":"assistant","message":{"content":[]}}"#,
        r#"{"type":"assistant"}"#,
        r#"{"type":"stream_event","event":{"type":"message_stop"}}"#,
        r#"{"type":7}"#,
        "[1,2]",
        "npm warn: not JSON at all",
        r#"{"type":"assistant","message":"#,
    ];
    let events = translate(&lines);
    assert_eq!(events.len(), lines.len() + 1);
    for (event, line) in events.iter().zip(lines) {
        assert_eq!(
            (kind(event).as_str(), &event["data"]["raw"], &event["task_id"]),
            ("task:raw_output", &json!(line), &json!("t-1"))
        );
    }
}

#[test]
fn unknown_blocks_are_raw_output_with_the_numbers_of_their_line() {
    let line =
        assistant(r#"[{"type":"image","source":{"data":"aW1n"}},{"type":"text","text":7},{"type":"text","text":"x"}]"#);
    let events = translate(&[&line]);
    assert_eq!(kinds(&events), ["task:raw_output", "task:raw_output", "task:output", "task:failed"]);
    let raw: Value = serde_json::from_str(events[0]["data"]["raw"].as_str().unwrap()).unwrap();
    assert_eq!((&raw["source"]["data"], &events[0]["data"]["message_id"]), (&json!("aW1n"), &json!("msg_A")));
}

#[test]
fn an_assistant_message_that_is_one_text_is_output() {
    let events = translate(&[&assistant(r#""plain""#)]);
    assert_eq!((kind(&events[0]).as_str(), &events[0]["data"]["content"]), ("task:output", &json!("plain")));
}

#[test]
fn a_result_completes_the_task() {
    let good = r#"{"type":"result","subtype":"success","is_error":false,"duration_ms":1530,"num_turns":2,"result":"Done","total_cost_usd":0.7,"usage":{"input_tokens":77,"output_tokens":13},"modelUsage":{"m-1":{"costUSD":0.7}}}"#;
    let events = translate(&[good]);
    assert_eq!(kinds(&events), ["task:completed"]);
    let data = &events[0]["data"];
    let expected = json!({"status": "completed", "result": "Done", "input_tokens": 77, "output_tokens": 13,
        "usage": {"input_tokens": 77, "output_tokens": 13}, "num_turns": 2, "duration_seconds": 1.53, "cost_usd": 0.7,
        "subtype": "success", "modelUsage": {"m-1": {"costUSD": 0.7}}});
    assert_eq!(data, &expected);

    let bad = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"errors":["one","two"]}"#;
    let events = translate(&[bad]);
    assert_eq!((&events[0]["data"]["status"], &events[0]["data"]["result"]), (&json!("failed"), &json!("one\ntwo")));
    let events = translate(&[r#"{"type":"result","subtype":"error_max_turns"}"#]);
    assert_eq!(events[0]["data"]["status"], "failed");
}

#[test]
fn an_input_without_a_result_fails_the_task() {
    let events = translate(&[]);
    assert_eq!(kinds(&events), ["task:failed"]);
    assert_eq!(events[0]["data"], json!({"error": "stream ended"}));
    assert_eq!(kinds(&translate(&["", "   "])), ["task:failed"]);
}

#[test]
fn a_task_that_others_announce_is_not_announced() {
    let mut translator = Translator::new("t", false);
    let mut events = Vec::new();
    translator.line(b"x", &mut events);
    assert_eq!(kinds(&events), ["task:raw_output"]);
}

#[test]
fn lone_surrogates_do_not_spoil_a_line() {
    let events = translate(&[&assistant(r#"[{"type":"text","text":"a\ud800b \ud83d\ude00 c\\ud800 \uDFFF"}]"#)]);
    assert_eq!(events[0]["data"]["content"], "a\u{fffd}b \u{1f600} c\\ud800 \u{fffd}");
}

#[test]
fn bytes_that_are_no_text_are_kept_as_well_as_can_be() {
    let mut translator = Translator::new("t", false);
    let mut events = Vec::new();
    translator.line(b"a\xffb", &mut events);
    assert_eq!(events[0]["data"]["raw"], "a\u{fffd}b");
}

#[test]
fn a_very_long_line_passes() {
    let text = "0123456789abcdef".repeat(1 << 19);
    let events = translate(&[&assistant(&json!([{ "type": "text", "text": text }]).to_string())]);
    assert_eq!(events[0]["data"]["content"].as_str().map(str::len), Some(8 << 20));
}

/// Every text of every content block of real sessions is found in exactly the kind of event that it belongs to.
#[test]
fn real_sessions_lose_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: no real sessions in ../shared/data");
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        let events = translate(&text.lines().collect::<Vec<_>>());
        assert_eq!(kind(events.last().unwrap()), "task:completed");
        let mut rest = events.iter();
        let mut blocks_seen = 0;
        for line in text.lines() {
            let line_value: Value = serde_json::from_str(line).unwrap();
            let content = line_value["message"]["content"].as_array().cloned().unwrap_or_default();
            let synthetic = line_value["type"] == "user" && content.iter().all(|block| block["type"] != "tool_result");
            if content.is_empty() || synthetic {
                let event = rest.next().unwrap();
                assert!(kind(event) == "task:completed" || event["data"]["raw"] == line);
                continue;
            }
            for block in content {
                let event = rest.next().unwrap();
                let data = &event["data"];
                let (expected, found) = match block["type"].as_str().unwrap() {
                    "text" => ("task:output", data["content"] == block["text"]),
                    "thinking" => ("task:thinking", data["content"] == block["thinking"]),
                    "tool_use" => ("task:tool_call", data["input"] == block["input"] && data["name"] == block["name"]),
                    "tool_result" => ("task:tool_result", data["content"] == block["content"]),
                    other => panic!("block of type {other}"),
                };
                assert_eq!((kind(event).as_str(), found), (expected, true), "{path:?}");
                assert_eq!(data["message_id"], line_value["message"].get("id").cloned().unwrap_or_default());
                blocks_seen += 1;
            }
        }
        assert!(rest.next().is_none() && blocks_seen > 50);
    }
}
