//! Every call of the API has its curl in the README.

use std::collections::BTreeSet;

use system_tests::hub::Hub;
use system_tests::{api, repository};

const GATEWAY: &str = "http://127.0.0.1:3000";

/// A method and a path.
type Call = (String, String);

/// The calls of a document's curls.
fn curls(document: &str) -> BTreeSet<Call> {
    document.split("curl ").skip(1).filter_map(call).collect()
}

/// `None` where another than the gateway is asked. What follows on further lines is no part of it.
fn call(after_curl: &str) -> Option<Call> {
    let line = after_curl.lines().next()?;
    let (before, rest) = line.split_once(GATEWAY)?;
    let path = rest.split(['?', '"', '\'', ' ', ')']).next()?;
    let sends = line.contains(" -d '") || line.contains(" --data-binary ");
    let method = match before.split_once("-X ") {
        Some((_, method)) => method.split(' ').next()?,
        None if sends => "POST",
        None => "GET",
    };
    Some((method.to_owned(), path.to_owned()))
}

/// Whether a call is one of the operation, whose path has `{…}` where any word may stand.
fn is_of(call: &Call, method: &str, path: &str) -> bool {
    let (asked, told) = (call.1.split('/'), path.split('/'));
    let alike = |(asked, told): (&str, &str)| told.starts_with('{') || asked == told;
    call.0 == method && asked.clone().count() == told.clone().count() && asked.zip(told).all(alike)
}

#[tokio::test]
async fn every_call_of_the_api_has_a_curl_in_the_readme() -> anyhow::Result<()> {
    let hub = Hub::start().await?;
    let document = api::get(&hub.url("/openapi.json")).await?.json();
    let curls = curls(&repository::read_text("README.md")?);

    let mut missing = Vec::new();
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for method in methods.as_object().into_iter().flatten() {
            let method = method.0.to_uppercase();
            operations += 1;
            if !curls.iter().any(|call| is_of(call, &method, path)) {
                missing.push(format!("{method} {path}"));
            }
        }
    }

    assert_eq!(missing, [""; 0]);
    assert!(operations > 30, "{operations}");
    Ok(())
}

#[test]
fn a_curl_is_read_as_the_call_that_it_makes() {
    let document = r#"
        curl -sS 'http://127.0.0.1:3000/events?limit=5'
        id=$(curl -sS http://127.0.0.1:3000/events -d '{}' | sed 's/a/b/')
        curl -sS -X DELETE "http://127.0.0.1:3000/webhooks/jobs/$job"
        curl -sS http://127.0.0.1:4000/received
    "#;

    let found = curls(document);

    let call = |method: &str, path: &str| (method.to_owned(), path.to_owned());
    let job = call("DELETE", "/webhooks/jobs/$job");
    let expected = [call("GET", "/events"), call("POST", "/events"), job.clone()];
    assert_eq!(found, BTreeSet::from(expected));
    assert!(is_of(&job, "DELETE", "/webhooks/jobs/{job_id}"));
    assert!(!is_of(&job, "GET", "/webhooks/jobs/{job_id}"));
    assert!(!is_of(&job, "DELETE", "/webhooks/jobs"));
}
