//! Lists, a page at a time: tasks from the index, and webhook flows that have not joined one.

use std::{str::FromStr, sync::Arc};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::Serialize;

use super::{App, problem::Problem};
use crate::{
    event::Id,
    reader::{Field, Flow, Place, Shelf, TaskQuery, time},
};

/// Entries of a page without `limit`.
const PAGE: usize = 100;
/// Entries that a page may have.
const PAGE_MAX: usize = 1000;
/// Longest text that is searched for, in bytes.
const TEXT_BYTES_MAX: usize = 200;
/// Values that one parameter may want.
const VALUES_MAX: usize = 100;

/// Facets in the order of the index.
const FACETS: [&str; 4] = ["status", "source", "agent", "model"];
/// Every status that a task can have.
const STATUS: [&str; 4] = ["created", "running", "completed", "failed"];

type Pairs = Vec<(String, String)>;

#[derive(Serialize)]
struct FlowPage {
    webhooks: Vec<Flow>,
    next: Option<String>,
}

pub(super) async fn list_tasks(
    State(app): State<Arc<App>>,
    query: Result<Query<Pairs>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(pairs) = query.map_err(|_| malformed())?;
    let query = task_query(&pairs)?;
    let page = app
        .blocking(move |app| {
            app.index.catch_up();
            let unknown = |value: &String| !STATUS.contains(&&**value) && !app.index.knows(0, value);
            if query.facets.first().is_some_and(|status| status.iter().any(unknown)) {
                return Err(refuse(format!("`status` is one of {}.", STATUS.join(", "))));
            }
            Ok(app.index.tasks(&query)?)
        })
        .await?;
    Ok(linked("/tasks", &pairs, page.next.as_deref(), Json(&page)))
}

pub(super) async fn list_flows(
    State(app): State<Arc<App>>,
    query: Result<Query<Pairs>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(pairs) = query.map_err(|_| malformed())?;
    let (after, limit) = flow_query(&pairs)?;
    let page = app
        .scan(move |app| {
            app.index.catch_up();
            let page = app.index.flows(after.as_ref(), limit)?;
            let mut webhooks = Vec::with_capacity(page.ids.len());
            for id in &page.ids {
                let folder = app.logs.folder(Shelf::Flows, id)?;
                webhooks.extend(folder.map(|folder| folder.flow(id)).transpose()?.flatten());
            }
            let next = page.ids.last().filter(|_| page.more).map(|id| id.as_str().to_owned());
            Ok(FlowPage { webhooks, next })
        })
        .await?;
    Ok(linked("/webhooks", &pairs, page.next.as_deref(), Json(&page)))
}

fn task_query(pairs: &[(String, String)]) -> Result<TaskQuery, Problem> {
    let mut query = TaskQuery { limit: PAGE, ..TaskQuery::default() };
    let (mut sort, mut after) = (None, None);
    let mut seen: Vec<&str> = Vec::new();
    for (name, value) in pairs {
        if let Some((_, wanted)) = FACETS.iter().zip(&mut query.facets).find(|(facet, _)| *facet == name) {
            // A value may hold a comma itself: then it is one of those that are wanted. No status does.
            let whole = (value.contains(',') && name != "status").then_some(&**value);
            let parts = value.split(',').map(str::trim).chain(whole);
            wanted.extend(parts.filter(|value| !value.is_empty()).map(str::to_owned));
            if wanted.len() > VALUES_MAX {
                return Err(refuse(format!("`{name}` wants more than {VALUES_MAX} values.")));
            }
            continue;
        }
        if seen.contains(&&**name) {
            return Err(refuse("Only `status`, `source`, `agent` and `model` may be given more than once.".to_owned()));
        }
        seen.push(name);
        match &**name {
            "since" => query.since = Some(moment(name, value)?),
            "until" => query.until = Some(moment(name, value)?),
            "q" if value.len() > TEXT_BYTES_MAX => {
                return Err(refuse(format!("`q` is longer than {TEXT_BYTES_MAX} bytes.")));
            }
            "q" => query.text = (!value.is_empty()).then(|| value.clone()),
            "errors" => match &**value {
                "true" => query.errors = Some(true),
                "false" => query.errors = Some(false),
                _ => return Err(refuse("`errors` is true or false.".to_owned())),
            },
            "sort" => sort = Some(sort_of(value)?),
            "limit" => query.limit = limit_of(value)?,
            "after" => after = Some(&**value).filter(|after| !after.is_empty()),
            _ => {
                let known = "status, source, agent, model, since, until, q, errors, sort, limit, after";
                return Err(refuse(format!("Known parameters are {known}.")));
            }
        }
    }
    (query.by, query.descending) = sort.unwrap_or((Field::Created, true));
    let Some(after) = after else { return Ok(query) };
    query.after = Place::parse(after, query.by);
    if query.after.is_none() && sort.is_none() {
        // Who begins behind an id pages by id.
        (query.by, query.descending) = (Field::Id, false);
        query.after = Place::parse(after, Field::Id);
    }
    match query.after {
        Some(_) => Ok(query),
        None => Err(refuse("`after` is what `next` of a page in the same order was.".to_owned())),
    }
}

