//! What a request spent before it was sent: on its name, and on its connection.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// What one request waited for. Each is `None` where it did not happen: a kept connection was used, or the URL names an
/// address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub dns: Option<Duration>,
    /// TCP and TLS.
    pub connect: Option<Duration>,
}

/// Runs one request of [`super::hostile`] and tells what it spent, however it ends: one that
/// was given up tells what it had spent until then. What is spent in another task is not told: a connection that was
/// asked for, and finished for the pool after a kept one came free.
pub async fn watched<F: Future>(future: F) -> (F::Output, Spent) {
    let noting = async {
        let output = future.await;
        (output, WATCH.with(|watch| watch.spent.get()))
    };
    WATCH.scope(Watch::default(), noting).await
}

tokio::task_local! {
    static WATCH: Watch;
}

#[derive(Default)]
struct Watch {
    spent: Cell<Spent>,
    /// Of the connection that is being made. It counts once that is over and was made for this request.
    dns: Cell<Option<Duration>>,
}

/// Begins to measure a look-up, which ends when this is dropped.
pub(super) fn looking_up() -> impl Drop {
    LookingUp(Instant::now())
}

struct LookingUp(Instant);

impl Drop for LookingUp {
    fn drop(&mut self) {
        let took = self.0.elapsed();
        let _unwatched = WATCH.try_with(|watch| watch.dns.set(Some(took)));
    }
}

/// Begins to measure a connection, which is made when this is dropped.
pub(super) fn connecting() -> impl Drop {
    let _unwatched = WATCH.try_with(|watch| watch.dns.set(None));
    Connecting(Instant::now())
}

struct Connecting(Instant);

impl Drop for Connecting {
    fn drop(&mut self) {
        let took = self.0.elapsed();
        let _unwatched = WATCH.try_with(|watch| {
            let dns = watch.dns.take();
            let connect = took.saturating_sub(dns.unwrap_or_default());
            let before = watch.spent.get();
            watch.spent.set(Spent {
                dns: sum(before.dns, dns),
                connect: sum(before.connect, Some(connect)),
            });
        });
    }
}

/// A request connects again when the connection that was kept for it turns out to be closed.
fn sum(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        _ => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::{sleep, timeout};

    use super::*;

    const DNS: Duration = Duration::from_millis(30);
    const CONNECT: Duration = Duration::from_millis(70);

    /// Makes a connection as a client's connector does.
    async fn connected() {
        let _connecting = connecting();
        let looking_up = looking_up();
        sleep(DNS).await;
        drop(looking_up);
        sleep(CONNECT).await;
    }

    #[tokio::test(start_paused = true)]
    async fn name_and_connection_are_told_apart() {
        let ((), spent) = watched(connected()).await;
        assert_eq!(spent.dns, Some(DNS));
        assert_eq!(spent.connect, Some(CONNECT));

        let twice = async {
            connected().await;
            connected().await;
        };
        let ((), spent) = watched(twice).await;
        assert_eq!(spent.dns, Some(DNS * 2));
        assert_eq!(spent.connect, Some(CONNECT * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_up_tells_how_far_it_came() {
        for (wait, dns, connect) in [(10, 10, 0), (50, 30, 20)] {
            let (given_up, spent) =
                watched(timeout(Duration::from_millis(wait), connected())).await;
            assert!(given_up.is_err());
            assert_eq!(spent.dns, Some(Duration::from_millis(dns)));
            assert_eq!(spent.connect, Some(Duration::from_millis(connect)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_another_task_finishes_is_not_told() {
        let (finished, finish) = oneshot::channel();
        let request = async {
            let mut connecting = Box::pin(connected());
            // Begun here, past its look-up, and then handed over, as when a kept connection comes free meanwhile.
            let begun = timeout(Duration::from_millis(50), &mut connecting).await;
            assert!(begun.is_err());
            tokio::spawn(async move {
                connecting.await;
                finished.send(())
            });
            finish.await
        };
        let (answer, spent) = watched(request).await;
        assert_eq!(answer, Ok(()));
        assert_eq!(spent, Spent::default());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_needed_of_who_does_not_watch() {
        connected().await;
    }
}
