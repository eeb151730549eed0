//! Which part of a list is asked for.

use runtime::problem::{Code, Problem};
use schema::webhooks::KEY_MAX;

use crate::domain::endpoint::is_client_id;
use crate::domain::ids::{EndpointId, Position};

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 500;
/// The longest stable word of an error, in bytes.
const CODE_MAX: usize = 64;
/// No position is beyond what the stores can keep.
const POSITION_MAX: Position = i64::MAX.unsigned_abs();

pub(super) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(LIMIT_DEFAULT);
    if (1..=LIMIT_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Code::InvalidQuery.because(format!("limit is 1 to {LIMIT_MAX}")))
}

/// A cursor is the last position seen; to callers it is opaque.
pub(super) fn before(cursor: Option<&str>) -> Result<Option<Position>, Problem> {
    cursor.map(position).transpose()
}

fn position(cursor: &str) -> Result<Position, Problem> {
    let position = cursor.parse().ok();
    position
        .filter(|position| *position <= POSITION_MAX)
        .ok_or_else(|| Code::InvalidQuery.because("cursor is the next_cursor of an earlier answer"))
}

pub(super) fn client(told: Option<String>) -> Result<Option<String>, Problem> {
    known(told, is_client_id, "client is 1 to 64 of A-Z a-z 0-9 . _ -")
}

pub(super) fn endpoint(told: Option<String>) -> Result<Option<String>, Problem> {
    let fits = |text: &str| EndpointId::parse(text).is_some();
    known(told, fits, "endpoint is an endpoint_id")
}

pub(super) fn key(told: Option<String>) -> Result<Option<String>, Problem> {
    let fits = |text: &str| {
        (1..=KEY_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    known(
        told,
        fits,
        "idempotency_key is 1 to 255 visible ASCII characters",
    )
}

pub(super) fn code(told: Option<String>) -> Result<Option<String>, Problem> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let fits = |text: &str| (1..=CODE_MAX).contains(&text.len()) && text.bytes().all(allowed);
    known(
        told,
        fits,
        "code is a status such as 503, or an error such as timeout",
    )
}

fn known(
    told: Option<String>,
    fits: impl Fn(&str) -> bool,
    what: &str,
) -> Result<Option<String>, Problem> {
    if told.as_deref().is_none_or(fits) {
        return Ok(told);
    }
    Err(Code::InvalidQuery.because(what))
}
