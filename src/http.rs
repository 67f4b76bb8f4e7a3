//! The HTTP edge: what it serves, to whom, and within which bounds.
//!
//! | route | answer |
//! |---|---|
//! | `GET /health` | 200, or 503 when a thread of the data path stands still |
//! | `GET /ready`, `GET /ready?write` | 200 when logs can be read, when events are being taken in |
//! | `GET /metrics` | JSON, or the Prometheus text format by `Accept` or `?format=prometheus` |
//! | `GET /tasks` | tasks from the index: filters, orders, a page at a time |
//! | `GET /tasks/events` | tasks that appear, change or go, by server-sent events |
//! | `GET /tasks/{id}` | a task at a glance |
//! | `GET /webhooks` | flows that have not joined a task, a page at a time: `?after=ID&limit=N` |
//! | `GET /tasks/{id}/logs` | all standard files in one object; with parameters records, in pages or streamed |
//! | `GET /tasks/{id}/stream` | records as they come, by server-sent events or lines |
//! | `GET /tasks/{id}/counts` | how many records there are of each sort, and how many a filter wants |
//! | `GET /search` | records of all tasks that hold a text |
//! | `GET /tasks/{id}/files`, `GET /webhooks/{id}/files` | names, sizes, times |
//! | `GET /tasks/{id}/files/{name}`, `GET /webhooks/{id}/files/{name}` | a file as it stands, with ranges; live ones too |
//! | `GET /tasks/{id}/archive` | all files in one: `?format=tar.gz`, `tar.zst` or `zip` |
//! | `GET /` | the page for people; its files are under `/page` |
//! | `GET /plugins`, `POST /plugins/{name}/forget` | the plugin host's report; lifting a requirement |
//! | `GET /openapi.json`, `GET /docs` | what there is to ask, for programs and for people |
//! | `POST /events` | appends to the stream, answers the ids |
//!
//! Every error but the spec's 404 is `application/problem+json` with a stable `code`; none repeats a producer's text. Work on
//! files and on the stream runs on blocking threads.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    routing::{get, post},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    bell::Bell,
    metrics::Recorder,
    reader::{Index, Logs},
    source::Stream,
    status::Status,
};

mod archive;
mod bare;
mod body;
mod clients;
mod conditions;
mod connection;
mod encoding;
mod events;
mod files;
mod firehose;
mod follow;
mod guard;
mod lists;
mod live;
mod manners;
mod openapi;
mod operations;
mod page;
mod pieces;
mod problem;
mod query;
mod range;
mod records;
mod search;
mod tasks;

use problem::Problem;

pub use connection::serve;
pub use guard::Access;

/// The plugin host as this module sees it.
pub trait PluginView: Send + Sync {
    /// Everything `GET /plugins` answers.
    fn report(&self) -> serde_json::Value;
    /// Lifts the requirement of a plugin by its manifest name; `Ok(false)`: none of that name was required. The error is for
    /// people.
    fn forget(&self, name: &str) -> Result<bool, String>;
}

/// What the routes need.
pub struct HttpParts {
    /// `LOGS_DIR`; need not exist yet.
    pub logs_dir: PathBuf,
    /// The index of the tasks in it.
    pub index: Index,
    /// What the data path says of itself.
    pub status: Arc<Status>,
    /// Hints that a task's files have changed.
    pub bell: Arc<Bell>,
    /// Where `POST /events` appends.
    pub stream: Arc<dyn Stream>,
    /// The plugin host.
    pub plugins: Arc<dyn PluginView>,
    /// Whom HTTP serves.
    pub access: Access,
    /// The recorder behind `GET /metrics`.
    pub metrics: Recorder,
    /// Bounds; [`Limits::default`] outside tests.
    pub limits: Limits,
}

/// The bounds of the HTTP edge.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Time for a request's head to arrive, and for a kept connection to ask again.
    pub head_time: Duration,
    /// Time between two pieces of a request's body.
    pub body_idle: Duration,
    /// Time for a request's whole body.
    pub body_time: Duration,
    /// Time in which a client must take some of an answer.
    pub write_stall: Duration,
    /// Time for open requests to finish when the service stops.
    pub drain: Duration,
    /// Bytes of a `POST /events` body: four of the largest events.
    pub events_body: usize,
    /// Bytes of all `POST /events` bodies that are being received or appended.
    pub events_in_flight: usize,
    /// Events in one `POST /events`.
    pub events: usize,
    /// Bytes of the files that `GET /tasks/{id}/logs` puts into one answer; larger tasks are read by `/files`.
    pub logs_body: u64,
    /// Requests that read through whole files or folders at the same time.
    pub scans: usize,
    /// Open streams that follow something.
    pub streams: usize,
    /// Time that one scan for numbers or for a text may take; what was found until then is the answer.
    pub scan_time: Duration,
    /// Answers of unknown length that one client may have open.
    pub client_streams: usize,
    /// Of `scans`, what one client may have.
    pub client_scans: usize,
    /// Archives that are being made at the same time: each has its files open, and a compressor.
    pub archives: usize,
    /// A thread of the data path that has work and has not moved for so long makes `/health` answer 503.
    pub standstill: Duration,
}

