//! What an endpoint keeps confidential, as it is stored: sealed when a key is given.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand::RngExt as _;
use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::endpoint::Confidential;

const KEY_LEN: usize = 32;

/// The first byte of what is stored.
const PLAIN: u8 = 0;
const SEALED: u8 = 1;

/// Seals and opens. Without a key it stores plainly.
pub struct Vault(Option<LessSafeKey>);

/// Why something is not opened, or not sealed. Says nothing of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    #[error("it is sealed, and DELIVERY_SECRETS_KEY is not set")]
    NoKey,
    #[error("it is sealed with another key than the one in DELIVERY_SECRETS_KEY, or damaged")]
    WrongKey,
    #[error("it is not what this program wrote")]
    Unreadable,
    #[error("sealing failed")]
    NotSealed,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault([redacted])")
    }
}

impl Vault {
    /// The key is 32 bytes in base64.
    pub fn open(key: Option<&SecretString>) -> anyhow::Result<Self> {
        let Some(key) = key else {
            return Ok(Self(None));
        };
        let bytes = BASE64_STANDARD.decode(key.expose_secret().trim());
        let bytes = bytes.ok().filter(|bytes| bytes.len() == KEY_LEN);
        let key = bytes.and_then(|bytes| UnboundKey::new(&AES_256_GCM, &bytes).ok());
        let Some(key) = key else {
            anyhow::bail!("DELIVERY_SECRETS_KEY is not 32 bytes in base64");
        };
        Ok(Self(Some(LessSafeKey::new(key))))
    }

