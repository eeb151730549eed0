//! Runs the services as child processes on loopback: what compose does with containers, without containers.
//!
//! Each service is given a free port and told where the others are. One that dies is started again on its port, as a
//! replacement must be found where its callers look.

mod child;
mod keeper;
mod ports;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, PipeReader, PipeWriter};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::future::{join_all, try_join_all};
use runtime::internal_key;
use schema::names;
use tokio::sync::mpsc;

use child::Launch;
use keeper::Keeper;
use ports::Place;

/// The services in the order of starting: those of a row need only those of the rows before.
pub const ROWS: [&[&str]; 3] = [
    &["event-store", "mock-pagerduty", "summarizer"],
    &["stripe-ingester", "status-poller", "delivery"],
    &["gateway"],
];

/// A line that a service wrote, or that the supervisor says about it.
#[derive(Clone, Debug)]
pub struct Line {
    pub service: &'static str,
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<15} | {}", self.service, self.text)
    }
}

/// How to run the services.
pub struct Options {
    /// Where the services' executables are.
    pub bin_dir: PathBuf,
    /// Where they run, and so where `.env` and `./data` are looked for; `None`: here.
    pub working_dir: Option<PathBuf>,
    /// Whether they see this process's environment too.
    pub inherit_environment: bool,
    /// Variables for all of them. A `PAGERDUTY_URL` keeps the pages from the mock; without a `SIGNALPOST_INTERNAL_KEY` they
    /// get one of their own.
    pub environment: BTreeMap<String, String>,
    pub gateway_host: String,
    /// 0 takes a free port.
    pub gateway_port: u16,
    /// Takes every line; when it is full, the services' logs wait.
    pub lines: mpsc::Sender<Line>,
}

/// The running services. Dropping it kills them; [`Supervisor::stop`] is the orderly end.
pub struct Supervisor {
    services: Vec<Keeper>,
    /// Kept as long as the services.
    _places: Places,
    /// When it ends, as it does with this process however that dies, each service stops in order.
    _alive: PipeWriter,
}

type Places = BTreeMap<&'static str, Place>;

impl Supervisor {
    /// Starts every service and answers when all listen. Fails with the last lines of the first that does not.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let mut environment = options.environment.clone();
        environment
            .entry(internal_key::VARIABLE.to_owned())
            .or_insert_with(fresh_key);
        let places = take_places(&options)?;
        hand_down(&mut environment, &places);
        let (alive, held) = io::pipe().context("making a pipe")?;
        let alive = Arc::new(alive);
        let mut services = Vec::new();
        for row in ROWS {
            let starts = row.iter().map(|service| {
                start_service(service, &options, &environment, &places[service], &alive)
            });
            services.extend(try_join_all(starts).await?);
        }
        Ok(Self {
            services,
            _places: places,
            _alive: held,
        })
    }

    /// Every service with its address and, while it lives, its process id.
    pub fn services(&self) -> impl Iterator<Item = (&'static str, SocketAddr, Option<u32>)> {
        self.services
            .iter()
            .map(|keeper| (keeper.service, keeper.address, keeper.pid()))
    }

    /// The base URL of a service.
    pub fn url(&self, service: &str) -> anyhow::Result<String> {
        Ok(format!("http://{}", self.keeper(service)?.address))
    }

    /// The process id of a service; `None` while it is dead.
    pub fn pid(&self, service: &str) -> anyhow::Result<Option<u32>> {
        Ok(self.keeper(service)?.pid())
    }

    /// `kill -9`. The service is started again, as after any death.
    pub fn kill(&self, service: &str) -> anyhow::Result<()> {
        self.keeper(service)?.kill();
        Ok(())
    }

    /// `kill -9`, and the service stays dead until [`Supervisor::restart`].
    pub async fn hold(&self, service: &str) -> anyhow::Result<()> {
        self.keeper(service)?.hold().await;
        Ok(())
    }

    /// Lets a service that was held start again.
    pub fn restart(&self, service: &str) -> anyhow::Result<()> {
        self.keeper(service)?.let_go();
        Ok(())
    }

    /// Stops the services, the last started first, so that nobody's answer is cut off.
    pub async fn stop(&mut self) {
        for row in ROWS.iter().rev() {
            let stops = self
                .services
                .iter_mut()
                .filter(|keeper| row.contains(&keeper.service))
                .map(Keeper::stop);
            join_all(stops).await;
        }
    }

    fn keeper(&self, service: &str) -> anyhow::Result<&Keeper> {
        self.services
            .iter()
            .find(|keeper| keeper.service == service)
            .with_context(|| format!("there is no service named {service}"))
    }
}

/// What nobody else on this machine can know.
fn fresh_key() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

/// `event-store`, `PORT` → `EVENT_STORE_PORT`.
fn variable(service: &str, what: &str) -> String {
    format!("{}_{what}", service.to_uppercase().replace('-', "_"))
}

async fn start_service(
    service: &'static str,
    options: &Options,
    environment: &BTreeMap<String, String>,
    place: &Place,
    alive: &Arc<PipeReader>,
) -> anyhow::Result<Keeper> {
    let mut environment = environment.clone();
    environment.insert(variable(service, "HOST"), place.host.clone());
    let launch = Arc::new(Launch {
        service,
        program: options.bin_dir.join(service),
        working_dir: options.working_dir.clone(),
        inherit_environment: options.inherit_environment,
        environment: environment.into_iter().collect(),
        lines: options.lines.clone(),
        alive: Arc::clone(alive),
    });
    let (child, address) = launch.first_start(place.port).await?;
    Ok(Keeper::keep(launch, child, address))
}

fn take_places(options: &Options) -> anyhow::Result<Places> {
    let places = ROWS.iter().copied().flatten().map(|service| {
        let place = match *service {
            "gateway" => Place::take(&options.gateway_host, options.gateway_port),
            // Only the gateway may be reached from elsewhere.
            _ => Place::take("127.0.0.1", 0),
        };
        Ok((*service, place.context("finding a free port")?))
    });
    places.collect()
}

/// Tells each service where all are.
fn hand_down(environment: &mut BTreeMap<String, String>, places: &Places) {
    for (service, place) in places {
        let url = place.url();
        if *service == "mock-pagerduty" {
            environment
                .entry("PAGERDUTY_URL".to_owned())
                .or_insert_with(|| format!("{url}{}", names::DESTINATION_PAGERDUTY));
        }
        environment.insert(variable(service, "URL"), url);
    }
}
