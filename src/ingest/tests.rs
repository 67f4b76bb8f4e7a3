//! Bodies and lines, good and bad, against the fields they become.

use super::*;

fn show(fields: &Fields) -> Vec<(String, String)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    fields.iter().map(|(name, value)| (text(name), text(value))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn strings_stay_and_other_values_become_json_text() {
    let event = r#"{"type":"task:output","task_id":"t","timestamp":"2026-01-01T00:00:00Z",
        "data":{"n": 123456789012345678901234567890.10, "d":1,"d":2},"extra":[1, 2],"flag":true,"text":"{\"a\":1}"}"#;
    let expected = pairs(&[
        ("type", "task:output"),
        ("task_id", "t"),
        ("timestamp", "2026-01-01T00:00:00Z"),
        ("data", r#"{"n": 123456789012345678901234567890.10, "d":1,"d":2}"#),
        ("extra", "[1, 2]"),
        ("flag", "true"),
        ("text", r#"{"a":1}"#),
    ]);
    assert_eq!(show(&fields_of_text(event).unwrap()), expected);
}

#[test]
fn both_ways_give_the_same_fields() {
    let event =
        r#"{"type":"x:y","timestamp":"t","task_id":null,"other":null,"data":{"a":[1,{"b":null}]},"s":"\u00e9\n"}"#;
    let map = serde_json::from_str::<Map<String, Value>>(event).unwrap();
    let by_map = fields(map).unwrap();
    assert_eq!(by_map, fields_of_text(event).unwrap());
    assert_eq!(show(&by_map)[2], ("other".to_owned(), "null".to_owned()));
}

#[test]
fn a_missing_timestamp_is_now() {
    let before = jiff::Timestamp::now().as_millisecond();
    for event in [r#"{"type":"x:y"}"#, r#"{"type":"x:y","timestamp":null}"#] {
        let fields = show(&fields_of_text(event).unwrap());
        let (name, value) = fields.last().unwrap();
        assert_eq!(name, "timestamp");
        let at = value.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        assert!((before..=jiff::Timestamp::now().as_millisecond()).contains(&at), "{value}");
    }
}

#[test]
fn doubled_names_and_lone_surrogates_reach_the_stream() {
    let fields = fields_of_text(r#"{"type":"a:b","type":"c:d","timestamp":"t","x":"a\ud800b\ud83d\ude00"}"#).unwrap();
    let expected = pairs(&[("type", "a:b"), ("type", "c:d"), ("timestamp", "t"), ("x", "a\u{FFFD}b😀")]);
    assert_eq!(show(&fields), expected);
}

#[test]
fn one_an_array_or_lines() {
    let count = |text: &str| events(text.as_bytes(), 3).map(|events| events.len());
    assert_eq!(count(r#" {"a":1} "#), Ok(1));
    assert_eq!(count(r#"[{"a":1},{"a":2}]"#), Ok(2));
    assert_eq!(count("[]"), Ok(0));
    assert_eq!(count("{\"a\":1}\n\n{\"a\":2}\r\n{\"a\":3}"), Ok(3));
    assert_eq!(count(""), Err(IngestError::Empty));
    assert_eq!(count(" \n"), Err(IngestError::Empty));
    assert_eq!(count("{\"a\":1}\n{\"a\":"), Err(IngestError::NotJson { index: 1 }));
    assert_eq!(count("{\"a\":1}\n7"), Err(IngestError::NotAnObject { index: 1 }));
    assert_eq!(count(r#"[{"a":1},[]]"#), Err(IngestError::NotAnObject { index: 1 }));
    assert_eq!(count(r#"[{"a":1}] {"a":2}"#), Err(IngestError::NotJson { index: 1 }));
    assert_eq!(count("{}"), Err(IngestError::NotAnObject { index: 0 }));
    assert_eq!(count(&"{\"a\":1}".repeat(4)), Err(IngestError::TooMany { limit: 3 }));
    assert_eq!(
        count(&format!("[{}]", "{\"a\":1},".repeat(4).trim_end_matches(','))),
        Err(IngestError::TooMany { limit: 3 })
    );
    let wide =
        |fields: usize| format!("{{{}}}", (0..fields).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(","));
    assert_eq!(count(&wide(29)), Ok(1));
    assert_eq!(count(&wide(31)), Err(IngestError::TooMany { limit: 3 }));
    assert_eq!(count(&wide(FIELDS_MAX + 1)), Err(IngestError::NotAnObject { index: 0 }));
    assert_eq!(count(&format!("{{\"data\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000))), Ok(1));
    assert!(events(b"{\"a\":\"\xff\"}", 3).is_err());
}
