//! Endpoints come, change and go: the store first, then what is in memory.

use std::sync::Arc;

use jiff::Timestamp;
use runtime::problem::Problem;
use schema::CorrelationId;
use schema::webhooks::{DisabledReason, ENDPOINTS_MAX, JobKind, JobStatus, OnExhausted};

use super::Worker;
use super::backoff::{Backoff, PROMPT};
use super::commands::CommandFault;
use super::registry::Live;
use crate::domain::endpoint::{Confidential, Disabled, Endpoint, Settings};
use crate::domain::ids::{EndpointId, JobId, Position};
use crate::error::Error;
use crate::storage::{Job, LANE, Progress, Put, PutEndpoint};

/// Somebody else cannot change it so often meanwhile.
const CHANGES_MAX: usize = 16;

/// What became of a change.
enum Written {
    Done(Arc<Live>),
    TooMany,
    Stale,
}

impl Worker {
    /// Takes clients and endpoints as the store has them.
    pub(super) async fn read_endpoints(&self) -> Result<(), Error> {
        self.read_endpoints_after(None).await
    }

    /// As [`read_endpoints`](Self::read_endpoints), after a change that was asked for under this id.
    async fn read_endpoints_after(
        &self,
        correlation_id: Option<&CorrelationId>,
    ) -> Result<(), Error> {
        let storage = &self.outside.storage;
        let _alone = self.endpoints_change.lock().await;
        let (clients, endpoints) = (storage.clients(LANE).await?, storage.endpoints(LANE).await?);
        for endpoint in endpoints {
            self.take_over(endpoint, correlation_id);
        }
        // After its endpoints: who sees the new version sees them too.
        for client in &clients {
            self.registry.note_version(client);
        }
        Ok(())
    }

    /// As [`read_endpoints`](Self::read_endpoints), after a delivery has disabled one, until it works or never will.
    pub(super) async fn learn_endpoints(&self, correlation_id: &CorrelationId) {
        let mut backoff = Backoff::up_to(PROMPT);
        while let Err(fault) = self.read_endpoints_after(Some(correlation_id)).await {
            self.note_fault(&fault);
            if fault.is_final() {
                return;
            }
            backoff.wait().await;
        }
    }

    /// What the store has is in memory from now on. Whatever disabled or enabled it, this is where it is told.
    fn take_over(&self, endpoint: Endpoint, correlation_id: Option<&CorrelationId>) -> Arc<Live> {
        let before = self.registry.by_position(endpoint.position);
        let live = self.registry.put(endpoint, &self.outside.defaults);
        if let Some(before) = before {
            tell_switched(&before.endpoint, &live.endpoint, correlation_id);
        }
        let now = self.both_clocks();
        let mut queues = self.queues();
        queues.set_endpoint(live.endpoint.position, live.rules(), now);
        if live.endpoint.settings.on_exhausted == OnExhausted::Skip {
            queues.unblock(live.endpoint.position, now);
        }
        drop(queues);
        self.look_again.notify_one();
        live
    }

    /// Where it leads, what it takes and how it is tried is configuration's; what a caller may change of it stays. An earlier
    /// release let what it takes be changed, and disabled it by itself.
    pub(super) async fn put_built_in(self: &Arc<Self>, configured: Endpoint) -> Result<(), Error> {
        let known = self.registry.by_id(&configured.endpoint_id);
        let endpoint = match known {
            None => configured,
            Some(live) => {
                let stored = Endpoint::clone(&live.endpoint);
                let confidential = if stored.confidential.secret.is_empty() {
                    configured.confidential
                } else {
                    stored.confidential
                };
                let configured = configured.settings;
                let settings = match stored.settings.url.is_empty() {
                    true => configured,
                    false => Settings {
                        url: configured.url,
                        event_types: configured.event_types,
                        retry: configured.retry,
                        timeout_ms: configured.timeout_ms,
                        ..stored.settings.clone()
                    },
                };
                let by_hand = |disabled: &Disabled| disabled.reason == DisabledReason::Manual;
                Endpoint {
                    settings,
                    confidential,
                    disabled: stored.disabled.filter(by_hand),
                    ..stored
                }
            }
        };
        match self.put(endpoint, None, None).await? {
            Written::Done(_) => Ok(()),
            Written::TooMany | Written::Stale => Err(Error::Broken(
                "the built-in endpoint could not be stored".to_owned(),
            )),
        }
    }

    /// Not given up when its caller leaves: what is committed is also in memory.
    async fn put(
        self: &Arc<Self>,
        endpoint: Endpoint,
        at_most: Option<usize>,
        correlation_id: Option<&CorrelationId>,
    ) -> Result<Written, Error> {
        let put = PutEndpoint {
            lane: LANE,
            endpoint,
            at_most,
            now: self.now(),
        };
        let (worker, correlation_id) = (Arc::clone(self), correlation_id.cloned());
        self.surely(async move {
            let _alone = worker.endpoints_change.lock().await;
            worker.put_alone(put, correlation_id.as_ref()).await
        })
        .await?
    }

