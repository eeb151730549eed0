//! How a process ends in front of who started it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::printable;

/// Says on stderr why it ended, as a chain of causes in words; never a backtrace, whatever `RUST_BACKTRACE` says, and
/// nothing that a terminal obeys.
pub fn exit_code(ended: anyhow::Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            // Nobody may be there to read it.
            let _gone = writeln!(io::stderr().lock(), "{}", words(&fault));
            ExitCode::FAILURE
        }
    }
}

/// Each cause once: what wraps another often says what that says.
fn words(fault: &anyhow::Error) -> String {
    let mut told = String::from("Error");
    let mut before = String::new();
    for cause in fault.chain() {
        let cause = cause.to_string();
        if !before.contains(&cause) {
            told.push_str(": ");
            told.push_str(&cause);
        }
        before = cause;
    }
    printable::plain_lines(&told).into_owned()
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_causes_are_told_in_words_each_once_and_no_terminal_obeys_them() {
        let cause = io::Error::other("no \u{9b}31m route");
        let fault = Err::<(), _>(cause)
            .context("asking http://gateway: no \u{9b}31m route")
            .context("listing events")
            .unwrap_err();

        let told = words(&fault);

        assert_eq!(
            told,
            "Error: listing events: asking http://gateway: no  31m route"
        );
    }
}
