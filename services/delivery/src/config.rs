//! What delivery can be told.

use runtime::config::{self, List};
use runtime::internal_key::InternalKey;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use crate::domain::egress::Nets;
use crate::domain::schedule::{DEFAULT_WAITS_S, PAGES_WAITS_S, Policy};
use crate::storage::Vault;
use crate::worker::{Bounds, OwnDoors};

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// `DELIVERY_HOST`: the address to listen on. Default 127.0.0.1.
    pub delivery_host: String,
    /// `DELIVERY_PORT`. Default 3004.
    pub delivery_port: u16,
    /// `DELIVERY_DATABASE_URL`: `memory:` or `sqlite:PATH`. Default sqlite:./data/delivery.db.
    pub delivery_database_url: String,
    /// `EVENT_STORE_URL`: where the feed is read. Default <http://127.0.0.1:3003>.
    pub event_store_url: List,
    /// `GATEWAY_URL` and the others that end so: where our services answer, comma-separated; a name stands for all its
    /// addresses. Nothing of a client's is sent there. Default <http://127.0.0.1:3000> and following.
    pub gateway_url: List,
    pub stripe_ingester_url: List,
    pub status_poller_url: List,
    pub delivery_url: List,
    pub summarizer_url: List,
    pub mock_pagerduty_url: List,
    /// `PAGERDUTY_URL`: where pages go. Default the mock's <http://127.0.0.1:3006/destinations/pagerduty>.
    pub pagerduty_url: String,
    /// `PAGERDUTY_TIMEOUT_MS`: one deadline over connecting, headers and body. Default 15000.
    pub pagerduty_timeout_ms: u64,
    /// `PAGERDUTY_SCHEDULE_S`: the wait before each attempt of a page, in seconds; the last as `30x2878` where it comes 2,878
    /// times. Default 0,2,5,10,20,30x2878: up to a day.
    pub pagerduty_schedule_s: List,
    /// `DELIVERY_SCHEDULE_S`: of clients' endpoints that ask for no other, the wait before each attempt, in seconds; their number is the number of attempts.
    /// Default 0,5,300,1800,7200,18000,36000,36000.
    pub delivery_schedule_s: List,
    /// `DELIVERY_RETENTION_DAYS`: ended deliveries leave after this; 7 at least, since so long a key gets the same answer.
    /// Default 30.
    pub delivery_retention_days: u32,
    /// `DELIVERY_ALLOW_NETS`: networks, as `127.0.0.0/8,::1/128`, that clients' endpoints may lie in beside the internet;
    /// there plain http and names without a dot are taken too. Default none.
    pub delivery_allow_nets: List,
    /// `DELIVERY_SECRETS_KEY`: the base64 of 32 bytes, with which endpoints' secrets and headers are sealed at rest.
    /// Default none: they lie in the store as they are.
    pub delivery_secrets_key: Option<SecretString>,
    /// `ENDPOINT_MAX_OPEN`: with more open deliveries an endpoint is disabled. Default 1000000.
    pub endpoint_max_open: usize,
    /// `DELIVERY_MAX_OPEN`: with more open deliveries nothing is taken in. Default 3000000.
    pub delivery_max_open: usize,
    /// `CLIENT_MAX_FRESH`: with more first attempts that wait for nothing but their turn a client has to wait. Default
    /// 100000.
    pub client_max_fresh: usize,
    /// `SIGNALPOST_INTERNAL_KEY`: what our services show each other, comma-separated; the first is sent. Required.
    pub signalpost_internal_key: InternalKey,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            delivery_host: "127.0.0.1".to_owned(),
            delivery_port: 3004,
            delivery_database_url: "sqlite:./data/delivery.db".to_owned(),
            event_store_url: List::of(&["http://127.0.0.1:3003"]),
            gateway_url: List::of(&["http://127.0.0.1:3000"]),
            stripe_ingester_url: List::of(&["http://127.0.0.1:3001"]),
            status_poller_url: List::of(&["http://127.0.0.1:3002"]),
            delivery_url: List::of(&["http://127.0.0.1:3004"]),
            summarizer_url: List::of(&["http://127.0.0.1:3005"]),
            mock_pagerduty_url: List::of(&["http://127.0.0.1:3006"]),
            pagerduty_url: "http://127.0.0.1:3006/destinations/pagerduty".to_owned(),
            pagerduty_timeout_ms: 15_000,
            pagerduty_schedule_s: pages_schedule(),
            delivery_schedule_s: List(DEFAULT_WAITS_S.map(|wait| wait.to_string()).to_vec()),
            delivery_retention_days: 30,
            delivery_allow_nets: List::of(&[]),
            delivery_secrets_key: None,
            endpoint_max_open: 1_000_000,
            delivery_max_open: 3_000_000,
            client_max_fresh: 100_000,
            signalpost_internal_key: InternalKey::default(),
        }
    }
}

