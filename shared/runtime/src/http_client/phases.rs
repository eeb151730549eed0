//! What a request spent before it was sent: on its name, and on its connection.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tower::{Layer, Service};

/// What one request waited for. Each is `None` where it did not happen: a kept connection was used, or the URL names an
/// address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub dns: Option<Duration>,
    /// TCP and TLS.
    pub connect: Option<Duration>,
}

/// Runs one request of [`super::hostile`] or [`super::single_try`] and tells what it spent, however it ends: one that
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

struct Connecting(Instant);

impl Connecting {
    fn begin() -> Self {
        let _unwatched = WATCH.try_with(|watch| watch.dns.set(None));
        Self(Instant::now())
    }
}

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

/// Around a client's connector, so that its connections are measured.
#[derive(Clone, Copy)]
pub(super) struct Measure;

impl<S> Layer<S> for Measure {
    type Service = Measured<S>;

    fn layer(&self, connector: S) -> Self::Service {
        Measured(connector)
    }
}

#[derive(Clone)]
pub(super) struct Measured<S>(S);

impl<S, R> Service<R> for Measured<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, target: R) -> Self::Future {
        let connection = self.0.call(target);
        Box::pin(async move {
            // Dropped after the connection, so that a look-up within it is over.
            let _connecting = Connecting::begin();
            connection.await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::sync::oneshot;
    use tokio::time::{sleep, timeout};
    use tower::service_fn;

    use super::*;

    const DNS: Duration = Duration::from_millis(30);
    const CONNECT: Duration = Duration::from_millis(70);

    /// Makes a connection as a client's connector does.
    async fn connected() {
        let connector = service_fn(|()| async {
            let looking_up = looking_up();
            sleep(DNS).await;
            drop(looking_up);
            sleep(CONNECT).await;
            Ok::<_, Infallible>(())
        });
        let Ok(()) = Measure.layer(connector).call(()).await;
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
