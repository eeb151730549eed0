//! Stripe's webhook signature scheme and Standard Webhooks, pure: no clock, no I/O.
//!
//! Both sign the bytes that travel, never a parsed form of them, and both say when, so that an old request cannot be
//! replayed for ever.

mod mac;
mod moment;
pub mod standard;
pub mod stripe;
