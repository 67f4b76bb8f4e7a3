//! A walk over the strings of a JSON text that changes nothing else: what is not replaced keeps its bytes, so numbers, key
//! order and escapes stay as they came. serde_json decodes and encodes the strings.

use std::{borrow::Cow, ops::Range};

/// Deepest nesting followed: beyond any that a JSON parser takes.
const DEPTH_MAX: usize = 512;

/// A string of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Its bytes between the quotes, undecoded.
    pub(crate) raw: Range<usize>,
    /// Whether it names a member.
    pub(crate) is_key: bool,
    /// The key that it stands under, undecoded; through arrays too.
    pub(crate) key: Option<Range<usize>>,
    /// The string under `name` or `key` in the same object, before it.
    pub(crate) name: Option<Range<usize>>,
    /// How many objects and arrays it stands in.
    pub(crate) depth: usize,
}

/// The text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

/// Goes from string to string.
#[derive(Debug)]
pub(crate) struct Walker<'a> {
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

// === impl Walker ===

impl<'a> Walker<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, frames: Vec::new() }
    }

    /// The next string; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Token>, NotJson> {
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

fn string_end(bytes: &[u8], from: usize) -> Result<Range<usize>, NotJson> {
    let mut at = from;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..).ok_or(NotJson)?).ok_or(NotJson)?;
        if bytes[at] == b'"' {
            return Ok(from..at);
        }
        at += 2;
    }
}

/// The string under the key `content` of the outermost object: where it stands, undecoded. Of several the last counts.
pub(crate) fn content(text: &str) -> Result<Option<Range<usize>>, NotJson> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut last, mut is_content) = (0, 0_usize, None, false);
    let mut expects_key = false;
    // Leaner than the walker: this runs for every event of a stream.
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let raw = string_end(bytes, at)?;
                at = raw.end + 1;
                if depth == 1 {
                    if expects_key {
                        is_content = &bytes[raw] == b"content";
                    } else if is_content {
                        last = Some(raw);
                    }
                }
            }
            b'{' => {
                depth += 1;
                expects_key = depth == 1;
            }
            b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1).ok_or(NotJson)?,
            b',' if depth == 1 => expects_key = true,
            b':' if depth == 1 => expects_key = false,
            _ => {}
        }
    }
    if depth == 0 { Ok(last) } else { Err(NotJson) }
}

/// A string's text.
pub(crate) fn decode(raw: &str) -> Result<Cow<'_, str>, NotJson> {
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
pub(crate) fn encode(text: &str) -> String {
    let mut quoted = serde_json::Value::from(text).to_string();
    quoted.pop();
    quoted.remove(0);
    quoted
}

/// Whether a text is an object or array as a whole.
pub(crate) fn is_document(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}
