//! A caller's connection, that tells when it waits for the caller.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::shares::Waiting;

/// How long and how much is read and dropped of what was sent and not read when the connection ends: closed on unread
/// bytes it would be reset, and the caller might never read its answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_READ: usize = 4 << 20;
const SCRAP: usize = 8 * 1024;

/// A stream whose write fails when it has been pending for the timeout.
pub(super) struct Stream {
    stream: Arc<TcpStream>,
    write_timeout: Duration,
    writing: Option<Pin<Box<Sleep>>>,
    waiting: Arc<Waiting>,
    closing: Option<Closing>,
}

/// The sending half is closed, and what still comes is dropped.
struct Closing {
    dropped: usize,
    ends: Pin<Box<Sleep>>,
}

impl Stream {
    pub(super) fn new(
        stream: Arc<TcpStream>,
        write_timeout: Duration,
        waiting: Arc<Waiting>,
    ) -> Self {
        Self {
            stream,
            write_timeout,
            writing: None,
            waiting,
            closing: None,
        }
    }

    /// `write` is tried whenever the stream can be written to, and answers `WouldBlock` when it could not.
    fn poll_in_time(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        while self.stream.poll_write_ready(cx)?.is_ready() {
            match write(&self.stream) {
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.writing = None;
                    self.waiting.end();
                    return Poll::Ready(written);
                }
            }
        }
        self.waiting.begin();
        let timeout = self.write_timeout;
        let writing = self
            .writing
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(writing.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Drops one piece of what came unread; `Ready` when there is no more to wait for.
    fn poll_drop_unread(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(closing) = &mut self.closing else {
            return Poll::Ready(());
        };
        let mut scrap = [0; SCRAP];
        loop {
            match self.stream.poll_read_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                // Where nothing came unread, there is nothing to wait for.
                Poll::Pending if closing.dropped == 0 => return Poll::Ready(()),
                Poll::Pending => return closing.ends.as_mut().poll(cx),
            }
            match self.stream.try_read(&mut scrap) {
                Ok(length) if length > 0 && closing.dropped < LINGER_READ => {
                    closing.dropped += length;
                }
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_in_time(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_in_time(cx, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    // A TCP stream has nothing to flush: only writes wait for the caller.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            rustix::net::shutdown(&*self.stream, Shutdown::Write)?;
            self.waiting.begin();
            self.closing = Some(Closing {
                dropped: 0,
                ends: Box::pin(tokio::time::sleep(LINGER)),
            });
        }
        self.poll_drop_unread(cx).map(Ok)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.stream.poll_read_ready(cx)?.is_ready() {
            match self.stream.try_read_buf(buffer) {
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    self.waiting.end();
                    return Poll::Ready(read.map(drop));
                }
            }
        }
        self.waiting.begin();
        Poll::Pending
    }
}
