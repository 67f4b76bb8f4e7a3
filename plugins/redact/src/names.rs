//! Names that announce a secret: `DB_PASSWORD`, `apiKey`, `Authorization`. A name counts by how it ends, whatever its
//! case and separators; `max_tokens`, `token_type` and `next_page_token` announce none.

use crate::{scan::Context, value::Strength};

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
}

struct Ending {
    word: &'static str,
    code: &'static str,
    holds: Holds,
    /// Whether a text that ends in three letters of it is worth a wait: not for words that begin like everyday ones.
    awaited: bool,
}

const STRONG: Holds = Holds::Value(Strength::Strong);
const WEAK: Holds = Holds::Value(Strength::Weak);

/// Longer ones first where one ends another.
static ENDINGS: &[Ending] = &[
    ending("password", "password", STRONG, true),
    ending("passwd", "password", STRONG, true),
    ending("passphrase", "password", STRONG, true),
    ending("pwd", "password", STRONG, false),
    ending("pass", "password", STRONG, true),
    ending("secretaccesskey", "secret", STRONG, true),
    ending("secretkeybase", "secret", STRONG, true),
    ending("secretkey", "secret", STRONG, true),
    ending("secret", "secret", STRONG, true),
    ending("sharedaccesskey", "azure_storage_key", WEAK, false),
    ending("accountkey", "azure_storage_key", WEAK, false),
    ending("accesskey", "api_key", WEAK, false),
    ending("privatekey", "private_key", WEAK, false),
    ending("signingkey", "secret", WEAK, false),
    ending("encryptionkey", "secret", WEAK, false),
    ending("masterkey", "secret", WEAK, false),
    ending("authkey", "api_key", WEAK, false),
    ending("apikey", "api_key", WEAK, true),
    ending("token", "token", WEAK, true),
    ending("authorization", "authorization", Holds::Authorization, true),
    ending("cookie", "cookie", Holds::Cookie, true),
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
    "signingkey",
    "signing_key",
    "encryptionkey",
    "encryption_key",
    "masterkey",
    "master_key",
    "authkey",
    "auth_key",
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
const SIDE_MAX: usize = 64;
/// Code of names that the configuration added.
const EXTRA_CODE: &str = "key";
/// Fewest letters of a name that is waited for.
const PART_MIN: usize = 3;

const fn ending(word: &'static str, code: &'static str, holds: Holds, awaited: bool) -> Ending {
    Ending { word, code, holds, awaited }
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
        Self {
            spellings: spellings.collect(),
            extra: extra.iter().map(|parts| parts.concat()).collect(),
            disabled: disabled.to_vec(),
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

    /// What a name announces whose beginning may stand in an earlier text.
    pub(crate) fn classify_cut(&self, name: &[u8]) -> Option<Name> {
        if !name.last().is_some_and(u8::is_ascii_alphanumeric) {
            return None;
        }
        let letters = Letters::of(name);
        let word = letters.without_number();
        let is_extra = |extra: &String| {
            let cut = extra.len().saturating_sub(word.len());
            (1..PART_MIN).contains(&cut) && extra.as_bytes().ends_with(word)
        };
        if self.extra.iter().any(is_extra) {
            return Some(Name { code: EXTRA_CODE, holds: STRONG, word: "password" });
        }
        // The last is the most general.
        let ending = ENDINGS.iter().rfind(|ending| {
            let cut = ending.word.len().saturating_sub(word.len());
            let enough = if ending.awaited { (1..PART_MIN).contains(&cut) } else { cut > 0 && word.len() >= PART_MIN };
            enough && ending.word.as_bytes().ends_with(word)
        })?;
        (!self.is_disabled(ending.code)).then_some(Name { code: ending.code, holds: ending.holds, word: ending.word })
    }

    /// The canonical text of a name that a whole text goes on with, one or two letters after its beginning.
    pub(crate) fn inner(&self, text: &[u8]) -> Option<Context> {
        let letters = Letters::of(text);
        let word = letters.word();
        let solid = text.last().is_some_and(u8::is_ascii_alphanumeric);
        let known = ENDINGS.iter().filter(|ending| ending.awaited).map(|ending| ending.word);
        known.chain(self.extra.iter().map(String::as_str)).filter(|_| solid).find_map(|whole| {
            let cut = (1..PART_MIN).find(|cut| {
                let rest = whole.as_bytes().get(*cut..).unwrap_or_default();
                rest.len() > word.len() && rest.starts_with(word)
            })?;
            Some(Context::Text(whole.get(..cut + word.len())?.to_owned()))
        })
    }

    /// The canonical text of an unfinished name that stands from `start` to the end. One that was begun is waited for from
    /// its first letter on.
    pub(crate) fn partial(&self, bytes: &[u8], start: usize, begun: bool) -> Option<Context> {
        let tail = &bytes[start..];
        // An option's dashes and a tag's bracket are part of what makes it one.
        let (lead, name) = match tail {
            [b'-', b'-', name @ ..] => ("--", name),
            [b'<', name @ ..] => ("<", name),
            name => ("", name),
        };
        let least = match lead {
            "" if !begun => PART_MIN,
            "<" => 0,
            _ => 1,
        };
        let letters = Letters::of(name);
        let word = letters.word();
        let named = name.iter().all(|byte| is_name_byte(*byte)) && (!lead.is_empty() || begins_part(bytes, name.len()));
        if word.len() < least || !named {
            return None;
        }
        // An everyday word is waited for once it goes on: `accountK`, `account_`, but not `account`.
        let goes_on = |word: &[u8], whole: &str| {
            let missing = whole.len().saturating_sub(word.len());
            whole.ends_with("key")
                && (missing < 3 || missing == 3 && name.ends_with(b"_") || missing == 3 && name.ends_with(b"-"))
        };
        let is_awaited = |ending: &&Ending| ending.awaited || goes_on(word, ending.word);
        let known = ENDINGS.iter().filter(is_awaited).map(|ending| ending.word);
        let mut all = known.chain(self.extra.iter().map(String::as_str));
        let whole = all.find(|whole| whole.len() > word.len() && whole.as_bytes().starts_with(word))?;
        Some(Context::Text(format!("{lead}{}", whole.get(..word.len())?)))
    }

    /// Whether undecoded text has a name here, and something that may assign to it or the end of a string after it.
    pub(crate) fn plausible(&self, raw: &[u8], start: usize, end: usize) -> bool {
        let (from, to) = around(raw, start, end);
        match raw.get(to) {
            // By far the most frequent: a word in prose, a plural.
            Some(b' ' | b',' | b'.' | b')') if !matches!(assigns(raw, from, to), Some(true)) => false,
            Some(b'"') | None => self.classify(&raw[from..to]).is_some(),
            Some(_) => assigns(raw, from, to).unwrap_or(true) && self.classify(&raw[from..to]).is_some(),
        }
    }

    /// Whether a text begins with the rest of a name and an assignment; with `whole`, or is itself the middle of one.
    pub(crate) fn begins_cut(&self, head: &[u8], whole: bool) -> bool {
        let (_, to) = around(head, 0, 0);
        if to == 0 {
            return false;
        }
        if to == head.len() {
            return whole && (self.inner(head).is_some() || self.classify_cut(head).is_some());
        }
        assigns(head, 0, to).unwrap_or(true) && self.classify_cut(&head[..to]).is_some()
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

fn is_name_byte(byte: u8) -> bool {
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
