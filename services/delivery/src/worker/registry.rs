//! Who is delivered to, in memory: every client and endpoint, ready to be sent to.
//!
//! An intake is planned from here and says which version of the client it saw; the store takes it only if that is still
//! the client's. So a stale copy costs a second look and never a delivery.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use schema::webhooks::{OnExhausted, Ordering};
use signature::standard::Key;

use crate::domain::egress::{self, EndpointUrl, Nets};
use crate::domain::endpoint::Endpoint;
use crate::domain::headers;
use crate::domain::ids::{EndpointId, Position};
use crate::domain::queues::Rules;
use crate::domain::requests::{Defaults, policy_of};
use crate::domain::schedule::Policy;
use crate::storage::{Client, Seen};

/// While a page is due: PagerDuty that is back must know of it soon.
const PROBE_PAGERDUTY_WITHIN: Duration = Duration::from_secs(15);

/// An endpoint, ready to be sent to.
#[derive(Debug)]
pub struct Live {
    pub endpoint: Arc<Endpoint>,
    pub target: Target,
    pub policy: Policy,
    pub headers: HeaderMap,
    pub timeout: Duration,
    /// The present secret's, and those before while they sign too.
    keys: Vec<(Key, Option<Timestamp>)>,
}

/// Where requests go.
#[derive(Clone, Debug)]
pub enum Target {
    /// The operator's own choice: anywhere.
    Operators(url::Url),
    /// A client's choice: where it may point.
    Clients(EndpointUrl),
    /// A URL that was allowed once and is not now.
    Nowhere,
}

impl Live {
    fn new(endpoint: Endpoint, defaults: &Defaults) -> Self {
        let settings = &endpoint.settings;
        let confidential = &endpoint.confidential;
        let present = [(confidential.secret.as_str(), None)];
        let previous = confidential.previous.iter();
        let previous = previous.map(|previous| (previous.secret.as_str(), Some(previous.until)));
        let keys = present.into_iter().chain(previous);
        Self {
            target: Target::of(&endpoint, &defaults.nets),
            policy: policy_of(&endpoint, defaults),
            headers: headers::parse(&confidential.headers).unwrap_or_default(),
            timeout: Duration::from_millis(settings.timeout_ms),
            keys: keys
                .filter_map(|(secret, until)| Some((Key::parse(secret).ok()?, until)))
                .collect(),
            endpoint: Arc::new(endpoint),
        }
    }

    /// What a request is signed with at a time.
    pub fn keys(&self, now: Timestamp) -> impl Iterator<Item = &Key> {
        let valid = move |until: &Option<Timestamp>| until.is_none_or(|until| now < until);
        let keys = self.keys.iter();
        keys.filter_map(move |(key, until)| valid(until).then_some(key))
    }

    pub fn is_strict(&self) -> bool {
        self.endpoint.settings.ordering == Ordering::Strict
    }

    /// Whether its lines stop at what is exhausted.
    pub fn blocks(&self) -> bool {
        self.is_strict() && self.endpoint.settings.on_exhausted == OnExhausted::Block
    }

    pub fn rules(&self) -> Rules {
        let settings = &self.endpoint.settings;
        Rules {
            client: self.endpoint.client,
            max_in_flight: settings.max_in_flight,
            rate_per_s: settings.rate_limit_per_s,
            strict: self.is_strict(),
            enabled: self.endpoint.disabled.is_none(),
            longest_wait: self.policy.longest_wait(),
            probe_within: self
                .endpoint
                .endpoint_id
                .is_built_in()
                .then_some(PROBE_PAGERDUTY_WITHIN),
        }
    }
}

impl Target {
    fn of(endpoint: &Endpoint, nets: &Nets) -> Self {
        let text = &endpoint.settings.url;
        if endpoint.endpoint_id.is_built_in() {
            return url::Url::parse(text).map_or(Self::Nowhere, Self::Operators);
        }
        egress::parse(text, nets).map_or(Self::Nowhere, Self::Clients)
    }
}

#[derive(Default)]
pub(super) struct Registry(RwLock<Known>);

#[derive(Default)]
struct Known {
    clients: HashMap<Arc<str>, Entry>,
    endpoints: HashMap<Position, Arc<Live>>,
    ids: HashMap<EndpointId, Position>,
}

struct Entry {
    client: Client,
    /// Oldest first.
    endpoints: Vec<Arc<Live>>,
}

impl Registry {
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn by_position(&self, endpoint: Position) -> Option<Arc<Live>> {
        self.read().endpoints.get(&endpoint).cloned()
    }

