//! How long a loop that never gives up waits before it tries again (R8).

use std::time::Duration;

use rand::RngExt as _;

const FIRST: Duration = Duration::from_millis(100);

/// For what a page may be waiting for: soon after the fault is over, it is over here too.
pub(crate) const PROMPT: Duration = Duration::from_secs(2);
/// For what nobody is waiting for.
pub(crate) const PATIENT: Duration = Duration::from_secs(30);

/// Doubles from 100 ms to its longest, each wait shortened by chance to between half and all of it.
#[derive(Debug)]
pub(crate) struct Backoff {
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self {
            longest,
            failures: 0,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) async fn wait(&mut self) {
        let full = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(self.longest);
        self.failures = self.failures.saturating_add(1);
        let part: f64 = rand::rng().random();
        tokio::time::sleep(full.mul_f64(0.5 + part / 2.0)).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_grows_to_its_longest_and_no_further() {
        let mut backoff = Backoff::up_to(PATIENT);
        let mut waits = Vec::new();
        for _ in 0..40 {
            let before = Instant::now();
            backoff.wait().await;
            waits.push(before.elapsed());
        }
        assert!(waits[0] <= Duration::from_millis(101));
        assert!(
            waits[20..]
                .iter()
                .all(|wait| (15..31).contains(&wait.as_secs())),
            "{waits:?}"
        );
    }
}
