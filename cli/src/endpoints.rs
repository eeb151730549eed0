//! `signalpost endpoints`: who is delivered to; `add` registers one more.

use schema::names;
use schema::webhooks::{ClientView, ClientsPage, EndpointView, EndpointsPage, NewEndpoint};
use serde::de::DeserializeOwned;

use crate::gateway::{self, Asking, Gateway};
use crate::output::{self, printable, say};
use crate::settings::Settings;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(flatten)]
    asking: Asking,
    /// Only this client's [default: the clients, then the endpoints of each]
    #[arg(long, value_name = "CLIENT_ID")]
    client: Option<String>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(clap::Subcommand)]
enum What {
    /// Register an endpoint and print its secret, which is shown this once
    Add(Add),
}

#[derive(clap::Args)]
struct Add {
    #[arg(long, value_name = "CLIENT_ID")]
    client: String,
    /// Where to deliver: https, unless DELIVERY_ALLOW_NETS opens the network
    #[arg(long)]
    url: String,
    /// Event types, comma between, such as order.*,invoice.paid [default: all]
    #[arg(long, value_delimiter = ',')]
    types: Option<Vec<String>>,
    #[arg(long)]
    description: Option<String>,
}

/// Asks the gateway and prints.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let gateway = Gateway::find(&arguments.asking, Settings::read()?)?;
    let json = arguments.asking.json;
    match (arguments.what, arguments.client) {
        (Some(What::Add(add)), _) => self::add(&gateway, add, json).await,
        (None, Some(client)) => {
            let endpoints = endpoints_of(&gateway, &client, json).await?;
            say_unless(json, || table(&endpoints));
            Ok(())
        }
        (None, None) => everything(&gateway, json).await,
    }
}

async fn everything(gateway: &Gateway, json: bool) -> anyhow::Result<()> {
    let clients = clients(gateway, json).await?;
    say_unless(json, || clients_table(&clients));
    let mut endpoints = Vec::new();
    for client in &clients {
        endpoints.extend(endpoints_of(gateway, &client.client_id, json).await?);
    }
    say_unless(json, || format!("\n{}", table(&endpoints)));
    Ok(())
}

fn say_unless(json: bool, text: impl FnOnce() -> String) {
    if !json {
        say(text());
    }
}

async fn clients(gateway: &Gateway, json: bool) -> anyhow::Result<Vec<ClientView>> {
    let split = |page: ClientsPage| (page.clients, page.next_cursor);
    every_page(gateway, names::CLIENTS, &[], json, split).await
}

async fn endpoints_of(
    gateway: &Gateway,
    client: &str,
    json: bool,
) -> anyhow::Result<Vec<EndpointView>> {
    let split = |page: EndpointsPage| (page.endpoints, page.next_cursor);
    every_page(gateway, names::CLIENT_ENDPOINTS, &[client], json, split).await
}

/// Every row of a list; its pages are printed as they came if that is asked for.
async fn every_page<P: DeserializeOwned, T>(
    gateway: &Gateway,
    path: &str,
    ids: &[&str],
    json: bool,
    split: impl Fn(P) -> (Vec<T>, Option<String>),
) -> anyhow::Result<Vec<T>> {
    let mut rows = Vec::new();
    let mut cursor = None;
    loop {
        let answer = gateway.get(path, ids, &[("cursor", cursor)]).await?;
        if json {
            output::say_json(&answer);
        }
        let (page, next_cursor) = split(gateway::read(&answer)?);
        rows.extend(page);
        cursor = next_cursor;
        if cursor.is_none() {
            return Ok(rows);
        }
    }
}

async fn add(gateway: &Gateway, add: Add, json: bool) -> anyhow::Result<()> {
    let new = NewEndpoint {
        url: add.url,
        event_types: add.types,
        description: add.description,
        ..NewEndpoint::default()
    };
    let answer = gateway
        .post(names::CLIENT_ENDPOINTS, &[&add.client], Some(&new))
        .await?;
    if json {
        output::say_json(&answer);
        return Ok(());
    }
    let endpoint: EndpointView = gateway::read(&answer)?;
    say(format!("endpoint  {}", printable(&endpoint.endpoint_id)));
    if let Some(secret) = endpoint.secret {
        say(format!("secret    {}", printable(&secret)));
    }
    Ok(())
}

fn clients_table(clients: &[ClientView]) -> String {
    let mut table = output::table(["CLIENT", "ENDPOINTS", "SINCE"]);
    for client in clients {
        table.add_row([
            printable(&client.client_id),
            client.endpoints.to_string(),
            format!("{:.0}", client.created_at),
        ]);
    }
    table.to_string()
}

fn table(endpoints: &[EndpointView]) -> String {
    let mut table = output::table([
        "CLIENT", "ENDPOINT", "URL", "TYPES", "STATE", "OPEN", "SINCE",
    ]);
    for endpoint in endpoints {
        let types = endpoint.event_types.as_ref();
        table.add_row([
            printable(&endpoint.client_id),
            printable(&endpoint.endpoint_id),
            printable(&endpoint.url),
            types.map_or_else(|| "all".to_owned(), |types| printable(&types.join(","))),
            state(endpoint),
            endpoint.open_deliveries.to_string(),
            format!("{:.0}", endpoint.created_at),
        ]);
    }
    table.to_string()
}

/// Whether deliveries go out, in a word or two.
fn state(endpoint: &EndpointView) -> String {
    if endpoint.disabled {
        let reason = endpoint.disabled_reason;
        reason.map_or_else(
            || "disabled".to_owned(),
            |reason| format!("disabled: {reason}"),
        )
    } else if endpoint.breaker == "closed" {
        "enabled".to_owned()
    } else {
        printable(&format!("breaker {}", endpoint.breaker))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoint(change: &Value) -> EndpointView {
        let mut endpoint = json!({
            "endpoint_id": "ep_1", "client_id": "acme", "url": "https://acme.example/hooks",
            "event_types": null, "description": null, "headers": [], "retry": {},
            "timeout_ms": 15000, "max_in_flight": 64, "rate_limit_per_s": null,
            "ordering": "none", "on_exhausted": "block", "disabled": false,
            "disabled_reason": null, "open_deliveries": 7, "breaker": "closed",
            "created_at": "2026-01-02T03:04:05.678Z", "updated_at": "2026-01-02T03:04:05Z",
        });
        let fields = endpoint.as_object_mut().unwrap();
        fields.extend(change.as_object().unwrap().clone());
        serde_json::from_value(endpoint).unwrap()
    }

    #[test]
    fn a_row_tells_whether_deliveries_go_out() {
        for (change, state) in [
            (json!({}), "enabled"),
            (json!({"breaker": "half_open"}), "breaker half_open"),
            (
                json!({"disabled": true, "disabled_reason": "gone", "breaker": "open"}),
                "disabled: gone",
            ),
        ] {
            assert_eq!(super::state(&endpoint(&change)), state);
        }
    }

    #[test]
    fn an_endpoint_is_one_row_and_its_secret_is_not_in_it() {
        let change = json!({"event_types": ["order.*", "a.b"], "secret": "whsec_canary"});

        let text = table(&[endpoint(&change), endpoint(&json!({}))]);

        assert_eq!(text.lines().count(), 3, "{text}");
        for cell in [
            "acme",
            "ep_1",
            "order.*,a.b",
            " all ",
            "2026-01-02T03:04:05Z",
        ] {
            assert!(text.contains(cell), "{cell} in {text}");
        }
        assert!(!text.contains("canary"));
    }
}
