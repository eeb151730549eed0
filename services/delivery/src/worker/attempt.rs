//! One attempt: count, send, record. The count is durable before the send (R4).

use std::sync::Arc;
use std::time::Duration;

use http::header;
use reqwest_middleware::RequestBuilder;
use runtime::http_client::failure_code;
use schema::names;
use tokio::time::{Instant, timeout_at};

use super::backoff::{Backoff, PROMPT};
use super::queues::Index;
use super::{Slot, Worker};
use crate::domain::delivery::Position;
use crate::domain::endpoint::Endpoint;
use crate::domain::result::Verdict;
use crate::domain::transition::{Effect, Input, Life, Refusal, transition};
use crate::error::Error;
use crate::storage::{Ended, Epoch, Finish, INTERRUPTED, LANE, Start, Stored};

/// What is kept of an answer's body.
const RESPONSE_KEPT: usize = 1024;
/// What is read of it, so that the connection can be used again.
const RESPONSE_READ: usize = 64 * 1024;
/// After a start that could not be counted.
const RECOUNT_AFTER: Duration = Duration::from_secs(1);

/// What came of one request.
struct Answer {
    verdict: Verdict,
    status_code: Option<u16>,
    response: Option<String>,
    took: Duration,
}

impl Answer {
    fn failed(error: &'static str, took: Duration) -> Self {
        Self {
            verdict: Verdict::of_transport(error),
            status_code: None,
            response: None,
            took,
        }
    }

    fn took_ms(&self) -> u64 {
        u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX)
    }

    fn ended(&self) -> Ended {
        let error = match self.verdict {
            Verdict::Success => None,
            Verdict::Failure { error, .. } => Some(error.to_owned()),
        };
        Ended {
            duration_ms: Some(self.took_ms()),
            status_code: self.status_code,
            error,
            response: self.response.clone(),
        }
    }
}

/// Where an attempt left its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Ended, or queued again; or this process is to stop.
    Settled,
    /// The store knows better than this attempt: nothing in memory has it any more.
    Astray,
}

impl Worker {
    /// Runs an attempt. However it ends, its delivery is not forgotten before the next start.
    pub(super) fn go(
        self: &Arc<Self>,
        position: Position,
        attempt: impl Future<Output = Left> + Send + 'static,
    ) {
        let worker = Arc::clone(self);
        self.attempts.spawn(async move {
            // A task of its own, so that a panic ends that one alone.
            if tokio::spawn(attempt).await.ok() != Some(Left::Settled) {
                worker.put_back(position).await;
            }
        });
    }

    /// Counts the next attempt of a queued delivery durably, then sends it.
    pub(super) async fn count_and_send(self: Arc<Self>, slot: Slot, mut stored: Stored) -> Left {
        let Some(endpoint) = self.endpoint(slot.endpoint) else {
            return Left::Settled;
        };
        let now = self.now();
        let input = Input::Start {
            epoch: self.epoch,
            alone: slot.alone,
        };
        let (life, effects) =
            transition(&stored.life, input, &endpoint.policy, now, &mut rand::rng());
        match effects[..] {
            [Effect::Send { .. }] => {}
            // The clock was set back since it was taken as due.
            [Effect::Refuse(Refusal::NotDue { until })] => {
                self.enqueue(slot.endpoint, stored.position, until, slot.alone);
                return Left::Settled;
            }
            _ => {
                tracing::error!(delivery_id = %stored.delivery_id, ?effects, "a queued delivery could not be started");
                return self.note_fault(&Error::Stale);
            }
        }
        let start = Start {
            lane: LANE,
            position: stored.position,
            life: life.clone(),
            now: self.now(),
        };
        match self.outside.storage.start(start).await {
            Ok(()) => {
                stored.life = life;
                self.send_and_record(slot, stored).await
            }
            Err(Error::Passing(_)) => {
                let now = self.now();
                let later = now.saturating_add(RECOUNT_AFTER).unwrap_or(now);
                self.enqueue(slot.endpoint, stored.position, later, slot.alone);
                Left::Settled
            }
            Err(fault) => self.note_fault(&fault),
        }
    }

    /// Sends an attempt that is counted, and records how it ended.
    pub(super) async fn send_and_record(self: Arc<Self>, slot: Slot, stored: Stored) -> Left {
        let index = slot.endpoint;
        let (Some(endpoint), Some(open)) = (self.endpoint(index), stored.life.open) else {
            return Left::Settled;
        };
        let answer = tokio::select! {
            answer = self.send(endpoint, &stored) => Some(answer),
            () = self.give_back.cancelled() => None,
        };
        // A slot covers the socket, not the commit.
        drop(slot);

        let (input, ended) = match &answer {
            Some(answer) => {
                let input = Input::Finish {
                    attempt: stored.life.started,
                    epoch: open.epoch,
                    verdict: answer.verdict,
                };
                (input, answer.ended())
            }
            None => {
                let input = Input::GiveBack { epoch: open.epoch };
                (input, Ended::without_answer(INTERRUPTED))
            }
        };
        let (life, effects) = self.decide(&stored, input, endpoint);
        let finish = self.result(&stored, open.epoch, &life, &effects, ended);
        if let Err(fault) = self.record(finish).await {
            tracing::warn!(delivery_id = %stored.delivery_id, %fault, "a result was not recorded");
            return self.note_fault(&fault);
        }
        match &answer {
            Some(answer) => self.tell(&stored, answer),
            None => self.outside.vitals.interrupted.inc(),
        }
        self.act(index, &stored, &life, &effects);
        Left::Settled
    }

