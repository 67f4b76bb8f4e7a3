//! The page: its files, how they are cached, who may have them, what they may do.

use super::*;

/// What the HTML names.
fn named(html: &str) -> Vec<String> {
    let parts = html.split('"').filter(|part| part.starts_with("/page/"));
    parts.map(str::to_owned).collect()
}

#[test]
fn the_page_and_all_that_it_names_are_there() {
    let service = Service::start();
    let page = service.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.text().starts_with("<!doctype html>"));
    assert!(!page.text().contains("/@/"));
    let named = named(&page.text());
    assert!(named.len() >= 5, "{named:?}");
    for url in named {
        let asset = service.get(&url);
        assert_eq!(asset.status, 200, "{url}");
        assert_eq!(asset.header("cache-control"), "public, max-age=31536000, immutable", "{url}");
    }
}

#[test]
fn every_file_of_the_folder_is_served_and_small() {
    let service = Service::start();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page");
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() <= 500, "{name} is too long");
        files += 1;
        if name == "index.html" {
            continue;
        }
        let asset = service.get(&format!("/page/{name}"));
        // Not by `assert_eq`: nobody wants to read both files.
        let is_same = asset.status == 200 && asset.text() == text;
        assert!(is_same, "{name} is not in the list of src/http/page.rs, or is stale");
        let kind = match name.rsplit_once('.').unwrap().1 {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            other => panic!("{other}"),
        };
        assert_eq!(asset.header("content-type"), kind, "{name}");
        assert_eq!(asset.header("cache-control"), "no-cache", "{name}");
    }
    assert!(files > 20);
}

#[test]
fn nothing_in_the_page_parses_html_or_runs_text() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for banned in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "createContextualFragment",
            "srcdoc",
            "eval(",
            "new Function",
            "style=\"",
            "onclick=",
            "https://",
            "localStorage.setItem(KEY",
        ] {
            assert!(!text.contains(banned), "{} in {}", banned, path.display());
        }
    }
}

#[test]
fn an_unchanged_file_is_not_sent_again() {
    let service = Service::start();
    for path in ["/", "/page/app.js"] {
        let first = service.get(path);
        let etag = first.header("etag").to_owned();
        assert!(etag.len() == 66 && etag.starts_with('"'), "{etag}");
        assert_eq!(first.header("cache-control"), "no-cache");
        for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            let again = service.ask("GET", path, &[("If-None-Match", &known)], b"");
            // Weak again for who has it compressed.
            let same = again.header("etag").trim_start_matches("W/") == etag;
            assert!(again.status == 304 && again.body.is_empty() && same, "{known}: {again:?}");
        }
        assert_eq!(service.ask("GET", path, &[("If-None-Match", "\"x\"")], b"").status, 200);
        let head = service.ask("HEAD", path, &[], b"");
        assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, &*etag));
    }
}

#[test]
fn a_digest_of_another_version_is_answered_but_not_kept() {
    let service = Service::start();
    let other = service.get("/page/0123456789abcdef/app.js");
    assert_eq!((other.status, other.header("cache-control")), (200, "no-cache"));
    for path in ["/page/0123456789abcde/app.js", "/page/0123456789abcdeg/app.js", "/page/x/app.js", "/page/@/app.js"] {
        service.get(path).is_problem(404, "no_such_route");
    }
}

#[test]
fn nothing_else_is_under_the_page() {
    let service = Service::start();
    for path in [
        "/page",
        "/page/",
        "/page/nothing.js",
        "/page/index.html",
        "/page/..%2fhttp.rs",
        "/page/%2e%2e/page.rs",
        "/page/app.js/x",
        "/page/app.js%00",
        "/page/APP.JS",
        "/page/0123456789abcdef/..%2f..%2fhttp.rs",
    ] {
        service.get(path).is_problem(404, "no_such_route");
    }
    service.post("/", b"x").is_problem(405, "wrong_method");
    service.post("/page/app.js", b"x").is_problem(405, "wrong_method");
}

#[test]
fn the_policy_lets_nothing_in_from_elsewhere() {
    let service = Service::start();
    for path in ["/", "/page/app.js", "/page/icon.svg"] {
        let answer = service.get(path);
        let policy = answer.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.split("; ").any(|each| each == part), "{part} in {policy}");
        }
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
    }
}

#[test]
fn the_page_needs_no_token_its_data_does() {
    let service = Service::start_with(With { token: Some("s3cret"), ..With::default() });
    for path in ["/", "/page/app.js", "/page/base.css", "/page/0123456789abcdef/app.js"] {
        assert_eq!(service.get(path).status, 200, "{path}");
        assert_eq!(service.ask("HEAD", path, &[], b"").status, 200, "{path}");
    }
    for path in ["/tasks", "/plugins", "/tasks/t1/logs", "/tasks/t1/stream", "/page", "/pages/x", "//", "/index.html"] {
        service.get(path).is_problem(401, "unauthorized");
    }
    service.post("/", b"x").is_problem(401, "unauthorized");
    service.post("/page/app.js", b"x").is_problem(401, "unauthorized");
}
