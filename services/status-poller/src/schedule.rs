//! The cron schedule: when the bell rings. What is done then is the worker's affair.

use std::time::Duration;

use runtime::clock::Clock;
use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

/// The bell rang.
pub(crate) struct Ring;

/// How many of the next rings are looked at for the longest time between two.
const RINGS_LOOKED_AT: usize = 1000;

/// A cron expression of exactly six fields, seconds first, in UTC.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    cron: String,
    /// The longest time between two of the coming rings.
    pub(crate) longest_gap: Duration,
}

impl Schedule {
    /// Answers what is wrong with the expression if it cannot be taken.
    pub(crate) fn parse(cron: &str) -> Result<Self, String> {
        let fields = cron.split_whitespace().count();
        if fields != 6 {
            return Err(format!(
                "`{cron}` has {fields} fields; it takes six: second minute hour day month weekday"
            ));
        }
        let longest_gap = longest_gap(cron)
            .ok_or_else(|| format!("`{cron}` is not a schedule that ever rings"))?;
        Ok(Self {
            cron: cron.to_owned(),
            longest_gap,
        })
    }

    fn job(&self, ears: &Ears) -> Result<Job, JobSchedulerError> {
        let ears = ears.clone();
        Job::new(&self.cron, move |_, _| ears.ring())
    }
}

/// `None` if the expression does not parse or rings less than twice in all time.
fn longest_gap(cron: &str) -> Option<Duration> {
    let data = Job::new(cron, |_, _| {}).ok()?.job_data().ok()?;
    let first = data.next_tick_utc()?;
    let rings: Vec<i64> = data
        .schedule()?
        .iter_after(first)
        .take(RINGS_LOOKED_AT)
        .map(|ring| ring.timestamp())
        .collect();
    std::iter::once(&first.timestamp())
        .chain(&rings)
        .zip(&rings)
        .map(|(ring, next)| Duration::from_secs(next.abs_diff(*ring)))
        .max()
}

/// Where the bell is heard. A ring that finds the last one still unheard is dropped, there alone.
#[derive(Clone)]
pub(crate) struct Ears(pub(crate) Vec<mpsc::Sender<Ring>>);

impl Ears {
    fn ring(&self) {
        for ear in &self.0 {
            let _unheard = ear.try_send(Ring);
        }
    }
}

/// Rings by the schedule until the token is cancelled, if anybody hears it. The library waits for a wall time: were the
/// clock set back, it would be silent until that had come again. So after each step of the clock the schedule is set
/// anew, and rung once for what the step may have passed over.
pub(crate) async fn keep_ringing(
    schedule: &Schedule,
    clock: &Clock,
    ears: Ears,
    shutdown: CancellationToken,
) -> Result<(), JobSchedulerError> {
    if ears.0.is_empty() {
        return Ok(());
    }
    let mut steps = clock.steps();
    let mut scheduler = JobScheduler::new().await?;
    let mut job = scheduler.add(schedule.job(&ears)?).await?;
    scheduler.start().await?;
    while let Some(step) = shutdown.run_until_cancelled(steps.next()).await {
        scheduler.remove(&job).await?;
        job = scheduler.add(schedule.job(&ears)?).await?;
        tracing::warn!(set_by_s = step.as_secs(), "the clock was set");
        ears.ring();
    }
    scheduler.shutdown().await
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    /// Keeps ringing by a schedule; what is heard, and the clock to set.
    fn ringing(
        cron: &str,
    ) -> (
        mpsc::Receiver<Ring>,
        Clock,
        CancellationToken,
        JoinHandle<()>,
    ) {
        let (ear, rings) = mpsc::channel(1);
        let clock = Clock::starting_at("2024-01-15T10:00:00Z".parse().unwrap());
        let (schedule, shutdown) = (Schedule::parse(cron).unwrap(), CancellationToken::new());
        let (kept, stop) = (clock.clone(), shutdown.clone());
        let keeping = tokio::spawn(async move {
            keep_ringing(&schedule, &kept, Ears(vec![ear]), stop)
                .await
                .unwrap();
        });
        (rings, clock, shutdown, keeping)
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_of_the_clock_either_way_is_rung_for_at_once_and_nothing_else_is() {
        // Rings in no year that the test runs in.
        let (mut rings, clock, shutdown, keeping) = ringing("0 0 0 29 2 *");
        let quiet = Duration::from_secs(600);
        assert!(timeout(quiet, rings.recv()).await.is_err());

        for hours in [-2, 2] {
            clock.set_by(SignedDuration::from_hours(hours));
            let rung = timeout(Duration::from_secs(2), rings.recv()).await;
            assert!(matches!(rung, Ok(Some(Ring))), "set by {hours} h");
            assert!(timeout(quiet, rings.recv()).await.is_err());
        }
        shutdown.cancel();
        timeout(quiet, keeping).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn after_a_step_the_schedule_goes_on() {
        let (mut rings, clock, _shutdown, _keeping) = ringing("* * * * * *");
        let ten_seconds = Duration::from_secs(10);
        timeout(ten_seconds, rings.recv()).await.unwrap().unwrap();

        clock.set_by(SignedDuration::from_hours(-2));

        // One that was under way, one for the step, and two by the schedule that was set anew.
        for _ in 0..4 {
            timeout(ten_seconds, rings.recv()).await.unwrap().unwrap();
        }
    }

    #[test]
    fn a_schedule_knows_its_longest_gap() {
        for (cron, seconds) in [
            ("0 * * * * *", 60),
            ("*/10 * * * * *", 10),
            ("0 0 3 * * *", 86_400),
            ("0 */5 9-17 * * *", 15 * 3600 + 300),
        ] {
            let schedule = Schedule::parse(cron).unwrap();
            assert_eq!(schedule.longest_gap, Duration::from_secs(seconds), "{cron}");
        }
    }

    #[test]
    fn what_is_not_six_fields_that_ring_is_refused() {
        for cron in [
            "* * * * *",
            "0 * * * * * *",
            "@hourly",
            "",
            "0 61 * * * *",
            "a b c d e f",
            "0 0 0 31 2 *",
        ] {
            assert!(Schedule::parse(cron).is_err(), "{cron}");
        }
    }
}