    async fn put_alone(
        &self,
        put: PutEndpoint,
        correlation_id: Option<&CorrelationId>,
    ) -> Result<Written, Error> {
        Ok(match self.outside.storage.put_endpoint(put).await? {
            Put::Done(endpoint) => Written::Done(self.take_over(*endpoint, correlation_id)),
            Put::TooMany => Written::TooMany,
            Put::Stale => Written::Stale,
        })
    }

    /// Runs it to its end, whoever waits for it.
    async fn surely<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let done = self.attempts.spawn(task).await;
        done.map_err(|fault| Error::Passing(fault.to_string()))
    }

    pub async fn register(
        self: &Arc<Self>,
        client_id: &str,
        settings: Settings,
        confidential: Confidential,
        disabled: bool,
        correlation_id: &CorrelationId,
    ) -> Result<Arc<Endpoint>, CommandFault> {
        let now = self.now();
        let endpoint = Endpoint {
            position: 0,
            endpoint_id: EndpointId::mint(LANE, now),
            client: 0,
            client_id: client_id.into(),
            settings,
            confidential,
            disabled: disabled.then_some(Disabled {
                reason: DisabledReason::Manual,
                at: now,
            }),
            created_at: now,
            updated_at: now,
            version: 0,
        };
        let put = self
            .put(endpoint, Some(ENDPOINTS_MAX), Some(correlation_id))
            .await;
        match put.map_err(|fault| self.refuse(fault))? {
            Written::Done(live) => {
                tracing::info!(
                    %correlation_id, client_id, endpoint_id = %live.endpoint.endpoint_id, disabled,
                    "endpoint registered",
                );
                Ok(Arc::clone(&live.endpoint))
            }
            Written::TooMany => Err(CommandFault::TooMany),
            Written::Stale => Err(CommandFault::Conflict("the client is being removed")),
        }
    }

    /// Decides a change from the endpoint as it is, again if somebody else changed it meanwhile.
    pub async fn change_endpoint(
        self: &Arc<Self>,
        id: &EndpointId,
        correlation_id: &CorrelationId,
        change: impl Fn(&Endpoint, Timestamp) -> Result<Endpoint, Problem> + Send + Sync,
    ) -> Result<Arc<Endpoint>, CommandFault> {
        for _ in 0..CHANGES_MAX {
            let live = self.registry.by_id(id).ok_or(CommandFault::Unknown)?;
            let now = self.now();
            let changed = change(&live.endpoint, now).map_err(CommandFault::Refused)?;
            let changed = Endpoint {
                updated_at: now,
                ..changed
            };
            let put = self.put(changed, None, Some(correlation_id)).await;
            match put.map_err(|fault| self.refuse(fault))? {
                Written::Done(live) => return Ok(Arc::clone(&live.endpoint)),
                Written::TooMany | Written::Stale => self
                    .read_endpoints()
                    .await
                    .map_err(|fault| self.refuse(fault))?,
            }
        }
        Err(CommandFault::Conflict("it is changed all the time"))
    }

    /// Nothing more is sent there until somebody enables it. Of many who say so at once, one does it and tells it.
    pub(super) async fn disable(
        self: &Arc<Self>,
        endpoint: Position,
        reason: DisabledReason,
        correlation_id: &CorrelationId,
    ) {
        for _ in 0..CHANGES_MAX {
            let again = match self.disable_alone(endpoint, reason, correlation_id).await {
                Ok(None) => return,
                Ok(Some(Written::Done(live))) => {
                    return self
                        .say_disabled(&live.endpoint, reason, correlation_id)
                        .await;
                }
                Ok(Some(Written::TooMany | Written::Stale)) => self.read_endpoints().await,
                Err(fault) => Err(fault),
            };
            if let Err(fault) = again {
                self.note_fault(&fault);
                tracing::warn!(%correlation_id, endpoint, %fault, "an endpoint could not be disabled");
                return;
            }
        }
    }

    /// `None`: it is disabled already, or no more.
    async fn disable_alone(
        &self,
        endpoint: Position,
        reason: DisabledReason,
        correlation_id: &CorrelationId,
    ) -> Result<Option<Written>, Error> {
        let _alone = self.endpoints_change.lock().await;
        let enabled = self.registry.by_position(endpoint);
        let Some(live) = enabled.filter(|live| live.endpoint.disabled.is_none()) else {
            return Ok(None);
        };
        let at = self.now();
        let put = PutEndpoint {
            lane: LANE,
            endpoint: Endpoint {
                disabled: Some(Disabled { reason, at }),
                updated_at: at,
                ..Endpoint::clone(&live.endpoint)
            },
            at_most: None,
            now: at,
        };
        self.put_alone(put, Some(correlation_id)).await.map(Some)
    }

    /// What is open for it is ended in slices, by the job.
    pub async fn remove_endpoint(
        self: &Arc<Self>,
        id: &EndpointId,
        correlation_id: CorrelationId,
    ) -> Result<Job, CommandFault> {
        if id.is_built_in() {
            return Err(CommandFault::BuiltIn);
        }
        let (worker, id) = (Arc::clone(self), id.clone());
        let removed =
            self.surely(async move { worker.remove_endpoint_alone(&id, correlation_id).await });
        removed.await.map_err(|fault| self.refuse(fault))?
    }

    async fn remove_endpoint_alone(
        &self,
        id: &EndpointId,
        correlation_id: CorrelationId,
    ) -> Result<Job, CommandFault> {
        let _alone = self.endpoints_change.lock().await;
        let live = self.registry.by_id(id).ok_or(CommandFault::Unknown)?;
        let endpoint = &live.endpoint;
        let job = Job {
            endpoint: Some((endpoint.position, endpoint.endpoint_id.clone())),
            ..self.new_job(
                JobKind::RemoveEndpoint,
                endpoint.client,
                &endpoint.client_id,
                correlation_id,
            )
        };
        let removed = self
            .outside
            .storage
            .remove_endpoint(LANE, job.clone())
            .await;
        let version = removed.map_err(|fault| self.refuse(fault))?;
        let version = version.ok_or(CommandFault::Unknown)?;
        self.registry.remove(endpoint, version);
        self.queues().remove_endpoint(endpoint.position);
        self.jobs.notify_one();
        tracing::info!(
            correlation_id = %job.correlation_id, client_id = &*job.client_id, endpoint_id = %id,
            "endpoint removed",
        );
        Ok(job)
    }

    /// Its rows are deleted in slices, by the job; nobody sees them any more.
    pub async fn remove_client(
        self: &Arc<Self>,
        client_id: &str,
        correlation_id: CorrelationId,
    ) -> Result<Job, CommandFault> {
        let (worker, client_id) = (Arc::clone(self), client_id.to_owned());
        let removed = self
            .surely(async move { worker.remove_client_alone(&client_id, correlation_id).await });
        removed.await.map_err(|fault| self.refuse(fault))?
    }

    async fn remove_client_alone(
        &self,
        client_id: &str,
        correlation_id: CorrelationId,
    ) -> Result<Job, CommandFault> {
        let _alone = self.endpoints_change.lock().await;
        let client = self
            .registry
            .client(client_id)
            .ok_or(CommandFault::Unknown)?;
        let built_in = |endpoint: &Arc<Endpoint>| endpoint.endpoint_id.is_built_in();
        if self.endpoints_of(client_id).iter().any(built_in) {
            return Err(CommandFault::BuiltIn);
        }
        let job = self.new_job(
            JobKind::RemoveClient,
            client.position,
            &client.client_id,
            correlation_id,
        );
        let removed = self.outside.storage.remove_client(LANE, job.clone()).await;
        if !removed.map_err(|fault| self.refuse(fault))? {
            return Err(CommandFault::Unknown);
        }
        for live in self.registry.remove_client(client_id) {
            self.queues().remove_endpoint(live.endpoint.position);
        }
        self.jobs.notify_one();
        tracing::info!(correlation_id = %job.correlation_id, client_id, "client removed");
        Ok(job)
    }

    pub(super) fn new_job(
        &self,
        kind: JobKind,
        client: Position,
        client_id: &Arc<str>,
        correlation_id: CorrelationId,
    ) -> Job {
        let now = self.now();
        Job {
            job_id: JobId::mint(LANE, now),
            kind,
            client,
            client_id: Arc::clone(client_id),
            endpoint: None,
            since: Timestamp::UNIX_EPOCH,
            until: now,
            wanted: None,
            dry_run: false,
            correlation_id,
            progress: Progress {
                status: JobStatus::Running,
                cursor: 0,
                examined: 0,
                done: 0,
                updated_at: now,
            },
            created_at: now,
        }
    }
}

/// One line for each endpoint that was disabled, for whatever reason, and for each that was enabled.
fn tell_switched(before: &Endpoint, after: &Endpoint, correlation_id: Option<&CorrelationId>) {
    let correlation_id = correlation_id.map(CorrelationId::as_str);
    let (client_id, endpoint_id) = (&*after.client_id, &after.endpoint_id);
    match (before.disabled, after.disabled) {
        (None, Some(Disabled { reason, .. })) => tracing::warn!(
            correlation_id, client_id, %endpoint_id, reason = reason.as_str(), "endpoint disabled",
        ),
        (Some(_), None) => {
            tracing::info!(correlation_id, client_id, %endpoint_id, "endpoint enabled");
        }
        _ => {}
    }
}
