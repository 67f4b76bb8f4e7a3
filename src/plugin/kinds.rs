//! Which kinds of events a plugin wants: exact ones, or a prefix and `*`.

use crate::event::KINDS;

/// A set of kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kinds(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(Box<str>),
    Prefix(Box<str>),
}

impl Kinds {
    /// Checks patterns; the error is the one that is none.
    pub(super) fn parse(patterns: &[String]) -> Result<Self, String> {
        patterns
            .iter()
            .map(|text| Pattern::parse(text).ok_or_else(|| text.chars().take(80).collect()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether events of a kind are among them.
    pub(super) fn wants(&self, kind: &str) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Exact(exact) => **exact == *kind,
            Pattern::Prefix(prefix) => prefix.is_empty() || kind.starts_with(&**prefix),
        })
    }

    /// Whether it is exactly `["*"]`.
    pub(super) fn is_all(&self) -> bool {
        matches!(&*self.0, [Pattern::Prefix(prefix)] if prefix.is_empty())
    }

    /// A kind of each pattern, for the self-test.
    pub(super) fn examples(&self) -> Vec<String> {
        let example = |pattern: &Pattern| match pattern {
            Pattern::Exact(exact) => vec![exact.to_string()],
            Pattern::Prefix(prefix) if prefix.is_empty() => KINDS.map(str::to_owned).to_vec(),
            Pattern::Prefix(prefix) => {
                let known: Vec<_> =
                    KINDS.iter().filter(|kind| kind.starts_with(&**prefix)).map(|kind| (*kind).to_owned()).collect();
                if !known.is_empty() {
                    return known;
                }
                let family = if prefix.contains(':') { "" } else { ":" };
                vec![format!("{prefix}{family}selftest")]
            }
        };
        self.0.iter().flat_map(example).collect()
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let plain =
            |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.:-".contains(&b));
        match text.strip_suffix('*') {
            Some(prefix) if prefix.len() <= 100 && plain(prefix) => Some(Self::Prefix(prefix.into())),
            None if !text.is_empty() && text.len() <= 100 && plain(text) => Some(Self::Exact(text.into())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_and_prefix() {
        let kinds = Kinds::parse(&["task:output".to_owned(), "web*".to_owned()]).unwrap();
        assert!(kinds.wants("task:output") && kinds.wants("webhook:received"));
        assert!(!kinds.wants("task:outputs") && !kinds.wants("task:created") && !kinds.is_all());
        assert!(Kinds::parse(&["*".to_owned()]).unwrap().is_all());
        assert_eq!(Kinds::parse(&["a*b".to_owned()]), Err("a*b".to_owned()));
        assert_eq!(Kinds::parse(&[String::new()]), Err(String::new()));
    }

    #[test]
    fn examples_are_wanted() {
        for pattern in ["*", "task:output", "task:*", "knowledge:*", "resp*"] {
            let kinds = Kinds::parse(&[pattern.to_owned()]).unwrap();
            let examples = kinds.examples();
            assert!(
                !examples.is_empty() && examples.iter().all(|kind| kinds.wants(kind) && kind.contains(':')),
                "{examples:?}"
            );
        }
    }
}
