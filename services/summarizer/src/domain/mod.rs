//! What failed, where, how bad: pure rules over the words of a text.

mod polarity;
mod rules;
mod text;
mod words;

pub use rules::{SUMMARY_MAX, summarize};