fn flow_query(pairs: &[(String, String)]) -> Result<(Option<Id>, usize), Problem> {
    let known = "Known parameters are `after` and `limit`, each once.";
    let (mut after, mut limit) = (None, None);
    for (name, value) in pairs {
        match &**name {
            "after" if after.is_none() => after = Some(value),
            "limit" if limit.is_none() => limit = Some(limit_of(value)?),
            _ => return Err(refuse(known.to_owned())),
        }
    }
    let after = after.filter(|after| !after.is_empty()).map(|after| Id::parse(after)).transpose();
    Ok((after.map_err(|why| refuse(format!("`after`: {why}.")))?, limit.unwrap_or(PAGE)))
}

fn sort_of(value: &str) -> Result<(Field, bool), Problem> {
    let (name, descending) = value.strip_prefix('-').map_or((value, false), |name| (name, true));
    let field = Field::ALL.into_iter().find(|field| field.name() == name);
    let field = field.ok_or_else(|| {
        let names = Field::ALL.map(Field::name).join(", ");
        refuse(format!("`sort` is one of {names}, with `-` in front to begin with the greatest."))
    })?;
    Ok((field, descending))
}

fn limit_of(value: &str) -> Result<usize, Problem> {
    match usize::from_str(value) {
        Ok(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
        _ => Err(refuse(format!("`limit` is a number from 1 to {PAGE_MAX}."))),
    }
}

fn moment(name: &str, value: &str) -> Result<Timestamp, Problem> {
    time(value, Timestamp::now()).map_err(|why| refuse(format!("`{name}` {why}.")))
}

fn refuse(detail: String) -> Problem {
    Problem::bad_request("bad_query", detail)
}

fn malformed() -> Problem {
    refuse("The query is no list of NAME=VALUE.".to_owned())
}

/// How many tasks and how many flows a query asks for, if it may.
#[cfg(test)]
pub(crate) fn limits_of_query(uri: &axum::http::Uri) -> [Option<usize>; 2] {
    let Ok(Query(pairs)) = Query::<Pairs>::try_from_uri(uri) else { return [None, None] };
    [task_query(&pairs).ok().map(|query| query.limit), flow_query(&pairs).ok().map(|(_, limit)| limit)]
}

/// Adds where the next page is: the same query behind another place.
fn linked(path: &str, pairs: &[(String, String)], next: Option<&str>, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let Some(next) = next else { return response };
    let same = pairs.iter().filter(|(name, _)| name != "after").map(|(name, value)| (&**name, &**value));
    let query: Vec<_> =
        same.chain([("after", next)]).map(|(name, value)| format!("{name}={}", in_query(value))).collect();
    if let Ok(link) = HeaderValue::try_from(format!("<{path}?{}>; rel=\"next\"", query.join("&"))) {
        headers.insert(header::LINK, link);
    }
    response
}

/// Percent-encoded for a query's value.
fn in_query(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().fold(String::new(), |mut out, byte| {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}
