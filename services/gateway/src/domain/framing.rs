//! What a request's head must be, beyond what hyper refuses by itself: two readers of one request must not disagree on
//! where it goes, who sent it or where it ends.
//!
//! hyper has read the request before, and what it settles cannot be seen here: beside a Transfer-Encoding it drops the
//! Content-Length and closes after the answer (RFC 9112, 6.3), equal Content-Length lines are one (9110, 8.6), a line may
//! end in a bare LF (9112, 2.2). No second reader can take it otherwise: what is passed on is built anew.

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use runtime::problem::{Code, Problem};
use schema::names;

use super::origin;

/// The longest path and query, in bytes.
pub const URI_MAX: usize = 8 * 1024;

/// Headers that mean something here: at most one line each, in ASCII.
const SINGLE: [HeaderName; 6] = [
    header::HOST,
    header::TRANSFER_ENCODING,
    header::AUTHORIZATION,
    HeaderName::from_static(names::STRIPE_SIGNATURE),
    HeaderName::from_static(names::IDEMPOTENCY_KEY),
    HeaderName::from_static(names::CORRELATION_ID),
];

/// Why the request is not taken, if it is not. What follows it on the connection is not to be read.
pub fn check(head: &Parts) -> Result<(), Problem> {
    let refused = |detail: &str| Err(Code::InvalidRequest.because(detail));
    let uri = &head.uri;
    if uri.scheme().is_some() || uri.authority().is_some() {
        return refused("the request line must hold a path, not a whole address");
    }
    let length = uri.path_and_query().map_or(0, |both| both.as_str().len());
    if length > URI_MAX {
        return Err(Code::UriTooLong.because(format!("at most {URI_MAX} bytes of path and query")));
    }
    for name in &SINGLE {
        check_single(head, name)?;
    }
    if !head.headers.contains_key(header::HOST) {
        return refused("the Host header is missing");
    }
    let coding = head.headers.get(header::TRANSFER_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return refused("the only Transfer-Encoding is chunked");
    }
    if head.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Code::UnsupportedMedia.because("send the body without a Content-Encoding"));
    }
    Ok(())
}

/// A page can have a browser send any other type without asking first, also with an empty body. What Stripe sends is
/// taken by its signature.
pub fn check_media(head: &Parts) -> Result<(), Problem> {
    if !origin::is_change(&head.method) || head.uri.path() == names::INGEST_STRIPE {
        return Ok(());
    }
    let lines = head.headers.get_all(header::CONTENT_TYPE);
    if lines.iter().all(is_json) {
        return Ok(());
    }
    Err(Code::UnsupportedMedia
        .because("the Content-Type must be application/json; without a body, or none"))
}

fn is_json(content_type: &HeaderValue) -> bool {
    let media = content_type.as_bytes().split(|byte| *byte == b';').next();
    media.is_some_and(|media| media.trim_ascii().eq_ignore_ascii_case(b"application/json"))
}

/// Whether every reader takes the path for the same one: dot segments and backslashes become another path on the way.
pub fn is_plain(path: &str) -> bool {
    !path.contains('\\') && !path.split('/').any(is_dots)
}

/// `.` or `..`, plain or escaped.
fn is_dots(segment: &str) -> bool {
    // At most two, three bytes each when escaped; most segments are longer or have none.
    segment.len() <= 6
        && matches!(
            segment.to_ascii_lowercase().replace("%2e", ".").as_str(),
            "." | ".."
        )
}

