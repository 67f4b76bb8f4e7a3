//! JSON text without trees: splits an object into its top-level members, and makes any JSON text safe to stand on one line.
//! Payloads that no plugin changed are spliced from here into records, byte for byte.

use std::{borrow::Cow, fmt, ops::Range};

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The top-level members of an object, as ranges into its text; of double keys the last stays, at the first one's place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(Vec<Member>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    key: Box<str>,
    value: Range<u32>,
}

/// Why a text cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnObject {
    /// The text is no JSON.
    #[error("not JSON")]
    NotJson,
    /// The text is JSON, but no object.
    #[error("not an object")]
    OtherValue,
}

// === impl Members ===

impl Members {
    /// Checks that the text is a JSON object and finds its members.
    pub fn of(text: &str) -> Result<Self, NotAnObject> {
        if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
            return Err(match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Ok(_) => NotAnObject::OtherValue,
                Err(_) => NotAnObject::NotJson,
            });
        }
        let mut reader = serde_json::Deserializer::from_str(text);
        let members = reader.deserialize_map(Collect { text }).map_err(|_| NotAnObject::NotJson)?;
        reader.end().map_err(|_| NotAnObject::NotJson)?;
        Ok(members)
    }

    /// A member's value as it stands in `text`, which must be the text that was split.
    pub fn get<'t>(&self, text: &'t str, key: &str) -> Option<&'t str> {
        let member = self.0.iter().find(|member| &*member.key == key)?;
        text.get(member.span())
    }

    /// All members in order.
    pub fn iter<'m, 't: 'm>(&'m self, text: &'t str) -> impl Iterator<Item = (&'m str, &'t str)> {
        self.0.iter().filter_map(move |member| Some((&*member.key, text.get(member.span())?)))
    }

    /// Whether there is such a member.
    pub fn contains(&self, key: &str) -> bool {
        self.0.iter().any(|member| &*member.key == key)
    }
}

impl Member {
    fn span(&self) -> Range<usize> {
        self.value.start as usize..self.value.end as usize
    }
}

struct Collect<'t> {
    text: &'t str,
}

impl<'t> Visitor<'t> for Collect<'t> {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members: Vec<Member> = Vec::with_capacity(8);
        while let Some((Key(key), raw)) = map.next_entry::<Key<'t>, &'t RawValue>()? {
            let start = raw.get().as_ptr() as usize - self.text.as_ptr() as usize;
            let narrow = |at: usize| u32::try_from(at).map_err(|_| serde::de::Error::custom("text over 4 GiB"));
            let value = narrow(start)?..narrow(start + raw.get().len())?;
            match members.iter_mut().find(|member| *member.key == *key) {
                Some(double) => double.value = value,
                None => members.push(Member { key: key.into(), value }),
            }
        }
        Ok(Members(members))
    }
}

/// A key that borrows from the text where it holds no escape; serde's own `Cow` always copies.
struct Key<'t>(Cow<'t, str>);

impl<'t> serde::Deserialize<'t> for Key<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'t> Visitor<'t> for Text {
            type Value = Key<'t>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'t str) -> Result<Key<'t>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'t>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// How many objects and arrays stand in one another in a JSON text.
pub fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Replaces the escapes of lone surrogates by that of U+FFFD: strict parsers, those of plugins among them, refuse them.
pub fn mend_surrogates(text: &str) -> Cow<'_, str> {
    let suspicious = |at: usize| text.as_bytes().get(at + 2).is_some_and(|b| matches!(b, b'd' | b'D'));
    if !memchr::memmem::find_iter(text.as_bytes(), b"\\u").any(suspicious) {
        return Cow::Borrowed(text);
    }
    let mut mended = text.to_owned().into_bytes();
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &mended[at..]) {
        at += found;
        match surrogate(&mended, at) {
            Some(Half::High) if surrogate(&mended, at + 6) == Some(Half::Low) => at += 12,
            Some(_) => {
                mended[at + 2..at + 6].copy_from_slice(b"FFFD");
                at += 6;
            }
            // Skips the escaped character too, which may be a backslash.
            None => at = (at + 2).min(mended.len()),
        }
    }
    String::from_utf8(mended).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[derive(PartialEq)]
