//! What crosses into a guest and back: every field of an event, and texts of all kinds.

use std::time::Duration;

use serde_json::{Value, json};
use task_logger::{
    decode::Decoder,
    event::{Entry, Event, StreamId},
    plugin::Outcome,
};

use super::{Bench, Language, replaced, told};
use crate::guests::event;

/// An entry as a producer sends it, decoded as the service does.
fn decoded(data: &str) -> Event {
    let fields = [("type", "task:output"), ("task_id", "t"), ("data", data)];
    let fields = fields.map(|(name, value)| (name.to_owned().into(), value.to_owned().into())).to_vec();
    let entry = Entry { id: StreamId { ms: 1_700_000_000_000, seq: 1 }, fields };
    Decoder::new(16 << 20).decode(entry).unwrap().event
}

/// What the guest shows of a text that stands in `data` as written here, in quotes.
fn echo(bench: &mut Bench, literal: &str) -> Value {
    let outcomes = bench.outcomes(&[decoded(&format!("{{\"do\":\"replace\",\"text\":{literal}}}"))]);
    replaced(&outcomes[0])["text"].clone()
}

pub(super) fn every_field_arrives(language: Language) {
    let mut bench = Bench::new(language, "");
    let mut events = Vec::new();
    for (kind, ms, seq, timestamp_ms) in [
        ("task:output", 1_700_000_000_000, 0, 1_700_000_000_000),
        ("webhook:task_created", 0, 1, 0),
        ("knowledge:a_b.c-9", u64::MAX, u64::MAX, 253_402_300_799_999),
        ("response:x", 1, 2, -62_135_596_800_000),
        ("task:completed", 5, 6, 1),
    ] {
        let mut one = event(seq, kind, "{\"text\":\"x\",\"do\":\"replace\"}");
        one.id = StreamId { ms, seq };
        one.timestamp_ms = timestamp_ms;
        events.push(one);
    }
    for flush in [false, true] {
        let outcomes = bench.ask(&events, flush).outcomes;
        for (event, outcome) in events.iter().zip(&outcomes) {
            let mut shown = replaced(outcome);
            let ms = shown["timestamp_ms"].take();
            assert!(ms.is_number() && ms.as_f64() == Some(event.timestamp_ms as f64), "{ms}: {}", event.timestamp_ms);
            let expected = json!({ "id": event.id.to_string(), "kind": &*event.kind, "timestamp_ms": null, "task": "t",
                "flush": flush, "text": "x" });
            assert_eq!(shown, expected);
        }
        assert_eq!(outcomes.len(), events.len());
    }
}

pub(super) fn texts_arrive_as_they_are(language: Language) {
    let mut bench = Bench::new(language, "isolation = 'reuse'");
    for text in [
        "",
        " ",
        "a",
        "\u{0}",
        "nul \u{0} inside",
        "\u{1}\u{8}\u{b}\u{c}\u{1f}\u{7f}\u{80}\u{9f}",
        "\"\\\"\\\\ / \\u0041 \\n",
        "é ß ø 日本語 עברית",
        "🦀 👩‍👩‍👧 𝕏 \u{10ffff}",
        "e\u{301} is not é",
        "\u{2028}\u{2029}\u{85}\u{feff}",
        "\u{fffd} \u{ffff} \u{fffe} \u{d7ff} \u{e000}",
        "two\nlines\r\nand\ttabs",
        "</script><!-- %s %n {} ${x} $(x) `x`",
        "9007199254740993",
        "null",
    ] {
        assert_eq!(echo(&mut bench, &json!(text).to_string()), text, "{text:?}");
    }
    // The same characters as producers may escape them.
    for (literal, text) in [
        (r#""\u00e9\u65E5\/\b\f\n\r\t""#, "é日/\u{8}\u{c}\n\r\t"),
        (r#""\ud83e\udd80""#, "🦀"),
        (r#""\u0000""#, "\u{0}"),
        (r#""\u0022\u005c\u005Cn""#, "\"\\\\n"),
        (r#""\u2028\u2029""#, "\u{2028}\u{2029}"),
        // Halves of a pair are replaced before any plugin sees them.
        (r#""a\ud83eb""#, "a\u{fffd}b"),
        (r#""\udd80\ud83e""#, "\u{fffd}\u{fffd}"),
    ] {
        assert_eq!(echo(&mut bench, literal), text, "{literal}");
    }
}

pub(super) fn what_passes_stays_byte_for_byte(language: Language) {
    let mut bench = Bench::new(language, "");
    let deep = format!("{{\"deep\":{}1{}}}", "[".repeat(100), "]".repeat(100));
    for data in [
        "{}",
        "{ }",
        r#"{"n":123456789012345678901234567890,"f":1.10,"e":1E+2,"z":-0}"#,
        r#"{ "do" : "pass" , "b":true,"n":null,"a":[ ],"o":{ } }"#,
        r#"{"":"","do":"pass"," do":"drop","DO":"drop"}"#,
        r#"{"x":{"do":"drop"},"y":["do","drop"],"z":"\"do\":\"drop\""}"#,
        r#"{"\u0064o":"pass","text":"\u0000\u2028"}"#,
        &deep,
    ] {
        assert_eq!(bench.outcomes(&[event(1, "task:output", data)]), [Outcome::Pass], "{data}");
    }
    // A name and an action may be written with escapes as well.
    let dropped = bench.outcomes(&[event(1, "task:output", r#"{"\u0064\u006f":"dr\u006fp"}"#)]);
    assert!(matches!(&dropped[..], [Outcome::Drop { .. }]), "{dropped:?}");
}

pub(super) fn a_mebibyte_crosses(language: Language) {
    // JavaScript needs more than 64 MiB to replace so much, and half a second where it is full of escapes.
    let mut bench = Bench::with_room(language, 128 << 20, Duration::from_secs(10), "");
    for unit in ["x", "é🦀\u{2028}\"\\\u{0}\n"] {
        let text = unit.repeat((1 << 20) / unit.len());
        let outcomes = bench.outcomes(&told(&[json!({ "do": "replace", "text": text })]));
        let shown = replaced(&outcomes[0]);
        assert!(shown["text"] == text, "{} bytes came back of {}", shown["text"].to_string().len(), text.len());
        let decided = bench.ask(&told(&[json!({ "do": "write", "text": text })]), false);
        assert!(decided.effects.files.len() == 1 && decided.effects.files[0].text == text);
        assert_eq!(bench.outcomes(&told(&[json!({ "text": text })])), [Outcome::Pass]);
    }
}

pub(super) fn an_event_of_no_task(language: Language) {
    let mut bench = Bench::new(language, "").of_no_task();
    let outcomes = bench.outcomes(&told(&[json!({ "do": "replace", "text": "x" }), json!({ "do": "state" })]));
    let shown = replaced(&outcomes[0]);
    assert_eq!(shown.get("task"), Some(&Value::Null), "{shown}");
    assert_eq!(replaced(&outcomes[1]), json!({ "count": 1 }), "the flow has a state of its own");
    // A task may be called anything that a directory can be called.
    bench.task = Some("null");
    assert_eq!(replaced(&bench.outcomes(&told(&[json!({ "do": "replace", "text": "" })]))[0])["task"], "null");
    bench.task = Some("é 🦀\"\\");
    assert_eq!(replaced(&bench.outcomes(&told(&[json!({ "do": "replace", "text": "" })]))[0])["task"], "é 🦀\"\\");
}
