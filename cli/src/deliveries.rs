//! `signalpost deliveries` and `signalpost retry`: what became of events, and one more try.

use jiff::Timestamp;
use schema::delivery::Status;
use schema::names;
use schema::webhooks::{AttemptView, DeliveriesPage, DeliveryView};

use crate::gateway::{self, Asking, Gateway};
use crate::output::{self, printable, say};
use crate::settings::Settings;

/// How much of an answer's body stands in a row, in characters.
const RESPONSE_SHOWN: usize = 60;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    filter: Filter,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(clap::Args)]
struct Filter {
    /// Only this client's
    #[arg(long, value_name = "CLIENT_ID")]
    client: Option<String>,
    /// Only to this endpoint
    #[arg(long, value_name = "ENDPOINT_ID")]
    endpoint: Option<String>,
    /// Only those that are pending, failed, delivered, exhausted or skipped
    #[arg(long, value_parser = status)]
    status: Option<Status>,
    /// How many, 1 to 500
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// Where the last page ended
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(clap::Subcommand)]
enum What {
    /// One delivery with its attempts
    Show { delivery_id: String },
}

#[derive(clap::Args)]
pub struct Retry {
    #[command(flatten)]
    asking: Asking,
    delivery_id: String,
}

fn status(word: &str) -> Result<Status, String> {
    Status::parse(word).ok_or_else(|| "pending, failed, delivered, exhausted or skipped".to_owned())
}

/// Asks the gateway and prints.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let gateway = Gateway::find(&arguments.asking, Settings::read()?)?;
    let json = arguments.asking.json;
    match arguments.what {
        Some(What::Show { delivery_id }) => show(&gateway, &delivery_id, json).await,
        None => list(&gateway, arguments.filter, json).await,
    }
}

/// Has a delivery sent again, with a full schedule.
pub async fn retry(arguments: Retry) -> anyhow::Result<()> {
    let gateway = Gateway::find(&arguments.asking, Settings::read()?)?;
    let id = &arguments.delivery_id;
    let answer = gateway
        .post::<()>(names::DELIVERY_RETRY, &[id], None)
        .await?;
    if arguments.asking.json {
        output::say_json(&answer);
    } else {
        say(format!(
            "{id} is sent again; signalpost deliveries show {id} tells what becomes of it"
        ));
    }
    Ok(())
}

async fn list(gateway: &Gateway, filter: Filter, json: bool) -> anyhow::Result<()> {
    let query = [
        ("client", filter.client),
        ("endpoint", filter.endpoint),
        ("status", filter.status.map(|status| status.to_string())),
        ("limit", Some(filter.limit.to_string())),
        ("cursor", filter.cursor),
    ];
    let answer = gateway.get(names::DELIVERIES, &[], &query).await?;
    if json {
        output::say_json(&answer);
        return Ok(());
    }
    let page: DeliveriesPage = gateway::read(&answer)?;
    say(table(&page.deliveries));
    if let Some(cursor) = page.next_cursor {
        say(format!("\nolder ones: --cursor {}", printable(&cursor)));
    }
    Ok(())
}

async fn show(gateway: &Gateway, delivery_id: &str, json: bool) -> anyhow::Result<()> {
    let answer = gateway.get(names::DELIVERY, &[delivery_id], &[]).await?;
    if json {
        output::say_json(&answer);
        return Ok(());
    }
    let delivery: DeliveryView = gateway::read(&answer)?;
    say(table(std::slice::from_ref(&delivery)));
    say(format!("\ncorrelation id {}\n", delivery.correlation_id));
    say(attempts_table(&delivery.attempts.unwrap_or_default()));
    Ok(())
}

pub(crate) fn table(deliveries: &[DeliveryView]) -> String {
    let mut table = output::table([
        "CREATED", "DELIVERY", "EVENT", "TYPE", "CLIENT", "ENDPOINT", "STATUS", "ATTEMPTS", "CODE",
        "WHY", "NEXT",
    ]);
    for delivery in deliveries {
        table.add_row([
            format!("{:.0}", delivery.created_at),
            printable(&delivery.delivery_id),
            printable(&delivery.event_id),
            printable(&delivery.event_type),
            printable(&delivery.client_id),
            printable(&delivery.endpoint_id),
            delivery.status.to_string(),
            delivery.attempts_started.to_string(),
            or_dash(delivery.status_code),
            why(delivery),
            moment(delivery.next_attempt_at),
        ]);
    }
    table.to_string()
}

