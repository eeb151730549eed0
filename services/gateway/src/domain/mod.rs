//! Pure decisions: what is well formed, whose key it is, and whether a page of another site may have sent it.

pub mod framing;
pub mod keys;
pub mod origin;
