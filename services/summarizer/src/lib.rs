//! Deterministic summaries of alert text.
