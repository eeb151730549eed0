//! Configuration: environment over `.env` over the default in code.
//!
//! A service declares one flat struct with `#[serde(default)]` and a [`Default`]; a variable that is set but empty
//! counts as absent, and hides the one in `.env`. Every complaint is reported at once.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// What a service can be told.
pub trait Config: DeserializeOwned + Default {
    /// What is missing or does not fit together; empty when the service may start.
    fn complaints(&self) -> Vec<String>;

    /// Where the service listens.
    fn listen_addr(&self) -> String;
}

/// Everything that is wrong with the configuration, one complaint a line.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has {} fault(s):\n  {}", .0.len(), .0.join("\n  "))]
pub struct Faults(pub Vec<String>);

/// Reads the process environment over `.env` in the working directory.
pub fn from_env<C: Config>() -> Result<C, Faults> {
    let mut variables = from_file(Path::new(".env"))?;
    for (name, value) in std::env::vars_os() {
        // A name or value that is not UTF-8 cannot be one of ours.
        if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string())
            && !is_of_kubernetes(&name, &value)
        {
            variables.insert(name, value);
        }
    }
    from_variables(variables)
}

/// `EVENT_STORE_PORT=tcp://10.0.0.1:3003`: Kubernetes tells every container of a service that is named `event-store` so. It
/// says where that service is, not where ours listens, and is no setting of anybody's.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let schemes = ["tcp://", "udp://", "sctp://"];
    name.ends_with("_PORT")
        && schemes
            .iter()
            .any(|scheme| value.trim().starts_with(scheme))
}

/// A variable of the process environment alone, unless it is empty.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where configuration is read"
)]
pub fn of_the_environment(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?;
    (!value.trim().is_empty()).then_some(value)
}

/// The variables of a file; none where there is no file. No value is told in a fault: it may be a secret.
fn from_file(path: &Path) -> Result<BTreeMap<String, String>, Faults> {
    let complain = |why: String| Faults(vec![format!("{}: {why}", path.display())]);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(fault) if fault.kind() == io::ErrorKind::InvalidData => {
            return Err(complain("is not UTF-8: save it as UTF-8".to_owned()));
        }
        Err(fault) => return Err(complain(format!("cannot be read: {fault}"))),
    };
    let line = Cell::new(0);
    // Editors of Windows begin a file with it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = Lines {
        rest: text.as_bytes(),
        read: &line,
    };
    dotenvy::from_read_iter(lines)
        .collect::<Result<_, _>>()
        .map_err(|_| {
            complain(format!(
                "the entry that ends on line {} is not `NAME=value`; quote a value with blanks",
                line.get()
            ))
        })
}

/// Gives out one line at a time, so that what was read tells where a reader is.
struct Lines<'a> {
    rest: &'a [u8],
    read: &'a Cell<usize>,
}

impl io::Read for Lines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line = self.rest.split_inclusive(|byte| *byte == b'\n').next();
        let length = line.map_or(0, <[u8]>::len).min(buffer.len());
        let (given, rest) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(given);
        self.rest = rest;
        let ends = given.ends_with(b"\n") || (length > 0 && rest.is_empty());
        self.read.set(self.read.get() + usize::from(ends));
        Ok(length)
    }
}

