//! Header and path names, spelled once.

/// Follows one request through every service, and on to the destination.
pub const CORRELATION_ID: &str = "x-correlation-id";
/// Headers that only Signalpost's own services may set begin so; the gateway drops them from callers.
pub const INTERNAL_PREFIX: &str = "x-signalpost-";
/// The one client whose rows the caller may see, set by the gateway; absent for a caller who may see all.
pub const CLIENT: &str = "x-signalpost-client";
/// Shown by one of our services to another (`SIGNALPOST_INTERNAL_KEY`); sent nowhere else.
pub const INTERNAL_KEY: &str = "x-signalpost-key";
pub const STRIPE_SIGNATURE: &str = "stripe-signature";
/// The event's id, the same on every attempt: what a receiver dedupes by.
pub const WEBHOOK_ID: &str = "webhook-id";
/// When the attempt was made, in seconds since 1970; part of what is signed.
pub const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
/// `v1,<base64>`, several while a secret is rotated.
pub const WEBHOOK_SIGNATURE: &str = "webhook-signature";
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The attempt's number, from 1.
pub const WEBHOOK_ATTEMPT: &str = "webhook-attempt";

pub const HEALTHZ: &str = "/healthz";
pub const READYZ: &str = "/readyz";
pub const METRICS: &str = "/metrics";
pub const INGEST_STRIPE: &str = "/ingest/stripe";
pub const PULL_STATUS: &str = "/ingest/pull-status";
pub const DESTINATION_PAGERDUTY: &str = "/destinations/pagerduty";
pub const DESTINATION_PAGERDUTY_FAULTS: &str = "/destinations/pagerduty/faults";
pub const EVENTS: &str = "/events";
pub const SUMMARIZE: &str = "/ai/summarize";
pub const CLIENTS: &str = "/webhooks/clients";
pub const WEBHOOK_CLIENT: &str = "/webhooks/clients/{client_id}";
pub const CLIENT_ENDPOINTS: &str = "/webhooks/clients/{client_id}/endpoints";
pub const ENDPOINT: &str = "/webhooks/endpoints/{endpoint_id}";
pub const ENDPOINT_ENABLE: &str = "/webhooks/endpoints/{endpoint_id}/enable";
pub const ENDPOINT_DISABLE: &str = "/webhooks/endpoints/{endpoint_id}/disable";
pub const ENDPOINT_ROTATE: &str = "/webhooks/endpoints/{endpoint_id}/secret/rotate";
pub const ENDPOINT_TEST: &str = "/webhooks/endpoints/{endpoint_id}/test";
pub const ENDPOINT_RECOVER: &str = "/webhooks/endpoints/{endpoint_id}/recover";
pub const WEBHOOK_EVENTS: &str = "/webhooks/events";
pub const WEBHOOK_EVENTS_BATCH: &str = "/webhooks/events/batch";
pub const WEBHOOK_EVENT: &str = "/webhooks/events/{event_id}";
pub const DELIVERIES: &str = "/webhooks/deliveries";
pub const DELIVERY: &str = "/webhooks/deliveries/{delivery_id}";
pub const DELIVERY_RETRY: &str = "/webhooks/deliveries/{delivery_id}/retry";
pub const DELIVERY_CANCEL: &str = "/webhooks/deliveries/{delivery_id}/cancel";
pub const JOB: &str = "/webhooks/jobs/{job_id}";

/// Internal: a batch of normalized events for event-store.
pub const INTERNAL_EVENTS: &str = "/internal/events";
/// Internal: events that have ended, for event-store.
pub const INTERNAL_RESOLUTIONS: &str = "/internal/resolutions";
/// Internal: what became of deliveries, for event-store.
pub const INTERNAL_OUTCOMES: &str = "/internal/outcomes";
/// Internal: notices in commit order, from event-store.
pub const FEED: &str = "/feed";
