//! The services themselves in one process, in virtual time, over many seeds.
//!
//! Nothing under test is replaced: delivery's whole `App`, its store (`memory:`, the same statements on the same SQLite, called
//! inline, so that time does not run away from it) and event-store's whole `App` in memory. Around them:
//!
//! - `network`: the one thing that is handed in, a middleware below the clients' own layers that answers in process. It
//!   checks every request that arrives: its bytes, its `webhook-id`, its signature.
//! - `destination`: what destinations do: 5xx, 410, 429 with Retry-After, nobody there, slow, reset, no answer.
//! - `world`: delivery as a process that is killed, paused and replaced, or stopped, and started again over its store.
//! - `driver`, `operators`: who calls the HTTP API, and misfortune, by chance from a seed. `book`: what they were told.
//! - `promises`, `receivers`: what must hold, asked of the API and of those who received.
//! - `calm`: then the faults stop, and all must come to an end.
//! - `wasted`: what is sent to endpoints that are dead. `shares`: and to those that fail in part.
//!
//! Not in here: sockets, TLS and names (`stack` has those); power loss and disks; the loops of event-store's retention; a
//! wall clock that is set (`simulation` has that). A seed repeats what is done, not every interleaving: ids and the order of
//! hash maps are the process's own.
//!
//! `SEED=… cargo test --test virtual_time` repeats one seed, `SEEDS=…` runs so many.

#![expect(
    clippy::expect_used,
    reason = "all of it is a test: what cannot be must not go on"
)]

mod book;
mod calm;
mod destination;
mod driver;
mod network;
mod operators;
mod promises;
mod receivers;
mod shares;
mod wasted;
mod world;

use std::fmt;
use std::time::Instant;

use system_tests::seeds;

use self::driver::Driver;

/// What a change is tested with.
const SEEDS: u64 = 50;
/// Between two looks at everything.
const PHASE: usize = 40;
const PHASES: usize = 6;

/// What went wrong, and what happened before.
struct Failure {
    what: anyhow::Error,
    timeline: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{:#}", self.timeline.join("\n"), self.what)
    }
}

/// One seed, from the first registration to the end of everything; answers how many requests were received.
fn run(seed: u64) -> Result<u64, Failure> {
    virtual_time(async {
        let started = Driver::new(seed).await;
        let mut driver = started.map_err(|what| Failure {
            what,
            timeline: Vec::new(),
        })?;
        live(&mut driver).await.map_err(|what| Failure {
            what,
            timeline: driver.timeline.iter().cloned().collect(),
        })?;
        Ok(driver.world.net.received() as u64)
    })
}

async fn live(driver: &mut Driver) -> anyhow::Result<()> {
    for _ in 0..PHASES {
        for _ in 0..PHASE {
            driver.step().await?;
        }
        driver.pass_time().await?;
        if driver.world.is_up() {
            driver.check().await?;
        }
    }
    driver.calm_down().await
}

/// Runs on one thread, whose clock goes on only when nothing else does.
fn virtual_time<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(test)
}

#[test]
fn whatever_happens_the_services_keep_their_promises() {
    if let Some(seed) = seeds::asked("SEED").expect("SEED is a number") {
        if let Err(failure) = run(seed) {
            panic!("SEED={seed}\n{failure}");
        }
        return;
    }
    let seeds = seeds::asked("SEEDS")
        .expect("SEEDS is a number")
        .unwrap_or(SEEDS);
    let began = Instant::now();
    match seeds::on_all_cores(seeds, run) {
        Ok(received) => println!(
            "{seeds} seeds, {received} requests received, 0 violations, {:.0?}",
            began.elapsed()
        ),
        Err((seed, failure)) => panic!("SEED={seed}\n{failure}"),
    }
}
