//! What bodies of requests and unread answers are kept in. Each room is bounded in bytes, and shared by callers.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::HttpBody;
use axum::http::Extensions;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use runtime::server::{Caller, Connection};
use runtime::shares::{Claim, Full, Holder, Shares};
use tokio_util::sync::CancellationToken;

/// Bodies of requests in flight, all together, in bytes; Stripe's events have as much for themselves.
const BODIES_MAX: usize = 128 << 20;
/// Bodies of batches in flight: four of the longest.
const BATCHES_MAX: usize = 64 << 20;
/// Answers that callers have not read: eight of the longest pages.
const ANSWERS_MAX: usize = 64 << 20;
/// What is handed to the connection at once; more waits here, where it counts.
const CHUNK: usize = 64 * 1024;

/// What the bodies of requests in flight are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Shared,
    /// Of its own, so that no other caller holds up Stripe's events, nor one of those without a key the others.
    Stripe,
    /// Of its own, so that a few long bodies do not hold up many short ones.
    Batches,
}

pub(super) struct Rooms {
    shared: Shares,
    stripe: Shares,
    batches: Shares,
    answers: Shares,
}

/// Whose a request is, and how its connection is ended.
pub(super) struct Asker {
    holder: Holder,
    connection: CancellationToken,
}

impl Asker {
    pub(super) fn of(extensions: &Extensions) -> Self {
        let caller = extensions.get::<Caller>();
        let connection = extensions.get::<Connection>();
        Self {
            holder: caller.map_or_else(Holder::unknown, |Caller(address)| Holder::at(*address)),
            connection: connection
                .map_or_else(CancellationToken::new, |Connection(ends)| ends.clone()),
        }
    }
}

impl Rooms {
    pub(super) fn new() -> Self {
        Self {
            shared: Shares::new(BODIES_MAX),
            stripe: Shares::new(BODIES_MAX),
            batches: Shares::new(BATCHES_MAX),
            answers: Shares::new(ANSWERS_MAX),
        }
    }

    /// A body that has not come yet. Who makes way with one is told so.
    pub(super) fn claim_for_body(&self, room: Room, asker: &Asker) -> Claim {
        let room = match room {
            Room::Shared => &self.shared,
            Room::Stripe => &self.stripe,
            Room::Batches => &self.batches,
        };
        room.claim(asker.holder, CancellationToken::new())
    }

    /// Room for an answer until it is read. Who makes way with one is cut off: its beginning may be on the way.
    pub(super) fn claim_for_answer(&self, length: usize, asker: &Asker) -> Result<Claim, Full> {
        let claim = self.answers.claim(asker.holder, asker.connection.clone());
        claim.waiting().end();
        claim.grow(length).map(|()| claim)
    }
}

/// A whole answer, that waits for its caller.
pub(super) struct Unread {
    rest: Bytes,
    claim: Claim,
}

impl Unread {
    pub(super) fn new(whole: Bytes, claim: Claim) -> Self {
        claim.waiting().restart();
        Self { rest: whole, claim }
    }
}

impl HttpBody for Unread {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        self.claim.waiting().restart();
        let length = self.rest.len().min(CHUNK);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
