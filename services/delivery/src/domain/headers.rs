//! Headers that a client wants with its deliveries.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};

const COUNT_MAX: usize = 20;
const NAME_MAX: usize = 64;
const VALUE_MAX: usize = 1_024;

/// Of one connection, or of the body, or of the one who sends: not a client's to say.
const RESERVED: [&str; 10] = [
    "connection",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-correlation-id",
];
/// As above, for all that begin so.
const RESERVED_PREFIXES: [&str; 4] = ["content-", "proxy-", "webhook-", "x-signalpost-"];

/// Why a header is not taken. What it says is never told: it may be a key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("header {name:?}: {why}")]
pub struct HeaderRefusal {
    /// As it was given, cut at 64 characters.
    pub name: String,
    pub why: &'static str,
}

/// Takes an endpoint's headers, by name and value. They are sent as they are; the values show in no log.
pub fn parse(told: &BTreeMap<String, String>) -> Result<HeaderMap, HeaderRefusal> {
    let mut headers = HeaderMap::with_capacity(told.len().min(COUNT_MAX));
    for (name, value) in told {
        let (header, value) = one(name, value).map_err(|why| fault(name, why))?;
        if headers.len() == COUNT_MAX {
            return Err(fault(name, "one more than the 20 that are taken"));
        }
        if headers.insert(header, value).is_some() {
            return Err(fault(name, "given twice, in other letters"));
        }
    }
    Ok(headers)
}

fn fault(name: &str, why: &'static str) -> HeaderRefusal {
    let name = name.chars().take(NAME_MAX).collect();
    HeaderRefusal { name, why }
}

fn one(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    if name.len() > NAME_MAX {
        return Err("its name is longer than 64 bytes");
    }
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| "its name is none: use letters, digits and hyphens")?;
    let begins = |prefix: &&str| name.as_str().starts_with(*prefix);
    if RESERVED.contains(&name.as_str()) || RESERVED_PREFIXES.iter().any(begins) {
        return Err("not for an endpoint to set: leave it out");
    }
    if value.len() > VALUE_MAX {
        return Err("its value is longer than 1024 bytes");
    }
    let sendable = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
    if !value.bytes().all(sendable) || value.trim_ascii() != value {
        return Err("its value must be printable ASCII, without blanks at its ends");
    }
    let mut value = HeaderValue::from_str(value).map_err(|_| "its value cannot be sent")?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "canary";

    fn told(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter().copied();
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn a_header_that_harms_nobody_is_taken() {
        let longest = "n".repeat(64);
        let most = "v".repeat(1_024);
        for (name, value) in [
            ("Authorization", "Bearer abc.def"),
            ("X-Api-Key", "a b\tc"),
            ("user-agent", "theirs/1"),
            ("accept", "*/*"),
            ("x-empty", ""),
            ("webhook", "x"),
            ("x_under.score~", "!\"#~"),
            (&longest, &most),
        ] {
            let headers = parse(&told(&[(name, value)])).unwrap();
            assert_eq!(headers[name], value, "{name}");
            assert!(headers[name].is_sensitive(), "{name}");
            assert!(!format!("{headers:?}").contains("abc.def"));
        }
    }

    #[test]
    fn a_header_that_is_not_the_clients_to_say_is_refused() {
        for name in [
            "Connection",
            "keep-alive",
            "Proxy-Authorization",
            "proxy-connection",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "upgrade",
            "Host",
            "Content-Type",
            "content-length",
            "Content-Encoding",
            "Expect",
            "Cookie",
            "webhook-id",
            "Webhook-Signature",
            "X-Signalpost-Lane",
            "x-correlation-id",
        ] {
            let fault = parse(&told(&[(name, CANARY)])).unwrap_err();
            assert_eq!(fault.name, name);
            assert_eq!(
                fault.why, "not for an endpoint to set: leave it out",
                "{name}"
            );
        }
    }

    #[test]
    fn what_cannot_be_sent_as_it_is_is_refused_and_not_repeated() {
        let (long_name, long_value) = ("n".repeat(65), CANARY.repeat(171));
        for (name, value) in [
            ("", CANARY),
            ("two words", CANARY),
            ("colon:", CANARY),
            ("line\r\nx", CANARY),
            ("näme", CANARY),
            (&long_name, CANARY),
            ("x-long", &long_value),
            ("x-line", "canary\r\nx: y"),
            ("x-nul", "canary\0"),
            ("x-escape", "canary\u{1b}[31m"),
            ("x-delete", "canary\u{7f}"),
            ("x-letter", "canary é"),
            ("x-before", " canary"),
            ("x-after", "canary\t"),
            ("x-blank", " "),
        ] {
            let fault = parse(&told(&[(name, value)])).unwrap_err();
            assert!(name.starts_with(&fault.name), "{fault}");
            assert!(!fault.to_string().contains(CANARY), "{fault}");
            assert!(!format!("{fault:?}").contains(CANARY), "{fault}");
        }
    }

    #[test]
    fn there_are_at_most_twenty_and_each_once() {
        let numbered = |count: usize| -> BTreeMap<_, _> {
            (0..count)
                .map(|n| (format!("x-{n:02}"), CANARY.to_owned()))
                .collect()
        };
        assert_eq!(parse(&numbered(20)).unwrap().len(), 20);
        assert_eq!(parse(&numbered(21)).unwrap_err().name, "x-20");
        let twice = parse(&told(&[("X-Key", "a"), ("x-key", "b")])).unwrap_err();
        assert_eq!(twice.why, "given twice, in other letters");
        assert!(parse(&BTreeMap::new()).unwrap().is_empty());
    }
}
