//! Two clocks, handed in (R7): wall time for due times, signatures and display; `tokio::time` for intervals.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Between two looks at whether the wall clock was set.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What the two clocks may differ by before it counts: reading them takes a moment, too.
const UNREMARKED: SignedDuration = SignedDuration::from_secs(2);

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
        /// What it was set by since, in ms.
        set_by_ms: Arc<AtomicI64>,
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
            set_by_ms: Arc::default(),
        })
    }

    /// Sets a virtual clock forward, or back, for all who hold it. The system's is nobody's to set.
    pub fn set_by(&self, step: SignedDuration) {
        if let Wall::Virtual { set_by_ms, .. } = &self.0 {
            let step_ms = i64::try_from(step.as_millis()).unwrap_or_default();
            set_by_ms.fetch_add(step_ms, Ordering::Relaxed);
        }
    }

    /// Watches from now on for somebody to set the wall clock.
    pub fn steps(&self) -> Steps {
        Steps {
            clock: self.clone(),
            wall: self.now(),
            seen: Instant::now(),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the wall clock is read"
    )]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Wall::System => Timestamp::now(),
            Wall::Virtual {
                start,
                origin,
                set_by_ms,
            } => {
                let set_by = SignedDuration::from_millis(set_by_ms.load(Ordering::Relaxed));
                let passed = signed(origin.elapsed()).saturating_add(set_by);
                start.saturating_add(passed).unwrap_or(Timestamp::MAX)
            }
        }
    }
}

/// Notices when the wall clock is set, or the machine slept: wall time then passes otherwise than tokio's.
#[derive(Debug)]
pub struct Steps {
    clock: Clock,
    wall: Timestamp,
    seen: Instant,
}

impl Steps {
    /// Waits for the next step; what the wall clock was set by, negative where it went back. A step is told within a
    /// second, and one of up to 2 s never.
    pub async fn next(&mut self) -> SignedDuration {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(step) = self.look() {
                return step;
            }
        }
    }

    fn look(&mut self) -> Option<SignedDuration> {
        let (wall, seen) = (self.clock.now(), Instant::now());
        let by_wall = wall.duration_since(self.wall);
        let step = by_wall.saturating_sub(signed(seen.duration_since(self.seen)));
        (self.wall, self.seen) = (wall, seen);
        (step.abs() > UNREMARKED).then_some(step)
    }
}

fn signed(passed: Duration) -> SignedDuration {
    SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_virtual_clock_advances_with_tokio_and_with_nothing_else() {
        let start: Timestamp = "2024-01-15T10:00:00Z".parse().unwrap();
        let clock = Clock::starting_at(start);
        assert_eq!(clock.now(), start);

        tokio::time::sleep(Duration::from_secs(3600)).await;

        assert_eq!(clock.now().to_string(), "2024-01-15T11:00:00Z");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_is_told_within_a_second_and_one_that_runs_never() {
        let clock = Clock::starting_at("2024-01-15T10:00:00Z".parse().unwrap());
        let mut steps = clock.steps();
        let day = Duration::from_secs(24 * 3600);
        assert!(tokio::time::timeout(day, steps.next()).await.is_err());

        for hours in [-2, 2, -24 * 365] {
            let step = SignedDuration::from_hours(hours);
            let set_at = Instant::now();
            clock.set_by(step);

            assert_eq!(steps.next().await, step);
            assert!(set_at.elapsed() <= LOOK_EVERY, "{hours} h");
            assert!(tokio::time::timeout(day, steps.next()).await.is_err());
        }
        clock.set_by(UNREMARKED);
        assert!(tokio::time::timeout(day, steps.next()).await.is_err());
    }
}
