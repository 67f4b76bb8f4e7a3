//! Foreign text on a Markdown page: whatever it holds, what follows it on the page reads as it should.

use std::fmt::Write as _;

/// Text in a fence longer than any run of backticks in it. Ends with a newline.
pub fn fenced(language: &str, text: &str, out: &mut String) {
    let fence = "`".repeat((longest_run(text) + 1).max(3));
    out.push_str(&fence);
    out.push_str(language);
    out.push('\n');
    out.push_str(text);
    if !text.ends_with('\n') && !text.is_empty() {
        out.push('\n');
    }
    out.push_str(&fence);
    out.push('\n');
}

/// Text as a code span on one line, cut at `max` characters.
pub fn code(text: &str, max: usize, out: &mut String) {
    let mut line: String = text.chars().take(max).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(max).is_some() {
        line.push('…');
    }
    if line.trim().is_empty() {
        line = "(empty)".to_owned();
    }
    let ticks = "`".repeat(longest_run(&line) + 1);
    // A span that begins or ends with a backtick needs a space there.
    let pad = if line.starts_with('`') || line.ends_with('`') { " " } else { "" };
    out.push_str(&ticks);
    out.push_str(pad);
    out.push_str(&line);
    out.push_str(pad);
    out.push_str(&ticks);
}

/// Text as a block quote with markup taken from it. Ends with a newline.
pub fn quoted(text: &str, out: &mut String) {
    for line in lines(text) {
        out.push_str(if line.is_empty() { ">" } else { "> " });
        escape_html(line, out);
        out.push('\n');
    }
}

/// Text that is Markdown itself, made safe to follow: HTML is escaped at line starts, where it could open a block, headings
/// sink below the page's own, and a fence left open is closed. Ends with a newline.
pub fn embedded(text: &str, out: &mut String) {
    let mut open: Option<(char, usize)> = None;
    for line in lines(text) {
        let body = line.trim_start_matches(' ');
        let indented = line.len() - body.len() > 3;
        let fence = fence_of(body).filter(|_| !indented);
        match (open, fence) {
            (Some((mark, length)), Some((found, count, bare))) if mark == found && count >= length && bare => {
                open = None
            }
            (None, Some((mark, count, bare))) if mark == '~' || bare || !info_has_backtick(body) => {
                open = Some((mark, count));
            }
            (None, _) if !indented && body.starts_with('<') => {
                out.push('\\');
                out.push_str(body);
                out.push('\n');
                continue;
            }
            (None, _) if !indented && is_heading(body) => out.push_str("###"),
            // "===" or "---" under a line would make a heading of it.
            (None, _) if !indented && is_underline(body) => out.push('\\'),
            _ => {}
        }
        // A heading's or an underline's indent would come between it and what was put before it.
        let cut = open.is_none() && !indented && (is_heading(body) || is_underline(body));
        out.push_str(if cut { body } else { line });
        out.push('\n');
    }
    if let Some((mark, length)) = open {
        for _ in 0..length {
            out.push(mark);
        }
        out.push('\n');
    }
}

/// The first `max` lines, and how many were cut.
pub fn head(text: &str, max: usize) -> (&str, usize) {
    let text = text.trim_end_matches(['\n', '\r']);
    let mut ends = text.match_indices('\n').map(|(at, _)| at);
    match ends.nth(max.saturating_sub(1)) {
        Some(end) => (text.get(..end).unwrap_or(text), 1 + ends.count()),
        None => (text, 0),
    }
}

/// Date and time of milliseconds since 1970, in UTC.
pub fn clock(ms: f64) -> String {
    #[allow(clippy::cast_possible_truncation, reason = "saturates; a time out of range is shown as the nearest")]
    let seconds = (ms / 1000.0).clamp(-6.2e10, 2.5e11) as i64;
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years: a year then ends with February.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _infallible =
        write!(text, "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    text
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.trim_end_matches(['\n', '\r']).split('\n').map(|line| line.trim_end_matches('\r'))
}

fn escape_html(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            _ => out.push(c),
        }
    }
}

fn longest_run(text: &str) -> usize {
    let (mut longest, mut run) = (0, 0);
    for byte in text.bytes() {
        run = if byte == b'`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// A fence's mark, its length, and whether nothing follows it.
fn fence_of(body: &str) -> Option<(char, usize, bool)> {
    let mark = body.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let rest = body.trim_start_matches(mark);
    let count = body.len() - rest.len();
    (count >= 3).then(|| (mark, count, rest.trim().is_empty()))
}

fn info_has_backtick(body: &str) -> bool {
    body.trim_start_matches('`').contains('`')
}

fn is_heading(body: &str) -> bool {
    let rest = body.trim_start_matches('#');
    (1..=6).contains(&(body.len() - rest.len())) && (rest.is_empty() || rest.starts_with([' ', '\t']))
}

fn is_underline(body: &str) -> bool {
    let body = body.trim_end();
    !body.is_empty() && (body.bytes().all(|b| b == b'=') || body.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(run: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        run(&mut out);
        out
    }

    #[test]
    fn fences_outgrow_their_content() {
        assert_eq!(with(|out| fenced("sh", "a", out)), "```sh\na\n```\n");
        assert_eq!(with(|out| fenced("", "x\n````\ny\n", out)), "`````\nx\n````\ny\n`````\n");
        assert_eq!(with(|out| fenced("", "", out)), "```\n```\n");
    }

    #[test]
    fn spans_hold_backticks_and_stay_on_a_line() {
        assert_eq!(with(|out| code("a`b\nc", 9, out)), "``a`b c``");
        assert_eq!(with(|out| code("`", 9, out)), "`` ` ``");
        assert_eq!(with(|out| code("abcdef", 3, out)), "`abc…`");
        assert_eq!(with(|out| code(" ", 3, out)), "`(empty)`");
    }

    #[test]
    fn embedded_text_closes_what_it_opens() {
        let cases = [
            ("```rs\nfn", "```rs\nfn\n```\n"),
            ("~~~~\n```\n~~~", "~~~~\n```\n~~~\n~~~~\n"),
            ("```\na\n```\nb", "```\na\n```\nb\n"),
            ("# Title\n  ## Two", "#### Title\n##### Two\n"),
            ("<!-- open", "\\<!-- open\n"),
            ("text\n---\nmore", "text\n\\---\nmore\n"),
            ("```a`b\nx", "```a`b\nx\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(with(|out| embedded(text, out)), expected, "{text}");
        }
    }

    #[test]
    fn heads_count_what_they_cut() {
        assert_eq!(head("a\nb\nc\n", 2), ("a\nb", 1));
        assert_eq!(head("a\nb\n\n", 2), ("a\nb", 0));
        assert_eq!(head("", 2), ("", 0));
    }

    #[test]
    fn clocks_know_leap_years() {
        assert_eq!(clock(0.0), "1970-01-01 00:00:00");
        assert_eq!(clock(951_782_400_000.0), "2000-02-29 00:00:00");
        assert_eq!(clock(1_770_714_001_999.0), "2026-02-10 09:00:01");
        assert_eq!(clock(-1.0), "1970-01-01 00:00:00");
        assert!(!clock(f64::NAN).is_empty() && !clock(f64::INFINITY).is_empty());
    }
}
