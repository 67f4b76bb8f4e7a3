//! What there is to ask, for programs and for people: `/openapi.json`, and `/docs`, a page without scripts that is made from it.
//! A test holds the document against the routes and against the parameters that they take.

use std::sync::LazyLock;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{
    bare::Bare,
    conditions::{Comparison, is_listed},
};

/// The document as it stands in the source; its version is filled in.
pub(super) const SOURCE: &str = include_str!("openapi.json");
const STYLE: &str = include_str!("docs.css");
/// Methods in the order in which the page shows them.
const METHODS: [&str; 2] = ["get", "post"];

/// Something that is the same as long as the service runs.
struct Fixed {
    body: Bytes,
    etag: String,
}

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document: Value = serde_json::from_str(SOURCE).unwrap_or_default();
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document
});
static JSON: LazyLock<Fixed> = LazyLock::new(|| Fixed::new(DOCUMENT.to_string()));
static PAGE: LazyLock<Fixed> = LazyLock::new(|| Fixed::new(page(&DOCUMENT)));
/// Nothing is loaded and nothing runs; the one style is known by its digest.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

pub(super) async fn json(_: Bare, headers: HeaderMap) -> Response {
    JSON.answer("application/json", &headers)
}

pub(super) async fn docs(_: Bare, headers: HeaderMap) -> Response {
    let mut response = PAGE.answer("text/html; charset=utf-8", &headers);
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

// === impl Fixed ===

impl Fixed {
    fn new(text: String) -> Self {
        let etag = format!("\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(text.as_bytes()));
        Self { body: text.into(), etag }
    }

    fn answer(&self, content_type: &'static str, headers: &HeaderMap) -> Response {
        let mut meta = HeaderMap::new();
        meta.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        meta.extend(HeaderValue::from_str(&self.etag).ok().map(|etag| (header::ETAG, etag)));
        if is_listed(headers, &header::IF_NONE_MATCH, &self.etag, Comparison::Weak) == Some(true) {
            return (StatusCode::NOT_MODIFIED, meta).into_response();
        }
        meta.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        (meta, Body::from(self.body.clone())).into_response()
    }
}

/// The page. Its texts are the document's, and are escaped all the same.
fn page(document: &Value) -> String {
    let info = &document["info"];
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title} API</title>\n<style>{STYLE}</style>\n<main>\n<h1>{title} <small>{version}</small></h1>\n<p>{about}</p>\n\
         <p>For programs: <a href=\"openapi.json\">openapi.json</a></p>\n",
        title = escaped(text(&info["title"])),
        version = escaped(text(&info["version"])),
        about = rich(text(&info["description"])),
    );
    for tag in document["tags"].as_array().into_iter().flatten() {
        let name = text(&tag["name"]);
        page.push_str(&format!(
            "<h2 id=\"{0}\">{0}</h2>\n<p>{1}</p>\n",
            escaped(name),
            rich(text(&tag["description"]))
        ));
        for (path, operations) in members(&document["paths"]) {
            for method in METHODS {
                let operation = &operations[method];
                if operation["tags"][0].as_str() == Some(name) {
                    push_operation(&mut page, document, method, path, operation);
                }
            }
        }
    }
    page.push_str("</main>\n</html>\n");
    page
}

fn push_operation(page: &mut String, document: &Value, method: &str, path: &str, operation: &Value) {
    page.push_str(&format!(
        "<details id=\"{}\">\n<summary><code>{} {}</code> {}</summary>\n",
        escaped(text(&operation["operationId"])),
        method.to_uppercase(),
        escaped(path),
        rich(text(&operation["summary"])),
    ));
    if let Some(about) = operation["description"].as_str() {
        page.push_str(&format!("<p>{}</p>\n", rich(about)));
    }
    let parameters =
        operation["parameters"].as_array().into_iter().flatten().map(|parameter| resolved(document, parameter));
    let rows: String = parameters
        .map(|parameter| {
            let (name, place) = (escaped(text(&parameter["name"])), escaped(text(&parameter["in"])));
            let (takes, about) = (takes(&parameter["schema"]), rich(text(&parameter["description"])));
            format!("<tr><th scope=\"row\"><code>{name}</code><td>{place}<td>{takes}<td>{about}\n")
        })
        .collect();
    if !rows.is_empty() {
        page.push_str(&format!("<table><caption>Parameters</caption>\n{rows}</table>\n"));
    }
    page.push_str("<table><caption>Answers</caption>\n");
    for (status, answer) in members(&operation["responses"]) {
        let answer = resolved(document, answer);
        let kinds: Vec<_> =
            members(&answer["content"]).map(|(kind, _)| format!("<code>{}</code>", escaped(kind))).collect();
        let about = rich(text(&answer["description"]));
        page.push_str(&format!("<tr><th scope=\"row\">{}<td>{}<td>{about}\n", escaped(status), kinds.join("<br>")));
    }
    page.push_str("</table>\n</details>\n");
}

/// What a parameter takes, in words.
fn takes(schema: &Value) -> String {
    let list = &schema["items"];
    let one = if list.is_object() { list } else { schema };
    let mut words = match one["enum"].as_array() {
        Some(values) => {
            let values = values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            values.filter(|value| !value.is_empty()).map(|value| escaped(&value)).collect::<Vec<_>>().join(", ")
        }
        None => escaped(text(&one["type"])),
    };
    if list.is_object() {
        words.push_str(" …");
    }
    if let (Some(least), Some(most)) = (one["minimum"].as_u64(), one["maximum"].as_u64()) {
        words.push_str(&format!(" {least}–{most}"));
    }
    words
}

/// What a reference stands for.
fn resolved<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    let place = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    place.and_then(|place| document.pointer(place)).unwrap_or(value)
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(name, value)| (name.as_str(), value))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Text with `code` between backquotes.
fn rich(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(|(at, part)| if at % 2 == 1 { format!("<code>{}</code>", escaped(part)) } else { escaped(part) })
        .collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_document_says_is_text_on_the_page() {
        let evil = "<script>alert(1)</script>\"'&`<b>`";
        let document = serde_json::json!({
            "info": {"title": evil, "version": evil, "description": evil},
            "tags": [{"name": evil, "description": evil}],
            "paths": {evil: {"get": {
                "tags": [evil], "operationId": evil, "summary": evil, "description": evil,
                "parameters": [{"name": evil, "in": evil, "description": evil, "schema": {"type": evil, "enum": [evil]}}],
                "responses": {evil: {"description": evil, "content": {evil: {}}}},
            }}},
        });
        let page = page(&document);
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
        assert!(page.contains("<code>&lt;b&gt;</code>") && !page.contains("id=\"\""), "{page}");
    }

    #[test]
    fn the_policy_names_the_style_that_the_page_has() {
        let page = std::str::from_utf8(&PAGE.body).unwrap();
        let style = page.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>")).unwrap().0;
        assert!(POLICY.contains(&BASE64_STANDARD.encode(Sha256::digest(style))));
    }
}
