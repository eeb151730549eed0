//! Where a request of a client's may go. A client chooses the URL, we send from inside: only the internet is open, and
//! what the operator opened beside it.

mod doors;
mod nets;

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

pub use doors::{Doors, Place};
pub use nets::{Nets, NetsFault};

/// Of an endpoint's URL, in bytes; also once what lies beyond ASCII is escaped.
const URL_MAX: usize = 2_048;
const TOO_LONG: UrlRefusal = UrlRefusal::InvalidUrl("longer than 2048 bytes");
/// Below 1024, only these.
const PORTS: [u16; 3] = [80, 443, 8443];
/// Names under which nobody outside is found.
const LOCAL_SUFFIXES: [&str; 6] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "svc",
    "home.arpa",
];

/// Where the addresses of an endpoint must lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// On the internet, or in a network that was opened.
    Public,
    /// In a network that was opened.
    InNets,
}

impl Need {
    /// Of a name, as it is resolved. Plain HTTP and names that only mean something here (`receiver`, `hooks.local`) stay
    /// within the networks that were opened.
    pub fn of_name(name: &str, plain_http: bool) -> Self {
        if plain_http || is_local(name) {
            Self::InNets
        } else {
            Self::Public
        }
    }
}

/// Whether a request may go to an address. To be asked of every address of a name, at every connect.
pub fn permits(need: Need, address: IpAddr, nets: &Nets) -> bool {
    nets.contains(address) || (need == Need::Public && nets::is_public(address))
}

/// Why a URL is not taken: what is wrong, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefusal {
    /// It is none, or none that could be sent to.
    #[error("{0}")]
    InvalidUrl(&'static str),
    /// It is one, but nothing is sent there.
    #[error("{0}")]
    Forbidden(&'static str),
}

impl UrlRefusal {
    /// The problem's code.
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidUrl(_) => "invalid_url",
            Self::Forbidden(_) => "endpoint_url_forbidden",
        }
    }
}

/// A URL that may be sent to, as far as can be told without resolving its name. Shown and logged without its path and
/// query, in which clients keep tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl(Url);

impl EndpointUrl {
    /// The whole of it: for its owner, and for the request.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// Its address, when it has no name. A resolver is not asked about that: whoever sends asks [`permits`] each time.
    pub fn literal(&self) -> Option<IpAddr> {
        match self.0.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        }
    }

    /// Its name, when it has one.
    pub fn name(&self) -> Option<&str> {
        match self.0.host() {
            Some(Host::Domain(name)) => Some(name),
            _ => None,
        }
    }

    /// The port that is connected to.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or_default()
    }

    /// Where its addresses must lie.
    pub fn need(&self) -> Need {
        match self.0.host() {
            Some(Host::Domain(name)) => Need::of_name(name, self.is_plain_http()),
            _ if self.is_plain_http() => Need::InNets,
            _ => Need::Public,
        }
    }

    pub fn is_plain_http(&self) -> bool {
        self.0.scheme() == "http"
    }

    /// `https://host:port/…`
    pub fn for_log(&self) -> String {
        format!("{}/…", self.0.origin().ascii_serialization())
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.for_log())
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointUrl({self})")
    }
}

/// Takes a client's URL. Its name is not resolved: that is checked at each connect.
pub fn parse(text: &str, nets: &Nets) -> Result<EndpointUrl, UrlRefusal> {
    let authority = authority(text)?;
    let mut url = Url::parse(text)
        .map_err(|_| UrlRefusal::InvalidUrl("not a URL: write https://HOST/PATH"))?;
    without_trailing_dot(&mut url)?;
    if url.port() == Some(0) {
        return Err(UrlRefusal::InvalidUrl("there is no port 0"));
    }
    if url.as_str().len() > URL_MAX {
        return Err(TOO_LONG);
    }
    let url = EndpointUrl(url);
    let in_nets = url.literal().is_some_and(|address| nets.contains(address));

    // A name may lead into a network that was opened; whether it does is seen when it is resolved.
    let http_open = in_nets || (url.literal().is_none() && !nets.is_empty());
    if url.is_plain_http() && !http_open {
        return Err(UrlRefusal::Forbidden(
            "plain http is not open to this host: use https",
        ));
    }
    if authority.contains('@') {
        return Err(UrlRefusal::Forbidden(
            "a user or password in the URL is not sent: use a header of the endpoint",
        ));
    }
    if url.0.fragment().is_some() {
        return Err(UrlRefusal::Forbidden(
            "a fragment is never sent: leave out what begins with #",
        ));
    }
    check_port(&url.0, in_nets)?;
    check_host(&url, nets)?;
    Ok(url)
}

