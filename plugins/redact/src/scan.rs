//! One pass over one text: every literal that can begin a secret, then the rule that the literal belongs to. A scan says
//! what it found for certain, and what the end of the text leaves open.

use crate::{
    assign, block, command,
    config::{Checked, ConfigError},
    finder::{Case, Finder, Hit, TooLarge},
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
    /// Its beginning would have to be in an earlier text.
    pub(crate) guess: bool,
}

/// Text of our own making that brings the rules into the state in which a text left them. Never the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// Canonical text.
    Text(String),
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
    disabled: Vec<String>,
    /// Tokens, and how much of their prefix is missing, by the byte after that: a text that goes on may begin there.
    beheaded: Vec<Vec<(&'static Token, usize)>>,
    /// Token prefixes, sorted: one may stand unfinished at a text's end.
    literals: Vec<&'static str>,
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

/// Shortest beginning of a configured value that is waited for.
const VALUE_PART_MIN: usize = 3;
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
            Self::Text(text) => text.len(),
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
        let mut beheaded = vec![Vec::new(); 256];
        for token in tokens.clone() {
            put(token.prefix, Anchor::Token(token));
            for missing in token.beheadings() {
                if let Some(first) = token.prefix.as_bytes().get(missing) {
                    beheaded[usize::from(*first)].push((token, missing));
                }
            }
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
        let mut literals: Vec<&'static str> = tokens.map(|token| token.prefix).collect();
        literals.sort_unstable();
        Ok(Self { finder, anchors, names, values: config.values, allow: config.allow, disabled, beheaded, literals })
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The text that a context stands for; `None` when the configuration that it refers to is gone.
    pub(crate) fn context_text<'a>(&'a self, context: &'a Context) -> Option<&'a str> {
        match context {
            Context::Text(text) => Some(text),
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

    /// Whether the first bytes of a text, undecoded, may be the rest of what an earlier text began. `whole`: they are all.
    pub(crate) fn begins_cut(&self, head: &[u8], whole: bool) -> bool {
        let Some(first) = head.first() else { return false };
        self.beheaded[usize::from(*first)].iter().any(|(token, missing)| token.begins_cut(head, *missing, whole))
            || self.names.begins_cut(head, whole)
            || url::begins_cut(head)
            || self.values_cut(head, whole).next().is_some()
    }

    /// Whether the last bytes of a text, undecoded, may be the beginning of a literal.
    pub(crate) fn ends_open(&self, tail: &[u8]) -> bool {
        self.partial(tail, 0).is_some()
    }

    /// Finds what there is. The first `base` bytes are a context; without one, a text with an open edge may itself go on in
    /// the middle of something from an earlier one.
    pub(crate) fn scan(&self, text: &str, edge: Edge, base: usize) -> Found {
        let bytes = text.as_bytes();
        let mut found = Found::default();
        if edge == Edge::Open && base == 0 {
            self.scan_head(text, edge, &mut found);
        }
        let mut name_until = 0;
        for Hit { literal, start, end } in self.finder.all(bytes) {
            if start < found.until {
                continue;
            }
            match self.anchors[literal] {
                Anchor::Token(token) => token.find(text, start, 0, edge, &mut found),
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
            found.opens.extend(self.partial(bytes, base));
        }
        found.matches.retain(|found| !self.is_allowed(part(text, found.start..found.end)));
        found.merge();
        found
    }

    fn scan_head(&self, text: &str, edge: Edge, found: &mut Found) {
        let bytes = text.as_bytes();
        let Some(first) = bytes.first() else { return };
        for (token, missing) in &self.beheaded[usize::from(*first)] {
            token.find_head(text, *missing, edge, found);
        }
        for (index, cut, rest) in self.values_cut(bytes, edge == Edge::Open) {
            if bytes.len() < rest.len() {
                let context = Context::Value { index, taken: cut + bytes.len() };
                found.open(Open { start: 0, redact: None, code: "value", context, guess: true });
            } else {
                found.add(0, 0, rest.len(), "value");
            }
        }
        assign::find_head(&self.names, text, edge, found);
        let slashes = bytes.iter().take(2).take_while(|byte| **byte == b'/').count();
        if slashes > 0 && !self.disabled.iter().any(|off| off == url::CODE) {
            url::find(text, 0, slashes, edge, found);
        }
    }

    /// Configured values that a text begins in the middle of: index, how much is missing, the rest.
    fn values_cut<'a>(&'a self, head: &'a [u8], whole: bool) -> impl Iterator<Item = (usize, usize, &'a str)> {
        let rests = self.values.iter().enumerate().flat_map(|(index, value)| {
            (1..VALUE_PART_MIN).filter_map(move |cut| Some((index, cut, value.get(cut..)?)))
        });
        rests.filter(move |(_, _, rest)| {
            head.starts_with(rest.as_bytes()) || (whole && rest.as_bytes().starts_with(head))
        })
    }

    /// The longest beginning of a literal that stands at the end.
    fn partial(&self, bytes: &[u8], base: usize) -> Option<Open> {
        let from = bytes.len().saturating_sub(TAIL_MAX);
        for (index, value) in self.values.iter().enumerate() {
            let whole = value.as_bytes();
            let longest = bytes.len().min(whole.len() - 1);
            if let Some(taken) = (VALUE_PART_MIN..=longest).rev().find(|taken| bytes.ends_with(&whole[..*taken])) {
                let start = bytes.len() - taken;
                let redact = (taken > VALUE_PART_MIN).then_some(start);
                return Some(Open {
                    start,
                    redact,
                    code: "value",
                    context: Context::Value { index, taken },
                    guess: false,
                });
            }
        }
        let word = bytes[from..]
            .iter()
            .rposition(|byte| byte.is_ascii_whitespace() || *byte == b'\\')
            .map_or(from, |at| from + at + 1);
        (word..bytes.len()).find_map(|start| {
            let tail = &bytes[start..];
            let context = self
                .partial_token(bytes, start, tail)
                .or_else(|| block::partial(bytes, start))
                .or_else(|| self.names.partial(bytes, start, start < base))?;
            Some(Open { start, redact: None, code: "", context, guess: false })
        })
    }

    fn partial_token(&self, bytes: &[u8], start: usize, tail: &[u8]) -> Option<Context> {
        if matches!(tail, b":" | b":A") {
            let digits = bytes[..start].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
            let context = if tail.len() == 1 { "00000000:" } else { "00000000:A" };
            return (digits >= 8 || digits == start).then(|| Context::Text(context.to_owned()));
        }
        // Up to three bytes are common enough in words to ask for a clear beginning; "it's" is none.
        let bounded = match tail.len() {
            1 => strict_boundary(bytes, start) && !bytes[..start].ends_with(b"'"),
            2 | 3 => strict_boundary(bytes, start),
            _ => boundary(bytes, start),
        };
        if !bounded {
            return None;
        }
        let at = self.literals.partition_point(|literal| literal.as_bytes() < tail);
        let literal = self.literals.get(at).filter(|literal| literal.len() > tail.len())?;
        if !literal.as_bytes().starts_with(tail) {
            return None;
        }
        Some(Context::Text(literal.get(..tail.len())?.to_owned()))
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
