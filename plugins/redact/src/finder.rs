//! Finds literals in a text, many at a time: every place where one of them stands, exactly. [`vector`] skips what can be none
//! sixteen bytes at a time; what it stops at is looked up in a table of windows and compared.
//!
//! Each literal is known by a window, the three bytes of it that are rarest in text. A window's bytes are told apart by their
//! halves, eight groups of windows at once: a byte that fits the third place, one before it that fits the second, and one
//! before that which fits the first, of the same group. That is right for every window and wrong for one byte in twenty, which
//! the table sorts out. No automaton: a table of states for these literals takes longer to build than a call takes.

mod vector;

use vector::{GROUPS, Tables, WINDOW};

/// Literals, compiled.
pub(crate) struct Finder {
    literals: Vec<Literal>,
    tables: Tables,
    /// By the hash of a window, a bit for each low end of the byte before it that a literal may have there.
    befores: Box<[u32; SLOTS]>,
    /// By the same: the entries of which any byte may stand before the window.
    windows: Box<[Slot; SLOTS]>,
    /// By the hash of a key: the other entries.
    keys: Box<[Slot; SLOTS]>,
    entries: Vec<Entry>,
    /// Literals shorter than a window.
    short: Vec<Entry>,
    /// Whether one of those may end in a byte.
    short_ends: [bool; 256],
}

/// A place where a literal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// In the order in which they were given.
    pub(crate) literal: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// How a literal is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// As it stands.
    Exact,
    /// In capitals or not.
    Any,
}

struct Literal {
    /// In lower case if its case does not matter.
    bytes: Vec<u8>,
    case: Case,
}

#[derive(Clone, Copy)]
struct Entry {
    /// The window and the byte before it, if the literal has one.
    key: u32,
    /// The bits of it that count.
    known: u32,
    literal: u16,
    /// From the literal's first byte to the window's last.
    last: u16,
}

/// Where the entries of one hash are.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    begin: u16,
    end: u16,
}

/// More literals, or longer ones, than the tables can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// What a group's places match: the low and the high halves of bytes.
#[derive(Clone, Copy, Default, PartialEq)]
struct Halves {
    low: u16,
    high: u16,
}

const HASH_BITS: u32 = 11;
const SLOTS: usize = 1 << HASH_BITS;
/// Of a key: those of its window.
const WINDOW_BITS: u32 = 0xFFFF_FF00;
/// Literals that one window may be shared by as if it cost nothing.
const CROWD_FREE: u16 = 12;

/// How often a byte stands in prose, code and JSON, roughly, in parts of 4096; for what is not here 1.
static FREQUENCIES: [u16; 128] = frequencies();

const fn frequencies() -> [u16; 128] {
    let mut table = [1; 128];
    let common: &[(u8, u16)] = &[
        (b' ', 640),
        (b'e', 330),
        (b't', 250),
        (b'a', 220),
        (b's', 210),
        (b'o', 200),
        (b'r', 200),
        (b'n', 200),
        (b'i', 190),
        (b'l', 130),
        (b'c', 110),
        (b'd', 110),
        (b'u', 90),
        (b'p', 80),
        (b'm', 80),
        (b'f', 65),
        (b'h', 90),
        (b'g', 60),
        (b'y', 45),
        (b'b', 45),
        (b'w', 40),
        (b'v', 40),
        (b'k', 30),
        (b'x', 12),
        (b'q', 6),
        (b'z', 6),
        (b'j', 6),
        (b'.', 45),
        (b',', 45),
        (b'_', 45),
        (b'-', 35),
        (b':', 45),
        (b'/', 40),
        (b'(', 35),
        (b')', 35),
        (b'"', 60),
        (b'\\', 60),
        (b'\'', 12),
        (b'`', 15),
        (b';', 20),
        (b'=', 25),
        (b'{', 15),
        (b'}', 15),
        (b'[', 12),
        (b']', 12),
        (b'<', 10),
        (b'>', 12),
        (b'&', 10),
        (b'*', 10),
        (b'#', 8),
        (b'|', 8),
        (b'0', 35),
        (b'1', 30),
        (b'2', 22),
        (b'3', 15),
        (b'4', 12),
        (b'5', 12),
        (b'6', 12),
        (b'7', 10),
        (b'8', 12),
        (b'9', 10),
        (b'S', 12),
        (b'T', 12),
        (b'A', 12),
        (b'E', 12),
        (b'I', 12),
        (b'N', 10),
        (b'R', 10),
        (b'O', 10),
        (b'C', 10),
        (b'D', 9),
        (b'L', 9),
        (b'P', 9),
        (b'M', 8),
        (b'F', 8),
        (b'B', 7),
        (b'U', 6),
        (b'H', 5),
        (b'G', 5),
        (b'W', 5),
        (b'V', 4),
        (b'K', 4),
        (b'Y', 4),
    ];
    let mut at = 0;
    while at < common.len() {
        table[common[at].0 as usize] = common[at].1;
        at += 1;
    }
    table
}

