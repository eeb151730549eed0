//! What the stripe-ingester can be told.

use runtime::config::{self, List, Secrets, complain_of_listen_addr};
use runtime::internal_key::InternalKey;
use secrecy::SecretString;
use serde::Deserialize;

/// Each request is checked against every secret, so their number has a bound. A rotation needs two.
const SECRETS_MAX: usize = 8;

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// `STRIPE_INGESTER_HOST`: the address to listen on; default 127.0.0.1.
    pub stripe_ingester_host: String,
    /// `STRIPE_INGESTER_PORT`: default 3001.
    pub stripe_ingester_port: u16,
    /// `STRIPE_WEBHOOK_SECRET`: required; a comma-separated list while a secret is rotated.
    pub stripe_webhook_secret: Secrets,
    /// `STRIPE_API_KEY`: optional. Nothing is asked of Stripe's API yet.
    pub stripe_api_key: Option<SecretString>,
    /// `EVENT_STORE_URL`: where event-store answers; default http://127.0.0.1:3003.
    pub event_store_url: List,
    /// `SIGNALPOST_INTERNAL_KEY`: what our services show each other, comma-separated; the first is sent. Required.
    pub signalpost_internal_key: InternalKey,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stripe_ingester_host: "127.0.0.1".to_owned(),
            stripe_ingester_port: 3001,
            stripe_webhook_secret: Secrets::default(),
            stripe_api_key: None,
            event_store_url: List::of(&["http://127.0.0.1:3003"]),
            signalpost_internal_key: InternalKey::default(),
        }
    }
}

impl config::Config for Config {
    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        complain_of_listen_addr(
            &mut complaints,
            "STRIPE_INGESTER",
            &self.stripe_ingester_host,
            self.stripe_ingester_port,
        );
        if self.stripe_webhook_secret.is_empty() {
            complaints.push(
                "STRIPE_WEBHOOK_SECRET: required; Stripe shows it beside the webhook endpoint"
                    .to_owned(),
            );
        }
        if self.stripe_webhook_secret.len() > SECRETS_MAX {
            complaints.push(format!(
                "STRIPE_WEBHOOK_SECRET: more than {SECRETS_MAX} secrets"
            ));
        }
        self.signalpost_internal_key
            .complain_if_missing(&mut complaints);
        complaints
    }

    fn listen_addr(&self) -> String {
        config::listen_addr(&self.stripe_ingester_host, self.stripe_ingester_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, config::Faults> {
        config::from_variables(
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn without_a_secret_it_does_not_start() {
        for variables in [&[][..], &[("STRIPE_WEBHOOK_SECRET", " , ")]] {
            let faults = read(variables).unwrap_err();
            assert!(faults.to_string().contains("STRIPE_WEBHOOK_SECRET"));
        }
    }

    #[test]
    fn secrets_are_a_trimmed_list_and_never_show() {
        let config = read(&[
            ("STRIPE_WEBHOOK_SECRET", "whsec_canary_a , whsec_canary_b\n"),
            ("STRIPE_API_KEY", "sk_canary"),
            ("SIGNALPOST_INTERNAL_KEY", "canary-0123456789"),
        ])
        .unwrap();

        let secrets: Vec<&str> = config.stripe_webhook_secret.expose().collect();
        assert_eq!(secrets, ["whsec_canary_a", "whsec_canary_b"]);
        assert!(!format!("{config:?}").contains("canary"));
    }
}