    /// Asks the one function in which a delivery changes.
    pub(super) fn decide(
        &self,
        stored: &Stored,
        input: Input,
        endpoint: &Endpoint,
    ) -> (Life, Vec<Effect>) {
        let rng = &mut rand::rng();
        transition(&stored.life, input, &endpoint.policy, self.now(), rng)
    }

    /// The end of an attempt, as the store is to record it.
    pub(super) fn result(
        &self,
        stored: &Stored,
        attempt_epoch: Epoch,
        life: &Life,
        effects: &[Effect],
        ended: Ended,
    ) -> Finish {
        Finish {
            lane: LANE,
            position: stored.position,
            attempt_epoch,
            epoch: self.epoch,
            life: life.clone(),
            ended,
            report: effects.contains(&Effect::Report),
            now: self.now(),
        }
    }

    /// Tries until the store takes it, or never will: a result that is known is not thrown away for a full disk.
    async fn record(&self, finish: Finish) -> Result<(), Error> {
        let mut backoff = Backoff::up_to(PROMPT);
        loop {
            match self.outside.storage.finish(finish.clone()).await {
                Err(Error::Passing(_)) => backoff.wait().await,
                settled => return settled,
            }
        }
    }

    /// Carries out what the transition asked for, now that it is durable.
    pub(super) fn act(&self, endpoint: Index, stored: &Stored, life: &Life, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Wake { at } => {
                    self.enqueue(endpoint, stored.position, *at, life.is_suspect());
                }
                Effect::Report => self.outcomes.notify_one(),
                Effect::Shout(_) => {
                    let reason = life.state.reason().unwrap_or_default();
                    tracing::warn!(
                        correlation_id = %stored.event.correlation_id, event_id = %stored.event.event_id,
                        delivery_id = %stored.delivery_id, endpoint_id = %stored.endpoint_id,
                        attempts = life.finished, reason, "delivery exhausted",
                    );
                    let vitals = &self.outside.vitals;
                    vitals.exhausted.with_label_values(&[reason]).inc();
                    vitals.note(|facts| facts.exhausted += 1);
                }
                Effect::Send { .. } | Effect::Refuse(_) => {}
            }
        }
    }

    fn tell(&self, stored: &Stored, answer: &Answer) {
        let (word, vitals) = (answer.verdict.word(), &self.outside.vitals);
        vitals.attempts.with_label_values(&[word]).inc();
        let now = self.now();
        let delivered = answer.verdict == Verdict::Success;
        vitals.note(|facts| {
            let since = facts
                .destination_failing
                .take()
                .map_or(now, |(since, _)| since);
            facts.destination_failing = (!delivered).then(|| (since, word.to_owned()));
        });
        let took_ms = answer.took_ms();
        if delivered {
            tracing::info!(
                correlation_id = %stored.event.correlation_id, event_id = %stored.event.event_id,
                delivery_id = %stored.delivery_id, attempt = stored.life.started,
                status_code = answer.status_code, took_ms, "delivered",
            );
        } else {
            tracing::info!(
                correlation_id = %stored.event.correlation_id, event_id = %stored.event.event_id,
                delivery_id = %stored.delivery_id, attempt = stored.life.started,
                status_code = answer.status_code, error = word, took_ms, "attempt failed",
            );
        }
    }

    async fn send(&self, endpoint: &Endpoint, stored: &Stored) -> Answer {
        let started = Instant::now();
        let deadline = started + endpoint.timeout;
        let sent = timeout_at(deadline, self.request(endpoint, stored).send()).await;
        let mut response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(fault)) => return Answer::failed(failure_code(&fault), started.elapsed()),
            Err(_) => return Answer::failed("timeout", started.elapsed()),
        };
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok());
        let verdict = Verdict::of_response(status, retry_after);
        let mut body = Vec::new();
        // The status is the answer; what of the body has come by the deadline is kept.
        let _cut_off = timeout_at(deadline, read_some(&mut response, &mut body)).await;
        let response = (!body.is_empty()).then(|| String::from_utf8_lossy(&body).into_owned());
        Answer {
            verdict,
            status_code: Some(status),
            response,
            took: started.elapsed(),
        }
    }

    fn request(&self, endpoint: &Endpoint, stored: &Stored) -> RequestBuilder {
        let event = &stored.event;
        self.outside
            .http
            .post(endpoint.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(names::CORRELATION_ID, event.correlation_id.as_str())
            .header(names::WEBHOOK_ID, event.event_id.as_str())
            .header(names::WEBHOOK_ATTEMPT, stored.life.started)
            .body(event.payload.clone())
    }
}

/// Reads an answer's body up to its bound, keeping the beginning.
async fn read_some(response: &mut reqwest::Response, kept: &mut Vec<u8>) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        let room = RESPONSE_KEPT - kept.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if read > RESPONSE_READ {
            return;
        }
    }
}
