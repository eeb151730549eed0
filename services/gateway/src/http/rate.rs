//! How many requests a second one caller may make.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use runtime::shares::Holder;

use crate::domain::keys::KeyDigest;

/// Whose share a request is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payer {
    Key(KeyDigest),
    Address(Holder),
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
        Payer::Address(Holder::at(text.parse().unwrap()))
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
    fn who_has_been_silent_is_forgotten() {
        let limit = RateLimit::new(NonZeroU32::new(1000).unwrap());
        limit.take(&Payer::Address(Holder::unknown())).unwrap();

        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while !limit.is_empty() && std::time::Instant::now() < deadline {
            limit.forget_idle();
        }

        assert!(limit.is_empty());
    }
}
