//! Names to addresses without a thread for each: what hangs keeps nobody waiting but itself.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::read_system_conf;

/// Of one question to one server. Asked twice, it ends before the connect timeout, so that a name that hangs is told as
/// `dns_error`, and never as an endpoint that is slow.
const TRY: Duration = Duration::from_millis(1_400);
const TRIES_AGAIN: usize = 1;

/// What is read of the system, by which it is known to have changed.
const READ: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Asks as the system's own resolver does: `/etc/hosts`, then the servers of `/etc/resolv.conf` with its search domains.
/// Every look-up asks anew; both files are read again when they change.
#[derive(Default)]
pub struct Names {
    read: Mutex<Option<(Stamp, TokioResolver)>>,
}

type Stamp = [Option<SystemTime>; READ.len()];

impl Names {
    /// Every address of the name, at least one. Waits as long as the servers let it: whoever asks bounds that.
    pub async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let resolver = self.resolver()?;
        // As ASCII, or a name with an underscore is none.
        let name = Name::from_ascii(name).map_err(io::Error::other)?;
        let found = resolver.lookup_ip(name).await.map_err(io::Error::other)?;
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            return Err(io::Error::other("the name has no address"));
        }
        Ok(addresses)
    }

    fn resolver(&self) -> io::Result<TokioResolver> {
        let stamp = READ.map(|path| fs::metadata(path).and_then(|file| file.modified()).ok());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some((of, resolver)) if *of == stamp => Ok(resolver.clone()),
            _ => {
                let (config, options) = read_system_conf().unwrap_or_else(|fault| {
                    tracing::warn!(%fault, "no name server can be read from /etc/resolv.conf, asking 127.0.0.1");
                    local_server()
                });
                let resolver = asking(config, options)?;
                *read = Some((stamp, resolver.clone()));
                Ok(resolver)
            }
        }
    }
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
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().map_err(io::Error::other)
}

#[cfg(test)]
pub(super) mod tests;
