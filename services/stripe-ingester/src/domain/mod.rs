//! Pure decisions: what is a Stripe event, and what it is to us.

pub mod normalize;
pub mod parse;
pub mod shape;
