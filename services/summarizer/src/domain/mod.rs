//! What failed, where, how bad: pure rules over the words of a text.

mod rules;
mod words;

pub use rules::{SUMMARY_MAX, summarize};
