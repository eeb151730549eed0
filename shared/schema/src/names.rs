//! Header and path names, spelled once.

/// Follows one request through every service, and on to the destination.
pub const CORRELATION_ID: &str = "x-correlation-id";
/// Headers that only Signalpost's own services may set begin so; the gateway drops them from callers.
pub const INTERNAL_PREFIX: &str = "x-signalpost-";
/// The one client whose rows the caller may see, set by the gateway; absent for a caller who may see all.
pub const CLIENT: &str = "x-signalpost-client";
pub const STRIPE_SIGNATURE: &str = "stripe-signature";
/// The event's id, the same on every attempt: what a receiver dedupes by.
pub const WEBHOOK_ID: &str = "webhook-id";
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
pub const DELIVERIES: &str = "/webhooks/deliveries";
pub const DELIVERY: &str = "/webhooks/deliveries/{delivery_id}";

/// Internal: a batch of normalized events for event-store.
pub const INTERNAL_EVENTS: &str = "/internal/events";
/// Internal: events that have ended, for event-store.
pub const INTERNAL_RESOLUTIONS: &str = "/internal/resolutions";
/// Internal: what became of deliveries, for event-store.
pub const INTERNAL_OUTCOMES: &str = "/internal/outcomes";
/// Internal: notices in commit order, from event-store.
pub const FEED: &str = "/feed";