fn pages_schedule() -> List {
    let (waits, times) = PAGES_WAITS_S;
    let mut items = waits.map(|wait| wait.to_string());
    if let Some(last) = items.last_mut() {
        *last = format!("{last}x{times}");
    }
    List(items.to_vec())
}

impl Config {
    /// When a page is tried. `None` unless it is one to 64 waits of at most 30 days, the last of which may come 86,400 times,
    /// or 64 where it is none.
    pub fn pages_policy(&self) -> Option<Policy> {
        let (last, before) = self.pagerduty_schedule_s.0.split_last()?;
        let (last, times) = last.split_once('x').unwrap_or((last, "1"));
        let waits = before.iter().map(String::as_str).chain([last.trim()]);
        let waits: Result<Vec<u64>, _> = waits.map(str::parse).collect();
        Policy::of_pages(&waits.ok()?, times.trim().parse().ok()?)
    }

    /// `None` unless it is one to 64 waits in seconds, of at most 30 days.
    pub fn policy(&self) -> Option<Policy> {
        let waits: Result<Vec<u64>, _> = self
            .delivery_schedule_s
            .0
            .iter()
            .map(|wait| wait.parse())
            .collect();
        Policy::of_seconds(&waits.ok()?)
    }

    /// Says what is not a network.
    pub fn nets(&self) -> Result<Nets, String> {
        Nets::parse(&self.delivery_allow_nets.0).map_err(|fault| fault.to_string())
    }

    /// Says what is wrong with the key, and never shows it.
    pub fn vault(&self) -> Result<Vault, String> {
        Vault::open(self.delivery_secrets_key.as_ref()).map_err(|fault| fault.to_string())
    }

    pub fn bounds(&self) -> Bounds {
        Bounds {
            open: self.delivery_max_open,
            open_of_endpoint: self.endpoint_max_open,
            fresh_of_client: self.client_max_fresh,
        }
    }

    /// Where our services answer, by variable.
    fn own_urls(&self) -> [(&'static str, &List); 7] {
        [
            ("GATEWAY_URL", &self.gateway_url),
            ("STRIPE_INGESTER_URL", &self.stripe_ingester_url),
            ("STATUS_POLLER_URL", &self.status_poller_url),
            ("EVENT_STORE_URL", &self.event_store_url),
            ("DELIVERY_URL", &self.delivery_url),
            ("SUMMARIZER_URL", &self.summarizer_url),
            ("MOCK_PAGERDUTY_URL", &self.mock_pagerduty_url),
        ]
    }

    /// Where nothing of a client's is sent, whatever is open.
    pub fn own_doors(&self) -> OwnDoors {
        let urls = self.own_urls().map(|(_, urls)| &urls.0);
        let urls: Vec<Url> = urls
            .into_iter()
            .flatten()
            .filter_map(|url| http_url(url))
            .collect();
        OwnDoors::behind(&urls)
    }

    /// `None` unless it is an absolute http or https URL.
    pub fn pagerduty_url(&self) -> Option<Url> {
        http_url(&self.pagerduty_url)
    }
}

fn http_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

impl config::Config for Config {
    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        config::complain_of_listen_addr(
            &mut complaints,
            "DELIVERY",
            &self.delivery_host,
            self.delivery_port,
        );
        let path = self.delivery_database_url.strip_prefix("sqlite:");
        if self.delivery_database_url != "memory:" && path.is_none_or(str::is_empty) {
            complaints.push("DELIVERY_DATABASE_URL: `memory:` or `sqlite:PATH`".to_owned());
        }
        for (name, urls) in self.own_urls() {
            if urls.0.is_empty() || urls.0.iter().any(|url| http_url(url).is_none()) {
                complaints.push(format!("{name}: a comma list of http URLs"));
            }
        }
        if self.pagerduty_url().is_none() {
            complaints.push("PAGERDUTY_URL: an http or https URL".to_owned());
        }
        if !(1..=120_000).contains(&self.pagerduty_timeout_ms) {
            complaints.push("PAGERDUTY_TIMEOUT_MS: 1 to 120000".to_owned());
        }
        if self.pages_policy().is_none() {
            complaints.push(
                "PAGERDUTY_SCHEDULE_S: 1 to 64 waits in seconds, the last as 30x2878 where it comes so often, at most \
                 86400 times"
                    .to_owned(),
            );
        }
        if self.policy().is_none() {
            complaints.push(
                "DELIVERY_SCHEDULE_S: 1 to 64 waits in seconds, each at most 30 days".to_owned(),
            );
        }
        if !(7..=3_650).contains(&self.delivery_retention_days) {
            complaints.push("DELIVERY_RETENTION_DAYS: 7 to 3650".to_owned());
        }
        if let Err(fault) = self.nets() {
            complaints.push(format!("DELIVERY_ALLOW_NETS: {fault}"));
        }
        if let Err(fault) = self.vault() {
            complaints.push(format!("DELIVERY_SECRETS_KEY: {fault}"));
        }
        for (name, bound) in [
            ("ENDPOINT_MAX_OPEN", self.endpoint_max_open),
            ("DELIVERY_MAX_OPEN", self.delivery_max_open),
            ("CLIENT_MAX_FRESH", self.client_max_fresh),
        ] {
            if !(1..=10_000_000).contains(&bound) {
                complaints.push(format!("{name}: 1 to 10000000"));
            }
        }
        self.signalpost_internal_key
            .complain_if_missing(&mut complaints);
        complaints
    }

