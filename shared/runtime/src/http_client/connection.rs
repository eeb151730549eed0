//! A connection to a stranger: whatever comes as the head of an answer is read by [`head`](super::head) before the HTTP
//! library sees it, and it is known whether anything came at all.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};

use super::head::HeadReader;

/// What is read of a head at once.
const PIECE: usize = 4 * 1024;

/// How far the latest request of a connection came. One is on its way at a time.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    is_reused: AtomicBool,
    is_answered: AtomicBool,
}

impl Exchange {
    /// It was asked over a connection that had answered before, and not a byte of its answer came.
    pub(super) fn is_unanswered_on_a_kept_connection(&self) -> bool {
        self.is_reused.load(Ordering::Acquire) && !self.is_answered.load(Ordering::Acquire)
    }
}

pub(super) struct Guarded<S> {
    stream: S,
    sending: Sending,
    /// Absent once the head is whole: the rest is passed on as it comes.
    head: Option<HeadReader>,
    /// Read, and not passed on yet.
    ready: Vec<u8>,
    exchange: Arc<Exchange>,
}

impl<S> Guarded<S> {
    pub(super) fn over(stream: S) -> Self {
        Self {
            stream,
            sending: Sending::Nothing,
            head: Some(HeadReader::default()),
            ready: Vec::new(),
            exchange: Arc::default(),
        }
    }

    /// What is read from now on is the answer to the request whose first bytes are written now.
    fn begin(&mut self) {
        let answered = self.exchange.is_answered.swap(false, Ordering::AcqRel);
        self.exchange.is_reused.fetch_or(answered, Ordering::AcqRel);
        self.sending = Sending::Head(Vec::new());
        self.head = Some(HeadReader::default());
    }

    /// Passes on what is ready, up to what there is room for.
    fn hand_out(&mut self, to: &mut ReadBufCursor<'_>) {
        let length = self.ready.len().min(to.remaining());
        to.put_slice(&self.ready[..length]);
        self.ready.drain(..length);
    }
}

impl<S: Read + Unpin> Read for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.ready.is_empty() {
                this.hand_out(&mut to);
                return Poll::Ready(Ok(()));
            }
            let Some(head) = &mut this.head else {
                return Pin::new(&mut this.stream).poll_read(cx, to);
            };
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.stream).poll_read(cx, piece.unfilled()))?;
            let came = piece.filled();
            if came.is_empty() {
                return Poll::Ready(head.end().map_err(no_answer));
            }
            this.exchange.is_answered.store(true, Ordering::Release);
            if let Some(tidied) = head.push(came).map_err(no_answer)? {
                this.ready = tidied;
                this.head = None;
            }
        }
    }
}

fn no_answer(fault: super::head::HeadFault) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, fault)
}

impl<S: Write + Unpin> Write for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.sending == Sending::Nothing && !bytes.is_empty() {
            self.begin();
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.sending.wrote(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Connection> Connection for Guarded<S> {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(Arc::clone(&self.exchange))
    }
}

/// How far a request is written. The next one begins where it ends.
#[derive(Debug, PartialEq, Eq)]
enum Sending {
    Nothing,
    /// What there is of its head.
    Head(Vec<u8>),
    /// So many bytes of its body are to come.
    Body(u64),
}

impl Sending {
    fn wrote(&mut self, bytes: &[u8]) {
        let to_come = match self {
            Self::Nothing => return,
            Self::Body(to_come) => to_come.saturating_sub(bytes.len() as u64),
            Self::Head(head) => {
                head.extend_from_slice(bytes);
                let Some(end) = head.windows(4).position(|at| at == b"\r\n\r\n") else {
                    return;
                };
                let of_body = head.len() - (end + 4);
                body_length(&head[..end]).saturating_sub(of_body as u64)
            }
        };
        *self = match to_come {
            0 => Self::Nothing,
            _ => Self::Body(to_come),
        };
    }
}

/// Of a request that the HTTP library wrote: it tells the length, or there is no body.
fn body_length(head: &[u8]) -> u64 {
    let value = head.split(|&byte| byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked("content-length:".len())?;
        name.eq_ignore_ascii_case(b"content-length:")
            .then_some(value)
    });
    let text = value.and_then(|value| std::str::from_utf8(value.trim_ascii()).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
