//! One pass over one text: every literal that can begin a secret, then the rule that the literal belongs to. A scan says
//! what it found for certain, and what the end of the text leaves open.

use crate::{
    assign, block, command,
    config::{Checked, ConfigError},
    finder::{Case, Finder, Hit, TooLarge},
    left::left,
    names::Names,
    tokens::{TOKENS, Token},
    url,
};

/// What comes after a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edge {
    /// Nothing: its end ends everything in it.
    End,
    /// Perhaps the rest of what stands at its end.
    Open,
}

/// A secret: bytes `start..end` of the text become `[REDACTED:code]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    /// Where the rule began: at the name, the scheme, the prefix. Without what stands from there on it would not be found.
    pub(crate) from: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) code: &'static str,
}

/// What may be a secret once the text goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    /// Where it begins; the text before it is decided.
    pub(crate) start: usize,
    /// From where on it must go if it cannot be waited for; `None`: nothing of the secret itself is there yet.
    pub(crate) redact: Option<usize>,
    pub(crate) code: &'static str,
    /// Stands in for the text that went out when the next one comes.
    pub(crate) context: Context,
    /// A name, which may be part of a token's prefix too.
    pub(crate) named: bool,
}

/// Text of our own making that brings the rules into the state in which a text left them. Never the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// Canonical text.
    Text(String),
    /// What a text left in which nothing is open, see [`left`](crate::left).
    Left(String),
    /// The first `taken` bytes of a configured value.
    Value { index: usize, taken: usize },
}

/// What a scan gathers.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) matches: Vec<Match>,
    pub(crate) opens: Vec<Open>,
    /// No match begins before this.
    until: usize,
}

/// The rules, compiled. One for all texts.
pub(crate) struct Scanner {
    finder: Finder,
    anchors: Vec<Anchor>,
    names: Names,
    values: Vec<String>,
    allow: Vec<regex_lite::Regex>,
    blocks: bool,
    /// Token prefixes, sorted: one may stand unfinished at a text's end.
    prefixes: Vec<&'static Token>,
}

/// The rule that a literal leads to.
#[derive(Clone, Copy, Debug)]
enum Anchor {
    Token(&'static Token),
    Name,
    Url,
    Block,
    Command,
    Value,
    /// An escape that can hide a literal.
    Escape,
}

/// Escapes of ASCII beyond the control characters, and slashes with a backslash at depth 1 and 2.
const ESCAPES: &[&str] = &["\\u002", "\\u003", "\\u004", "\\u005", "\\u006", "\\u007", ":\\/", ":\\\\/"];

/// From so many bytes on the beginning of a configured value in the middle of a word is redacted.
const VALUE_PART_MIN: usize = 4;
/// Longest literal, so how far back from the end of a text an unfinished one may begin.
const TAIL_MAX: usize = 40;

// === impl Anchor ===

impl Anchor {
    /// How the literals are spelled that lead there.
    fn case(self) -> Case {
        match self {
            Self::Token(_) | Self::Block | Self::Value => Case::Exact,
            Self::Name | Self::Url | Self::Command | Self::Escape => Case::Any,
        }
    }
}

// === impl Context ===

impl Context {
    /// Bytes of the text that it stands for, as far as it tells.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(text) | Self::Left(text) => text.len(),
            Self::Value { taken, .. } => *taken,
        }
    }
}

// === impl Found ===

impl Found {
    pub(crate) fn add(&mut self, from: usize, start: usize, end: usize, code: &'static str) {
        self.until = self.until.max(end);
        self.matches.push(Match { from, start, end, code });
    }

    /// Whether a match ends there.
    pub(crate) fn ends_at(&self, at: usize) -> bool {
        at > 0 && self.until == at
    }

    /// The first byte at or after `at` that no match has.
    pub(crate) fn after(&self, at: usize) -> usize {
        at.max(self.until)
    }

    pub(crate) fn open(&mut self, open: Open) {
        self.opens.push(open);
    }

    /// Overlaps become one match, named by what begins first.
    fn merge(&mut self) {
        self.matches.sort_by_key(|found| (found.start, std::cmp::Reverse(found.end)));
        self.matches.dedup_by(|later, earlier| {
            let overlaps = later.start < earlier.end;
            if overlaps {
                earlier.end = earlier.end.max(later.end);
                earlier.from = earlier.from.min(later.from);
            }
            overlaps
        });
    }
}

// === impl Scanner ===

impl std::fmt::Debug for Scanner {
    /// Without the tables, and above all without the configured values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scanner").field("patterns", &self.anchors.len()).finish_non_exhaustive()
    }
}

