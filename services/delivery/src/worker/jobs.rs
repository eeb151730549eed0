//! Stored jobs go a slice at a time: what a slice changes and how far it came is one commit. A restart goes on at the cursor.

use std::sync::Arc;
use std::time::Duration;

use schema::delivery::Status;
use schema::webhooks::{JobKind, JobStatus, Trigger};
use tokio::time::Instant;

use super::Worker;
use super::attempt::ended_of;
use super::backoff::{Backoff, PATIENT};
use super::post::line_of;
use super::registry::Live;
use crate::domain::ids::DeliveryId;
use crate::domain::requests::TEST_TYPE;
use crate::domain::transition::{ExhaustReason, Input, Life, SkipReason, State, transition};
use crate::error::Error;
use crate::storage::{
    Candidate, Change, Job, JobSlice, LANE, Late, NewDelivery, Progress, Sliced, Stored,
};

/// Events or deliveries that one slice looks at.
const SLICE: usize = 128;
/// Between two slices, so that a job never crowds out deliveries.
const PAUSE: Duration = Duration::from_millis(50);
/// A recovery waits while so much is open for its endpoint: it keeps the queue fed, not full.
const FED: usize = 10_000;
/// A look without being woken: the store is the truth, the wake a hint.
const LOOK_AT_LEAST: Duration = Duration::from_secs(30);

impl Worker {
    pub(super) async fn run_jobs(self: &Arc<Self>) -> Result<(), Error> {
        let mut backoff = Backoff::up_to(PATIENT);
        loop {
            match self.step_jobs().await {
                Ok(0) => {
                    backoff.reset();
                    // Whichever comes first, the store is looked at.
                    let _woken = tokio::time::timeout(LOOK_AT_LEAST, self.jobs.notified()).await;
                }
                Ok(_) => {
                    backoff.reset();
                    tokio::time::sleep(PAUSE).await;
                }
                Err(fault) if fault.is_final() => return Err(fault),
                // Said where it happened.
                Err(_) => backoff.wait().await,
            }
        }
    }

    /// One slice of each job that is running; answers how many there are.
    async fn step_jobs(self: &Arc<Self>) -> Result<usize, Error> {
        let jobs = self.outside.storage.running_jobs(LANE).await?;
        let running = jobs.len();
        for job in jobs {
            let (job_id, correlation_id) = (job.job_id, job.correlation_id.clone());
            let taken = match job.kind {
                JobKind::Recover => self.recover_slice(job).await,
                JobKind::RemoveEndpoint => self.end_slice(job).await,
                JobKind::RemoveClient => self.purge_slice(job).await,
            };
            if let Err(fault) = &taken {
                tracing::warn!(%correlation_id, %job_id, %fault, "a job could not go on, trying again");
            }
            taken?;
        }
        let vitals = &self.outside.vitals;
        vitals.note(|facts| facts.jobs_at = Some(Instant::now()));
        Ok(running)
    }

    async fn recover_slice(self: &Arc<Self>, job: Job) -> Result<(), Error> {
        let endpoint = job.endpoint.as_ref().map(|(position, _)| *position);
        let live = endpoint.and_then(|position| self.registry.by_position(position));
        let Some(live) = live else {
            return self
                .commit_slice(&job, ended(&job), Vec::new(), Vec::new())
                .await;
        };
        if !job.dry_run && self.queues().open_of(live.endpoint.position) > FED {
            return Ok(());
        }
        let candidates = self
            .outside
            .storage
            .candidates(LANE, job.clone(), SLICE)
            .await?;
        let mut progress = self.moved_on(&job, candidates.len());
        if let Some(last) = candidates.last() {
            progress.cursor = last.event;
        }
        let (mut again, mut late) = (Vec::new(), Vec::new());
        for candidate in candidates {
            match self.missed(&job, &live, candidate) {
                Missed::Nothing => {}
                Missed::Again(stored) => again.push(*stored),
                Missed::Never(new) => late.push(new),
            }
        }
        progress.done += (again.len() + late.len()) as u64;
        if job.dry_run {
            return self
                .commit_slice(&job, progress, Vec::new(), Vec::new())
                .await;
        }
        self.commit_slice(&job, progress, again, late).await
    }

    fn missed(&self, job: &Job, live: &Live, candidate: Candidate) -> Missed {
        let Some(stored) = candidate.delivery else {
            let (event_type, operational) = (&candidate.event_type, candidate.operational);
            // A test is for the endpoint that was tested.
            let wants = event_type != TEST_TYPE && live.endpoint.wants(event_type, operational);
            let asked = job.wanted.is_none_or(|status| status == Status::Skipped);
            if !(wants && asked) {
                return Missed::Nothing;
            }
            let now = self.now();
            let life = Life {
                trigger: Trigger::Recovery,
                ..Life::accepted(&live.policy, now)
            };
            return Missed::Never(Late {
                event: candidate.event,
                new: NewDelivery {
                    delivery_id: DeliveryId::mint(LANE, now),
                    endpoint: live.endpoint.position,
                    line: line_of(candidate.ordering_key.as_deref()),
                    life,
                },
            });
        };
        let state = stored.life.state;
        // What its owner canceled was not missed, nor what somebody has.
        let settled = [
            State::Exhausted(ExhaustReason::Canceled),
            State::Skipped(SkipReason::AlreadyDelivered),
        ];
        if settled.contains(&state) {
            return Missed::Nothing;
        }
        let status = state.status();
        let wanted = match job.wanted {
            Some(wanted) => status == wanted,
            None => matches!(status, Status::Exhausted | Status::Skipped),
        };
        if wanted {
            Missed::Again(Box::new(stored))
        } else {
            Missed::Nothing
        }
    }

