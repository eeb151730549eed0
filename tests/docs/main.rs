//! What the documents say, tried out.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a document that cannot be read as it is meant to be has failed"
)]

mod alerts;
mod calls;
mod quotes;
mod sources;

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use runtime::problem::Code;
use system_tests::eventually::{PATIENCE, eventually};
use system_tests::hub::{Hub, STRIPE_SECRET};
use system_tests::{api, repository};
use tokio::net::TcpListener;
use tokio::process::Command;

use quotes::documents;

/// What starts everything, or runs the tests: the test stands in for these.
const NOT_RUN: [&str; 2] = ["make run", "make test"];

/// The fenced blocks that a reader is meant to paste.
fn shell_blocks(document: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut rest = document;
    while let Some((_, after)) = rest.split_once("```sh\n") {
        let Some((block, next)) = after.split_once("```") else {
            break;
        };
        blocks.push(block.to_owned());
        rest = next;
    }
    blocks
}

#[tokio::test]
async fn every_command_of_the_readme_works() -> anyhow::Result<()> {
    let hub = Hub::start().await?;
    let address = hub.url("").replace("http://", "");
    let port = address.rsplit(':').next().context("a port")?.to_owned();
    let readme = repository::read_text("README.md")?;
    let blocks: Vec<String> = shell_blocks(&readme)
        .into_iter()
        .filter(|block| !NOT_RUN.contains(&block.trim()))
        .collect();
    ensure!(
        blocks.len() >= 15,
        "the README has {} blocks of commands",
        blocks.len()
    );
    // What a block starts in the background ends with the shell, also when a command fails.
    let mut script = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n".to_owned();
    let receiver = free_port().await?;

    // One shell, as the reader's: later blocks use what earlier ones have set.
    for block in &blocks {
        let block = block
            .replace("127.0.0.1:3000", &address)
            .replace("127.0.0.1:4000", &format!("127.0.0.1:{receiver}"))
            .replace("--port 4000", &format!("--port {receiver}"));
        script.push_str(&block);
        script.push_str("\necho; echo '=== end of block'\n");
    }
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(repository::root())
        .env("STRIPE_WEBHOOK_SECRET", STRIPE_SECRET)
        .env("GATEWAY_PORT", port)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("running the README's commands")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answers: Vec<&str> = said.split("=== end of block").map(str::trim).collect();

    for (block, answer) in blocks.iter().zip(&answers) {
        assert!(!answer.is_empty(), "no answer to:\n{block}");
        assert!(
            !answer.contains(r#"{"type":"urn:signalpost:problem"#),
            "{block}\n→ {answer}"
        );
    }
    assert_eq!(answers[0], r#"{"received":true}"#);
    for part in [
        r#""event_types":["order.*"]"#,
        r#""idempotency_key":"order-42-created""#,
        r#""kind":"recover""#,
        "order.created",
        r#""signature":"valid""#,
    ] {
        assert!(said.contains(part), "{part} is in no answer: {said}");
    }
    let page = eventually("the page of the README's payout", PATIENCE, async || {
        let event = api::get(&hub.url("/events/evt_1abc")).await?;
        let delivered_to = event.json()["delivered_to"].clone();
        if delivered_to == serde_json::json!(["pagerduty"]) {
            Ok(())
        } else {
            Err(anyhow::anyhow!("{delivered_to}"))
        }
    });
    page.await
}

/// Nobody listens there now.
async fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Ok(listener.local_addr()?.port())
}

#[test]
fn the_api_document_lists_every_error_code_and_no_other() {
    let document = repository::read_text("docs/API.md").unwrap();
    let (_, errors) = document.split_once("## Errors").unwrap();
    let rows = errors.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<String> = rows
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(|cell| cell.split(','))
        .map(|word| word.trim().trim_matches('`').to_owned())
        .collect();

    let codes: BTreeSet<String> = Code::ALL
        .iter()
        .map(|code| code.as_str().to_owned())
        .collect();

    assert_eq!(documented, codes);
}

#[test]
fn every_linked_file_exists() {
    for (document, text) in documents() {
        let folder = repository::root()
            .join(&document)
            .parent()
            .unwrap()
            .to_owned();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if !target.starts_with("http") {
                assert!(folder.join(target).exists(), "{document} links to {target}");
            }
        }
    }
}
