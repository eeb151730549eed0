//! What a gateway without keys answers: programs of this machine and of named hosts, and no page of another site. A
//! browser sends what a page tells it to, and a name that the page's owner turns to loopback leads here.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::{HeaderValue, Method};
use runtime::config::List;
use runtime::problem::{Code, Problem};
use schema::names;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Paths that answer any host: probes know theirs by address, and Stripe signs what it sends.
const ANY_HOST: [&str; 3] = [names::INGEST_STRIPE, names::HEALTHZ, names::READYZ];

/// A host as it is written in `Host` and `Origin`, in small letters and without the dot of an absolute name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Authority {
    host: String,
    port: Option<u16>,
}

/// The hosts that an open gateway takes beside loopback.
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts(Vec<Authority>);

/// An item of the list, by its place, that is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("item {0} is not `host` or `host:port`")]
pub struct HostFault(usize);

impl AllowedHosts {
    /// An item without a port stands for every port.
    pub fn parse(list: &List) -> Result<Self, HostFault> {
        let parsed = list.0.iter().enumerate().map(|(index, item)| {
            let authority = Authority::parse(item);
            authority.ok_or(HostFault(index + 1))
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a page of another site, or under another name, may have sent the request. For a gateway without keys: no
    /// page can send one.
    pub fn check(&self, head: &Parts) -> Result<(), Problem> {
        let path = head.uri.path();
        if !ANY_HOST.contains(&path) && !self.takes_host(&head.headers) {
            return Err(Code::HostNotAllowed.because(
                "without keys only loopback and the names in GATEWAY_ALLOWED_HOSTS are answered",
            ));
        }
        if is_change(&head.method) && path != names::INGEST_STRIPE && self.is_foreign(&head.headers)
        {
            return Err(Code::OriginNotAllowed
                .because("without keys no page of another site may change anything"));
        }
        Ok(())
    }

    /// Whether the request is for this gateway by a name of its own.
    pub fn takes_host(&self, headers: &HeaderMap) -> bool {
        let host = host_of(headers);
        host.is_some_and(|host| host.is_loopback() || self.names(&host, host.port))
    }

    fn is_foreign(&self, headers: &HeaderMap) -> bool {
        let own = host_of(headers);
        let from_elsewhere = |origin: &HeaderValue| !self.takes_origin(origin, own.as_ref());
        let across = |site: &HeaderValue| site.as_bytes().eq_ignore_ascii_case(b"cross-site");
        headers.get_all(header::ORIGIN).iter().any(from_elsewhere)
            || headers.get_all(&SEC_FETCH_SITE).iter().any(across)
    }

    /// An origin is ours where it is what the request was sent to, or named. `null` is neither.
    fn takes_origin(&self, origin: &HeaderValue, own: Option<&Authority>) -> bool {
        let Some((default_port, origin)) = origin.to_str().ok().and_then(split_scheme) else {
            return false;
        };
        let Some(origin) = Authority::parse(origin) else {
            return false;
        };
        let port = origin.port.unwrap_or(default_port);
        let is_own =
            |own: &Authority| own.host == origin.host && own.port.unwrap_or(default_port) == port;
        own.is_some_and(is_own) || self.names(&origin, Some(port))
    }

    fn names(&self, authority: &Authority, port: Option<u16>) -> bool {
        let is_named = |allowed: &Authority| {
            allowed.host == authority.host && (allowed.port.is_none() || allowed.port == port)
        };
        self.0.iter().any(is_named)
    }
}

impl Authority {
    /// `None` for what is no name or address with an optional port: user names, zones, blanks, a port beyond its range.
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = split_port(text)?;
        let port = match port {
            Some(digits) => Some(parse_port(digits)?),
            None => None,
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let is_address = host.starts_with('[');
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        (is_address || (!host.is_empty() && host.bytes().all(is_name)))
            .then_some(Self { host, port })
    }

    /// Names that browsers and resolvers turn to loopback by themselves (RFC 6761), and its addresses.
    fn is_loopback(&self) -> bool {
        let host = self.host.as_str();
        if let Some(v6) = host.strip_prefix('[') {
            return ipv6(v6).is_some_and(|address| address.to_canonical().is_loopback());
        }
        host == "localhost"
            || (host.ends_with(".localhost") && !host.starts_with('.'))
            || host
                .parse()
                .is_ok_and(|address: Ipv4Addr| address.is_loopback())
    }
}

fn host_of(headers: &HeaderMap) -> Option<Authority> {
    Authority::parse(headers.get(header::HOST)?.to_str().ok()?)
}

/// The address within brackets whose opening one is gone. A zone is no part of what another machine can mean.
fn ipv6(rest: &str) -> Option<Ipv6Addr> {
    rest.strip_suffix(']')?.parse().ok()
}

fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if text.starts_with('[') {
        let (address, port) = text.split_at(text.find(']')? + 1);
        ipv6(&address[1..])?;
        return match port.strip_prefix(':') {
            Some(digits) => Some((address, Some(digits))),
            None => port.is_empty().then_some((address, None)),
        };
    }
    Some(match text.split_once(':') {
        Some((host, digits)) => (host, Some(digits)),
        None => (text, None),
    })
}

fn parse_port(digits: &str) -> Option<u16> {
    let only_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| only_digits)
}

/// The default port of an origin's scheme, and what stands behind it.
fn split_scheme(origin: &str) -> Option<(u16, &str)> {
    let (scheme, rest) = origin.split_once("://")?;
    match scheme {
        "http" => Some((80, rest)),
        "https" => Some((443, rest)),
        _ => None,
    }
}

/// Whether a call with this method may change something here. Nothing that is asked with the others does.
pub fn is_change(method: &Method) -> bool {
    !matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    )
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn allowed() -> AllowedHosts {
        AllowedHosts::parse(&List::of(&[
            "Gateway",
            "dash.example:8080",
            "[2001:DB8::1]",
        ]))
        .unwrap()
    }

