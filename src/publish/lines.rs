//! Lines as they come through a pipe: bounded, and able to say whether the next one is already here, so that a live producer's
//! line is never kept waiting for a fuller batch.

use std::io::{self, BufRead as _, BufReader, Read};

/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;

/// Splits an input at `\n`.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    input: BufReader<R>,
    bytes_max: usize,
    number: u64,
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A line, without its end.
    Line,
    /// A line of more bytes than are taken; it was skipped.
    TooLong,
    /// The input's end.
    End,
}

// === impl Lines ===

impl<R: Read> Lines<R> {
    pub(crate) fn new(input: R, bytes_max: usize) -> Self {
        Self { input: BufReader::with_capacity(READ_BYTES, input), bytes_max, number: 0 }
    }

    /// The number of the line that came last, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether the next line is here in full: reading it cannot wait for the producer.
    pub(crate) fn has_next(&self) -> bool {
        self.input.buffer().contains(&b'\n')
    }

    /// Reads the next line into `line`.
    pub(crate) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Next> {
        line.clear();
        let limit = u64::try_from(self.bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        if self.input.by_ref().take(limit).read_until(b'\n', line)? == 0 {
            return Ok(Next::End);
        }
        self.number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() > self.bytes_max {
            self.input.skip_until(b'\n')?;
            return Ok(Next::TooLong);
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Next::Line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_counted_and_bounded() {
        let mut lines = Lines::new(&b"one\r\n\nlonger than ten bytes\nlast"[..], 10);
        let mut line = Vec::new();
        let mut seen = Vec::new();
        loop {
            let next = lines.next(&mut line).unwrap();
            seen.push((next, lines.number(), String::from_utf8(line.clone()).unwrap()));
            if next == Next::End {
                break;
            }
        }
        assert_eq!(seen[0], (Next::Line, 1, "one".into()));
        assert_eq!(seen[1], (Next::Line, 2, String::new()));
        assert_eq!((seen[2].0, seen[2].1), (Next::TooLong, 3));
        assert_eq!(seen[3], (Next::Line, 4, "last".into()));
        assert_eq!(seen[4].0, Next::End);
    }

    #[test]
    fn a_line_of_just_the_limit_passes() {
        let mut lines = Lines::new(&b"0123456789\n01234567890\nx\n"[..], 10);
        let mut line = Vec::new();
        assert_eq!(lines.next(&mut line).unwrap(), Next::Line);
        assert!(lines.has_next());
        assert_eq!(lines.next(&mut line).unwrap(), Next::TooLong);
        assert_eq!((lines.next(&mut line).unwrap(), line.as_slice()), (Next::Line, &b"x"[..]));
        assert!(!lines.has_next());
    }
}
