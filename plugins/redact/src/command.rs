//! Passwords on command lines that no name announces: `mysql -pSECRET`, `sshpass -p SECRET`, `curl -u user:SECRET`.

use crate::{
    scan::{Context, Edge, Found, Open, part},
    value::{Form, Strength, is_placeholder, is_secret},
};

/// Options that carry a password for some programs.
pub(crate) const ANCHORS: &[&str] = &[" -p", " -u ", " --user "];
/// Programs that take one so; of several in a line the first of these counts.
pub(crate) const PROGRAMS: &[&str] = &["sshpass", "mysql", "mariadb", "curl"];
/// How far before the option its program may stand, in bytes.
const LINE_MAX: usize = 200;
const VALUE_MAX: usize = 256;

/// Whether the program before the option is one of those.
pub(crate) fn plausible(raw: &[u8], start: usize) -> bool {
    program(raw, start).is_some()
}

/// Reports the password after the option at `start..end`.
pub(crate) fn find(text: &str, start: usize, end: usize, edge: Edge, found: &mut Found) {
    let bytes = text.as_bytes();
    let Some(program) = program(bytes, start) else { return };
    let is_p = part(text, start..end).eq_ignore_ascii_case(" -p");
    if is_p == (program == "curl") || (is_p && bytes.get(start + 2) != Some(&b'p')) {
        return;
    }
    let gap = if program == "sshpass" { bytes[end..].iter().take_while(|byte| **byte == b' ').count() } else { 0 };
    let mut from = end + gap;
    let quote = bytes.get(from).copied().filter(|byte| matches!(byte, b'"' | b'\''));
    from += usize::from(quote.is_some());
    let limit = bytes.len().min(from + VALUE_MAX);
    let ends = |byte: &u8| match quote {
        Some(quote) => *byte == quote || *byte == b'\n',
        None => byte.is_ascii_whitespace() || b"\"'`\\|;&<>".contains(byte),
    };
    let stop = bytes[from..limit].iter().position(ends).map_or(limit, |at| from + at);
    let secret = match (program, bytes[from..stop].iter().position(|byte| *byte == b':')) {
        ("curl", Some(colon)) => Some(from + colon + 1),
        ("curl", None) => None,
        _ => Some(from),
    };
    if stop == bytes.len() && edge == Edge::Open {
        let redact = secret.filter(|secret| *secret < stop);
        let quote = quote.map(char::from).map(String::from).unwrap_or_default();
        let context = match (program, secret) {
            ("curl", Some(_)) => format!("curl -u {quote}u:{}", if redact.is_some() { "00000000" } else { "" }),
            ("curl", None) => format!("curl -u {quote}{}", if stop > from { "u" } else { "" }),
            _ => format!("{program} -p{quote}{}", if redact.is_some() { "00000000" } else { "" }),
        };
        let start = line_start(bytes, start);
        found.open(Open { start, redact, code: "password", context: Context::Text(context), named: false });
        return;
    }
    let Some(secret) = secret.filter(|_| text.is_char_boundary(stop)) else { return };
    let value = part(text, secret..stop);
    // `-u 1000:1000` is another program's, `-pversion` no password of these.
    if !is_placeholder(value) && is_secret(value, Strength::Strong, Form::Bare) {
        found.add(line_start(bytes, start), secret, stop, "password");
    }
}

fn program(bytes: &[u8], option: usize) -> Option<&'static str> {
    let line = &bytes[line_start(bytes, option)..option];
    let has = |program: &str| line.windows(program.len()).any(|window| window == program.as_bytes());
    PROGRAMS.iter().copied().find(|program| has(program))
}

/// Where the command begins that the option belongs to.
pub(crate) fn line_start(bytes: &[u8], option: usize) -> usize {
    let from = option.saturating_sub(LINE_MAX);
    memchr::memrchr3(b'\n', b'|', b';', &bytes[from..option]).map_or(from, |at| from + at + 1)
}
