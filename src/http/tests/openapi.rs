//! The OpenAPI document against what is served: routes, parameters, statuses; and the page that is made from it.

use std::collections::{BTreeMap, BTreeSet};

use super::{super::openapi, *};

/// Parameters are asked of these one by one; the others answer a probe whatever it says, take a body, or never end.
const LENIENT: [&str; 2] = ["/health", "/events"];

fn document() -> Value {
    serde_json::from_str(openapi::SOURCE).unwrap()
}

fn resolved<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.strip_prefix('#').unwrap()).expect(reference),
        None => value,
    }
}

/// Paths and methods as the router has them.
fn routes() -> BTreeSet<(String, String)> {
    let source = include_str!("../../http.rs");
    let calls = source.split(".route(").skip(1).map(|call| {
        let (path, rest) = call.trim_start().strip_prefix('"').unwrap().split_once('"').unwrap();
        // Up to the end of its statement.
        let handlers = rest.split("\n        .").next().unwrap();
        let methods = ["get", "post", "put", "delete", "patch"];
        let found: Vec<_> = methods.into_iter().filter(|method| handlers.contains(&format!("{method}("))).collect();
        assert!(!found.is_empty(), "{path}");
        found.into_iter().map(|method| (path.to_owned(), method.to_owned())).collect::<Vec<_>>()
    });
    calls.flatten().filter(|(path, _)| !is_page(path)).collect()
}

/// What the page consists of is no part of the API.
fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with("/page/") || path.starts_with("/assets/")
}

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(|(method, operation)| (path.clone(), method.clone(), operation))
        })
        .collect()
}

#[test]
fn every_route_stands_in_the_document_and_nothing_else() {
    let document = document();
    let documented: BTreeSet<_> = operations(&document).into_iter().map(|(path, method, _)| (path, method)).collect();
    assert_eq!(documented, routes());
    let names: BTreeSet<_> =
        operations(&document).iter().map(|(.., operation)| operation["operationId"].to_string()).collect();
    assert_eq!(names.len(), documented.len(), "operations need names of their own");
}

#[test]
fn every_reference_leads_somewhere_and_every_part_is_used() {
    let document = document();
    let text = document.to_string();
    let mut rest = text.as_str();
    let mut used = BTreeSet::new();
    while let Some((_, after)) = rest.split_once("\"$ref\":\"#") {
        let (place, after) = after.split_once('"').unwrap();
        assert!(document.pointer(place).is_some(), "{place}");
        used.insert(place.to_owned());
        rest = after;
    }
    for kind in ["parameters", "responses", "schemas"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(used.contains(&format!("/components/{kind}/{name}")), "{kind} {name}");
        }
    }
}

#[test]
fn routes_take_the_parameters_that_the_document_names_and_no_others() {
    let service = Service::start();
    service.write("t1/metadata.json", r#"{"task_id":"t1","created_at":"2026-01-01T00:00:00Z"}"#);
    service.write("t1/04-final-result.json", r#"{"success":true}"#);
    service.write("t1/03-agent-output.jsonl", "{\"type\":\"output\",\"content\":\"x\",\"id\":\"1-1\"}\n");
    service.write("_webhooks/w1/02-webhook-flow.jsonl", "{}\n");
    let document = document();
    let mut examples: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut names = BTreeSet::from(["unheard".to_owned()]);
    for (path, _, operation) in operations(&document) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let parameter = resolved(&document, parameter);
            if parameter["in"] == "query" {
                let name = parameter["name"].as_str().unwrap();
                let example = match &parameter["example"] {
                    Value::Array(items) => items[0].as_str().unwrap().to_owned(),
                    Value::String(text) => text.replace([' ', '['], "%20"),
                    Value::Null => String::new(),
                    other => other.to_string(),
                };
                names.insert(name.to_owned());
                examples.insert((path.clone(), name.to_owned()), example);
            }
        }
    }
    for (path, method, operation) in operations(&document) {
        if method != "get" || LENIENT.contains(&&*path) {
            continue;
        }
        let id = if path.starts_with("/webhooks") { "w1" } else { "t1" };
        let file = if id == "w1" { "02-webhook-flow.jsonl" } else { "03-agent-output.jsonl" };
        let address = path.replace("{id}", id).replace("{name}", file);
        // At least its other parameters that must be there.
        let required = if path == "/search" { "q=x&" } else { "" };
        for name in &names {
            let example = examples.get(&(path.clone(), name.clone()));
            // Without a value there is none that makes sense.
            let value = example.map_or("1", String::as_str);
            if example.is_some() && required.starts_with(&format!("{name}="))
                || (name == "regex" && !required.is_empty())
            {
                continue;
            }
            let answer = service.get(&format!("{address}?{required}{name}={value}"));
            match example {
                Some(_) if value.is_empty() => assert!(!answer.text().contains("Known parameters"), "{path} {name}"),
                Some(_) => assert_ne!(answer.status, 400, "{path} {name}={value}: {}", answer.text()),
                None => drop(answer.is_problem(400, "bad_query")),
            }
            let status = answer.status.to_string();
            assert!(operation["responses"].get(&status).is_some(), "{path} {name}: {status} is not documented");
        }
    }
}

#[test]
fn the_document_and_its_page_are_open_and_known_again() {
    let service = Service::start_with(With { token: Some("s3cret-token"), ..With::default() });
    let answer = service.get("/openapi.json");
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let served = answer.json();
    assert_eq!((&served["openapi"], &served["info"]["version"]), (&json!("3.1.0"), &json!(env!("CARGO_PKG_VERSION"))));
    let page = service.get("/docs");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    let text = page.text();
    for (path, method, operation) in operations(&document()) {
        assert!(text.contains(&format!("<code>{} {path}</code>", method.to_uppercase())), "{method} {path}");
        assert!(text.contains(&format!("id=\"{}\"", operation["operationId"].as_str().unwrap())));
    }
    for foreign in ["<script", "http://", "https://", "src=", "@import", "url("] {
        assert!(!text.contains(foreign), "{foreign}");
    }
    for answer in [answer, page] {
        let path = if answer.header("content-type").contains("html") { "/docs" } else { "/openapi.json" };
        let known = service.ask("GET", path, &[("If-None-Match", answer.header("etag"))], b"");
        assert_eq!((known.status, known.body.len()), (304, 0));
    }
    service.get("/docs?x=1").is_problem(400, "bad_query");
}
