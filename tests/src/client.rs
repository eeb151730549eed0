//! A client of the webhook API with an id of its own: registers endpoints, posts events, asks what became of them.

use anyhow::{Context as _, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::api;
use crate::eventually::{PATIENCE, eventually};
use crate::stage::{Stage, unique_id};

/// What one page tells.
const PAGE: usize = 500;

pub struct Client {
    gateway: String,
    client_id: String,
}

impl Client {
    pub fn of(stage: &impl Stage) -> Self {
        Self {
            gateway: stage.gateway_url().to_owned(),
            client_id: format!("client-{}", unique_id()),
        }
    }

    /// Registers an endpoint; answers its id.
    pub async fn register(&self, url: &str, settings: &Value) -> anyhow::Result<String> {
        let mut endpoint = settings.clone();
        endpoint["url"] = json!(url);
        let path = format!("/webhooks/clients/{}/endpoints", self.client_id);
        let answer = api::post_json(&self.url(&path), &endpoint).await?;
        ensure!(answer.status == StatusCode::CREATED, "{}", answer.text());
        let id = answer.json()["endpoint_id"].as_str().map(str::to_owned);
        id.context("an endpoint without an id")
    }

    /// Posts so many events in one batch, all of which must be accepted; answers their ids.
    pub async fn post(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let events: Vec<Value> = (0..count)
            .map(|n| {
                json!({"client_id": self.client_id, "event_type": "order.created",
                       "payload": {"order": n}})
            })
            .collect();
        let url = self.url("/webhooks/events/batch");
        let answer = api::post_json(&url, &json!({"events": events})).await?;
        let results = answer.json()["results"].take();
        let results = results.as_array().with_context(|| answer.text())?;
        let accepted = results.iter().map(|result| {
            ensure!(result["status"] == 202, "{result}");
            let id = result["event"]["event_id"].as_str();
            Ok(id.context("an event without an id")?.to_owned())
        });
        accepted.collect()
    }

    /// Those to an endpoint, newest first, one page at most.
    pub async fn deliveries(&self, endpoint: &str) -> anyhow::Result<Vec<Value>> {
        let path = format!("/webhooks/deliveries?endpoint={endpoint}&limit={PAGE}");
        let page = api::get(&self.url(&path)).await?;
        match page.json()["deliveries"].take() {
            Value::Array(deliveries) => Ok(deliveries),
            _ => anyhow::bail!("{} {}", page.status, page.text()),
        }
    }

    /// One delivery with its attempts.
    pub async fn delivery(&self, delivery_id: &str) -> anyhow::Result<Value> {
        self.get(&format!("/webhooks/deliveries/{delivery_id}"))
            .await
    }

    pub async fn endpoint(&self, endpoint: &str) -> anyhow::Result<Value> {
        self.get(&format!("/webhooks/endpoints/{endpoint}")).await
    }

    pub async fn change(&self, endpoint: &str, settings: &Value) -> anyhow::Result<()> {
        let url = self.url(&format!("/webhooks/endpoints/{endpoint}"));
        let headers = [("content-type".to_owned(), "application/json".to_owned())];
        let body = settings.to_string().into_bytes();
        let answer = api::call(Method::PATCH, &url, &headers, body).await?;
        ensure!(answer.status == StatusCode::OK, "{}", answer.text());
        Ok(())
    }

    /// Waits until so many are delivered to an endpoint, and no other is there; answers them.
    pub async fn delivered(&self, endpoint: &str, count: usize) -> anyhow::Result<Vec<Value>> {
        let what = format!("{count} deliveries to {endpoint}");
        eventually(&what, PATIENCE, async || {
            let deliveries = self.deliveries(endpoint).await;
            let deliveries = deliveries.map_err(|fault| format!("{fault:#}"))?;
            let (all, delivered) = (deliveries.len(), with(&deliveries, "status", "delivered"));
            if delivered == count && all == count {
                Ok(deliveries)
            } else {
                Err(format!("{delivered} of {all} are delivered"))
            }
        })
        .await
    }

    /// Waits until the endpoint's circuit breaker is open.
    pub async fn held_back(&self, endpoint: &str) -> anyhow::Result<()> {
        eventually("the breaker opens", PATIENCE, async || {
            let endpoint = self.endpoint(endpoint).await;
            let breaker = endpoint.map_err(|fault| format!("{fault:#}"))?["breaker"].take();
            if breaker == "open" {
                Ok(())
            } else {
                Err(breaker.to_string())
            }
        })
        .await
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = api::get(&self.url(path)).await?;
        ensure!(answer.status == StatusCode::OK, "{}", answer.text());
        Ok(answer.json())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.gateway)
    }
}

/// How many have this value in a field.
pub fn with(deliveries: &[Value], field: &str, value: impl Into<Value>) -> usize {
    let value = value.into();
    let found = deliveries
        .iter()
        .filter(|delivery| delivery[field] == value);
    found.count()
}

/// The sum of a field of numbers.
pub fn sum(deliveries: &[Value], field: &str) -> u64 {
    let numbers = deliveries
        .iter()
        .filter_map(|delivery| delivery[field].as_u64());
    numbers.sum()
}
