//! A replay's outcome for people, and for machines.

use std::{
    env,
    io::{self, IsTerminal, Write},
    path::Path,
};

use serde_json::{Value, json};

use super::diff::{Change, Difference, FileDifference, Part, members};
use crate::client::terminal;

/// Differences of a file that a person is shown; `--json` has more.
const SHOWN_MAX: usize = 20;
/// Characters of a value that are shown, around the first place at which it differs.
const VALUE_CHARS: usize = 96;
/// Characters before that place.
const BEFORE_CHARS: usize = 24;

/// What there is to tell.
pub(super) struct Told<'a> {
    pub(super) task: &'a str,
    pub(super) out: &'a Path,
    pub(super) events: usize,
    pub(super) gaps: usize,
    pub(super) plugins: &'a [String],
    pub(super) difference: &'a Difference,
}

/// Whether standard output shows colours.
pub(super) fn colours() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
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
        writeln!(out, "{document:#}")
    }

    pub(super) fn text(&self, out: &mut dyn Write, colours: bool) -> io::Result<()> {
        let gaps = if self.gaps > 0 { format!(", {} of them gaps", self.gaps) } else { String::new() };
        let (task, plugins) = (terminal::one_line(self.task, 80), self.plugins.join(", "));
        writeln!(out, "replayed {task}: {} events{gaps}, through {plugins}", self.events)?;
        let width = self.difference.files.iter().map(|file| file.file.len()).max().unwrap_or(0);
        for file in &self.difference.files {
            let (mark, paint) = style(file.change);
            let summary = summary(file);
            writeln!(out, "{}", painted(colours, paint, &format!("{mark} {:width$}  {summary}", file.file)))?;
            for part in file.differences.iter().take(SHOWN_MAX) {
                show(out, colours, part)?;
            }
            let more = file.differences.len().saturating_sub(SHOWN_MAX) as u64 + file.omitted;
            if more > 0 {
                writeln!(out, "    and {more} more; --json has the first thousand")?;
            }
        }
        let verdict = if self.difference.is_none() { "nothing differs" } else { "the logs differ" };
        writeln!(out, "{verdict}; the new ones are in {}", self.out.display())
    }
}

fn summary(file: &FileDifference) -> String {
    let Some(records) = &file.records else {
        return match file.change {
            Change::Same => "same",
            Change::Added => "only in the replay",
            Change::Removed => "only in the recording",
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

fn show(out: &mut dyn Write, colours: bool, part: &Part) -> io::Result<()> {
    let (mark, paint) = style(part.change);
    let what = |value: &Option<Value>| value.as_ref().map(kind).unwrap_or_default();
    match (&part.before, &part.after) {
        // A record: which of its members differ.
        (Some(before @ Value::Object(_)), Some(after @ Value::Object(_))) => {
            writeln!(out, "    {mark} {}{}", terminal::one_line(&part.at, 80), what(&part.before))?;
            let mut failed = Ok(());
            members("", before, after, &mut |part| {
                if failed.is_ok() {
                    failed = values(out, colours, 8, &part);
                }
            });
            failed
        }
        (None, Some(record @ Value::Object(_))) | (Some(record @ Value::Object(_)), None) => {
            let line = format!(
                "    {mark} {}{}  {}",
                terminal::one_line(&part.at, 80),
                kind(record),
                terminal::one_line(&record.to_string(), VALUE_CHARS)
            );
            writeln!(out, "{}", painted(colours, paint, &line))
        }
        _ => values(out, colours, 4, part),
    }
}

/// A record's type, or a flow's stage.
fn kind(record: &Value) -> String {
    let kind = record["type"].as_str().or(record["stage"].as_str());
    kind.map(|kind| format!("  {}", terminal::one_line(kind, 64))).unwrap_or_default()
}

fn values(out: &mut dyn Write, colours: bool, indent: usize, part: &Part) -> io::Result<()> {
    let text = |value: &Option<Value>| {
        value.as_ref().map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    };
    let (before, after) = (text(&part.before), text(&part.after));
    let from = match (&before, &after) {
        (Some(before), Some(after)) => {
            before.chars().zip(after.chars()).take_while(|(old, new)| old == new).count().saturating_sub(BEFORE_CHARS)
        }
        _ => 0,
    };
    writeln!(out, "{:indent$}{}", "", terminal::one_line(&part.at, 120))?;
    for (value, sign, paint) in [(before, '-', RED), (after, '+', GREEN)] {
        if let Some(value) = value {
            let cut = if from > 0 { "…" } else { "" };
            let shown: String = value.chars().skip(from).take(VALUE_CHARS * 4).collect();
            let shown = terminal::one_line(&shown, VALUE_CHARS);
            writeln!(out, "{}", painted(colours, paint, &format!("{:indent$}  {sign} {cut}{shown}", "")))?;
        }
    }
    Ok(())
}

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const DIM: &str = "2";

fn style(change: Change) -> (char, &'static str) {
    match change {
        Change::Same => ('=', DIM),
        Change::Added => ('+', GREEN),
        Change::Removed => ('-', RED),
        Change::Changed => ('~', YELLOW),
    }
}

fn painted(colours: bool, paint: &str, text: &str) -> String {
    if colours { format!("\u{1b}[{paint}m{text}\u{1b}[0m") } else { text.to_owned() }
}
