//! Private keys in blocks: PEM, OpenSSH and PGP, over lines or with the line ends written as `\n`, with line numbers or
//! quotes around the lines.

use crate::scan::{Context, Edge, Found, Open, part};

/// Kind and counter name.
pub(crate) const CODE: &str = "private_key";
/// What a block begins with.
pub(crate) const BEGIN: &str = "-----BEGIN";
const END: &[u8] = b"-----END";
/// Longest name between the dashes, in bytes.
const NAME_MAX: usize = 48;
/// Longest body, in bytes: beyond any key's.
const BODY_MAX: usize = 48 * 1024;
/// Fewer key characters than this, in a block with an end, are an example.
const BODY_MIN: usize = 16;
/// A line with so many words is no line of a key.
const WORDS_MAX: usize = 4;

enum Body {
    /// It ends there, after so many key characters.
    Ends { at: usize, keyed: usize },
    /// It goes on beyond the text.
    Open { keyed: usize },
}

/// Reports the private key whose first dashes stand at `start`.
pub(crate) fn find(text: &str, start: usize, edge: Edge, found: &mut Found) {
    let bytes = text.as_bytes();
    if !bytes[start..].starts_with(BEGIN.as_bytes()) {
        return;
    }
    let name_start = start + BEGIN.len();
    let limit = bytes.len().min(name_start + NAME_MAX);
    let named = |byte: &&u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || **byte == b' ';
    let name_end = name_start + bytes[name_start..limit].iter().take_while(named).count();
    let name = part(text, name_start..name_end);
    let dashes = bytes[name_end..].iter().take(5).take_while(|byte| **byte == b'-').count();
    if name_end + dashes == bytes.len() && dashes < 5 && edge == Edge::Open {
        found.open(Open { start, redact: None, code: CODE, context: header_context(name, dashes), named: false });
        return;
    }
    if dashes < 5 || !name.contains("PRIVATE KEY") {
        return;
    }
    match body(bytes, name_end + 5, edge) {
        Body::Ends { at, keyed } if keyed >= BODY_MIN => found.add(start, start, at, CODE),
        Body::Ends { .. } => {}
        Body::Open { .. } if edge == Edge::Open => {
            let end = begun_end(bytes);
            let context = Context::Text(format!("-----BEGIN PRIVATE KEY-----\n{}\n{end}", "0".repeat(64)));
            found.open(Open { start, redact: Some(start), code: CODE, context, named: false });
        }
        Body::Open { keyed } if keyed >= BODY_MIN => found.add(start, start, bytes.len(), CODE),
        Body::Open { .. } => {}
    }
}

/// The unfinished `-----BEGIN` at `start`, if that is what stands there up to the end.
pub(crate) fn partial(bytes: &[u8], start: usize) -> Option<String> {
    let tail = &bytes[start..];
    let begun = tail.len() < BEGIN.len() && BEGIN.as_bytes().starts_with(tail);
    begun.then(|| BEGIN.get(..tail.len()).map(str::to_owned))?
}

/// What the text ends with of the line that ends a block, its name left out.
fn begun_end(bytes: &[u8]) -> String {
    let from = bytes.len().saturating_sub(END.len() + NAME_MAX);
    let tail = &bytes[from..];
    let begun = (0..tail.len()).find(|at| {
        let rest = &tail[*at..];
        rest.starts_with(END) || END.starts_with(rest)
    });
    let Some(line) = begun.map(|at| &tail[at..]) else { return String::new() };
    if line.len() < END.len() {
        return String::from_utf8_lossy(&END[..line.len()]).into_owned();
    }
    let dashes = line[END.len()..].iter().rev().take(4).take_while(|byte| **byte == b'-').count();
    format!("-----END{}", "-".repeat(dashes))
}

fn header_context(name: &str, dashes: usize) -> Context {
    const LAST: &str = "PRIVATE KEY";
    let part = if name.contains(LAST) {
        LAST
    } else {
        (0..LAST.len())
            .rev()
            .filter_map(|length| LAST.get(..length))
            .find(|part| name.ends_with(part))
            .unwrap_or_default()
    };
    let dashes = if part == LAST { dashes } else { 0 };
    Context::Text(format!("{BEGIN} {part}{}", "-".repeat(dashes)))
}

fn body(bytes: &[u8], from: usize, edge: Edge) -> Body {
    let limit = bytes.len().min(from + BODY_MAX);
    let (mut at, mut line, mut keyed, mut line_keyed, mut words) = (from, from, 0, 0, 0);
    // A header of the block (`Comment: any words`) may have as many words as it likes.
    let mut header = false;
    while at < limit {
        let byte = bytes[at];
        match byte {
            b'\n' | b'\r' => (line, words, line_keyed, header) = (at, 0, 0, false),
            b'\\' if matches!(bytes.get(at + 1), Some(b'n' | b'r')) => {
                at += 1;
                (line, words, line_keyed, header) = (at, 0, 0, false);
            }
            b'-' if bytes[at..].starts_with(END) => {
                let rest = &bytes[at + END.len()..limit.min(at + END.len() + NAME_MAX)];
                return match rest.windows(5).position(|window| window == b"-----") {
                    Some(dashes) => Body::Ends { at: at + END.len() + dashes + 5, keyed },
                    None if at + END.len() + rest.len() == bytes.len() && edge == Edge::Open => Body::Open { keyed },
                    None => Body::Ends { at: at + END.len(), keyed },
                };
            }
            b' ' if !header && at > from && !bytes[at - 1].is_ascii_whitespace() => {
                words += 1;
                if words >= WORDS_MAX {
                    return Body::Ends { at: line, keyed: keyed - line_keyed };
                }
            }
            b':' => header = true,
            // The end of a string that holds the block, in text that looks like JSON.
            b'"' if matches!(bytes.get(at + 1), Some(b':' | b'}' | b']')) => return Body::Ends { at, keyed },
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' | b'=' => {
                keyed += 1;
                line_keyed += 1;
            }
            b' '
            | b'\t'
            | b'"'
            | b'\''
            | b','
            | b'.'
            | b'-'
            | b'('
            | b')'
            | b';'
            | b'_'
            | b'@'
            | b'#'
            | b'|'
            | b'*'
            | b'\\'
            | b'>'
            | 0x80.. => {}
            _ => return Body::Ends { at, keyed },
        }
        at += 1;
    }
    if at < bytes.len() { Body::Ends { at: line, keyed } } else { Body::Open { keyed } }
}