    pub(super) fn by_id(&self, id: &EndpointId) -> Option<Arc<Live>> {
        let known = self.read();
        known.endpoints.get(known.ids.get(id)?).cloned()
    }

    /// What is known of a client, and which of its endpoints want an event.
    pub(super) fn wanting(
        &self,
        client_id: &str,
        wants: impl Fn(&Endpoint) -> bool,
    ) -> (Option<Seen>, Vec<Arc<Live>>) {
        let known = self.read();
        let Some(entry) = known.clients.get(client_id) else {
            return (None, Vec::new());
        };
        let seen = Seen {
            client: entry.client.position,
            version: entry.client.version,
        };
        let endpoints = entry.endpoints.iter();
        let wanting = endpoints.filter(|live| wants(&live.endpoint));
        (Some(seen), wanting.cloned().collect())
    }

    pub(super) fn client(&self, client_id: &str) -> Option<Client> {
        let known = self.read();
        known
            .clients
            .get(client_id)
            .map(|entry| entry.client.clone())
    }

    pub(super) fn clients(&self) -> Vec<(Client, usize)> {
        let known = self.read();
        let entries = known.clients.values();
        let mut clients: Vec<_> = entries
            .map(|entry| (entry.client.clone(), entry.endpoints.len()))
            .collect();
        clients.sort_by(|(one, _), (other, _)| one.client_id.cmp(&other.client_id));
        clients
    }

    pub(super) fn endpoints_of(&self, client_id: &str) -> Vec<Arc<Endpoint>> {
        let known = self.read();
        let Some(entry) = known.clients.get(client_id) else {
            return Vec::new();
        };
        let newest_first = entry.endpoints.iter().rev();
        newest_first
            .map(|live| Arc::clone(&live.endpoint))
            .collect()
    }

    /// A client is known from now on.
    pub(super) fn note_client(&self, client_id: &Arc<str>, position: Position, now: Timestamp) {
        let mut known = self.write();
        known
            .clients
            .entry(Arc::clone(client_id))
            .or_insert_with(|| Entry {
                client: Client {
                    position,
                    client_id: Arc::clone(client_id),
                    version: 0,
                    created_at: now,
                },
                endpoints: Vec::new(),
            });
    }

    /// Takes an endpoint as the store has it; an older version than the known one is passed over.
    pub(super) fn put(&self, endpoint: Endpoint, defaults: &Defaults) -> Arc<Live> {
        let client_id = Arc::clone(&endpoint.client_id);
        self.note_client(&client_id, endpoint.client, endpoint.created_at);
        let mut known = self.write();
        if let Some(newer) = known.endpoints.get(&endpoint.position)
            && newer.endpoint.version >= endpoint.version
        {
            return Arc::clone(newer);
        }
        let (position, version) = (endpoint.position, endpoint.version);
        let live = Arc::new(Live::new(endpoint, defaults));
        known.endpoints.insert(position, Arc::clone(&live));
        known
            .ids
            .insert(live.endpoint.endpoint_id.clone(), position);
        if let Some(entry) = known.clients.get_mut(&client_id) {
            entry.client.version = entry.client.version.max(version);
            entry
                .endpoints
                .retain(|live| live.endpoint.position != position);
            entry.endpoints.push(Arc::clone(&live));
            entry.endpoints.sort_by_key(|live| live.endpoint.position);
        }
        live
    }

    /// An endpoint is no more.
    pub(super) fn remove(&self, endpoint: &Endpoint, version: Position) {
        let mut known = self.write();
        known.endpoints.remove(&endpoint.position);
        known.ids.remove(&endpoint.endpoint_id);
        if let Some(entry) = known.clients.get_mut(&endpoint.client_id) {
            entry.client.version = entry.client.version.max(version);
            entry
                .endpoints
                .retain(|live| live.endpoint.position != endpoint.position);
        }
    }

    /// A client is no more; answers the endpoints that it had.
    pub(super) fn remove_client(&self, client_id: &str) -> Vec<Arc<Live>> {
        let mut known = self.write();
        let removed = known.clients.remove(client_id);
        let endpoints = removed.map(|entry| entry.endpoints).unwrap_or_default();
        for live in &endpoints {
            known.endpoints.remove(&live.endpoint.position);
            known.ids.remove(&live.endpoint.endpoint_id);
        }
        endpoints
    }

    /// Takes a client's version as the store has it.
    pub(super) fn note_version(&self, client: &Client) {
        self.note_client(&client.client_id, client.position, client.created_at);
        let mut known = self.write();
        if let Some(entry) = known.clients.get_mut(&client.client_id) {
            entry.client.version = entry.client.version.max(client.version);
        }
    }
}