/// Why it ended so, or what it waits for.
fn why(delivery: &DeliveryView) -> String {
    match (&delivery.reason, delivery.waiting_for) {
        (Some(reason), _) => printable(reason),
        (None, Some(waiting_for)) => format!("waits: {waiting_for}"),
        (None, None) => "-".to_owned(),
    }
}

fn attempts_table(attempts: &[AttemptView]) -> String {
    let mut table = output::table([
        "ATTEMPT", "TRIGGER", "STARTED", "MS", "CODE", "ERROR", "NEXT", "RESPONSE",
    ]);
    for attempt in attempts {
        table.add_row([
            attempt.number.to_string(),
            attempt.trigger.to_string(),
            format!("{:.3}", attempt.started_at),
            or_dash(attempt.duration_ms),
            or_dash(attempt.status_code),
            failure(attempt),
            moment(attempt.next_attempt_at),
            beginning(attempt.response.as_deref().unwrap_or_default()),
        ]);
    }
    table.to_string()
}

/// The word of the error, with its reason.
fn failure(attempt: &AttemptView) -> String {
    match (&attempt.error, &attempt.error_reason) {
        (Some(error), Some(reason)) => printable(&format!("{error}: {reason}")),
        (Some(error), None) => printable(error),
        (None, _) => "-".to_owned(),
    }
}

fn or_dash(number: Option<impl ToString>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn moment(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"))
}

fn beginning(text: &str) -> String {
    let shown: String = text.chars().take(RESPONSE_SHOWN).collect();
    printable(&shown)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn delivery(change: &Value) -> DeliveryView {
        let mut delivery = json!({
            "delivery_id": "dlv_1", "event_id": "evt_1", "event_type": "order.created",
            "client_id": "acme", "endpoint_id": "ep_1", "status": "failed", "reason": null,
            "waiting_for": "schedule", "attempts_started": 2, "interrupted": 0, "generation": 0,
            "idempotency_key": null, "source_event_id": null, "correlation_id": "c",
            "status_code": 503, "created_at": "2026-01-02T03:04:05Z",
            "next_attempt_at": "2026-01-02T03:09:05Z", "ended_at": null,
        });
        let fields = delivery.as_object_mut().unwrap();
        fields.extend(change.as_object().unwrap().clone());
        serde_json::from_value(delivery).unwrap()
    }

    #[test]
    fn a_delivery_is_one_row_with_what_it_waits_for_or_why_it_ended() {
        let ended = json!({"status": "exhausted", "reason": "gone", "waiting_for": null,
            "next_attempt_at": null, "status_code": null});

        let text = table(&[delivery(&json!({})), delivery(&ended)]);

        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 3, "{text}");
        for cell in ["failed", "503", "waits: schedule", "2026-01-02T03:09:05Z"] {
            assert!(rows[1].contains(cell), "{cell} in {text}");
        }
        assert!(
            rows[2].contains("exhausted") && rows[2].contains("gone"),
            "{text}"
        );
    }

    #[test]
    fn an_attempts_answer_is_cut_and_no_terminal_obeys_it() {
        let attempt = |change: Value| -> AttemptView {
            let mut attempt = json!({
                "number": 1, "trigger": "schedule", "started_at": "2026-01-02T03:04:05.678Z",
                "duration_ms": 12, "phases": {}, "status_code": null, "error": "tls_error",
                "error_reason": "expired", "resent": false, "response": null, "next_attempt_at": "2026-01-02T03:04:10Z",
            });
            let fields = attempt.as_object_mut().unwrap();
            fields.extend(change.as_object().unwrap().clone());
            serde_json::from_value(attempt).unwrap()
        };
        let noisy = json!({"number": 2, "error": "status", "status_code": 500,
            "response": format!("\u{1b}[2J\n{}", "é".repeat(5_000))});

        let text = attempts_table(&[attempt(json!({})), attempt(noisy)]);

        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("tls_error: expired") && text.contains("2026-01-02T03:04:05.678Z"));
        assert!(!text.contains('\u{1b}') && text.matches('é').count() < RESPONSE_SHOWN);
    }
}
