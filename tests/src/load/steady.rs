//! An open loop: requests go out at a steady rate, whatever the answers take.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{Connection, exchange};

/// A request that is not answered by then has failed.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// A request that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    pub number: u64,
    /// Just before its first byte was written.
    pub sent: Instant,
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
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    // After a stall the rate goes on, without a burst that would measure the generator.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sending = JoinSet::new();
    for number in 0..total {
        ticks.tick().await;
        let (request, idle) = (make_request(number), Arc::clone(&idle));
        sending.spawn(async move {
            let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
            let mut connection = lock().pop();
            if connection.is_none() {
                connection = Some(Connection::open(addr).await?);
            }
            let sent = Instant::now();
            let status = timeout(ANSWER_WAIT, exchange(&mut connection, addr, &request)).await??;
            lock().extend(connection);
            ensure!((200..300).contains(&status), "request {number}: {status}");
            anyhow::Ok(Acknowledged { number, sent })
        });
    }
    let mut acknowledged = Vec::new();
    while let Some(sent) = sending.join_next().await {
        acknowledged.push(sent??);
    }
    Ok(acknowledged)
}
