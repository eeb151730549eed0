//! Scenario files: requests and what must be answered. `fixtures/scenarios/README.md` tells the format.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{self, Answer};
use crate::eventually::eventually;
use crate::receiver::Receiving;
use crate::stage::{Listening, Stage, unique_id};
use crate::{matching, repository};

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows.
    pub about: String,
    /// Whether it needs a hub that has stored nothing yet.
    #[serde(default)]
    pub fresh: bool,
    /// Variables that its hub is started with.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Receivers of webhooks, started beside it; `${name}` is the URL of each.
    #[serde(default)]
    receivers: BTreeMap<String, Receiving>,
    steps: Vec<Step>,
}

/// Kills, restarts, asks, looks into a log: whichever it has, in this order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    name: String,
    #[serde(default)]
    kill: Vec<String>,
    #[serde(default)]
    restart: Vec<String>,
    request: Option<Request>,
    #[serde(default)]
    expect: Expectation,
    /// Values of the answer, by JSON pointer, for later steps.
    #[serde(default)]
    save: Values,
    log: Option<Log>,
    /// Looks again until all is as expected, at most so long.
    #[serde(default)]
    retry_until_s: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    method: String,
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Sent as JSON.
    body: Option<Value>,
    /// Sent byte for byte.
    body_text: Option<String>,
    /// A file of the repository, sent byte for byte, unless `set` changes it.
    body_file: Option<String>,
    /// Fields of the file's object to replace.
    #[serde(default)]
    set: BTreeMap<String, Value>,
    /// Whether to sign the body as Stripe does.
    #[serde(default)]
    sign_stripe: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    status: u16,
    body: Option<Value>,
    /// Whether the body must equal `body`, rather than hold it.
    #[serde(default)]
    exact: bool,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Texts that the body has.
    #[serde(default)]
    text: Vec<String>,
    /// What equals what stands at JSON pointers of the body; null where nothing does.
    #[serde(default)]
    at: BTreeMap<String, Value>,
    /// How many items of a list match.
    count: Option<Count>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    /// The list, by JSON pointer.
    of: String,
    /// What an item must hold to be counted.
    #[serde(default)]
    with: Value,
    is: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    service: String,
    /// Texts that one line has.
    has: Vec<String>,
}

impl Scenario {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Takes every step in turn; the first that is not as expected is the error.
    pub async fn run(&self, stage: &impl Stage) -> anyhow::Result<()> {
        let mut values = Values::from([("unique".to_owned(), unique_id())]);
        let mut receivers = Vec::new();
        for (name, receiving) in &self.receivers {
            let receiver = stage.receive(receiving).await?;
            values.insert(name.clone(), receiver.url.clone());
            receivers.push(receiver);
        }
        for step in &self.steps {
            step.run(stage, &receivers, &mut values)
                .await
                .with_context(|| format!("step `{}`", step.name))?;
        }
        Ok(())
    }
}

/// What stands for `${name}`.
type Values = BTreeMap<String, String>;

impl Step {
    async fn run(
        &self,
        stage: &impl Stage,
        receivers: &[Listening],
        values: &mut Values,
    ) -> anyhow::Result<()> {
        for service in &self.kill {
            stage.kill(service).await?;
        }
        for service in &self.restart {
            stage.restart(service).await?;
        }
        let within = Duration::from_secs(self.retry_until_s);
        if let Some(request) = &self.request {
            let answer = eventually("the expected answer", within, async || {
                self.ask(request, stage, receivers, values)
                    .await
                    .map_err(|fault| format!("{fault:#}"))
            })
            .await?;
            values.extend(self.saved(&answer.json())?);
        }
        if let Some(log) = &self.log {
            let what = format!("a line of {}", log.service);
            eventually(&what, within, async || {
                log.find(stage, values)
                    .await
                    .map_err(|fault| format!("{fault:#}"))
            })
            .await?;
        }
        Ok(())
    }

    async fn ask(
        &self,
        request: &Request,
        stage: &impl Stage,
        receivers: &[Listening],
        values: &Values,
    ) -> anyhow::Result<Answer> {
        let answer = request.send(stage, receivers, values).await?;
        if let Err(fault) = self.expect.check(&answer, values) {
            bail!("{fault:#}: {} {}", answer.status, answer.text());
        }
        Ok(answer)
    }

    fn saved(&self, body: &Value) -> anyhow::Result<Values> {
        let mut saved = Values::new();
        for (name, pointer) in &self.save {
            let value = body
                .pointer(pointer)
                .and_then(Value::as_str)
                .with_context(|| format!("no text at {pointer} in {body}"))?;
            saved.insert(name.clone(), value.to_owned());
        }
        Ok(saved)
    }
}

