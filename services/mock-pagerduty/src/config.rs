//! What mock-pagerduty can be told.

use runtime::config::{complain_of_listen_addr, listen_addr};
use runtime::internal_key::InternalKey;
use serde::Deserialize;

/// From the environment.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Address the service binds to: `MOCK_PAGERDUTY_HOST`, default 127.0.0.1.
    pub mock_pagerduty_host: String,
    /// Port the service binds to: `MOCK_PAGERDUTY_PORT`, default 3006; 0 takes a free one.
    pub mock_pagerduty_port: u16,
    /// `SIGNALPOST_INTERNAL_KEY`: what our services show each other, comma-separated; the first is sent. Required.
    pub signalpost_internal_key: InternalKey,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mock_pagerduty_host: "127.0.0.1".to_owned(),
            mock_pagerduty_port: 3006,
            signalpost_internal_key: InternalKey::default(),
        }
    }
}

impl runtime::config::Config for Config {
    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        complain_of_listen_addr(
            &mut complaints,
            "MOCK_PAGERDUTY",
            &self.mock_pagerduty_host,
            self.mock_pagerduty_port,
        );
        self.signalpost_internal_key
            .complain_if_missing(&mut complaints);
        complaints
    }

    fn listen_addr(&self) -> String {
        listen_addr(&self.mock_pagerduty_host, self.mock_pagerduty_port)
    }
}
