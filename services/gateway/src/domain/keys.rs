//! The keys that callers show.

use runtime::config::Secrets;
use schema::webhooks::{CLIENT_ID_MAX, ONCALL};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What stands for a key: as long as any other, and of no use to who reads it.
pub type KeyDigest = [u8; 32];

/// The keys the gateway was given.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Caller>);

/// Who shows a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub key: KeyDigest,
    /// The one client whose rows the key opens; `None` opens all.
    pub client: Option<String>,
}

/// Why the list of keys cannot be used. Tells the place in the list, never the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("item {0} is not `key` or `key:client`; a client is 1 to 64 of A-Z a-z 0-9 . _ -")]
    Malformed(usize),
    #[error("item {0} is there twice")]
    Repeated(usize),
    #[error(
        "item {0} is bound to the client oncall, which is the hub's own: a key without a client reads it"
    )]
    Reserved(usize),
}

impl Keys {
    pub fn parse(secrets: &Secrets) -> Result<Self, KeyFault> {
        let mut callers: Vec<Caller> = Vec::with_capacity(secrets.len());
        for (index, item) in secrets.expose().enumerate() {
            let place = index + 1;
            let (key, client) = match item.split_once(':') {
                Some((key, client)) => (key, Some(client)),
                None => (item, None),
            };
            let graphic = key.bytes().all(|byte| byte.is_ascii_graphic());
            if key.is_empty() || !graphic || !client.is_none_or(is_client) {
                return Err(KeyFault::Malformed(place));
            }
            if client == Some(ONCALL) {
                return Err(KeyFault::Reserved(place));
            }
            let key = digest(key);
            if callers.iter().any(|caller| caller.key == key) {
                return Err(KeyFault::Repeated(place));
            }
            let client = client.map(str::to_owned);
            callers.push(Caller { key, client });
        }
        Ok(Self(callers))
    }

    /// Without keys everybody may call.
    pub fn are_needed(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whose key an `Authorization` header shows. Takes as long for a wrong key as for a right one.
    pub fn identify(&self, authorization: &str) -> Option<&Caller> {
        let (scheme, shown) = authorization.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let shown = digest(shown);
        let mut found = None;
        for caller in &self.0 {
            if caller.key.ct_eq(&shown).into() {
                found = Some(caller);
            }
        }
        found
    }
}

fn digest(key: &str) -> KeyDigest {
    Sha256::digest(key).into()
}

fn is_client(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=CLIENT_ID_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_be_bound_to_a_client() {
        let keys = Keys::parse(&Secrets::of(&["all", "one:acme"])).unwrap();

        assert_eq!(keys.identify("Bearer all").unwrap().client, None);
        assert_eq!(
            keys.identify("Bearer one").unwrap().client.as_deref(),
            Some("acme")
        );
    }

    #[test]
    fn only_a_whole_key_opens() {
        let keys = Keys::parse(&Secrets::of(&["all", "one:acme"])).unwrap();

        for shown in [
            "",
            "all",
            "Bearer",
            "Bearer ",
            "Bearer al",
            "Bearer all ",
            "Bearer  all",
            "Bearer ALL",
            "Bearer one:acme",
            "Basic all",
        ] {
            assert_eq!(keys.identify(shown), None, "{shown:?}");
        }
        assert!(keys.identify("bearer all").is_some());
    }

    #[test]
    fn a_list_that_cannot_be_used_is_told_by_its_place() {
        for (items, fault) in [
            (vec!["a", ":acme"], KeyFault::Malformed(2)),
            (vec!["a:"], KeyFault::Malformed(1)),
            (vec!["a:b:c"], KeyFault::Malformed(1)),
            (vec!["a b"], KeyFault::Malformed(1)),
            (vec!["a", "b", "a:acme"], KeyFault::Repeated(3)),
            (vec!["a", "b:oncall"], KeyFault::Reserved(2)),
        ] {
            assert_eq!(
                Keys::parse(&Secrets::of(&items)).unwrap_err(),
                fault,
                "{items:?}"
            );
        }
        assert!(!Keys::parse(&Secrets::default()).unwrap().are_needed());
    }
}
