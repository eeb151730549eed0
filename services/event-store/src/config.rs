//! What event-store can be told.

use std::path::PathBuf;

use jiff::SignedDuration;
use runtime::config::{self, complain_of_listen_addr};
use runtime::internal_key::InternalKey;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where to listen. `EVENT_STORE_HOST`, default `127.0.0.1`.
    pub event_store_host: String,
    /// `EVENT_STORE_PORT`, default 3003.
    pub event_store_port: u16,
    /// Where events are kept: `sqlite:PATH`, durable, or `memory:`, gone with the process.
    /// `EVENT_STORE_DATABASE_URL`, default `sqlite:./data/event-store.db`.
    pub event_store_database_url: String,
    /// Whether a warning pages, as a critical event does. `ROUTE_WARNING`, default `false`.
    pub route_warning: bool,
    /// The most events `memory:` keeps; the oldest leave first, and so they do when all weigh more than 256 MiB. Ids stay
    /// known for ten times as many events, but for about 32 MB at most (some 180,000 of Stripe's ids); those of the
    /// events that are kept always. `MEMORY_EVENTS`, default 100,000.
    pub memory_events: usize,
    /// Days after which an event leaves the store. What is open stays until it ends, and a routed event until a delivery of
    /// it has come to its end, so for ever where none is reported; `retention_kept_events` tells how many stayed.
    /// `EVENT_RETENTION_DAYS`, default 30.
    pub event_retention_days: u32,
    /// `SIGNALPOST_INTERNAL_KEY`: what our services show each other, comma-separated; the first is sent. Required.
    pub signalpost_internal_key: InternalKey,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            event_store_host: "127.0.0.1".to_owned(),
            event_store_port: 3003,
            event_store_database_url: "sqlite:./data/event-store.db".to_owned(),
            route_warning: false,
            memory_events: 100_000,
            event_retention_days: 30,
            signalpost_internal_key: InternalKey::default(),
        }
    }
}

impl config::Config for Config {
    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        complain_of_listen_addr(
            &mut complaints,
            "EVENT_STORE",
            &self.event_store_host,
            self.event_store_port,
        );
        if Database::parse(&self.event_store_database_url).is_none() {
            complaints.push("EVENT_STORE_DATABASE_URL: `memory:` or `sqlite:PATH`".to_owned());
        }
        if self.memory_events == 0 {
            complaints.push("MEMORY_EVENTS: at least 1".to_owned());
        }
        if self.event_retention_days == 0 {
            complaints.push("EVENT_RETENTION_DAYS: at least 1".to_owned());
        }
        self.signalpost_internal_key
            .complain_if_missing(&mut complaints);
        complaints
    }

    fn listen_addr(&self) -> String {
        config::listen_addr(&self.event_store_host, self.event_store_port)
    }
}

impl Config {
    /// How long an event is kept.
    pub fn retention(&self) -> SignedDuration {
        SignedDuration::from_hours(24 * i64::from(self.event_retention_days))
    }
}

/// What `EVENT_STORE_DATABASE_URL` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    Memory,
    Sqlite(PathBuf),
}

impl Database {
    pub fn parse(url: &str) -> Option<Self> {
        if url == "memory:" {
            return Some(Self::Memory);
        }
        let path = url.strip_prefix("sqlite:")?;
        (!path.is_empty() && !path.starts_with(':')).then(|| Self::Sqlite(path.into()))
    }
}

#[cfg(test)]
mod tests {
    use runtime::config::Config as _;

    use super::*;

    #[test]
    fn the_defaults_lack_nothing_but_the_key() {
        let complaints = Config::default().complaints();
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].starts_with("SIGNALPOST_INTERNAL_KEY"));
    }

    #[test]
    fn a_store_is_named_by_its_url() {
        for (url, database) in [
            ("memory:", Some(Database::Memory)),
            (
                "sqlite:/data/a.db",
                Some(Database::Sqlite("/data/a.db".into())),
            ),
            ("sqlite:./a b.db", Some(Database::Sqlite("./a b.db".into()))),
            ("sqlite:", None),
            // SQLite would keep this one in memory and call it durable.
            ("sqlite::memory:", None),
            ("memory:x", None),
            ("postgres://h/d", None),
            ("", None),
        ] {
            assert_eq!(Database::parse(url), database, "{url}");
        }
    }

    #[test]
    fn what_cannot_work_is_complained_of_by_its_variable() {
        let config = Config {
            event_store_host: "nowhere!".to_owned(),
            event_store_database_url: "redis:".to_owned(),
            memory_events: 0,
            event_retention_days: 0,
            ..Config::default()
        };

        let complaints = config.complaints().join("\n");

        for variable in [
            "EVENT_STORE_HOST",
            "EVENT_STORE_DATABASE_URL",
            "MEMORY_EVENTS",
            "EVENT_RETENTION_DAYS",
        ] {
            assert!(complaints.contains(variable), "{variable}: {complaints}");
        }
    }
}
