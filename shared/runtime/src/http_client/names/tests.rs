use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Instant;

use hickory_resolver::config::ConnectionConfig;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::*;

impl Names {
    /// Asks this server, and the system nothing.
    pub(in super::super) fn of(server: SocketAddr) -> Self {
        Self::searching(server, &[], "")
    }

    /// Asks this server, with these search domains, after these lines of hosts.
    pub(in super::super) fn searching(server: SocketAddr, domains: &[&str], hosts: &str) -> Self {
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![connection]);
        let domains = domains.iter().map(|domain| domain.parse().unwrap());
        let config = ResolverConfig::from_parts(None, domains.collect(), vec![server]);
        let resolver = asking(config, ResolverOpts::default()).unwrap();
        let mut pinned = Hosts::default();
        pinned.read_hosts_conf(hosts.as_bytes()).unwrap();
        let read = Read {
            hosts: Arc::new(pinned),
            resolver,
        };
        let stamp = READ.map(|path| fs::metadata(path).and_then(|file| file.modified()).ok());
        Self {
            read: Mutex::new(Some((stamp, read))),
        }
    }
}

/// A server of the DNS on loopback. It answers 127.0.0.1, the empty answer for AAAA, for names that begin with `none` that
/// there is no such name, and for names that begin with `hang` nothing.
pub(in super::super) struct Server {
    pub(in super::super) address: SocketAddr,
    /// How many names that hang it was asked about.
    hanging: watch::Receiver<usize>,
}

impl Server {
    /// So many may ask at once: what comes beyond its buffer, a socket drops.
    pub(in super::super) const PORTION: usize = 50;

    pub(in super::super) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (told, hanging) = watch::channel(0);
        tokio::spawn(async move {
            let mut names = HashSet::new();
            let mut question = [0; 512];
            while let Ok((length, asker)) = socket.recv_from(&mut question).await {
                let question = &question[..length];
                let name = question[12..].split(|&byte| byte == 0).next().unwrap();
                if name[1..].starts_with(b"hang") {
                    names.insert(name.to_vec());
                    told.send_replace(names.len());
                } else {
                    let answer = answer(question, name.len());
                    let _sent = socket.send_to(&answer, asker).await;
                }
            }
        });
        Self { address, hanging }
    }

    pub(in super::super) async fn until_hanging(&mut self, names: usize) {
        self.hanging.wait_for(|came| *came >= names).await.unwrap();
    }
}

fn answer(question: &[u8], name: usize) -> Vec<u8> {
    let asked = &question[12..12 + name + 5];
    let is_known = !asked[1..].starts_with(b"none");
    let has_address = is_known && asked[name + 1..name + 3] == [0, 1];
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, if is_known { 0x80 } else { 0x83 }]);
    answer.extend([0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    answer.extend(asked);
    if has_address {
        // The name again, A, IN, a minute, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    answer
}

#[tokio::test]
async fn a_name_is_looked_up_whatever_signs_it_has() {
    let server = Server::start().await;
    let names = Names::of(server.address);
    for name in [
        "hook.example",
        "mock-pagerduty",
        "my_service",
        "a.b-c.d_e.example",
    ] {
        let found = names.look_up(name).await;
        assert_eq!(found.unwrap(), [IpAddr::from([127, 0, 0, 1])], "{name}");
    }
    assert!(names.look_up("none.example").await.is_err());
}

#[tokio::test]
async fn this_machine_is_known_without_a_server() {
    let found = Names::default().look_up("localhost").await.unwrap();
    assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
}

#[tokio::test]
async fn a_name_that_hangs_ends_before_a_connection_would_however_many_domains_are_searched() {
    let server = Server::start().await;
    for domains in [&[][..], &["a.example.", "b.example.", "c.example."]] {
        let names = Names::searching(server.address, domains, "");
        for name in ["hang", "hang.example"] {
            let began = Instant::now();
            assert!(names.look_up(name).await.is_err());
            let waited = began.elapsed();
            assert!(
                waited < super::super::CONNECT_TIMEOUT,
                "{name}, {domains:?}: {waited:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_name_in_the_hosts_waits_for_no_server() {
    const HOSTS: &str = "192.0.2.1 hang hang.example\n2001:db8::2 hang-six\n192.0.2.3 hang-both\n2001:db8::3 hang-both";
    let server = Server::start().await;
    let names = Names::searching(server.address, &["a.example."], HOSTS);
    for (name, addresses) in [
        ("hang", &["192.0.2.1"][..]),
        ("HANG.example", &["192.0.2.1"]),
        ("hang-six", &["2001:db8::2"]),
        ("hang-both", &["192.0.2.3", "2001:db8::3"]),
    ] {
        let found = names.look_up(name).await.unwrap();
        let found: Vec<String> = found.iter().map(IpAddr::to_string).collect();
        assert_eq!(found, addresses, "{name}");
    }
    assert_eq!(*server.hanging.borrow(), 0);
}

#[tokio::test]
async fn hundreds_of_names_that_hang_delay_no_other() {
    const HANGING: usize = 500;
    let mut server = Server::start().await;
    let names = Arc::new(Names::of(server.address));
    let look_up = |number| {
        let names = Arc::clone(&names);
        tokio::spawn(async move { names.look_up(&format!("hang-{number}.example")).await })
    };
    let mut hanging = Vec::new();
    while hanging.len() < HANGING {
        let next = hanging.len();
        hanging.extend((next..next + Server::PORTION).map(look_up));
        server.until_hanging(hanging.len()).await;
    }

    for number in 0..10 {
        let began = Instant::now();
        let found = names.look_up(&format!("new-{number}.example")).await;
        assert_eq!(found.unwrap().len(), 1);
        assert!(began.elapsed() < Duration::from_secs(1), "{number}");
    }
    for hung in hanging {
        assert!(hung.await.unwrap().is_err());
    }
}
