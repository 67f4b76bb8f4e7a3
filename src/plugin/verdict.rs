//! Checks what a guest says of events: holds only where they are allowed, replacements that every reader can parse, codes
//! that the manifest knows.

use std::fmt;

use serde::{
    Deserialize,
    de::{Deserializer, Error, MapAccess, SeqAccess, Visitor},
};

use super::{
    bindings::Verdict,
    instance::{CallError, Class},
    state::Identity,
};

/// Code of drops and quarantines whose own code is not in the manifest.
pub(super) const OTHER: &str = "other";

/// A checked verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Pass,
    /// On one line.
    Replace(String),
    /// With a code of the manifest, or [`OTHER`].
    Drop(String),
    /// With a code of the manifest, or [`OTHER`].
    Quarantine(String),
    /// The plugin failed on this event, twice.
    Failed(Class),
}

/// Checks the verdicts of a call; those from the first hold on are gone. The flag says that there was one.
pub(super) fn check(
    verdicts: Vec<Verdict>,
    identity: &Identity,
    flush: bool,
) -> Result<(Vec<Decision>, bool), CallError> {
    let mut decisions = Vec::with_capacity(verdicts.len());
    for verdict in verdicts {
        decisions.push(match verdict {
            Verdict::Pass => Decision::Pass,
            Verdict::Replace(text) => Decision::Replace(object_on_one_line(text)?),
            Verdict::Drop(code) => Decision::Drop(known(code, identity)),
            Verdict::Quarantine(code) => Decision::Quarantine(known(code, identity)),
            Verdict::Hold if !identity.redactor => {
                return Err(CallError::said(Class::Hold, Some("only redactors may hold".to_owned())));
            }
            Verdict::Hold if flush => {
                return Err(CallError::said(Class::Hold, Some("held on flush".to_owned())));
            }
            Verdict::Hold => return Ok((decisions, true)),
        });
    }
    Ok((decisions, false))
}

fn known(code: String, identity: &Identity) -> String {
    if identity.code_index(&code).is_some() { code } else { OTHER.to_owned() }
}

fn object_on_one_line(mut text: String) -> Result<String, CallError> {
    // The parser's message could quote the text.
    let refused =
        || CallError::said(Class::Json, Some("replaced data with something that is not a JSON object".to_owned()));
    serde_json::from_str::<Object>(&text).map_err(|_| refused())?;
    if text.contains(['\n', '\r']) {
        // Inside strings they cannot stand raw, so these are white space between tokens.
        text.retain(|c| c != '\n' && c != '\r');
    }
    Ok(text)
}

/// Parses an object and keeps nothing; unlike `IgnoredAny` it refuses what a later parser would (lone surrogates, numbers
/// out of range, nesting without end).
struct Object;

struct Any;

struct Check {
    object: bool,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Check { object: true }).map(|Any| Self)
    }
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Check { object: false })
    }
}

impl Check {
    fn scalar<E: Error>(self) -> Result<Any, E> {
        if self.object { Err(E::custom("not an object")) } else { Ok(Any) }
    }
}

impl<'de> Visitor<'de> for Check {
    type Value = Any;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.object { "an object" } else { "JSON" })
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Any, E> {
        self.scalar()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Any, E> {
        self.scalar()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Any, E> {
        self.scalar()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Any, E> {
        self.scalar()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Any, E> {
        self.scalar()
    }

    fn visit_unit<E: Error>(self) -> Result<Any, E> {
        self.scalar()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Any, A::Error> {
        if self.object {
            return Err(A::Error::custom("not an object"));
        }
        while items.next_element::<Any>()?.is_some() {}
        Ok(Any)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Any, A::Error> {
        while entries.next_entry::<Any, Any>()?.is_some() {}
        Ok(Any)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn identity(redactor: bool) -> Identity {
        Identity { name: "p".into(), redactor, codes: vec![Arc::from("spam")], files: Vec::new() }
    }

    #[test]
    fn replacements_are_objects_on_one_line() {
        let ok = |text: &str| object_on_one_line(text.to_owned()).unwrap();
        assert_eq!(ok("{\"a\":1}"), "{\"a\":1}");
        assert_eq!(ok("{\r\n \"a\": \"x\\n\",\n\"b\":[1,\n2]}\n"), "{ \"a\": \"x\\n\",\"b\":[1,2]}");
        assert_eq!(
            ok(r#"{"a":"\ud83d\ude00","b":null,"c":true,"d":-1.5e3}"#),
            r#"{"a":"\ud83d\ude00","b":null,"c":true,"d":-1.5e3}"#
        );
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(500), "]".repeat(500));
        for bad in [
            "",
            "[]",
            "1",
            "\"x\"",
            "null",
            "{",
            "{\"a\":1} x",
            r#"{"a":"\ud83d"}"#,
            r#"{"\ud83d":1}"#,
            "{\"a\":1e999}",
            &deep,
        ] {
            assert_eq!(object_on_one_line(bad.to_owned()).unwrap_err().class, Class::Json, "{bad}");
        }
    }

    #[test]
    fn holds_and_codes() {
        let verdicts =
            || vec![Verdict::Drop("spam".into()), Verdict::Quarantine("raw text".into()), Verdict::Hold, Verdict::Pass];
        let (decisions, held) = check(verdicts(), &identity(true), false).unwrap();
        assert_eq!(decisions, [Decision::Drop("spam".into()), Decision::Quarantine(OTHER.into())]);
        assert!(held);
        assert_eq!(check(verdicts(), &identity(true), true).unwrap_err().class, Class::Hold);
        assert_eq!(check(verdicts(), &identity(false), false).unwrap_err().class, Class::Hold);
    }
}