impl Request {
    async fn send(
        &self,
        stage: &impl Stage,
        receivers: &[Listening],
        values: &Values,
    ) -> anyhow::Result<Answer> {
        let (body, is_json) = self.body(values)?;
        let mut headers = Vec::new();
        if is_json && !self.headers.keys().any(|name| name == "content-type") {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        for (name, value) in &self.headers {
            headers.push((name.clone(), fill(value, values)?));
        }
        if self.sign_stripe {
            headers.push(api::signature_header(stage.stripe_secret(), &body));
        }
        let path = fill(&self.path, values)?;
        // A receiver is asked by its whole URL.
        let asked = receivers.iter().find_map(|receiver| receiver.asked(&path));
        let url = asked.unwrap_or_else(|| format!("{}{path}", stage.gateway_url()));
        let method = Method::from_bytes(self.method.as_bytes())?;
        api::call(method, &url, &headers, body).await
    }

    fn body(&self, values: &Values) -> anyhow::Result<(Vec<u8>, bool)> {
        match (&self.body, &self.body_text, &self.body_file) {
            (None, None, None) => Ok((Vec::new(), false)),
            (Some(body), None, None) => {
                Ok((fill_json(body, values)?.to_string().into_bytes(), true))
            }
            (None, Some(text), None) => Ok((fill(text, values)?.into_bytes(), true)),
            (None, None, Some(path)) => Ok((self.file(path, values)?, true)),
            _ => bail!("more than one of body, body_text, body_file"),
        }
    }

    fn file(&self, path: &str, values: &Values) -> anyhow::Result<Vec<u8>> {
        let bytes = repository::read(path)?;
        if self.set.is_empty() {
            return Ok(bytes);
        }
        let mut file: Value = serde_json::from_slice(&bytes)?;
        let fields = file.as_object_mut().context("the file holds no object")?;
        for (name, value) in &self.set {
            fields.insert(name.clone(), fill_json(value, values)?);
        }
        Ok(file.to_string().into_bytes())
    }
}

impl Expectation {
    fn check(&self, answer: &Answer, values: &Values) -> anyhow::Result<()> {
        ensure!(
            answer.status.as_u16() == self.status,
            "status is not {}",
            self.status
        );
        let body = answer.json();
        if let Some(expected) = &self.body {
            let expected = fill_json(expected, values)?;
            if self.exact {
                ensure!(body == expected, "the body is not {expected}");
            } else {
                matching::contains(&body, &expected).map_err(anyhow::Error::msg)?;
            }
        }
        for (name, expected) in &self.headers {
            let expected = fill(expected, values)?;
            let value = answer
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok());
            ensure!(
                value == Some(&*expected),
                "header {name} is {value:?}, not {expected}"
            );
        }
        for expected in &self.text {
            let expected = fill(expected, values)?;
            ensure!(
                answer.text().contains(&expected),
                "the body has no `{expected}`"
            );
        }
        for (pointer, expected) in &self.at {
            let expected = fill_json(expected, values)?;
            let found = body.pointer(pointer).unwrap_or(&Value::Null);
            ensure!(*found == expected, "{pointer} is {found}, not {expected}");
        }
        self.count
            .as_ref()
            .map_or(Ok(()), |count| count.check(&body, values))
    }
}

impl Count {
    fn check(&self, body: &Value, values: &Values) -> anyhow::Result<()> {
        let with = fill_json(&self.with, values)?;
        let items = body
            .pointer(&self.of)
            .and_then(Value::as_array)
            .with_context(|| format!("no list at {}", self.of))?;
        let counted = items
            .iter()
            .filter(|item| with.is_null() || matching::contains(item, &with).is_ok())
            .count();
        ensure!(counted == self.is, "{counted} items match, not {}", self.is);
        Ok(())
    }
}

impl Log {
    async fn find(&self, stage: &impl Stage, values: &Values) -> anyhow::Result<()> {
        let mut parts = Vec::new();
        for part in &self.has {
            parts.push(fill(part, values)?);
        }
        let lines = stage.log(&self.service).await?;
        ensure!(
            lines
                .iter()
                .any(|line| parts.iter().all(|part| line.contains(part))),
            "none of {} lines has {parts:?}",
            lines.len()
        );
        Ok(())
    }
}

/// The text with every `${name}` replaced.
fn fill(text: &str, values: &Values) -> anyhow::Result<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').context("a ${ without }")?;
        let value = values
            .get(name)
            .with_context(|| format!("no value {name}"))?;
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn fill_json(value: &Value, values: &Values) -> anyhow::Result<Value> {
    Ok(match value {
        Value::String(text) => Value::String(fill(text, values)?),
        Value::Array(items) => items
            .iter()
            .map(|item| fill_json(item, values))
            .collect::<anyhow::Result<_>>()?,
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| Ok((name.clone(), fill_json(value, values)?)))
                .collect::<anyhow::Result<_>>()?,
        ),
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_filled_in_everywhere() {
        let values = BTreeMap::from([("unique".to_owned(), "u1".to_owned())]);

        let filled = fill_json(
            &json!({"id": "evt_${unique}_${unique}", "n": [1, "${unique}"]}),
            &values,
        );

        assert_eq!(filled.unwrap(), json!({"id": "evt_u1_u1", "n": [1, "u1"]}));
        assert!(fill("${other}", &values).is_err());
        assert!(fill("${unique", &values).is_err());
    }

    #[test]
    fn an_unknown_word_in_a_file_is_refused() {
        for step in [
            json!({"name": "s", "request": {"method": "GET", "path": "/"}, "expect": {"status": 200, "bdy": {}}}),
            json!({"name": "s", "request": {"method": "GET", "path": "/", "sign": true}, "expect": {"status": 200}}),
            json!({"name": "s", "kil": ["delivery"]}),
        ] {
            let scenario = json!({"about": "a", "steps": [step]});
            assert!(
                serde_json::from_value::<Scenario>(scenario.clone()).is_err(),
                "{scenario}"
            );
        }
    }
}
