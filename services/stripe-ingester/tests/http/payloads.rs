//! Every body of `fixtures/security/stripe_payloads.tsv` through the service.

use super::service::Service;

/// The bytes that a body's notation stands for, as the table's head describes it.
fn bytes_of(notation: &str, id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = notation;
    while let Some((before, after)) = rest.split_once("<<") {
        let (generator, behind) = after.split_once(">>").unwrap();
        bytes.extend_from_slice(before.as_bytes());
        if generator == "id" {
            bytes.extend_from_slice(id.as_bytes());
        } else if let Some(digits) = generator.strip_prefix("hex:") {
            bytes.extend(hex::decode(digits).unwrap());
        } else {
            let (times, text) = generator.split_once('*').unwrap();
            bytes.extend(text.repeat(times.parse().unwrap()).into_bytes());
        }
        rest = behind;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

#[tokio::test]
async fn every_body_of_the_table_is_answered_as_it_says() {
    let service = Service::start().await;
    let table = include_str!("../../../../fixtures/security/stripe_payloads.tsv");
    let mut rows = 0;
    for row in table.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [name, notation, status, code] = columns[..] else {
            panic!("four columns: {row}");
        };
        let body = bytes_of(notation, &format!("evt_row{rows}"));

        let answer = service.ingest(&body).await;

        let said = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status.as_str(), status, "{name}: {said}");
        if status == "200" {
            assert_eq!(said, r#"{"received":true}"#, "{name}");
            let event = service.store.last_event().unwrap();
            assert_eq!(event.raw.get().as_bytes(), body.trim_ascii(), "{name}");
            assert!(!event.summary.chars().any(char::is_control), "{name}");
            // What is stored can be read by whoever parses it whole.
            let whole = serde_json::from_str::<serde_json::Value>(event.raw.get());
            assert!(whole.is_ok(), "{name}: {whole:?}");
        } else {
            assert_eq!(answer.json()["code"], code, "{name}");
        }
        rows += 1;
    }
    assert!(rows >= 120, "only {rows} rows were read");
    let stored = table
        .lines()
        .filter(|row| row.ends_with("\t200\t-"))
        .count();
    assert_eq!(service.store.submissions.lock().unwrap().len(), stored);
}
