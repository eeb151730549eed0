//! Standard Webhooks 1.0.0: `webhook-id`, `webhook-timestamp`, and `webhook-signature: v1,<base64>[ v1,<base64>…]`,
//! where `v1` is the HMAC-SHA256 of `{id}.{timestamp}.{body}`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::mac::{self, Tag};
use crate::moment;

const SECRET_PREFIX: &str = "whsec_";
/// What a secret may hold, in bytes, by the specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// A longer signature header is refused unread, in bytes.
const HEADER_MAX: usize = 4096;
/// More signatures than this are refused.
const SIGNATURES_MAX: usize = 16;

/// A signing secret's bytes. They never show in Debug output.
#[derive(Clone)]
pub struct Key(Vec<u8>);

/// Not `whsec_` and the base64 of 24 to 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret is `whsec_` and the base64 of 24 to 64 bytes")]
pub struct InvalidSecret;

impl Key {
    /// Reads a secret as it is handed to people.
    pub fn parse(secret: &str) -> Result<Self, InvalidSecret> {
        let encoded = secret.strip_prefix(SECRET_PREFIX).ok_or(InvalidSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        Self::from_bytes(bytes)
    }

    /// Takes 24 to 64 bytes.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, InvalidSecret> {
        SECRET_BYTES
            .contains(&bytes.len())
            .then_some(Self(bytes))
            .ok_or(InvalidSecret)
    }

    /// The secret as it is handed to people; [`Key::parse`] reads it back.
    pub fn to_secret(&self) -> String {
        format!("{SECRET_PREFIX}{}", STANDARD.encode(&self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key([redacted])")
    }
}

/// An id that cannot be signed: empty, or with a `.`, which separates the signed parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a webhook-id is not empty and has no `.`")]
pub struct InvalidId;

/// Why a request is not taken for genuine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Id(#[from] InvalidId),
    #[error("malformed_timestamp")]
    MalformedTimestamp,
    #[error("oversized")]
    Oversized,
    /// No well-formed `v1`.
    #[error("no_signature")]
    NoSignature,
    #[error("mismatch")]
    Mismatch,
    #[error("out_of_tolerance")]
    OutOfTolerance,
}

/// One `v1` signature for a body sent at `unix` (seconds). While a secret is rotated, join one of each with a space.
pub fn sign(key: &Key, id: &str, unix: i64, body: &[u8]) -> Result<String, InvalidId> {
    check_id(id)?;
    let timestamp = unix.to_string();
    let tag = authenticate(key, id, timestamp.as_bytes(), body).tag();
    Ok(format!("v1,{}", STANDARD.encode(tag)))
}

/// Checks that a body came from the holder of one of the keys, at most 300 s from `now_unix` (seconds).
///
/// `id`, `timestamp` and `signatures` are the values of the three headers.
pub fn verify<'k>(
    keys: impl IntoIterator<Item = &'k Key>,
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now_unix: i64,
) -> Result<(), Refusal> {
    check_id(id)?;
    let unix = moment::parse(timestamp.as_bytes()).ok_or(Refusal::MalformedTimestamp)?;
    let candidates = candidates(signatures)?;

    let matched = keys.into_iter().fold(false, |matched, key| {
        matched | authenticate(key, id, timestamp.as_bytes(), body).is_among(&candidates)
    });
    if !matched {
        return Err(Refusal::Mismatch);
    }
    if !moment::is_fresh(unix, now_unix) {
        return Err(Refusal::OutOfTolerance);
    }
    Ok(())
}

fn check_id(id: &str) -> Result<(), InvalidId> {
    if id.is_empty() || id.contains('.') {
        Err(InvalidId)
    } else {
        Ok(())
    }
}

fn authenticate(key: &Key, id: &str, timestamp: &[u8], body: &[u8]) -> mac::Authenticated {
    mac::authenticate(&key.0, &[id.as_bytes(), b".", timestamp, b".", body])
}

fn candidates(signatures: &str) -> Result<Vec<Tag>, Refusal> {
    let count = signatures.split(' ').take(SIGNATURES_MAX + 1).count();
    if signatures.len() > HEADER_MAX || count > SIGNATURES_MAX {
        return Err(Refusal::Oversized);
    }
    let candidates: Vec<Tag> = signatures
        .split(' ')
        .filter_map(|signature| {
            let encoded = signature.strip_prefix("v1,")?;
            STANDARD.decode(encoded).ok()?.try_into().ok()
        })
        .collect();
    if candidates.is_empty() {
        return Err(Refusal::NoSignature);
    }
    Ok(candidates)
}
