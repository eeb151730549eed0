//! Where our own services answer. Nothing of a client's is sent there, whatever network is open: whoever may register an
//! endpoint must not be able to have us speak to ourselves.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

use super::nets;

/// One place of our services, as a URL names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    host: Host,
    port: u16,
}

impl Place {
    /// `None` if the URL has no host, or a scheme without a port of its own.
    pub fn of(url: &Url) -> Option<Self> {
        Some(Self {
            host: without_trailing_dot(url.host()?.to_owned()),
            port: url.port_or_known_default()?,
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, where it has no name to be looked up.
    pub fn literal(&self) -> Option<SocketAddr> {
        let address: IpAddr = match self.host {
            Host::Ipv4(address) => address.into(),
            Host::Ipv6(address) => address.into(),
            Host::Domain(_) => return None,
        };
        Some(SocketAddr::new(address, self.port))
    }

    /// Its name, where it has one.
    pub fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Domain(name) => Some(name),
            Host::Ipv4(_) | Host::Ipv6(_) => None,
        }
    }
}

/// All names of URLs are in lower case by now.
fn without_trailing_dot(host: Host) -> Host {
    match host {
        Host::Domain(name) => Host::Domain(name.trim_end_matches('.').to_owned()),
        address => address,
    }
}

/// The addresses and ports of our services, as far as they are known at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doors {
    elsewhere: HashSet<SocketAddr>,
    /// Of listeners on this machine: at which of its addresses they listen is not told by the one that was named.
    here: HashSet<u16>,
    /// Of names that were never looked up with success.
    unknown: HashSet<u16>,
}

impl Doors {
    /// A service of ours answers at this address, which may be one of this machine's.
    pub fn add(&mut self, address: SocketAddr, is_here: bool) {
        if is_here {
            self.here.insert(address.port());
        } else {
            self.elsewhere.insert(canonical(address));
        }
    }

    /// A service of ours answers on this port, nobody knows where.
    pub fn add_unknown(&mut self, port: u16) {
        self.unknown.insert(port);
    }

    /// Whether a service of ours has this port, somewhere.
    pub fn have_port(&self, port: u16) -> bool {
        let mut elsewhere = self.elsewhere.iter();
        self.here.contains(&port)
            || self.unknown.contains(&port)
            || elsewhere.any(|address| address.port() == port)
    }

    /// Whether a service of ours answers at this address. `is_here`, whether the address is one of this machine's, is
    /// asked only where it matters. While it is not known where a service is, its port is closed on every address that is
    /// not the internet's.
    pub fn hold(&self, address: SocketAddr, is_here: impl FnOnce(IpAddr) -> bool) -> bool {
        let address = canonical(address);
        let (ip, port) = (address.ip(), address.port());
        self.elsewhere.contains(&address)
            || (self.unknown.contains(&port) && !nets::is_public(ip))
            // The unspecified address leads to this machine, too.
            || (self.here.contains(&port) && (ip.is_unspecified() || is_here(ip)))
    }
}

/// IPv4 written as IPv6 is the IPv4 that it is; a zone and a flow do not make another address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors() -> Doors {
        let mut doors = Doors::default();
        for (address, is_here) in [
            ("127.0.0.1:3003", true),
            ("[::ffff:10.0.0.7]:3000", false),
            ("[fd00::7]:3000", false),
        ] {
            doors.add(address.parse().unwrap(), is_here);
        }
        doors.add_unknown(3002);
        doors
    }

    /// This machine has loopback and one address beside it.
    fn is_here(address: IpAddr) -> bool {
        address.is_loopback() || address == IpAddr::from([10, 0, 0, 9])
    }

    #[test]
    fn what_one_of_our_services_answers_at_is_ours_and_nothing_else() {
        for (address, ours) in [
            ("127.0.0.1:3003", true),
            // A listener on all addresses answers at each.
            ("127.0.0.2:3003", true),
            ("[::1]:3003", true),
            ("10.0.0.9:3003", true),
            ("[::ffff:127.0.0.1]:3003", true),
            ("0.0.0.0:3003", true),
            ("[::]:3003", true),
            ("127.0.0.1:3004", false),
            ("10.0.0.7:3003", false),
            ("10.0.0.7:3000", true),
            ("[::ffff:10.0.0.7]:3000", true),
            ("[fd00::7]:3000", true),
            ("[fd00::7%3]:3000", true),
            ("10.0.0.8:3000", false),
            ("127.0.0.1:3000", false),
            // Where the third is, nobody knows.
            ("10.0.0.8:3002", true),
            ("127.0.0.1:3002", true),
            ("8.8.8.8:3002", false),
        ] {
            assert_eq!(
                doors().hold(address.parse().unwrap(), is_here),
                ours,
                "{address}"
            );
        }
    }

    #[test]
    fn a_place_is_a_name_or_an_address_with_its_port() {
        for (url, name, literal, port) in [
            ("http://Event-Store.:3003/", Some("event-store"), None, 3003),
            ("http://127.1:3003", None, Some("127.0.0.1:3003"), 3003),
            ("https://[::1]", None, Some("[::1]:443"), 443),
            ("http://gateway", Some("gateway"), None, 80),
        ] {
            let place = Place::of(&Url::parse(url).unwrap()).unwrap();
            assert_eq!(place.name(), name, "{url}");
            let literal = literal.map(|text: &str| text.parse().unwrap());
            assert_eq!(place.literal(), literal, "{url}");
            assert_eq!(place.port(), port, "{url}");
        }
    }
}
