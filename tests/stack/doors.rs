//! The services' own ports: what is answered there without the internal key, where that key goes, and that no endpoint of a
//! client leads there.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;
use signalpost::supervisor::ROWS;
use system_tests::api::{self, Answer, INTERNAL_KEY};
use system_tests::binaries;
use system_tests::client::Client;
use system_tests::eventually::{PATIENCE, eventually};
use system_tests::hub::{Hub, STRIPE_SECRET};
use system_tests::stage::Stage as _;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::security::rows;

/// What each service answers, beside what all of them do.
const ROUTES: &[(&str, &[(Method, &str)])] = &[
    ("stripe-ingester", &[(Method::POST, "/ingest/stripe")]),
    ("status-poller", &[(Method::POST, "/ingest/pull-status")]),
    (
        "event-store",
        &[
            (Method::GET, "/events"),
            (Method::GET, "/events/evt_1"),
            (Method::GET, "/feed"),
            (Method::POST, "/internal/events"),
            (Method::POST, "/internal/resolutions"),
            (Method::POST, "/internal/outcomes"),
        ],
    ),
    (
        "delivery",
        &[
            (Method::GET, "/webhooks/clients"),
            (Method::DELETE, "/webhooks/clients/acme"),
            (Method::GET, "/webhooks/clients/acme/endpoints"),
            (Method::POST, "/webhooks/clients/acme/endpoints"),
            (Method::GET, "/webhooks/endpoints/pagerduty"),
            (Method::PATCH, "/webhooks/endpoints/pagerduty"),
            (Method::POST, "/webhooks/endpoints/pagerduty/disable"),
            (Method::POST, "/webhooks/endpoints/pagerduty/secret/rotate"),
            (Method::POST, "/webhooks/events"),
            (Method::POST, "/webhooks/events/batch"),
            (Method::GET, "/webhooks/deliveries"),
            (Method::GET, "/webhooks/jobs/job_1"),
        ],
    ),
    ("summarizer", &[(Method::POST, "/ai/summarize")]),
    ("mock-pagerduty", &[]),
];

/// What every service has, and a path that none has.
const EVERYWHERE: [(Method, &str); 3] = [
    (Method::GET, "/readyz"),
    (Method::GET, "/metrics"),
    (Method::GET, "/nowhere"),
];

async fn ask(method: &Method, url: &str, key: Option<&str>) -> Answer {
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    headers.extend(key.map(api::internal_key));
    api::call(method.clone(), url, &headers, b"{}".to_vec())
        .await
        .unwrap()
}

