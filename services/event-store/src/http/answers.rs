//! Room for pages that have been read and are not yet sent (R10): whoever asks and does not read must not fill the memory.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use runtime::problem::{Code, Problem};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::render;

/// Bytes of all pages on their way together: sixteen of the largest.
const BYTES_MAX: usize = 128 << 20;
/// What one permit stands for, in bytes.
const UNIT: usize = 4096;
/// What is handed to the connection at once; more waits here, where it counts.
const CHUNK: usize = 64 * 1024;

/// How much room is left.
pub(crate) struct Answers(Arc<Semaphore>);

/// Room for one page, until its last byte is handed over.
pub(super) struct Room {
    _held: OwnedSemaphorePermit,
}

impl Default for Answers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BYTES_MAX / UNIT)))
    }
}

impl Answers {
    /// Refuses rather than waits: what waits holds its page.
    pub(super) fn room_for(&self, bytes: usize) -> Result<Room, Problem> {
        let units = u32::try_from(bytes / UNIT + 1).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.0).try_acquire_many_owned(units);
        room.map(|held| Room { _held: held }).map_err(|_| {
            Code::Unavailable
                .because("too many pages are being read")
                .retry_after(1)
        })
    }
}

impl Room {
    /// The JSON answer, which gives the room back when it is sent or given up.
    pub(super) fn hold(self, body: Vec<u8>) -> Response {
        let length = HeaderValue::from(body.len());
        let rest = (Bytes::from(body), self);
        let chunks = stream::unfold(rest, async |(mut rest, room)| {
            let chunk = rest.split_to(rest.len().min(CHUNK));
            (!chunk.is_empty()).then_some((Ok::<_, Infallible>(chunk), (rest, room)))
        });
        let mut response = render::json(Body::from_stream(chunks));
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn pages_that_are_not_read_take_room_until_they_are_dropped() {
        let answers = Answers::default();
        let page = || vec![b'x'; 8 << 20];
        let unread: Vec<Response> = (0..15)
            .map(|_| answers.room_for(8 << 20).ok().unwrap().hold(page()))
            .collect();

        let read = answers
            .room_for(4 << 20)
            .ok()
            .unwrap()
            .hold(vec![b'y'; 4 << 20]);
        assert!(answers.room_for(8 << 20).is_err());
        let (head, body) = read.into_parts();
        assert_eq!(head.headers[header::CONTENT_LENGTH], "4194304");
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 4 << 20);
        assert!(answers.room_for(7 << 20).is_ok());

        drop(unread);
        assert!(answers.room_for(120 << 20).is_ok());
    }
}
