//! Pure decisions: what is well formed, and whose key it is.

pub mod framing;
pub mod keys;
