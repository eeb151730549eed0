//! The service put together.

use std::io;
use std::sync::Arc;

use axum::Router;
use runtime::base::Base;
use runtime::clock::Clock;
use runtime::health::Health;
use runtime::server::{self, Limits};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http;
use crate::summarizer::{Rules, Summarizer};

pub struct App {
    base: Arc<Base>,
    summarizer: Arc<dyn Summarizer>,
}

impl App {
    pub fn build(clock: Clock) -> Self {
        Self {
            base: Arc::new(Base::new("summarizer", clock)),
            summarizer: Arc::new(Rules),
        }
    }

    pub fn router(&self) -> Router {
        self.base
            .wrap(http::routes(Arc::clone(&self.summarizer)), Health::new())
    }

    /// Serves until the token is cancelled.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
        server::serve(listener, self.router(), Limits::INTERNAL, shutdown).await
    }
}
