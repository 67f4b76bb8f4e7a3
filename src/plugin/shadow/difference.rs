//! Whether two verdicts come to the same, and where they do not, without showing what must not be seen.
//!
//! A shadow redactor may miss a secret that the enforcing one hides, or find one that the enforcing one let through: no text
//! of its output, nor of the output it is compared with, is shown, but where in the document and where in a string they part,
//! and lengths. A member's name is shown only if both the shadow left it in and it was written. What a standard plugin is
//! given and makes is redacted already: of that, a few characters around the place are shown.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::super::verdict::Decision;

/// Places shown of one event.
const PLACES_MAX: usize = 8;
/// Characters shown of each side of a place.
const EXCERPT_CHARS: usize = 24;
/// Characters shown of a member's name.
const NAME_CHARS_MAX: usize = 60;
/// In the place of a name that is not shown.
const HIDDEN: &str = "?";
/// Largest data looked into, in bytes.
const LOOK_BYTES_MAX: usize = 1 << 20;

/// What becomes of an event by someone's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin) enum Fate<'a> {
    /// As it came.
    Pass(&'a str),
    /// With this data.
    Replace(&'a str),
    /// With this code.
    Drop(&'a str),
    /// With this code.
    Quarantine(&'a str),
    /// With this class.
    Failed(&'a str),
    Hold,
}

/// What may be shown of a place.
#[derive(Clone, Copy, Debug)]
pub(in crate::plugin) struct Show<'a> {
    /// The data that was written of the event, if it was.
    pub(in crate::plugin) written: Option<&'a str>,
    /// Whether everything compared is redacted already.
    pub(in crate::plugin) redacted: bool,
}

// === impl Fate ===

impl<'a> Fate<'a> {
    /// Of a decision on this data.
    pub(in crate::plugin) fn of(decision: &'a Decision, data: &'a str) -> Self {
        match decision {
            Decision::Pass => Self::Pass(data),
            Decision::Replace(new) => Self::Replace(new),
            Decision::Drop(code) => Self::Drop(code),
            Decision::Quarantine(code) => Self::Quarantine(code),
            Decision::Failed(class) => Self::Failed(class.as_str()),
        }
    }

    pub(in crate::plugin) fn name(&self) -> &'static str {
        match self {
            Self::Pass(_) => "pass",
            Self::Replace(_) => "replace",
            Self::Drop(_) => "drop",
            Self::Quarantine(_) => "quarantine",
            Self::Failed(_) => "failed",
            Self::Hold => "hold",
        }
    }

    /// With its code or class, which are the manifest's and the host's words.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Drop(code) | Self::Quarantine(code) | Self::Failed(code) => format!("{} ({code})", self.name()),
            _ => self.name().to_owned(),
        }
    }

    fn data(&self) -> Option<&'a str> {
        match self {
            Self::Pass(data) | Self::Replace(data) => Some(data),
            _ => None,
        }
    }

    /// Whether both come to the same: the same data, however it is spelled, or the same end. Two failures are one.
    pub(in crate::plugin) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Failed(_), Self::Failed(_)) => true,
            _ => match (self.data(), other.data()) {
                (Some(mine), Some(theirs)) => {
                    mine == theirs || parse(mine).is_some_and(|mine| parse(theirs) == Some(mine))
                }
                (None, None) => self == other,
                _ => false,
            },
        }
    }
}

/// Where the chain's data and the shadow's differ; nothing if one of them has none, or it is too long to look at.
pub(in crate::plugin) fn places(chain: &Fate<'_>, shadow: &Fate<'_>, show: Show<'_>) -> Vec<Value> {
    let (Some(chain), Some(shadow)) = (chain.data(), shadow.data()) else { return Vec::new() };
    if chain.len().max(shadow.len()) > LOOK_BYTES_MAX {
        return Vec::new();
    }
    let (Some(chain), Some(shadow)) = (parse(chain), parse(shadow)) else { return Vec::new() };
    let written = show.written.filter(|written| written.len() <= LOOK_BYTES_MAX).and_then(parse);
    let (mut written_names, mut shadow_names) = (HashSet::new(), HashSet::new());
    if let Some(written) = &written {
        names(written, &mut written_names);
    }
    names(&shadow, &mut shadow_names);
    let mut walk =
        Walk { written: written_names, left: shadow_names, redacted: show.redacted, found: Vec::new(), more: 0 };
    walk.compare("", &chain, &shadow);
    if walk.more > 0 {
        walk.found.push(json!({ "more": walk.more }));
    }
    walk.found
}

fn parse(data: &str) -> Option<Value> {
    serde_json::from_str(data).ok()
}

fn names<'a>(value: &'a Value, into: &mut HashSet<&'a str>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            into.insert(name);
            names(value, into);
        }),
        Value::Array(items) => items.iter().for_each(|item| names(item, into)),
        _ => {}
    }
}

struct Walk<'a> {
    written: HashSet<&'a str>,
    left: HashSet<&'a str>,
    redacted: bool,
    found: Vec<Value>,
    more: usize,
}

