//! Values assigned to names: `password=…`, `"api_key": "…"`, `--token …`, `<secret>…`, and headers up to their line's end.

use crate::{
    left::left,
    names::{Holds, Name, Names, around},
    scan::{Context, Edge, Found, Open, part},
    value::{Form, Strength, is_placeholder, is_secret},
};

/// Longest value, in bytes; a longer one is cut there.
const VALUE_MAX: usize = 4096;
/// Most blanks around a separator.
const BLANKS_MAX: usize = 16;
const SCHEMES: &[&str] = &[
    "basic",
    "bearer",
    "token",
    "digest",
    "negotiate",
    "ntlm",
    "apikey",
    "api-key",
    "key",
    "hawk",
    "aws4-hmac-sha256",
];

/// What stands between a name and its value.
enum Separator {
    None,
    /// The text ends in it.
    Unfinished,
    Found {
        value: usize,
        bare: bool,
        line: bool,
        equals: bool,
    },
}

/// A value's bytes, and what ended them.
struct Span {
    /// Backslashes and the quote that it began with.
    opener: String,
    start: usize,
    end: usize,
    /// The text ended first.
    unfinished: bool,
}

/// Reports what is assigned to the name around the stem at `start..end`; the end of the name.
pub(crate) fn find(names: &Names, text: &str, start: usize, end: usize, edge: Edge, found: &mut Found) -> usize {
    let bytes = text.as_bytes();
    let (from, to) = around(bytes, start, end);
    let from = found.after(from).min(start);
    // A kind in a mark that an earlier pass left is no name.
    let marked = bytes[..start].ends_with(b"[REDACTED:") || bytes[..from].ends_with(b"[REDACTED:");
    if !marked && let Some(name) = names.classify(&bytes[from..to]) {
        assigned(names, text, from, to, name, edge, found);
    }
    to
}

fn assigned(names: &Names, text: &str, from: usize, to: usize, name: Name, edge: Edge, found: &mut Found) {
    let bytes = text.as_bytes();
    // A bracket is part of what makes a tag's name one.
    let begin = from - usize::from(is_tag(bytes, from));
    match separator(bytes, from, to) {
        Separator::None => {}
        // A name alone is public, and what it leaves tells the next text of it.
        Separator::Unfinished if to == bytes.len() => {}
        Separator::Unfinished if edge == Edge::Open => {
            let gap = part(text, to..).trim_start_matches(['"', '\'', '`', '\\', ']', ' ', '\t']);
            // A blank after an option stands where its separator would.
            let blank = if gap.is_empty() && part(text, to..).ends_with([' ', '\t']) { " " } else { "" };
            let context = Context::Text(format!("{}{blank}{gap}", left(names, &bytes[..to], found.after(0))));
            found.open(Open { start: begin, redact: None, code: name.code, context, named: true });
        }
        Separator::Unfinished => {}
        Separator::Found { value, bare, line, equals } => match name.holds {
            Holds::Value(strength) => {
                let form = if bare { Form::Bare } else { Form::Spaced { ends_line: false } };
                plain(text, begin, value, name, (strength, form, line, equals), edge, found);
            }
            Holds::Authorization | Holds::Cookie => header(text, from, value, name, edge, found),
        },
    }
}

fn plain(
    text: &str,
    from: usize,
    value: usize,
    name: Name,
    (strength, form, line, equals): (Strength, Form, bool, bool),
    edge: Edge,
    found: &mut Found,
) {
    let bytes = text.as_bytes();
    let span = span(text, value, line && equals);
    let content = part(text, span.start..span.end);
    let quoted = !span.opener.is_empty();
    if span.unfinished && edge == Edge::Open {
        // What it is already for certain, whatever follows.
        if content.len() > 1 && content.starts_with(['$', '<', '%', '[']) && is_placeholder(content) {
            return;
        }
        // Few letters may be a word, but as well the beginning of a secret.
        let redact = (!content.is_empty()).then_some(span.start);
        let filler = if content.is_empty() { "" } else { "00000000a0000000b000" };
        let dashes = if !equals && bytes[from] == b'-' && bytes.get(value - 1) == Some(&b' ') { "--" } else { "" };
        let separator = if dashes.is_empty() { "=" } else { " " };
        // At the beginning of a line a bare value goes on to a blank.
        let (before, word) = if line && equals { ("", name.word.to_uppercase()) } else { ("?", name.word.to_owned()) };
        // The backslashes of a quote that is still to come tell how it will end.
        let slashes =
            if content.is_empty() && !quoted { part(text, value..).trim_end_matches(|c| c != '\\') } else { "" };
        let context = format!("{before}{dashes}{word}{separator}{}{slashes}{filler}", span.opener);
        found.open(Open { start: from, redact, code: name.code, context: Context::Text(context), named: true });
        return;
    }
    let after = bytes.get(span.end);
    let ends_line = matches!(after, None | Some(b'\n' | b'\r'))
        || (after == Some(&b'\\') && matches!(bytes.get(span.end + 1), Some(b'n' | b'r')));
    let form = match form {
        _ if quoted => Form::Quoted,
        Form::Spaced { .. } => Form::Spaced { ends_line },
        other => other,
    };
    // A call, a list, a reference to what is read elsewhere.
    let called = !quoted && (matches!(after, Some(b'(' | b'[')) || content.starts_with(['(', '[', '{']));
    if (called && !(line && equals)) || is_path(name, content) {
        return;
    }
    if is_secret(content, strength, form) {
        found.add(from, span.start, span.end, name.code);
    }
}

