//! The keys that callers show, and which calls each of them opens.

use http::Method;
use runtime::config::Secrets;
use runtime::problem::{Code, Problem};
use schema::names;
use schema::webhooks::{CLIENT_ID_MAX, ONCALL};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::origin;

/// What stands for a key: as long as any other, and of no use to who reads it.
pub type KeyDigest = [u8; 32];

/// The keys the gateway was given.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Caller>);

/// Who shows a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub key: KeyDigest,
    pub opens: Opens,
}

/// Which calls a key opens, beside [those that need none](needs_none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opens {
    Everything,
    /// The calls below `/webhooks/`, and in them the rows of this client.
    Client(String),
    /// `key:@read`: whatever changes nothing, for every client.
    Reading,
    /// `key:@metrics`: what Prometheus asks.
    Metrics,
}

/// All that a key bound to a client opens.
const BOUND: &str = "/webhooks/";
/// Each service's own metrics are below it.
const METRICS_OF: &str = "/metrics/";
/// What an item's scope begins with; no client's id has it.
const SCOPE: char = '@';

/// Whether a call needs no key: Stripe signs its requests, probes have none, and the API's description is no secret.
pub fn needs_none(path: &str) -> bool {
    matches!(
        path,
        names::INGEST_STRIPE | names::HEALTHZ | names::READYZ | "/openapi.json" | "/docs"
    ) || path.starts_with("/docs/")
}

/// Why the list of keys cannot be used. Tells the place in the list, never the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error(
        "item {0} is not `key`, `key:client`, `key:@read` or `key:@metrics`; a client is 1 to 64 of A-Z a-z 0-9 . _ -"
    )]
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
            let (key, opens) = match item.split_once(':') {
                Some((key, opens)) => (key, Opens::parse(opens)),
                None => (item, Some(Opens::Everything)),
            };
            let graphic = key.bytes().all(|byte| byte.is_ascii_graphic());
            let Some(opens) = opens.filter(|_| graphic && !key.is_empty()) else {
                return Err(KeyFault::Malformed(place));
            };
            if matches!(&opens, Opens::Client(client) if client == ONCALL) {
                return Err(KeyFault::Reserved(place));
            }
            let key = digest(key);
            if callers.iter().any(|caller| caller.key == key) {
                return Err(KeyFault::Repeated(place));
            }
            callers.push(Caller { key, opens });
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

impl Opens {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "@read" => Some(Self::Reading),
            "@metrics" => Some(Self::Metrics),
            _ if text.starts_with(SCOPE) => None,
            _ => is_client(text).then(|| Self::Client(text.to_owned())),
        }
    }

    /// Whether the key opens a call. One that is bound to a client is not told what else there is.
    pub fn check(&self, method: &Method, path: &str) -> Result<(), Problem> {
        let opened = match self {
            Self::Everything => true,
            Self::Client(_) if path.starts_with(BOUND) => true,
            Self::Client(_) => return Err(Code::NotFound.because("no such path")),
            Self::Reading => !origin::is_change(method),
            Self::Metrics => path == names::METRICS || path.starts_with(METRICS_OF),
        };
        if opened {
            return Ok(());
        }
        Err(Code::Forbidden.because(match self {
            Self::Reading => "this key reads and changes nothing",
            _ => "this key opens the metrics alone",
        }))
    }

    /// Whether the key's owner may see how every service does.
    pub fn shows_operation(&self) -> bool {
        matches!(self, Self::Everything | Self::Reading)
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

        let opens = |shown: &str| keys.identify(shown).unwrap().opens.clone();
        assert_eq!(opens("Bearer all"), Opens::Everything);
        assert_eq!(opens("Bearer one"), Opens::Client("acme".to_owned()));
    }

    #[test]
    fn a_key_opens_what_its_scope_says_and_nothing_else() {
        let keys = ["all", "one:acme", "reads:@read", "scrapes:@metrics"];
        let keys = Keys::parse(&Secrets::of(&keys)).unwrap();
        let (refused, hidden) = (Some(Code::Forbidden), Some(Code::NotFound));
        for (method, path, [one, reads, scrapes]) in [
            ("GET", "/metrics", [hidden, None, None]),
            ("GET", "/metrics/delivery", [hidden, None, None]),
            ("GET", "/metricsx", [hidden, None, refused]),
            ("GET", "/events", [hidden, None, refused]),
            ("HEAD", "/events", [hidden, None, refused]),
            ("GET", "/webhooks/deliveries", [None, None, refused]),
            ("POST", "/webhooks/events", [None, refused, refused]),
            (
                "DELETE",
                "/webhooks/endpoints/ep_1",
                [None, refused, refused],
            ),
            (
                "PATCH",
                "/webhooks/endpoints/ep_1",
                [None, refused, refused],
            ),
            ("POST", "/ingest/pull-status", [hidden, refused, refused]),
            ("POST", "/ai/summarize", [hidden, refused, refused]),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let table = [
                ("all", None),
                ("one", one),
                ("reads", reads),
                ("scrapes", scrapes),
            ];
            for (key, expected) in table {
                let caller = keys.identify(&format!("Bearer {key}")).unwrap();
                let code = caller.opens.check(&method, path).err().map(|no| no.code);
                assert_eq!(code, expected, "{key} {method} {path}");
            }
        }
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
            (vec!["a", "b:@write"], KeyFault::Malformed(2)),
            (vec!["a:@"], KeyFault::Malformed(1)),
            (vec!["a:@Read"], KeyFault::Malformed(1)),
            (vec!["a:@read:acme"], KeyFault::Malformed(1)),
            (vec!["a:acme@read"], KeyFault::Malformed(1)),
            (vec!["a:@read", "a"], KeyFault::Repeated(2)),
            (vec![":@read"], KeyFault::Malformed(1)),
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
