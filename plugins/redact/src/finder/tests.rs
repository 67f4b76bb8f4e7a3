//! The same places as an automaton over every byte finds, and as the plain scan finds, on random texts of which some are made
//! to come close.

use aho_corasick::{AhoCorasick, MatchKind};

use super::{Case, Finder, Hit, TooLarge, vector::WINDOW};
use crate::tests::Random;

/// What an automaton finds.
fn reference(literals: &[(String, Case)], text: &[u8]) -> Vec<Hit> {
    let automaton = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::Standard)
        .build(literals.iter().map(|(literal, _)| literal))
        .unwrap();
    let hits = automaton.find_overlapping_iter(text).map(|hit| Hit {
        literal: hit.pattern().as_usize(),
        start: hit.start(),
        end: hit.end(),
    });
    let spelled = |hit: &Hit| {
        let (literal, case) = &literals[hit.literal];
        *case == Case::Any || text[hit.start..hit.end] == *literal.as_bytes()
    };
    let mut hits: Vec<Hit> = hits.filter(spelled).collect();
    hits.sort_by_key(|hit| (hit.end, hit.start, hit.literal));
    hits
}

#[track_caller]
fn check(finder: &Finder, literals: &[(String, Case)], text: &[u8]) {
    assert_eq!(finder.all(text), reference(literals, text), "in {:?}", String::from_utf8_lossy(text));
    let places = |plain: bool| {
        let mut places = Vec::new();
        let mut note = |last| {
            places.push(last);
            false
        };
        if plain {
            finder.tables.any_plain(text, &mut note)
        } else {
            finder.tables.any(text, &mut note)
        };
        places
    };
    assert_eq!(places(false), places(true), "in {:?}", String::from_utf8_lossy(text));
}

fn compile(literals: &[(String, Case)]) -> Finder {
    Finder::new(literals.iter().map(|(literal, case)| (literal.as_str(), *case))).unwrap()
}

/// The seed of a run, said so that it can be had again.
fn seed() -> u64 {
    let random = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = random.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos())
    });
    eprintln!("SEED={seed}");
    seed
}

/// A text of letters that come together often, with whole and cut literals in it.
fn text(random: &mut Random, literals: &[(String, Case)], length: usize) -> Vec<u8> {
    const ALPHABET: &[u8] = b"aabbSsKkxyz_-. :/\\\"\n0\xC3\xA9\x00\xFF";
    let mut text = Vec::new();
    while text.len() < length {
        if random.below(3) > 0 {
            text.push(ALPHABET[random.below(ALPHABET.len())]);
            continue;
        }
        let literal = literals[random.below(literals.len())].0.as_bytes();
        let (from, to) = (random.below(4).saturating_sub(2), random.below(literal.len() + 3));
        let part = &literal[from.min(literal.len())..to.min(literal.len()).max(from.min(literal.len()))];
        match random.below(3) {
            0 => text.extend(part.iter().map(u8::to_ascii_uppercase)),
            1 => text.extend(part.iter().map(u8::to_ascii_lowercase)),
            _ => text.extend(part),
        }
    }
    text.truncate(length);
    text
}

#[test]
fn random_literals_are_found_where_an_automaton_finds_them() {
    let mut random = Random(seed());
    for _ in 0..150 {
        let literals: Vec<(String, Case)> = (0..1 + random.below(60))
            .map(|_| {
                let letters = b"abSsKkxyz_-.:/9";
                let length = 1 + random.below(9);
                let literal = (0..length).map(|_| char::from(letters[random.below(letters.len())])).collect();
                (literal, if random.below(2) == 0 { Case::Any } else { Case::Exact })
            })
            .collect();
        let finder = compile(&literals);
        for _ in 0..20 {
            let length = random.below(200);
            check(&finder, &literals, &text(&mut random, &literals, length));
        }
    }
}

#[test]
fn the_rules_literals_are_found_where_an_automaton_finds_them() {
    let mut random = Random(seed());
    let tokens = crate::tokens::TOKENS.iter().map(|token| (token.prefix.to_owned(), Case::Exact));
    let names = crate::names::Names::new(&[], &[]);
    let stems = names.stems().map(|stem| (stem.to_owned(), Case::Any));
    let literals: Vec<(String, Case)> =
        tokens.chain(stems).chain([("://".to_owned(), Case::Any), ("éé→é".to_owned(), Case::Exact)]).collect();
    let finder = compile(&literals);
    for length in 0..400 {
        check(&finder, &literals, &text(&mut random, &literals, length));
    }
    check(&finder, &literals, &text(&mut random, &literals, 100_000));
}

#[test]
fn many_literals_with_one_window_are_all_found() {
    let literals: Vec<(String, Case)> = (0..1000).map(|n| (format!("ZZZZZZ{n:04}"), Case::Exact)).collect();
    let finder = compile(&literals);
    let mut random = Random(seed());
    check(&finder, &literals, &text(&mut random, &literals, 20_000));
    assert_eq!(finder.all(b"ZZZZZZZ0421").len(), 1);
}

#[test]
fn short_and_odd_literals_are_found() {
    let literals: Vec<(String, Case)> =
        [("k", Case::Exact), ("SK", Case::Exact), ("é", Case::Any), ("\0\0\0\0", Case::Exact)]
            .map(|(literal, case)| (literal.to_owned(), case))
            .into();
    let finder = compile(&literals);
    for text in ["", "k", "SK", "xSK", "sk", "é", "\0\0\0\0", "\0\0\0", "SKSKSKSKSKSKSKSKSKSKk"] {
        check(&finder, &literals, text.as_bytes());
    }
    assert_eq!(WINDOW, 3, "two of these are shorter than a window");
    assert!(matches!(Finder::new([("x".repeat(70_000).as_str(), Case::Any)]), Err(TooLarge)));
}
