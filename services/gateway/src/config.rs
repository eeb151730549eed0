//! What the gateway can be told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;
use runtime::config::{self, List, Secrets};
use runtime::internal_key::InternalKey;
use runtime::proxies::TrustedProxies;
use serde::Deserialize;

use crate::domain::keys::Keys;
use crate::domain::origin::AllowedHosts;
use crate::upstreams::Service;

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Address to listen on. `GATEWAY_HOST`, default `127.0.0.1`.
    pub gateway_host: String,
    /// `GATEWAY_PORT`, default 3000; 0 takes a free one.
    pub gateway_port: u16,
    /// Whether to serve without keys on an address that others can reach. `GATEWAY_ALLOW_OPEN`, default false.
    pub gateway_allow_open: bool,
    /// Requests a second for each key, or for each address without one; as many may come at once. `GATEWAY_RATE_PER_S`,
    /// default 0: no limit.
    pub gateway_rate_per_s: u32,
    /// Keys that callers show, comma-separated: `key`; `key:client` for one that opens this client's rows below
    /// `/webhooks/` and nothing else; `key:@read` for one that changes nothing, `key:@metrics` for one that opens the
    /// metrics alone. `GATEWAY_API_KEYS`, default none: open.
    pub gateway_api_keys: Secrets,
    /// Hosts, as `host` or `host:port`, that a gateway without keys answers beside loopback, and whose pages it lets change
    /// something. `GATEWAY_ALLOWED_HOSTS`, default none.
    pub gateway_allowed_hosts: List,
    /// Networks of proxies whose `X-Forwarded-For` tells who is asking, comma-separated. `GATEWAY_TRUSTED_PROXIES`, default
    /// none.
    pub gateway_trusted_proxies: List,
    /// `SIGNALPOST_INTERNAL_KEY`: what our services show each other, comma-separated; the first is sent. Required.
    pub signalpost_internal_key: InternalKey,
    /// Networks that clients' endpoints may lie in beside the internet, as delivery is told them: with loopback among them
    /// and keys set there is a warning at start. `DELIVERY_ALLOW_NETS`, default none.
    pub delivery_allow_nets: List,
    /// Base URLs of stripe-ingester, comma-separated; a name stands for all its addresses. `STRIPE_INGESTER_URL`,
    /// default `http://127.0.0.1:3001`.
    pub stripe_ingester_url: List,
    /// Of status-poller. `STATUS_POLLER_URL`, default `http://127.0.0.1:3002`.
    pub status_poller_url: List,
    /// Of event-store. `EVENT_STORE_URL`, default `http://127.0.0.1:3003`.
    pub event_store_url: List,
    /// Of delivery. `DELIVERY_URL`, default `http://127.0.0.1:3004`.
    pub delivery_url: List,
    /// Of summarizer. `SUMMARIZER_URL`, default `http://127.0.0.1:3005`.
    pub summarizer_url: List,
    /// Of mock-pagerduty. `MOCK_PAGERDUTY_URL`, default `http://127.0.0.1:3006`.
    pub mock_pagerduty_url: List,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            gateway_host: "127.0.0.1".to_owned(),
            gateway_port: 3000,
            gateway_allow_open: false,
            gateway_rate_per_s: 0,
            gateway_api_keys: Secrets::default(),
            gateway_allowed_hosts: List::default(),
            gateway_trusted_proxies: List::default(),
            signalpost_internal_key: InternalKey::default(),
            delivery_allow_nets: List::default(),
            stripe_ingester_url: List::of(&["http://127.0.0.1:3001"]),
            status_poller_url: List::of(&["http://127.0.0.1:3002"]),
            event_store_url: List::of(&["http://127.0.0.1:3003"]),
            delivery_url: List::of(&["http://127.0.0.1:3004"]),
            summarizer_url: List::of(&["http://127.0.0.1:3005"]),
            mock_pagerduty_url: List::of(&["http://127.0.0.1:3006"]),
        }
    }
}

impl Config {
    /// The networks through which a caller who has a key may have this machine post to itself.
    pub fn open_loopback(&self) -> List {
        let nets = self.delivery_allow_nets.0.iter();
        let keyless = self.gateway_api_keys.is_empty();
        List(
            nets.filter(|net| !keyless && holds_loopback(net))
                .cloned()
                .collect(),
        )
    }

    /// Where the replicas of a service are.
    pub fn urls(&self, service: Service) -> &List {
        match service {
            Service::StripeIngester => &self.stripe_ingester_url,
            Service::StatusPoller => &self.status_poller_url,
            Service::EventStore => &self.event_store_url,
            Service::Delivery => &self.delivery_url,
            Service::Summarizer => &self.summarizer_url,
            Service::MockPagerduty => &self.mock_pagerduty_url,
        }
    }
}

