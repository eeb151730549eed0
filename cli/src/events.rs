//! `signalpost events`: the newest events as a table.

use std::time::Duration;

use anyhow::Context as _;
use comfy_table::{Table, presets};
use runtime::http_client;
use schema::event::{EventView, EventsPage};
use schema::names;

use crate::output::say;
use crate::settings::Settings;

const TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_MAX: usize = 24 << 20;

#[derive(clap::Args)]
pub struct Arguments {
    /// Base URL of the gateway [default: where GATEWAY_HOST and GATEWAY_PORT say]
    #[arg(long)]
    gateway: Option<String>,
    /// How many, 1 to 500
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// Print the answer as it came
    #[arg(long)]
    json: bool,
}

/// Asks the gateway and prints.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let settings = Settings::read()?;
    let gateway = arguments.gateway.unwrap_or_else(|| settings.gateway_url());
    let url = format!(
        "{}{}?limit={}",
        gateway.trim_end_matches('/'),
        names::EVENTS,
        arguments.limit
    );
    let mut request = http_client::single_try(TIMEOUT).get(&url);
    if let Some(key) = settings.gateway_key() {
        request = request.bearer_auth(key);
    }
    let response = request
        .send()
        .await
        .with_context(|| format!("asking {gateway}"))?;
    let status = response.status();
    let answer = http_client::read_body(response, ANSWER_MAX).await?;
    anyhow::ensure!(
        status.is_success(),
        "{url} answered {status}: {}",
        String::from_utf8_lossy(&answer)
    );

    if arguments.json {
        say(String::from_utf8_lossy(&answer));
    } else {
        let page: EventsPage = serde_json::from_slice(&answer).context("reading the answer")?;
        say(table(&page.events));
    }
    Ok(())
}

fn table(events: &[EventView]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "STORED",
        "EVENT",
        "SEVERITY",
        "SERVICE",
        "SUMMARY",
        "ROUTED",
        "DELIVERED TO",
    ]);
    for event in events {
        table.add_row([
            format!("{:.0}", event.stored_at),
            event.event_id.to_string(),
            event.severity.as_str().to_owned(),
            printable(&event.service),
            printable(&event.summary),
            if event.routed { "yes" } else { "no" }.to_owned(),
            event.delivered_to.join(", "),
        ]);
    }
    table.to_string()
}

/// A vendor's text may hold what a terminal obeys.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_row_that_no_terminal_obeys() {
        let event = serde_json::json!({
            "event_id": "evt_1", "source": "stripe", "kind": "payment", "severity": "critical",
            "service": "stripe", "summary": "a\u{1b}[31m\nb", "description": null,
            "started_at": "2024-01-15T10:40:00Z", "resolved_at": null, "routed": true,
            "delivered_to": ["pagerduty"], "raw": {}, "stored_at": "2024-01-15T10:40:01.5Z",
            "revision": 0, "correlation_id": "c",
        });
        let event: EventView = serde_json::from_str(&event.to_string()).unwrap();

        let text = table(&[event]);

        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains('\u{1b}'));
        for cell in [
            "evt_1",
            "critical",
            "yes",
            "pagerduty",
            "2024-01-15T10:40:01Z",
        ] {
            assert!(text.contains(cell), "{cell} in {text}");
        }
    }
}
