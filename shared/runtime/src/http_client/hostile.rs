//! For URLs that strangers chose.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use hyper_util::client::legacy::connect::dns::Name;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use rustls::ClientConfig;
use tower::Service;

use super::names::Names;
use super::strangers::Strangers;
use super::{base, build, phases, tls};

/// Whether an address of a name may be connected to.
pub type Permits = Arc<dyn Fn(&str, IpAddr) -> bool + Send + Sync>;

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
    over(LookUp::new(permits, Names::default()), tls)
}

fn over(look_up: LookUp, tls: ClientConfig) -> ClientWithMiddleware {
    let strangers = Strangers::new(look_up, tls);
    ClientBuilder::new(build(base())).with(strangers).build()
}

/// Looks names up, and tells what that took.
#[derive(Clone)]
pub(super) struct LookUp {
    permits: Permits,
    names: Arc<Names>,
}

impl LookUp {
    /// Whatever the name leads to: for URLs that the operator chose.
    pub(super) fn of_anything() -> Self {
        Self::new(Arc::new(|_, _| true), Names::default())
    }

    fn new(permits: Permits, names: Names) -> Self {
        Self {
            permits,
            names: Arc::new(names),
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
        let (permits, names) = (Arc::clone(&self.permits), Arc::clone(&self.names));
        Box::pin(async move {
            let _looking_up = phases::looking_up();
            let addresses = names.look_up(name.as_str()).await?;
            check(name.as_str(), &addresses, &permits)?;
            let with_port = |address| SocketAddr::new(address, 0);
            let found: Vec<_> = addresses.into_iter().map(with_port).collect();
            Ok(found.into_iter())
        })
    }
}

/// All or nothing: an answer that mixes what is permitted with what is not was made by somebody who tries.
fn check(name: &str, addresses: &[IpAddr], permits: &Permits) -> Result<(), Blocked> {
    if addresses.iter().all(|address| permits(name, *address)) {
        Ok(())
    } else {
        Err(Blocked)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::failure_code;
    use super::super::names::tests::Server;
    use super::*;

    fn permits(rule: impl Fn(&str, IpAddr) -> bool + Send + Sync + 'static) -> Permits {
        Arc::new(rule)
    }

    #[test]
    fn one_address_that_is_not_permitted_refuses_the_name() {
        let not_loopback = permits(|_, address| !address.is_loopback());
        for (answer, permitted) in [
            (&["8.8.8.8"][..], true),
            (&["8.8.8.8", "2606:4700:4700::1111"], true),
            (&["127.0.0.1"], false),
            (&["8.8.8.8", "::1"], false),
            (&["::1", "8.8.8.8"], false),
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

    #[tokio::test]
    async fn a_healthy_endpoint_under_a_new_name_is_reached_while_hundreds_of_names_hang() {
        const HANGING: usize = 500;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _read = stream.read(&mut [0; 4096]).await;
                let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                let _written = stream.write_all(answer).await;
            }
        });
        let mut server = Server::start().await;
        let names = Names::of(server.address);
        let client = over(
            LookUp::new(permits(|_, address| address.is_loopback()), names),
            tls::config(),
        );
        let url = |name: &str| format!("http://{name}.example:{port}/hook");
        let mut hanging = Vec::new();
        while hanging.len() < HANGING {
            let next = hanging.len();
            let post = |number| tokio::spawn(client.post(url(&format!("hang-{number}"))).send());
            hanging.extend((next..next + Server::PORTION).map(post));
            server.until_hanging(hanging.len()).await;
        }

        let began = Instant::now();
        let answer = client.post(url("new")).send().await.unwrap();
        assert_eq!(answer.status(), 204);
        assert!(began.elapsed() < Duration::from_secs(1));
        for hung in hanging {
            let fault = hung.await.unwrap().unwrap_err();
            assert_eq!(failure_code(&fault), "dns_error", "{fault:?}");
        }
    }

    #[tokio::test]
    async fn a_name_that_hangs_with_search_domains_is_told_as_one() {
        let server = Server::start().await;
        let names = Names::searching(server.address, &["a.example.", "b.example."], "");
        let client = over(LookUp::new(permits(|_, _| true), names), tls::config());

        let fault = client.post("http://hang/hook").send().await.unwrap_err();

        assert_eq!(failure_code(&fault), "dns_error", "{fault:?}");
    }
}
