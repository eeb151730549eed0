//! The gateway as a whole.

use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderValue;
use anyhow::Context as _;
use axum::{Router, middleware};
use futures_util::future::join_all;
use runtime::base::Base;
use runtime::clock::Clock;
use runtime::config::List;
use runtime::health::Health;
use runtime::http_client;
use runtime::proxies::TrustedProxies;
use runtime::server::{self, Limits};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::domain::keys::Keys;
use crate::domain::origin::AllowedHosts;
use crate::http;
use crate::http::guard::{self, Guard};
use crate::http::proxy::Proxy;
use crate::upstreams::{Service, Upstreams, look_at};
use crate::worker::Housekeeping;

/// Shorter than what [`runtime::health`] waits, so that the reason is told.
const LOOK_TIMEOUT: Duration = Duration::from_millis(950);

pub struct App {
    router: Router,
    upstreams: Arc<Upstreams>,
    housekeeping: Housekeeping,
    limits: Limits,
}

impl App {
    /// # Errors
    /// When the keys, the hosts or the proxies cannot be read.
    pub fn build(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let base = Arc::new(Base::new("gateway", clock));
        warn_of(&config.open_loopback());
        let upstreams = Arc::new(Upstreams::new(&config));
        let guard = Arc::new(Guard::new(
            Keys::parse(&config.gateway_api_keys)?,
            AllowedHosts::parse(&config.gateway_allowed_hosts)?,
            config.gateway_rate_per_s,
            &base,
        ));
        let limits = Limits {
            trusted_proxies: TrustedProxies::parse(&config.gateway_trusted_proxies)?,
            ..Limits::PUBLIC
        };
        let housekeeping =
            Housekeeping::new(Arc::clone(&upstreams), Arc::clone(&guard), &base.metrics);
        let key = config.signalpost_internal_key.header();
        let proxy = Arc::new(Proxy::new(Arc::clone(&upstreams), key.clone()));
        let router = base
            .complete(http::router(proxy), health(&upstreams, &key))
            .layer(middleware::from_fn_with_state(guard, guard::guard));
        Ok(Self {
            router: base.surround(router),
            upstreams,
            housekeeping,
            limits,
        })
    }

    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Serves, and watches the replicas, until the token is cancelled.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let background = shutdown.child_token();
        let watches = self
            .upstreams
            .all()
            .iter()
            .map(|upstream| upstream.watch(background.clone()));
        let serve = async {
            let served = server::serve(listener, self.router, self.limits, shutdown).await;
            background.cancel();
            served.context("serving")
        };
        let (served, (), _) = tokio::join!(
            serve,
            self.housekeeping.run(background.clone()),
            join_all(watches)
        );
        served
    }
}

/// Our own services are closed to endpoints all the same, others on this machine are not.
fn warn_of(open_loopback: &List) {
    if !open_loopback.0.is_empty() {
        tracing::warn!(nets = %open_loopback, "loopback is open to endpoints, though callers have keys: empty DELIVERY_ALLOW_NETS");
    }
}

fn health(upstreams: &Upstreams, key: &HeaderValue) -> Health {
    let client = http_client::single_try(LOOK_TIMEOUT);
    Service::ALL.iter().fold(Health::new(), |health, service| {
        let upstream = Arc::clone(upstreams.of(*service));
        let (client, key) = (client.clone(), key.clone());
        let look = move || look_at(Arc::clone(&upstream), client.clone(), key.clone());
        if service.needed() {
            health.needs(service.name(), look)
        } else {
            health.tells(service.name(), look)
        }
    })
}
