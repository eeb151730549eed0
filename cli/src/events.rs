//! `signalpost events`: the newest events as a table.

use schema::event::{EventView, EventsPage};
use schema::names;

use crate::gateway::{self, Asking, Gateway};
use crate::output::{self, printable, say};
use crate::settings::Settings;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    asking: Asking,
    /// How many, 1 to 500
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
}

/// Asks the gateway and prints.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let gateway = Gateway::find(&arguments.asking, Settings::read()?)?;
    let limit = Some(arguments.limit.to_string());
    let answer = gateway.get(names::EVENTS, &[], &[("limit", limit)]).await?;
    if arguments.asking.json {
        output::say_json(&answer);
    } else {
        let page: EventsPage = gateway::read(&answer)?;
        say(table(&page.events));
    }
    Ok(())
}

fn table(events: &[EventView]) -> String {
    let mut table = output::table([
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
