//! Two clocks, handed in (R7): wall time for due times, signatures and display; `tokio::time` for intervals.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The wall clock a service was given. Intervals and sleeps are `tokio::time`'s, which a test may pause.
#[derive(Clone, Debug)]
pub struct Clock(Wall);

#[derive(Clone, Debug)]
enum Wall {
    System,
    /// Starts at a chosen moment and advances with tokio's clock.
    Virtual {
        start: Timestamp,
        origin: Instant,
    },
}

impl Clock {
    pub fn system() -> Self {
        Self(Wall::System)
    }

    /// A wall clock that reads `start` now and advances with tokio's (paused) clock.
    pub fn starting_at(start: Timestamp) -> Self {
        Self(Wall::Virtual {
            start,
            origin: Instant::now(),
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the wall clock is read"
    )]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Wall::System => Timestamp::now(),
            Wall::Virtual { start, origin } => {
                let passed =
                    SignedDuration::try_from(origin.elapsed()).unwrap_or(SignedDuration::MAX);
                start.saturating_add(passed).unwrap_or(Timestamp::MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_virtual_clock_advances_with_tokio_and_with_nothing_else() {
        let start: Timestamp = "2024-01-15T10:00:00Z".parse().unwrap();
        let clock = Clock::starting_at(start);
        assert_eq!(clock.now(), start);

        tokio::time::sleep(Duration::from_secs(3600)).await;

        assert_eq!(clock.now().to_string(), "2024-01-15T11:00:00Z");
    }
}
