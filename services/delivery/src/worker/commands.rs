//! What a caller may do to a delivery: retry it, cancel it, or have an endpoint's missed ones sent again.

use std::sync::Arc;

use runtime::problem::Problem;
use schema::CorrelationId;
use schema::webhooks::{JobKind, RecoverRequest, Trigger};

use super::Worker;
use crate::domain::ids::{DeliveryId, EndpointId, JobId};
use crate::domain::transition::{Effect, ExhaustReason, Input};
use crate::error::Error;
use crate::storage::{Change, Job, Stored};

/// Nobody else can change a delivery so often meanwhile.
const DECISIONS_MAX: usize = 16;

/// Why a command was not carried out.
#[derive(Debug)]
pub enum CommandFault {
    Unknown,
    /// The client has as many endpoints as it may.
    TooMany,
    Conflict(&'static str),
    /// Configuration sets it.
    BuiltIn,
    Unavailable(Error),
    Refused(Problem),
}

impl Worker {
    /// A new generation with a full schedule, due now, whatever the state.
    pub async fn retry(
        self: &Arc<Self>,
        id: DeliveryId,
        trigger: Trigger,
    ) -> Result<(), CommandFault> {
        self.command(id, Input::Retry { trigger }).await
    }

    /// No attempt after the one that may be on its way.
    pub async fn cancel(self: &Arc<Self>, id: DeliveryId) -> Result<(), CommandFault> {
        self.command(id, Input::Stop(ExhaustReason::Canceled)).await
    }

    /// Not given up when its caller leaves: what is committed is also queued.
    async fn command(self: &Arc<Self>, id: DeliveryId, input: Input) -> Result<(), CommandFault> {
        let worker = Arc::clone(self);
        let task = async move { worker.carry_out(id, input).await };
        match self.attempts.spawn(task).await {
            Ok(done) => done,
            Err(fault) => Err(CommandFault::Unavailable(Error::Passing(fault.to_string()))),
        }
    }

    async fn carry_out(self: &Arc<Self>, id: DeliveryId, input: Input) -> Result<(), CommandFault> {
        let found = self.outside.storage.summary(id).await;
        let summary = found
            .map_err(|fault| self.refuse(fault))?
            .ok_or(CommandFault::Unknown)?;
        let live = self.registry.by_position(summary.endpoint);
        let live = live.ok_or(CommandFault::Conflict("its endpoint was removed"))?;
        for _ in 0..DECISIONS_MAX {
            let Some(stored) = self.reload(summary.position).await else {
                return Err(CommandFault::Unknown);
            };
            let (life, effects) = self.decide(&stored, input, &live);
            let life = match effects[..] {
                // It ended before, but its line still stops at it: so that is what ends now.
                [Effect::Refuse(_)] if stored.blocks => {
                    let mut life = stored.life.clone();
                    life.version = life.version.wrapping_add(1);
                    life
                }
                [Effect::Refuse(_)] => return Err(CommandFault::Conflict("it has ended already")),
                _ => life,
            };
            let mut change = Change {
                to_tail: matches!(input, Input::Retry { .. }),
                ..self.change(&stored, life)
            };
            self.report_if(&mut change, &stored, &effects);
            let (reports, life) = (change.report.is_some(), change.life.clone());
            match self.change_one(change).await {
                Ok(_) => {
                    self.tell_ended_page(&live, &stored, &life);
                    self.overtake(&stored).await;
                    if reports {
                        self.outcomes.notify_one();
                    }
                    return Ok(());
                }
                Err(Error::Stale) => {}
                Err(fault) => return Err(self.refuse(fault)),
            }
        }
        Err(CommandFault::Conflict("it changes all the time"))
    }

    /// What is queued of a delivery is as the store has it now.
    pub(super) async fn overtake(self: &Arc<Self>, before: &Stored) {
        let Some(live) = self.registry.by_position(before.endpoint) else {
            return;
        };
        if before.life.open.is_some() {
            // The attempt on its way sees the change when it ends.
            return;
        }
        if before.blocks || before.life.due_at.is_some() {
            let now = self.both_clocks();
            self.queues()
                .supersede(before.endpoint, before.position, now);
        }
        if let Some(stored) = self.reload(before.position).await {
            self.follow(&live, &stored);
        }
        self.look_again.notify_one();
    }

    /// Sends again what the endpoint missed: a stored job.
    pub async fn recover(
        self: &Arc<Self>,
        id: &EndpointId,
        request: RecoverRequest,
        correlation_id: CorrelationId,
    ) -> Result<Job, CommandFault> {
        let live = self.registry.by_id(id).ok_or(CommandFault::Unknown)?;
        let endpoint = &live.endpoint;
        let new = self.new_job(
            JobKind::Recover,
            endpoint.client,
            &endpoint.client_id,
            correlation_id,
        );
        let job = Job {
            endpoint: Some((endpoint.position, endpoint.endpoint_id.clone())),
            since: request.since,
            until: request.until.unwrap_or(new.until),
            wanted: request.status,
            dry_run: request.dry_run,
            ..new
        };
        let added = self
            .outside
            .storage
            .add_job(crate::storage::LANE, job.clone())
            .await;
        added.map_err(|fault| self.refuse(fault))?;
        self.jobs.notify_one();
        Ok(job)
    }

    pub async fn cancel_job(&self, id: JobId) -> Result<Job, CommandFault> {
        let canceled = self.outside.storage.cancel_job(id, self.now()).await;
        canceled
            .map_err(|fault| self.refuse(fault))?
            .ok_or(CommandFault::Unknown)
    }

    pub(super) fn refuse(&self, fault: Error) -> CommandFault {
        if fault.is_final() {
            self.note_fault(&fault);
        }
        CommandFault::Unavailable(fault)
    }
}
