//! What a text leaves to the one after it where nothing of it is held back: the rules look at what stands before a word, at
//! the beginning of a name, at the program of a command line. All of that is public, so the text goes out, and its end is
//! kept in our own spelling: of its letters only those that are the beginning of a word which the rules know.
//!
//! In that spelling `!` is any character, `j` any letter, `0` any digit; the rules find after it what they would find after
//! the text itself.

use std::ops::Range;

use crate::{
    command::{self, PROGRAMS},
    names::{Names, SIDE_MAX, is_name_byte},
};

/// How much of a text's end counts, in bytes: a command line's program may stand so far back, and some.
pub(crate) const REACH: usize = 288;
/// Digits that count of those at the end: a bot's number has at most as many.
const DIGITS_MAX: usize = 12;
/// A terminal's colour, and more.
const COLOUR_MAX: usize = 14;
/// Stands for letters that begin no word.
const LETTER: char = 'j';

/// The end of `text` in our spelling, empty at the beginning of a line. What stands before `floor` is a secret's.
pub(crate) fn left(names: &Names, text: &[u8], floor: usize) -> String {
    let floor = floor.min(text.len()).max(text.len().saturating_sub(REACH));
    let run = name_at_end(text, floor);
    let tail = escape_at_end(text, floor).filter(|escape| escape.start < run.start).unwrap_or_else(|| run.clone());
    let mut out = String::new();
    let line = command::line_start(text, text.len()).max(floor);
    if let Some(end) = programs_end(text, line) {
        blank_but_programs(&text[line..end], &mut out);
        (end..tail.start).for_each(|_| out.push('!'));
        // The word that a program's name is part of begins anew.
        out.push_str(if tail.start < end { "!" } else { "" });
    }
    before(text, tail.start, floor, &mut out);
    if tail.start < run.start {
        spell_escape(&text[tail], &mut out);
    } else {
        spell_name(names, text, run, &mut out);
    }
    out
}

/// Whether what a text left, in our spelling, cannot be the first part of anything that goes on with `first`: then the next
/// text finds by itself all that there is.
pub(crate) fn is_trivial(left: &str, first: u8) -> bool {
    let rest = left.trim_start_matches(['!', ',', '&', '?', '<', ' ']).trim_start_matches([LETTER, 'J', '0', '_']);
    match rest {
        "" => !left.ends_with(' ') || !matches!(first, b'-' | b'\\'),
        ":" | ":/" => !matches!(first, b'/' | b'\\'),
        _ => false,
    }
}

/// The name that may go on: letters, digits and separators up to the end. The one name with a blank in it is `api key`.
fn name_at_end(text: &[u8], floor: usize) -> Range<usize> {
    let run_to = |end: usize| {
        let from = end.saturating_sub(SIDE_MAX).max(floor);
        end - text[from..end].iter().rev().take_while(|byte| is_name_byte(**byte)).count()
    };
    let start = run_to(text.len());
    let word = &text[start..];
    if start > floor && text[start - 1] == b' ' && word.len() <= 3 && b"key"[..word.len()].eq_ignore_ascii_case(word) {
        let name = &text[floor..start - 1];
        if name.len() >= 3 && name[name.len() - 3..].eq_ignore_ascii_case(b"api") {
            return run_to(start - 1)..text.len();
        }
    }
    start..text.len()
}

/// The escape that the text ends in, whole or not: after it a word begins.
fn escape_at_end(text: &[u8], floor: usize) -> Option<Range<usize>> {
    let back = |sign: u8, most: usize| {
        let from = text.len().saturating_sub(most).max(floor);
        text[from..].iter().rposition(|byte| *byte == sign).map(|at| from + at)
    };
    let backslash = back(b'\\', 6).filter(|at| match &text[at + 1..] {
        [] | [b'n' | b't' | b'r' | b'b' | b'f'] => true,
        [b'u', zeros @ ..] => zeros.iter().take(2).all(|byte| *byte == b'0'),
        _ => false,
    });
    let percent = back(b'%', 3).filter(|at| text[at + 1..].iter().all(u8::is_ascii_hexdigit));
    let colour = back(b'[', COLOUR_MAX).filter(|at| {
        let inside = text[at + 1..].strip_suffix(b"m").unwrap_or(&text[at + 1..]);
        inside.iter().all(|byte| byte.is_ascii_digit() || *byte == b';')
    });
    let start = backslash.or(percent).or(colour)?;
    Some(start..text.len())
}