enum Half {
    High,
    Low,
}

fn surrogate(text: &[u8], at: usize) -> Option<Half> {
    let escape = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let code = u16::from_str_radix(std::str::from_utf8(escape).ok()?, 16).ok()?;
    match code {
        0xD800..=0xDBFF => Some(Half::High),
        0xDC00..=0xDFFF => Some(Half::Low),
        _ => None,
    }
}

/// Whether raw line breaks stand in a text.
pub fn has_line_breaks(text: &str) -> bool {
    memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_some()
}

/// Removes raw line breaks. In valid JSON they only stand between tokens.
pub fn on_one_line(text: Cow<'_, str>) -> Cow<'_, str> {
    if has_line_breaks(&text) { Cow::Owned(text.replace(['\n', '\r'], "")) } else { text }
}

/// Appends JSON text to a line; U+0085, U+2028 and U+2029, at which some readers split lines, become escapes. They can only
/// stand inside strings.
pub fn push_line_safe(line: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = memchr::memchr2(0xC2, 0xE2, rest) {
        let (escape, width): (&[u8], usize) = match &rest[at..] {
            [0xC2, 0x85, ..] => (b"\\u0085", 2),
            [0xE2, 0x80, 0xA8, ..] => (b"\\u2028", 3),
            [0xE2, 0x80, 0xA9, ..] => (b"\\u2029", 3),
            _ => (&rest[at..=at], 1),
        };
        line.extend_from_slice(&rest[..at]);
        line.extend_from_slice(escape);
        rest = &rest[at + width..];
    }
    line.extend_from_slice(rest);
}

/// Appends a text as a JSON string, safe for one line.
pub fn push_string(line: &mut Vec<u8>, text: &str) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\' && byte < 0x80;
    if text.bytes().all(plain) {
        line.push(b'"');
        line.extend_from_slice(text.as_bytes());
        line.push(b'"');
    } else {
        // A string always serialises.
        push_line_safe(line, &serde_json::to_string(text).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_text() {
        let text = r#" {"a": 1.50, "b" :{"c":[1, 2]},"a":"x\n", "k\u0065y":null} "#;
        let members = Members::of(text).unwrap();
        let all: Vec<_> = members.iter(text).collect();
        assert_eq!(all, [("a", r#""x\n""#), ("b", r#"{"c":[1, 2]}"#), ("key", "null")]);
        assert_eq!(Members::of("[1]"), Err(NotAnObject::OtherValue));
        for bad in ["", "{", "{}x", "{\"a\":\u{1}}", "nope", r#"{"a":01}"#] {
            assert_eq!(Members::of(bad), Err(NotAnObject::NotJson), "{bad}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        for (text, expected) in
            [("1", 0), ("{}", 1), (r#"{"a":[[1],{"b":[]}]}"#, 4), (r#"{"[[\"[[":"[{\\"}"#, 1), ("[],[[]]", 2)]
        {
            assert_eq!(depth(text), expected, "{text}");
        }
    }

    #[test]
    fn lone_surrogates_are_mended_and_pairs_stay() {
        for (text, mended) in [
            (r#""\uD83D\uDE00""#, r#""\uD83D\uDE00""#),
            (r#""\ud83d""#, r#""\uFFFD""#),
            (r#""\uDE00\uD83D\uD83D\uDE00""#, r#""\uFFFD\uFFFD\uD83D\uDE00""#),
            (r#""\\ud83d \u0000 \\\ud83d""#, r#""\\ud83d \u0000 \\\uFFFD""#),
            ("\"\\uD83D", "\"\\uFFFD"),
        ] {
            assert_eq!(mend_surrogates(text), mended);
        }
    }

    #[test]
    fn line_separators_become_escapes() {
        let mut line = Vec::new();
        push_line_safe(&mut line, "\"a\u{2028}b\u{85}ç—\u{2029}\"");
        assert_eq!(String::from_utf8(line).unwrap(), r#""a\u2028b\u0085ç—\u2029""#);
        let mut line = Vec::new();
        push_string(&mut line, "a\"\u{2028}\n");
        assert_eq!(String::from_utf8(line).unwrap(), r#""a\"\u2028\n""#);
    }
}
