use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::nets::{GLOBAL_V6, RESERVED_V4, RESERVED_V6};
use super::*;

const TABLE: &str = include_str!("../../../../../fixtures/security/endpoint_urls.tsv");

fn nets(texts: &[&str]) -> Nets {
    Nets::parse(&texts.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Reads the escapes that the table's head describes.
fn unescaped(text: &str) -> String {
    let mut read = String::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match next {
            '\\' => read.push(match rest.next().unwrap() {
                't' => '\t',
                'r' => '\r',
                'n' => '\n',
                '0' => '\0',
                '\\' => '\\',
                'x' => {
                    let digits: String = rest.by_ref().take(2).collect();
                    u8::from_str_radix(&digits, 16).unwrap().into()
                }
                other => panic!("\\{other} is no escape"),
            }),
            '{' => {
                let inside: String = rest.by_ref().take_while(|next| *next != '}').collect();
                let (times, what) = inside.split_once('*').unwrap();
                read.push_str(&what.repeat(times.parse().unwrap()));
            }
            _ => read.push(next),
        }
    }
    read
}

/// Each URL of the table with its code.
fn vectors() -> Vec<(String, &'static str)> {
    let rows = TABLE.lines().filter(|row| !row.starts_with('#'));
    rows.flat_map(|row| {
        let [form, text, code] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{row:?} has not three columns");
        };
        let text = unescaped(text);
        let over_http = if code == "ok" {
            "endpoint_url_forbidden"
        } else {
            code
        };
        match form {
            "host" => vec![
                (format!("https://{text}/hook"), code),
                (format!("http://{text}/hook"), over_http),
            ],
            "url" => vec![(text, code)],
            _ => panic!("{row:?} has no known form"),
        }
    })
    .collect()
}

