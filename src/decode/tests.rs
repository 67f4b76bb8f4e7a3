//! Every refusal of the README's table, and what decoding keeps.

use bytes::Bytes;

use super::*;

fn entry(fields: &[(&str, &[u8])]) -> Entry {
    let own = |text: &[u8]| Bytes::copy_from_slice(text);
    let fields = fields.iter().map(|(name, value)| (own(name.as_bytes()), own(value))).collect();
    Entry { id: StreamId { ms: 1_700_000_000_000, seq: 1 }, fields }
}

fn decode(fields: &[(&str, &[u8])]) -> Result<Decoded, Box<Refused>> {
    Decoder::new(1000).decode(entry(fields))
}

#[track_caller]
fn refused(fields: &[(&str, &[u8])], reason: &str, gap_kind: Option<&str>) {
    let refused = decode(fields).unwrap_err();
    assert_eq!(refused.reason, reason);
    assert_eq!(refused.gap.as_ref().map(|gap| &*gap.kind), gap_kind);
    assert_eq!(refused.entry, entry(fields));
}

#[test]
fn refusals_have_stable_reasons() {
    let out: (&str, &[u8]) = ("type", b"task:output");
    let task: (&str, &[u8]) = ("task_id", b"t");
    refused(&[out, task, ("data", b"{nope")], "bad_json", Some("task:output"));
    refused(&[out, task, ("data", b"[1]")], "not_an_object", Some("task:output"));
    // Raw line breaks where JSON has none: without them these would be JSON that says something else.
    for data in ["{\"a\":\"x\ny\"}", "{\"a\":1\n2}", "{\"a\":tr\rue}"] {
        refused(&[out, task, ("data", data.as_bytes())], "bad_json", Some("task:output"));
    }
    refused(&[out, task, ("data", b"{\"a\":\"\xff\"}")], "bad_utf8", Some("task:output"));
    refused(&[out, task, ("data", &[b' '; 2000])], "too_large", Some("task:output"));
    refused(&[task], "no_type", Some("unknown"));
    refused(&[("type", b"Task:Output"), task], "bad_type", Some("unknown"));
    refused(&[out], "no_key", None);
    refused(&[out, ("data", br#"{"task_id":"inner"}"#)], "no_key", None);
    refused(&[out, ("webhook_event_id", b"w")], "no_key", None);
    refused(&[("type", b"webhook:received")], "no_key", None);
    refused(&[out, ("task_id", b"")], "bad_id", None);
    refused(&[out, ("task_id", b"a\nb")], "bad_id", None);
    refused(&[out, ("task_id", &[b'x'; 300])], "bad_id", None);
    refused(&[out, ("task_id", b"\xff")], "bad_utf8", None);
    refused(&[out, task, task], "duplicate_field", None);
    refused(&[out, task, ("x", b"1"), ("x", b"2")], "duplicate_field", Some("task:output"));
    let join: (&str, &[u8]) = ("data", br#"{"task_id":"a\nb"}"#);
    refused(&[("type", b"webhook:matched"), ("webhook_event_id", b"w"), join], "bad_id", Some("webhook:matched"));
}

#[test]
fn each_added_field_has_a_name_of_its_own() {
    let out: (&str, &[u8]) = ("type", b"task:output");
    let added: [(&str, &[u8]); 5] =
        [("timestamp", b"odd"), ("_timestamp", b"0"), ("a", b"1"), ("_field.a", b"2"), ("_field._field.a", b"3")];
    for data in ["{}", "{\"a\":0}", "{\"a\":0,\"_field.a\":0}", "{\"_timestamp\":0,\"_field._timestamp\":0}"] {
        let mut fields = vec![out, ("task_id", b"t"), ("data", data.as_bytes())];
        fields.extend(added);
        let decoded = decode(&fields).unwrap();
        let text = &decoded.event.data;
        let names: HashSet<_> = decoded.members.iter(text).map(|(name, _)| name.to_owned()).collect();
        let before = Members::of(data).unwrap().iter(data).count();
        assert_eq!(names.len(), before + added.len(), "{text}");
        assert_eq!(text.matches("\":").count(), names.len(), "{text}");
        Members::of(data).unwrap().iter(data).for_each(|(name, value)| {
            assert_eq!(decoded.members.get(text, name), Some(value), "{text}");
        });
    }
}

#[test]
fn keys_follow_the_family() {
    let key = |fields: &[(&str, &[u8])]| {
        let event = decode(fields).unwrap().event;
        (event.key.to_string(), event.task.map(|id| id.to_string()))
    };
    let named = |id: &str| Some(id.to_owned());
    assert_eq!(key(&[("event_type", b"task:started"), ("task_id", b"../t")]), ("task ../t".into(), named("../t")));
    let flow: (&str, &[u8]) = ("webhook_event_id", b"w");
    assert_eq!(key(&[("type", b"webhook:received"), flow]), ("flow w".into(), None));
    let data: (&str, &[u8]) = ("data", br#"{"task_id":"t","event_type":"push"}"#);
    assert_eq!(key(&[("type", b"webhook:task_created"), flow, data]), ("flow w".into(), named("t")));
    assert_eq!(key(&[("type", b"response:immediate"), data]), ("task t".into(), named("t")));
    assert_eq!(key(&[("type", b"knowledge:query"), ("task_id", b"t"), flow]), ("task t".into(), named("t")));
}

#[test]
fn unknown_fields_and_odd_timestamps_move_into_the_data() {
    let fields: &[(&str, &[u8])] = &[
        ("type", b"task:output"),
        ("event_type", b"x"),
        ("task_id", b"t"),
        ("timestamp", b"yesterday"),
        ("data", b"{\n \"content\": \"c\", \"source\": 1 }"),
        ("source", b"a\"b"),
    ];
    let decoded = decode(fields).unwrap();
    let event = &decoded.event;
    let expected =
        r#"{ "content": "c", "source": 1 ,"_timestamp":"yesterday","_field.source":"a\"b","event_type":"x"}"#;
    assert_eq!(event.data, expected);
    assert_eq!((&*event.timestamp, event.timestamp_ms), ("2023-11-14T22:13:20Z", 1_700_000_000_000));
    assert_eq!(decoded.members.get(&event.data, "_field.source"), Some(r#""a\"b""#));
}

#[test]
fn timestamps_that_parse_are_stored_as_sent() {
    for (text, ms) in [
        ("2026-01-31T12:00:00.123456+00:00", 1_769_860_800_123),
        ("2026-01-31T12:00:00Z", 1_769_860_800_000),
        ("2026-01-31T12:00:00", 1_769_860_800_000),
        ("2026-01-31T14:00:00+02:00", 1_769_860_800_000),
    ] {
        let fields: &[(&str, &[u8])] = &[("type", b"task:x"), ("task_id", b"t"), ("timestamp", text.as_bytes())];
        let event = decode(fields).unwrap().event;
        assert_eq!((&*event.timestamp, event.timestamp_ms, &*event.data), (text, ms, "{}"));
    }
    let fields: &[(&str, &[u8])] =
        &[("type", b"task:x"), ("task_id", b"t"), ("timestamp", b"2026-01-31T12:00:00Z[secret/zone]")];
    assert_eq!(decode(fields).unwrap().event.data, r#"{"_timestamp":"2026-01-31T12:00:00Z[secret/zone]"}"#);
}

#[test]
fn only_the_exact_status_fails_a_completed_task() {
    for (data, failed) in [
        (r#"{"status":"failed"}"#, true),
        (r#"{"status":"Failed"}"#, false),
        (r#"{"status":["failed"]}"#, false),
        (r#"{"result":"\ud800 \u0000"}"#, false),
    ] {
        let fields: &[(&str, &[u8])] = &[("type", b"task:completed"), ("task_id", b"t"), ("data", data.as_bytes())];
        assert_eq!(decode(fields).unwrap().event.says_failed, failed, "{data}");
    }
}
