//! Pure decisions: what is a Stripe event, and what it is to us.

mod members;
pub mod normalize;
pub mod parse;
