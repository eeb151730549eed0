//! HMAC-SHA256, and the comparison that takes the same time whatever is wrong.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

pub(crate) const LEN: usize = 32;
pub(crate) type Tag = [u8; LEN];

/// The authenticated parts, ready to be compared or written out.
#[derive(Clone)]
pub(crate) struct Authenticated(Hmac<Sha256>);

/// Authenticates the parts as if they were one text.
pub(crate) fn authenticate(key: &[u8], parts: &[&[u8]]) -> Authenticated {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    for part in parts {
        mac.update(part);
    }
    Authenticated(mac)
}

impl Authenticated {
    pub(crate) fn tag(self) -> Tag {
        self.0.finalize().into_bytes().into()
    }

    /// Whether any candidate is the tag. Compares with every one, in constant time each.
    pub(crate) fn is_among(&self, candidates: &[Tag]) -> bool {
        candidates.iter().fold(false, |found, candidate| {
            found | self.0.clone().verify_slice(candidate).is_ok()
        })
    }
}
