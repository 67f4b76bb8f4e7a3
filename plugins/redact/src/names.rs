//! Names that announce a secret: `DB_PASSWORD`, `apiKey`, `Authorization`. A name counts by how it ends, whatever its
//! case and separators; `max_tokens`, `token_type` and `next_page_token` announce none.

use crate::{command::PROGRAMS, value::Strength};

/// What a name says about the value assigned to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// Kind and counter name.
    pub(crate) code: &'static str,
    pub(crate) holds: Holds,
    /// Canonical spelling, for contexts.
    pub(crate) word: &'static str,
}

/// How the value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Value(Strength),
    /// A scheme and credentials, up to the end of the line.
    Authorization,
    /// Pairs, up to the end of the line.
    Cookie,
}

/// The known names and those of the configuration.
#[derive(Debug)]
pub(crate) struct Names {
    extra: Vec<String>,
    /// The same as they may be spelled.
    spellings: Vec<String>,
    disabled: Vec<String>,
    /// Every word whose beginning tells what a name may become, in letters, sorted.
    words: Vec<String>,
    /// By a byte: the first word that begins with it or a later one.
    firsts: Box<[usize; 257]>,
    longest: usize,
}

struct Ending {
    word: &'static str,
    code: &'static str,
    holds: Holds,
}

const STRONG: Holds = Holds::Value(Strength::Strong);
const WEAK: Holds = Holds::Value(Strength::Weak);

/// Longer ones first where one ends another.
static ENDINGS: &[Ending] = &[
    ending("password", "password", STRONG),
    ending("passwd", "password", STRONG),
    ending("passphrase", "password", STRONG),
    ending("pwd", "password", STRONG),
    ending("pass", "password", STRONG),
    ending("secretaccesskey", "secret", STRONG),
    ending("secretkeybase", "secret", STRONG),
    ending("secretkey", "secret", STRONG),
    ending("secret", "secret", STRONG),
    ending("sharedaccesskey", "azure_storage_key", WEAK),
    ending("accountkey", "azure_storage_key", WEAK),
    ending("accesskey", "api_key", WEAK),
    ending("privatekey", "private_key", WEAK),
    ending("signingkey", "secret", WEAK),
    ending("encryptionkey", "secret", WEAK),
    ending("masterkey", "secret", WEAK),
    ending("authkey", "api_key", WEAK),
    ending("apikey", "api_key", WEAK),
    ending("token", "token", WEAK),
    ending("authorization", "authorization", Holds::Authorization),
    ending("cookie", "cookie", Holds::Cookie),
];

/// Names that end so and announce nothing.
const INNOCENT: &[&str] = &[
    "pagetoken",
    "nexttoken",
    "continuationtoken",
    "eostoken",
    "bostoken",
    "padtoken",
    "unktoken",
    "septoken",
    "clstoken",
    "masktoken",
    "stoptoken",
    "specialtoken",
    "maxtoken",
    "pertoken",
    "numtoken",
    "lasttoken",
    "firsttoken",
    "endtoken",
    "starttoken",
    "haspassword",
    "hassecret",
    "ispassword",
    "issecret",
    "forgotpassword",
    "resetpassword",
    "showpassword",
    "oldpwd",
    "document.cookie",
];

/// What to look for in a text to find names.
const STEMS: &[&str] = &[
    "pass",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "api key",
    "accesskey",
    "access_key",
    "access-key",
    "privatekey",
    "private_key",
    "private-key",
    "accountkey",
    "account_key",
    "account-key",
    "signingkey",
    "signing_key",
    "signing-key",
    "encryptionkey",
    "encryption_key",
    "encryption-key",
    "masterkey",
    "master_key",
    "master-key",
    "authkey",
    "auth_key",
    "auth-key",
    "authorization",
    "cookie",
];

