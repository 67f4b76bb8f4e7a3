//! Dead letters as text: a table, or one of them whole. What producers wrote is made harmless for a terminal; into a pipe it
//! goes as it came.

use std::io::{self, IsTerminal, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{DlqError, for_each};
use crate::{
    cli::Which,
    client::table::Table,
    event::{Entry, StreamId},
    route::Envelope,
    source::{Fields, Letter, Letters, Payload},
    terminal,
};

/// Rows that are printed at once.
const ROWS: usize = 500;

/// Lists letters, the oldest first.
pub(super) fn list(letters: &mut dyn Letters, which: &Which, out: &mut dyn Write) -> Result<bool, DlqError> {
    let mut table =
        Table::new(&["ID", "REASON", "CODE", "PLUGIN", "KIND", "TASK", "SIZE", "TRIES", "FIRST SEEN", "LAST SEEN"]);
    let mut rows = 0;
    for_each(letters, |letters, letter| {
        if !which.wants(&letter) {
            return Ok(());
        }
        let known = Known::of(letters, &letter)?;
        if which.json {
            let mut object = heads(&letter);
            object.insert("kind".to_owned(), json!(known.kind));
            object.insert("task".to_owned(), json!(known.task));
            object.insert("size".to_owned(), json!(known.size));
            return Ok(writeln!(out, "{}", Value::Object(object))?);
        }
        let some = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row(vec![
            letter.id.to_string(),
            letter.reason,
            letter.code,
            some(Some(letter.plugin).filter(|plugin| !plugin.is_empty())),
            some(known.kind),
            some(known.task),
            some(known.size.map(|size| size.to_string())),
            letter.attempts.to_string(),
            seconds(&letter.first_seen),
            seconds(&letter.last_seen),
        ]);
        rows += 1;
        if rows % ROWS == 0 {
            table.print(out)?;
        }
        Ok(())
    })?;
    if !which.json {
        table.print(out)?;
    }
    Ok(true)
}

/// Prints what is kept of an entry.
pub(super) fn one(letters: &mut dyn Letters, id: StreamId, json: bool, out: &mut dyn Write) -> Result<bool, DlqError> {
    let mut found = false;
    let raw = !io::stdout().is_terminal();
    for_each(letters, |letters, letter| {
        if letter.id != id {
            return Ok(());
        }
        found = true;
        let fields = match &letter.payload {
            Payload::Fields(fields) => Some(fields.clone()),
            Payload::Digest { .. } => letters.entry(id)?,
            Payload::Gone => None,
        };
        if json {
            let mut object = heads(&letter);
            let pair = |(name, value): &(Bytes, Bytes)| json!([text(name), text(value)]);
            let fields = fields.map(|fields| fields.iter().map(pair).collect::<Vec<_>>());
            object.insert("fields".to_owned(), json!(fields));
            return Ok(writeln!(out, "{}", Value::Object(object))?);
        }
        for (name, value) in heads(&letter) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            writeln!(out, "{name}: {}", terminal::one_line(&value, usize::MAX))?;
        }
        match fields {
            Some(fields) => print(&fields, raw, out)?,
            None => writeln!(out, "\nthe entry's fields are gone")?,
        }
        Ok(())
    })?;
    if !found {
        writeln!(io::stderr(), "{id}: there is no such letter")?;
    }
    Ok(found)
}

fn print(fields: &Fields, raw: bool, out: &mut dyn Write) -> io::Result<()> {
    for (name, value) in fields {
        if raw {
            out.write_all(b"\n")?;
            out.write_all(name)?;
            out.write_all(b": ")?;
            out.write_all(value)?;
        } else {
            let shown = |bytes: &Bytes| terminal::plain(&String::from_utf8_lossy(bytes));
            write!(out, "\n{}: {}", shown(name), shown(value))?;
        }
    }
    out.write_all(b"\n")
}

/// Text, or what is none in base64.
fn text(bytes: &Bytes) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"base64": BASE64_STANDARD.encode(bytes)}),
    }
}

/// Up to the seconds, for people.
fn seconds(time: &str) -> String {
    let cut = time.split_once('.').map(|(seconds, _)| format!("{seconds}Z"));
    cut.unwrap_or_else(|| time.to_owned())
}

fn heads(letter: &Letter) -> Map<String, Value> {
    let payload = match &letter.payload {
        Payload::Fields(_) => "full",
        Payload::Digest { .. } => "digest",
        Payload::Gone => "gone",
    };
    let plugin = Some(&letter.plugin).filter(|plugin| !plugin.is_empty());
    let mut heads = Map::new();
    for (name, value) in [
        ("id", json!(letter.id.to_string())),
        ("letter", json!(letter.at.to_string())),
        ("stream", json!(letter.stream)),
        ("reason", json!(letter.reason)),
        ("code", json!(letter.code)),
        ("plugin", json!(plugin)),
        ("attempts", json!(letter.attempts)),
        ("first_seen", json!(letter.first_seen)),
        ("last_seen", json!(letter.last_seen)),
        ("payload", json!(payload)),
    ] {
        heads.insert(name.to_owned(), value);
    }
    if let Payload::Digest { sha256, size } = &letter.payload {
        heads.insert("sha256".to_owned(), json!(sha256));
        heads.insert("size".to_owned(), json!(size));
    }
    heads
}

/// What an entry's envelope says, as far as it can be read.
struct Known {
    kind: Option<String>,
    task: Option<String>,
    size: Option<u64>,
}

// === impl Known ===

impl Known {
    fn of(letters: &mut dyn Letters, letter: &Letter) -> Result<Self, DlqError> {
        let (fields, size) = match &letter.payload {
            Payload::Fields(fields) => {
                (Some(fields.clone()), Some(fields.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()))
            }
            Payload::Digest { size, .. } => (letters.entry(letter.id)?, Some(*size)),
            Payload::Gone => (None, None),
        };
        let entry = Entry { id: letter.id, fields: fields.unwrap_or_default() };
        let envelope = Envelope::of(&entry);
        let lossy = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let kind = envelope.kind.map(lossy);
        let in_data = || envelope.task_in_data().filter(|_| envelope.is_flow_kind());
        let flow = || envelope.flow.map(|flow| format!("webhook {}", lossy(flow)));
        let task = envelope.task.map(lossy).or_else(in_data).or_else(flow);
        Ok(Self { kind, task, size })
    }
}

// === impl Which ===

impl Which {
    fn wants(&self, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
        let buried = || letter.last_seen.parse::<jiff::Timestamp>().ok();
        is(&self.reason, &letter.reason)
            && is(&self.plugin, &letter.plugin)
            && self.since.is_none_or(|since| buried().is_none_or(|buried| buried >= since))
    }
}