/// State of all handlers.
struct App {
    logs: Logs,
    index: Index,
    logs_dir: PathBuf,
    status: Arc<Status>,
    stream: Arc<dyn Stream>,
    plugins: Arc<dyn PluginView>,
    metrics: Recorder,
    guard: guard::Guard,
    clients: clients::Clients,
    limits: Limits,
    body_bytes: Arc<Semaphore>,
    scans: Arc<Semaphore>,
    bell: Arc<Bell>,
    streams: Arc<Semaphore>,
    followers: follow::Followers,
    archives: Arc<Semaphore>,
    /// What follows a task ends when this is cancelled.
    stop: CancellationToken,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: connections_max(),
            head_time: Duration::from_secs(15),
            body_idle: Duration::from_secs(15),
            body_time: Duration::from_secs(120),
            write_stall: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            events_body: 64 << 20,
            events_in_flight: 128 << 20,
            events: 100_000,
            logs_body: 256 << 20,
            scans: 8,
            streams: connections_max() / 4 * 3,
            scan_time: Duration::from_secs(10),
            client_streams: 256,
            client_scans: 4,
            archives: 16,
            standstill: Duration::from_secs(30),
        }
    }
}

/// So many that people who follow tasks do not stand in each other's way, and that task files keep their half of what the process
/// may open.
fn connections_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(65_536);
    usize::try_from(limit / 2).unwrap_or(usize::MAX).saturating_sub(64).clamp(64, 2048)
}

// === impl App ===

impl App {
    /// Runs work that blocks on a blocking thread.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let app = Arc::clone(self);
        let span = tracing::Span::current();
        match tokio::task::spawn_blocking(move || span.in_scope(|| work(&app))).await {
            Ok(done) => done,
            Err(error) => Err(Problem::internal("finish", &error)),
        }
    }

    /// The same for work that reads through whole files or folders; only so many at a time.
    async fn scan<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        // First among the client's own, so that one client does not keep others waiting.
        let own = clients::scan().await;
        let place = Arc::clone(&self.scans).acquire_owned().await;
        let place = place.map_err(|error| Problem::internal("wait", &error))?;
        self.blocking(move |app| {
            let done = work(app);
            // Freed by the thread itself: a client that goes away does not end the work.
            drop((place, own));
            done
        })
        .await
    }
}

// === impl Router ===

/// All routes with everything around them.
fn router(parts: HttpParts, stop: CancellationToken) -> Router {
    let app = Arc::new(App {
        logs: Logs::new(parts.logs_dir.clone()),
        index: parts.index,
        logs_dir: parts.logs_dir,
        status: parts.status,
        stream: parts.stream,
        plugins: parts.plugins,
        metrics: parts.metrics,
        guard: guard::Guard::new(parts.access),
        clients: clients::Clients::new(parts.limits.client_streams, parts.limits.client_scans),
        body_bytes: Arc::new(Semaphore::new(parts.limits.events_in_flight)),
        scans: Arc::new(Semaphore::new(parts.limits.scans)),
        bell: parts.bell,
        streams: Arc::new(Semaphore::new(parts.limits.streams)),
        followers: follow::Followers::default(),
        archives: Arc::new(Semaphore::new(parts.limits.archives)),
        limits: parts.limits,
        stop,
    });
    let routes = Router::new()
        .route("/health", get(operations::health))
        .route("/ready", get(operations::ready))
        .route("/metrics", get(operations::metrics))
        .route("/plugins", get(operations::plugins))
        .route("/plugins/{name}/forget", post(operations::forget_plugin))
        .route("/tasks", get(lists::list_tasks))
        .route("/tasks/events", get(firehose::task_events))
        .route("/tasks/{id}", get(tasks::task))
        .route("/tasks/{id}/logs", get(records::logs))
        .route("/tasks/{id}/stream", get(records::stream))
        .route("/tasks/{id}/counts", get(records::counts))
        .route("/tasks/{id}/files", get(files::list_of_task))
        .route("/tasks/{id}/files/{name}", get(files::of_task))
        .route("/tasks/{id}/archive", get(archive::of_task))
        .route("/search", get(search::search))
        .route("/webhooks", get(lists::list_flows))
        .route("/webhooks/{id}/files", get(files::list_of_flow))
        .route("/webhooks/{id}/files/{name}", get(files::of_flow))
        .route("/events", post(events::append))
        .route("/openapi.json", get(openapi::json))
        .route("/docs", get(openapi::docs))
        .merge(page::routes())
        .fallback(manners::no_such_route)
        .method_not_allowed_fallback(manners::wrong_method)
        .with_state(Arc::clone(&app));
    manners::around(routes, app)
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
pub(crate) use self::{
    lists::limits_of_query,
    range::{Wanted, wanted},
};
