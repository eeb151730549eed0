//! Containers that `scripts/with-stack` started.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use runtime::config::{self, Secrets};
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use crate::eventually::{PATIENCE, eventually};
use crate::receiver::Receiving;
use crate::stage::{Listening, Stage, unique_id};
use crate::{api, repository};

/// Inside the containers of `tests/compose/receivers.yml`.
pub const RECEIVERS_PORT: &str = "4000";

/// What `scripts/with-stack` says of the stack; `COMPOSE_PROJECT_NAME` goes to `scripts/compose` as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Settings {
    /// The gateway's base URL: `GATEWAY_URL`.
    gateway_url: String,
    /// `STRIPE_WEBHOOK_SECRET` of the stack.
    stripe_webhook_secret: Secrets,
    /// `SIGNALPOST_INTERNAL_KEY` of the stack.
    signalpost_internal_key: Secrets,
    /// `SIGNALPOST_LISTEN_SECRET`: what the receivers verify with.
    signalpost_listen_secret: Secrets,
}

impl config::Config for Settings {
    fn complaints(&self) -> Vec<String> {
        let needed = [
            ("GATEWAY_URL", self.gateway_url.is_empty()),
            (
                "STRIPE_WEBHOOK_SECRET",
                self.stripe_webhook_secret.is_empty(),
            ),
            (
                "SIGNALPOST_INTERNAL_KEY",
                self.signalpost_internal_key.is_empty(),
            ),
            (
                "SIGNALPOST_LISTEN_SECRET",
                self.signalpost_listen_secret.is_empty(),
            ),
        ];
        needed
            .into_iter()
            .filter(|(_, missing)| *missing)
            .map(|(name, _)| format!("{name}: required; run `make test-compose`"))
            .collect()
    }

    fn listen_addr(&self) -> String {
        String::new()
    }
}

/// The running containers.
pub struct Containers {
    gateway_url: String,
    secret: String,
    internal_key: String,
    listen_secret: String,
}

impl Containers {
    /// As the environment says.
    pub fn from_env() -> anyhow::Result<Self> {
        let settings: Settings = config::from_env()?;
        let first = |secrets: &Secrets| secrets.expose().next().unwrap_or_default().to_owned();
        Ok(Self {
            gateway_url: settings.gateway_url.trim_end_matches('/').to_owned(),
            secret: first(&settings.stripe_webhook_secret),
            internal_key: first(&settings.signalpost_internal_key),
            listen_secret: first(&settings.signalpost_listen_secret),
        })
    }

    /// What the services show each other.
    pub fn internal_key(&self) -> &str {
        &self.internal_key
    }

    /// Starts anew the services to which these variables are handed down, and again without them after the last use.
    ///
    /// # Errors
    /// The compose file hands down no such variable, or a service does not start.
    pub async fn set(&self, variables: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let file = repository::read_text("docker-compose.yml")?;
        for name in variables.keys() {
            let handed_down = file.contains(&format!("${{{name}:"));
            ensure!(handed_down, "docker-compose.yml hands down no {name}");
        }
        let mut up = Command::new(repository::root().join("scripts/up"));
        up.envs(variables);
        output(&mut up).await?;
        Ok(())
    }

    /// The secret that the receivers verify with.
    pub fn listen_secret(&self) -> &str {
        &self.listen_secret
    }

    /// What a receiver got, as `GET /received` of `signalpost listen` tells it.
    pub async fn received(&self, receiver: &str) -> anyhow::Result<Value> {
        // A restart publishes another port.
        let address = compose(&["port", receiver, RECEIVERS_PORT]).await?;
        let answer = api::get(&format!("http://{}/received", address.trim())).await?;
        Ok(answer.json())
    }
}

impl Stage for Containers {
    fn gateway_url(&self) -> &str {
        &self.gateway_url
    }

    fn stripe_secret(&self) -> &str {
        &self.secret
    }

    async fn kill(&self, service: &str) -> anyhow::Result<()> {
        // A death that was asked for is not undone by the restart policy.
        compose(&["kill", "-s", "SIGKILL", service]).await?;
        Ok(())
    }

    async fn restart(&self, service: &str) -> anyhow::Result<()> {
        compose(&["start", service]).await?;
        Ok(())
    }

    /// A container of its own, from the image that is under test; it goes with the stack.
    async fn receive(&self, receiving: &Receiving) -> anyhow::Result<Listening> {
        let name = format!("receiver-{}", unique_id());
        let publish = format!("127.0.0.1::{RECEIVERS_PORT}");
        let run = ["run", "--detach", "--no-deps", "--name", &name, "--publish"];
        // Without the secret of the receivers that stand beside the stack.
        let quiet = ["-e", "SIGNALPOST_LISTEN_SECRET=", "receiver"];
        let listen = ["/signalpost", "listen", "--host=0.0.0.0", "--quiet"];
        let told = receiving.arguments();
        let mut arguments = [&run[..], &[&publish], &quiet, &listen].concat();
        arguments.extend(told.iter().map(String::as_str));
        compose(&arguments).await?;
        let mut port = Command::new("docker");
        port.args(["port", &name, RECEIVERS_PORT]);
        let asked_at = format!("http://{}", output(&mut port).await?.trim());
        eventually("the receiver listens", PATIENCE, async || {
            let answer = api::get(&format!("{asked_at}/received")).await;
            answer.map(drop).map_err(|fault| format!("{fault:#}"))
        })
        .await?;
        Ok(Listening {
            url: format!("http://{name}:{RECEIVERS_PORT}"),
            asked_at,
            _until: Box::new(()),
        })
    }

    async fn log(&self, service: &str) -> anyhow::Result<Vec<String>> {
        let text = compose(&["logs", "--no-color", service]).await?;
        // Each line has the container's name before it.
        Ok(text
            .lines()
            .filter_map(|line| line.find('{').map(|start| line[start..].to_owned()))
            .collect())
    }
}

/// Runs `scripts/compose`, and answers what it printed.
pub async fn compose(arguments: &[&str]) -> anyhow::Result<String> {
    let mut compose = Command::new(repository::root().join("scripts/compose"));
    output(compose.args(arguments)).await
}

/// What a command printed that must not fail.
async fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .current_dir(repository::root())
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
