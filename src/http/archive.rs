//! `GET /tasks/{id}/archive`: all of a task's files as one, made while it is sent. A client that takes nothing holds a piece of it
//! and no thread; one that is gone ends the work.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;
use xxhash_rust::xxh3::Xxh3Default;

use super::{
    App,
    body::{Feed, fed},
    conditions::{Comparison, is_listed},
    files::disposition,
    problem::Problem,
    query::{Asked, FILTERS},
    records::{IdPath, Pairs, pairs, task},
};
use crate::reader::{Archive, Format, Shelf};

/// What chooses the format, beside the filters.
const FORMAT: &str = "format";

pub(super) async fn of_task(
    State(app): State<Arc<App>>,
    id: IdPath,
    query: Pairs,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (format, asked) = asked(pairs(query)?)?;
    let id = task(id)?;
    let Ok(place) = Arc::clone(&app.archives).try_acquire_owned() else {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Too many archives are being made.");
        return Err(problem.with(header::RETRY_AFTER, HeaderValue::from_static("5")));
    };
    let name = disposition(&id, &format!("logs.{}", format.name()));
    let opened = app.blocking(move |app| {
        let folder = app.logs.folder(Shelf::Tasks, &id)?.ok_or_else(Problem::task_not_found)?;
        let etag = format!("{format:?} {:?} {:?}", asked.files, asked.filter);
        let archive = Archive::open(folder, &id.dir_name(), format, &asked.files, asked.filter)?;
        Ok((tag(&etag, &archive), archive))
    });
    let (etag, archive) = opened.await?;
    let mut meta = HeaderMap::new();
    // Weak: another version of the service may pack the same files into other bytes.
    meta.insert(header::ETAG, HeaderValue::try_from(format!("W/{etag}")).unwrap_or(HeaderValue::from_static("")));
    meta.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if is_listed(&headers, &header::IF_NONE_MATCH, &etag, Comparison::Weak) == Some(true) {
        return Ok((StatusCode::NOT_MODIFIED, meta).into_response());
    }
    meta.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(format)));
    meta.insert(header::CONTENT_DISPOSITION, name);
    Ok((meta, pack(&app, archive, place)).into_response())
}

fn pack(app: &Arc<App>, archive: Archive, place: OwnedSemaphorePermit) -> Body {
    let (feed, body) = fed();
    tokio::spawn(feed_from(Arc::clone(app), archive, feed, place));
    body
}

/// Packs the next piece while the client takes the one before. Something that cannot be read breaks the connection.
async fn feed_from(app: Arc<App>, mut archive: Archive, feed: Feed, _place: OwnedSemaphorePermit) {
    loop {
        let packed = app.blocking(move |_| {
            let piece = archive.piece();
            Ok((archive, piece?))
        });
        let Ok((same, piece)) = packed.await else { return };
        archive = same;
        let Some(piece) = piece else { return feed.end().await };
        // Nothing yet: only whether the client is still there.
        if feed.is_gone() || !piece.is_empty() && !feed.piece(Bytes::from(piece)).await {
            return;
        }
    }
}

/// The format and which files and records are asked for.
fn asked(mut pairs: Vec<(String, String)>) -> Result<(Format, Asked), Problem> {
    let refuse = |detail| Problem::bad_request("bad_query", detail);
    let mut formats = pairs.extract_if(.., |(name, _)| name == FORMAT).map(|(_, name)| Format::parse(&name));
    let format = formats.next().unwrap_or(Some(Format::TarGz));
    let format = format.ok_or_else(|| refuse("`format` is tar.gz, tar.zst or zip."))?;
    if formats.next().is_some() {
        return Err(refuse("`format` may be given once."));
    }
    drop(formats);
    Ok((format, Asked::read(&pairs, &[&FILTERS, &[FORMAT]], Timestamp::now())?))
}

/// An entity tag of what was asked for and of which versions of the files there are.
fn tag(asked: &str, archive: &Archive) -> String {
    let mut hasher = Xxh3Default::new();
    asked.hash(&mut hasher);
    archive.versions().for_each(|version| version.hash(&mut hasher));
    format!("\"{:016x}\"", hasher.finish())
}

fn content_type(format: Format) -> &'static str {
    match format {
        Format::TarGz => "application/gzip",
        Format::TarZst => "application/zstd",
        Format::Zip => "application/zip",
    }
}