    /// Ends what is open for a removed endpoint, from the first each time, until nothing is.
    async fn end_slice(self: &Arc<Self>, job: Job) -> Result<(), Error> {
        let Some((endpoint, _)) = job.endpoint else {
            return self
                .commit_slice(&job, ended(&job), Vec::new(), Vec::new())
                .await;
        };
        let storage = &self.outside.storage;
        let open = storage.open_of(LANE, endpoint, 0, SLICE).await?;
        let changes: Vec<Change> = open
            .iter()
            .filter_map(|stored| self.ending_of(stored))
            .collect();
        let mut progress = self.moved_on(&job, changes.len());
        progress.done += changes.len() as u64;
        progress.status = if open.is_empty() {
            JobStatus::Done
        } else {
            JobStatus::Running
        };
        let slice = JobSlice {
            lane: LANE,
            job_id: job.job_id,
            began_at: job.progress.cursor,
            progress,
            changes,
            late: Vec::new(),
        };
        storage.slice(slice).await?;
        self.outcomes.notify_one();
        tell_done(&job, &progress);
        Ok(())
    }

    /// How a delivery of a removed endpoint ends; `None` while its last attempt is on its way.
    fn end_of(&self, stored: &Stored) -> Option<Input> {
        match stored.life.open {
            Some(open) if open.epoch < self.epoch => Some(Input::Interrupt { epoch: self.epoch }),
            Some(_) if stored.life.stop.is_some() => None,
            _ => Some(Input::Stop(ExhaustReason::EndpointDeleted)),
        }
    }

    /// An attempt of a dead owner is on record as interrupted, as it is at a start.
    fn ending_of(&self, stored: &Stored) -> Option<Change> {
        let input = self.end_of(stored)?;
        let mut change = self.change_of(stored, input);
        if let (Input::Interrupt { .. }, Some(open)) = (input, stored.life.open) {
            let ended = ended_of(stored.life.started, open, None, &change.life);
            change.ended = Some(ended);
            self.outside.vitals.interrupted.inc();
        }
        Some(change)
    }

    async fn purge_slice(self: &Arc<Self>, job: Job) -> Result<(), Error> {
        let removed = self.outside.storage.purge(LANE, job.client).await?;
        let mut progress = self.moved_on(&job, removed);
        if removed > 0 {
            progress.status = JobStatus::Running;
        }
        // Nothing is walked: what is left is found from the beginning each time.
        progress.cursor = job.progress.cursor + 1;
        progress.done += removed as u64;
        self.commit_slice(&job, progress, Vec::new(), Vec::new())
            .await
    }

    /// Fewer than a whole slice is the last.
    fn moved_on(&self, job: &Job, looked_at: usize) -> Progress {
        Progress {
            status: if looked_at < SLICE {
                JobStatus::Done
            } else {
                JobStatus::Running
            },
            examined: job.progress.examined + looked_at as u64,
            updated_at: self.now(),
            ..job.progress
        }
    }

    fn change_of(&self, stored: &Stored, input: Input) -> Change {
        let policy = &self.outside.defaults.policy;
        let rng = &mut *self.outside.chance.draw();
        let now = self.now();
        let (life, effects) = transition(&stored.life, input, policy, now, rng);
        let mut change = Change {
            to_tail: matches!(input, Input::Retry { .. }),
            ..self.change(stored, life)
        };
        self.report_if(&mut change, stored, &effects);
        change
    }

    async fn commit_slice(
        self: &Arc<Self>,
        job: &Job,
        progress: Progress,
        again: Vec<Stored>,
        late: Vec<Late>,
    ) -> Result<(), Error> {
        let input = Input::Retry {
            trigger: Trigger::Recovery,
        };
        let slice = JobSlice {
            lane: LANE,
            job_id: job.job_id,
            began_at: job.progress.cursor,
            progress,
            changes: again
                .iter()
                .map(|stored| self.change_of(stored, input))
                .collect(),
            late,
        };
        let sliced = self.outside.storage.slice(slice).await?;
        let Sliced::Done { changed, late } = sliced else {
            return Ok(());
        };
        for (stored, changed) in again.iter().zip(changed) {
            if changed.is_ok() {
                self.overtake(stored).await;
            }
        }
        for position in late.into_iter().flatten() {
            // Committed, and behind the cursor: whatever the fault, it is not left out.
            if let Some(stored) = self.reload(position).await
                && let Some(live) = self.registry.by_position(stored.endpoint)
            {
                self.follow(&live, &stored);
            }
        }
        tell_done(job, &progress);
        Ok(())
    }
}

fn tell_done(job: &Job, progress: &Progress) {
    if progress.status == JobStatus::Done {
        tracing::info!(
            correlation_id = %job.correlation_id, job_id = %job.job_id, client_id = &*job.client_id,
            kind = job.kind.as_str(), examined = progress.examined, done = progress.done, "job done",
        );
    }
}

/// What an endpoint missed of an event.
enum Missed {
    Nothing,
    Again(Box<Stored>),
    Never(Late),
}

fn ended(job: &Job) -> Progress {
    Progress {
        status: JobStatus::Done,
        ..job.progress
    }
}