// === impl Finder ===

impl Finder {
    /// Compiles literals, none of them empty.
    pub(crate) fn new<'a>(literals: impl IntoIterator<Item = (&'a str, Case)>) -> Result<Self, TooLarge> {
        let spelled = |(text, case): (&str, Case)| Literal {
            bytes: if case == Case::Any { text.to_ascii_lowercase() } else { text.to_owned() }.into_bytes(),
            case,
        };
        let literals: Vec<Literal> = literals.into_iter().map(spelled).collect();
        if literals.len() >= usize::from(u16::MAX) || literals.iter().any(|it| it.bytes.len() >= usize::from(u16::MAX))
        {
            return Err(TooLarge);
        }
        let mut windows: Vec<[Halves; WINDOW]> = Vec::with_capacity(literals.len());
        let (mut entries, mut short) = (Vec::with_capacity(literals.len()), Vec::new());
        let (mut befores, mut short_ends) = (Box::new([0; SLOTS]), [false; 256]);
        let mut crowds = vec![0_u16; SLOTS];
        for (number, literal) in (0_u16..).zip(&literals) {
            let bytes = &literal.bytes;
            let last = window(literal, &crowds);
            let key = key(bytes, last).unwrap_or_default();
            let known = if last >= WINDOW { u32::MAX } else { WINDOW_BITS };
            let entry = Entry { key, known, literal: number, last: u16::try_from(last).map_err(|_| TooLarge)? };
            // A window reaches beyond a literal that is shorter: there any byte may stand.
            windows.push(std::array::from_fn(|place| match (last + 1 + place).checked_sub(WINDOW) {
                Some(at) => Halves::of(bytes[at], literal.case),
                None => Halves { low: u16::MAX, high: u16::MAX },
            }));
            if bytes.len() >= WINDOW {
                crowds[hash(key & WINDOW_BITS)] += 1;
                entries.push(entry);
            } else {
                short.push(entry);
                short_ends[usize::from(bytes[last])] = true;
                short_ends[usize::from(bytes[last].to_ascii_uppercase())] |= literal.case == Case::Any;
            }
        }
        entries.sort_by_key(|entry| (entry.known, hash(entry.key & entry.known)));
        let (mut windows_of, mut keys) = (Box::new([Slot::default(); SLOTS]), Box::new([Slot::default(); SLOTS]));
        for (number, entry) in (0_u16..).zip(&entries) {
            let window = hash(entry.key & WINDOW_BITS);
            let slot = if entry.known == u32::MAX {
                befores[window] |= before(entry.key);
                &mut keys[hash(entry.key)]
            } else {
                befores[window] = u32::MAX;
                &mut windows_of[window]
            };
            if slot.end == 0 {
                slot.begin = number;
            }
            slot.end = number + 1;
        }
        let tables = Tables::new(&group(windows).map(|group| group.map(|place| (place.low, place.high))));
        Ok(Self { literals, tables, befores, windows: windows_of, keys, entries, short, short_ends })
    }

    /// Calls `on_hit` for each place where a literal stands, by where their windows end, until it says that it has seen
    /// enough; whether it has.
    pub(crate) fn any(&self, text: &[u8], mut on_hit: impl FnMut(Hit) -> bool) -> bool {
        self.tables.any(text, |last| {
            if let Some(key) = key(text, last)
                && self.befores[hash(key & WINDOW_BITS)] & before(key) != 0
            {
                for slot in [self.keys[hash(key)], self.windows[hash(key & WINDOW_BITS)]] {
                    let entries = self.entries.get(usize::from(slot.begin)..usize::from(slot.end));
                    for entry in entries.unwrap_or_default() {
                        let fits = (entry.key ^ key) & entry.known == 0;
                        if fits && self.compare(text, last, *entry).is_some_and(&mut on_hit) {
                            return true;
                        }
                    }
                }
            }
            self.short_ends[usize::from(text[last])]
                && self.short.iter().any(|entry| self.compare(text, last, *entry).is_some_and(&mut on_hit))
        })
    }

    /// All places, by their ends; of those with one end the longest first.
    pub(crate) fn all(&self, text: &[u8]) -> Vec<Hit> {
        let mut hits = Vec::new();
        self.any(text, |hit| {
            hits.push(hit);
            false
        });
        hits.sort_unstable_by_key(|hit| (hit.end, hit.start, hit.literal));
        hits
    }

    fn compare(&self, text: &[u8], last: usize, entry: Entry) -> Option<Hit> {
        let literal = &self.literals[usize::from(entry.literal)];
        let start = last.checked_sub(usize::from(entry.last))?;
        let end = start + literal.bytes.len();
        let found = text.get(start..end)?;
        // They are short: a call to compare memory costs more than it saves.
        let mut pairs = found.iter().zip(&literal.bytes);
        let is_it = match literal.case {
            Case::Exact => pairs.all(|(found, byte)| found == byte),
            Case::Any => pairs.all(|(found, byte)| found.to_ascii_lowercase() == *byte),
        };
        is_it.then_some(Hit { literal: usize::from(entry.literal), start, end })
    }
}

