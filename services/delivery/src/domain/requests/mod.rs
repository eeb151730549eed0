//! What a caller asks for, checked: from the words on the wire to what delivery can rely on.

mod endpoint;
mod event;

use runtime::shape::Misshapen;
use signature::standard::InvalidSecret;

use super::egress::UrlRefusal;
use super::endpoint::PREVIOUS_MAX;
use super::headers::HeaderRefusal;

pub use endpoint::{
    CheckedEndpoint, Defaults, changed, check_endpoint, policy_of, rotated, switched,
};
pub use event::{CheckedEvent, TEST_TYPE, check_event, read_event, test_event};

/// Why something that was asked for is not taken. Tells no secret and no value of a header.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not what the call takes.
    #[error("{0}")]
    Payload(String),
    #[error("the payload is longer than the {0} bytes that are taken")]
    TooLarge(usize),
    #[error("url: {0}")]
    Url(#[from] UrlRefusal),
    /// A setting of an endpoint that cannot be.
    #[error("{0}")]
    Setting(String),
    /// Only the hub itself does it, whoever asks.
    #[error("{0}")]
    Reserved(&'static str),
    #[error(
        "{PREVIOUS_MAX} older secrets sign still: wait until the first of them ends, or end all with overlap_s 0"
    )]
    TooManySecrets,
    /// Configuration says it, not a caller.
    #[error("{0} of a built-in endpoint is set by configuration")]
    BuiltIn(&'static str),
}

impl From<Misshapen> for Refusal {
    fn from(fault: Misshapen) -> Self {
        Self::Payload(format!("payload: {fault}"))
    }
}

impl From<InvalidSecret> for Refusal {
    fn from(fault: InvalidSecret) -> Self {
        Self::Setting(fault.to_string())
    }
}

impl From<HeaderRefusal> for Refusal {
    fn from(fault: HeaderRefusal) -> Self {
        Self::Setting(fault.to_string())
    }
}
