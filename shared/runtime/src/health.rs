//! `/healthz` says that the process answers; `/readyz` says what each dependency is doing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use futures_util::future::{BoxFuture, join_all};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A dependency that has not answered within this counts as down.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// What one look at a dependency found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub status: Status,
    /// Further facts, such as a lag or the reason it is down.
    #[serde(flatten, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Up,
    /// Works, but somebody should look.
    Degraded,
    Down,
}

impl Finding {
    pub fn up() -> Self {
        Self {
            status: Status::Up,
            detail: Value::Null,
        }
    }

    pub fn degraded(reason: impl Into<String>) -> Self {
        Self {
            status: Status::Degraded,
            detail: json!({ "reason": reason.into() }),
        }
    }

    pub fn down(reason: impl Into<String>) -> Self {
        Self {
            status: Status::Down,
            detail: json!({ "reason": reason.into() }),
        }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        if let Value::Object(facts) = &mut self.detail {
            facts.insert(name.to_owned(), value.into());
        } else {
            self.detail = json!({ name: value.into() });
        }
        self
    }
}

type Look = Box<dyn Fn() -> BoxFuture<'static, Finding> + Send + Sync>;

/// The dependencies of a service, each with a way to look at it.
#[derive(Default)]
pub struct Health {
    dependencies: Vec<(&'static str, bool, Look)>,
    /// Held while a look is under way.
    last: Mutex<Option<Looked>>,
}

/// What was found of each dependency, and whether it is needed.
type Findings = Arc<[(&'static str, bool, Finding)]>;

struct Looked {
    ended: Instant,
    findings: Findings,
}

impl Health {
    pub fn new() -> Self {
        Self::default()
    }

    /// A dependency without which the service is of no use.
    #[must_use]
    pub fn needs<F: Future<Output = Finding> + Send + 'static>(
        mut self,
        name: &'static str,
        look: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        self.dependencies
            .push((name, true, Box::new(move || Box::pin(look()))));
        self
    }

    /// A dependency that is told of, but does not make the service unready.
    #[must_use]
    pub fn tells<F: Future<Output = Finding> + Send + 'static>(
        mut self,
        name: &'static str,
        look: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        self.dependencies
            .push((name, false, Box::new(move || Box::pin(look()))));
        self
    }

    /// Who asks while a look is under way shares it: anybody may ask, as often as they like, and each look asks everybody.
    async fn findings(&self) -> Findings {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(looked) = last.as_ref().filter(|looked| looked.ended > asked) {
            return Arc::clone(&looked.findings);
        }
        let looks = self.dependencies.iter().map(async |(name, needed, look)| {
            let finding = tokio::time::timeout(CHECK_TIMEOUT, look()).await;
            let finding = finding.unwrap_or_else(|_| Finding::down("no answer within 1 s"));
            (*name, *needed, finding)
        });
        let findings: Findings = join_all(looks).await.into();
        *last = Some(Looked {
            ended: Instant::now(),
            findings: Arc::clone(&findings),
        });
        findings
    }
}

pub(crate) async fn healthz() -> impl IntoResponse {
    Json(json!({ "ok": true }))
}

/// In the extensions of a request for `/readyz` whose caller is told no more than how things stand as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Briefly;

/// What `/readyz` answers.
#[derive(Serialize)]
struct Readiness {
    /// Whether every dependency that is needed works.
    ready: bool,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    dependencies: Option<BTreeMap<&'static str, Finding>>,
}

pub(crate) async fn readyz(
    State(health): State<Arc<Health>>,
    briefly: Option<Extension<Briefly>>,
) -> impl IntoResponse {
    let findings = health.findings().await;
    let ready = findings
        .iter()
        .all(|(_, needed, finding)| !needed || finding.status != Status::Down);
    let all_up = findings
        .iter()
        .all(|(_, _, finding)| finding.status == Status::Up);
    let (code, status) = match (ready, all_up) {
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, Status::Down),
        (true, false) => (StatusCode::OK, Status::Degraded),
        (true, true) => (StatusCode::OK, Status::Up),
    };
    let dependencies = findings
        .iter()
        .map(|(name, _, finding)| (*name, finding.clone()));
    let readiness = Readiness {
        ready,
        status,
        dependencies: briefly.is_none().then(|| dependencies.collect()),
    };
    (code, Json(readiness))
}

/// For containers without a shell: `SERVICE healthcheck` asks the running service's `/healthz`, and its exit code tells.
pub fn check_requested() -> bool {
    std::env::args()
        .nth(1)
        .is_some_and(|argument| argument == "healthcheck")
}

/// Asks `/healthz` at the address the service listens on.
pub async fn check(listen_addr: &str) -> anyhow::Result<()> {
    let reachable = listen_addr
        .replace("0.0.0.0", "127.0.0.1")
        .replace("[::]", "[::1]");
    let url = format!("http://{reachable}/healthz").parse()?;
    // Plain HTTP, so that a service which calls nobody is not made with TLS and holds none of it.
    let asked = crate::http_client::forwarding().get(url);
    let response = tokio::time::timeout(CHECK_TIMEOUT, asked).await??;
    anyhow::ensure!(
        response.status().is_success(),
        "/healthz answered {}",
        response.status()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LOOK: Duration = Duration::from_millis(100);

    /// A dependency whose looks take a while, and are counted.
    fn counted(looks: &Arc<AtomicUsize>) -> Health {
        let looks = Arc::clone(looks);
        Health::new().needs("it", move || {
            let looks = Arc::clone(&looks);
            async move {
                tokio::time::sleep(LOOK).await;
                let look = looks.fetch_add(1, Ordering::Relaxed) + 1;
                Finding::up().with("look", look)
            }
        })
    }

    fn look_of(findings: &Findings) -> u64 {
        findings[0].2.detail["look"].as_u64().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_while_a_look_is_under_way_shares_it_and_who_asks_later_gets_a_fresh_one() {
        let looks = Arc::new(AtomicUsize::new(0));
        let health = counted(&looks);

        let asked = (0..100).map(async |place| {
            // Half of them come while the look of the others is under way.
            tokio::time::sleep(LOOK / 2 * (place % 2)).await;
            health.findings().await
        });
        let told = join_all(asked).await;

        assert!(looks.load(Ordering::Relaxed) <= 2, "{looks:?}");
        assert_eq!(told.len(), 100);

        tokio::time::sleep(Duration::from_millis(1)).await;
        let before = looks.load(Ordering::Relaxed);
        let later = health.findings().await;

        assert_eq!(looks.load(Ordering::Relaxed), before + 1);
        assert_eq!(look_of(&later), before as u64 + 1);
    }
}
