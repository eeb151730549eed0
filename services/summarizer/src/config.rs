//! Where the summarizer listens, and the key it is asked with.

use runtime::config::{self, complain_of_listen_addr};
use runtime::internal_key::InternalKey;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// `SUMMARIZER_HOST`: the address to listen on, default 127.0.0.1.
    pub summarizer_host: String,
    /// `SUMMARIZER_PORT`, default 3005; 0 takes a free one.
    pub summarizer_port: u16,
    /// `SIGNALPOST_INTERNAL_KEY`: what our services show each other, comma-separated; the first is sent. Required.
    pub signalpost_internal_key: InternalKey,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            summarizer_host: "127.0.0.1".to_owned(),
            summarizer_port: 3005,
            signalpost_internal_key: InternalKey::default(),
        }
    }
}

impl config::Config for Config {
    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        complain_of_listen_addr(
            &mut complaints,
            "SUMMARIZER",
            &self.summarizer_host,
            self.summarizer_port,
        );
        self.signalpost_internal_key
            .complain_if_missing(&mut complaints);
        complaints
    }

    fn listen_addr(&self) -> String {
        config::listen_addr(&self.summarizer_host, self.summarizer_port)
    }
}
