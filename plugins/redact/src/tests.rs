//! What is redacted and what is not, as data. The secrets are made up here, from their formats, so that no file of this
//! project holds one.

#![allow(clippy::string_slice, reason = "a test may panic")]

mod rules;
mod split;
mod streams;

use super::*;

/// The rules of an empty configuration.
fn redactor() -> Redactor {
    Redactor::new("{}").unwrap()
}

/// One event that is not part of a stream; its data afterwards.
#[track_caller]
fn alone(redactor: &Redactor, data: &str) -> String {
    let events = [Event { kind: "task:tool_result", data }];
    let outcome = redactor.process("", &events, true);
    assert_eq!(outcome.state, None);
    match &outcome.verdicts[..] {
        [Verdict::Pass] => data.to_owned(),
        [Verdict::Replace(new)] => {
            assert!(serde_json::from_str::<serde_json::Value>(new).is_ok(), "not JSON: {new}");
            assert_ne!(new, data, "replaced by itself");
            new.clone()
        }
        other => panic!("{other:?}"),
    }
}

/// A text in a JSON string; the text afterwards.
#[track_caller]
fn text(redactor: &Redactor, text: &str) -> String {
    let data = serde_json::json!({ "content": text }).to_string();
    let value: serde_json::Value = serde_json::from_str(&alone(redactor, &data)).unwrap();
    value["content"].as_str().unwrap().to_owned()
}

/// `length` letters and digits that look random.
fn noise(length: usize, seed: u64) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = Random(seed);
    let mut text: String = (0..length).map(|_| char::from(ALPHABET[random.below(ALPHABET.len())])).collect();
    // A token without a digit would be a word.
    if length > 2 {
        text.replace_range(1..2, "7");
    }
    text
}

fn hex(length: usize, seed: u64) -> String {
    let mut random = Random(seed);
    (0..length).map(|_| char::from(b"0123456789abcdef"[random.below(16)])).collect()
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}

/// A private key block with lines of base64.
fn key_block(name: &str, lines: usize, newline: &str) -> String {
    let body: Vec<String> = (0..lines).map(|line| noise(64, line as u64 + 99)).collect();
    format!("-----BEGIN {name}-----{newline}{}{newline}-----END {name}-----", body.join(newline))
}
