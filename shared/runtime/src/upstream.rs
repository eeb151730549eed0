//! The replicas of a service: found by name, balanced by requests in flight, left out while dead.
//!
//! Without [`Upstream::watch`] the addresses are taken as they are written, and stay.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::join_all;
use rand::RngExt as _;
use reqwest::Url;
use reqwest_middleware::ClientWithMiddleware;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::config::List;
use crate::http_client;

/// Between two looks at a service. With the probe's timeout, a replica that stops answering is left out within 2 s.
const ROUND: Duration = Duration::from_millis(750);
/// A replica that has not answered `/healthz` within this is dead: a paused one still accepts connections.
const PROBE_TIMEOUT: Duration = Duration::from_millis(800);
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);
/// A replica that was silent at so many looks in a row has stopped, and is not waited for. One look may be bad luck.
const SILENT_LOOKS: u8 = 2;

/// A service behind a comma list of base URLs.
pub struct Upstream {
    pub name: &'static str,
    places: Vec<Place>,
    replicas: RwLock<Vec<Arc<Replica>>>,
    looked_at: Mutex<Option<Instant>>,
}

/// Where replicas are.
enum Place {
    Fixed(String),
    /// Every address the name has is a replica.
    Named {
        host: String,
        port: u16,
    },
}

/// One process that answers for the service.
struct Replica {
    /// `http://host:port`, without a slash at the end.
    base_url: String,
    alive: AtomicBool,
    /// Looks in a row that had no answer in time; one that refuses connections is not silent.
    silent_looks: AtomicU8,
    stopped: watch::Sender<bool>,
    in_flight: AtomicUsize,
}

/// What a look at a replica found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Answers,
    Refuses,
    Silent,
}

/// A replica chosen for one request; counts as in flight until dropped.
pub struct Lease(Arc<Replica>);

/// How many replicas are known, and how many of them answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub living: usize,
    pub known: usize,
}

impl Upstream {
    pub fn new(name: &'static str, urls: &List) -> Self {
        let places: Vec<_> = urls.0.iter().map(|url| Place::of(url)).collect();
        let replicas = places.iter().flat_map(Place::as_written);
        Self {
            name,
            replicas: RwLock::new(replicas.map(Replica::new).map(Arc::new).collect()),
            places,
            looked_at: Mutex::new(None),
        }
    }

