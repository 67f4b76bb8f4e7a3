//! What rows are searched in, in few large pieces: one search over a piece is many times faster than one a row.

use memchr::memmem::Finder;

/// Rows of a piece.
const PIECE: usize = 128;
/// Ends each row's text; stands in none.
const END: char = '\n';

/// A text a slot, in lower case.
#[derive(Default)]
pub(super) struct Texts(Vec<Piece>);

#[derive(Default)]
struct Piece {
    text: String,
    /// Where each row's text ends.
    ends: Vec<usize>,
}

// === impl Texts ===

impl Texts {
    /// Replaces the text of a slot.
    pub(super) fn put(&mut self, slot: usize, text: &str) {
        let (at, row) = (slot / PIECE, slot % PIECE);
        if self.0.len() <= at {
            self.0.resize_with(at + 1, Piece::default);
        }
        if let Some(piece) = self.0.get_mut(at) {
            piece.put(row, &folded(text));
        }
    }

    /// The slots whose texts hold this one, as bits.
    pub(super) fn find(&self, text: &str) -> Vec<u64> {
        let mut bits = vec![0; self.0.len() * PIECE / 64];
        if text.contains(char::is_control) {
            return bits;
        }
        let folded = folded(text);
        let finder = Finder::new(folded.as_bytes());
        for (at, piece) in self.0.iter().enumerate() {
            piece.find(&finder, |row| {
                let slot = at * PIECE + row;
                if let Some(word) = bits.get_mut(slot / 64) {
                    *word |= 1 << (slot % 64);
                }
            });
        }
        bits
    }
}

// === impl Piece ===

impl Piece {
    fn put(&mut self, row: usize, text: &str) {
        while self.ends.len() <= row {
            self.text.push(END);
            self.ends.push(self.text.len());
        }
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let Some(end) = self.ends.get(row).copied() else { return };
        self.text.replace_range(start..end - 1, text);
        for after in self.ends.iter_mut().skip(row) {
            *after = *after + text.len() + 1 - (end - start);
        }
    }

    fn find(&self, finder: &Finder<'_>, mut found: impl FnMut(usize)) {
        let (bytes, mut from, mut row) = (self.text.as_bytes(), 0, 0);
        while let Some(at) = bytes.get(from..).and_then(|rest| finder.find(rest)) {
            let at = from + at;
            row += self.ends.iter().skip(row).take_while(|end| **end <= at).count();
            found(row);
            let Some(end) = self.ends.get(row) else { return };
            from = *end;
        }
    }
}

fn folded(text: &str) -> String {
    text.to_lowercase().replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_found_where_it_stands() {
        let seed = fastrand::u64(..);
        eprintln!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut texts, mut plain) = (Texts::default(), vec![String::new(); 700]);
        for round in 0..3000 {
            let slot = random.usize(0..plain.len());
            let text: String =
                (0..random.usize(0..12)).map(|_| ['a', 'b', 'Ä', 'x', '\n'][random.usize(0..5)]).collect();
            texts.put(slot, &text);
            plain[slot] = folded(&text);
            if round % 50 == 0 {
                for wanted in ["a", "ab", "äB", "xx", "abab", "Q"] {
                    let bits = texts.find(wanted);
                    for (slot, text) in plain.iter().enumerate() {
                        let found = bits.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1);
                        assert_eq!(found, text.contains(&wanted.to_lowercase()), "{slot} {text:?} {wanted:?}");
                    }
                }
            }
        }
        assert!(texts.find("a\nb").iter().all(|word| *word == 0));
    }
}
