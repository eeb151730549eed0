//! The runs of one source, one at a time: rung for by the schedule or asked for by callers. No source waits for another.

use std::sync::Arc;

use runtime::clock::Clock;
use runtime::ids;
use schema::CorrelationId;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::StatusPage;
use crate::error::Error;
use crate::freshness::Freshness;
use crate::poll::{Outcome, Poller};
use crate::schedule::Ring;

/// The newest run that somebody asked for. Whoever asks raises the number and waits until a run of that number or a later
/// one has ended: such a run began after the question, and all who asked before it began share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) number: u64,
    /// Of the last who asked; `None` before the first.
    pub(crate) correlation_id: Option<CorrelationId>,
}

/// The newest run that was asked for and has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    pub(crate) number: u64,
    pub(crate) outcome: Outcome,
}

pub(crate) struct Worker {
    pub(crate) poller: Arc<Poller>,
    pub(crate) page: Arc<StatusPage>,
    pub(crate) freshness: Arc<Freshness>,
    pub(crate) clock: Clock,
    /// Closed for a fixture, which no schedule polls.
    pub(crate) rings: mpsc::Receiver<Ring>,
    pub(crate) asked: watch::Receiver<Asked>,
    pub(crate) done: watch::Sender<Done>,
    /// When the page may be asked again, where it said so.
    pub(crate) not_before: Option<Instant>,
}

impl Worker {
    /// Runs until the token is cancelled. A run under way is given up: the next one finds what it would have found.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        shutdown
            .run_until_cancelled(async {
                loop {
                    self.step().await;
                }
            })
            .await;
    }

    /// Waits for one ring or question, and does it.
    async fn step(&mut self) {
        tokio::select! {
            // Somebody waits for what was asked, and it reads the page that the bell would have.
            biased;
            Ok(()) = self.asked.changed() => {
                let Asked { number, correlation_id } = self.asked.borrow_and_update().clone();
                let correlation_id =
                    correlation_id.unwrap_or_else(|| ids::correlation_id(self.clock.now()));
                let outcome = self.answer(&correlation_id).await;
                self.done.send_replace(Done { number, outcome });
            }
            Some(Ring) = self.rings.recv() => {
                if !self.is_paused() {
                    let correlation_id = ids::correlation_id(self.clock.now());
                    self.poll(&correlation_id).await;
                }
            }
            // All senders are gone only while the service stops.
            else => std::future::pending().await,
        }
    }

    async fn answer(&mut self, correlation_id: &CorrelationId) -> Outcome {
        if self.is_paused() {
            return Outcome::failed(Error::Paused);
        }
        self.poll(correlation_id).await
    }

    async fn poll(&mut self, correlation_id: &CorrelationId) -> Outcome {
        let outcome = self.poller.poll(&self.page, correlation_id).await;
        self.freshness.note(&self.page, &outcome);
        let wait = outcome.error.as_ref().and_then(Error::wait);
        self.not_before = wait.map(|wait| Instant::now() + wait);
        outcome
    }

    fn is_paused(&self) -> bool {
        self.not_before
            .is_some_and(|moment| Instant::now() < moment)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use clients::event_store::EventStore;
    use futures_util::future::join_all;
    use runtime::config::List;
    use runtime::internal_key::InternalKey;
    use runtime::metrics::Metrics;
    use runtime::upstream::Upstream;
    use schema::Source;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::app::Deadlines;
    use crate::config::Origin;
    use crate::metrics::Counts;
    use crate::pull::AskSource;

    /// A page that answers each request when it is let go, and counts what it was asked.
    struct Held {
        url: String,
        asked: Arc<AtomicUsize>,
        let_go: Arc<Semaphore>,
    }

    impl Held {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let held = Self {
                url: format!("http://{}/", listener.local_addr().unwrap()),
                asked: Arc::default(),
                let_go: Arc::new(Semaphore::new(0)),
            };
            let (asked, let_go) = (Arc::clone(&held.asked), Arc::clone(&held.let_go));
            tokio::spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let _head = stream.read(&mut [0; 4096]).await;
                    asked.fetch_add(1, Ordering::SeqCst);
                    let_go.acquire().await.unwrap().forget();
                    let answer =
                        b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                    let _closed = stream.write_all(answer).await;
                }
            });
            held
        }

        async fn has_been_asked(&self, times: usize) {
            let asked = async {
                while self.asked.load(Ordering::SeqCst) < times {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), asked)
                .await
                .unwrap();
        }
    }

    /// The way to a worker that runs.
    fn start(url: &str) -> AskSource {
        let page = Arc::new(StatusPage {
            vendor: "x".to_owned(),
            source: Source::status_page("x").unwrap(),
            origin: Origin::Url(url.parse().unwrap()),
        });
        let (clock, metrics) = (Clock::system(), Metrics::new());
        let store = Upstream::new("event-store", &List::of(&["http://127.0.0.1:9"]));
        let counts = Counts::new(&metrics, std::iter::once(&*page));
        let key = InternalKey::parse("key-of-the-tests").unwrap();
        let store = EventStore::new(Arc::new(store), &key);
        let (_, rings) = mpsc::channel(1);
        let (ask, asked) = watch::channel(Asked::default());
        let (done, ended) = watch::channel(Done::default());
        let source = AskSource::of(&page, ask, ended);
        let worker = Worker {
            poller: Poller::new(store, clock.clone(), Deadlines::default(), counts),
            freshness: Freshness::new(
                std::slice::from_ref(&page),
                Duration::from_secs(60),
                &metrics,
            ),
            page,
            clock,
            rings,
            asked,
            done,
            not_before: None,
        };
        tokio::spawn(worker.run(CancellationToken::new()));
        source
    }

    #[tokio::test]
    async fn who_asks_while_a_run_is_under_way_waits_for_a_new_one_and_shares_it() {
        let page = Held::start().await;
        let source = start(&page.url);
        let correlation_id = CorrelationId::parse("c").unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        let ask = || Box::pin(source.run(&correlation_id, until));
        let mut first = ask();
        assert!(futures_util::poll!(&mut first).is_pending());
        page.has_been_asked(1).await;

        let mut others: Vec<_> = std::iter::repeat_with(ask).take(5).collect();
        for other in &mut others {
            assert!(futures_util::poll!(other).is_pending());
        }
        page.let_go.add_permits(1);
        assert!(first.await.is_ok());
        page.has_been_asked(2).await;
        for other in &mut others {
            assert!(
                futures_util::poll!(other).is_pending(),
                "answered by the run that was under way"
            );
        }
        page.let_go.add_permits(1);

        let outcomes = join_all(others).await;
        assert!(outcomes.iter().all(Result::is_ok));
        assert_eq!(page.asked.load(Ordering::SeqCst), 2);
    }
}
