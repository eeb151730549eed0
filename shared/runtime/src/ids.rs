//! Ids that grow with time, made from the clock that was handed in.

use jiff::Timestamp;
use rand::RngExt as _;
use schema::CorrelationId;
use uuid::Uuid;

/// A version 7 id: sorts by `now`, then at random.
pub fn time_ordered(now: Timestamp) -> Uuid {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
    let random: [u8; 10] = rand::rng().random();
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// A fresh correlation id.
#[expect(clippy::expect_used, reason = "hex digits are a valid correlation id")]
pub fn correlation_id(now: Timestamp) -> CorrelationId {
    CorrelationId::parse(
        time_ordered(now)
            .simple()
            .encode_lower(&mut Uuid::encode_buffer()),
    )
    .expect("hex digits")
}
