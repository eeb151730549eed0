//! Stripe's webhook signature scheme and Standard Webhooks, pure.
