//! A task's or flow's files: the list, and each file as it stands, in whole or a range of it, streamed; with `?etag=` one version
//! of it alone, with `?download` under a name to save it.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State, rejection::PathRejection, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    App,
    bare::Bare,
    body::Pulled,
    conditions::{Verdict, judge, range_fits},
    live::follow,
    problem::Problem,
    range::{Wanted, is_open_ended, live, wanted},
};
use crate::{
    event::Id,
    layout,
    reader::{Folder, Growing, PublicFile, Shelf},
};

/// Characters of an id, and of a file's name, in the name to save under.
const NAME_CHARS_MAX: usize = 100;

/// A file is never a page of this service: whatever it holds, a browser runs nothing of it.
const INERT: &str = "default-src 'none'; sandbox";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileQuery {
    etag: Option<String>,
    download: Option<String>,
}

/// An opened file of an opened folder.
struct Opened {
    id: Id,
    folder: Folder,
    file: PublicFile,
    /// Whether its task has not ended and it holds records.
    grows: bool,
}

pub(super) async fn list_of_task(
    State(app): State<Arc<App>>,
    _: Bare,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    list(&app, Shelf::Tasks, id).await
}

pub(super) async fn list_of_flow(
    State(app): State<Arc<App>>,
    _: Bare,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    list(&app, Shelf::Flows, id).await
}

pub(super) async fn of_task(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<FileQuery>, QueryRejection>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    file(&app, Shelf::Tasks, path, query, &method, &headers).await
}

pub(super) async fn of_flow(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<FileQuery>, QueryRejection>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    file(&app, Shelf::Flows, path, query, &method, &headers).await
}

async fn list(app: &Arc<App>, shelf: Shelf, id: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let Some(id) = id.ok().and_then(|Path(id)| Id::parse(&id).ok()) else { return Err(no_folder(shelf)) };
    let files = app
        .scan(move |app| match app.logs.folder(shelf, &id)? {
            Some(folder) => Ok(Some(folder.files()?)),
            None => Ok(None),
        })
        .await?;
    let files = files.ok_or_else(|| no_folder(shelf))?;
    Ok(([(header::CACHE_CONTROL, "no-cache")], Json(json!({"files": files}))).into_response())
}

async fn file(
    app: &Arc<App>,
    shelf: Shelf,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<FileQuery>, QueryRejection>,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let Ok(Path((id, name))) = path else { return Err(no_folder(shelf)) };
    let Ok(id) = Id::parse(&id) else { return Err(no_folder(shelf)) };
    let query = query.map_err(|_| unknown())?.0;
    let download = query.is_download()?.then(|| disposition(&id, &name));
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    // Flows end by joining a task, which removes their files.
    let may_grow = shelf == Shelf::Tasks && layout::is_record_file(&name) && range.is_some();
    let opened = app.blocking(move |app| {
        let Some(folder) = app.logs.folder(shelf, &id)? else { return Err(no_folder(shelf)) };
        let no_file = || Problem::new(StatusCode::NOT_FOUND, "file_not_found", "There is no such file.");
        let grows = may_grow && folder.ended()?.is_none();
        let file = folder.open(&name)?.ok_or_else(no_file)?;
        Ok(Opened { id, folder, file, grows })
    });
    let opened = opened.await?;
    let mut meta = meta(&opened.file, query.etag.as_deref())?;
    if let Some(download) = download {
        meta.insert(header::CONTENT_DISPOSITION, download);
    }
    let etag = opened.file.etag();
    match judge(headers, &etag, modified(&opened.file)) {
        Verdict::Holds => {}
        Verdict::Known => return Ok((StatusCode::NOT_MODIFIED, meta).into_response()),
        Verdict::Fails => {
            let detail = "The file is not the version that the condition names.";
            return Err(Problem::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", detail));
        }
    }
    meta.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    meta.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(opened.file.name())));
    meta.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(INERT));
    // A range of another version than the client has would not fit what it has. `HEAD` has ranges for what grows only.
    let ranged = (method == Method::GET || opened.grows) && range_fits(headers, &etag);
    send(app, opened, range.filter(|_| ranged).as_deref(), meta)
}

