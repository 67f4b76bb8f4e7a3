//! Text for an author's terminal: colours only where they are seen and wanted, and never a guest's or a producer's control
//! characters.

use std::{
    env,
    io::{self, IsTerminal as _, Write},
};

use crate::terminal;

/// Colours of a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Plain,
    /// Headings.
    Bold,
    /// Side notes.
    Dim,
    /// Gone, wrong.
    Red,
    /// New, right.
    Green,
    /// Worth a look.
    Yellow,
}

/// Writes lines.
pub(super) struct Painter<'a> {
    out: &'a mut dyn Write,
    colours: bool,
}

// === impl Painter ===

impl<'a> Painter<'a> {
    /// Colours if standard output is a terminal and `NO_COLOR` is not set.
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { out, colours: io::stdout().is_terminal() && !refused && !dumb }
    }

    /// Writes a line of painted pieces, each without what moves a terminal. A newline in a piece goes on below, indented as
    /// the line began.
    pub(super) fn line(&mut self, indent: usize, pieces: &[(Ink, &str)]) -> io::Result<()> {
        let margin = " ".repeat(indent);
        write!(self.out, "{margin}")?;
        for (ink, text) in pieces {
            let text = terminal::plain(text);
            let mut parts = text.trim_end_matches('\n').split('\n');
            self.piece(*ink, parts.next().unwrap_or_default())?;
            for part in parts {
                write!(self.out, "\n{margin}")?;
                self.piece(*ink, part)?;
            }
        }
        writeln!(self.out)
    }

    /// Writes an empty line.
    pub(super) fn gap(&mut self) -> io::Result<()> {
        writeln!(self.out)
    }

    /// Writes JSON as it is, but for what is escaped in it: characters that move a terminal.
    pub(super) fn json(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", terminal::json(text))
    }

    fn piece(&mut self, ink: Ink, text: &str) -> io::Result<()> {
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Red => "31",
            Ink::Green => "32",
            Ink::Yellow => "33",
            Ink::Plain => "",
        };
        match self.colours && !code.is_empty() && !text.is_empty() {
            true => write!(self.out, "\u{1b}[{code}m{text}\u{1b}[0m"),
            false => write!(self.out, "{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painted(colours: bool, pieces: &[(Ink, &str)]) -> String {
        let mut out = Vec::new();
        Painter { out: &mut out, colours }.line(2, pieces).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn colours_are_the_painters_own() {
        assert_eq!(painted(true, &[(Ink::Red, "a"), (Ink::Plain, "b")]), "  \u{1b}[31ma\u{1b}[0mb\n");
        assert_eq!(painted(false, &[(Ink::Red, "\u{1b}[32ma\u{9b}2J\u{7}"), (Ink::Dim, "")]), "  a\u{FFFD}\n");
        assert_eq!(painted(false, &[(Ink::Plain, "two\nlines\n")]), "  two\n  lines\n");
    }
}
