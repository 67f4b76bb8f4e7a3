//! What may reach a terminal: text that agents and webhooks wrote must not move the cursor, set titles or fake prompts.

/// Stands for a character that is not shown.
const HIDDEN: char = '\u{FFFD}';

/// The text without control sequences. Colour and cursor sequences (CSI) and operating system commands (OSC, DCS, ...) go as
/// a whole, other control characters but newline and tab become U+FFFD, as do those that turn the reading direction. A
/// carriage return is a newline.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        match char {
            '\n' | '\t' => out.push(char),
            '\r' => {
                if rest.peek() != Some(&'\n') {
                    out.push('\n');
                }
            }
            '\u{1b}' => match rest.peek() {
                Some('[') => {
                    rest.next();
                    skip_csi(&mut rest);
                }
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    rest.next();
                    skip_string(&mut rest);
                }
                _ => out.push(HIDDEN),
            },
            '\u{9b}' => skip_csi(&mut rest),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut rest),
            char if char.is_control() || turns(char) => out.push(HIDDEN),
            char => out.push(char),
        }
    }
    out
}

/// The text on one line, at most so many characters.
pub(crate) fn one_line(text: &str, width: usize) -> String {
    let line = plain(text).replace(['\n', '\t'], " ");
    match line.char_indices().nth(width) {
        None => line,
        Some(_) => line.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// The same JSON with control and direction characters, which can only stand in strings, as escapes.
pub(crate) fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char != '\n' && (char.is_control() || turns(char)) {
            true => safe.push_str(&format!("\\u{:04x}", u32::from(char))),
            false => safe.push(char),
        }
    }
    safe
}

/// Whether a character turns the reading direction.
fn turns(char: char) -> bool {
    matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Parameters and intermediates, then the final character. Anything else is left to be looked at.
fn skip_csi(rest: &mut Rest<'_>) {
    while rest.next_if(|char| matches!(char, ' '..='?')).is_some() {}
    rest.next_if(|char| matches!(char, '@'..='~'));
}

/// Up to BEL or ST, but never beyond the line: what never ends hides no more than that.
fn skip_string(rest: &mut Rest<'_>) {
    while let Some(&char) = rest.peek() {
        match char {
            '\n' => return,
            '\u{7}' | '\u{9c}' => {
                rest.next();
                return;
            }
            '\u{1b}' => {
                rest.next();
                rest.next_if_eq(&'\\');
                return;
            }
            _ => {
                rest.next();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_terminal() {
        for (text, shown) in [
            ("plain é 😀\n\tx", "plain é 😀\n\tx"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("\u{1b}]8;;http://evil\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}]never ends\nnext", "\nnext"),
            ("\u{9b}2Jx\u{9d}0;t\u{9c}y", "xy"),
            ("\u{1b}cx\u{7}\u{8}", "\u{FFFD}cx\u{FFFD}\u{FFFD}"),
            ("\u{1b}[", ""),
            ("\u{1b}[3\u{1b}[4mx", "x"),
            ("10%\r20%\r\n", "10%\n20%\n"),
            ("a\u{202e}b", "a\u{FFFD}b"),
        ] {
            assert_eq!(plain(text), shown, "{text:?}");
        }
    }

    #[test]
    fn random_text_leaves_no_control_character() {
        let seed = fastrand::u64(..);
        eprintln!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..2000 {
            let pick =
                ['\u{1b}', '[', ']', ';', '\\', '\u{7}', '\u{9b}', '\u{9d}', '\u{9c}', 'm', '1', '\r', '\n', '\u{90}'];
            let text: String = (0..random.usize(0..20)).map(|_| pick[random.usize(0..pick.len())]).collect();
            let shown = plain(&text);
            assert!(!shown.chars().any(|char| char.is_control() && char != '\n'), "{text:?} {shown:?}");
        }
    }

    #[test]
    fn json_stays_json_and_moves_nothing() {
        let text = serde_json::to_string_pretty(&serde_json::json!({"a": "\u{9b}2J\u{202e}é\u{1b}"})).unwrap();
        let safe = json(&text);
        assert!(
            !safe.chars().any(|char| char.is_control() && char != '\n') && safe.contains("\\u009b2J\\u202eé\\u001b")
        );
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap()["a"], "\u{9b}2J\u{202e}é\u{1b}");
    }

    #[test]
    fn long_lines_are_cut() {
        assert_eq!(one_line("abc\ndef", 7), "abc def");
        assert_eq!(one_line("abcdefgh", 7), "abcdef…");
    }
}