#[tokio::test]
async fn no_route_of_a_service_behind_the_gateway_answers_without_the_key() {
    let hub = Hub::start().await.unwrap();

    for (service, routes) in ROUTES {
        let base = hub.supervisor().url(service).unwrap();
        for (method, path) in routes.iter().chain(&EVERYWHERE) {
            let (url, what) = (format!("{base}{path}"), format!("{method} {path}"));
            for key in [None, Some("wrong-0123456789"), Some("")] {
                let refused = ask(method, &url, key).await;
                assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{what}");
                assert_eq!(refused.code(), "unauthorized", "{what}");
            }
            let shown = ask(method, &url, Some(INTERNAL_KEY)).await;
            assert_ne!(shown.status, StatusCode::UNAUTHORIZED, "{what}");
        }
        let health = api::get(&format!("{base}/healthz")).await.unwrap();
        assert_eq!(health.status, StatusCode::OK, "{service}");
    }
    let vendor = hub.supervisor().url("mock-pagerduty").unwrap();
    let pages = api::get(&format!("{vendor}/destinations/pagerduty")).await;
    assert_eq!(pages.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_caller_of_the_gateway_gains_nothing_by_the_key() {
    let hub = Hub::start_with(&[("GATEWAY_API_KEYS", "key-of-a-caller:acme")])
        .await
        .unwrap();

    let url = hub.url("/webhooks/endpoints/pagerduty");
    let alone = ask(&Method::GET, &url, Some(INTERNAL_KEY)).await;
    let bound = [
        (
            "authorization".to_owned(),
            "Bearer key-of-a-caller".to_owned(),
        ),
        ("x-signalpost-client".to_owned(), "oncall".to_owned()),
        api::internal_key(INTERNAL_KEY),
    ];
    let bound = api::call(Method::GET, &url, &bound, Vec::new()).await;

    assert_eq!(alone.status, StatusCode::UNAUTHORIZED);
    assert_eq!(bound.unwrap().status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn no_service_starts_without_the_key() {
    let (bin, folder) = (
        binaries::folder().await.unwrap(),
        tempfile::tempdir().unwrap(),
    );
    for service in ROWS.iter().copied().flatten() {
        let run = Command::new(bin.join(service))
            .env_clear()
            .env("STRIPE_WEBHOOK_SECRET", STRIPE_SECRET)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let run = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();

        let told = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(!run.status.success(), "{service} started");
        assert!(
            told.contains("SIGNALPOST_INTERNAL_KEY"),
            "{service}: {told}"
        );
    }
}

#[tokio::test]
async fn no_endpoint_leads_to_one_of_our_services_though_loopback_is_open() {
    let hub = Hub::start().await.unwrap();
    let endpoints = hub.url("/webhooks/clients/acme/endpoints");
    let rows = rows("own_services.tsv");
    assert!(rows.len() > 15);
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = free.local_addr().unwrap().port().to_string();

    for (service, address, _) in hub.supervisor().services() {
        for row in &rows {
            let [url, code] = row.as_slice() else {
                panic!("two columns: {row:?}");
            };
            let ours = address.port().to_string();
            let url = url.replace("{ours}", &ours).replace("{free}", &free);

            let answer = api::post_json(&endpoints, &json!({ "url": url })).await;

            let answer = answer.unwrap();
            if code == "ok" {
                assert_eq!(answer.status, StatusCode::CREATED, "{url}");
            } else {
                assert_eq!(answer.status, 422, "{url} of {service}");
                assert_eq!(&answer.code(), code, "{url} of {service}");
            }
        }
    }
    let free = json!({ "url": format!("http://127.0.0.1:{free}/") });
    let made = api::post_json(&endpoints, &free).await.unwrap();
    let made = made.json()["endpoint_id"].take();
    let one = hub.url(&format!("/webhooks/endpoints/{}", made.as_str().unwrap()));
    let store = hub.supervisor().url("event-store").unwrap();
    let json = [("content-type".to_owned(), "application/json".to_owned())];
    let body = json!({ "url": store }).to_string().into_bytes();
    let changed = api::call(Method::PATCH, &one, &json, body).await.unwrap();
    assert_eq!(changed.code(), "endpoint_url_forbidden");
}

#[tokio::test]
async fn open_loopback_is_warned_of_where_callers_have_keys() {
    let hub = Hub::start_with(&[("GATEWAY_API_KEYS", "key-of-a-caller:acme")])
        .await
        .unwrap();

    let line = hub
        .wait_for_log("gateway", &["loopback is open to endpoints", "warn"])
        .await;

    assert!(line.unwrap().contains("127.0.0.0/8"));
}

/// What came to one who is outside.
#[derive(Clone, Default)]
struct Outside(Arc<Mutex<Vec<(String, HeaderMap)>>>);

impl Outside {
    async fn listen(&self) -> String {
        let router = Router::new().fallback(Self::note).with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    async fn note(State(outside): State<Self>, request: Request) -> StatusCode {
        let (head, _) = request.into_parts();
        let came = (head.uri.path().to_owned(), head.headers);
        outside.0.lock().unwrap().push(came);
        StatusCode::OK
    }

    fn paths(&self) -> BTreeSet<String> {
        let came = self.0.lock().unwrap();
        came.iter().map(|(path, _)| path.clone()).collect()
    }
}

#[tokio::test]
async fn the_key_is_sent_to_no_receiver_no_pager_and_no_vendor() {
    let outside = Outside::default();
    let url = outside.listen().await;
    let hub = Hub::start_with(&[
        ("PAGERDUTY_URL", &format!("{url}/page")),
        ("SPREEDLY_STATUS_SUMMARY_URL", &format!("{url}/status")),
    ])
    .await
    .unwrap();
    let client = Client::of(&hub);
    client
        .register(&format!("{url}/hook"), &json!({}))
        .await
        .unwrap();

    client.post(1).await.unwrap();
    let body = api::stripe_event("evt_outside", "payout.failed");
    api::post_stripe(hub.gateway_url(), STRIPE_SECRET, body)
        .await
        .unwrap();
    api::call(
        Method::POST,
        &hub.url("/ingest/pull-status"),
        &[],
        Vec::new(),
    )
    .await
    .unwrap();

    let all = ["/hook", "/page", "/status"].map(str::to_owned);
    eventually("a request of each kind", PATIENCE, async || {
        let paths = outside.paths();
        let came = paths == BTreeSet::from(all.clone());
        came.then_some(()).ok_or(paths)
    })
    .await
    .unwrap();
    for (path, headers) in &*outside.0.lock().unwrap() {
        assert!(!headers.contains_key("x-signalpost-key"), "{path}");
        let told = headers.values().any(|value| value == INTERNAL_KEY);
        assert!(!told, "{path}: {headers:?}");
    }
}