/// What stands in names: one look at a table instead of five comparisons for every byte around a stem.
static NAME_BYTES: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0);
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'_' | b'-' | b'.');
        byte += 1;
    }
    table
};
/// Longest name looked at, to each side of its stem, in bytes.
pub(crate) const SIDE_MAX: usize = 64;
/// Code of names that the configuration added.
const EXTRA_CODE: &str = "key";
/// What else a text's end may be the beginning of: the rest of an option, what makes a variable of a name.
const OTHERS: &[&str] = &["user", "export"];

const fn ending(word: &'static str, code: &'static str, holds: Holds) -> Ending {
    Ending { word, code, holds }
}

/// Letters and digits of a name, in lower case; what stands before the last 64 does not matter.
struct Letters {
    buffer: [u8; SIDE_MAX],
    length: usize,
}

// === impl Names ===

impl Names {
    /// Configured names come as their parts, in lower case.
    pub(crate) fn new(extra: &[Vec<String>], disabled: &[String]) -> Self {
        let spellings = extra.iter().flat_map(|parts| {
            let separators: &[&str] = if parts.len() == 1 { &[""] } else { &["", "_", "-", "."] };
            separators.iter().map(|separator| parts.join(separator))
        });
        let extra: Vec<String> = extra.iter().map(|parts| parts.concat()).collect();
        let known = ENDINGS.iter().map(|ending| ending.word).chain(INNOCENT.iter().copied());
        let known = known.chain(PROGRAMS.iter().copied()).chain(OTHERS.iter().copied()).map(str::to_owned);
        let mut words: Vec<String> = known.chain(extra.iter().cloned()).collect();
        words.sort_unstable();
        Self {
            spellings: spellings.collect(),
            extra,
            disabled: disabled.to_vec(),
            firsts: Box::new(std::array::from_fn(|byte| {
                words.partition_point(|word| word.as_bytes().first().is_some_and(|first| usize::from(*first) < byte))
            })),
            longest: words.iter().map(String::len).max().unwrap_or_default(),
            words,
        }
    }

    /// Literals that lead to a name.
    pub(crate) fn stems(&self) -> impl Iterator<Item = &str> {
        STEMS.iter().copied().chain(self.spellings.iter().map(String::as_str))
    }

    /// What a name announces.
    pub(crate) fn classify(&self, name: &[u8]) -> Option<Name> {
        let letters = Letters::of(name);
        let word = letters.without_number();
        if word.len() < 2 {
            return None;
        }
        if self.extra.iter().any(|extra| word.ends_with(extra.as_bytes())) {
            return Some(Name { code: EXTRA_CODE, holds: STRONG, word: "password" });
        }
        let ending = ENDINGS.iter().find(|ending| word.ends_with(ending.word.as_bytes()))?;
        if INNOCENT.iter().any(|innocent| word.ends_with(innocent.as_bytes())) || self.is_disabled(ending.code) {
            return None;
        }
        if ending.word == "pass" && !begins_part(name, "pass".len()) {
            return None;
        }
        Some(Name { code: ending.code, holds: ending.holds, word: ending.word })
    }

    /// Where the longest beginning of a word begins that a name ends in, or a whole word; its case and separators count not.
    pub(crate) fn begun(&self, name: &[u8]) -> Option<usize> {
        let letters = Letters::of(name);
        let word = letters.word();
        let mut at = name.len();
        let from = word.len().saturating_sub(self.longest);
        let begins = |rest: &[u8]| {
            let first = rest.first().map_or(0, |byte| usize::from(*byte));
            let words = self.words.get(self.firsts[first]..self.firsts[first + 1]).unwrap_or_default();
            words.iter().any(|word| word.as_bytes().starts_with(rest))
        };
        let begun = (from..word.len()).find(|from| begins(&word[*from..]))?;
        for _ in begun..word.len() {
            at = name[..at].iter().rposition(u8::is_ascii_alphanumeric)?;
        }
        Some(at)
    }