/// Where the last program of a command line ends.
fn programs_end(text: &[u8], line: usize) -> Option<usize> {
    let named = |at: usize| PROGRAMS.iter().find(|program| text[at..].starts_with(program.as_bytes()));
    // As numbers: letters would become a table of jumps, of which each costs more than all comparisons.
    let begins =
        |pair: [u8; 2]| [*b"ss", *b"my", *b"ma", *b"cu"].map(u16::from_le_bytes).contains(&u16::from_le_bytes(pair));
    let mut starts = text[line..].array_windows().enumerate().rev().filter(|(_, pair)| begins(**pair));
    starts.find_map(|(at, _)| named(line + at).map(|program| line + at + program.len()))
}

fn blank_but_programs(line: &[u8], out: &mut String) {
    let mut at = 0;
    while at < line.len() {
        match PROGRAMS.iter().find(|program| line[at..].starts_with(program.as_bytes())) {
            Some(program) => {
                out.push_str(program);
                at += program.len();
            }
            None => {
                out.push('!');
                at += 1;
            }
        }
    }
}

/// What stands before the end's word, as the rules tell it apart.
fn before(text: &[u8], at: usize, floor: usize, out: &mut String) {
    if at == floor {
        // The text's own beginning, a secret's end, or further back than counts.
        out.push_str(if floor == 0 { "" } else { "," });
        return;
    }
    let text = &text[floor..at];
    if text.ends_with(b"export ") {
        out.push_str("export ");
        return;
    }
    match text {
        [.., b'\n'] => {}
        [.., b':', b'/'] => out.push_str(":/"),
        [.., byte @ (b' ' | b':' | b'?' | b'<')] => out.push(char::from(*byte)),
        [.., b'&' | b';'] => out.push('&'),
        _ if crate::scan::strict_boundary(text, text.len()) => out.push(','),
        _ => out.push('!'),
    }
}

/// `\n`, `\u001b`, `%41`, `[32m`, whole or not.
fn spell_escape(escape: &[u8], out: &mut String) {
    let colour = escape.first() == Some(&b'[');
    let spell = |byte: &u8| if colour && byte.is_ascii_digit() { '0' } else { char::from(*byte) };
    out.extend(escape.iter().map(spell));
}

fn spell_name(names: &Names, text: &[u8], run: Range<usize>, out: &mut String) {
    let name = &text[run];
    // An option's dashes are part of what makes it one.
    let dashes = name.iter().take(2).take_while(|byte| **byte == b'-').count();
    out.extend(std::iter::repeat_n('-', dashes));
    let name = &name[dashes..];
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (word, number) = name.split_at(name.len() - digits);
    // A number after a name does not matter, unless a configured name has one.
    let whole = names.begun(name);
    let begun = names.begun(word).filter(|from| whole.is_none_or(|whole| whole >= *from));
    let from = whole.unwrap_or(name.len()).min(begun.unwrap_or(word.len()));
    let pre = &name[..from];
    if pre.iter().any(u8::is_ascii_lowercase) {
        out.push(LETTER);
    }
    match pre.last() {
        Some(last) if last.is_ascii_uppercase() => out.push('J'),
        Some(last) if !last.is_ascii_lowercase() => {
            let capital = pre.iter().any(u8::is_ascii_uppercase) && !pre.iter().any(u8::is_ascii_lowercase);
            out.push_str(if capital { "J" } else { "" });
            out.push(if last.is_ascii_digit() { '0' } else { '_' });
        }
        _ => {}
    }
    let spelled = if whole.is_some() { name } else { word };
    out.extend(spelled[from..].iter().map(|byte| char::from(*byte)));
    if whole.is_none() {
        out.extend(std::iter::repeat_n('0', number.len().min(DIGITS_MAX)));
    }
}