fn check_single(head: &Parts, name: &HeaderName) -> Result<(), Problem> {
    let mut lines = head.headers.get_all(name).into_iter();
    let Some(first) = lines.next() else {
        return Ok(());
    };
    if lines.next().is_none() && first.as_bytes().is_ascii() {
        return Ok(());
    }
    let code = if *name == names::STRIPE_SIGNATURE && head.uri.path() == names::INGEST_STRIPE {
        Code::InvalidSignature
    } else {
        Code::InvalidRequest
    };
    Err(code.because(format!("{name} must be one line of ASCII")))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    type Headers<'a> = &'a [(&'a str, &'a [u8])];

    fn code(uri: &str, headers: Headers<'_>) -> Option<Code> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        check(&head).err().map(|problem| problem.code)
    }

    #[test]
    fn a_head_that_can_be_read_in_two_ways_is_refused() {
        let host: (&str, &[u8]) = ("host", b"h");
        let table: &[(&str, Headers, Option<Code>)] = &[
            ("/events?limit=5", &[host], None),
            ("/events", &[host, ("content-length", b"2")], None),
            ("/events", &[host, ("transfer-encoding", b"chunked")], None),
            ("/events", &[host, ("transfer-encoding", b"Chunked")], None),
            ("/events", &[host, ("accept", b"a"), ("accept", b"b")], None),
            ("/events", &[], Some(Code::InvalidRequest)),
            ("/events", &[host, host], Some(Code::InvalidRequest)),
            ("http://h/events", &[host], Some(Code::InvalidRequest)),
            ("h:443", &[host], Some(Code::InvalidRequest)),
            (
                "/events",
                &[host, ("transfer-encoding", b"gzip, chunked")],
                Some(Code::InvalidRequest),
            ),
            (
                "/events",
                &[host, ("x-correlation-id", b"a"), ("x-correlation-id", b"b")],
                Some(Code::InvalidRequest),
            ),
            (
                "/webhooks/events",
                &[host, ("idempotency-key", b"a"), ("idempotency-key", b"a")],
                Some(Code::InvalidRequest),
            ),
            (
                "/events",
                &[host, ("idempotency-key", b"\xe9")],
                Some(Code::InvalidRequest),
            ),
            (
                "/events",
                &[
                    host,
                    ("authorization", b"Bearer a"),
                    ("authorization", b"Bearer b"),
                ],
                Some(Code::InvalidRequest),
            ),
            (
                "/ingest/stripe",
                &[
                    host,
                    ("stripe-signature", b"t=1"),
                    ("stripe-signature", b"t=1"),
                ],
                Some(Code::InvalidSignature),
            ),
            (
                "/events",
                &[
                    host,
                    ("stripe-signature", b"t=1"),
                    ("stripe-signature", b"t=1"),
                ],
                Some(Code::InvalidRequest),
            ),
            (
                "/events",
                &[host, ("content-encoding", b"gzip")],
                Some(Code::UnsupportedMedia),
            ),
            ("/events", &[host, ("x-other", b"\xe9")], None),
        ];
        for (uri, headers, expected) in table {
            assert_eq!(code(uri, headers), *expected, "{uri} {headers:?}");
        }
    }

    #[test]
    fn what_changes_something_comes_as_json_or_without_a_type() {
        let code = |method: &str, path: &str, content_types: &[&str]| {
            let mut request = Request::builder().method(method).uri(path);
            request = request.header("host", "h");
            for content_type in content_types {
                request = request.header("content-type", *content_type);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            check_media(&head).err().map(|problem| problem.code)
        };
        let json: [&[&str]; 5] = [
            &[],
            &["application/json"],
            &["Application/JSON"],
            &["application/json; charset=utf-8"],
            &["application/json ;charset=utf-8"],
        ];
        let other: [&[&str]; 7] = [
            &["text/plain"],
            &["text/plain;application/json"],
            &["application/x-www-form-urlencoded"],
            &["multipart/form-data; boundary=a"],
            &["application/jsonp"],
            &[""],
            &["application/json", "text/plain"],
        ];
        for method in ["POST", "PATCH", "DELETE"] {
            for lines in json {
                assert_eq!(code(method, "/events", lines), None, "{method} {lines:?}");
            }
            for lines in other {
                let refused = Some(Code::UnsupportedMedia);
                assert_eq!(
                    code(method, "/events", lines),
                    refused,
                    "{method} {lines:?}"
                );
            }
        }
        for lines in other {
            assert_eq!(code("GET", "/events", lines), None, "{lines:?}");
            assert_eq!(code("POST", "/ingest/stripe", lines), None, "{lines:?}");
        }
    }

    #[test]
    fn a_path_is_plain_unless_a_segment_of_dots_or_a_backslash_is_in_it() {
        for path in [
            "/",
            "/events",
            "/events/a.b",
            "/events/...",
            "/a/%2f",
            "/.well-known",
            "/a/.b/c..",
        ] {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "/..",
            "/a/./b",
            "/a/%2e",
            "/a/%2E%2e/b",
            "/a/.%2e",
            "/a\\b",
            "/../",
        ] {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn an_address_is_taken_up_to_its_bound_and_not_beyond() {
        let uri = |length: usize| format!("/{}", "a".repeat(length - 1));
        assert_eq!(code(&uri(URI_MAX), &[("host", b"h")]), None);
        assert_eq!(
            code(&uri(URI_MAX + 1), &[("host", b"h")]),
            Some(Code::UriTooLong)
        );
    }
}
