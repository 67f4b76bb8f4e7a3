//! What differs between two JSON values, leaf by leaf, by JSON pointer; long texts are cut to where they differ.

use serde_json::Value;

/// Characters shown before and after what differs in a text.
const CONTEXT: usize = 40;
/// Characters of a text shown at most.
const SHOWN_MAX: usize = 400;

/// A leaf that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// JSON pointer (RFC 6901); the whole value is the empty text.
    pub(super) pointer: String,
    /// `None`: it was not there.
    pub(super) before: Option<String>,
    /// `None`: it is gone.
    pub(super) after: Option<String>,
}

/// All leaves that differ, in the order of `before`, what is new after it.
pub(super) fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    walk(String::new(), Some(before), Some(after), &mut found);
    found
}

fn walk(pointer: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Change>) {
    match (before, after) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            for (key, value) in before {
                walk(below(&pointer, key), Some(value), after.get(key), found);
            }
            for (key, value) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
                walk(below(&pointer, key), None, Some(value), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            for at in 0..before.len().max(after.len()) {
                walk(below(&pointer, &at.to_string()), before.get(at), after.get(at), found);
            }
        }
        (before, after) if before == after => {}
        (Some(Value::String(before)), Some(Value::String(after))) => {
            let (before, after) = excerpts(before, after);
            found.push(Change { pointer, before: Some(before), after: Some(after) });
        }
        (before, after) => {
            let shown = |value: &Value| cut(&value.to_string());
            found.push(Change { pointer, before: before.map(shown), after: after.map(shown) });
        }
    }
}

fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Two texts as JSON strings, without most of what they share at both ends.
fn excerpts(before: &str, after: &str) -> (String, String) {
    let (a, b): (Vec<char>, Vec<char>) = (before.chars().collect(), after.chars().collect());
    let head = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let room = a.len().min(b.len()) - head;
    let tail = a.iter().rev().zip(b.iter().rev()).take(room).take_while(|(a, b)| a == b).count();
    let (from, keep) = (head.saturating_sub(CONTEXT), tail.saturating_sub(CONTEXT));
    let shown = |text: &[char]| {
        let middle: String = text.get(from..text.len() - keep).unwrap_or_default().iter().collect();
        let (left, right) = (if from > 0 { "…" } else { "" }, if keep > 0 { "…" } else { "" });
        cut(&Value::from(format!("{left}{middle}{right}")).to_string())
    };
    (shown(&a), shown(&b))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}… ({} characters)", text.get(..at).unwrap_or_default(), text.chars().count()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(before: Value, after: Value) -> Vec<String> {
        let text = |side: Option<String>| side.unwrap_or_else(|| "nothing".to_owned());
        changes(&before, &after)
            .into_iter()
            .map(|c| format!("{} {} {}", c.pointer, text(c.before), text(c.after)))
            .collect()
    }

    #[test]
    fn only_what_differs_is_shown_with_its_pointer() {
        let before = json!({"a": "x", "b/c": {"~": [1, "k", {"z": null}]}, "gone": true});
        let after = json!({"a": "x", "b/c": {"~": [1, "K", {"z": 0}, 4]}, "new": {"n": 1}});
        assert_eq!(
            shown(before.clone(), after),
            [
                "/b~1c/~0/1 \"k\" \"K\"",
                "/b~1c/~0/2/z null 0",
                "/b~1c/~0/3 nothing 4",
                "/gone true nothing",
                "/new nothing {\"n\":1}"
            ]
        );
        assert!(changes(&before, &before).is_empty());
        assert_eq!(shown(json!("a"), json!([1])), [" \"a\" [1]"]);
    }

    #[test]
    fn long_texts_are_cut_to_the_difference() {
        let (head, tail) = ("é".repeat(100), "z".repeat(100));
        let (near, far) = ("é".repeat(CONTEXT), "z".repeat(CONTEXT));
        let found = shown(json!(format!("{head}secret{tail}")), json!(format!("{head}[GONE]{tail}")));
        assert_eq!(found, [format!(" \"…{near}secret{far}…\" \"…{near}[GONE]{far}…\"")]);
        // What is shared may not be counted from both ends.
        assert_eq!(shown(json!("aa"), json!("aaa")), [" \"aa\" \"aaa\""]);
        let long = shown(json!("x".repeat(1000)), json!(1));
        assert!(long[0].contains("… (1002 characters)"), "{long:?}");
    }
}
