//! Where a URL's name leads when it is registered.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;

use runtime::http_client::Names;
use runtime::problem::{Code, Problem};

use super::refuse;
use crate::domain::egress::{self, Nets};
use crate::domain::requests::Refusal;
use crate::worker::OwnDoors;

/// A name that takes longer is taken as one that is not known yet.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Refuses a URL whose name leads to any address that nothing is sent to. A kindness to whoever mistyped it: a name can
/// lead elsewhere later, so that its addresses are checked again at each connect. One that leads nowhere yet is taken.
pub(super) async fn check(url: &str, nets: &Nets, doors: &OwnDoors) -> Result<(), Problem> {
    let parsed = egress::parse(url, nets).map_err(|fault| refuse::asked(Refusal::Url(fault)))?;
    if doors.lead_to(&parsed) {
        return Err(ours());
    }
    let Some(name) = parsed.name() else {
        return Ok(());
    };
    let Some(addresses) = look_up(name).await else {
        return Ok(());
    };
    let is_ours = |address: &IpAddr| doors.hold(SocketAddr::new(*address, parsed.port()));
    if addresses.iter().any(is_ours) {
        return Err(ours());
    }
    let mut addresses = addresses.iter();
    if addresses.all(|address| egress::permits(parsed.need(), *address, nets)) {
        return Ok(());
    }
    Err(Code::EndpointUrlForbidden
        .because("url: its name leads to an address that is not on the internet"))
}

fn ours() -> Problem {
    Code::EndpointUrlForbidden.because("url: it leads to one of Signalpost's own services")
}

/// `None` where it is not known in time.
async fn look_up(name: &str) -> Option<Vec<IpAddr>> {
    static NAMES: LazyLock<Names> = LazyLock::new(Names::default);
    let in_time = tokio::time::timeout(RESOLVE_TIMEOUT, NAMES.look_up(name)).await;
    in_time.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Nets {
        let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
        Nets::parse(&texts).unwrap()
    }

    #[tokio::test]
    async fn a_name_is_refused_for_where_it_leads() {
        let none = OwnDoors::default();
        let (here, elsewhere) = (nets(&["127.0.0.0/8", "::1"]), nets(&["10.0.0.0/8"]));
        assert!(check("https://localhost/hook", &here, &none).await.is_ok());
        let refused = check("https://localhost/hook", &elsewhere, &none).await;
        assert_eq!(refused.unwrap_err().code, Code::EndpointUrlForbidden);
    }

    #[tokio::test]
    async fn what_leads_to_our_own_services_is_refused_whatever_is_open() {
        let open = nets(&["0.0.0.0/0", "::/0"]);
        let urls = ["http://127.0.0.1:3003", "http://event-store:3003"];
        let urls = urls.map(|url| url::Url::parse(url).unwrap());
        let doors = OwnDoors::behind(&urls);
        for url in [
            "http://127.0.0.1:3003/hook",
            "https://127.0.0.2:3003/hook",
            "http://0.0.0.0:3003/hook",
            "http://[::ffff:127.0.0.1]:3003/hook",
            "http://localhost:3003/hook",
            "http://event-store:3003/hook",
        ] {
            let refused = check(url, &open, &doors).await.unwrap_err();
            assert_eq!(refused.code, Code::EndpointUrlForbidden, "{url}");
            assert!(refused.detail.contains("own services"), "{url}");
        }
        for url in ["http://localhost:3004/hook", "http://127.0.0.1:4000/hook"] {
            assert!(check(url, &open, &doors).await.is_ok(), "{url}");
        }
    }

    #[tokio::test]
    async fn an_address_is_not_looked_up() {
        let (closed, none) = (Nets::default(), OwnDoors::default());
        assert!(check("https://1.1.1.1/", &closed, &none).await.is_ok());
        let refused = check("https://127.0.0.1/", &closed, &none).await;
        assert_eq!(refused.unwrap_err().code, Code::EndpointUrlForbidden);
    }
}
