//! A replay's outcome for people, and for machines.

use std::{
    io::{self, Write},
    path::Path,
};

use serde_json::{Value, json};

use super::diff::{Change, Difference, FileDifference, Part};
use crate::{
    author::{
        diff::changes,
        paint::{Ink, Painter},
    },
    terminal,
};

/// Differences of a file that a person is shown; `--json` has more.
const SHOWN_MAX: usize = 20;
/// Characters of a record that only one side has, and of a line.
const RECORD_CHARS: usize = 120;

/// What there is to tell.
pub(super) struct Told<'a> {
    pub(super) task: &'a str,
    pub(super) out: &'a Path,
    pub(super) events: usize,
    pub(super) gaps: usize,
    pub(super) plugins: &'a [String],
    pub(super) difference: &'a Difference,
}

// === impl Told ===

impl Told<'_> {
    pub(super) fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        let document = json!({
            "task": self.task,
            "out": self.out,
            "events": self.events,
            "gaps": self.gaps,
            "plugins": self.plugins,
            "same": self.difference.is_none(),
            "files": self.difference.files,
        });
        Painter::new(out).json(&format!("{document:#}"))
    }

    pub(super) fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut painter = Painter::new(out);
        let gaps = if self.gaps > 0 { format!(", {} of them gaps", self.gaps) } else { String::new() };
        let through = self.plugins.join(", ");
        let head = format!(": {} events{gaps}, through {through}", self.events);
        painter.line(0, &[(Ink::Plain, "replayed "), (Ink::Bold, self.task), (Ink::Plain, &head)])?;
        let width = self.difference.files.iter().map(|file| file.file.len()).max().unwrap_or(0);
        for file in &self.difference.files {
            let (mark, ink) = style(file.change);
            painter.line(0, &[(ink, &format!("{mark} {:width$}  {}", file.file, summary(file)))])?;
            for part in file.differences.iter().take(SHOWN_MAX) {
                show(&mut painter, part)?;
            }
            let more = file.differences.len().saturating_sub(SHOWN_MAX) as u64 + file.omitted;
            if more > 0 {
                painter.line(4, &[(Ink::Dim, &format!("and {more} more; --json has the first thousand"))])?;
            }
        }
        let verdict = if self.difference.is_none() { "nothing differs" } else { "the logs differ" };
        painter.line(0, &[(Ink::Bold, verdict), (Ink::Plain, &format!("; the new ones are in {}", self.out.display()))])
    }
}

fn summary(file: &FileDifference) -> String {
    let Some(records) = &file.records else {
        return match file.change {
            Change::Same => "same",
            Change::Added => "only in the replay",
            Change::Removed => "only in the recording",
            Change::Changed if file.differences.is_empty() => "changed, but not in its values",
            Change::Changed => "changed",
        }
        .to_owned();
    };
    let count = |n: u64, what: &str| (n > 0).then(|| format!("{n} {what}"));
    let counts = [
        count(records.changed, "changed"),
        count(records.added, "added"),
        count(records.removed, "removed"),
        count(records.same, "same"),
        records.reordered.then(|| "in another order".to_owned()),
    ];
    counts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn show(painter: &mut Painter<'_>, part: &Part) -> io::Result<()> {
    let (mark, ink) = style(part.change);
    match (&part.before, &part.after) {
        // A record: which of its members differ.
        (Some(before @ Value::Object(_)), Some(after @ Value::Object(_))) => {
            painter.line(4, &[(ink, &format!("{mark} {}{}", part.at, kind(before)))])?;
            changes(before, after)
                .into_iter()
                .try_for_each(|leaf| sides(painter, 8, &leaf.pointer, leaf.before.as_deref(), leaf.after.as_deref()))
        }
        (None, Some(record @ Value::Object(_))) | (Some(record @ Value::Object(_)), None) => {
            let text = terminal::one_line(&record.to_string(), RECORD_CHARS);
            painter.line(4, &[(ink, &format!("{mark} {}{}  {text}", part.at, kind(record)))])
        }
        (before, after) => {
            sides(painter, 4, &part.at, before.as_ref().and_then(Value::as_str), after.as_ref().and_then(Value::as_str))
        }
    }
}

/// A record's type, or a flow's stage.
fn kind(record: &Value) -> String {
    let kind = record["type"].as_str().or(record["stage"].as_str());
    kind.map(|kind| format!("  {}", terminal::one_line(kind, 64))).unwrap_or_default()
}

fn sides(
    painter: &mut Painter<'_>,
    indent: usize,
    at: &str,
    before: Option<&str>,
    after: Option<&str>,
) -> io::Result<()> {
    painter.line(indent, &[(Ink::Dim, at)])?;
    for (value, sign, ink) in [(before, "- ", Ink::Red), (after, "+ ", Ink::Green)] {
        if let Some(value) = value {
            painter.line(indent + 2, &[(ink, sign), (ink, &terminal::one_line(value, 4 * RECORD_CHARS))])?;
        }
    }
    Ok(())
}

fn style(change: Change) -> (char, Ink) {
    match change {
        Change::Same => ('=', Ink::Dim),
        Change::Added => ('+', Ink::Green),
        Change::Removed => ('-', Ink::Red),
        Change::Changed => ('~', Ink::Yellow),
    }
}
