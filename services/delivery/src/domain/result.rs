//! What an answer, or its absence, means for an attempt.

use super::schedule::RetryAfter;

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

    /// The metric's label: `success`, or the error.
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure { error, .. } => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
