//! `ls` and `show`: tasks as a list says of them, and one at a glance.

use std::io::Write;

use serde_json::{Value, json};

use super::{Client, ClientError, Origin, Screen, figures, folder, in_url, logs::in_query, table::Table};
use crate::{cli::Tasks, reader::Index, terminal};

/// Rows that are asked for at once.
const PAGE: u64 = 500;
const COLUMNS: [&str; 9] = ["TASK", "STATUS", "AGENT", "CREATED", "DURATION", "COST", "TOKENS", "ERRORS", "TITLE"];

/// A page of tasks.
pub(super) struct Page {
    pub(super) rows: Vec<Value>,
    pub(super) next: Option<String>,
    pub(super) total: Option<u64>,
    /// Rows by status.
    pub(super) status: Value,
}

/// Where pages come from.
pub(super) enum Pages<'a> {
    Service(Client<'a>),
    Folder(Index),
}

// === impl Pages ===

impl<'a> Pages<'a> {
    pub(super) fn of(origin: &'a Origin) -> Result<Self, ClientError> {
        Ok(match origin {
            Origin::Service(target) => Self::Service(Client::new(target)),
            Origin::Folder(dir) => Self::Folder(folder::index(dir)?),
        })
    }

    pub(super) fn page(&self, asked: &Tasks, limit: u64, after: Option<&str>) -> Result<Page, ClientError> {
        let (foreign, page) = match self {
            Self::Service(client) => {
                let mut query = asked.query();
                query.push(("limit", limit.min(PAGE).to_string()));
                query.extend(after.map(|after| ("after", after.to_owned())));
                let answer = client.ok(client.get(&format!("/tasks?{}", in_query(&query)), None)?)?;
                (client.foreign(), client.json(answer)?)
            }
            Self::Folder(index) => {
                let limit = usize::try_from(limit.min(PAGE)).unwrap_or(usize::MAX);
                (ClientError::NoSuchTask, json!(folder::page(index, asked, limit, after)?))
            }
        };
        let rows = page["tasks"].as_array().cloned().ok_or(foreign)?;
        let next = page["next"].as_str().map(str::to_owned);
        Ok(Page { rows, next, total: page["total"].as_u64(), status: page["counts"]["status"].clone() })
    }
}

/// Prints the tasks that are asked for.
pub(super) fn ls(origin: &Origin, asked: &Tasks, screen: Screen, out: &mut dyn Write) -> Result<(), ClientError> {
    let pages = Pages::of(origin)?;
    let mut table = table();
    let (mut left, mut after, mut first) = (asked.limit.unwrap_or(u64::MAX), None::<String>, true);
    while left > 0 {
        let page = pages.page(asked, left, after.as_deref())?;
        for task in &page.rows {
            left = left.saturating_sub(1);
            match asked.json {
                true => write!(out, "{}{}", if first { "{\"tasks\":[\n" } else { ",\n" }, shown(task, screen))?,
                false => table.row(row(task)),
            }
            first = false;
        }
        if !asked.json {
            table.print(out)?;
        }
        after = page.next;
        if after.is_none() || page.rows.is_empty() {
            break;
        }
    }
    if asked.json {
        writeln!(out, "{}\n]}}", if first { "{\"tasks\":[" } else { "" })?;
    }
    Ok(())
}

/// Prints one task at a glance.
pub(super) fn show(
    origin: &Origin,
    task: &str,
    as_json: bool,
    screen: Screen,
    out: &mut dyn Write,
) -> Result<(), ClientError> {
    let found = match origin {
        Origin::Service(target) => {
            let client = Client::new(target);
            let answer = client.ok(client.get(&format!("/tasks/{}", in_url(task)), None)?)?;
            client.json(answer)?
        }
        Origin::Folder(dir) => folder::overview(dir, task)?,
    };
    if as_json {
        writeln!(out, "{}", shown(&found, screen))?;
        return Ok(());
    }
    let task = &found["task"];
    let mut line = |name: &str, text: String| match text.is_empty() || text == "-" {
        true => Ok(()),
        false => writeln!(out, "{name:<10} {}", terminal::one_line(&text, 400)),
    };
    for (name, member) in [
        ("task", "task_id"),
        ("title", "title"),
        ("status", "status"),
        ("source", "source"),
        ("agent", "agent"),
        ("model", "model"),
        ("created", "created_at"),
        ("started", "started_at"),
        ("completed", "completed_at"),
    ] {
        line(name, figures::text(task, member))?;
    }
    line("duration", figures::number(task, "duration_seconds", figures::seconds))?;
    line("cost", figures::number(task, "cost_usd", figures::dollars))?;
    let tokens = ["input", "output"].map(|of| Some(format!("{} {of}", task[format!("{of}_tokens")].as_u64()?)));
    line("tokens", tokens.into_iter().flatten().collect::<Vec<_>>().join(", "))?;
    for (name, member) in
        [("turns", "turns"), ("tool calls", "tool_calls"), ("errors", "errors"), ("redactions", "redactions")]
    {
        line(name, task[member].as_u64().map_or_else(String::new, |number| number.to_string()))?;
    }
    line("error", figures::text(&found["final_result"], "error"))?;
    let plugins = found["metadata"]["plugins"].as_array().into_iter().flatten();
    let plugins: Vec<_> = plugins
        .map(|plugin| format!("{} {}", figures::text(plugin, "name"), figures::text(plugin, "version")))
        .collect();
    line("plugins", plugins.join(", "))?;
    let mut table = Table::new(&["FILE", "SIZE", "CHANGED"]);
    for file in found["files"].as_array().into_iter().flatten() {
        let size = file["size"].as_u64().map_or_else(|| "-".to_owned(), figures::bytes);
        table.row(vec![figures::text(file, "name"), size, figures::text(file, "modified")]);
    }
    writeln!(out)?;
    table.print(out)?;
    Ok(())
}

pub(super) fn table() -> Table {
    Table::new(&COLUMNS)
}

/// A task's cells.
pub(super) fn row(task: &Value) -> Vec<String> {
    let tokens = [&task["input_tokens"], &task["output_tokens"]].map(Value::as_u64);
    let tokens = match tokens {
        [None, None] => "-".to_owned(),
        [input, output] => figures::count(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
    };
    let errors = task["errors"].as_u64().map_or_else(|| "-".to_owned(), |errors| errors.to_string());
    vec![
        figures::text(task, "task_id"),
        figures::text(task, "status"),
        figures::text(task, "agent"),
        figures::text(task, "created_at"),
        figures::number(task, "duration_seconds", figures::seconds),
        figures::number(task, "cost_usd", figures::dollars),
        tokens,
        errors,
        figures::text(task, "title"),
    ]
}

fn shown(value: &Value, screen: Screen) -> String {
    let text = value.to_string();
    if screen.terminal { terminal::json(&text) } else { text }
}
