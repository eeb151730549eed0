//! For URLs that strangers chose.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use hyper_util::client::legacy::connect::dns::Name;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tower::Service;

use super::strangers::Strangers;
use super::{base, build, phases, tls};

/// Whether an address of a name may be connected to.
pub type Permits = Arc<dyn Fn(&str, IpAddr) -> bool + Send + Sync>;

/// Look-ups at once. Each blocks a thread until the resolver answers, and a service's reads need threads of the same pool:
/// names that never resolve may not take all of them.
const LOOK_UPS_MAX: usize = 64;
/// A name leads to an address that is not permitted. Which is not told: whoever chose the name would learn from it.
#[derive(Debug, thiserror::Error)]
#[error("the name leads to an address that is not permitted")]
pub(super) struct Blocked;

/// For one call, one try, to where a stranger points. `permits` is asked, at each connect, for every address of the name
/// that is connected to; one that is refused refuses the name (`blocked`), and the addresses that were asked about are
/// those that are connected to, so a name that changes its mind in between gains nothing. No proxy of the environment,
/// no redirect, no decompression.
///
/// A name is all that `permits` sees, and an address in a URL is no name: whoever calls checks [`url::Host`] first. A
/// rule that depends on the scheme takes a client for each scheme.
///
/// Only connecting is bounded: whoever sends bounds the whole.
pub fn hostile(permits: Permits) -> ClientWithMiddleware {
    trusting(permits, tls::config())
}

pub(super) fn trusting(permits: Permits, tls: ClientConfig) -> ClientWithMiddleware {
    let strangers = Strangers::new(LookUp::new(permits), tls);
    ClientBuilder::new(build(base())).with(strangers).build()
}

/// Asks the system's resolver, and tells what that took.
#[derive(Clone)]
pub(super) struct LookUp {
    permits: Permits,
    turns: Arc<Semaphore>,
}

impl LookUp {
    /// Whatever the name leads to: for URLs that the operator chose.
    pub(super) fn of_anything() -> Self {
        Self::new(Arc::new(|_, _| true))
    }

    fn new(permits: Permits) -> Self {
        Self {
            permits,
            turns: Arc::new(Semaphore::new(LOOK_UPS_MAX)),
        }
    }
}

impl Service<Name> for LookUp {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (permits, turns) = (Arc::clone(&self.permits), Arc::clone(&self.turns));
        Box::pin(async move {
            let addresses = look_up(name.as_str(), turns).await?;
            check(name.as_str(), &addresses, &permits)?;
            Ok(addresses.into_iter())
        })
    }
}

/// Holds its turn until the system's resolver has answered, also when nobody waits for that any more.
async fn look_up(name: &str, turns: Arc<Semaphore>) -> io::Result<Vec<SocketAddr>> {
    let _looking_up = phases::looking_up();
    let turn = turns.acquire_owned().await.map_err(io::Error::other)?;
    let name = name.to_owned();
    let answer = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let addresses = (name.as_str(), 0).to_socket_addrs()?;
        io::Result::Ok(addresses.collect::<Vec<_>>())
    });
    let addresses = answer.await.map_err(io::Error::other)??;
    if addresses.is_empty() {
        return Err(io::Error::other("the name has no address"));
    }
    Ok(addresses)
}

/// All or nothing: an answer that mixes what is permitted with what is not was made by somebody who tries.
fn check(name: &str, addresses: &[SocketAddr], permits: &Permits) -> Result<(), Blocked> {
    if addresses.iter().all(|address| permits(name, address.ip())) {
        Ok(())
    } else {
        Err(Blocked)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::failure_code;
    use super::*;

    fn permits(rule: impl Fn(&str, IpAddr) -> bool + Send + Sync + 'static) -> Permits {
        Arc::new(rule)
    }

    #[test]
    fn one_address_that_is_not_permitted_refuses_the_name() {
        let not_loopback = permits(|_, address| !address.is_loopback());
        for (answer, permitted) in [
            (&["8.8.8.8:0"][..], true),
            (&["8.8.8.8:0", "[2606:4700:4700::1111]:0"], true),
            (&["127.0.0.1:0"], false),
            (&["8.8.8.8:0", "[::1]:0"], false),
            (&["[::1]:0", "8.8.8.8:0"], false),
        ] {
            let addresses: Vec<_> = answer.iter().map(|text| text.parse().unwrap()).collect();
            let checked = check("a.example", &addresses, &not_loopback);
            assert_eq!(checked.is_ok(), permitted, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn a_name_that_is_not_permitted_is_blocked_before_any_connect() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        let client = hostile(permits(|_, address| !address.is_loopback()));

        let fault = client.get(&url).send().await.unwrap_err();
        assert_eq!(failure_code(&fault), "blocked", "{fault:?}");
        // The kernel makes connections without anybody accepting: one would be waiting here.
        let came = listener.accept();
        assert_eq!(came.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn a_name_that_is_permitted_is_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        let client = hostile(permits(|name, address| {
            name == "localhost" && address.is_loopback()
        }));

        let (_sent, accepted) = tokio::join!(client.get(&url).send(), async {
            listener.accept().await.map(drop)
        });
        accepted.unwrap();
    }
}
