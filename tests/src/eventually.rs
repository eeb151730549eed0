//! Waiting for what must come true, with an end that tells what was seen last.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(20);
/// Longer than any scenario takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Looks again and again until the look is `Ok`; its last `Err` is in the error when the time is over.
pub async fn eventually<T, E: Debug>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(seen) if began.elapsed() >= within => {
                bail!("{what}: not within {within:?}; last seen: {seen:?}")
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
