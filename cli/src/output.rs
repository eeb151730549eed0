//! What people read, on stdout.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::panic::PanicHookInfo;

use comfy_table::{Table, presets};
use runtime::printable;
use tokio::sync::{mpsc, oneshot};

/// Writes a line. A reader who has gone away is no fault of ours.
pub fn say(text: impl AsRef<str>) {
    let _gone = writeln!(io::stdout().lock(), "{}", text.as_ref());
}

/// As [`say`], in a thread of its own: where nobody reads, nobody waits.
pub(crate) fn say_aside(text: String) {
    std::thread::spawn(move || say(text));
}

/// Writes an answer of the gateway as it came, as far as a terminal only shows it.
pub(crate) fn say_json(answer: &[u8]) {
    say(printable::json(&String::from_utf8_lossy(answer)));
}

/// A fault of our own, in a line.
pub fn tell_of_a_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let place = place.unwrap_or_else(|| "an unknown place".to_owned());
    let _gone = writeln!(
        io::stderr().lock(),
        "Error: a fault of signalpost's own, at {place}"
    );
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
    printable::plain(text).into_owned()
}
