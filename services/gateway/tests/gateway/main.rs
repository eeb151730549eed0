//! The gateway before fake services on real sockets.
#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod docs;
mod framing;
mod guard;
mod limits;
mod proxy;
mod replicas;
mod support;
