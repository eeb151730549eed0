//! The end: one token, handed down; SIGTERM, SIGINT and the end of a supervisor cancel it.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config;

/// Set by a supervisor that holds the other end of stdin: when that ends, as it does with the supervisor however it died,
/// the service stops in order. Without it stdin is nobody's.
pub const ENDS_WITH_STDIN: &str = "SIGNALPOST_ENDS_WITH_STDIN";

/// A token that the first SIGTERM or SIGINT cancels. A second one ends the process at once.
pub fn on_signal() -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    if config::of_the_environment(ENDS_WITH_STDIN).is_some() {
        cancel_at_the_end_of_stdin(token.clone());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancelled = token.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if cancelled.is_cancelled() {
                std::process::exit(130);
            }
            tracing::info!("stopping");
            cancelled.cancel();
        }
    });
    Ok(token)
}

/// In a thread of its own, which ends with the process: a read cannot be called off.
fn cancel_at_the_end_of_stdin(token: CancellationToken) {
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        // Nothing is ever written to it. A read that a signal interrupts is begun again.
        let _ended = io::copy(&mut stdin, &mut io::sink());
        tracing::warn!("the supervisor is gone: stopping");
        token.cancel();
    });
}
