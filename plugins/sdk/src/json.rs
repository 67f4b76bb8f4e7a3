//! A walk over the strings of a JSON text that changes nothing else: what is not replaced keeps its bytes, so numbers, key
//! order, white space and escapes stay as they came. serde_json decodes and encodes the strings.

use std::{borrow::Cow, ops::Range};

/// Deepest nesting followed: beyond any that a JSON parser takes.
const DEPTH_MAX: usize = 512;

/// A string of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its bytes between the quotes, undecoded.
    pub raw: Range<usize>,
    /// Whether it names a member.
    pub is_key: bool,
    /// The key that it stands under, undecoded; through arrays too.
    pub key: Option<Range<usize>>,
    /// The string under `name` or `key` in the same object, before it: lists of `{"name": …, "value": …}` have their names
    /// there.
    pub name: Option<Range<usize>>,
    /// How many objects and arrays it stands in.
    pub depth: usize,
}

/// The text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

/// Goes from string to string. Checks no more of the text than it needs to know where its strings are.
#[derive(Debug)]
pub struct Walker<'a> {
    text: &'a str,
    at: usize,
    frames: Vec<Frame>,
}

#[derive(Clone, Debug, Default)]
struct Frame {
    object: bool,
    /// In an object: a key comes next.
    expects_key: bool,
    key: Option<Range<usize>>,
    name: Option<Range<usize>>,
}

/// Passes every string of a JSON text, keys included, through `change`, decoded; `None` leaves one as it is. Returns the
/// new text, or `None` when nothing changed. A key that is changed to another's name is the author's business: of equal
/// keys the last counts.
///
/// # Errors
/// The text is not JSON.
pub fn rewrite(text: &str, mut change: impl FnMut(&Token, &str) -> Option<String>) -> Result<Option<String>, NotJson> {
    rewrite_raw(text, |token, raw| {
        let value = decode(raw)?;
        Ok(change(token, &value).filter(|new| *new != value))
    })
}

/// The same for strings as they are spelled in the text, escapes and all, which saves decoding those that are of no
/// interest; [`decode`] decodes one. What `change` returns is plain text again.
///
/// # Errors
/// The text is not JSON, or what `change` says.
pub fn rewrite_raw<E: From<NotJson>>(
    text: &str,
    mut change: impl FnMut(&Token, &str) -> Result<Option<String>, E>,
) -> Result<Option<String>, E> {
    let mut walker = Walker::new(text);
    let mut out = String::new();
    let mut copied = 0;
    while let Some(token) = walker.next_string()? {
        let raw = text.get(token.raw.clone()).ok_or(NotJson)?;
        if let Some(new) = change(&token, raw)? {
            out.push_str(text.get(copied..token.raw.start).ok_or(NotJson)?);
            out.push_str(&encode(&new));
            copied = token.raw.end;
        }
    }
    if copied == 0 {
        return Ok(None);
    }
    out.push_str(text.get(copied..).ok_or(NotJson)?);
    Ok(Some(out))
}

/// A string's text; `raw` stands between its quotes.
///
/// # Errors
/// It is no JSON string.
pub fn decode(raw: &str) -> Result<Cow<'_, str>, NotJson> {
    if memchr::memchr(b'\\', raw.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(raw));
    }
    let mut quoted = String::with_capacity(raw.len() + 2);
    quoted.push('"');
    quoted.push_str(raw);
    quoted.push('"');
    serde_json::from_str::<String>(&quoted).map(Cow::Owned).map_err(|_| NotJson)
}

/// A text as a JSON string, without the quotes.
pub fn encode(text: &str) -> String {
    let mut quoted = serde_json::Value::from(text).to_string();
    quoted.pop();
    quoted.remove(0);
    quoted
}

/// Whether a text is an object or array as a whole.
pub fn is_document(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Where the string ends whose first byte after the quote is `from`: its bytes, undecoded.
///
/// # Errors
/// It does not end.
pub fn string_end(bytes: &[u8], from: usize) -> Result<Range<usize>, NotJson> {
    let mut at = from;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..).ok_or(NotJson)?).ok_or(NotJson)?;
        if bytes[at] == b'"' {
            return Ok(from..at);
        }
        at += 2;
    }
}

// === impl Walker ===

