//! What is done to endpoints: the driver's other half.

use anyhow::{Context as _, ensure};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use schema::webhooks::{Accepted, EndpointView, JobView};
use serde_json::{Value, json};

use super::book::{Asked, Endpoint};
use super::driver::{CLIENTS, Driver};

impl Driver {
    pub(crate) async fn switch(&mut self, what: &str) -> anyhow::Result<()> {
        let chosen = self.rng.random_range(0..self.book.endpoints.len());
        let Endpoint { id, deleted, .. } = &self.book.endpoints[chosen];
        let path = format!("/webhooks/endpoints/{id}/{what}");
        let status = if *deleted { 404 } else { 200 };
        self.world.post(&path, None).await?.told::<Value>(status)?;
        self.note(path);
        Ok(())
    }

    pub(crate) async fn recover(&mut self) -> anyhow::Result<()> {
        let chosen = self.rng.random_range(0..self.book.endpoints.len());
        let Endpoint { id, deleted, .. } = &self.book.endpoints[chosen];
        if *deleted {
            return Ok(());
        }
        let path = format!("/webhooks/endpoints/{id}/recover");
        let back = SignedDuration::from_mins(self.rng.random_range(1..600));
        let since: Timestamp = self.world.clock.now() - back;
        let body = json!({"since": since, "dry_run": self.rng.random_bool(0.2)});
        let answer = self.world.post(&path, Some(body.to_string())).await?;
        answer.told::<JobView>(202)?;
        self.note(path);
        Ok(())
    }

    pub(crate) async fn delete(&mut self) -> anyhow::Result<()> {
        let chosen = self.rng.random_range(1..self.book.endpoints.len());
        if self.book.endpoints[chosen].deleted || self.book.living().count() < 4 {
            return Ok(());
        }
        let path = format!("/webhooks/endpoints/{}", self.book.endpoints[chosen].id);
        let answer = self.world.call(Method::DELETE, &path, None, None).await?;
        answer.told::<JobView>(202)?;
        self.note(format!("delete {path}"));
        self.book.endpoints[chosen].deleted = true;
        Ok(())
    }

    pub(crate) async fn register_another(&mut self) -> anyhow::Result<()> {
        let client = CLIENTS[self.rng.random_range(0..CLIENTS.len())];
        self.register(client).await
    }

    pub(crate) async fn register(&mut self, client: &str) -> anyhow::Result<()> {
        let host = format!("127.0.0.{}", self.book.endpoints.len());
        let strict = self.rng.random_bool(0.5);
        let types = match self.rng.random_range(0..4) {
            0 => None,
            1 => Some(vec!["order.created", "user.gone"]),
            2 => Some(vec!["order.*"]),
            _ => Some(vec!["order.*", "delivery.exhausted", "endpoint.disabled"]),
        };
        let schedules = [
            json!([0]),
            json!([0, 5, 300, 1_800]),
            json!([0, 1, 1, 60, 7_200]),
        ];
        let timeout_ms = [1_000, 15_000, 30_000][self.rng.random_range(0..3)];
        let max_in_flight = [1, 4, 64][self.rng.random_range(0..3)];
        let mut body = json!({
            "url": format!("http://{host}/hook"),
            "ordering": if strict { "strict" } else { "none" },
            "on_exhausted": if self.rng.random_bool(0.5) { "block" } else { "skip" },
            "timeout_ms": timeout_ms,
            "max_in_flight": max_in_flight,
        });
        if let Some(types) = &types {
            body["event_types"] = json!(types);
        }
        if let Some(schedule) = schedules.get(self.rng.random_range(0..4)) {
            body["retry"] = json!({"schedule_s": schedule});
        }
        if self.rng.random_bool(0.2) {
            body["retry"]["max_age_s"] = json!(3_600);
        }
        if self.rng.random_bool(0.2) {
            body["rate_limit_per_s"] = json!(self.rng.random_range(1..5));
        }
        let path = format!("/webhooks/clients/{client}/endpoints");
        let answer = self.world.post(&path, Some(body.to_string())).await?;
        let endpoint: EndpointView = answer.told(201)?;
        self.world
            .net
            .set_key(&host, &endpoint.secret.context("its secret")?)?;
        self.note(format!(
            "{} of {client} is {host}: {body}",
            endpoint.endpoint_id
        ));
        self.book.endpoints.push(Endpoint {
            id: endpoint.endpoint_id,
            client: client.to_owned(),
            host,
            strict,
            types: types.map(|types| types.into_iter().map(str::to_owned).collect()),
            deleted: false,
        });
        Ok(())
    }

    pub(crate) async fn rotate_one(&mut self) -> anyhow::Result<()> {
        let chosen = self.rng.random_range(0..self.book.endpoints.len());
        self.rotate(chosen).await
    }

    pub(crate) async fn rotate(&mut self, chosen: usize) -> anyhow::Result<()> {
        let Endpoint {
            id, host, deleted, ..
        } = &self.book.endpoints[chosen];
        if *deleted {
            return Ok(());
        }
        let path = format!("/webhooks/endpoints/{id}/secret/rotate");
        let rotated: EndpointView = self.world.post(&path, None).await?.told(200)?;
        self.world
            .net
            .set_key(host, &rotated.secret.context("its secret")?)?;
        self.note(path);
        Ok(())
    }

    pub(crate) async fn test(&mut self) -> anyhow::Result<()> {
        let chosen = self.rng.random_range(1..self.book.endpoints.len());
        let Endpoint {
            id,
            client,
            deleted,
            ..
        } = &self.book.endpoints[chosen];
        if *deleted {
            return Ok(());
        }
        let asked = Asked {
            client: client.clone(),
            event_type: "signalpost.test".to_owned(),
            payload: None,
            key: None,
            ordering_key: None,
        };
        let answer = self
            .world
            .post(&format!("/webhooks/endpoints/{id}/test"), None)
            .await?;
        if answer.status == 409 {
            // It is disabled.
            return Ok(());
        }
        let accepted: Accepted = answer.told(202)?;
        ensure!(accepted.deliveries.len() == 1, "S14: {accepted:?}");
        self.keep(asked, accepted);
        Ok(())
    }
}
