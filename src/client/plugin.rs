//! `plugin ls` and `plugin forget NAME`.

use std::{io::Write, process::ExitCode};

use serde_json::Value;

use super::{Client, ClientError, Target, in_url, table::Table, terminal, unless_closed};

/// Prints the plugin host's report: a table of its plugins, then what else it says.
pub fn plugins(target: &Target, out: &mut dyn Write) -> Result<ExitCode, ClientError> {
    unless_closed(list(target, out))
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

fn list(target: &Target, out: &mut dyn Write) -> Result<ExitCode, ClientError> {
    let client = Client::new(target);
    let report = client.json(client.ok(client.get("/plugins", None)?)?)?;
    let report = report.as_object().ok_or_else(|| client.foreign())?;
    // The report is the plugin host's own: its columns are what its plugins have, in their order.
    let plugins: Vec<_> = report.get("plugins").and_then(Value::as_array).into_iter().flatten().collect();
    let mut columns: Vec<&str> = Vec::new();
    for (key, value) in plugins.iter().filter_map(|plugin| plugin.as_object()).flatten() {
        if !value.is_object() && !value.is_array() && !columns.contains(&key.as_str()) {
            columns.push(key);
        }
    }
    if columns.is_empty() {
        writeln!(out, "no plugins")?;
    } else {
        let header: Vec<_> = columns.iter().map(|column| terminal::one_line(&column.to_uppercase(), 40)).collect();
        let mut table = Table::new(&header.iter().map(String::as_str).collect::<Vec<_>>());
        for plugin in plugins {
            table.row(columns.iter().map(|column| cell(column, &plugin[*column])).collect());
        }
        table.print(out)?;
    }
    for (key, value) in report.iter().filter(|(key, _)| *key != "plugins") {
        writeln!(out, "{}: {}", terminal::one_line(key, 80), terminal::one_line(&text(value), 400))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Digests are told apart by their first characters.
fn cell(column: &str, value: &Value) -> String {
    let text = text(value);
    match column.ends_with("sha256") || column.ends_with("hash") || column.ends_with("digest") {
        true => text.chars().take(12).collect(),
        false => text,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
