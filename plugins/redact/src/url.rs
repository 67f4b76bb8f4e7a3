//! Passwords in URLs: `scheme://user:password@host`, and tokens that stand for the user.

use crate::{
    scan::{Context, Edge, Found, Open, part},
    value::is_placeholder,
};

/// Kind and counter name.
pub(crate) const CODE: &str = "url_password";
/// Longest authority looked at, in bytes.
const AUTHORITY_MAX: usize = 512;
/// A user without a password is a token from this length on, if it has a digit.
const TOKEN_MIN: usize = 20;

/// Whether undecoded text has user information after `://`.
pub(crate) fn plausible(raw: &[u8], from: usize, stream: bool) -> bool {
    let end = authority_end(raw, from);
    raw[from..end].contains(&b'@') || (stream && raw.get(end).is_none_or(|byte| *byte == b'"'))
}

/// Reports the password of the URL whose authority begins at `from`.
pub(crate) fn find(text: &str, start: usize, from: usize, edge: Edge, found: &mut Found) {
    let bytes = text.as_bytes();
    let end = authority_end(bytes, from);
    let authority = &bytes[from..end];
    let colon = authority.iter().position(|byte| *byte == b':');
    let at = authority.iter().rposition(|byte| *byte == b'@');
    if end == bytes.len() && edge == Edge::Open && authority.len() < AUTHORITY_MAX {
        let (redact, context) = match colon {
            None => (None, "x://u"),
            // So far this may be a port.
            Some(colon) if authority[colon + 1..].iter().all(u8::is_ascii_digit) && authority.len() - colon <= 6 => {
                (None, "x://u:1")
            }
            Some(colon) => (Some(from + colon + 1), "x://u:00000000"),
        };
        let scheme = bytes[..start].iter().rev().take(12).take_while(|byte| byte.is_ascii_alphanumeric()).count();
        found.open(Open {
            start: start - scheme,
            redact,
            code: CODE,
            context: Context::Text(context.to_owned()),
            named: false,
        });
        return;
    }
    let Some(at) = at else { return };
    let secret = match colon.filter(|colon| *colon < at) {
        Some(colon) => from + colon + 1..from + at,
        None if at >= TOKEN_MIN && authority[..at].iter().any(u8::is_ascii_digit) => from..from + at,
        None => return,
    };
    // What an earlier pass left must not make a password of what was none.
    if !is_placeholder(part(text, secret.clone())) && !part(text, from..end).contains("[REDACTED:") {
        found.add(start, secret.start, secret.end, CODE);
    }
}

fn authority_end(bytes: &[u8], from: usize) -> usize {
    let limit = bytes.len().min(from + AUTHORITY_MAX);
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"/?#\"'`<>\\,".contains(byte);
    let mut end = bytes[from..limit].iter().position(ends).map_or(limit, |at| from + at);
    // The limit may cut a character.
    while end > from && bytes.get(end).is_some_and(|byte| (0x80..0xC0).contains(byte)) {
        end -= 1;
    }
    end
}