    /// Bytes to be stored, bound to whose they are: an endpoint's open as no other's.
    pub fn seal(&self, confidential: &Confidential, whose: &str) -> Result<Vec<u8>, Closed> {
        let mut text = serde_json::to_vec(confidential).map_err(|_| Closed::NotSealed)?;
        let Some(key) = &self.0 else {
            text.insert(0, PLAIN);
            return Ok(text);
        };
        let nonce: [u8; NONCE_LEN] = rand::rng().random();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(whose),
            &mut text,
        )
        .map_err(|_| Closed::NotSealed)?;
        Ok([&[SEALED][..], &nonce[..], &text[..]].concat())
    }

    /// What [`seal`](Self::seal) was given.
    pub fn unseal(&self, stored: &[u8], whose: &str) -> Result<Confidential, Closed> {
        match stored.split_first() {
            Some((&PLAIN, text)) => serde_json::from_slice(text).map_err(|_| Closed::Unreadable),
            Some((&SEALED, sealed)) => {
                let key = self.0.as_ref().ok_or(Closed::NoKey)?;
                let (nonce, text) = sealed
                    .split_first_chunk::<NONCE_LEN>()
                    .ok_or(Closed::Unreadable)?;
                let mut text = text.to_vec();
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let opened = key.open_in_place(nonce, Aad::from(whose), &mut text);
                let opened = opened.map_err(|_| Closed::WrongKey)?;
                serde_json::from_slice(opened).map_err(|_| Closed::Unreadable)
            }
            _ => Err(Closed::Unreadable),
        }
    }

    /// Whether this would be stored otherwise now: a key was given since.
    pub fn is_outdated(&self, stored: &[u8]) -> bool {
        self.0.is_some() && stored.first() == Some(&PLAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(byte: u8) -> Vault {
        let key = SecretString::from(BASE64_STANDARD.encode([byte; KEY_LEN]));
        Vault::open(Some(&key)).unwrap()
    }

    fn confidential() -> Confidential {
        crate::domain::endpoint::tests::endpoint(None).confidential
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_for_its_endpoint_only() {
        let (ours, other, none) = (vault(1), vault(2), Vault::open(None).unwrap());
        let sealed = ours.seal(&confidential(), "ep_1").unwrap();
        let mut damaged = sealed.clone();
        damaged[20] ^= 1;

        for (vault, stored, whose, opened) in [
            (&ours, &sealed[..], "ep_1", Ok(confidential())),
            (&ours, &sealed[..], "ep_2", Err(Closed::WrongKey)),
            (&ours, &damaged[..], "ep_1", Err(Closed::WrongKey)),
            (&ours, &sealed[..5], "ep_1", Err(Closed::Unreadable)),
            (&ours, &[][..], "ep_1", Err(Closed::Unreadable)),
            (&other, &sealed[..], "ep_1", Err(Closed::WrongKey)),
            (&none, &sealed[..], "ep_1", Err(Closed::NoKey)),
        ] {
            assert_eq!(vault.unseal(stored, whose), opened, "{whose}");
        }
        let again = ours.seal(&confidential(), "ep_1").unwrap();
        assert_ne!(sealed, again, "no nonce is used twice");
    }

    #[test]
    fn what_earlier_releases_sealed_with_another_library_still_opens() {
        const SEALED_BY_RING: &str = "AedjtgmzhGxpR2eFbWJubYIJ1CNscMc086/W254t8F47SMUNGDvpBUOpW/Z4dTXoF1E+eV/B+tbb5Sga\
             /wOtTrUUB/wjcK5FchI6nhUVnvz33Lm5aVs+pOAcFs34+dMQ1Lf9PXTy/JUj6gCZ/Q==";
        let sealed = BASE64_STANDARD.decode(SEALED_BY_RING).unwrap();
        assert_eq!(vault(1).unseal(&sealed, "ep_1"), Ok(confidential()));
        assert_eq!(vault(1).unseal(&sealed, "ep_2"), Err(Closed::WrongKey));
    }

    #[test]
    fn what_was_plain_opens_with_a_key_too_and_is_to_be_sealed() {
        let (ours, none) = (vault(1), Vault::open(None).unwrap());
        let plain = none.seal(&confidential(), "ep_1").unwrap();
        assert_eq!(ours.unseal(&plain, "ep_1"), Ok(confidential()));
        assert!(ours.is_outdated(&plain) && !none.is_outdated(&plain));
        let sealed = ours.seal(&confidential(), "ep_1").unwrap();
        assert!(!ours.is_outdated(&sealed));
    }

    /// As the release before wrote it: with one older secret at most, and null for none.
    const OF_TODAY: &str = r#"{"secret":"whsec_YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNk","previous":{"secret":"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz","until":"2026-11-29T08:00:00Z"},"headers":{"x-key":"a"}}"#;
    /// The same, sealed with a key of ones for `ep_1` by another implementation of AES-256-GCM.
    const OF_TODAY_SEALED: &str = "AQABAgMEBQYHCAkKC8CE5kNDjGMN3FDFs0garcDxnzxAn8sCVhyQCujR5lD0O4ro9h2Zf8xlNlPlmVntzT3VfAU20RLzrZCvc+NsdoAoapy7yOxMCFTzF11UZj+0TjwIqY71zOwt++CkMkWTGzn+/NsIAOD7orzc4yPhzzPGlBsd04uUp/9SdAhNeqV6rlP7YUstW6Md6yOvG3gOpkyymBrNLDFxsP99AYpLJHN72ubC54Hx3YTgn6dTwQ/f/s2hje0TGjjK";

    #[test]
    fn what_the_release_before_stored_is_read() {
        let plain = [&[PLAIN][..], OF_TODAY.as_bytes()].concat();
        let sealed = BASE64_STANDARD.decode(OF_TODAY_SEALED).unwrap();

        for stored in [plain, sealed] {
            let read = vault(1).unseal(&stored, "ep_1").unwrap();
            assert_eq!(read.secret, "whsec_YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNk");
            let [older] = read.previous.as_slice() else {
                panic!("one older secret");
            };
            assert_eq!(older.secret, "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz");
            assert_eq!(older.until.to_string(), "2026-11-29T08:00:00Z");
            assert_eq!(read.headers["x-key"], "a");
            // And so is what is written of it now.
            let again = vault(1).seal(&read, "ep_1").unwrap();
            assert_eq!(vault(1).unseal(&again, "ep_1"), Ok(read));
        }
        let none = br#"{"secret":"whsec_YWJj","previous":null,"headers":{}}"#;
        let read = vault(1).unseal(&[&[PLAIN][..], none].concat(), "ep_1");
        assert!(read.unwrap().previous.is_empty());
    }

    #[test]
    fn only_32_bytes_in_base64_are_a_key_and_it_does_not_show() {
        for bad in [
            "",
            "c2hvcnQ=",
            "not base64 at all, but some 44 letters long..",
        ] {
            let refused = Vault::open(Some(&bad.into())).unwrap_err().to_string();
            assert!(refused.contains("DELIVERY_SECRETS_KEY"), "{refused}");
            assert!(bad.is_empty() || !refused.contains(bad), "{refused}");
        }
        assert_eq!(format!("{:?}", vault(1)), "Vault([redacted])");
    }
}
