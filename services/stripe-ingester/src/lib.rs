//! Verifies and normalizes Stripe webhooks.