/// As [`from_env`], from given variables.
pub fn from_variables<C: Config>(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<C, Faults> {
    let given: Vec<(String, String)> = variables
        .into_iter()
        // A secret that is mounted as a file often ends in a line end.
        .map(|(name, value)| (name, value.trim().to_owned()))
        .filter(|(name, value)| !value.is_empty() && !is_of_kubernetes(name, value))
        .collect();
    // envy stops at the first fault; every field has a default, so each variable can be tried alone.
    let mut faults = Vec::new();
    let mut readable = Vec::with_capacity(given.len());
    for variable in given {
        match envy::from_iter::<_, C>([variable.clone()]) {
            Ok(_) => readable.push(variable),
            Err(fault) => faults.push(format!("{}: {fault}", variable.0)),
        }
    }
    let config: C = envy::from_iter(readable).map_err(|fault| Faults(vec![fault.to_string()]))?;
    faults.extend(config.complaints());
    if faults.is_empty() {
        Ok(config)
    } else {
        Err(Faults(faults))
    }
}

/// A comma-separated list; blanks around items and empty items are dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(pub Vec<String>);

impl List {
    pub fn of(items: &[&str]) -> Self {
        Self(items.iter().map(|item| (*item).to_owned()).collect())
    }

    /// The items of a comma-separated text.
    pub(crate) fn of_text(text: &str) -> Self {
        let items = text.split(',').map(str::trim);
        Self(
            items
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self::of_text(&text))
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// Comma-separated secrets. They never show in Debug output.
#[derive(Clone, Default)]
pub struct Secrets(Vec<secrecy::SecretString>);

impl Secrets {
    pub fn of(secrets: &[&str]) -> Self {
        Self(secrets.iter().map(|secret| (*secret).into()).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The secrets themselves, for the one place that uses them.
    pub fn expose(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(secrecy::ExposeSecret::expose_secret)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} redacted]", self.0.len())
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let List(items) = List::deserialize(deserializer)?;
        Ok(Self(items.into_iter().map(Into::into).collect()))
    }
}

/// A complaint unless the text is a host and port that can be listened on.
pub fn complain_of_listen_addr(complaints: &mut Vec<String>, name: &str, host: &str, port: u16) {
    let bracketed = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    if bracketed.parse::<SocketAddr>().is_err() && host != "localhost" {
        complaints.push(format!("{name}_HOST: `{host}` is not an IP address"));
    }
}

/// `host:port`, with the brackets that IPv6 needs.
pub fn listen_addr(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(default)]
    struct Example {
        example_port: u16,
        example_limit: u32,
        example_flag: bool,
        example_urls: List,
        example_secret: Secrets,
    }

    impl Default for Example {
        fn default() -> Self {
            Self {
                example_port: 3000,
                example_limit: 10,
                example_flag: false,
                example_urls: List::default(),
                example_secret: Secrets::default(),
            }
        }
    }

    impl Config for Example {
        fn complaints(&self) -> Vec<String> {
            if self.example_secret.is_empty() {
                vec!["EXAMPLE_SECRET: required".to_owned()]
            } else {
                Vec::new()
            }
        }

        fn listen_addr(&self) -> String {
            listen_addr("127.0.0.1", self.example_port)
        }
    }

    fn read(variables: &[(&str, &str)]) -> Result<Example, Faults> {
        from_variables(
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let faults = read(&[
            ("EXAMPLE_PORT", "eighty"),
            ("EXAMPLE_LIMIT", "-1"),
            ("EXAMPLE_FLAG", "1"),
        ])
        .unwrap_err();
        let text = faults.to_string();
        for name in [
            "EXAMPLE_PORT",
            "EXAMPLE_LIMIT",
            "EXAMPLE_FLAG",
            "EXAMPLE_SECRET",
        ] {
            assert!(text.contains(name), "{text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_complained_of_without_telling_its_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        assert!(from_file(&path).unwrap().is_empty());

        for (text, told) in [
            ("A=1\n# comment\n\nB=canary ca nary\nC=3\n", "line 4 "),
            ("A=1\n  canary\n", "line 2 "),
            ("A=1\nB='canary\ncanary\n", "line 3 "),
        ] {
            std::fs::write(&path, text).unwrap();
            let fault = from_file(&path).unwrap_err().to_string();
            assert!(fault.contains(told) && !fault.contains("canary"), "{fault}");
        }
        std::fs::write(&path, "A=1\nB='2 3'\n").unwrap();
        assert_eq!(from_file(&path).unwrap()["B"], "2 3");
        // A folder is there and cannot be read, whoever asks.
        let fault = from_file(folder.path()).unwrap_err().to_string();
        assert!(fault.contains("cannot be read"), "{fault}");
    }

    #[test]
    fn a_file_is_read_as_people_and_their_editors_write_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        for text in [
            "A='1 2'\n",
            "\u{feff}A='1 2'\n",
            "\u{feff}# comment\r\nA=\"1 2\"\r\n",
            "export A='1 2'   \n",
            "  A = '1 2' # comment\n",
            "A=first\nA='1 2'\n",
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(from_file(&path).unwrap()["A"], "1 2", "{text:?}");
        }
        for bytes in [&b"A=caf\xe9\n"[..], b"\xff\xfeA\0=\x001\0"] {
            std::fs::write(&path, bytes).unwrap();
            let fault = from_file(&path).unwrap_err().to_string();
            assert!(fault.contains("save it as UTF-8"), "{fault}");
        }
    }

    #[test]
    fn what_kubernetes_injects_for_a_service_of_that_name_is_no_setting() {
        for value in [
            "tcp://10.0.0.1:3001",
            "udp://10.0.0.1:53",
            " tcp://[fd00::1]:3001",
        ] {
            let config = read(&[("EXAMPLE_PORT", value), ("EXAMPLE_SECRET", "s")]).unwrap();
            assert_eq!(config.example_port, 3000, "{value}");
        }
        for value in [
            "10.0.0.1:3001",
            "http://10.0.0.1:3001",
            "65536",
            "-1",
            "0x50",
        ] {
            let told = read(&[("EXAMPLE_PORT", value), ("EXAMPLE_SECRET", "s")]).unwrap_err();
            assert!(told.to_string().contains("EXAMPLE_PORT"), "{told}");
        }
    }

    #[test]
    fn blanks_and_line_ends_around_a_value_are_none_of_it() {
        let config = read(&[
            ("EXAMPLE_PORT", "3005\n"),
            ("EXAMPLE_FLAG", " true\r\n"),
            ("EXAMPLE_SECRET", "s\n"),
        ])
        .unwrap();
        assert_eq!((config.example_port, config.example_flag), (3005, true));
        assert_eq!(config.example_secret.expose().collect::<Vec<_>>(), ["s"]);
    }

    #[test]
    fn an_empty_variable_counts_as_absent() {
        let config = read(&[("EXAMPLE_PORT", ""), ("EXAMPLE_SECRET", "s")]).unwrap();
        assert_eq!(config.example_port, 3000);
        assert!(read(&[("EXAMPLE_SECRET", " ")]).is_err());
    }

    #[test]
    fn lists_are_trimmed_and_secrets_do_not_show() {
        let config = read(&[
            ("EXAMPLE_URLS", "a, b,,"),
            ("EXAMPLE_SECRET", "canary-1,canary-2\n"),
        ])
        .unwrap();
        assert_eq!(config.example_urls, List::of(&["a", "b"]));
        assert_eq!(
            config.example_secret.expose().collect::<Vec<_>>(),
            ["canary-1", "canary-2"]
        );
        assert!(!format!("{config:?}").contains("canary"));
    }
}
