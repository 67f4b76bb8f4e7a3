//! Counting rules, one per test.

use super::*;

fn tally(events: &[(&str, f64, &str)]) -> Tally {
    let mut tally = Tally::default();
    for (kind, ms, data) in events {
        // Every step survives the trip through the state.
        assert_eq!(Tally::from_state(&tally.to_state()), tally);
        if Tally::wants(kind, data) {
            tally.add(kind, *ms, data);
        }
    }
    tally
}

fn report(events: &[(&str, f64, &str)]) -> Value {
    serde_json::from_str(&tally(events).report()).unwrap()
}

const A1: &str = r#"{"content":"a","message_id":"msg_A","model":"m","usage":{"input_tokens":3,"output_tokens":8,"cache_read_input_tokens":100}}"#;
const A2: &str = r#"{"name":"Bash","input":{},"_tool_use_id":"toolu_1","message_id":"msg_A","model":"m","usage":{"input_tokens":3,"output_tokens":9,"cache_read_input_tokens":100}}"#;
const B: &str = r#"{"content":"b","message_id":"msg_B","model":"n","parent_tool_use_id":"toolu_1","usage":{"input_tokens":1,"output_tokens":1}}"#;

#[test]
fn a_message_counts_once_with_its_largest_numbers() {
    let report = report(&[
        ("task:output", 1.0, A1),
        ("task:output", 1.0, A1),
        ("task:tool_call", 2.0, A2),
        ("task:output", 3.0, B),
        ("task:output", 4.0, A1),
    ]);
    assert_eq!(report["messages"]["count"], 2);
    assert_eq!(report["messages"]["subagents"], 1);
    assert_eq!(report["tokens"]["input_tokens"], 4);
    assert_eq!(report["tokens"]["output_tokens"], 10);
    assert_eq!(report["tokens"]["cache_read_input_tokens"], 100);
    assert_eq!(report["tokens_from"], "messages");
    assert_eq!(report["models"]["m"]["output_tokens"], 9);
    assert_eq!(report["models"]["n"]["messages"], 1);
}

#[test]
fn the_result_has_the_last_word_on_totals() {
    let completed = r#"{"status":"completed","result":"x","usage":{"input_tokens":77,"output_tokens":13104,"cache_creation_input_tokens":5},"num_turns":2,"duration_seconds":1.5,"cost_usd":0.7}"#;
    let report =
        report(&[("task:created", 1000.0, "{}"), ("task:output", 1.0, A1), ("task:completed", 3500.0, completed)]);
    assert_eq!(report["status"], "completed");
    assert_eq!(report["tokens"]["output_tokens"], 13104);
    assert_eq!(report["tokens_from"], "result");
    assert_eq!(report["messages"]["tokens"]["output_tokens"], 8);
    assert_eq!(report["cost_usd"], 0.7);
    assert_eq!(report["num_turns"], 2);
    assert_eq!(report["elapsed_seconds"], 2.5);
    assert_eq!(report["duration_seconds"], 1.5);
}

#[test]
fn totals_beside_the_result_count_too() {
    let report = report(&[("task:completed", 1.0, r#"{"status":"failed","input_tokens":5,"output_tokens":6}"#)]);
    assert_eq!(report["status"], "failed");
    assert_eq!(report["tokens"]["input_tokens"], 5);
}

#[test]
fn tools_pair_by_id_with_errors_and_time() {
    let report = report(&[
        ("task:tool_call", 1000.0, r#"{"name":"Bash","_tool_use_id":"t1"}"#),
        ("task:tool_call", 1000.0, r#"{"name":"Read","id":"t2"}"#),
        ("task:tool_result", 1250.0, r#"{"tool_use_id":"t1","is_error":true,"content":"x"}"#),
        ("task:tool_result", 3000.0, r#"{"name":"Read","content":"y"}"#),
    ]);
    assert_eq!(report["tools"]["Bash"], json!({"calls":1,"results":1,"errors":1,"seconds":0.25}));
    assert_eq!(report["tools"]["Read"], json!({"calls":1,"results":1,"errors":0,"seconds":0.0}));
}

#[test]
fn nothing_odd_breaks_it() {
    for data in [
        "",
        "[]",
        "null",
        r#"{"usage":7,"message_id":"x"}"#,
        r#"{"message_id":3}"#,
        r#"{"message_id":"y","usage":{"input_tokens":-1,"output_tokens":"9","cache_read_input_tokens":1e300}}"#,
        r#"{"cost_usd":null,"num_turns":"2","usage":null,"output_tokens":null}"#,
    ] {
        for kind in ["task:output", "task:tool_call", "task:tool_result", "task:completed", "task:failed", "x", ""] {
            let tally = tally(&[(kind, f64::NAN, data), (kind, 1e300, data)]);
            assert!(tally.report().ends_with("}\n"));
            assert!(serde_json::from_str::<Map<String, Value>>(&tally.summary()).is_ok());
        }
    }
}

#[test]
fn the_state_is_bounded() {
    let mut tally = Tally::default();
    for n in 0..5000 {
        let data = format!(
            r#"{{"name":"{n}{}","id":"id{n}","message_id":"m{n}","model":"model{n}{}","usage":{{"input_tokens":1000000}}}}"#,
            "é".repeat(200),
            "x".repeat(200)
        );
        tally.add("task:tool_call", 1.7e12 + f64::from(n), &data);
    }
    let state = tally.to_state();
    assert!(state.len() < 60 * 1024, "{}", state.len());
    let report: Value = serde_json::from_str(&tally.report()).unwrap();
    assert_eq!(report["messages"]["count"], 5000);
    assert!(report["tools"]["other"]["calls"].as_u64().unwrap() > 4000);
}
