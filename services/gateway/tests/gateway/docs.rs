use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::extract::Request;
use gateway::http::ROUTES;
use http::StatusCode;
use runtime::problem::Code;
use serde_json::Value;

use crate::support::{Fake, all_at, ask, get, json, router, text};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The documented methods of each path.
fn operations(document: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .map(|(path, item)| {
            let methods = item.as_object().unwrap().keys().cloned();
            (path.clone(), methods.collect())
        })
        .collect()
}

/// `{event_id}` and the like, filled in.
fn example(path: &str) -> String {
    path.replace("{service}", "event-store")
        .split('/')
        .map(|segment| {
            if segment.starts_with('{') {
                "x"
            } else {
                segment
            }
        })
        .collect::<Vec<_>>()
        .join("/")
}

#[tokio::test]
async fn the_document_is_openapi_3_1_and_refers_to_nothing_that_is_missing() {
    let router = router(all_at(&["http://127.0.0.1:1"]));

    let document = json(get(&router, "/openapi.json").await).await;

    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let words = document.to_string();
    let references = words.split("\"#/").skip(1);
    for reference in references.filter_map(|rest| rest.split('"').next()) {
        assert!(
            document.pointer(&format!("/{reference}")).is_some(),
            "{reference}"
        );
    }
    let schemas = &document["components"]["schemas"];
    let severity = serde_json::json!(["info", "warning", "critical"]);
    assert_eq!(schemas["Severity"]["enum"], severity, "as on the wire");
    let codes = &document["components"]["schemas"]["ProblemBody"]["properties"]["code"]["enum"];
    assert_eq!(codes.as_array().unwrap().len(), Code::ALL.len());
}

#[tokio::test]
async fn every_problem_that_is_told_of_a_call_has_its_codes_status() {
    let router = router(all_at(&["http://127.0.0.1:1"]));

    let document = json(get(&router, "/openapi.json").await).await;

    let operations = document["paths"].as_object().unwrap().values();
    let answers = operations
        .flat_map(|item| item.as_object().unwrap().values())
        .flat_map(|operation| operation["responses"].as_object().unwrap());
    let mut told = 0;
    for (status, answer) in answers.filter(|(status, _)| status.as_str() != "default") {
        if answer["content"]["application/problem+json"].is_null() {
            continue;
        }
        let words = answer["description"].as_str().unwrap().split('`');
        for word in words.skip(1).step_by(2) {
            let code = Code::ALL.iter().find(|code| code.as_str() == word);
            let expected = code.map(|code| code.status().as_str().to_owned());
            assert_eq!(expected.as_ref(), Some(status), "{word}");
            told += 1;
        }
    }
    assert!(told > 60, "{told}");
}

#[tokio::test]
async fn every_documented_call_is_answered() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));
    let document = json(get(&router, "/openapi.json").await).await;

    for (path, methods) in operations(&document) {
        for method in methods {
            let request = Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(example(&path));
            let status = ask(&router, request, Body::empty()).await.status();
            let expected = match path.as_str() {
                "/docs" => StatusCode::PERMANENT_REDIRECT,
                _ => StatusCode::OK,
            };
            assert_eq!(status, expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn every_call_that_is_answered_is_documented() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));
    let documented = operations(&json(get(&router, "/openapi.json").await).await);

    for route in ROUTES {
        for method in METHODS {
            let request = Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(example(route.path));
            let status = ask(&router, request, Body::empty()).await.status();
            let told = documented
                .get(route.path)
                .is_some_and(|methods| methods.contains(method));
            assert_eq!(
                status != StatusCode::METHOD_NOT_ALLOWED,
                told,
                "{method} {}",
                route.path
            );
        }
    }
    for path in ["/healthz", "/readyz", "/metrics", "/metrics/{service}"] {
        assert!(documented.contains_key(path), "{path}");
    }
}

#[tokio::test]
async fn the_page_needs_nobody_but_the_gateway() {
    let router = router(all_at(&["http://127.0.0.1:1"]));

    let page = text(get(&router, "/docs/").await).await;
    let start = text(get(&router, "/docs/swagger-initializer.js").await).await;
    let moved = get(&router, "/docs").await;
    let missing = get(&router, "/docs/nothing.js").await;

    assert!(start.contains("/openapi.json"));
    assert!(!page.contains("//"), "{page}");
    let quoted = page.split('"').filter_map(|word| word.strip_prefix("./"));
    let mut assets = 0;
    for asset in quoted {
        let response = get(&router, &format!("/docs/{asset}")).await;
        assert_eq!(response.status(), StatusCode::OK, "{asset}");
        assert!(!response.headers().contains_key("content-encoding"));
        assets += 1;
    }
    assert!(assets >= 4, "{page}");
    assert_eq!(moved.headers()["location"], "/docs/");
    crate::support::assert_problem(missing, 404, "not_found").await;
}
