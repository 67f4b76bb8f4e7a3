//! What the output is: a terminal, which nothing that a task wrote may move, or a file, which gets every byte.

use std::{
    env,
    io::{self, IsTerminal as _, Write},
};

use crate::terminal;

/// Bytes of a line that are held back at most, until its end is known.
const HELD_MAX: usize = 64 << 10;

/// What a command prints to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// Standard output is a terminal.
    pub terminal: bool,
    /// Colours are seen and wanted.
    pub colours: bool,
    /// How far long work has come is told on standard error.
    pub progress: bool,
}

/// Writes bytes to a terminal without what moves it.
pub(super) struct Inert<'a> {
    out: &'a mut dyn Write,
    held: Vec<u8>,
}

// === impl Screen ===

impl Screen {
    /// That of this process.
    pub fn of_process() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
        let terminal = io::stdout().is_terminal();
        Self { terminal, colours: terminal && !refused && !dumb, progress: io::stderr().is_terminal() && !dumb }
    }
}

// === impl Inert ===

impl<'a> Inert<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, held: Vec::new() }
    }

    /// Writes what is held back, too.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let held = self.held.len();
        self.show(held)
    }

    fn show(&mut self, bytes: usize) -> io::Result<()> {
        let text: Vec<u8> = self.held.drain(..bytes).collect();
        self.out.write_all(terminal::plain(&String::from_utf8_lossy(&text)).as_bytes())
    }
}

impl Write for Inert<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        let whole = self.held.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let ready = if self.held.len() - whole > HELD_MAX { whole_characters(&self.held) } else { whole };
        self.show(ready)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Bytes before a last character that may not be whole.
fn whole_characters(bytes: &[u8]) -> usize {
    let last = bytes.iter().rev().take(4).position(|byte| byte & 0xc0 != 0x80);
    match last.map(|back| bytes.len() - back - 1) {
        Some(at) if bytes.get(at).is_some_and(|lead| *lead >= 0xc0) => at,
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_any_pieces_move_no_terminal() {
        let line = format!("{}\u{1b}]0;t\u{7}\u{202e}é\u{9b}2J\r\n", "ä".repeat(100_000));
        let hostile = [line.as_bytes(), b"\xff\x1b[31m\x00end"].concat();
        for size in [1, 3, 7, 4096, hostile.len()] {
            let mut out = Vec::new();
            let mut inert = Inert::new(&mut out);
            hostile.chunks(size).for_each(|piece| inert.write_all(piece).unwrap());
            inert.finish().unwrap();
            let shown = String::from_utf8(out).unwrap();
            assert!(!shown.chars().any(|char| char.is_control() && char != '\n'), "{size}");
            assert!(!shown.contains('\u{202e}'));
            assert_eq!(shown.matches('ä').count(), 100_000, "no character was torn, in pieces of {size}");
            assert!(shown.ends_with("\u{FFFD}\u{FFFD}end"), "{size}");
        }
    }
}