    /// Whether undecoded text has a name here, and something that may assign to it or the end of a string after it.
    pub(crate) fn plausible(&self, raw: &[u8], start: usize, end: usize) -> bool {
        let (from, to) = around(raw, start, end);
        match raw.get(to) {
            // By far the most frequent: a word in prose, a plural.
            Some(b' ' | b',' | b'.' | b')') if !matches!(assigns(raw, from, to), Some(true)) => false,
            Some(b'"') | None => self.announces(raw, from, to),
            Some(_) => assigns(raw, from, to).unwrap_or(true) && self.announces(raw, from, to),
        }
    }

    /// Whether undecoded text at `from..to` is a name; of an escape before it the last letters look like its first.
    fn announces(&self, raw: &[u8], from: usize, to: usize) -> bool {
        let escape = match raw[from..to].first() {
            Some(b'u') => 5,
            _ => 1,
        };
        let escaped = raw[..from].ends_with(b"\\").then(|| raw.get(from + escape..to)).flatten();
        self.classify(&raw[from..to]).is_some() || escaped.is_some_and(|name| self.classify(name).is_some())
    }

    fn is_disabled(&self, code: &str) -> bool {
        self.disabled.iter().any(|disabled| disabled == code)
    }
}

// === impl Letters ===

impl Letters {
    fn of(name: &[u8]) -> Self {
        let mut letters = Self { buffer: [0; SIDE_MAX], length: 0 };
        let tail = &name[name.len().saturating_sub(SIDE_MAX)..];
        for byte in tail.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
            letters.buffer[letters.length] = byte.to_ascii_lowercase();
            letters.length += 1;
        }
        letters
    }

    fn word(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    fn without_number(&self) -> &[u8] {
        let word = self.word();
        let digits = word.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        &word[..word.len() - digits]
    }
}

/// The name around a stem: letters, digits and separators.
#[inline]
pub(crate) fn around(bytes: &[u8], start: usize, end: usize) -> (usize, usize) {
    let before = bytes[start.saturating_sub(SIDE_MAX)..start].iter().rev();
    let from = start - before.take_while(|byte| is_name_byte(**byte)).count();
    let after = bytes[end..bytes.len().min(end + SIDE_MAX)].iter();
    let to = end + after.take_while(|byte| is_name_byte(**byte) && **byte != b'.').count();
    (from, to)
}

/// Whether what follows a name may assign to it; `None` when the text ends before that is known.
#[inline]
fn assigns(bytes: &[u8], from: usize, to: usize) -> Option<bool> {
    let rest = &bytes[to..];
    let closers = rest.iter().take(8).take_while(|byte| matches!(byte, b'"' | b'\'' | b'`' | b'\\' | b']')).count();
    let (closed, rest) = rest.split_at(closers);
    let spaces = rest.iter().take(16).take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let next = rest.get(spaces)?;
    let option = spaces > 0 && bytes[from] == b'-';
    let quoted = spaces > 0 && matches!(next, b'\'' | b'"' | b'\\');
    let found = matches!(next, b':' | b'=' | b'>') || option || quoted;
    // A quote that is not escaped is the end of the string that is looked at.
    let escaped = |at: usize| closed[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
    let ended = closed.iter().enumerate().any(|(at, byte)| *byte == b'"' && !escaped(at));
    if !found && ended { None } else { Some(found) }
}

pub(crate) fn is_name_byte(byte: u8) -> bool {
    NAME_BYTES[usize::from(byte)]
}

/// Whether the last `length` bytes begin a part of a name: after a separator, or a capital after a small letter.
fn begins_part(name: &[u8], length: usize) -> bool {
    let at = name.len() - length;
    match at.checked_sub(1).map(|before| name[before]) {
        None => true,
        Some(before) if before.is_ascii_lowercase() => name[at].is_ascii_uppercase(),
        // The `n` of a line end that is written out was part of the byte before; capitals run on.
        Some(before) => !before.is_ascii_uppercase(),
    }
}