impl<'a> Walker<'a> {
    /// At the beginning of a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, frames: Vec::new() }
    }

    /// The next string; `None` at the end.
    ///
    /// # Errors
    /// The text is not JSON.
    pub fn next_string(&mut self) -> Result<Option<Token>, NotJson> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'"' => return self.string().map(Some),
                b'{' | b'[' => self.push(*byte == b'{')?,
                b'}' | b']' => {
                    self.frames.pop().ok_or(NotJson)?;
                }
                b',' => {
                    if let Some(frame) = self.frames.last_mut() {
                        frame.expects_key = frame.object;
                    }
                }
                _ => {}
            }
        }
        if self.frames.is_empty() { Ok(None) } else { Err(NotJson) }
    }

    fn push(&mut self, object: bool) -> Result<(), NotJson> {
        if self.frames.len() >= DEPTH_MAX {
            return Err(NotJson);
        }
        // An array's strings stand under the array's key.
        let key = if object { None } else { self.frames.last().and_then(|frame| frame.key.clone()) };
        self.frames.push(Frame { object, expects_key: object, key, name: None });
        Ok(())
    }

    fn string(&mut self) -> Result<Token, NotJson> {
        let raw = string_end(self.text.as_bytes(), self.at)?;
        self.at = raw.end + 1;
        let depth = self.frames.len();
        let Some(frame) = self.frames.last_mut() else {
            return Ok(Token { raw, is_key: false, key: None, name: None, depth });
        };
        if frame.object && frame.expects_key {
            frame.expects_key = false;
            frame.key = Some(raw.clone());
            return Ok(Token { raw, is_key: true, key: None, name: None, depth });
        }
        let token = Token { raw: raw.clone(), is_key: false, key: frame.key.clone(), name: frame.name.clone(), depth };
        let key = frame.key.clone().and_then(|key| self.text.get(key));
        if frame.object && matches!(key, Some("name" | "key" | "Name" | "Key")) {
            frame.name = Some(raw);
        }
        Ok(token)
    }
}

// === impl NotJson ===

impl std::fmt::Display for NotJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not JSON")
    }
}

impl std::error::Error for NotJson {}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn upper(text: &str, expected: Option<&str>) {
        let new = rewrite(text, |token, text| (!token.is_key).then(|| text.to_uppercase()));
        assert_eq!(new.unwrap().as_deref(), expected, "{text}");
    }

    #[test]
    fn what_is_not_changed_keeps_its_bytes() {
        upper(
            "{ \"k\" : \"a\\u0041\\n\",\"n\":1.50e+2 , \"u\":\"X\\u0041\", \"l\":[\"b\", null]}\n",
            Some("{ \"k\" : \"AA\\n\",\"n\":1.50e+2 , \"u\":\"X\\u0041\", \"l\":[\"B\", null]}\n"),
        );
        upper("{\"A\":\"\\u0041\"}", None);
        upper("{}", None);
        upper(r#"{"a":"say \"hi\" \\ é"}"#, Some(r#"{"a":"SAY \"HI\" \\ É"}"#));
    }

    #[test]
    fn tokens_know_where_they_stand() {
        let text = r#"{"env":[{"name":"TOKEN","value":"x"}],"list":["y",["z"]]}"#;
        let mut walker = Walker::new(text);
        let mut seen = Vec::new();
        while let Some(token) = walker.next_string().unwrap() {
            let part = |range: Option<Range<usize>>| range.and_then(|range| text.get(range)).unwrap_or("-");
            let key = if token.is_key { "KEY" } else { part(token.key.clone()) };
            seen.push(format!("{} {key} {} {}", part(Some(token.raw.clone())), part(token.name.clone()), token.depth));
        }
        let expected = [
            "env KEY - 1",
            "name KEY - 3",
            "TOKEN name - 3",
            "value KEY - 3",
            "x value TOKEN 3",
            "list KEY - 1",
            "y list - 2",
            "z list - 3",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn keys_may_be_rewritten_too() {
        let new = rewrite(r#"{"a":"a"}"#, |token, _| token.is_key.then(|| "b\"".to_owned()));
        assert_eq!(new, Ok(Some(r#"{"b\"":"a"}"#.to_owned())));
    }

    #[test]
    fn what_is_cut_is_not_json() {
        for text in ["{\"a", "{\"a\\", "{", "]", "{\"a\":\"\\x\"}"] {
            assert_eq!(rewrite(text, |_, _| Some(String::new())), Err(NotJson), "{text}");
        }
        assert_eq!(rewrite(&"[".repeat(600), |_, _| None), Err(NotJson));
    }
}
