//! Tests that run over many seeds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Context as _;

/// How much to run, as the command line says: `SEED=…` or `SEEDS=…`.
#[expect(
    clippy::disallowed_methods,
    reason = "how much to run is said on the command line, not in a configuration"
)]
pub fn asked(name: &str) -> anyhow::Result<Option<u64>> {
    let Ok(value) = std::env::var(name) else {
        return Ok(None);
    };
    let number = value.parse();
    number.map(Some).with_context(|| format!("{name}={value}"))
}

/// Runs seeds 0, 1, 2 … on all cores; answers the sum of what they answer, or the failure of the smallest seed that was met.
pub fn on_all_cores<E: Send>(
    seeds: u64,
    run: impl Fn(u64) -> Result<u64, E> + Sync,
) -> Result<u64, (u64, E)> {
    let (next, total) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed: Mutex<Option<(u64, E)>> = Mutex::new(None);
    let one_after_another = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            match run(seed) {
                Ok(done) => total.fetch_add(done, Ordering::Relaxed),
                Err(failure) => {
                    next.store(seeds, Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    let before = failed.take().filter(|(other, _)| *other < seed);
                    *failed = before.or(Some((seed, failure)));
                    return;
                }
            };
        }
    };
    let cores = thread::available_parallelism().map_or(1, Into::into);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(one_after_another);
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(total.into_inner()), Err)
}
