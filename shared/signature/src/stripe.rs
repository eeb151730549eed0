//! The `Stripe-Signature` header: `t=<unix seconds>,v1=<hex>[,v1=<hex>…]`, where `v1` is the HMAC-SHA256 of
//! `{t}.{body}` with the endpoint's secret as it is written, `whsec_` included.
//!
//! Stricter than Stripe's own libraries where those take what Stripe never sends: a time in the future, a time that is
//! not plain digits, several times, a thousand candidates. Blanks around a comma are taken: a proxy may add them.

use crate::mac::{self, Tag};
use crate::moment;

/// A longer header is refused unread, in bytes.
const HEADER_MAX: usize = 4096;
/// More items than this are refused. Stripe sends one `v1` for each active secret, and a `v0` in test mode.
const ITEMS_MAX: usize = 16;

/// What the sender of a request that is not taken is told, whatever the reason.
pub const ADVICE: &str = "sign the exact bytes of the body with the endpoint's secret, now";

/// Why a request is not taken for Stripe's. For a metric's label: the sender is told nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("missing")]
    Missing,
    #[error("several_headers")]
    SeveralHeaders,
    #[error("oversized")]
    Oversized,
    #[error("too_many_items")]
    TooManyItems,
    #[error("no_timestamp")]
    NoTimestamp,
    #[error("several_timestamps")]
    SeveralTimestamps,
    #[error("malformed_timestamp")]
    MalformedTimestamp,
    /// No well-formed `v1`.
    #[error("no_signature")]
    NoSignature,
    #[error("mismatch")]
    Mismatch,
    /// More than 300 s from now: a replay, or a clock that is wrong.
    #[error("out_of_tolerance")]
    OutOfTolerance,
}

impl Refusal {
    pub const ALL: &[Self] = &[
        Self::Missing,
        Self::SeveralHeaders,
        Self::Oversized,
        Self::TooManyItems,
        Self::NoTimestamp,
        Self::SeveralTimestamps,
        Self::MalformedTimestamp,
        Self::NoSignature,
        Self::Mismatch,
        Self::OutOfTolerance,
    ];
}

/// Checks that a body came from the holder of one of the secrets, at most 300 s from `now_unix` (seconds).
///
/// `header_lines` are the values of every `Stripe-Signature` line of the request; there must be exactly one.
pub fn verify<'a>(
    header_lines: impl IntoIterator<Item = &'a [u8]>,
    body: &[u8],
    secrets: impl IntoIterator<Item = impl AsRef<[u8]>>,
    now_unix: i64,
) -> Result<(), Refusal> {
    let claim = Claim::parse(only_line(header_lines)?)?;

    // Every secret is tried, so that the time taken does not tell which one matched.
    let matched = secrets.into_iter().fold(false, |matched, secret| {
        let signed = [claim.timestamp, b".", body];
        matched | mac::authenticate(secret.as_ref(), &signed).is_among(&claim.candidates)
    });
    if !matched {
        return Err(Refusal::Mismatch);
    }
    if !moment::is_fresh(claim.unix, now_unix) {
        return Err(Refusal::OutOfTolerance);
    }
    Ok(())
}

/// What the header shows to be wrong, whatever the body: before a body is read. Right is only what [`verify`] takes.
pub fn check_header<'a>(
    header_lines: impl IntoIterator<Item = &'a [u8]>,
    now_unix: i64,
) -> Result<(), Refusal> {
    let claim = Claim::parse(only_line(header_lines)?)?;
    if moment::is_fresh(claim.unix, now_unix) {
        Ok(())
    } else {
        Err(Refusal::OutOfTolerance)
    }
}

fn only_line<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<&'a [u8], Refusal> {
    let mut lines = lines.into_iter();
    let line = lines.next().ok_or(Refusal::Missing)?;
    match lines.next() {
        None => Ok(line),
        Some(_) => Err(Refusal::SeveralHeaders),
    }
}

/// The header's value for a body signed at `unix` (seconds).
pub fn sign(secret: impl AsRef<[u8]>, unix: i64, body: &[u8]) -> String {
    let timestamp = unix.to_string();
    let signed = [timestamp.as_bytes(), b".", body];
    let tag = mac::authenticate(secret.as_ref(), &signed).tag();
    format!("t={timestamp},v1={}", hex::encode(tag))
}

/// What a header claims.
struct Claim<'a> {
    /// As sent, since that is what was signed.
    timestamp: &'a [u8],
    unix: i64,
    candidates: Vec<Tag>,
}

impl<'a> Claim<'a> {
    fn parse(header: &'a [u8]) -> Result<Self, Refusal> {
        if header.len() > HEADER_MAX {
            return Err(Refusal::Oversized);
        }
        let mut timestamp = None;
        let mut candidates = Vec::new();
        let items = header.split(|byte| *byte == b',');
        let items = items.map(without_blanks).filter(|item| !item.is_empty());
        for (seen, item) in items.enumerate() {
            if seen == ITEMS_MAX {
                return Err(Refusal::TooManyItems);
            }
            if let Some(text) = item.strip_prefix(b"t=") {
                if timestamp.replace(text).is_some() {
                    return Err(Refusal::SeveralTimestamps);
                }
            } else if let Some(text) = item.strip_prefix(b"v1=") {
                // A malformed one may stand beside a good one, and other schemes beside both.
                candidates.extend(lower_hex(text));
            }
        }
        let timestamp = timestamp.ok_or(Refusal::NoTimestamp)?;
        let unix = moment::parse(timestamp).ok_or(Refusal::MalformedTimestamp)?;
        if candidates.is_empty() {
            return Err(Refusal::NoSignature);
        }
        Ok(Self {
            timestamp,
            unix,
            candidates,
        })
    }
}

/// An item of a list without the blanks and tabs that a proxy may put around its commas (RFC 9110, 5.6.1). Those within
/// an item stay: nobody is entitled to add them.
fn without_blanks(item: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(first) = item.iter().position(|byte| !is_blank(byte)) else {
        return &[];
    };
    let last = item.iter().rposition(|byte| !is_blank(byte));
    last.map_or(&[][..], |last| &item[first..=last])
}

/// Exactly 64 lower-case hex digits.
fn lower_hex(text: &[u8]) -> Option<Tag> {
    if text.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut tag = Tag::default();
    hex::decode_to_slice(text, &mut tag).ok()?;
    Some(tag)
}
