//! An open loop: requests go out at a steady rate, whatever the answers take.
//!
//! Each has a moment at which it is to be sent, fixed at the beginning, and its latency counts from there. Counted from
//! when it was sent, it would leave out what it waited for a generator that stood still, or for the requests before it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{Connection, exchange};

/// A request that is not answered by then has failed.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// A request that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    pub number: u64,
    /// When it was to be sent; it was, then or as soon after as the generator could.
    pub planned: Instant,
}

/// Sends requests number 0 to `total`, `per_second` of them each second, and waits for every answer.
///
/// # Errors
/// The address is not a loopback address, or a request was not answered 2xx.
pub async fn run(
    addr: SocketAddr,
    per_second: u32,
    total: u64,
    make_request: impl Fn(u64) -> Vec<u8>,
) -> anyhow::Result<Vec<Acknowledged>> {
    ensure!(
        addr.ip().is_loopback(),
        "{addr} is not a loopback address: this generator is for one's own machine"
    );
    let idle: Arc<Mutex<Vec<Connection>>> = Arc::default();
    let mut due = plan(per_second, total);
    let mut sending = JoinSet::new();
    while let Some((number, planned)) = due.recv().await {
        let (request, idle) = (make_request(number), Arc::clone(&idle));
        sending.spawn(async move {
            let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
            let mut connection = lock().pop();
            if connection.is_none() {
                connection = Some(Connection::open(addr).await?);
            }
            let status = timeout(ANSWER_WAIT, exchange(&mut connection, addr, &request)).await??;
            lock().extend(connection);
            ensure!((200..300).contains(&status), "request {number}: {status}");
            anyhow::Ok(Acknowledged { number, planned })
        });
    }
    let mut acknowledged = Vec::new();
    while let Some(sent) = sending.join_next().await {
        acknowledged.push(sent??);
    }
    Ok(acknowledged)
}

/// Tells each number at its moment. A thread of its own keeps the time: tokio's timer is up to a millisecond late, which
/// is as long as what is measured.
fn plan(per_second: u32, total: u64) -> UnboundedReceiver<(u64, Instant)> {
    let (tell, due) = unbounded_channel();
    let began = Instant::now();
    std::thread::spawn(move || {
        let period = Duration::from_secs(1) / per_second;
        let mut planned = began;
        for number in 0..total {
            std::thread::sleep(planned.saturating_duration_since(Instant::now()));
            if tell.send((number, planned)).is_err() {
                return;
            }
            planned += period;
        }
    });
    due
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::post as on_post;
    use runtime::server;
    use tokio_util::sync::CancellationToken;

    use super::super::post;
    use super::*;

    const STALL: Duration = Duration::from_millis(300);
    const PER_S: u32 = 100;

    #[tokio::test]
    async fn a_generator_that_stands_still_plans_no_request_later_so_that_the_wait_is_in_its_latency()
     {
        let router = Router::new().route("/", on_post(async || "{}"));
        let listener = server::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let limits = server::Limits::INTERNAL;
        let server = tokio::spawn(server::serve(listener, router, limits, shutdown.clone()));

        let request = |number| {
            if number == 5 {
                std::thread::sleep(STALL);
            }
            post("/", "", "{}")
        };
        let mut sent = run(addr, PER_S, 10, request).await.unwrap();
        shutdown.cancel();
        server.await.unwrap().unwrap();

        sent.sort_unstable_by_key(|sent| sent.number);
        let planned = sent.iter().map(|one| one.planned - sent[0].planned);
        let period = Duration::from_secs(1) / PER_S;
        let even: Vec<Duration> = (0..10).map(|number| period * number).collect();
        assert_eq!(planned.collect::<Vec<_>>(), even);
    }
}
