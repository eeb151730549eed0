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