impl Scanner {
    pub(crate) fn new(config: Checked) -> Result<Self, ConfigError> {
        let disabled = config.disable;
        let on = |code: &str| !disabled.iter().any(|off| off == code);
        let mut literals: Vec<(&str, Case)> = Vec::new();
        let mut anchors = Vec::new();
        let mut put = |literal, anchor: Anchor| {
            literals.push((literal, anchor.case()));
            anchors.push(anchor);
        };
        let tokens = TOKENS.iter().filter(|token| on(token.code));
        for token in tokens.clone() {
            put(token.prefix, Anchor::Token(token));
        }
        let names = Names::new(&config.keys, &disabled);
        names.stems().for_each(|stem| put(stem, Anchor::Name));
        if on(url::CODE) {
            put("://", Anchor::Url);
        }
        if on(block::CODE) {
            put(block::BEGIN, Anchor::Block);
        }
        if on("password") {
            command::ANCHORS.iter().for_each(|anchor| put(anchor, Anchor::Command));
        }
        config.values.iter().for_each(|value| put(value, Anchor::Value));
        ESCAPES.iter().for_each(|escape| put(escape, Anchor::Escape));
        let finder = Finder::new(literals).map_err(|TooLarge| ConfigError::TooLarge)?;
        let mut prefixes: Vec<&'static Token> = tokens.collect();
        prefixes.sort_unstable_by_key(|token| token.prefix);
        let blocks = on(block::CODE);
        Ok(Self { finder, anchors, names, values: config.values, allow: config.allow, blocks, prefixes })
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The text that a context stands for; `None` when the configuration that it refers to is gone.
    pub(crate) fn context_text<'a>(&'a self, context: &'a Context) -> Option<&'a str> {
        match context {
            Context::Text(text) | Context::Left(text) => Some(text),
            Context::Value { index, taken } => self.values.get(*index)?.get(..*taken),
        }
    }

    /// Whether undecoded JSON may hold something that a scan of its strings would find. Errs only to yes. With `stream`,
    /// what reaches the end of a string counts too.
    pub(crate) fn plausible(&self, raw: &[u8], stream: bool) -> bool {
        self.finder.any(raw, |Hit { literal, start, end }| match self.anchors[literal] {
            Anchor::Token(token) => token.plausible(raw, start),
            Anchor::Name => self.names.plausible(raw, start, end),
            Anchor::Url => url::plausible(raw, end, stream),
            Anchor::Command => command::plausible(raw, start),
            Anchor::Block | Anchor::Escape | Anchor::Value => true,
        })
    }

    /// Whether a decoded string holds any literal at all.
    pub(crate) fn has_literal(&self, text: &str) -> bool {
        self.finder.any(text.as_bytes(), |_| true)
    }

    /// Whether the last bytes of a text, undecoded, may be the beginning of a literal.
    pub(crate) fn ends_open(&self, tail: &[u8]) -> bool {
        let escaped = memchr::memchr(b'\\', tail).is_some();
        if escaped && !self.values.is_empty() {
            return true;
        }
        // The end of a line, written as `\n`, begins nothing.
        if let [before @ .., b'\\', b'n' | b'r' | b't'] = tail
            && !before.ends_with(b"\\")
        {
            return false;
        }
        self.partial(tail).is_some()
    }

    /// Finds what there is.
    pub(crate) fn scan(&self, text: &str, edge: Edge) -> Found {
        let bytes = text.as_bytes();
        let mut found = Found::default();
        let mut name_until = 0;
        for Hit { literal, start, end } in self.finder.all(bytes) {
            let anchor = self.anchors[literal];
            // Of configured values one may be part of another: they become one match.
            if start < found.until && !matches!(anchor, Anchor::Value) {
                continue;
            }
            match anchor {
                Anchor::Token(token) => token.find(text, start, edge, &mut found),
                // A name may hold several of the words that names are known by: it is looked at once.
                Anchor::Name if start >= name_until => {
                    name_until = assign::find(&self.names, text, start, end, edge, &mut found);
                }
                Anchor::Name | Anchor::Escape => {}
                Anchor::Url => url::find(text, start, end, edge, &mut found),
                Anchor::Block => block::find(text, start, edge, &mut found),
                Anchor::Command => command::find(text, start, end, edge, &mut found),
                Anchor::Value => found.add(start, start, end, "value"),
            }
        }
        if edge == Edge::Open {
            found.opens.extend(self.partial(bytes));
        }
        found.matches.retain(|found| !self.is_allowed(part(text, found.start..found.end)));
        found.merge();
        found
    }

    /// The longest beginning of a literal that stands at the end and would be part of a mark. What only announces a secret is
    /// public: it needs no wait, see [`left`](crate::left).
    fn partial(&self, bytes: &[u8]) -> Option<Open> {
        let value = self.partial_value(bytes);
        let from = bytes.len().saturating_sub(TAIL_MAX);
        let ends_word = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'\\';
        let from = bytes[from..].iter().rposition(ends_word).map_or(from, |at| from + at + 1);
        let from = value.as_ref().map_or(from, |open| from.min(open.start));
        let to = value.as_ref().map_or(bytes.len(), |open| open.start);
        let mut starts = from..to;
        let found = starts.find_map(|start| {
            let tail = &bytes[start..];
            let begun = self.partial_token(bytes, start, tail);
            let begun = begun.or_else(|| block::partial(bytes, start).filter(|_| self.blocks))?;
            let text = format!("{}{begun}", left(&self.names, &bytes[..start], 0));
            Some(Open { start, redact: None, code: "", context: Context::Text(text), named: false })
        });
        found.or(value)
    }

    /// Nothing of a configured value is public. Only the few letters in the middle of a word that most texts end in do not go
    /// when they can wait no longer.
    fn partial_value(&self, bytes: &[u8]) -> Option<Open> {
        let begun = |(index, value): (usize, &String)| {
            let whole = value.as_bytes();
            let longest = bytes.len().min(whole.len() - 1);
            let taken = (1..=longest).rev().find(|taken| bytes.ends_with(&whole[..*taken]))?;
            Some((taken, std::cmp::Reverse(index)))
        };
        let (taken, std::cmp::Reverse(index)) = self.values.iter().enumerate().filter_map(begun).max()?;
        let start = bytes.len() - taken;
        let certain = taken >= VALUE_PART_MIN || boundary(bytes, start) || !bytes[start].is_ascii_alphanumeric();
        let context = Context::Value { index, taken };
        Some(Open { start, redact: certain.then_some(start), code: "value", context, named: false })
    }

    fn partial_token(&self, bytes: &[u8], start: usize, tail: &[u8]) -> Option<String> {
        // The number before a colon is the only word that a token may go on with.
        if !boundary(bytes, start) && tail.first() != Some(&b':') {
            return None;
        }
        let first = self.prefixes.partition_point(|token| token.prefix.as_bytes() < tail);
        let begun = self.prefixes[first..].iter().take_while(|token| token.prefix.as_bytes().starts_with(tail));
        let token = begun.filter(|token| token.prefix.len() > tail.len()).find(|token| token.bounded(bytes, start))?;
        token.prefix.get(..tail.len()).map(str::to_owned)
    }

    pub(crate) fn is_allowed(&self, text: &str) -> bool {
        self.allow.iter().any(|allowed| allowed.is_match(text))
    }
}

/// Whether something can begin at `at`: not in the middle of a word, unless what is before it is an escape that ends in a
/// letter or digit.
pub(crate) fn boundary(bytes: &[u8], at: usize) -> bool {
    let before = &bytes[..at];
    match before {
        [] => true,
        [.., last] if !last.is_ascii_alphanumeric() => true,
        [.., b'\\', b'n' | b't' | b'r' | b'b' | b'f'] => true,
        [.., b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => true,
        [.., b'\\', b'u', b'0', b'0', _, _] => true,
        _ => ends_colour(before),
    }
}

/// Whether a text ends in `[32m`, the end of a terminal's colour.
fn ends_colour(text: &[u8]) -> bool {
    let Some((b'm', before)) = text.split_last() else { return false };
    before.iter().rev().take(12).find(|byte| !byte.is_ascii_digit() && **byte != b';') == Some(&b'[')
}

/// Whether what is before `at` is the edge of a word, a string or a value.
pub(crate) fn strict_boundary(bytes: &[u8], at: usize) -> bool {
    match &bytes[..at] {
        [] => true,
        [.., last] if !last.is_ascii() || last.is_ascii_whitespace() => true,
        [
            ..,
            b'"' | b'\'' | b'`' | b'=' | b':' | b'(' | b'[' | b'{' | b',' | b';' | b'&' | b'@' | b'/' | b'|' | b'<'
            | b'>',
        ] => true,
        [.., b'\\', b'n' | b't' | b'r'] => true,
        before => ends_colour(before),
    }
}

/// Bytes of a text. Ranges come from ASCII bytes found in it, so they are characters' too; were one not, it is empty.
pub(crate) fn part(text: &str, range: impl std::slice::SliceIndex<str, Output = str>) -> &str {
    text.get(range).unwrap_or_default()
}