impl config::Config for Config {
    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        config::complain_of_listen_addr(
            &mut complaints,
            "GATEWAY",
            &self.gateway_host,
            self.gateway_port,
        );
        if self.gateway_api_keys.is_empty()
            && !self.gateway_allow_open
            && !is_loopback(&self.gateway_host)
        {
            complaints.push(format!(
                "GATEWAY_API_KEYS: needed to listen on {}, or say GATEWAY_ALLOW_OPEN=true",
                self.gateway_host
            ));
        }
        if let Err(fault) = Keys::parse(&self.gateway_api_keys) {
            complaints.push(format!("GATEWAY_API_KEYS: {fault}"));
        }
        if let Err(fault) = AllowedHosts::parse(&self.gateway_allowed_hosts) {
            complaints.push(format!("GATEWAY_ALLOWED_HOSTS: {fault}"));
        }
        if let Err(fault) = TrustedProxies::parse(&self.gateway_trusted_proxies) {
            complaints.push(format!("GATEWAY_TRUSTED_PROXIES: {fault}"));
        }
        for service in Service::ALL {
            let variable = service.name().replace('-', "_").to_uppercase();
            let urls = self.urls(*service);
            if urls.0.is_empty() {
                complaints.push(format!("{variable}_URL: at least one address is needed"));
            }
            for url in urls.0.iter().filter(|url| !is_base_url(url)) {
                complaints.push(format!("{variable}_URL: `{url}` is not http://host[:port]"));
            }
        }
        self.signalpost_internal_key
            .complain_if_missing(&mut complaints);
        complaints
    }

    fn listen_addr(&self) -> String {
        config::listen_addr(&self.gateway_host, self.gateway_port)
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// What is no network is complained of by delivery.
fn holds_loopback(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "128"));
    let prefix = prefix.parse().unwrap_or(128);
    match address
        .parse()
        .map(|address: IpAddr| address.to_canonical())
    {
        Ok(IpAddr::V4(address)) if prefix < 8 => {
            // A network that is wider than 127.0.0.0/8 holds it where the bits it fixes are the same.
            (address.to_bits() ^ Ipv4Addr::LOCALHOST.to_bits()).leading_zeros() >= prefix
        }
        Ok(IpAddr::V6(address)) => {
            (address.to_bits() ^ Ipv6Addr::LOCALHOST.to_bits()).leading_zeros() >= prefix
        }
        Ok(IpAddr::V4(address)) => address.is_loopback(),
        Err(_) => false,
    }
}

fn is_base_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        url.scheme() == "http"
            && url.has_host()
            && url.path() == "/"
            && url.query().is_none()
            && url.username().is_empty()
    })
}

#[cfg(test)]
mod tests {
    use runtime::config::{Config as _, from_variables};

    use super::*;

    #[test]
    fn an_open_gateway_needs_loopback_or_a_word_for_it() {
        for (variables, starts) in [
            (vec![], true),
            (vec![("GATEWAY_HOST", "::1")], true),
            (vec![("GATEWAY_HOST", "0.0.0.0")], false),
            (vec![("GATEWAY_HOST", "192.0.2.1")], false),
            (
                vec![("GATEWAY_HOST", "0.0.0.0"), ("GATEWAY_ALLOW_OPEN", "true")],
                true,
            ),
            (
                vec![("GATEWAY_HOST", "0.0.0.0"), ("GATEWAY_API_KEYS", "k")],
                true,
            ),
            (
                vec![("GATEWAY_HOST", "0.0.0.0"), ("GATEWAY_API_KEYS", " ")],
                false,
            ),
        ] {
            let key = ("SIGNALPOST_INTERNAL_KEY", "key-of-the-tests");
            let given = std::iter::once(&key)
                .chain(&variables)
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            assert_eq!(
                from_variables::<Config>(given).is_ok(),
                starts,
                "{variables:?}"
            );
        }
    }

    #[test]
    fn open_loopback_is_told_where_callers_have_keys() {
        for (keys, net, told) in [
            (&["k"][..], "127.0.0.0/8", true),
            (&["k"], "127.0.0.1", true),
            (&["k"], "127.4.0.0/16", true),
            (&["k"], "0.0.0.0/0", true),
            (&["k"], "64.0.0.0/2", true),
            (&["k"], "::1/128", true),
            (&["k"], "::/0", true),
            (&["k"], "10.0.0.0/8", false),
            (&["k"], "128.0.0.0/1", false),
            (&["k"], "fd00::/8", false),
            (&["k"], "nonsense", false),
            (&[], "127.0.0.0/8", false),
        ] {
            let config = Config {
                gateway_api_keys: Secrets::of(keys),
                delivery_allow_nets: List::of(&[net]),
                ..Config::default()
            };
            assert_eq!(!config.open_loopback().0.is_empty(), told, "{net}");
        }
    }

    #[test]
    fn each_wrong_address_and_key_is_complained_of_without_telling_the_key() {
        let config = Config {
            gateway_api_keys: Secrets::of(&["canary:"]),
            gateway_allowed_hosts: List::of(&["gateway", "http://gateway"]),
            gateway_trusted_proxies: List::of(&["proxy"]),
            delivery_url: List::of(&["delivery:3004", "http://delivery:3004/path"]),
            event_store_url: List::default(),
            ..Config::default()
        };

        let complaints = config.complaints();

        assert_eq!(complaints.len(), 7, "{complaints:?}");
        assert!(!complaints.concat().contains("canary"));
    }
}
