//! One event's data: its strings one by one, with the names that they stand under, and what is JSON inside them.

use std::{borrow::Cow, ops::Range};

use task_logger_plugin::json::{NotJson, Token, decode, is_document, rewrite_raw};

use crate::{
    assign::{credentials_at, is_header_secret},
    names::{Holds, Name},
    scan::{Edge, Match, Scanner},
    value::{Form, Strength, is_secret},
};

/// How many times JSON inside a string is unpacked.
const NESTING_MAX: usize = 5;
/// A string of base64 from this length on is data (a signature, a picture): tokens in it are chance.
const BLOB_MIN: usize = 200;

/// How often each rule was applied, in the order of the finds.
pub(crate) type Counts = Vec<&'static str>;

/// The rewritten JSON text, or `None` when nothing in it is a secret. `skip` is left as it is: the string that a stream has
/// already dealt with, and what takes its place.
pub(crate) fn rewrite(
    scanner: &Scanner,
    text: &str,
    skip: Option<(Range<usize>, Option<&str>)>,
    nesting: usize,
    counts: &mut Counts,
) -> Result<Option<String>, NotJson> {
    rewrite_raw(text, |token, raw| match &skip {
        Some((range, new)) if *range == token.raw => Ok(new.map(str::to_owned)),
        _ => string(scanner, text, token, raw, nesting, counts),
    })
}

fn string(
    scanner: &Scanner,
    text: &str,
    token: &Token,
    raw: &str,
    nesting: usize,
    counts: &mut Counts,
) -> Result<Option<String>, NotJson> {
    let value = decode(raw)?;
    if let Some(name) = announced(scanner, text, token)?
        && let Some(new) = named(scanner, name, &value)
    {
        counts.push(name.code);
        return Ok(Some(new));
    }
    if !scanner.has_literal(&value) || is_blob(&value) {
        return Ok(None);
    }
    if !token.is_key && nesting < NESTING_MAX && is_document(&value) {
        return rewrite(scanner, &value, None, nesting + 1, counts);
    }
    let found = scanner.scan(&value, Edge::End);
    if found.matches.is_empty() {
        return Ok(None);
    }
    counts.extend(found.matches.iter().map(|found| found.code));
    Ok(Some(masked(&value, &found.matches)))
}

/// What the key, or the name beside a `value`, says of a string.
fn announced(scanner: &Scanner, text: &str, token: &Token) -> Result<Option<Name>, NotJson> {
    let Some(key) = token.key.clone().and_then(|key| text.get(key)) else { return Ok(None) };
    let name = match (&token.name, key) {
        (Some(name), "value" | "Value") => decode(text.get(name.clone()).ok_or(NotJson)?)?,
        _ => decode(key)?,
    };
    Ok(scanner.names().classify(name.as_bytes()))
}

fn named(scanner: &Scanner, name: Name, value: &str) -> Option<String> {
    let at = match name.holds {
        Holds::Value(strength) => is_secret(value, strength, Form::Json).then_some(0),
        Holds::Authorization => is_header_secret(name, value).then(|| credentials_at(value)),
        // A jar's string, or only its contents.
        Holds::Cookie => (is_header_secret(name, value) || is_secret(value, Strength::Weak, Form::Json)).then_some(0),
    }?;
    let secret = value.get(at..)?;
    (!scanner.is_allowed(secret))
        .then(|| masked(value, &[Match { from: 0, start: at, end: value.len(), code: name.code }]))
}

/// A text with each match replaced by its mark.
pub(crate) fn masked(text: &str, matches: &[Match]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for found in matches {
        out.push_str(text.get(copied..found.start).unwrap_or_default());
        push_mark(&mut out, found.code);
        copied = found.end;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    out
}

/// `[REDACTED:kind]`.
pub(crate) fn push_mark(out: &mut String, code: &str) {
    out.push_str("[REDACTED:");
    out.push_str(code);
    out.push(']');
}

fn is_blob(text: &str) -> bool {
    text.len() >= BLOB_MIN
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
}

/// Whether a stream's string is to be treated as a document of its own.
pub(crate) fn is_whole_document(raw: &str) -> Result<bool, NotJson> {
    let text: Cow<'_, str> = decode(raw)?;
    Ok(is_document(&text))
}
