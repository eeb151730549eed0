//! Which addresses are the internet's, and which networks the operator opened.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IPv4 that is not the internet's (the IANA registry of special addresses), and the address at which Azure's machines
/// find their host.
pub(super) const RESERVED_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([168, 63, 129, 16], 32),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];

/// All that is handed out of IPv6. What leads to IPv4 by translation (64:ff9b::/96) lies outside.
pub(super) const GLOBAL_V6: Ipv6Net = v6([0x2000, 0], 3);

/// What of it is not the internet's: protocol assignments with Teredo, documentation, 6to4.
pub(super) const RESERVED_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0], 23),
    v6([0x2001, 0x0db8], 32),
    v6([0x2002, 0], 16),
    v6([0x3fff, 0], 20),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b]: [u16; 2], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// Whether an address is one of the internet's. IPv4 written as IPv6 counts as the IPv4 it is.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !RESERVED_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !RESERVED_V6.iter().any(|net| net.contains(&address))
        }
    }
}

/// The networks that the operator opened (`DELIVERY_ALLOW_NETS`). None unless said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nets(Vec<IpNet>);

/// One of the networks is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network: write it as 10.0.0.0/8, ::1/128 or one address")]
pub struct NetsFault(String);

impl Nets {
    /// Each as ADDRESS/PREFIX, or one address; blank ones are passed over.
    pub fn parse(texts: &[String]) -> Result<Self, NetsFault> {
        let told = texts.iter().map(|text| text.trim());
        told.filter(|text| !text.is_empty())
            .map(|text| net(text).ok_or_else(|| NetsFault(text.to_owned())))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// IPv4 written as IPv6 counts as the IPv4 it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }
}

fn net(text: &str) -> Option<IpNet> {
    let net = text.parse().ok();
    net.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Result<Nets, NetsFault> {
        Nets::parse(&texts.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let nets = nets(&["10.1.0.0/16", " ::1 ", "", "192.168.7.9/24"]).unwrap();
        for (address, held) in [
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("::ffff:10.1.2.3", true),
            ("::1", true),
            ("::2", false),
            ("192.168.7.1", true),
            ("127.0.0.1", false),
        ] {
            assert_eq!(nets.contains(address.parse().unwrap()), held, "{address}");
        }
    }

    #[test]
    fn none_are_open_unless_said() {
        assert!(Nets::default().is_empty());
        assert!(nets(&["", " "]).unwrap().is_empty());
        assert!(!Nets::default().contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in ["10.0.0.0/33", "localhost", "10.0.0.0-10.0.0.9", "10.0/8"] {
            let fault = nets(&["::1/128", text]).unwrap_err();
            assert!(fault.to_string().contains(text), "{fault}");
        }
    }
}
