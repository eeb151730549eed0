//! `POST /ingest/stripe` as Stripe and the gateway meet it.

use std::time::Duration;

use super::service::{NOW, SECRET, Service};
use http::{StatusCode, header};
use schema::intake::Receipt;
use schema::{Kind, Severity, Source, names};
use signature::stripe::sign;

const PAYOUT_FAILED: &[u8] = include_bytes!("../../../../fixtures/stripe/payout_failed.json");

#[tokio::test]
async fn a_signed_event_is_normalized_and_stored() {
    let service = Service::start().await;
    let signature = sign(SECRET, NOW, PAYOUT_FAILED);
    let headers = [
        (names::STRIPE_SIGNATURE, &*signature),
        (names::CORRELATION_ID, "corr-1"),
    ];

    let answer = service.post(PAYOUT_FAILED, &headers).await;

    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.text(), r#"{"received":true}"#);
    assert_eq!(answer.headers[names::CORRELATION_ID], "corr-1");
    let submissions = service.store.submissions.lock().unwrap();
    let [submission] = &submissions[..] else {
        panic!("one submission: {submissions:?}");
    };
    assert_eq!(submission.correlation_id.as_str(), "corr-1");
    let event = &submission.event;
    assert_eq!(event.event_id.as_str(), "evt_1abc");
    assert_eq!(event.source, Source::stripe());
    assert_eq!(event.kind, Kind::Payment);
    assert_eq!(event.severity, Severity::Critical);
    assert_eq!(event.service, "stripe");
    assert_eq!(event.summary, "payout.failed: po_123");
    assert_eq!(event.description.as_deref(), Some("Insufficient funds"));
    assert_eq!(event.started_at.to_string(), "2024-01-15T10:40:00Z");
    assert_eq!(event.resolved_at, None);
    assert_eq!(event.raw.get().as_bytes(), PAYOUT_FAILED.trim_ascii());
}

#[tokio::test]
async fn a_replayed_event_is_told_from_a_new_one() {
    let service = Service::start().await;
    service.ingest(PAYOUT_FAILED).await;

    let again = service.ingest(PAYOUT_FAILED).await;

    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.text(), r#"{"received":true,"deduped":true}"#);
}

#[tokio::test]
async fn every_refused_signature_has_the_same_answer_and_its_own_count() {
    let service = Service::start().await;
    let good = sign(SECRET, NOW, PAYOUT_FAILED);
    let old = sign(SECRET, NOW - 301, PAYOUT_FAILED);
    let wrong = sign("whsec_former", NOW, PAYOUT_FAILED);
    let signature = names::STRIPE_SIGNATURE;
    let mut answers = Vec::new();
    for headers in [
        &[][..],
        &[(signature, "garbage")],
        &[(signature, &*old)],
        &[(signature, &*wrong)],
        &[(signature, &*good), (signature, &*good)],
    ] {
        let answer = service
            .post(
                PAYOUT_FAILED,
                &[headers, &[(names::CORRELATION_ID, "c")]].concat(),
            )
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{headers:?}");
        assert_eq!(answer.json()["code"], "invalid_signature");
        answers.push(answer.body);
    }

    answers.dedup();
    assert_eq!(answers.len(), 1);
    assert!(service.store.submissions.lock().unwrap().is_empty());
    let metrics = service.get(names::METRICS).await;
    for reason in [
        "missing",
        "no_timestamp",
        "out_of_tolerance",
        "mismatch",
        "several_headers",
    ] {
        let line = format!("stripe_signature_refusals_total{{reason=\"{reason}\"}} 1\n");
        assert!(metrics.text().contains(&line), "{}", metrics.text());
    }
}

#[tokio::test]
async fn the_signature_is_checked_before_the_body_is_read_as_json() {
    let service = Service::start().await;

    let unsigned = service.post(b"no JSON", &[]).await;
    let signed = service.ingest(b"no JSON").await;

    assert_eq!(unsigned.json()["code"], "invalid_signature");
    assert_eq!(signed.json()["code"], "invalid_payload");
}

#[tokio::test]
async fn an_encoded_body_is_not_taken() {
    let service = Service::start().await;
    let signature = sign(SECRET, NOW, PAYOUT_FAILED);
    for encoding in ["gzip", "br", "zstd", "identity"] {
        let headers = [
            (names::STRIPE_SIGNATURE, &*signature),
            ("content-encoding", encoding),
        ];

        let answer = service.post(PAYOUT_FAILED, &headers).await;

        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(answer.json()["code"], "unsupported_media");
    }
}

#[tokio::test]
async fn the_content_type_does_not_matter() {
    let service = Service::start().await;
    let signature = sign(SECRET, NOW, PAYOUT_FAILED);
    let headers = [
        (names::STRIPE_SIGNATURE, &*signature),
        ("content-type", "text/plain"),
    ];

    let answer = service.post(PAYOUT_FAILED, &headers).await;

    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_body_may_have_1_mib_and_not_a_byte_more() {
    let service = Service::start().await;
    let mut body = PAYOUT_FAILED.to_vec();
    body.resize(1024 * 1024, b' ');
    assert_eq!(service.ingest(&body).await.status, StatusCode::OK);
    body.push(b' ');

    let answer = service.ingest(&body).await;

    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.json()["code"], "too_large");
}

#[tokio::test]
async fn what_the_store_says_decides_the_answer() {
    let service = Service::start().await;
    for (receipt, status, code, retry_after) in [
        (
            Receipt::Unavailable { retry_after_s: 7 },
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            Some("7"),
        ),
        (
            Receipt::Rejected {
                detail: "canary".to_owned(),
            },
            StatusCode::BAD_REQUEST,
            "invalid_payload",
            None,
        ),
    ] {
        *service.store.always.lock().unwrap() = Some(receipt);

        let answer = service.ingest(PAYOUT_FAILED).await;

        assert_eq!(answer.status, status);
        assert_eq!(answer.json()["code"], code);
        assert!(!answer.text().contains("canary"));
        let told = answer.headers.get(header::RETRY_AFTER);
        assert_eq!(told.map(|value| value.to_str().unwrap()), retry_after);
    }
}

#[tokio::test]
async fn without_the_store_stripe_is_asked_to_come_again() {
    let service = Service::start_alone().await;

    let answer = service.ingest(PAYOUT_FAILED).await;

    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
    let metrics = service.get(names::METRICS).await;
    let line = "stripe_receipts_total{outcome=\"unavailable\"} 1\n";
    assert!(metrics.text().contains(line), "{}", metrics.text());
}

#[tokio::test]
async fn it_is_ready_when_the_store_answers() {
    let with_store = Service::start().await;
    let alone = Service::start_alone().await;

    assert_eq!(with_store.get(names::READYZ).await.status, StatusCode::OK);
    let unready = alone.get(names::READYZ).await;
    assert_eq!(unready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        unready.json()["dependencies"]["event-store"]["status"],
        "down"
    );
    assert_eq!(alone.get(names::HEALTHZ).await.status, StatusCode::OK);
}

#[tokio::test]
async fn only_post_is_taken() {
    let service = Service::start().await;

    let answer = service.get(names::INGEST_STRIPE).await;

    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn it_ends_when_it_is_told_to() {
    let service = Service::start().await;
    service.ingest(PAYOUT_FAILED).await;

    service.shutdown.cancel();

    let ended = tokio::time::timeout(Duration::from_secs(5), service.running).await;
    ended.unwrap().unwrap().unwrap();
}
