//! `search TEXT`: records of all tasks that hold a text, each in one line with where it stands.

use std::{
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Client, ClientError, Origin, Screen, figures, folder, logs::in_query};
use crate::{
    cli::{self, Search},
    reader::{self, Cursor, Filter, Shelf},
    terminal,
};

/// Hits that are asked for at once.
const PAGE: u64 = 100;
/// Tasks that are looked at between two questions.
const TASKS: usize = 500;
/// Characters of a part of a hit that are shown.
const PART: usize = 240;
/// No search takes longer.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// Prints what is found.
pub(super) fn search(origin: &Origin, asked: &Search, screen: Screen, out: &mut dyn Write) -> Result<(), ClientError> {
    let filter = asked.choice.filter(Timestamp::now())?;
    match origin {
        Origin::Service(target) => on_service(&Client::new(target), asked, screen, out),
        Origin::Folder(dir) => on_folder(dir, (asked, filter), screen, out),
    }
}

fn on_service(client: &Client<'_>, asked: &Search, screen: Screen, out: &mut dyn Write) -> Result<(), ClientError> {
    let mut left = asked.limit;
    let mut after: Option<String> = None;
    while left > 0 {
        let mut query = asked.choice.query();
        query.push(("limit", left.min(PAGE).to_string()));
        query.extend(after.map(|after| ("after", after)));
        let page = client.json(client.ok(client.get(&format!("/search?{}", in_query(&query)), None)?)?)?;
        for hit in page["hits"].as_array().ok_or_else(|| client.foreign())? {
            print(hit, asked, screen, out)?;
            left = left.saturating_sub(1);
        }
        out.flush()?;
        // Where time or bytes ran out, too, it says where it goes on.
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    Ok(())
}

fn on_folder(
    dir: &Path,
    (asked, mut filter): (&Search, Filter),
    screen: Screen,
    out: &mut dyn Write,
) -> Result<(), ClientError> {
    let Some(pattern) = filter.text.take() else { return Ok(()) };
    let (logs, index) = (folder::open(dir)?, folder::index(dir)?);
    let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
    // Nobody else waits for it: it may take what it takes.
    let mut search = reader::Search::new(pattern, filter, limit, u64::MAX, Instant::now() + FOREVER);
    let mut after: Option<String> = None;
    loop {
        let page = folder::page(&index, &cli::Tasks::default(), TASKS, after.as_deref())?;
        for row in &page.tasks {
            let Some(folder) = logs.folder(Shelf::Tasks, &row.task_id)? else { continue };
            search.task(&folder, row.task_id.as_str(), &Cursor::default())?;
            for hit in search.hits.drain(..) {
                search.limit -= 1;
                print(&json!(hit), asked, screen, out)?;
            }
            if search.limit == 0 {
                return Ok(());
            }
        }
        out.flush()?;
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

/// A hit in one line; with `json` as it is.
fn print(hit: &Value, asked: &Search, screen: Screen, out: &mut dyn Write) -> Result<(), ClientError> {
    if asked.json {
        let text = hit.to_string();
        writeln!(out, "{}", if screen.terminal { terminal::json(&text) } else { text })?;
        return Ok(());
    }
    let word = |text: &str| terminal::one_line(text, 100);
    let part = |name: &str| terminal::one_line(hit["snippet"][name].as_str().unwrap_or_default(), PART);
    let (before, matched, after) = (part("before"), part("match"), part("after"));
    let matched = if screen.colours { format!("\u{1b}[1;31m{matched}\u{1b}[0m") } else { matched };
    let [task, time, kind] = ["task_id", "timestamp", "type"].map(|name| word(&figures::text(hit, name)));
    writeln!(out, "{task}  {time}  {kind:<11}  {before}{matched}{after}")?;
    Ok(())
}
