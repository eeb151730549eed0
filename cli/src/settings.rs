//! What the command takes from the environment and `.env`; the services read their own.

use runtime::config::{self, Faults, List, Secrets, listen_addr};
use serde::Deserialize;

/// From the environment.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Where the gateway binds to: `GATEWAY_HOST`, default 127.0.0.1.
    pub gateway_host: String,
    /// The gateway's port: `GATEWAY_PORT`, default 3000.
    pub gateway_port: u16,
    /// The gateway's keys: `GATEWAY_API_KEYS`, default none. The first that opens every call is used to ask
    /// it, else the first.
    pub gateway_api_keys: Secrets,
    /// Stripe's signing secrets: `STRIPE_WEBHOOK_SECRET`. The first signs what is sent.
    pub stripe_webhook_secret: Secrets,
    /// Where pages go: `PAGERDUTY_URL`, default the mock that `up` starts.
    pub pagerduty_url: List,
    /// What `listen` verifies with: `SIGNALPOST_LISTEN_SECRET`, a comma list; default nothing.
    pub signalpost_listen_secret: Secrets,
    /// Where delivery keeps its data: `DELIVERY_DATABASE_URL`, default as delivery's.
    pub delivery_database_url: String,
    /// Where event-store keeps its data: `EVENT_STORE_DATABASE_URL`, default as event-store's.
    pub event_store_database_url: String,
    /// How much the services log: `LOG_LEVEL`, default theirs.
    pub log_level: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            gateway_host: "127.0.0.1".to_owned(),
            gateway_port: 3000,
            gateway_api_keys: Secrets::default(),
            stripe_webhook_secret: Secrets::default(),
            pagerduty_url: List::default(),
            signalpost_listen_secret: Secrets::default(),
            delivery_database_url: "sqlite:./data/delivery.db".to_owned(),
            event_store_database_url: "sqlite:./data/event-store.db".to_owned(),
            log_level: None,
        }
    }
}

impl config::Config for Settings {
    fn complaints(&self) -> Vec<String> {
        Vec::new()
    }

    fn listen_addr(&self) -> String {
        listen_addr(&self.gateway_host, self.gateway_port)
    }
}

impl Settings {
    pub fn read() -> Result<Self, Faults> {
        config::from_env()
    }

    /// The gateway's base URL, as asked from this machine.
    pub fn gateway_url(&self) -> String {
        self.gateway_url_at(self.gateway_port)
    }

    /// As [`Settings::gateway_url`], for a gateway that took a port of its own.
    pub fn gateway_url_at(&self, port: u16) -> String {
        let host = match self.gateway_host.as_str() {
            "0.0.0.0" => "127.0.0.1",
            "::" => "::1",
            host => host,
        };
        format!("http://{}", listen_addr(host, port))
    }

    /// The bearer key to show to the gateway, if it wants one.
    pub fn gateway_key(&self) -> Option<&str> {
        let mut entries = self.gateway_api_keys.expose();
        let first = entries.clone().next()?;
        let entry = entries.find(|entry| !entry.contains(':')).unwrap_or(first);
        entry.split(':').next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        config::from_variables(variables.iter().map(owned)).unwrap()
    }

    #[test]
    fn the_gateway_is_asked_where_it_can_be_reached() {
        for (host, url) in [
            ("", "http://127.0.0.1:3000"),
            ("0.0.0.0", "http://127.0.0.1:3000"),
            ("::", "http://[::1]:3000"),
            ("10.0.0.7", "http://10.0.0.7:3000"),
        ] {
            assert_eq!(settings(&[("GATEWAY_HOST", host)]).gateway_url(), url);
        }
    }

    #[test]
    fn the_first_key_that_opens_every_call_is_shown_and_without_one_the_first() {
        for (keys, shown) in [
            ("k1:acme,k2", "k2"),
            ("k1:@metrics,k2:@read,k3,k4", "k3"),
            ("k1:acme,k2:other", "k1"),
        ] {
            let settings = settings(&[("GATEWAY_API_KEYS", keys)]);
            assert_eq!(settings.gateway_key(), Some(shown), "{keys}");
        }
        assert_eq!(settings(&[]).gateway_key(), None);
    }
}
