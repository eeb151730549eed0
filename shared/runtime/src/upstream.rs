//! The replicas of a service: found by name, balanced by requests in flight, left out while dead.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::config::List;

/// A service behind a comma list of base URLs.
pub struct Upstream {
    pub name: &'static str,
    replicas: RwLock<Vec<Arc<Replica>>>,
}

/// One process that answers for the service.
pub struct Replica {
    /// `http://host:port`, without a slash at the end.
    pub base_url: String,
    in_flight: AtomicUsize,
}

/// A replica chosen for one request; counts as in flight until dropped.
pub struct Lease(Arc<Replica>);

impl Upstream {
    pub fn new(name: &'static str, urls: &List) -> Self {
        let replica = |url: &String| {
            Arc::new(Replica {
                base_url: url.trim_end_matches('/').to_owned(),
                in_flight: AtomicUsize::new(0),
            })
        };
        Self {
            name,
            replicas: RwLock::new(urls.0.iter().map(replica).collect()),
        }
    }

    /// The living replica with the fewest requests in flight.
    pub fn pick(&self) -> Option<Lease> {
        let replicas = self.replicas.read().unwrap_or_else(PoisonError::into_inner);
        let chosen = replicas
            .iter()
            .min_by_key(|replica| replica.in_flight.load(Ordering::Relaxed))?;
        chosen.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Lease(Arc::clone(chosen)))
    }
}

impl Lease {
    /// The whole URL of a path on this replica.
    pub fn url(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.0.base_url)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