/// The file, or the range of it, that is asked for.
fn send(app: &Arc<App>, opened: Opened, range: Option<&str>, mut meta: HeaderMap) -> Result<Response, Problem> {
    let Opened { id, folder, file, grows } = opened;
    let len = file.len();
    if let Some((first, last)) = range.filter(|_| grows).and_then(live)
        && first <= len
    {
        meta.insert(header::CONTENT_RANGE, fixed(&format!("bytes {first}-{last}/*")));
        meta.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let body = follow(app, id, Growing::new(folder, file, first));
        return Ok((StatusCode::PARTIAL_CONTENT, meta, body).into_response());
    }
    let (status, start, end) = match range.map_or(Wanted::All, |range| wanted(range, len)) {
        Wanted::All => (StatusCode::OK, 0, len),
        Wanted::Part(start, end) => {
            // An unknown length tells the client that it may ask for a live range.
            let total = match grows && range.is_some_and(is_open_ended) {
                true => "*".to_owned(),
                false => len.to_string(),
            };
            meta.insert(header::CONTENT_RANGE, fixed(&format!("bytes {start}-{}/{total}", end - 1)));
            (StatusCode::PARTIAL_CONTENT, start, end)
        }
        Wanted::Unsatisfiable => {
            let detail = format!("The file has {len} bytes.");
            let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", detail);
            return Err(problem.with(header::CONTENT_RANGE, fixed(&format!("bytes */{len}"))));
        }
    };
    meta.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    let body = Body::new(Pulled::new(Box::new(file.section(start, end)), end - start));
    Ok((status, meta, body).into_response())
}

/// What every answer says of the file. With `asked`, the version in the address, a client may keep it for ever: there is no other
/// at this address. That the version is gone is a 404 and no 412: nothing was asked on a condition.
fn meta(file: &PublicFile, asked: Option<&str>) -> Result<HeaderMap, Problem> {
    let etag = file.etag();
    let cache = match asked {
        None => "no-cache",
        Some(asked) if asked.trim_matches('"') == etag.trim_matches('"') => "max-age=31536000, immutable",
        Some(_) => {
            let detail = "The file has changed since: this version of it is gone.";
            return Err(Problem::new(StatusCode::NOT_FOUND, "version_not_found", detail));
        }
    };
    let mut meta = HeaderMap::new();
    meta.insert(header::ETAG, fixed(&etag));
    meta.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    meta.insert(header::LAST_MODIFIED, fixed(&httpdate::fmt_http_date(modified(file))));
    Ok(meta)
}

/// When it changed; never in the future, whatever clock the file's time is from.
fn modified(file: &PublicFile) -> SystemTime {
    SystemTime::try_from(file.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH)
        .clamp(SystemTime::UNIX_EPOCH, SystemTime::now())
}

/// A name that is safe to save under, wherever: of the task's id only letters, digits, `.`, `_` and `-`.
pub(super) fn disposition(id: &Id, name: &str) -> HeaderValue {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let id: String = id.as_str().chars().take(NAME_CHARS_MAX).map(plain).collect();
    let name: String = name.chars().take(NAME_CHARS_MAX).map(plain).collect();
    fixed(&format!("attachment; filename=\"{}-{name}\"", id.trim_start_matches('.')))
}

fn fixed(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

fn unknown() -> Problem {
    Problem::bad_request("bad_query", "Known parameters are `etag` and `download`, each once.")
}

// === impl FileQuery ===

impl FileQuery {
    fn is_download(&self) -> Result<bool, Problem> {
        match self.download.as_deref() {
            None | Some("0" | "false") => Ok(false),
            Some("" | "1" | "true") => Ok(true),
            Some(_) => Err(unknown()),
        }
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("json") => "application/json",
        Some("jsonl" | "ndjson") => "application/x-ndjson",
        Some("md") => "text/markdown; charset=utf-8",
        Some("csv") => "text/csv; charset=utf-8",
        Some("txt" | "log") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn no_folder(shelf: Shelf) -> Problem {
    match shelf {
        Shelf::Tasks => Problem::task_not_found(),
        Shelf::Flows => Problem::new(StatusCode::NOT_FOUND, "flow_not_found", "Webhook flow not found"),
    }
}