    fn code(method: &str, path: &str, headers: &[(&str, &str)]) -> Option<Code> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        allowed().check(&head).err().map(|problem| problem.code)
    }

    #[test]
    fn only_loopback_and_named_hosts_are_answered() {
        for host in [
            "localhost",
            "localhost:3000",
            "LocalHost:1",
            "localhost.",
            "localhost.:3000",
            "a.localhost:3000",
            "127.0.0.1",
            "127.0.0.1:3000",
            "127.255.0.9:65535",
            "[::1]",
            "[::1]:3000",
            "[0:0:0:0:0:0:0:1]:3000",
            "[::ffff:127.0.0.1]",
            "gateway",
            "GATEWAY:3000",
            "gateway.",
            "dash.example:8080",
            "[2001:db8::1]:3000",
        ] {
            assert_eq!(code("GET", "/events", &[("host", host)]), None, "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:3000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evillocalhost",
            ".localhost",
            "localhost..",
            "localhost@evil.example",
            "user@localhost",
            "localhost:3000@evil.example",
            "localhost:",
            "localhost:x",
            "localhost:+1",
            "localhost:65536",
            "localhost:3000:1",
            "localhost/",
            "localhost,evil.example",
            "loc alhost",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "127.0.0.01",
            "0.0.0.0",
            "10.0.0.1:3000",
            "128.0.0.1",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[::1%25lo]",
            "[fe80::1%eth0]",
            "[::]",
            "[]",
            "[2001:db8::2]",
            "dash.example",
            "dash.example:8081",
            "notgateway",
        ] {
            let refused = Some(Code::HostNotAllowed);
            assert_eq!(code("GET", "/events", &[("host", host)]), refused, "{host}");
        }
    }

    #[test]
    fn probes_and_stripe_come_by_any_host() {
        let host = ("host", "evil.example");
        for (method, path) in [
            ("POST", "/ingest/stripe"),
            ("GET", "/healthz"),
            ("GET", "/readyz"),
        ] {
            assert_eq!(code(method, path, &[host]), None, "{path}");
        }
        for path in [
            "/healthz/",
            "/ingest/stripe/",
            "/Healthz",
            "/metrics",
            "/docs",
        ] {
            assert_eq!(
                code("GET", path, &[host]),
                Some(Code::HostNotAllowed),
                "{path}"
            );
        }
    }

    #[test]
    fn a_host_said_by_a_proxy_that_nobody_vouches_for_counts_for_nothing() {
        for name in ["x-forwarded-host", "forwarded", "x-host", "x-original-host"] {
            let headers = [("host", "evil.example"), (name, "localhost")];
            assert_eq!(code("GET", "/events", &headers), Some(Code::HostNotAllowed));
            let headers = [("host", "localhost"), (name, "evil.example")];
            assert_eq!(code("GET", "/events", &headers), None);
        }
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let own = [
            ("localhost:3000", "http://localhost:3000"),
            ("localhost:3000", "http://LOCALHOST:3000"),
            ("localhost", "http://localhost"),
            ("localhost:80", "http://localhost"),
            ("localhost", "http://localhost:80"),
            ("gateway", "https://gateway"),
            ("gateway:443", "https://gateway"),
            ("[::1]:3000", "http://[::1]:3000"),
            ("127.0.0.1:3000", "http://gateway:9999"),
            ("127.0.0.1:3000", "https://dash.example:8080"),
        ];
        for (host, origin) in own {
            let headers = [("host", host), ("origin", origin)];
            assert_eq!(code("POST", "/events", &headers), None, "{host} {origin}");
        }
        for origin in [
            "null",
            "",
            "http://evil.example",
            "http://localhost",
            "http://localhost:4000",
            "http://127.0.0.1:3000",
            "http://localhost:3000/",
            "http://localhost:3000@evil.example",
            "http://evil.example@localhost:3000",
            "http://localhost:3000 http://evil.example",
            "//localhost:3000",
            "localhost:3000",
            "file://",
            "chrome-extension://localhost:3000",
            "http://dash.example",
        ] {
            for method in ["POST", "PATCH", "DELETE", "PUT", "ODD"] {
                let headers = [("host", "localhost:3000"), ("origin", origin)];
                let refused = Some(Code::OriginNotAllowed);
                assert_eq!(
                    code(method, "/events", &headers),
                    refused,
                    "{method} {origin}"
                );
            }
        }
        let two = [
            ("host", "localhost"),
            ("origin", "http://localhost"),
            ("origin", "null"),
        ];
        assert_eq!(code("POST", "/events", &two), Some(Code::OriginNotAllowed));
    }

    #[test]
    fn what_a_browser_says_came_from_another_site_changes_nothing() {
        for (site, refused) in [
            ("cross-site", true),
            ("Cross-Site", true),
            ("same-origin", false),
            ("same-site", false),
            ("none", false),
        ] {
            let headers = [("host", "localhost:3000"), ("sec-fetch-site", site)];
            let expected = refused.then_some(Code::OriginNotAllowed);
            assert_eq!(code("POST", "/events", &headers), expected, "{site}");
        }
    }

    #[test]
    fn what_only_reads_and_what_is_signed_needs_no_origin_of_ours() {
        let headers = [
            ("host", "localhost:3000"),
            ("origin", "http://evil.example"),
            ("sec-fetch-site", "cross-site"),
        ];
        for (method, path) in [
            ("GET", "/events"),
            ("HEAD", "/events"),
            ("OPTIONS", "/events"),
            ("POST", "/ingest/stripe"),
        ] {
            assert_eq!(code(method, path, &headers), None, "{method} {path}");
        }
    }

    #[test]
    fn a_list_that_cannot_be_used_is_told_by_its_place() {
        for (items, place) in [
            (vec!["http://gateway"], 1),
            (vec!["gateway", "a:b"], 2),
            (vec!["*"], 1),
            (vec!["::1"], 1),
            (vec!["a/b"], 1),
        ] {
            let fault = AllowedHosts::parse(&List::of(&items)).unwrap_err();
            assert_eq!(fault, HostFault(place), "{items:?}");
        }
    }
}
