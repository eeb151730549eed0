//! Where a reader of the feed stands (R3). A token names the store's run, so that a reader of another history is found out.

use std::fmt;

use crate::error::FeedError;

/// `{run}.{position}`: read up to and with this position, in the history that this run began or went on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub run: String,
    pub position: u64,
}

impl Token {
    /// `None` for what no run of any store has given out.
    pub fn parse(text: &str) -> Option<Self> {
        let (run, position) = text.split_once('.')?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let plain = !position.is_empty() && position.bytes().all(|byte| byte.is_ascii_digit());
        (run.len() == 32 && run.bytes().all(hex) && plain).then_some(())?;
        Some(Self {
            run: run.to_owned(),
            position: position.parse().ok()?,
        })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.run, self.position)
    }
}

/// Where reading goes on after this position.
///
/// `run_end` is where the token's run ended: the beginning of the next run, the head for the current one, `None` for a
/// run the store does not know. A position past it was given out by a history that this store has not lived.
pub fn resume(position: u64, run_end: Option<u64>, oldest: u64) -> Result<u64, FeedError> {
    if run_end.is_none_or(|end| position > end) {
        return Err(FeedError::Diverged);
    }
    if position.saturating_add(1) < oldest {
        return Err(FeedError::TooOld);
    }
    Ok(position)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn resuming_by_table() {
        for (position, run_end, oldest, expected) in [
            (5, Some(9), 1, Ok(5)),
            (9, Some(9), 1, Ok(9)),
            (10, Some(9), 1, Err(FeedError::Diverged)),
            (0, None, 1, Err(FeedError::Diverged)),
            (0, Some(9), 1, Ok(0)),
            (4, Some(9), 5, Ok(4)),
            (3, Some(9), 5, Err(FeedError::TooOld)),
            // Of another history and too old: the history counts.
            (3, None, 5, Err(FeedError::Diverged)),
        ] {
            assert_eq!(
                resume(position, run_end, oldest),
                expected,
                "{position} of a run that ended at {run_end:?}, oldest {oldest}"
            );
        }
    }

    #[test]
    fn what_is_no_token_is_not_read() {
        let run = "0".repeat(32);
        for text in [
            "",
            ".",
            "1",
            &run,
            &format!("{run}."),
            &format!("{run}.-1"),
            &format!("{run}.+1"),
            &format!("{run}.1.2"),
            &format!("{run}.99999999999999999999"),
            &format!("{}.1", "G".repeat(32)),
        ] {
            assert_eq!(Token::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_token_is_read_as_it_was_written_and_needs_no_escape(run in "[0-9a-f]{32}", position: u64) {
            let token = Token { run, position };
            let text = token.to_string();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
            prop_assert_eq!(Token::parse(&text), Some(token));
        }
    }
}
