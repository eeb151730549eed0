//! The service put together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use runtime::base::Base;
use runtime::clock::Clock;
use runtime::health::Health;
use runtime::internal_key::Door;
use runtime::server::{self, Limits};
use schema::names;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::domain::faults::Injector;
use crate::domain::inbox::Inbox;
use crate::http;

/// What the handlers share.
pub(crate) struct Desk {
    pub(crate) clock: Clock,
    inbox: Mutex<Inbox>,
    injector: Mutex<Injector>,
    /// Ends the requests that a fault keeps hanging.
    pub(crate) stopping: CancellationToken,
}

impl Desk {
    // What a panicking holder left behind is whole: every change is one assignment or one push.
    pub(crate) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn injector(&self) -> MutexGuard<'_, Injector> {
        self.injector.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a vendor would leave open to whoever knows its address: pages are posted there without our key.
const OPEN: &[&str] = &[
    names::DESTINATION_PAGERDUTY,
    names::DESTINATION_PAGERDUTY_FAULTS,
];

/// The running service.
pub struct App {
    base: Arc<Base>,
    door: Door,
    desk: Arc<Desk>,
}

impl App {
    pub fn build(config: Config, clock: Clock) -> Self {
        let desk = Desk {
            clock: clock.clone(),
            inbox: Mutex::default(),
            injector: Mutex::default(),
            stopping: CancellationToken::new(),
        };
        Self {
            base: Arc::new(Base::new("mock-pagerduty", clock)),
            door: Door::locked(config.signalpost_internal_key).open_at(OPEN),
            desk: Arc::new(desk),
        }
    }

    pub fn router(&self) -> Router {
        let routes = http::routes(Arc::clone(&self.desk));
        self.base.wrap(routes, Health::new(), self.door.clone())
    }

    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let let_go = async {
            shutdown.cancelled().await;
            self.desk.stopping.cancel();
        };
        let served = server::serve(listener, self.router(), Limits::INTERNAL, shutdown.clone());
        let ((), served) = tokio::join!(let_go, async {
            let served = served.await;
            shutdown.cancel();
            served
        });
        Ok(served?)
    }
}
