//! Proxies that tell for whom they ask.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

use crate::config::List;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The networks of those whose `X-Forwarded-For` is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// An item of the list, by its place, that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("item {0} is not a network such as 10.0.0.0/8")]
pub struct NetworkFault(usize);

impl TrustedProxies {
    pub const NONE: Self = Self(Vec::new());

    pub fn parse(list: &List) -> Result<Self, NetworkFault> {
        let networks = list.0.iter().enumerate().map(|(index, item)| {
            let network = item.parse();
            network.map_err(|_| NetworkFault(index + 1))
        });
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Whose request it is: what a trusted proxy wrote last, since whatever stands before it is the caller's own word;
    /// else the other end of the connection.
    pub fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.0.iter().any(|network| network.contains(&peer)) {
            return peer;
        }
        last_hop(headers).unwrap_or(peer)
    }
}

fn last_hop(headers: &HeaderMap) -> Option<IpAddr> {
    let mut lines = headers.get_all(FORWARDED_FOR).into_iter();
    let hop = lines.next_back()?.to_str().ok()?.rsplit(',').next()?.trim();
    let unbracketed = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    let address = unbracketed.unwrap_or(hop).parse().ok();
    let with_port = || hop.parse::<SocketAddr>().ok().map(|hop| hop.ip());
    address
        .or_else(with_port)
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(peer: &str, lines: &[&str]) -> String {
        let proxies = List::of(&["10.0.0.0/8", "2001:db8::/32"]);
        let proxies = TrustedProxies::parse(&proxies).unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        proxies.caller(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_last_hop_is_taken_from_a_trusted_proxy_and_from_nobody_else() {
        for (peer, lines, expected) in [
            ("192.0.2.1", vec!["198.51.100.7"], "192.0.2.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", vec!["127.0.0.1, 198.51.100.7"], "198.51.100.7"),
            (
                "10.0.0.1",
                vec!["127.0.0.1", "198.51.100.7"],
                "198.51.100.7",
            ),
            ("10.0.0.1", vec!["198.51.100.7:4711"], "198.51.100.7"),
            ("10.0.0.1", vec!["[2001:db9::1]:4711"], "2001:db9::1"),
            ("10.0.0.1", vec!["[2001:db9::1]"], "2001:db9::1"),
            ("10.0.0.1", vec!["2001:db9::1"], "2001:db9::1"),
            ("10.0.0.1", vec!["198.51.100.7, unknown"], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.7,"], "10.0.0.1"),
            ("10.0.0.1", vec![""], "10.0.0.1"),
            ("::ffff:10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            ("2001:db8::1", vec!["::ffff:198.51.100.7"], "198.51.100.7"),
        ] {
            assert_eq!(caller(peer, &lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn a_list_that_cannot_be_used_is_told_by_its_place() {
        for (items, place) in [(vec!["10.0.0.0/8", "proxy"], 2), (vec!["10.0.0.0/33"], 1)] {
            let fault = TrustedProxies::parse(&List::of(&items)).unwrap_err();
            assert_eq!(fault, NetworkFault(place));
        }
    }
}