    /// The living replica with the fewest requests in flight, at random among equals. If all are dead, one that is not
    /// stopped: the last look may be out of date, and it refuses or answers at once. `None` where there is none.
    pub fn pick(&self) -> Option<Lease> {
        let replicas = self.read();
        if replicas.is_empty() {
            return None;
        }
        let (before, after) = replicas.split_at(rand::rng().random_range(0..replicas.len()));
        let started = after.iter().chain(before).filter(|one| !one.has_stopped());
        let chosen = started.min_by_key(|replica| {
            let dead = !replica.alive.load(Ordering::Relaxed);
            (dead, replica.in_flight.load(Ordering::Relaxed))
        })?;
        chosen.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Lease(Arc::clone(chosen)))
    }

    /// As [`pick`](Self::pick), but `None` if all are dead: for the second try.
    pub fn pick_living(&self) -> Option<Lease> {
        self.pick()
            .filter(|lease| lease.0.alive.load(Ordering::Relaxed))
    }

    pub fn count(&self) -> Count {
        let replicas = self.read();
        let living = |replica: &&Arc<Replica>| replica.alive.load(Ordering::Relaxed);
        Count {
            living: replicas.iter().filter(living).count(),
            known: replicas.len(),
        }
    }

    /// Since [`watch`](Self::watch) last looked; `None` before its first look.
    pub fn age(&self) -> Option<Duration> {
        let looked_at = self
            .looked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        looked_at.map(|at| at.elapsed())
    }

    /// Looks up names and asks every replica's `/healthz`, again and again until the token is cancelled.
    pub async fn watch(&self, shutdown: CancellationToken) {
        let client = http_client::single_try(PROBE_TIMEOUT);
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known: Vec<_> = self.places.iter().map(Place::as_written).collect();
        let watching = async {
            loop {
                rounds.tick().await;
                self.look(&client, &mut known).await;
            }
        };
        shutdown.run_until_cancelled(watching).await;
    }

    async fn look(&self, client: &ClientWithMiddleware, known: &mut [Vec<String>]) {
        tokio::join!(self.find(known), self.probe(client));
        *self
            .looked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Takes the addresses the names have now; `known` are those of each place. A replica that stays keeps its state.
    async fn find(&self, known: &mut [Vec<String>]) {
        let answers = join_all(self.places.iter().map(Place::base_urls)).await;
        for (known, answer) in known.iter_mut().zip(answers) {
            // A name that cannot be looked up says nothing about the replicas it had.
            if let Some(found) = answer {
                *known = found;
            }
        }
        let mut found = known.concat();
        found.sort_unstable();
        found.dedup();
        let mut replicas = self
            .replicas
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        replicas.retain(|replica| {
            let stays = found.contains(&replica.base_url);
            if !stays {
                tracing::info!(upstream = self.name, replica = %replica.base_url, "replica gone");
            }
            stays
        });
        for base_url in found {
            if !replicas.iter().any(|replica| replica.base_url == base_url) {
                tracing::info!(upstream = self.name, replica = %base_url, "replica found");
                replicas.push(Arc::new(Replica::new(base_url)));
            }
        }
    }

    async fn probe(&self, client: &ClientWithMiddleware) {
        let replicas: Vec<_> = self.read().iter().map(Arc::clone).collect();
        let probes = replicas.iter().map(async |replica| {
            let url = format!("{}{}", replica.base_url, schema::names::HEALTHZ);
            let look = match client.get(url).send().await {
                Ok(answer) if answer.status().is_success() => Look::Answers,
                Err(fault) if http_client::failure_code(&fault) == "timeout" => Look::Silent,
                _ => Look::Refuses,
            };
            replica.take_look(self.name, look);
        });
        join_all(probes).await;
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Replica>>> {
        self.replicas.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn of(url: &str) -> Self {
        let named = Url::parse(url)
            .ok()
            .and_then(|parsed| match parsed.host()? {
                // A certificate is for the name, so https keeps it.
                url::Host::Domain(host) if parsed.scheme() == "http" => Some(Self::Named {
                    host: host.to_owned(),
                    port: parsed.port_or_known_default()?,
                }),
                _ => None,
            });
        named.unwrap_or_else(|| Self::Fixed(without_slash(url)))
    }

    /// What stands for the place until its name was looked up.
    fn as_written(&self) -> Vec<String> {
        vec![match self {
            Self::Fixed(base_url) => base_url.clone(),
            Self::Named { host, port } => format!("http://{host}:{port}"),
        }]
    }

    /// `None` if the name could not be looked up.
    async fn base_urls(&self) -> Option<Vec<String>> {
        match self {
            Self::Fixed(base_url) => Some(vec![base_url.clone()]),
            Self::Named { host, port } => {
                let lookup = tokio::net::lookup_host((host.as_str(), *port));
                let addresses = tokio::time::timeout(RESOLVE_TIMEOUT, lookup).await.ok()?;
                let base_url = |address: SocketAddr| format!("http://{address}");
                Some(addresses.ok()?.map(base_url).collect())
            }
        }
    }
}

impl Replica {
    /// Counts as living until a probe or a request finds otherwise, so that the first requests need not wait.
    fn new(base_url: String) -> Self {
        Self {
            base_url,
            alive: AtomicBool::new(true),
            silent_looks: AtomicU8::new(0),
            stopped: watch::Sender::new(false),
            in_flight: AtomicUsize::new(0),
        }
    }

    fn take_look(&self, upstream: &str, look: Look) {
        let silent_looks = match look {
            Look::Silent => self.silent_looks.load(Ordering::Relaxed).saturating_add(1),
            Look::Answers | Look::Refuses => 0,
        };
        self.silent_looks.store(silent_looks, Ordering::Relaxed);
        self.stopped.send_if_modified(|stopped| {
            let now = silent_looks >= SILENT_LOOKS;
            std::mem::replace(stopped, now) != now
        });
        self.set_alive(upstream, look == Look::Answers);
    }

    fn has_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    fn set_alive(&self, upstream: &str, alive: bool) {
        if self.alive.swap(alive, Ordering::Relaxed) != alive {
            let replica = &self.base_url;
            if alive {
                tracing::info!(upstream, replica, "replica answers again");
            } else {
                tracing::warn!(upstream, replica, "replica left out");
            }
        }
    }
}

impl Lease {
    /// The whole URL of a path on this replica.
    pub fn url(&self, path_and_query: &str) -> String {
        [&self.0.base_url, path_and_query].concat()
    }

    /// Until [`Upstream::watch`] has found that the replica answers nobody: what was sent to it is not worth a wait.
    pub async fn stopped(&self) {
        let mut stopped = self.0.stopped.subscribe();
        // The sender lives as long as the lease.
        let _never_closed = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Leaves the replica out until [`Upstream::watch`] finds that it answers.
    pub fn mark_dead(&self, upstream: &Upstream) {
        self.0.set_alive(upstream.name, false);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn without_slash(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;

    /// Answers `/healthz` at a free port, or at a given address, until dropped.
    struct Service {
        address: SocketAddr,
        task: tokio::task::JoinHandle<()>,
    }

    impl Service {
        async fn start(address: &str) -> Self {
            let listener = TcpListener::bind(address).await.unwrap();
            let address = listener.local_addr().unwrap();
            let task = tokio::spawn(async move {
                let router = Router::new().route("/healthz", get(async || "ok"));
                axum::serve(listener, router).await.unwrap();
            });
            Self { address, task }
        }

        fn url(&self) -> String {
            format!("http://{}", self.address)
        }
    }

    impl Drop for Service {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    fn upstream(urls: &[&str]) -> Arc<Upstream> {
        Arc::new(Upstream::new("test", &List::of(urls)))
    }

    fn count(living: usize, known: usize) -> Count {
        Count { living, known }
    }

    /// Watches until the count is as wanted; fails after 5 s.
    async fn watch_until(upstream: &Upstream, wanted: Count) {
        let reached = async {
            while upstream.count() != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = upstream.watch(CancellationToken::new()) => unreachable!("never cancelled"),
            outcome = tokio::time::timeout(Duration::from_secs(5), reached) => {
                assert!(outcome.is_ok(), "{:?}, wanted {wanted:?}", upstream.count());
            }
        }
    }

    /// An address where nothing listens.
    async fn nobody() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }

    #[test]
    fn requests_go_where_the_fewest_are_in_flight() {
        let upstream = upstream(&["http://a:1/", "http://b:1"]);

        let first = upstream.pick().unwrap().url("/x");
        let held: Vec<_> = (0..10).map(|_| upstream.pick().unwrap()).collect();

        assert!(first == "http://a:1/x" || first == "http://b:1/x");
        let on_a = held.iter().filter(|lease| lease.url("") == "http://a:1");
        assert_eq!(on_a.count(), 5);
    }

    #[test]
    fn a_dead_replica_is_left_out_until_all_are_dead() {
        let upstream = upstream(&["http://a:1", "http://b:1"]);

        let dead = upstream.pick().unwrap();
        dead.mark_dead(&upstream);

        for _ in 0..20 {
            assert_ne!(upstream.pick().unwrap().url(""), dead.url(""));
        }
        upstream.pick_living().unwrap().mark_dead(&upstream);
        assert!(upstream.pick().is_some());
        assert!(upstream.pick_living().is_none());
        assert_eq!(upstream.count(), count(0, 2));
    }

    #[tokio::test]
    async fn a_replica_that_stops_is_left_out_and_one_that_answers_again_is_back() {
        let (stays, stops) = (
            Service::start("127.0.0.1:0").await,
            Service::start("127.0.0.1:0").await,
        );
        let address = stops.address.to_string();
        let upstream = upstream(&[&stays.url(), &stops.url(), &nobody().await]);
        watch_until(&upstream, count(2, 3)).await;

        drop(stops);
        // Open connections outlive the task that accepted them; a new watch opens new ones.
        watch_until(&upstream, count(1, 3)).await;
        assert_eq!(upstream.pick().unwrap().url(""), stays.url());

        let _back = Service::start(&address).await;
        watch_until(&upstream, count(2, 3)).await;
    }

    #[tokio::test]
    async fn a_replica_that_accepts_and_says_nothing_is_left_out() {
        let answers = Service::start("127.0.0.1:0").await;
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent_url = format!("http://{}", silent.local_addr().unwrap());
        let upstream = upstream(&[&answers.url(), &silent_url]);

        watch_until(&upstream, count(1, 2)).await;

        assert_eq!(upstream.pick().unwrap().url(""), answers.url());
        assert!(upstream.age().is_some());
    }

    #[tokio::test]
    async fn a_replica_that_has_stopped_is_neither_chosen_nor_waited_for_until_it_answers() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = upstream(&[&format!("http://{}", silent.local_addr().unwrap())]);
        let sent_before = upstream.pick().unwrap();

        tokio::select! {
            () = upstream.watch(CancellationToken::new()) => unreachable!("never cancelled"),
            stopped = tokio::time::timeout(Duration::from_secs(10), sent_before.stopped()) => {
                assert!(stopped.is_ok());
            }
        }
        assert!(upstream.pick().is_none());
        assert_eq!(upstream.count(), count(0, 1));

        let router = Router::new().route("/healthz", get(async || "ok"));
        let _answers = tokio::spawn(async move { axum::serve(silent, router).await.unwrap() });
        watch_until(&upstream, count(1, 1)).await;
        assert!(upstream.pick().is_some());
    }

    #[test]
    fn one_silent_look_may_be_bad_luck_and_one_that_refuses_has_not_stopped() {
        let replica = Replica::new("http://a:1".to_owned());
        for (look, stopped) in [
            (Look::Silent, false),
            (Look::Refuses, false),
            (Look::Silent, false),
            (Look::Silent, true),
            (Look::Silent, true),
            (Look::Refuses, false),
            (Look::Silent, false),
            (Look::Answers, false),
        ] {
            replica.take_look("test", look);
            assert_eq!(replica.has_stopped(), stopped);
        }
    }

    #[tokio::test]
    async fn every_address_of_a_name_is_a_replica() {
        let service = Service::start("127.0.0.1:0").await;
        let upstream = upstream(&[&format!("http://localhost:{}", service.address.port())]);
        assert_eq!(
            upstream.pick().unwrap().url(""),
            format!("http://localhost:{}", service.address.port())
        );

        let by_address = async {
            while upstream.pick_living().unwrap().url("") != service.url() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = upstream.watch(CancellationToken::new()) => unreachable!("never cancelled"),
            found = tokio::time::timeout(Duration::from_secs(5), by_address) => assert!(found.is_ok()),
        }
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_looked_up_holds_back_no_other() {
        let service = Service::start("127.0.0.1:0").await;
        let port = service.address.port();
        let upstream = upstream(&[
            "http://nowhere.invalid:1",
            &format!("http://localhost:{port}"),
        ]);

        let found = async {
            while upstream.pick_living().unwrap().url("") != service.url() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = upstream.watch(CancellationToken::new()) => unreachable!("never cancelled"),
            found = tokio::time::timeout(Duration::from_secs(5), found) => assert!(found.is_ok()),
        }

        let known = upstream
            .read()
            .iter()
            .map(|replica| replica.base_url.clone())
            .collect::<Vec<_>>();
        assert!(
            known.contains(&"http://nowhere.invalid:1".to_owned()),
            "{known:?}"
        );
    }

    #[tokio::test]
    async fn the_watch_ends_with_the_token() {
        let upstream = upstream(&[&nobody().await]);
        let shutdown = CancellationToken::new();
        shutdown.cancel();

        let ended = tokio::time::timeout(Duration::from_secs(5), upstream.watch(shutdown)).await;

        assert!(ended.is_ok());
    }
}
