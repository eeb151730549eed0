//! What a caller asks for, checked: from the words on the wire to what delivery can rely on.

mod endpoint;
mod event;

use runtime::shape::Misshapen;
use signature::standard::InvalidSecret;

use super::egress::UrlFault;
use super::endpoint::PREVIOUS_MAX;
use super::headers::HeaderFault;

pub use endpoint::{Asked, Defaults, changed, endpoint, policy_of, rotated, switched};
pub use event::{Event, TEST_TYPE, event, read_event, test_event};

/// Why something that was asked for is not taken. Tells no secret and no value of a header.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not what the call takes.
    #[error("{0}")]
    Payload(String),
    #[error("the payload is longer than the {0} bytes that are taken")]
    TooLarge(usize),
    #[error("url: {0}")]
    Url(#[from] UrlFault),
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

impl From<Misshapen> for Fault {
    fn from(fault: Misshapen) -> Self {
        Self::Payload(format!("payload: {fault}"))
    }
}

impl From<InvalidSecret> for Fault {
    fn from(fault: InvalidSecret) -> Self {
        Self::Setting(fault.to_string())
    }
}

impl From<HeaderFault> for Fault {
    fn from(fault: HeaderFault) -> Self {
        Self::Setting(fault.to_string())
    }
}
