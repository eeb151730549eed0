//! The service put together.

use std::io;
use std::sync::Arc;

use axum::Router;
use runtime::base::Base;
use runtime::clock::Clock;
use runtime::health::Health;
use runtime::internal_key::Door;
use runtime::server::{self, Limits};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::http;
use crate::summarizer::{Rules, Summarizer};

pub struct App {
    base: Arc<Base>,
    door: Door,
    summarizer: Arc<dyn Summarizer>,
}

impl App {
    pub fn build(config: Config, clock: Clock) -> Self {
        Self {
            door: Door::locked(config.signalpost_internal_key),
            base: Arc::new(Base::new("summarizer", clock)),
            summarizer: Arc::new(Rules),
        }
    }

    pub fn router(&self) -> Router {
        let routes = http::routes(Arc::clone(&self.summarizer));
        self.base.wrap(routes, Health::new(), self.door.clone())
    }

    /// Serves until the token is cancelled.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
        server::serve(listener, self.router(), Limits::INTERNAL, shutdown).await
    }
}
