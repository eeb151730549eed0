//! What people read, on stdout.

use std::io::{self, Write as _};

/// Writes a line. A reader who has gone away is no fault of ours.
pub fn say(text: impl AsRef<str>) {
    let _gone = writeln!(io::stdout().lock(), "{}", text.as_ref());
}