impl Walk<'_> {
    fn compare(&mut self, path: &str, chain: &Value, shadow: &Value) {
        match (chain, shadow) {
            _ if chain == shadow => {}
            (Value::Object(mine), Value::Object(theirs)) => {
                for (name, value) in mine {
                    let path = format!("{path}/{}", self.name(name));
                    match theirs.get(name) {
                        Some(other) => self.compare(&path, value, other),
                        None => self.found(json!({ "path": path, "only_in": "enforced" })),
                    }
                }
                for name in theirs.keys().filter(|name| !mine.contains_key(*name)) {
                    let path = format!("{path}/{}", self.name(name));
                    self.found(json!({ "path": path, "only_in": "shadow" }));
                }
            }
            (Value::Array(mine), Value::Array(theirs)) => {
                for (at, (value, other)) in mine.iter().zip(theirs).enumerate() {
                    self.compare(&format!("{path}/{at}"), value, other);
                }
                if mine.len() != theirs.len() {
                    self.found(json!({ "path": path, "enforced_items": mine.len(), "shadow_items": theirs.len() }));
                }
            }
            (Value::String(mine), Value::String(theirs)) => {
                let at = mine.chars().zip(theirs.chars()).take_while(|(a, b)| a == b).count();
                let mut place = json!({
                    "path": path,
                    "first_difference": at,
                    "enforced_chars": mine.chars().count(),
                    "shadow_chars": theirs.chars().count(),
                });
                if self.redacted {
                    place["enforced_text"] = json!(excerpt(mine, at));
                    place["shadow_text"] = json!(excerpt(theirs, at));
                }
                self.found(place);
            }
            _ => self.found(json!({ "path": path, "enforced_type": kind(chain), "shadow_type": kind(shadow) })),
        }
    }

    fn found(&mut self, place: Value) {
        if self.found.len() < PLACES_MAX {
            self.found.push(place);
        } else {
            self.more += 1;
        }
    }

    /// A member's name as a JSON pointer has it, if it may be shown.
    fn name(&self, name: &str) -> String {
        if !(self.redacted || self.written.contains(name) && self.left.contains(name)) {
            return HIDDEN.to_owned();
        }
        let shown: String = name.chars().take(NAME_CHARS_MAX).collect();
        shown.replace('~', "~0").replace('/', "~1")
    }
}

fn excerpt(text: &str, at: usize) -> String {
    text.chars().skip(at.saturating_sub(EXCERPT_CHARS)).take(2 * EXCERPT_CHARS).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "Zq7Secret";

    fn shown(chain: &str, shadow: &str, written: Option<&str>, redacted: bool) -> Value {
        Value::Array(places(&Fate::Replace(chain), &Fate::Replace(shadow), Show { written, redacted }))
    }

    #[test]
    fn the_same_however_it_is_spelled() {
        let same = |a: Fate<'_>, b: Fate<'_>| a.is_same(&b) && b.is_same(&a);
        assert!(same(Fate::Pass("{\"a\":1,\"b\":2}"), Fate::Replace("{ \"b\": 2, \"a\": 1 }")));
        assert!(!same(Fate::Pass("{\"a\":1}"), Fate::Replace("{\"a\":2}")));
        assert!(!same(Fate::Pass("{\"a\":1}"), Fate::Drop("x")));
        assert!(!same(Fate::Drop("x"), Fate::Drop("y")) && same(Fate::Drop("x"), Fate::Drop("x")));
        assert!(!same(Fate::Drop("x"), Fate::Quarantine("x")));
        assert!(same(Fate::Failed("trap"), Fate::Failed("timeout")));
        assert!(!same(Fate::Hold, Fate::Pass("{}")));
    }

    #[test]
    fn places_of_all_sorts() {
        let chain = r#"{"a":"one two","b":[1,2],"c":{"d/e":true},"f":1}"#;
        let shadow = r#"{"a":"one tw0!","b":[1],"c":{"d/e":"x"},"g":1}"#;
        let expected = json!([
            {"path": "/a", "first_difference": 6, "enforced_chars": 7, "shadow_chars": 8,
             "enforced_text": "one two", "shadow_text": "one tw0!"},
            {"path": "/b", "enforced_items": 2, "shadow_items": 1},
            {"path": "/c/d~1e", "enforced_type": "boolean", "shadow_type": "string"},
            {"path": "/f", "only_in": "enforced"},
            {"path": "/g", "only_in": "shadow"},
        ]);
        assert_eq!(shown(chain, shadow, Some(chain), true), expected);
    }

    #[test]
    fn many_places_are_counted() {
        let many = |x: &str| json!((0..20).map(|n| format!("{x}{n}")).collect::<Vec<_>>());
        let (a, b) = (json!({ "l": many("a") }).to_string(), json!({ "l": many("b") }).to_string());
        let found = shown(&a, &b, None, true);
        assert_eq!(found.as_array().map(Vec::len), Some(PLACES_MAX + 1));
        assert_eq!(found[PLACES_MAX], json!({ "more": 12 }));
    }

    #[test]
    fn nothing_raw_is_shown_of_redactors() {
        let hidden = r#"{"text":"[REDACTED]","[REDACTED]":1,"n":{"k":"[REDACTED]"}}"#;
        let raw = format!(r#"{{"text":"{SECRET}","{SECRET}":1,"n":{{"k":"{SECRET}"}}}}"#);
        // The shadow misses what the enforcing one hides.
        let missed = shown(hidden, &raw, Some(hidden), false);
        assert!(!missed.to_string().contains(SECRET), "{missed}");
        assert!(missed.to_string().contains("/n/k") && missed.to_string().contains("/?"), "{missed}");
        // The shadow finds what was written raw: it is not shown a second time.
        let found = shown(&raw, hidden, Some(&raw), false);
        assert!(!found.to_string().contains(SECRET), "{found}");
        // A later redactor takes care of it: what is compared here is raw on both sides.
        let between = raw.replace("\"n\"", "\"m\"");
        let both = shown(&raw, &between, Some(hidden), false);
        assert!(!both.to_string().contains(SECRET) && !both.to_string().contains("\"/m\""), "{both}");
        // Nothing was written at all.
        let none = shown(&raw, hidden, None, false);
        assert!(!none.to_string().contains(SECRET) && !none.to_string().contains("text"), "{none}");
    }
}
