//! Names to addresses without a thread for each: what hangs keeps nobody waiting but itself.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::time::timeout;

/// Of a whole look-up, with every search domain. It ends before the connect timeout, so that a name that hangs is told as
/// `dns_error`, and never as an endpoint that is slow.
const LOOK_UP: Duration = Duration::from_millis(2_800);
/// Of one question to one server, so that one that is lost can be asked again.
const TRY: Duration = Duration::from_millis(1_400);
const TRIES_AGAIN: usize = 1;

/// What is read of the system, by which it is known to have changed.
const READ: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Asks as the system's own resolver does: `/etc/hosts`, then the servers of `/etc/resolv.conf` with its search domains.
/// Every look-up asks anew; both files are read again when they change.
#[derive(Default)]
pub struct Names {
    read: Mutex<Option<(Stamp, Read)>>,
}

type Stamp = [Option<SystemTime>; READ.len()];

/// Hosts apart from the servers: a resolver would ask these for the kind of address that a host does not have, and for a
/// short name with each search domain first. Whoever pins a name must not need a server at all.
#[derive(Clone)]
struct Read {
    hosts: Arc<Hosts>,
    resolver: TokioResolver,
}

impl Names {
    /// Every address of the name, at least one, within 2.8 s.
    ///
    /// # Errors
    /// When it has none, or nobody answered in time.
    pub async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let Read { hosts, resolver } = self.read()?;
        // As ASCII, or a name with an underscore is none.
        let name = Name::from_ascii(name).map_err(io::Error::other)?;
        let pinned = pinned(&hosts, &name);
        if !pinned.is_empty() {
            return Ok(pinned);
        }
        let found = timeout(LOOK_UP, resolver.lookup_ip(name)).await;
        // Not as an I/O error that timed out: it would be told as `timeout`.
        let found = found.map_err(|_| io::Error::other("nobody answered in time"))?;
        let found = found.map_err(io::Error::other)?;
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            return Err(io::Error::other("the name has no address"));
        }
        Ok(addresses)
    }

    fn read(&self) -> io::Result<Read> {
        let stamp = READ.map(|path| fs::metadata(path).and_then(|file| file.modified()).ok());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some((of, known)) if *of == stamp => Ok(known.clone()),
            _ => {
                let (config, options) = read_system_conf().unwrap_or_else(|fault| {
                    tracing::warn!(%fault, "no name server can be read from /etc/resolv.conf, asking 127.0.0.1");
                    local_server()
                });
                let new = Read {
                    hosts: Arc::new(system_hosts()),
                    resolver: asking(config, options)?,
                };
                *read = Some((stamp, new.clone()));
                Ok(new)
            }
        }
    }
}

/// Every address that the hosts give the name, as it is and with no search domain.
fn pinned(hosts: &Hosts, name: &Name) -> Vec<IpAddr> {
    let answers = [RecordType::A, RecordType::AAAA].map(|kind| {
        let asked = Query::query(name.clone(), kind);
        hosts.lookup_static_host(&asked)
    });
    let answers = answers.iter().flatten();
    let records = answers.flat_map(|answer| answer.answers());
    records.filter_map(|record| record.data.ip_addr()).collect()
}

/// None where there is no such file.
fn system_hosts() -> Hosts {
    Hosts::from_system().unwrap_or_else(|fault| {
        if fault.kind() != io::ErrorKind::NotFound {
            tracing::warn!(%fault, "no host can be read from /etc/hosts, asking the name servers only");
        }
        Hosts::default()
    })
}

/// As the C library does where nobody is named.
fn local_server() -> (ResolverConfig, ResolverOpts) {
    let server = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    (config, ResolverOpts::default())
}

fn asking(config: ResolverConfig, mut options: ResolverOpts) -> io::Result<TokioResolver> {
    options.timeout = TRY;
    options.attempts = TRIES_AGAIN;
    // All addresses are looked at, so all are asked for.
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = 0;
    // They were asked before.
    options.use_hosts_file = ResolveHosts::Never;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().map_err(io::Error::other)
}

#[cfg(test)]
pub(super) mod tests;
