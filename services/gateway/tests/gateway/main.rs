//! The gateway before fake services on real sockets.

mod docs;
mod framing;
mod guard;
mod limits;
mod proxy;
mod replicas;
mod support;
