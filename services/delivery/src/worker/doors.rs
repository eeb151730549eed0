//! Where our own services are, looked up again and again: a name may get another address, or further ones.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::join_all;
use runtime::http_client::Names;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::domain::egress::{Doors, EndpointUrl, Place};

/// Between two looks: so long a replica that has just come is not known.
const ROUND: Duration = Duration::from_secs(2);
/// How many answers may leave an address out before it is forgotten, five minutes of rounds: a server may tell a part of
/// the addresses at a time. Answers are counted, and not minutes, so that none is forgotten while nobody answers.
const LEFT_OUT_MAX: u64 = 300 / ROUND.as_secs();
/// How long a start waits for the first look.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// The addresses of a name, each with how many answers have left it out since it was told.
type Told = HashMap<SocketAddr, u64>;

/// What is known of where our services answer. By default there is none.
#[derive(Default)]
pub struct OwnDoors {
    places: Vec<Place>,
    names: Names,
    found: Mutex<Found>,
    doors: RwLock<Arc<Doors>>,
}

#[derive(Default)]
struct Found {
    /// Of each place whose name was looked up.
    of_places: Vec<Told>,
    /// Where this process listens.
    own: Option<SocketAddr>,
}

impl OwnDoors {
    /// Behind these URLs. Names are not known before the first look.
    pub fn behind<'a>(urls: impl IntoIterator<Item = &'a Url>) -> Self {
        let places: Vec<_> = urls.into_iter().filter_map(Place::of).collect();
        let found = Found {
            of_places: vec![Told::new(); places.len()],
            own: None,
        };
        let doors = doors(&places, &found);
        Self {
            places,
            names: Names::default(),
            found: Mutex::new(found),
            doors: RwLock::new(Arc::new(doors)),
        }
    }

    /// This process listens there.
    pub fn listen(&self, address: SocketAddr) {
        self.change(|found| found.own = Some(address));
    }

    /// Whether one of our services answers at this address.
    pub fn hold(&self, address: SocketAddr) -> bool {
        self.now().hold(address, is_here)
    }

    /// Whether one of our services has this port, somewhere.
    pub fn have_port(&self, port: u16) -> bool {
        self.now().have_port(port)
    }

    /// Whether a URL leads to one of our services, as far as can be told without resolving its name: by its address, or
    /// by the name that we are told it by ourselves.
    pub fn lead_to(&self, url: &EndpointUrl) -> bool {
        let (name, port) = (url.name(), url.port());
        let is_it = |place: &Place| name.is_some() && place.name() == name && place.port() == port;
        let literal = url.literal();
        literal.is_some_and(|address| self.hold(SocketAddr::new(address, port)))
            || self.places.iter().any(is_it)
    }

    /// The look before anything is sent, within a bound.
    pub async fn look_first(&self) {
        let _in_time = timeout(FIRST_LOOK, self.look()).await;
    }

    /// Looks again and again until the token is cancelled.
    pub async fn watch(&self, shutdown: CancellationToken) {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watching = async {
            loop {
                rounds.tick().await;
                self.look().await;
            }
        };
        shutdown.run_until_cancelled(watching).await;
    }

    /// A name that cannot be looked up says nothing about the addresses it had, and one that hangs keeps no other from
    /// being known.
    async fn look(&self) {
        let looks = self.places.iter().enumerate();
        let looks = looks.map(|(at, place)| async move {
            let Some(name) = place.name() else { return };
            let Ok(addresses) = self.names.look_up(name).await else {
                return;
            };
            let port = place.port();
            let answer = addresses.into_iter();
            let answer = answer.map(|address| SocketAddr::new(address, port));
            self.change(|found| {
                if let Some(told) = found.of_places.get_mut(at) {
                    hear(told, answer);
                }
            });
        });
        join_all(looks).await;
    }

    fn change(&self, change: impl FnOnce(&mut Found)) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut found);
        let doors = Arc::new(doors(&self.places, &found));
        *self.doors.write().unwrap_or_else(PoisonError::into_inner) = doors;
    }

    fn now(&self) -> Arc<Doors> {
        let doors = self.doors.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&doors)
    }
}

/// Takes an answer in. What it leaves out is kept for as many more.
fn hear(told: &mut Told, answer: impl Iterator<Item = SocketAddr>) {
    told.retain(|_, left_out| {
        *left_out += 1;
        *left_out <= LEFT_OUT_MAX
    });
    told.extend(answer.map(|address| (address, 0)));
}

