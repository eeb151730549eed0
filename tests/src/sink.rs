//! A receiver that costs little beside what it measures: raw HTTP/1.1 that notes what came, and when.
//!
//! Loopback only. A request's path says how it is answered; its body must begin with [`BODY_BEGINS`] and a number, by
//! which it is known.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Before a body's number.
pub const BODY_BEGINS: &str = "{\"n\":";
/// Answers at once.
pub const OK: &str = "/ok";
/// Answers after [`HANG`].
pub const HANGS: &str = "/hangs";
pub const HANG: Duration = Duration::from_secs(15);

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A request that came, whole.
#[derive(Clone, Copy, Debug)]
pub struct Receipt {
    pub number: u64,
    pub at: Instant,
}

/// A running receiver; it ends when dropped.
pub struct Sink {
    addr: SocketAddr,
    receipts: Receipts,
    holds: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Default)]
struct Receipts(Arc<Mutex<Vec<Receipt>>>);

impl Receipts {
    fn lock(&self) -> MutexGuard<'_, Vec<Receipt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (addr, receipts) = (listener.local_addr()?, Receipts::default());
        let holds = watch::Sender::new(false);
        let accepting = tokio::spawn(accept(listener, receipts.clone(), holds.subscribe()));
        Ok(Self {
            addr,
            receipts,
            holds,
            accepting,
        })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// From now on nothing is answered.
    pub fn hold(&self) {
        self.holds.send_replace(true);
    }

    /// What was held is answered, and the rest at once.
    pub fn let_go(&self) {
        self.holds.send_replace(false);
    }

    /// Everything that came so far, in order.
    pub fn receipts(&self) -> Vec<Receipt> {
        self.receipts.lock().clone()
    }

    /// When each came first, of what came after the first so many.
    pub fn first_since(&self, earlier: usize) -> HashMap<u64, Instant> {
        let mut first = HashMap::new();
        for receipt in self.receipts.lock().iter().skip(earlier) {
            first.entry(receipt.number).or_insert(receipt.at);
        }
        first
    }

    /// Waits until so many different ones have come.
    pub async fn has(&self, expected: usize, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        let (mut seen, mut different) = (0, HashSet::new());
        loop {
            {
                let receipts = self.receipts.lock();
                different.extend(receipts[seen..].iter().map(|receipt| receipt.number));
                seen = receipts.len();
            }
            if different.len() >= expected {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let came = different.len();
                bail!("{came} of {expected} were delivered within {within:?}");
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// An address that refuses connections for as long as this lives.
pub struct Refusing {
    _bound: TcpSocket,
    addr: SocketAddr,
}

impl Refusing {
    pub fn start() -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        // Bound, so that nobody else has the port, and not listening.
        socket.bind("127.0.0.1:0".parse()?)?;
        Ok(Self {
            addr: socket.local_addr()?,
            _bound: socket,
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }
}

async fn accept(listener: TcpListener, receipts: Receipts, holds: watch::Receiver<bool>) {
    // Ends with the listener: whoever sends sees that.
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, receipts.clone(), holds.clone()));
    }
}

/// Serves one connection until it breaks, which is the sender's to notice.
async fn serve(mut stream: TcpStream, receipts: Receipts, mut holds: watch::Receiver<bool>) {
    let mut received = Vec::with_capacity(4096);
    if stream.set_nodelay(true).is_err() {
        return;
    }
    loop {
        let Ok(request) = Request::parse(&received) else {
            return;
        };
        let Some(request) = request else {
            match stream.read_buf(&mut received).await {
                Ok(read) if read > 0 => continue,
                _ => return,
            }
        };
        let (number, at) = (request.number, Instant::now());
        receipts.lock().push(Receipt { number, at });
        if request.hangs {
            sleep(HANG).await;
        }
        received.drain(..request.length);
        let held = holds.wait_for(|holds| !holds).await.is_err();
        if held || stream.write_all(ANSWER).await.is_err() {
            return;
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    number: u64,
    hangs: bool,
    length: usize,
}

impl Request {
    /// `None` while it is incomplete.
    fn parse(received: &[u8]) -> anyhow::Result<Option<Self>> {
        let Some(head) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = str::from_utf8(&received[..head])?;
        let length: usize = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .context("a request without a length")?
            .1
            .trim()
            .parse()?;
        let length = head + 4 + length;
        let Some(body) = received.get(head + 4..length) else {
            return Ok(None);
        };
        let number = str::from_utf8(body)?.strip_prefix(BODY_BEGINS);
        let number = number.context("a body without a number")?;
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        Ok(Some(Self {
            number: number[..digits].parse()?,
            hangs: text.split(' ').nth(1) == Some(HANGS),
            length,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{self, Load};

    #[tokio::test]
    async fn what_comes_is_noted_and_answered_when_it_is_let_go() {
        let sink = Sink::start().await.unwrap();
        sink.hold();
        let sending = tokio::spawn(load::run(Load {
            addr: sink.addr,
            connections: 3,
            total: 3,
            time_limit: Duration::from_secs(30),
            make_request: |n: u64| load::post(OK, "", &format!("{BODY_BEGINS}{n}}}")),
        }));

        sink.has(3, Duration::from_secs(30)).await.unwrap();
        assert!(!sending.is_finished());
        sink.let_go();

        assert_eq!(sending.await.unwrap().unwrap().acknowledged, [0, 1, 2]);
        assert_eq!(sink.receipts().len(), 3);
    }

    #[test]
    fn a_request_is_known_by_its_number_when_it_is_whole() {
        let whole = load::post(HANGS, "", "{\"n\":17,\"more\":1}");
        let request = Request {
            number: 17,
            hangs: true,
            length: whole.len(),
        };
        assert_eq!(Request::parse(&whole).unwrap(), Some(request));
        for cut in [1, 20, whole.len() - 1] {
            assert_eq!(Request::parse(&whole[..cut]).unwrap(), None, "{cut}");
        }
        assert!(Request::parse(&load::post(OK, "", "{}")).is_err());
    }
}
