//! How many requests a second one caller may make.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::domain::keys::KeyDigest;

/// Whose share a request is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payer {
    Key(KeyDigest),
    Address(IpAddr),
}

impl Payer {
    /// An IPv6 caller owns at least a /64, so that is what counts.
    pub fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
            v4 => v4,
        })
    }

    /// Where the connection does not tell.
    pub fn unknown() -> Self {
        Self::Address(Ipv4Addr::UNSPECIFIED.into())
    }
}

/// Counts requests for each payer. A payer who has been silent for a second is forgotten by [`RateLimit::forget_idle`],
/// so that the table holds no more than those who called in the last moments.
pub struct RateLimit(DefaultKeyedRateLimiter<Payer>);

impl RateLimit {
    /// `per_second` may come at once; then they are let through as the second passes.
    pub fn new(per_second: NonZeroU32) -> Self {
        Self(RateLimiter::keyed(Quota::per_second(per_second)))
    }

    /// Takes one request from the payer's share, or tells how long until there is one.
    pub fn take(&self, payer: &Payer) -> Result<(), Duration> {
        self.0
            .check_key(payer)
            .map_err(|refused| refused.wait_time_from(self.0.clock().now()))
    }

    pub fn forget_idle(&self) {
        self.0.retain_recent();
        self.0.shrink_to_fit();
    }

    /// How many payers are remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Payer {
        Payer::at(text.parse().unwrap())
    }

    #[test]
    fn each_payer_has_a_share_of_its_own() {
        let limit = RateLimit::new(NonZeroU32::MIN);
        let (one, other) = (address("192.0.2.1"), Payer::Key([7; 32]));

        assert!(limit.take(&one).is_ok());
        assert!(limit.take(&other).is_ok());

        let wait = limit.take(&one).unwrap_err();
        assert!(wait <= Duration::from_secs(1));
        assert_eq!(limit.len(), 2);
    }

    #[test]
    fn addresses_of_one_network_pay_together_where_a_caller_owns_it() {
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
    }

    #[test]
    fn who_has_been_silent_is_forgotten() {
        let limit = RateLimit::new(NonZeroU32::new(1000).unwrap());
        limit.take(&Payer::unknown()).unwrap();

        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while !limit.is_empty() && std::time::Instant::now() < deadline {
            limit.forget_idle();
        }

        assert!(limit.is_empty());
    }
}
