//! The page at `/`: HTML, style sheets and scripts as they stand in `src/page`, embedded in the binary.
//!
//! The list of files stands here, so no build step and no crate walks a folder; a test compares the two. All of them share one
//! digest, which stands in the URLs that the HTML names: what is cached under it never changes, and scripts of two versions never
//! meet. The page's own files are served to anybody, its data is not (see [`super::guard`]).

use std::sync::LazyLock;

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use sha2::{Digest, Sha256};

use super::problem::Problem;

/// Whatever a log makes the page show: no script but the page's own runs, nothing is asked of another origin.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types parse-worker";
/// Characters of the digest in a URL.
const DIGEST_CHARS: usize = 16;
/// Under a URL with the digest of what it answers.
const FOREVER: &str = "public, max-age=31536000, immutable";
/// Under any other.
const ASK_AGAIN: &str = "no-cache";

macro_rules! assets {
    ($($name:literal)*) => {
        &[$(Asset { name: $name, bytes: include_bytes!(concat!("../page/", $name)) }),*]
    };
}

/// Every file of `src/page` but the HTML.
static ASSETS: &[Asset] = assets! {
    "ansi.js" "api.js" "app.js" "base.css" "bodies.js" "conversation.js" "dom.js" "feed.js" "format.js" "icon.svg" "index-row.js"
    "index-view.js" "index.css" "items.js" "markdown.js" "menu.js" "parse-worker.js" "parse.js" "plugins-view.js" "preferences.js"
    "record.js" "route.js" "rows.css" "search-view.js" "status.js" "task-bar.js" "task-details.js" "task-edges.js"
    "task-facts.js" "task-find.js" "task-finder.js" "task-head.js" "task-open.js" "task-reader.js" "task-view.js"
    "task-window.js" "task.css" "text.js" "theme.js" "timeline.js" "virtual-list.js" "webhook.js"
};
const HTML: &str = include_str!("../page/index.html");

static PAGE: LazyLock<Page> = LazyLock::new(Page::new);

struct Asset {
    name: &'static str,
    bytes: &'static [u8],
}

struct Page {
    /// Of all files together.
    digest: String,
    /// With the digest in its URLs.
    html: String,
}

/// The page's routes.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(html))
        .route("/page/{name}", get(|Path(name): Path<String>, headers: HeaderMap| asset(None, name, headers)))
        .route(
            "/page/{digest}/{name}",
            get(|Path((digest, name)): Path<(String, String)>, headers: HeaderMap| asset(Some(digest), name, headers)),
        )
}

async fn html(headers: HeaderMap) -> Response {
    answer("text/html; charset=utf-8", PAGE.html.as_bytes(), ASK_AGAIN, &headers)
}

async fn asset(digest: Option<String>, name: String, headers: HeaderMap) -> Response {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    let is_form = |digest: &String| digest.len() == DIGEST_CHARS && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let Some(asset) = asset.filter(|_| digest.as_ref().is_none_or(is_form)) else {
        return Problem::new(StatusCode::NOT_FOUND, "no_such_route", "There is nothing under this path.")
            .into_response();
    };
    // A page of another version that is still open, or a replica of one: it gets what there is, but must not keep it.
    let caching = if digest.is_some_and(|digest| digest == PAGE.digest) { FOREVER } else { ASK_AGAIN };
    answer(content_type(asset.name), asset.bytes, caching, &headers)
}

fn answer(content_type: &'static str, bytes: &'static [u8], caching: &'static str, headers: &HeaderMap) -> Response {
    let etag = format!("\"{}\"", hex(&Sha256::digest(bytes)));
    let fixed = HeaderValue::from_static;
    let tag = HeaderValue::from_str(&etag).unwrap_or(fixed(""));
    let meta: [(HeaderName, HeaderValue); 5] = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, fixed(caching)),
        (header::CONTENT_SECURITY_POLICY, fixed(POLICY)),
        (header::REFERRER_POLICY, fixed("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
    ];
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    // A proxy that compressed it may have made the tag a weak one.
    let same = |known: &str| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag;
    if known.is_some_and(|known| known.split(',').map(str::trim).any(same)) {
        return (StatusCode::NOT_MODIFIED, meta).into_response();
    }
    (meta, [(header::CONTENT_TYPE, fixed(content_type))], bytes).into_response()
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

// === impl Page ===

impl Page {
    fn new() -> Self {
        let mut all = Sha256::new();
        for asset in ASSETS {
            // Names and lengths too: a file that moves its end into the next one is another page.
            all.update(format!("{} {}\n", asset.name, asset.bytes.len()));
            all.update(asset.bytes);
        }
        let mut digest = hex(&all.finalize());
        digest.truncate(DIGEST_CHARS);
        let html = HTML.replace("/page/@/", &format!("/page/{digest}/"));
        Self { digest, html }
    }
}

fn hex(bytes: &[u8]) -> String {
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    halves.filter_map(|half| char::from_digit(u32::from(half), 16)).collect()
}
