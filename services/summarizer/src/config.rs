//! Where the summarizer listens; there is nothing else to tell it.

use runtime::config::{self, complain_of_listen_addr};
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// `SUMMARIZER_HOST`: the address to listen on, default 127.0.0.1.
    pub summarizer_host: String,
    /// `SUMMARIZER_PORT`, default 3005; 0 takes a free one.
    pub summarizer_port: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            summarizer_host: "127.0.0.1".to_owned(),
            summarizer_port: 3005,
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
        complaints
    }

    fn listen_addr(&self) -> String {
        config::listen_addr(&self.summarizer_host, self.summarizer_port)
    }
}
