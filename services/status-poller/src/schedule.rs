//! The cron schedule: when the bell rings. What is done then is the worker's affair.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

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

/// Rings until [`Bell::stop`]. A ring that finds the last one still unheard is dropped.
pub(crate) struct Bell(JobScheduler);

impl Bell {
    pub(crate) async fn start(
        schedule: &Schedule,
        rings: mpsc::Sender<Ring>,
    ) -> Result<Self, JobSchedulerError> {
        let scheduler = JobScheduler::new().await?;
        let job = Job::new(&schedule.cron, move |_, _| {
            let _unheard = rings.try_send(Ring);
        })?;
        scheduler.add(job).await?;
        scheduler.start().await?;
        Ok(Self(scheduler))
    }

    pub(crate) async fn stop(mut self) -> Result<(), JobSchedulerError> {
        self.0.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
