//! `plugin ls` and `plugin forget NAME`.

use std::{io::Write, process::ExitCode};

use serde_json::Value;

use super::{Client, ClientError, Target, in_url, table::Table, unless_closed};
use crate::terminal;

/// What the plugin host says of itself: `GET /plugins`.
pub(crate) fn plugin_report(target: &Target) -> Result<Value, ClientError> {
    let client = Client::new(target);
    let report = client.json(client.ok(client.get("/plugins", None)?)?)?;
    if report["plugins"].is_array() { Ok(report) } else { Err(client.foreign()) }
}

/// Prints the plugin host's report: a table of its plugins, what is wrong with them, then what holds for all.
pub fn plugins(target: &Target, json: bool, out: &mut dyn Write) -> Result<ExitCode, ClientError> {
    let report = plugin_report(target)?;
    let printed = if json { writeln!(out, "{report:#}") } else { print(&report, out) };
    unless_closed(printed.map(|()| ExitCode::SUCCESS).map_err(ClientError::Output))
}

/// Lifts the requirement of a plugin. 0: it was required and is no more. 1: no plugin of this name was required.
pub fn forget(target: &Target, name: &str, out: &mut dyn Write) -> Result<ExitCode, ClientError> {
    let client = Client::new(target);
    let answer = client.post(&format!("/plugins/{}/forget", in_url(name)))?;
    let shown = terminal::one_line(name, 80);
    let printed = match answer.status().as_u16() {
        404 => writeln!(out, "no plugin named {shown} is required").map(|()| ExitCode::FAILURE),
        _ => {
            client.ok(answer)?;
            writeln!(out, "{shown} is no longer required").map(|()| ExitCode::SUCCESS)
        }
    };
    unless_closed(printed.map_err(ClientError::Output))
}

/// Header, and what makes a cell of a plugin.
type Column = (&'static str, fn(&Value) -> String);

/// What a person is shown. What a service does not say is `-`.
const COLUMNS: [Column; 11] = [
    ("STATE", |plugin| text(&plugin["state"])),
    ("NAME", |plugin| text(&plugin["name"])),
    ("VERSION", |plugin| text(&plugin["version"])),
    ("ROLE", |plugin| text(&plugin["role"])),
    ("MODE", |plugin| if plugin["shadow"].is_object() { "shadow" } else { "-" }.to_owned()),
    ("FILE", |plugin| text(&plugin["file"])),
    // Digests are told apart by their first characters.
    ("SHA256", |plugin| text(&plugin["sha256"]).chars().take(12).collect()),
    ("SIGNED", signed),
    ("EVENTS", |plugin| events(&plugin["events"])),
    ("FAILED", |plugin| text(&plugin["failed_calls"])),
    ("HELD", |plugin| text(&plugin["held_events"])),
];

fn print(report: &Value, out: &mut dyn Write) -> std::io::Result<()> {
    let plugins = report["plugins"].as_array().map(Vec::as_slice).unwrap_or_default();
    if plugins.is_empty() {
        writeln!(out, "no plugins")?;
    } else {
        // A column that this service says nothing of is left out.
        let cells: Vec<[String; COLUMNS.len()]> = plugins.iter().map(|p| COLUMNS.map(|(_, cell)| cell(p))).collect();
        let shown: Vec<usize> = (0..COLUMNS.len())
            .filter(|at| cells.iter().any(|row| row.get(*at).is_some_and(|cell| cell != "-")))
            .collect();
        let mut table = Table::new(&shown.iter().map(|at| COLUMNS[*at].0).collect::<Vec<_>>());
        for row in &cells {
            table.row(shown.iter().map(|at| row[*at].clone()).collect());
        }
        table.print(out)?;
    }
    for plugin in plugins {
        let file = terminal::one_line(&text(&plugin["file"]), 80);
        let refused = &plugin["refused"];
        if let Some(reason) = refused["reason"].as_str() {
            let effect = refused["effect"].as_str().map(|effect| format!(" ({})", terminal::one_line(effect, 80)));
            writeln!(out, "{file} is refused: {}{}", terminal::one_line(reason, 1000), effect.unwrap_or_default())?;
        }
    }
    for (name, reason) in report["stopped"].as_object().into_iter().flatten() {
        writeln!(out, "{} stopped: {}", terminal::one_line(name, 80), terminal::one_line(&text(reason), 1000))?;
    }
    if let Some(reason) = report["blocked"].as_str() {
        writeln!(out, "nothing is read: {}", terminal::one_line(reason, 1000))?;
    }
    for (key, what) in [("required", "required"), ("chain", "order"), ("folders", "folders")] {
        let names: Vec<String> =
            report[key].as_array().into_iter().flatten().map(|name| terminal::one_line(&text(name), 200)).collect();
        let joined = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        writeln!(out, "{what}: {joined}")?;
    }
    Ok(())
}

/// By whose key; a service without trusted keys checks no signature.
fn signed(plugin: &Value) -> String {
    match (plugin["signed_by"].as_str(), plugin["trusted"].as_bool()) {
        (Some(key), Some(true)) => key.to_owned(),
        (Some(key), _) => format!("{key}, unchecked"),
        (None, _) => "-".to_owned(),
    }
}

/// All decided events; those that were held came again.
fn events(counts: &Value) -> String {
    match counts.as_object() {
        Some(counts) => {
            let decided = counts.iter().filter(|(verdict, _)| *verdict != "hold");
            decided.filter_map(|(_, n)| n.as_u64()).sum::<u64>().to_string()
        }
        None => text(counts),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