/// The part between `//` and the path, of a text that can be a URL of ours. Looks at the text itself: a URL's parser
/// drops tabs and line ends, adds slashes, and passes over a userinfo that is empty.
fn authority(text: &str) -> Result<&str, UrlRefusal> {
    if text.len() > URL_MAX {
        return Err(TOO_LONG);
    }
    let stray = |byte: u8| byte <= b' ' || byte == 0x7f || byte == b'\\';
    if text.bytes().any(stray) {
        return Err(UrlRefusal::InvalidUrl(
            "has a space, a control character or a backslash: write it as %HH, or leave it out",
        ));
    }
    let Some((scheme, rest)) = text.split_once(':').filter(|(text, _)| is_scheme(text)) else {
        return Err(UrlRefusal::InvalidUrl(
            "begins with no scheme: use https://",
        ));
    };
    if !["https", "http"]
        .iter()
        .any(|ours| scheme.eq_ignore_ascii_case(ours))
    {
        return Err(UrlRefusal::Forbidden("not an HTTP URL: use https"));
    }
    let authority = rest.strip_prefix("//").unwrap_or_default();
    match authority.split(['/', '?', '#']).next() {
        Some(authority) if !authority.is_empty() => Ok(authority),
        _ => Err(UrlRefusal::InvalidUrl(
            "names no host: write https://HOST/PATH",
        )),
    }
}

fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A name as resolvers know it: lower case and ASCII by now, without the dot that may end it.
fn without_trailing_dot(url: &mut Url) -> Result<(), UrlRefusal> {
    const NO_NAME: UrlRefusal = UrlRefusal::InvalidUrl("its host cannot be a name of the DNS");
    let Some(Host::Domain(told)) = url.host() else {
        return Ok(());
    };
    let name = told.strip_suffix('.').unwrap_or(told);
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(NO_NAME);
    }
    if name.len() < told.len() {
        let name = name.to_owned();
        url.set_host(Some(&name)).map_err(|_| NO_NAME)?;
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len()) && label.bytes().all(known)
}

fn check_port(url: &Url, in_nets: bool) -> Result<(), UrlRefusal> {
    let open = |port| in_nets || port >= 1024 || PORTS.contains(&port);
    if url.port_or_known_default().is_some_and(open) {
        return Ok(());
    }
    Err(UrlRefusal::Forbidden(
        "this port is not for webhooks: use 443, 80, 8443 or one from 1024 on",
    ))
}

fn check_host(url: &EndpointUrl, nets: &Nets) -> Result<(), UrlRefusal> {
    match url.literal() {
        Some(address) if !permits(url.need(), address, nets) => Err(UrlRefusal::Forbidden(
            "this address is not on the internet: use one that is public",
        )),
        None if url.need() == Need::InNets && nets.is_empty() => Err(UrlRefusal::Forbidden(
            "this name means nothing on the internet: use one that is public",
        )),
        _ => Ok(()),
    }
}

fn is_local(name: &str) -> bool {
    let is_or_ends = |suffix: &&str| {
        let above = name.strip_suffix(*suffix);
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    };
    !name.contains('.') || LOCAL_SUFFIXES.iter().any(is_or_ends)
}

#[cfg(test)]
mod tests;
