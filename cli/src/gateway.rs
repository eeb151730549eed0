//! Asking the gateway.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use runtime::http_client;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::output::printable;
use crate::settings::Settings;

const TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_MAX: usize = 24 << 20;
/// The longest text of an unexpected answer that is told, in bytes.
const TOLD_MAX: usize = 1024;

/// What every question has.
#[derive(clap::Args)]
pub struct Asking {
    /// Base URL of the gateway [default: where GATEWAY_HOST and GATEWAY_PORT say]
    #[arg(long, value_name = "URL", global = true)]
    gateway: Option<String>,
    /// Print each answer as it came
    #[arg(long, global = true)]
    pub json: bool,
}

/// The gateway, asked with the first of its keys.
pub struct Gateway {
    base: Url,
    settings: Settings,
}

/// The parts of a problem that help a person.
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
    correlation_id: String,
}

impl Gateway {
    /// The gateway that the arguments name, or else the settings.
    pub fn find(asking: &Asking, settings: Settings) -> anyhow::Result<Self> {
        let base = asking
            .gateway
            .clone()
            .unwrap_or_else(|| settings.gateway_url());
        let base = Url::parse(&base)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .with_context(|| format!("`{base}` is not the URL of a gateway"))?;
        Ok(Self { base, settings })
    }

    /// The answer to a GET; an error with the problem's detail unless it is 2xx.
    ///
    /// `{…}` segments of the path are filled from `ids` in turn.
    pub async fn get(
        &self,
        path: &str,
        ids: &[&str],
        query: &[(&str, Option<String>)],
    ) -> anyhow::Result<Bytes> {
        let mut url = self.url(path, ids)?;
        for (name, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        self.ask(Method::GET, url, None).await
    }

    /// As [`get`](Self::get), for a POST.
    pub async fn post<T: Serialize + ?Sized>(
        &self,
        path: &str,
        ids: &[&str],
        body: Option<&T>,
    ) -> anyhow::Result<Bytes> {
        let body = body.map(serde_json::to_vec).transpose()?;
        self.ask(Method::POST, self.url(path, ids)?, body).await
    }

    fn url(&self, path: &str, ids: &[&str]) -> anyhow::Result<Url> {
        let mut url = self.base.clone();
        let mut ids = ids.iter().copied();
        let filled = path.split('/').filter(|part| !part.is_empty()).map(|part| {
            if part.starts_with('{') {
                ids.next().unwrap_or_default()
            } else {
                part
            }
        });
        url.path_segments_mut()
            .ok()
            .context("the gateway's URL has no path")?
            .pop_if_empty()
            .extend(filled);
        Ok(url)
    }

    async fn ask(&self, method: Method, url: Url, body: Option<Vec<u8>>) -> anyhow::Result<Bytes> {
        let asked = format!("{method} {}", url.path());
        let mut request = http_client::single_try(TIMEOUT).request(method, url);
        if let Some(key) = self.settings.gateway_key() {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request
                .header(header::CONTENT_TYPE, "application/json")
                .body(body);
        }
        let response = request
            .send()
            .await
            .with_context(|| format!("asking {}", self.base))?;
        let status = response.status();
        let answer = http_client::read_body(response, ANSWER_MAX).await?;
        anyhow::ensure!(
            status.is_success(),
            "{asked} was answered {}",
            refusal(status, &answer)
        );
        Ok(answer)
    }
}

/// Reads an answer as what the API says it is.
pub fn read<T: DeserializeOwned>(answer: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(answer).context("reading the answer")
}

/// What a person is told of an answer that is not 2xx.
fn refusal(status: StatusCode, answer: &[u8]) -> String {
    let status = status.as_u16();
    match serde_json::from_slice::<Problem>(answer) {
        Ok(problem) => printable(&format!(
            "{status} {}: {} (correlation id {})",
            problem.code, problem.detail, problem.correlation_id
        )),
        Err(_) => {
            let told = &answer[..answer.len().min(TOLD_MAX)];
            printable(&format!("{status}: {}", String::from_utf8_lossy(told)))
        }
    }
}

#[cfg(test)]
mod tests {
    use schema::names;

    use super::*;

    fn gateway(base: &str) -> anyhow::Result<Gateway> {
        let asking = Asking {
            gateway: Some(base.to_owned()),
            json: false,
        };
        Gateway::find(&asking, Settings::default())
    }

    #[test]
    fn an_id_stays_one_segment_of_the_path() {
        for (base, path, ids, url) in [
            (
                "http://a:1",
                names::DELIVERY_RETRY,
                &["dlv_1"][..],
                "http://a:1/webhooks/deliveries/dlv_1/retry",
            ),
            (
                "http://a/under/",
                names::CLIENT_ENDPOINTS,
                &["a/b?c#d e"][..],
                "http://a/under/webhooks/clients/a%2Fb%3Fc%23d%20e/endpoints",
            ),
            ("https://a/", names::EVENTS, &[][..], "https://a/events"),
        ] {
            let built = gateway(base).unwrap().url(path, ids).unwrap();
            assert_eq!(built.as_str(), url);
        }
        assert!(gateway("127.0.0.1:3000").is_err());
    }

    #[test]
    fn a_refusal_tells_the_problems_detail_and_no_terminal_obeys_it() {
        let problem = br#"{"type":"t","title":"t","status":404,"code":"not_found",
            "detail":"no such \u001b[31m delivery","correlation_id":"c-1"}"#;
        for (status, answer, told) in [
            (
                404,
                &problem[..],
                "404 not_found: no such  [31m delivery (correlation id c-1)",
            ),
            (502, b"<html>\x07", "502: <html> "),
            (500, b"", "500: "),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(refusal(status, answer), told);
        }
    }
}