/// The last byte of the literal's rarest window; one that some others are known by counts as rarer, of many as less rare.
fn window(literal: &Literal, crowds: &[u16]) -> usize {
    let bytes = &literal.bytes;
    let rarity = |last: &usize| {
        let window = &bytes[last + 1 - WINDOW..=*last];
        let often: u64 = window.iter().map(|byte| u64::from(frequency(*byte, literal.case))).product();
        // One more window makes its group match more, one more literal of a window is compared where that stands.
        let weight = match key(bytes, *last).map_or(0, |key| crowds[hash(key & WINDOW_BITS)]) {
            0 => 4,
            crowd if crowd < CROWD_FREE => 1,
            crowd => u64::from(crowd),
        };
        (often * weight, *last)
    };
    (WINDOW - 1..bytes.len()).min_by_key(rarity).unwrap_or(bytes.len() - 1)
}

/// Puts windows into groups so that a group matches little beyond its windows: each, the commonest first, where it adds least.
fn group(mut windows: Vec<[Halves; WINDOW]>) -> [[Halves; WINDOW]; GROUPS] {
    windows.sort_by_cached_key(|window| std::cmp::Reverse(often(window)));
    windows.dedup();
    let mut groups = [([Halves::default(); WINDOW], 0_u64); GROUPS];
    for window in windows {
        let joined = groups.map(|(group, _)| std::array::from_fn(|place| group[place].or(window[place])));
        let often = joined.map(|group| often(&group));
        let best = (0..GROUPS).min_by_key(|at| often[*at] - groups[*at].1).unwrap_or_default();
        groups[best] = (joined[best], often[best]);
    }
    groups.map(|(group, _)| group)
}

/// How often a group's places all match.
fn often(places: &[Halves; WINDOW]) -> u64 {
    places.iter().map(|place| u64::from(place.often())).product()
}

fn frequency(byte: u8, case: Case) -> u32 {
    let one = |byte: u8| u32::from(FREQUENCIES.get(usize::from(byte)).copied().unwrap_or(2));
    if case == Case::Any && byte.is_ascii_alphabetic() { one(byte) + one(byte.to_ascii_uppercase()) } else { one(byte) }
}

/// The window that ends with the byte at `last`, in the upper bytes, and the byte before it; the same for texts that differ in
/// case only, and for some others.
#[inline]
fn key(text: &[u8], last: usize) -> Option<u32> {
    let text = text.get(..=last)?;
    // Apart, so that the usual case is one load.
    if let Some(four) = text.last_chunk::<4>() {
        return Some(u32::from_le_bytes(*four) | 0x2020_2020);
    }
    match *text {
        [a, b, c] => Some(u32::from_le_bytes([0, a, b, c]) | 0x2020_2020),
        _ => None,
    }
}

/// The bit of the byte before a window.
#[inline]
fn before(key: u32) -> u32 {
    1 << (key & 31)
}

#[inline]
fn hash(key: u32) -> usize {
    (key.wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)) as usize
}

// === impl Halves ===

impl Halves {
    fn of(byte: u8, case: Case) -> Self {
        let one = |byte: u8| Self { low: 1 << (byte & 15), high: 1 << (byte >> 4) };
        match case {
            Case::Any if byte.is_ascii_alphabetic() => one(byte).or(one(byte.to_ascii_uppercase())),
            _ => one(byte),
        }
    }

    fn or(self, other: Self) -> Self {
        Self { low: self.low | other.low, high: self.high | other.high }
    }

    /// How often a byte of these halves stands in text.
    fn often(self) -> u32 {
        let bits = |mut mask: u16| {
            std::iter::from_fn(move || {
                let bit = mask.trailing_zeros();
                mask &= mask.wrapping_sub(1);
                u8::try_from(bit).ok().filter(|bit| *bit < 16)
            })
        };
        bits(self.high).map(|high| bits(self.low).map(|low| frequency(high << 4 | low, Case::Exact)).sum::<u32>()).sum()
    }
}

#[cfg(test)]
mod tests;