    fn listen_addr(&self) -> String {
        config::listen_addr(&self.delivery_host, self.delivery_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(name: &str, value: &str) -> Option<String> {
        let key = ("SIGNALPOST_INTERNAL_KEY", "key-of-the-tests");
        let variables = [key, (name, value)];
        let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        config::from_variables::<Config>(owned)
            .err()
            .map(|faults| faults.to_string())
    }

    #[test]
    fn the_defaults_lack_nothing_but_the_key() {
        let complaints = config::Config::complaints(&Config::default());
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].starts_with("SIGNALPOST_INTERNAL_KEY"));
        assert_eq!(Config::default().policy(), Some(Policy::default()));
        let pages = Config::default().pages_policy().unwrap();
        assert_eq!(pages.max_attempts(), 2_883);
    }

    #[test]
    fn what_cannot_work_is_refused_by_its_name() {
        for (name, value) in [
            ("DELIVERY_HOST", "nowhere"),
            ("DELIVERY_DATABASE_URL", "sqlite:"),
            ("DELIVERY_DATABASE_URL", "redis://x"),
            ("EVENT_STORE_URL", "127.0.0.1:3003"),
            ("GATEWAY_URL", "gateway"),
            ("PAGERDUTY_URL", "ftp://pager"),
            ("PAGERDUTY_TIMEOUT_MS", "0"),
            ("PAGERDUTY_SCHEDULE_S", "0,soon"),
            ("PAGERDUTY_SCHEDULE_S", "0,2x3,5"),
            ("PAGERDUTY_SCHEDULE_S", "0,2x"),
            ("PAGERDUTY_SCHEDULE_S", "0x1000"),
            ("PAGERDUTY_SCHEDULE_S", "0,30x0"),
            ("PAGERDUTY_SCHEDULE_S", "0,30x86401"),
            ("DELIVERY_SCHEDULE_S", "0,30x2"),
            ("DELIVERY_SCHEDULE_S", "0,soon"),
            ("DELIVERY_SCHEDULE_S", "0,-5"),
            ("DELIVERY_RETENTION_DAYS", "6"),
            ("DELIVERY_ALLOW_NETS", "localhost"),
            ("DELIVERY_SECRETS_KEY", "c2hvcnQ="),
            ("ENDPOINT_MAX_OPEN", "0"),
            ("SIGNALPOST_INTERNAL_KEY", "short"),
        ] {
            let text = complaints(name, value).unwrap_or_default();
            assert!(text.contains(name), "{name}={value}: {text}");
        }
        assert_eq!(complaints("DELIVERY_SCHEDULE_S", "0, 1, 2"), None);
        assert_eq!(complaints("PAGERDUTY_SCHEDULE_S", "0, 1, 2 x 9"), None);
        assert_eq!(complaints("PAGERDUTY_SCHEDULE_S", "0,1"), None);
    }
}
