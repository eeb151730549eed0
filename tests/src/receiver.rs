//! Receivers of webhooks for a test: `signalpost listen`, in this process, on a free port of loopback.

use std::num::NonZeroU64;
use std::time::Duration;

use anyhow::Context as _;
use http::{Method, StatusCode};
use runtime::clock::Clock;
use runtime::server;
use serde::Deserialize;
use serde_json::Value;
use signalpost::listen::{self, Behaviour, Options};
use signature::standard::Key;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api;

/// How a receiver is told to answer, as a scenario file says it. Nothing said: 200 at once, whatever the signature.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Receiving {
    /// Verifies with these; where none fits it answers 401.
    pub secrets: Vec<String>,
    pub fail_first: u64,
    /// Fails every one whose number is a multiple.
    pub fail_every: Option<NonZeroU64>,
    /// 500 unless said.
    pub fail_status: Option<u16>,
    /// Of failing answers.
    pub retry_after_s: Option<u64>,
    /// Before every answer.
    pub delay_ms: u64,
    /// Never answers.
    pub hang: bool,
}

impl Receiving {
    /// What `signalpost listen` has to be told.
    pub fn arguments(&self) -> Vec<String> {
        let Self {
            secrets,
            fail_first,
            fail_every,
            fail_status,
            retry_after_s,
            delay_ms,
            hang,
        } = self;
        let mut arguments = vec![
            format!("--fail-first={fail_first}"),
            format!("--delay-ms={delay_ms}"),
        ];
        if !secrets.is_empty() {
            arguments.push(format!("--secret={}", secrets.join(",")));
        }
        arguments.extend(fail_every.map(|every| format!("--fail-every={every}")));
        arguments.extend(fail_status.map(|status| format!("--fail-status={status}")));
        arguments.extend(retry_after_s.map(|seconds| format!("--retry-after={seconds}")));
        arguments.extend(hang.then(|| "--hang".to_owned()));
        arguments
    }
}

/// Receives until it is dropped.
pub struct Receiver {
    url: String,
    _ending: DropGuard,
}

impl Receiver {
    pub async fn start(receiving: &Receiving) -> anyhow::Result<Self> {
        Self::on(server::bind("127.0.0.1:0").await?, receiving)
    }

    /// Receives on a socket that listens already.
    pub fn on(listener: TcpListener, receiving: &Receiving) -> anyhow::Result<Self> {
        let options = options(receiving)?;
        let url = format!("http://{}", listener.local_addr()?);
        let shutdown = CancellationToken::new();
        let ending = shutdown.clone().drop_guard();
        tokio::spawn(listen::serve(listener, options, Clock::system(), shutdown));
        Ok(Self {
            url,
            _ending: ending,
        })
    }

    /// Without a slash at the end; any path of it is a webhook's.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What came: `count`, `distinct`, `refused`, and the newest 1,000 in `received`, newest first.
    pub async fn received(&self) -> anyhow::Result<Value> {
        let url = format!("{}/received", self.url);
        let answer = api::call(Method::GET, &url, &[], Vec::new()).await?;
        Ok(answer.json())
    }
}

fn options(receiving: &Receiving) -> anyhow::Result<Options> {
    let secrets = receiving.secrets.iter();
    let keys = secrets.map(|secret| Key::parse(secret).context("a receiver's secret"));
    let usual = Behaviour::default();
    let fail_status = receiving
        .fail_status
        .map(StatusCode::from_u16)
        .transpose()?;
    Ok(Options {
        keys: keys.collect::<anyhow::Result<_>>()?,
        behaviour: Behaviour {
            fail_first: receiving.fail_first,
            fail_every: receiving.fail_every,
            fail_status: fail_status.unwrap_or(usual.fail_status),
            retry_after_s: receiving.retry_after_s,
            delay: Duration::from_millis(receiving.delay_ms),
            hang: receiving.hang,
            ..usual
        },
        ..Options::default()
    })
}
