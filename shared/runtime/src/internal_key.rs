//! The key by which our services know each other: whoever reaches a service's port without it gets `/healthz` and
//! nothing else.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use schema::names;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::config::List;
use crate::problem::Code;

/// The variable that holds it.
pub const VARIABLE: &str = "SIGNALPOST_INTERNAL_KEY";

/// A shorter one could be guessed.
const LENGTH_MIN: usize = 16;
const LENGTH_MAX: usize = 256;
/// The one in use, and those before it.
const KEYS_MAX: usize = 8;

/// Tells this refusal from another 401.
const SCHEME: &str = "Signalpost-Key";

/// What stands for a key: as long as any other, so that comparing tells no length.
type KeyDigest = [u8; 32];

/// `SIGNALPOST_INTERNAL_KEY`: a comma list, so that a key can be replaced while services run. Each is accepted, the first
/// is sent. By default there is none, which accepts nobody.
#[derive(Clone, Default)]
pub struct InternalKey {
    accepted: Arc<[KeyDigest]>,
    sent: Option<Arc<secrecy::SecretString>>,
}

/// Why a list of keys cannot be used. Tells the place in the list, never the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error(
        "item {0} is not a key: 16 to 256 printable ASCII characters without blanks, as `openssl rand -hex 32` makes"
    )]
    Malformed(usize),
    #[error("more than 8 keys")]
    TooMany,
}

impl InternalKey {
    /// Blanks around items, and empty items, are dropped.
    pub fn parse(text: &str) -> Result<Self, KeyFault> {
        let List(items) = List::of_text(text);
        if items.len() > KEYS_MAX {
            return Err(KeyFault::TooMany);
        }
        if let Some(index) = items.iter().position(|item| !is_key(item)) {
            return Err(KeyFault::Malformed(index + 1));
        }
        Ok(Self {
            accepted: items.iter().map(|item| digest(item.as_bytes())).collect(),
            sent: items.into_iter().next().map(|first| Arc::new(first.into())),
        })
    }

    /// A complaint unless there is a key.
    pub fn complain_if_missing(&self, complaints: &mut Vec<String>) {
        if self.sent.is_none() {
            complaints.push(format!(
                "{VARIABLE}: required, the same for all services; `scripts/env-file` adds one to .env, `openssl rand -hex 32` makes one"
            ));
        }
    }

    /// The header's value for a request to one of our own services.
    pub fn header(&self) -> HeaderValue {
        let sent = self.sent.as_ref().map(|sent| sent.expose_secret());
        let value = sent.and_then(|sent| HeaderValue::from_str(sent).ok());
        let mut value = value.unwrap_or_else(|| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }

    /// Whether a caller shows one of the keys. Takes as long for a wrong key as for a right one.
    fn admits(&self, headers: &HeaderMap) -> bool {
        let mut shown = headers.get_all(names::INTERNAL_KEY).iter();
        let (Some(shown), None) = (shown.next(), shown.next()) else {
            return false;
        };
        let shown = digest(shown.as_bytes());
        let is_one = |found: Choice, key: &KeyDigest| found | key.ct_eq(&shown);
        self.accepted.iter().fold(Choice::from(0), is_one).into()
    }
}

impl fmt::Debug for InternalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} redacted]", self.accepted.len())
    }
}

impl<'de> Deserialize<'de> for InternalKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

fn digest(key: &[u8]) -> KeyDigest {
    Sha256::digest(key).into()
}

fn is_key(text: &str) -> bool {
    (LENGTH_MIN..=LENGTH_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Who may pass: whoever shows the key, and anybody on the paths that need none.
#[derive(Clone)]
pub struct Door {
    key: InternalKey,
    open: &'static [&'static str],
}

impl Door {
    /// Only `/healthz` needs no key: a container's healthcheck and a balancer's probe have none.
    pub fn locked(key: InternalKey) -> Self {
        Self { key, open: &[] }
    }

    /// Beside it, these paths need none.
    #[must_use]
    pub fn open_at(self, paths: &'static [&'static str]) -> Self {
        Self {
            open: paths,
            ..self
        }
    }

    fn admits(&self, request: &Request) -> bool {
        let path = request.uri().path();
        path == names::HEALTHZ || self.open.contains(&path) || self.key.admits(request.headers())
    }
}

/// Passes a request on, or refuses it before anything of it is looked at.
pub(crate) async fn guard(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    if door.admits(&request) {
        return next.run(request).await;
    }
    let problem = Code::Unauthorized
        .because("this port is internal: ask the gateway, or show the key in x-signalpost-key");
    ([(header::WWW_AUTHENTICATE, SCHEME)], problem).into_response()
}

/// Whether an answer says that the internal key was not taken: nothing that the caller who is answered could mend.
pub fn is_refusal(status: StatusCode, headers: &HeaderMap) -> bool {
    let scheme = headers.get(header::WWW_AUTHENTICATE);
    status == StatusCode::UNAUTHORIZED && scheme.is_some_and(|scheme| scheme == SCHEME)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "canary-0123456789";
    const NEXT: &str = "canary-next-0123456789";

    fn shows(values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|value| {
            let name = http::HeaderName::from_static(names::INTERNAL_KEY);
            (name, HeaderValue::from_str(value).unwrap())
        });
        values.collect()
    }

    #[test]
    fn each_key_of_the_list_is_accepted_and_the_first_is_sent() {
        let keys = InternalKey::parse(&format!(" {NEXT} ,,{KEY}\n")).unwrap();

        for (values, admitted) in [
            (&[KEY][..], true),
            (&[NEXT], true),
            (&[], false),
            (&[""], false),
            (&["canary-012345678"], false),
            (&["canary-0123456789x"], false),
            (&["CANARY-0123456789"], false),
            (&[&format!("{NEXT},{KEY}")], false),
            // Of two, which one counts would be the caller's to choose.
            (&[KEY, KEY], false),
            (&["wrong", KEY], false),
        ] {
            assert_eq!(keys.admits(&shows(values)), admitted, "{values:?}");
        }
        assert_eq!(keys.header(), NEXT);
        assert!(keys.header().is_sensitive());
    }

    #[test]
    fn without_a_key_nobody_is_admitted() {
        let none = InternalKey::default();

        assert!(!none.admits(&shows(&[])) && !none.admits(&shows(&[""])));
        let mut complaints = Vec::new();
        none.complain_if_missing(&mut complaints);
        assert!(complaints[0].contains(VARIABLE), "{complaints:?}");
        let mut complaints = Vec::new();
        let some = InternalKey::parse(KEY).unwrap();
        some.complain_if_missing(&mut complaints);
        assert!(complaints.is_empty());
    }

    #[test]
    fn what_is_no_key_is_refused_by_its_place_and_never_told() {
        let many = [KEY; 9].join(",");
        for (text, fault) in [
            ("canary-short", KeyFault::Malformed(1)),
            (
                &format!("{KEY},canary blank 0123456789"),
                KeyFault::Malformed(2),
            ),
            ("canary-0123456789-é", KeyFault::Malformed(1)),
            (&"canary".repeat(50), KeyFault::Malformed(1)),
            (&many, KeyFault::TooMany),
        ] {
            let refused = InternalKey::parse(text).unwrap_err();
            assert_eq!(refused, fault, "{text}");
            assert!(!refused.to_string().contains("canary"));
        }
        let keys = InternalKey::parse(KEY).unwrap();
        assert!(!format!("{keys:?}").contains("canary"));
    }
}
