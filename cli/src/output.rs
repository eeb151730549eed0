//! What people read, on stdout.

use std::fmt::Display;
use std::io::{self, Write as _};

use comfy_table::{Table, presets};
use tokio::sync::{mpsc, oneshot};

/// Writes a line. A reader who has gone away is no fault of ours.
pub fn say(text: impl AsRef<str>) {
    let _gone = writeln!(io::stdout().lock(), "{}", text.as_ref());
}

/// Writes what arrives, a line each, in a thread of its own: a terminal that was stopped must not stop the rest. Tells
/// when the last one is written.
pub(crate) fn print_lines<T: Display + Send + 'static>(
    mut lines: mpsc::Receiver<T>,
) -> oneshot::Receiver<()> {
    let (printed, all_printed) = oneshot::channel();
    std::thread::spawn(move || {
        while let Some(line) = lines.blocking_recv() {
            if writeln!(io::stdout().lock(), "{line}").is_err() {
                break;
            }
        }
        let _nobody_waits = printed.send(());
    });
    all_printed
}

/// A table without lines around it.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

/// A vendor's text may hold what a terminal obeys.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
