//! `GET /search`: records of all tasks that hold a text, those of the newest tasks first, within bounds of time and bytes.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    App,
    problem::Problem,
    query::Asked,
    records::{Pairs, pairs},
};
use crate::{
    event::Id,
    reader::{Cursor, Field, Hit, Place, ReadError, Search, Shelf, TaskQuery},
};

/// Hits of a page without `limit`, and with one.
const HITS: (u64, u64) = (50, 500);
/// Bytes that one search reads at most.
const BYTES_MAX: u64 = 4 << 30;
/// Tasks that are asked of the index at once.
const TASKS: usize = 200;
/// Parameters that it takes.
const KNOWN: [&str; 8] = ["type", "tool", "level", "since", "until", "q", "regex", "limit"];

/// What was found.
#[derive(Serialize)]
struct Found {
    hits: Vec<Hit>,
    /// Whether time or bytes ran out: there may be more even if nothing was found.
    partial: bool,
    /// Where to go on; `None` when everything was searched.
    next: Option<String>,
    /// Tasks that were looked into, and bytes that were read.
    tasks: u64,
    bytes: u64,
}

/// A search that goes from task to task.
struct Walk<'a> {
    app: &'a App,
    search: Search,
    tasks: u64,
}

pub(super) async fn search(State(app): State<Arc<App>>, query: Pairs) -> Result<Response, Problem> {
    let mut pairs = pairs(query)?;
    let after = pairs.iter().position(|(name, _)| name == "after").map(|at| pairs.remove(at).1);
    let after = after.filter(|after| !after.is_empty()).map(|after| place(&after)).transpose()?;
    let mut asked = Asked::read(&pairs, &[&KNOWN, &["after"]], Timestamp::now())?;
    let limit = asked.limited(HITS)?;
    let Some(pattern) = asked.filter.text.take() else {
        return Err(Problem::bad_request("bad_query", "`q` or `regex` says what to search for."));
    };
    let found = app.scan(move |app| {
        app.index.catch_up();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let search = Search::new(pattern, asked.filter, limit, BYTES_MAX, Instant::now() + app.limits.scan_time);
        Walk { app, search, tasks: 0 }.run(after)
    });
    Ok(([(header::CACHE_CONTROL, "no-cache")], Json(found.await?)).into_response())
}

impl Walk<'_> {
    fn run(mut self, after: Option<(Cursor, Place)>) -> Result<Found, Problem> {
        let mut query = TaskQuery { limit: TASKS, by: Field::Created, descending: true, ..TaskQuery::default() };
        if let Some((cursor, place)) = after {
            if let Some(next) = self.task(place.id(), &cursor, &place)? {
                return Ok(self.found(Some(next)));
            }
            query.after = Some(place);
        }
        loop {
            let page = self.app.index.tasks(&query)?;
            for row in &page.tasks {
                let place = Place::of(row, Field::Created);
                if let Some(next) = self.task(place.id(), &Cursor::default(), &place)? {
                    return Ok(self.found(Some(next)));
                }
                query.after = Some(place);
            }
            if page.next.is_none() {
                return Ok(self.found(None));
            }
        }
    }

    /// Searches a task; `Some`: it ends here, and goes on there.
    fn task(&mut self, id: &Id, after: &Cursor, place: &Place) -> Result<Option<String>, Problem> {
        if self.search.is_over(true) {
            return Ok(Some(next(after, place)));
        }
        let Some(folder) = self.app.logs.folder(Shelf::Tasks, id)? else { return Ok(None) };
        self.tasks += 1;
        let ended = match self.search.task(&folder, id.as_str(), after) {
            // Written anew since: from its start.
            Err(ReadError::Gone) => self.search.task(&folder, id.as_str(), &Cursor::default()),
            ended => ended,
        };
        match ended {
            Ok(ended) => Ok(ended.map(|cursor| next(&cursor, place))),
            // One task that cannot be read does not hide the others.
            Err(error) => {
                tracing::warn!(%error, task = %id, "cannot search a task");
                Ok(None)
            }
        }
    }

    fn found(self, next: Option<String>) -> Found {
        let partial = next.is_some() && self.search.hits.len() < self.search.limit;
        let Search { hits, bytes, .. } = self.search;
        Found { hits, partial, next, tasks: self.tasks, bytes }
    }
}

/// `CURSOR!PLACE`: the place among the tasks, and the one in that task.
fn next(cursor: &Cursor, place: &Place) -> String {
    format!("{cursor}!{}", place.text(Field::Created))
}

fn place(text: &str) -> Result<(Cursor, Place), Problem> {
    let parsed = text
        .split_once('!')
        .and_then(|(cursor, place)| Some((cursor.parse().ok()?, Place::parse(place, Field::Created)?)));
    parsed.ok_or_else(|| Problem::bad_request("bad_query", "`after` is not what `next` of a search was."))
}
