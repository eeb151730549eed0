//! `signalpost send stripe FILE`: what Stripe would do with this payload.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use runtime::clock::Clock;
use runtime::{http_client, ids};
use schema::names;
use serde_json::Value;
use signature::stripe;

use crate::output::{say, say_json};
use crate::settings::Settings;

const TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_MAX: usize = 1 << 20;

#[derive(clap::Args)]
pub struct Arguments {
    /// The payload, such as fixtures/stripe/payout_failed.json
    file: PathBuf,
    /// Base URL of the gateway [default: where GATEWAY_HOST and GATEWAY_PORT say]
    #[arg(long)]
    gateway: Option<String>,
    /// Signing secret [default: the first of STRIPE_WEBHOOK_SECRET, from the environment or .env]
    #[arg(long)]
    secret: Option<String>,
    /// Give the event this id
    #[arg(long, conflicts_with = "new_id")]
    id: Option<String>,
    /// Give the event a fresh id, so that it is not a duplicate
    #[arg(long)]
    new_id: bool,
}

/// Signs the file's bytes, posts them and prints the answer; an error unless it is 2xx.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let settings = Settings::read()?;
    let clock = Clock::system();
    let secret = arguments
        .secret
        .as_deref()
        .or_else(|| settings.stripe_webhook_secret.expose().next())
        .context("no secret: set STRIPE_WEBHOOK_SECRET, or `make run` once, which writes a .env")?;
    let gateway = arguments.gateway.unwrap_or_else(|| settings.gateway_url());
    let file = std::fs::read(&arguments.file)
        .with_context(|| format!("reading {}", arguments.file.display()))?;
    let fresh_id = arguments
        .new_id
        .then(|| format!("evt_{}", ids::time_ordered(clock.now()).simple()));
    let body = match arguments.id.or(fresh_id) {
        Some(id) => with_id(&file, id)?,
        None => file,
    };

    let signature = stripe::sign(secret, clock.now().as_second(), &body);
    let response = http_client::single_try(TIMEOUT)
        .post(format!(
            "{}{}",
            gateway.trim_end_matches('/'),
            names::INGEST_STRIPE
        ))
        .header(names::STRIPE_SIGNATURE, signature)
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .with_context(|| format!("posting to {gateway}"))?;

    let status = response.status();
    let answer = http_client::read_body(response, ANSWER_MAX).await?;
    say(status.to_string());
    say_json(&answer);
    anyhow::ensure!(status.is_success(), "the gateway did not take the event");
    Ok(())
}

fn with_id(payload: &[u8], id: String) -> anyhow::Result<Vec<u8>> {
    let mut event: Value = serde_json::from_slice(payload).context("the payload is not JSON")?;
    let fields = event
        .as_object_mut()
        .context("the payload is not a JSON object")?;
    fields.insert("id".to_owned(), Value::String(id));
    Ok(serde_json::to_vec(&event)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_id_replaces_the_payloads_own() {
        let body = with_id(br#"{"id":"evt_1abc","n":1}"#, "evt_2".to_owned()).unwrap();

        let event: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(event, serde_json::json!({"id": "evt_2", "n": 1}));
        assert!(with_id(b"[]", "evt_2".to_owned()).is_err());
    }
}
