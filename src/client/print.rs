//! Records in the form that is asked for. On a terminal every form is harmless: what is for people has control characters
//! removed, JSON has them as escapes and stays the same JSON.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::screen::Screen;
use crate::{
    cli::Form,
    reader::{Cursor, Level, Record, Seen, render},
    terminal,
};

/// Prints records.
pub(super) struct Printer<'a> {
    out: &'a mut dyn Write,
    form: Form,
    screen: Screen,
    /// Records that it may still print.
    left: u64,
    /// Behind the last one that it printed.
    cursor: Option<Cursor>,
    printed: u64,
}

// === impl Printer ===

impl<'a> Printer<'a> {
    pub(super) fn new(out: &'a mut dyn Write, form: Form, screen: Screen, limit: Option<u64>) -> Self {
        Self { out, form, screen, left: limit.unwrap_or(u64::MAX), cursor: None, printed: 0 }
    }

    /// Records that it may still print.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Behind the last record that it printed.
    pub(super) fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    pub(super) fn record(&mut self, record: &Record<'_>, cursor: Cursor) -> io::Result<()> {
        let mut bytes = Vec::new();
        match self.form {
            Form::Pretty => {
                let mut text = String::new();
                render::push_text(&mut text, record.line);
                bytes = if self.screen.colours { coloured(&text, record.line) } else { text }.into_bytes();
            }
            Form::Markdown => {
                let mut text = String::new();
                render::push_markdown(&mut text, record.line);
                bytes = text.into_bytes();
            }
            Form::Json => {
                bytes.extend_from_slice(if self.printed == 0 { b"{\"records\":[\n" } else { b",\n" });
                render::push_json(&mut bytes, record, &cursor, None);
            }
            Form::Ndjson => {
                render::push_json(&mut bytes, record, &cursor, None);
                bytes.push(b'\n');
            }
            Form::Raw => {
                bytes.extend_from_slice(record.line);
                bytes.push(b'\n');
            }
        }
        self.put(&bytes)?;
        self.cursor = Some(cursor);
        self.printed += 1;
        self.left -= 1;
        Ok(())
    }

    /// Prints how the task ended, if it has.
    pub(super) fn end(&mut self, result: Option<&Value>, follows: bool) -> io::Result<()> {
        let status = result.map(status);
        match self.form {
            Form::Pretty | Form::Markdown => {
                if let Some(result) = result {
                    let line = end_line(result);
                    match self.form {
                        Form::Markdown => writeln!(self.out, "---\n\n    {line}")?,
                        _ if self.screen.colours => writeln!(self.out, "\u{1b}[1m{line}\u{1b}[0m")?,
                        _ => writeln!(self.out, "{line}")?,
                    }
                }
            }
            Form::Json => {
                let head = if self.printed == 0 { "{\"records\":[" } else { "" };
                let next = self.cursor.as_ref().map(ToString::to_string);
                let rest = json!({ "next": next, "ended": status }).to_string();
                let text = format!("{head}\n],{}\n", rest.get(1..).unwrap_or_default());
                self.put(text.as_bytes())?;
            }
            Form::Ndjson if follows && result.is_some() => {
                self.put(format!("{}\n", json!({ "end": { "status": status } })).as_bytes())?;
            }
            Form::Ndjson | Form::Raw => {}
        }
        self.out.flush()
    }

    /// Before something is waited for.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// What was printed last is no more: what comes now begins anew.
    pub(super) fn begin_anew(&mut self) {
        self.cursor = None;
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let json = matches!(self.form, Form::Json | Form::Ndjson | Form::Raw);
        match self.screen.terminal && json {
            true => self.out.write_all(terminal::json(&String::from_utf8_lossy(bytes)).as_bytes()),
            false => self.out.write_all(bytes),
        }
    }
}

fn status(result: &Value) -> &'static str {
    if result["success"] == true { "completed" } else { "failed" }
}

/// `TIME  STATUS: why`.
fn end_line(result: &Value) -> String {
    let time = terminal::one_line(result["completed_at"].as_str().unwrap_or("-"), 40);
    let status = terminal::one_line(result["status"].as_str().unwrap_or(status(result)), 40);
    match result["error"].as_str() {
        Some(error) => format!("{time}  {status}: {}", terminal::one_line(error, 400)),
        None => format!("{time}  {status}"),
    }
}

/// `TIME  TYPE  text` with its first two columns coloured by what the record is.
fn coloured(text: &str, line: &[u8]) -> String {
    let Some((time, rest)) = text.split_once("  ") else { return text.to_owned() };
    let Some((kind, rest)) = rest.split_once("  ") else { return text.to_owned() };
    let seen = Seen::of(line);
    let colour = match (seen.level, seen.kind.as_deref()) {
        (Level::Error, _) => "31",
        (Level::Warn, _) => "33",
        (_, Some("tool_call")) => "36",
        (_, Some("thinking" | "tool_result")) => "2",
        (_, Some("user_input" | "user_response")) => "32",
        _ => "1",
    };
    format!("\u{1b}[2m{time}\u{1b}[0m  \u{1b}[{colour}m{kind}\u{1b}[0m  {rest}")
}
