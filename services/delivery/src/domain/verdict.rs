//! What an answer, or its absence, means for an attempt.

use std::time::Duration;

use jiff::Timestamp;
use runtime::http_client::FAILURE_CODES;

use super::queues::Feedback;
use super::schedule::RetryAfter;

/// The words of answers that are no success.
const OF_RESPONSES: [&str; 5] = ["redirect", "gone", "http_4xx", "http_5xx", "http_status"];

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Any 2xx.
    Success,
    Failure {
        /// A stable word.
        error: &'static str,
        retry_after: Option<RetryAfter>,
        /// 410: nobody will ever listen there again.
        gone: bool,
    },
}

impl Verdict {
    /// Of an answer: 2xx is success, all else is failure. A redirect is never followed: the destination said where, but
    /// nobody here has approved of that place.
    pub fn of_response(status: u16, retry_after: Option<&str>) -> Self {
        let error = match status {
            200..=299 => return Self::Success,
            300..=399 => "redirect",
            410 => "gone",
            400..=499 => "http_4xx",
            500..=599 => "http_5xx",
            _ => "http_status",
        };
        let retry_after = match status {
            429 | 503 => retry_after.and_then(RetryAfter::parse),
            _ => None,
        };
        Self::Failure {
            error,
            retry_after,
            gone: status == 410,
        }
    }

    /// Of an attempt without an answer; `error` is one of [`runtime::http_client::failure_code`]'s words.
    pub fn of_transport(error: &'static str) -> Self {
        Self::Failure {
            error,
            retry_after: None,
            gone: false,
        }
    }

    /// What it says of the endpoint, whatever it says of the delivery; `status` is the answer's, if there was one. A 4xx
    /// that only this message met with says that the endpoint lives.
    pub fn of_the_endpoint(self, status: Option<u16>, took: Duration, now: Timestamp) -> Feedback {
        let Self::Failure {
            error, retry_after, ..
        } = self
        else {
            return Feedback::Lives { took };
        };
        match (status, retry_after) {
            (Some(429), asked) => Feedback::Throttled {
                until: asked.map(|asked| asked.until(now)),
            },
            (Some(503), Some(asked)) => Feedback::Throttled {
                until: Some(asked.until(now)),
            },
            (Some(status), _) if is_of_the_message(status) => Feedback::Lives { took },
            (None, _) if is_out_of_reach(error) => Feedback::Unreachable,
            _ => Feedback::Failed,
        }
    }

    /// Every error that a failure can have.
    pub fn errors() -> impl Iterator<Item = &'static str> {
        OF_RESPONSES
            .into_iter()
            .chain(FAILURE_CODES.iter().copied())
    }

    /// The metric's label: `success`, or the error.
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure { error, .. } => error,
        }
    }
}

/// Whether another message might be taken where this one is refused. Who may not come in, comes too fast or has come to the
/// wrong host is refused whatever he brings.
fn is_of_the_message(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 401 | 403 | 407 | 408 | 421 | 429)
}

/// Nobody is there: unlike an answer, however bad.
fn is_out_of_reach(error: &str) -> bool {
    matches!(
        error,
        "timeout" | "dns_error" | "connection_refused" | "connect" | "network_unreachable"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(7);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_answer_speaks_of_the_endpoint_or_of_the_message() {
        let lives = Feedback::Lives { took: TOOK };
        let pause = |second| Feedback::Throttled {
            until: Some(at(second)),
        };
        for (statuses, retry_after, expected) in [
            (&[200, 204, 299][..], None, lives),
            (&[400, 402, 404, 405, 406, 409, 410, 411], None, lives),
            (&[412, 413, 414, 415, 416, 417, 418, 422], None, lives),
            (&[423, 424, 425, 426, 428, 431, 451, 499], None, lives),
            (&[401, 403, 407, 408, 421], None, Feedback::Failed),
            (&[300, 301, 302, 304, 307, 308], None, Feedback::Failed),
            (&[500, 502, 503, 504, 599], None, Feedback::Failed),
            (&[199, 600, 999], None, Feedback::Failed),
            (&[429], None, Feedback::Throttled { until: None }),
            (&[429], Some("soon"), Feedback::Throttled { until: None }),
            (&[429, 503], Some("9"), pause(109)),
            (&[500, 502], Some("9"), Feedback::Failed),
            (&[422], Some("9"), lives),
        ] {
            for status in statuses {
                let verdict = Verdict::of_response(*status, retry_after);
                let found = verdict.of_the_endpoint(Some(*status), TOOK, at(100));
                assert_eq!(found, expected, "{status} {retry_after:?}");
            }
        }
    }

    #[test]
    fn without_an_answer_the_endpoint_fails_or_is_not_there() {
        for (error, expected) in [
            ("timeout", Feedback::Unreachable),
            ("dns_error", Feedback::Unreachable),
            ("connection_refused", Feedback::Unreachable),
            ("connect", Feedback::Unreachable),
            ("network_unreachable", Feedback::Unreachable),
            ("connection_reset", Feedback::Failed),
            ("tls_error", Feedback::Failed),
            ("blocked", Feedback::Failed),
        ] {
            let verdict = Verdict::of_transport(error);
            let found = verdict.of_the_endpoint(None, TOOK, at(100));
            assert_eq!(found, expected, "{error}");
        }
    }

    #[test]
    fn only_2xx_is_success() {
        for (status, word) in [
            (200, "success"),
            (202, "success"),
            (204, "success"),
            (299, "success"),
            (301, "redirect"),
            (304, "redirect"),
            (308, "redirect"),
            (400, "http_4xx"),
            (404, "http_4xx"),
            (410, "gone"),
            (429, "http_4xx"),
            (500, "http_5xx"),
            (503, "http_5xx"),
            (199, "http_status"),
            (600, "http_status"),
        ] {
            assert_eq!(Verdict::of_response(status, None).word(), word, "{status}");
        }
    }

    #[test]
    fn every_answer_that_is_no_success_has_an_error_of_the_list() {
        let errors: Vec<&str> = Verdict::errors().collect();
        for status in (0..=199).chain(300..=999) {
            let word = Verdict::of_response(status, None).word();
            assert!(errors.contains(&word), "{status} {word}");
        }
        assert!(!errors.contains(&"success"));
    }

    #[test]
    fn retry_after_counts_on_429_and_503_only() {
        for (status, honoured) in [(429, true), (503, true), (500, false), (404, false)] {
            let Verdict::Failure { retry_after, .. } = Verdict::of_response(status, Some("9"))
            else {
                panic!("{status} is a failure");
            };
            assert_eq!(retry_after.is_some(), honoured, "{status}");
        }
    }
}