/// `PWD` is a directory more often than a password; `secret:/path` names a file.
fn is_path(name: Name, value: &str) -> bool {
    value.starts_with('/') && !value.contains(['=', '+'])
        || (name.word == "pwd" && value.starts_with(['~', '.']))
        || (name.word == "pwd" && value.get(1..3) == Some(":\\"))
}

fn header(text: &str, from: usize, value: usize, name: Name, edge: Edge, found: &mut Found) {
    let bytes = text.as_bytes();
    let (opener, start) = opener(text, value);
    let limit = bytes.len().min(start + VALUE_MAX);
    let ends = |byte: &u8| matches!(byte, b'\n' | b'\r' | b'"' | b'\'' | b'`' | b'\\' | b'<');
    let end = char_floor(text, bytes[start..limit].iter().position(ends).map_or(limit, |at| start + at));
    let content = part(text, start..end);
    let secret = match name.holds {
        Holds::Cookie => start..end,
        _ => start + credentials_at(content)..end,
    };
    if end == bytes.len() && edge == Edge::Open {
        if content.len() > 1 && is_placeholder(part(text, secret.clone()).trim()) && !secret.is_empty() {
            return;
        }
        let redact = (!content.is_empty()).then_some(secret.start.min(end));
        let filler = match (name.holds, content.is_empty()) {
            (_, true) => "",
            (Holds::Cookie, _) => "a=00000000",
            _ => "Bearer 00000000=",
        };
        let context = Context::Text(format!("{}: {opener}{filler}", name.word));
        found.open(Open { start: from, redact, code: name.code, context, named: true });
        return;
    }
    if is_header_secret(name, part(text, start..end)) {
        let trimmed = secret.start + part(text, secret.clone()).trim_end().len();
        found.add(from, secret.start, trimmed, name.code);
    }
}

/// Where the credentials begin in an `Authorization` value: after its scheme.
pub(crate) fn credentials_at(value: &str) -> usize {
    let Some(blank) = value.find(' ') else { return 0 };
    let scheme = value.get(..blank).unwrap_or_default();
    if !SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        return 0;
    }
    value.len() - value.get(blank..).unwrap_or_default().trim_start().len()
}

/// Whether a header's value has credentials in it, not prose.
pub(crate) fn is_header_secret(name: Name, value: &str) -> bool {
    let value = value.trim();
    if name.holds == Holds::Cookie {
        return value.contains('=') && value.len() >= 8 && !is_placeholder(value) && !value.contains("[REDACTED:");
    }
    let at = credentials_at(value);
    let credentials = value.get(at..).unwrap_or_default();
    if credentials.is_empty() || is_placeholder(credentials) {
        return false;
    }
    if at == 0 {
        return is_secret(credentials, Strength::Weak, Form::Bare);
    }
    let solid = !credentials.contains(' ') || credentials.contains('=');
    solid && credentials.len() >= 4 && is_secret(credentials, Strength::Strong, Form::Quoted)
}

