//! Why a call is not carried out, as a caller reads it.

use runtime::problem::{Code, Problem};
use schema::webhooks::ENDPOINTS_MAX;

use crate::domain::egress::UrlRefusal;
use crate::domain::requests::Refusal;
use crate::error::Error;
use crate::worker::{CommandFault, PostFault};

/// When to ask the store again, in seconds.
pub(super) const STORE_RETRY_S: u64 = 1;

/// There is none, or it is another client's: a caller cannot tell which.
pub(super) fn unknown(noun: &str) -> Problem {
    Code::NotFound.because(format!("no such {noun}"))
}

pub(super) fn asked(fault: Refusal) -> Problem {
    let code = match &fault {
        Refusal::Payload(_) => Code::InvalidPayload,
        Refusal::TooLarge(_) => Code::TooLarge,
        Refusal::Url(UrlRefusal::InvalidUrl(_)) => Code::InvalidUrl,
        Refusal::Url(UrlRefusal::Forbidden(_)) => Code::EndpointUrlForbidden,
        Refusal::Setting(_) => Code::InvalidEndpoint,
        Refusal::Reserved(_) => Code::Reserved,
        Refusal::TooManySecrets => Code::TooManySecrets,
        Refusal::BuiltIn(_) => Code::EndpointBuiltIn,
    };
    code.because(fault.to_string())
}

pub(super) fn store(fault: Error) -> Problem {
    if fault == Error::OverShare {
        return Code::ClientOverloaded
            .because("too much of this client waits to be written")
            .retry_after(STORE_RETRY_S);
    }
    tracing::warn!(%fault, "the store did not do what was asked");
    Code::Unavailable
        .because("the store cannot be used now")
        .retry_after(STORE_RETRY_S)
}

pub(super) fn post(fault: PostFault) -> Problem {
    match fault {
        PostFault::KeyReused => {
            Code::IdempotencyKeyReused.because("use another key, or send the event as it was")
        }
        PostFault::ClientOverloaded { retry_after_s } => Code::ClientOverloaded
            .because("too many of this client's events wait for their first attempt")
            .retry_after(retry_after_s),
        PostFault::Overloaded { retry_after_s } => Code::Unavailable
            .because("too many deliveries are open")
            .retry_after(retry_after_s),
        PostFault::UnknownEndpoint => unknown("endpoint"),
        PostFault::Unavailable(fault) => store(fault),
    }
}

/// Of what was to be done to a `noun`.
pub(super) fn command(noun: &'static str) -> impl Fn(CommandFault) -> Problem {
    move |fault| match fault {
        CommandFault::Unknown => unknown(noun),
        CommandFault::TooMany => Code::TooManyEndpoints
            .because(format!("a client has at most {ENDPOINTS_MAX} endpoints")),
        CommandFault::Conflict(why) => Code::Conflict.because(why),
        CommandFault::BuiltIn => {
            Code::EndpointBuiltIn.because("it can be disabled, but not removed")
        }
        CommandFault::Unavailable(fault) => store(fault),
        CommandFault::Refused(problem) => problem,
    }
}
