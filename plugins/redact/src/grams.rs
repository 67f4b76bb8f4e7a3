//! Passes over text that holds no literal, at a fraction of an automaton's cost: of every literal one group of three bytes,
//! the rarest in ordinary text, must stand in a text that holds the literal. Looking groups up has no chain from byte to
//! byte, and few loop turns, which is what a sandbox makes dear.

/// Bits of a group's hash.
const BITS: u32 = 15;
/// Groups looked up in one turn: those that begin in one word of eight bytes and end in it.
const TURN: usize = 6;
/// Letters from the most to the least frequent in English text and source code.
const FREQUENT: &[u8] = b"etaoinsrlcdupmhgfbyvwkxqjz";

/// The groups of all literals.
pub(crate) struct Grams {
    /// A bit for every hash that any literal's group has: small enough to stay near the processor.
    filter: Box<[u64; 1 << (BITS - 6)]>,
    /// By a group's hash: which of `lists`; 0 for none.
    known: Box<[u16; 1 << BITS]>,
    lists: Vec<Vec<Place>>,
    literals: Vec<String>,
}

/// A literal that has a group, and where.
#[derive(Clone, Copy)]
struct Place {
    literal: usize,
    offset: usize,
}

// === impl Grams ===

impl Grams {
    /// Of literals in any case; `None` when one has a single byte.
    pub(crate) fn of(literals: &[String]) -> Option<Self> {
        let known = Box::new([0; 1 << BITS]);
        let mut grams = Self {
            filter: Box::new([0; 1 << (BITS - 6)]),
            known,
            lists: vec![Vec::new()],
            literals: literals.to_vec(),
        };
        for (literal, text) in literals.iter().enumerate() {
            let bytes = text.as_bytes();
            let rank = |(_, group): &(usize, &[u8])| group.iter().map(frequency).sum::<usize>();
            match bytes.windows(3).enumerate().min_by_key(rank) {
                Some((offset, group)) => grams.put(group, Place { literal, offset })?,
                // Whatever follows a literal of two bytes, or nothing, which counts as a zero. Case is folded.
                None => (0..=255_u8).filter(|third| third & 0x20 != 0).try_for_each(|third| {
                    grams.put(&[*bytes.first()?, *bytes.get(1)?, third], Place { literal, offset: 0 })
                })?,
            }
        }
        Some(grams)
    }

    fn put(&mut self, group: &[u8], place: Place) -> Option<()> {
        let slot = slot(group.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        self.filter[slot >> 6] |= 1 << (slot & 63);
        let known = &mut self.known[slot];
        if *known == 0 {
            *known = u16::try_from(self.lists.len()).ok()?;
            self.lists.push(Vec::new());
        }
        self.lists[usize::from(*known)].push(place);
        Some(())
    }

    /// Calls `look` with a literal's index and where it begins and ends in the text, until it answers yes. Not in order.
    pub(crate) fn any(&self, text: &[u8], mut look: impl FnMut(usize, usize, usize) -> bool) -> bool {
        let mut at = 0;
        while let Some(word) = text.get(at..).and_then(<[u8]>::first_chunk) {
            let word = u64::from_le_bytes(*word);
            let hit = (0..TURN).fold(0, |hit, group| {
                let slot = slot(word >> (8 * group));
                hit | self.filter[slot >> 6] >> (slot & 63)
            });
            if hit & 1 != 0 && self.hit(text, at, word, TURN, &mut look) {
                return true;
            }
            at += TURN;
        }
        let rest = text.get(at..).unwrap_or_default();
        let word = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        self.hit(text, at, word, rest.len().saturating_sub(1), &mut look)
    }

    fn hit(
        &self,
        text: &[u8],
        at: usize,
        word: u64,
        count: usize,
        look: &mut impl FnMut(usize, usize, usize) -> bool,
    ) -> bool {
        (0..count).any(|group| {
            let list = &self.lists[usize::from(self.known[slot(word >> (8 * group))])];
            list.iter().any(|place| {
                let literal = self.literals[place.literal].as_bytes();
                let Some(start) = (at + group).checked_sub(place.offset) else { return false };
                let end = start + literal.len();
                text.get(start..end).is_some_and(|found| found.eq_ignore_ascii_case(literal))
                    && look(place.literal, start, end)
            })
        })
    }
}

/// The place of a group of three bytes, letters in either case alike.
fn slot(group: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "three bytes are meant")]
    let folded = (group as u32 & 0x00FF_FFFF) | 0x0020_2020;
    (folded.wrapping_mul(0x9E37_79B1) >> (32 - BITS)) as usize
}

fn frequency(byte: &u8) -> usize {
    match FREQUENT.iter().position(|letter| *letter == byte.to_ascii_lowercase()) {
        Some(rank) => FREQUENT.len() - rank,
        None => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_literal_is_found_wherever_it_stands() {
        let literals: Vec<String> = ["token", "SK", "://", "aws_secret", "-----BEGIN", "tok"].map(str::to_owned).into();
        let grams = Grams::of(&literals).unwrap();
        for (index, literal) in literals.iter().enumerate() {
            for before in 0..20 {
                for after in 0..20 {
                    let text = format!("{}{}{}", "x".repeat(before), literal.to_uppercase(), "y".repeat(after));
                    let here = (index, before, before + literal.len());
                    assert!(grams.any(text.as_bytes(), |literal, from, to| (literal, from, to) == here), "{text}");
                }
            }
        }
        assert!(Grams::of(&["a".to_owned()]).is_none());
    }

    #[test]
    fn all_and_nothing_else_is_found() {
        let seed = random_seed();
        println!("seed {seed}");
        let literals: Vec<String> = ["ab", "abc", "bca", "cab-", "a--b"].map(str::to_owned).into();
        let grams = Grams::of(&literals).unwrap();
        let mut state = seed | 1;
        for _ in 0..20_000 {
            let mut random = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let text: String = (0..random(30)).map(|_| ['a', 'B', 'c', '-', 'A'][random(5) as usize]).collect();
            let mut found = Vec::new();
            grams.any(text.as_bytes(), |literal, from, _| {
                found.push((from, literal));
                false
            });
            let lower = text.to_lowercase();
            let mut all: Vec<(usize, usize)> = Vec::new();
            for (index, literal) in literals.iter().enumerate() {
                all.extend(
                    (0..lower.len()).filter(|at| lower[*at..].starts_with(literal.as_str())).map(|at| (at, index)),
                );
            }
            found.sort_unstable();
            all.sort_unstable();
            assert_eq!(found, all, "{text}");
        }
    }

    fn random_seed() -> u64 {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(1)
    }
}