fn separator(bytes: &[u8], from: usize, to: usize) -> Separator {
    let closers = bytes[to..].iter().take(8).take_while(|byte| b"\"'`\\]".contains(byte)).count();
    let mut at = to + closers;
    let blanks =
        |at: usize| bytes[at..].iter().take(BLANKS_MAX).take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let before = blanks(at);
    at += before;
    let Some(byte) = bytes.get(at) else { return Separator::Unfinished };
    let next = bytes.get(at + 1);
    let equals = match byte {
        b'=' => match next {
            Some(b'=' | b'~') => return Separator::None,
            Some(b'>') => {
                at += 1;
                true
            }
            _ => true,
        },
        b':' => match next {
            Some(b':') => return Separator::None,
            Some(b'/') if bytes.get(at + 2) == Some(&b'/') => return Separator::None,
            Some(b'=') => {
                at += 1;
                true
            }
            _ => false,
        },
        b'>' if is_tag(bytes, from) => true,
        // `--password VALUE`.
        _ if before > 0 && closers == 0 && bytes[from] == b'-' && !byte.is_ascii_control() => {
            return Separator::Found { value: at, bare: true, line: false, equals: false };
        }
        // SQL's `PASSWORD 'value'`.
        b'\'' if before > 0 && closers == 0 => {
            return Separator::Found { value: at, bare: false, line: false, equals: false };
        }
        _ => return Separator::None,
    };
    at += 1;
    let after = blanks(at);
    at += after;
    let Some(byte) = bytes.get(at) else { return Separator::Unfinished };
    if matches!(byte, b'\n' | b'\r') {
        return Separator::None;
    }
    let begins_line = bytes[..from].is_empty()
        || bytes[..from].ends_with(b"\n")
        || bytes[..from].ends_with(b"export ")
        || bytes[..from].ends_with(b"\\n");
    let bare = before + after == 0;
    // Of a shell or a `.env` file, where a bare value ends at a blank; queries have small letters.
    let variable = !bytes[from..to].iter().any(u8::is_ascii_lowercase);
    Separator::Found { value: at, bare, line: begins_line && bare && variable, equals }
}

fn is_tag(bytes: &[u8], from: usize) -> bool {
    from > 0 && bytes[from - 1] == b'<'
}

/// The quote that a value begins with, with the backslashes before it, and where the value itself begins.
fn opener(text: &str, value: usize) -> (String, usize) {
    let bytes = text.as_bytes();
    // Python's and Rust's `b"…"`, `f"…"`, `r"…"`.
    let prefixed = matches!(bytes.get(value), Some(b'b' | b'f' | b'r' | b'u'))
        && matches!(bytes.get(value + 1), Some(b'"' | b'\''));
    let at = value + usize::from(prefixed);
    let slashes = bytes[at..].iter().take(7).take_while(|byte| **byte == b'\\').count();
    match bytes.get(at + slashes) {
        Some(quote @ (b'"' | b'\'' | b'`')) => {
            let opener = format!("{}{}", "\\".repeat(slashes), char::from(*quote));
            (opener, at + slashes + 1)
        }
        _ => (String::new(), value),
    }
}

fn span(text: &str, value: usize, line: bool) -> Span {
    let bytes = text.as_bytes();
    let (opener, start) = opener(text, value);
    let limit = bytes.len().min(start + VALUE_MAX);
    let end = match opener.as_bytes().last() {
        Some(quote) => {
            let slashes = opener.len() - 1;
            let close = (start..limit).find(|at| {
                let byte = bytes[*at];
                if byte == b'\n' {
                    return true;
                }
                if byte != *quote {
                    return false;
                }
                let before = bytes[start..*at].iter().rev().take_while(|byte| **byte == b'\\').count();
                // More backslashes than the opener's: a quote inside the value.
                if slashes == 0 { before % 2 == 0 } else { before <= slashes }
            });
            match close {
                Some(at) if bytes[at] == *quote => {
                    let before = bytes[start..at].iter().rev().take_while(|byte| **byte == b'\\').count();
                    Some(at - before.min(slashes))
                }
                other => other,
            }
        }
        None => (start..limit).find(|at| match bytes[*at] {
            byte if byte.is_ascii_whitespace() => true,
            b'"' | b'\'' | b'`' | b'<' | b'>' => true,
            b'\\' => matches!(bytes.get(at + 1), None | Some(b'n' | b'r' | b't' | b'"' | b'\'' | b'\\')),
            b',' | b';' | b'&' | b')' | b']' | b'}' | b'|' => !line,
            b'(' | b'[' => !line && *at > start,
            _ => false,
        }),
    };
    // A backslash at the very end may be the first byte of what ends the value.
    let unfinished = match end {
        None => limit == bytes.len(),
        Some(at) => opener.is_empty() && bytes[at] == b'\\' && at + 1 == bytes.len(),
    };
    Span { opener, start, end: char_floor(text, end.unwrap_or(limit)), unfinished }
}

fn char_floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}