#[test]
fn every_url_of_the_table_gets_its_code() {
    let vectors = vectors();
    assert!(vectors.len() > 250, "{}", vectors.len());
    let wrong: Vec<_> = vectors
        .iter()
        .map(|(url, code)| (url, *code, parse(url, &Nets::default())))
        .filter(|(_, code, parsed)| {
            parsed.as_ref().map_or_else(|fault| fault.code(), |_| "ok") != *code
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_open_network_admits_what_lies_in_it_and_nothing_else() {
    let loopback = nets(&["127.0.0.0/8", "::1/128"]);
    for (url, code) in [
        ("http://127.0.0.1:9000/hook", "ok"),
        ("http://127.0.0.1:22/hook", "ok"),
        ("http://2130706433/hook", "ok"),
        ("https://127.8.8.8/hook", "ok"),
        ("http://[::1]:9000/hook", "ok"),
        ("http://[::ffff:127.0.0.1]/hook", "ok"),
        ("http://receiver:9000/hook", "ok"),
        ("http://localhost:9000/hook", "ok"),
        ("https://hooks.local/hook", "ok"),
        ("http://example.com/hook", "ok"),
        ("http://receiver:22/hook", "endpoint_url_forbidden"),
        ("http://10.0.0.1/hook", "endpoint_url_forbidden"),
        ("https://10.0.0.1/hook", "endpoint_url_forbidden"),
        ("https://169.254.169.254/hook", "endpoint_url_forbidden"),
        ("http://8.8.8.8/hook", "endpoint_url_forbidden"),
        ("https://8.8.8.8/hook", "ok"),
        ("https://8.8.8.8:22/hook", "endpoint_url_forbidden"),
        ("http://u:p@127.0.0.1/hook", "endpoint_url_forbidden"),
        ("http://127.0.0.1:0/hook", "invalid_url"),
        ("gopher://127.0.0.1/", "endpoint_url_forbidden"),
    ] {
        let got = parse(url, &loopback).map_or_else(UrlRefusal::code, |_| "ok");
        assert_eq!(got, code, "{url}");
    }
}

#[test]
fn what_is_admitted_only_for_a_network_must_lie_in_it() {
    let loopback = nets(&["127.0.0.0/8"]);
    for (url, need) in [
        ("https://example.com/", Need::Public),
        ("https://127.0.0.1/", Need::Public),
        ("http://example.com/", Need::InNets),
        ("http://127.0.0.1/", Need::InNets),
        ("https://receiver/", Need::InNets),
        ("https://LOCALHOST./", Need::InNets),
        ("https://hooks.internal/", Need::InNets),
    ] {
        assert_eq!(parse(url, &loopback).unwrap().need(), need, "{url}");
    }
    for (need, to, allowed) in [
        (Need::Public, "8.8.8.8", true),
        (Need::Public, "127.0.0.1", true),
        (Need::Public, "10.0.0.1", false),
        (Need::InNets, "8.8.8.8", false),
        (Need::InNets, "127.0.0.1", true),
        (Need::InNets, "::ffff:127.0.0.1", true),
        (Need::InNets, "::1", false),
    ] {
        assert_eq!(
            permits(need, address(to), &loopback),
            allowed,
            "{need:?} {to}"
        );
    }
}

#[test]
fn a_url_is_shown_without_what_may_be_secret() {
    let text = "https://Hooks.Example.com.:8443/tok_canary?key=canary";
    let url = parse(text, &Nets::default()).unwrap();
    for shown in [url.to_string(), url.for_log(), format!("{url:?}")] {
        assert!(
            shown.contains("https://hooks.example.com:8443/…"),
            "{shown}"
        );
        assert!(!shown.contains("canary"), "{shown}");
    }
    assert_eq!(
        url.as_url().as_str(),
        "https://hooks.example.com:8443/tok_canary?key=canary"
    );
}

#[test]
fn an_address_is_told_apart_from_a_name() {
    for (url, literal) in [
        ("https://8.8.8.8/", Some("8.8.8.8")),
        ("https://0x08080808/", Some("8.8.8.8")),
        (
            "https://[2606:4700:4700::1111]/",
            Some("2606:4700:4700::1111"),
        ),
        ("https://8.8.8.8.nip.io/", None),
    ] {
        let url = parse(url, &Nets::default()).unwrap();
        assert_eq!(url.literal(), literal.map(address), "{url}");
    }
}

proptest! {
    #[test]
    fn nothing_reserved_is_public(net in 0..RESERVED_V4.len(), within: u32, six in 0..RESERVED_V6.len(), below: u128) {
        let net = RESERVED_V4[net];
        let v4 = Ipv4Addr::from(u32::from(net.network()) | (within & u32::from(net.hostmask())));
        prop_assert!(!permits(Need::Public, v4.into(), &Nets::default()), "{v4}");

        let net = RESERVED_V6[six];
        let v6 = Ipv6Addr::from(u128::from(net.network()) | (below & u128::from(net.hostmask())));
        prop_assert!(!permits(Need::Public, v6.into(), &Nets::default()), "{v6}");
    }

    #[test]
    fn ipv4_as_ipv6_is_judged_as_ipv4(bits: u32) {
        let v4 = Ipv4Addr::from(bits);
        let some = nets(&["10.0.0.0/8", "128.0.0.0/2"]);
        for need in [Need::Public, Need::InNets] {
            for nets in [&some, &Nets::default()] {
                let mapped = permits(need, v4.to_ipv6_mapped().into(), nets);
                prop_assert_eq!(permits(need, v4.into(), nets), mapped, "{}", v4);
            }
        }
    }

    #[test]
    fn no_ipv6_outside_of_what_is_handed_out_is_public(bits: u128) {
        let v6 = Ipv6Addr::from(bits);
        let known = GLOBAL_V6.contains(&v6) || v6.to_ipv4_mapped().is_some();
        prop_assert!(known || !permits(Need::Public, v6.into(), &Nets::default()), "{v6}");
    }

    #[test]
    fn every_spelling_of_an_address_is_judged_alike(bits: u32) {
        let v4 = Ipv4Addr::from(bits);
        let [a, b, c, d] = v4.octets();
        let code = |host: String| {
            parse(&format!("https://{host}/"), &Nets::default()).map_or_else(UrlRefusal::code, |_| "ok")
        };
        let plain = code(v4.to_string());
        for host in [
            format!("{bits}"),
            format!("0x{bits:x}"),
            format!("0{bits:o}"),
            format!("{v4}."),
            format!("0x{a:x}.0{b:o}.{c}.{d}"),
            format!("{a}.{}", bits & 0x00ff_ffff),
            format!("[::ffff:{v4}]"),
        ] {
            prop_assert_eq!(code(host.clone()), plain, "{}", host);
        }
    }

    #[test]
    fn what_is_taken_is_safe_whatever_it_says(text in "\\PC{0,40}", before in "(https?:(//(a\\.b[/?:]?)?)?)?") {
        if let Ok(url) = parse(&format!("{before}{text}"), &Nets::default()) {
            prop_assert_eq!(url.as_url().scheme(), "https");
            prop_assert_eq!(url.as_url().username(), "");
            prop_assert_eq!(url.need(), Need::Public);
            // What builds the request reads it again, and more strictly.
            prop_assert!(url.as_url().as_str().parse::<http::Uri>().is_ok());
            prop_assert!(url.literal().is_none_or(nets::is_public));
            // What was taken once is taken again, and means the same.
            let again = parse(url.as_url().as_str(), &Nets::default());
            prop_assert_eq!(again, Ok(url));
        }
    }
}