fn doors(places: &[Place], found: &Found) -> Doors {
    let mut doors = Doors::default();
    for (place, told) in places.iter().zip(&found.of_places) {
        if told.is_empty() && place.literal().is_none() {
            doors.add_unknown(place.port());
        }
        for address in told.keys().copied().chain(place.literal()) {
            doors.add(address, is_here(address.ip()));
        }
    }
    if let Some(own) = found.own {
        doors.add(own, true);
    }
    doors
}

/// Whether it is an address of this machine. Nothing is sent.
fn is_here(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified() || is_its_own_source(address)
}

/// Whether a packet to the address may leave from it. A bind alone says nothing where `ip_nonlocal_bind` is set. Beyond it,
/// the kernel takes no foreign source for IPv4; asked which it would choose, it tells the first address of a network for
/// each of ours in it. For IPv6 it takes any, and chooses the address itself where it is ours.
fn is_its_own_source(address: IpAddr) -> bool {
    let from = match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = UdpSocket::bind((from, 0)).and_then(|socket| {
        socket.connect((address, ANY_PORT))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == address)
}

/// Of a packet that is never sent: the kernel wants one.
const ANY_PORT: u16 = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::egress::{self, Nets};

    fn behind(urls: &[&str]) -> OwnDoors {
        let urls: Vec<Url> = urls.iter().map(|url| Url::parse(url).unwrap()).collect();
        OwnDoors::behind(&urls)
    }

    fn hold(doors: &OwnDoors, address: &str) -> bool {
        doors.hold(address.parse().unwrap())
    }

    #[test]
    fn a_listener_on_this_machine_is_ours_at_each_of_its_addresses() {
        let doors = behind(&["http://127.0.0.1:3003", "http://192.0.2.7:3000"]);
        doors.listen("0.0.0.0:3004".parse().unwrap());

        for (address, ours) in [
            ("127.0.0.1:3003", true),
            ("127.0.0.2:3003", true),
            ("127.9.9.9:3004", true),
            ("192.0.2.7:3003", false),
            ("192.0.2.7:3000", true),
            ("127.0.0.1:3000", false),
            ("127.0.0.1:4000", false),
        ] {
            assert_eq!(hold(&doors, address), ours, "{address}");
        }
        assert!(doors.have_port(3004) && !doors.have_port(4000));
    }

    #[test]
    fn an_address_that_answers_leave_out_is_kept_for_as_many_as_five_minutes_have() {
        let address = |last| SocketAddr::from(([10, 0, 0, last], 3000));
        let mut told = Told::new();
        hear(&mut told, [address(1), address(2)].into_iter());
        for _ in 0..LEFT_OUT_MAX {
            hear(&mut told, [address(1)].into_iter());
            assert!(told.contains_key(&address(2)));
        }

        hear(&mut told, [address(1)].into_iter());

        assert_eq!(Vec::from_iter(told.keys()), [&address(1)]);
        assert_eq!(
            ROUND * u32::try_from(LEFT_OUT_MAX).unwrap(),
            Duration::from_secs(300)
        );
    }

    #[test]
    fn an_address_of_another_machine_is_not_here() {
        for (address, here) in [
            ("127.0.0.1", true),
            ("127.8.8.8", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", true),
            ("::", true),
            ("192.0.2.7", false),
            ("8.8.8.8", false),
            ("2001:db8::7", false),
        ] {
            assert_eq!(is_here(address.parse().unwrap()), here, "{address}");
        }
    }

    #[test]
    fn a_url_leads_to_us_by_our_address_or_by_the_name_we_use() {
        let doors = behind(&["http://127.0.0.1:3003", "http://Gateway:3000"]);
        let nets = Nets::parse(&["127.0.0.0/8".to_owned()]).unwrap();
        for (url, ours) in [
            ("http://127.1:3003/hook", true),
            ("https://127.0.0.1:3003/hook", true),
            ("http://127.0.0.1:3001/hook", false),
            ("http://gateway:3000/hook", true),
            ("https://GATEWAY.:3000/hook", true),
            ("http://gateway:4000/hook", false),
            ("http://gateway.example.com:3000/hook", false),
        ] {
            let url = egress::parse(url, &nets).unwrap();
            assert_eq!(doors.lead_to(&url), ours, "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_is_ours_at_all_it_leads_to_and_closes_its_port_until_that_is_known() {
        // Too long a label for any resolver to ask about.
        let nowhere = format!("http://{}:3001", "a".repeat(64));
        let doors = behind(&["http://localhost:3003", &nowhere]);
        assert!(hold(&doors, "10.0.0.1:3003"));

        doors.look_first().await;

        assert!(hold(&doors, "127.0.0.1:3003"));
        assert!(!hold(&doors, "10.0.0.1:3003"));
        assert!(hold(&doors, "10.0.0.1:3001"));
        assert!(!hold(&doors, "8.8.8.8:3001"));
    }
}
