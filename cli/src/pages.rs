//! `signalpost pages`: what nobody on call has got; `resend` tries it once more.

use schema::delivery::Status;
use schema::names;
use schema::webhooks::{DeliveriesPage, DeliveryView, EndpointView};

use crate::deliveries;
use crate::gateway::{self, Asking, Gateway};
use crate::output::{self, say};
use crate::settings::Settings;

/// Where pages go.
const PAGERDUTY: &str = "pagerduty";
/// Of a page that somebody had already.
const ALREADY_DELIVERED: &str = "already_delivered";
/// The most rows of one answer.
const LIMIT: &str = "500";

/// Open already: it goes out by itself.
const OPEN: Status = Status::Pending;
const TO_RESEND: [Status; 3] = [Status::Failed, Status::Exhausted, Status::Skipped];

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(flatten)]
    asking: Asking,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(clap::Subcommand)]
enum What {
    /// Send every page again that failed, was given up, canceled or skipped
    Resend,
}

/// Asks the gateway and prints.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let gateway = Gateway::find(&arguments.asking, Settings::read()?)?;
    let json = arguments.asking.json;
    match arguments.what {
        Some(What::Resend) => resend(&gateway, json).await,
        None => list(&gateway, json).await,
    }
}

async fn list(gateway: &Gateway, json: bool) -> anyhow::Result<()> {
    let mut pages = Vec::new();
    for status in [OPEN].into_iter().chain(TO_RESEND) {
        pages.extend(pages_that_are(gateway, status, json).await?);
    }
    if json {
        return Ok(());
    }
    if pages.is_empty() {
        say("every page was delivered");
    } else {
        say(deliveries::table(&pages));
    }
    tell_disabled(gateway).await
}

async fn resend(gateway: &Gateway, json: bool) -> anyhow::Result<()> {
    let mut pages = Vec::new();
    for status in TO_RESEND {
        pages.extend(pages_that_are(gateway, status, false).await?);
    }
    // As they came.
    pages.sort_by_key(|page| page.created_at);
    for page in &pages {
        let answer = gateway
            .post::<()>(names::DELIVERY_RETRY, &[&page.delivery_id], None)
            .await?;
        if json {
            output::say_json(&answer);
        }
    }
    if json {
        return Ok(());
    }
    say(format!(
        "{} pages are sent again; signalpost pages tells which are not delivered",
        pages.len()
    ));
    tell_disabled(gateway).await
}

/// Newest first.
async fn pages_that_are(
    gateway: &Gateway,
    status: Status,
    json: bool,
) -> anyhow::Result<Vec<DeliveryView>> {
    let (mut pages, mut cursor) = (Vec::new(), None);
    loop {
        let query = [
            ("endpoint", Some(PAGERDUTY.to_owned())),
            ("status", Some(status.to_string())),
            ("limit", Some(LIMIT.to_owned())),
            ("cursor", cursor),
        ];
        let answer = gateway.get(names::DELIVERIES, &[], &query).await?;
        if json {
            output::say_json(&answer);
        }
        let page: DeliveriesPage = gateway::read(&answer)?;
        pages.extend(page.deliveries.into_iter().filter(is_undelivered_page));
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(pages);
        }
    }
}

/// An earlier release let others post to the same endpoint: theirs have no event of the hub.
fn is_undelivered_page(delivery: &DeliveryView) -> bool {
    delivery.source_event_id.is_some() && delivery.reason.as_deref() != Some(ALREADY_DELIVERED)
}

async fn tell_disabled(gateway: &Gateway) -> anyhow::Result<()> {
    let answer = gateway.get(names::ENDPOINT, &[PAGERDUTY], &[]).await?;
    let endpoint: EndpointView = gateway::read(&answer)?;
    if endpoint.disabled {
        say(
            "pagerduty is disabled: pages are held until POST /webhooks/endpoints/pagerduty/enable",
        );
    }
    Ok(())
}
