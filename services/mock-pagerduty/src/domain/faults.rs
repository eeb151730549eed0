//! Which request fails, and how. Decided by the request's number and a seeded generator, so that a run can be repeated.

use std::time::Duration;

use http::StatusCode;
use rand::rngs::StdRng;
use rand::{Rng, RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// The longest delay that can be asked for, in milliseconds.
pub const DELAY_MAX_MS: u64 = 60_000;

/// What shall go wrong. All absent: nothing does.
///
/// A failure is an answer of `status` (500 unless said), or a `hang`, or a `reset`. It meets every request, unless
/// `fail_first` or `failure_rate` chooses which ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Milliseconds before any answer, good or bad.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// No answer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hang: bool,
    /// The connection breaks off in the answer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// Fails this many requests, counted from when the faults were set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_first: Option<u64>,
    /// Fails this share of the requests, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_rate: Option<f64>,
    /// Chooses which ones the rate meets; 0 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Retry-After of a failing answer, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

impl Faults {
    /// Why these faults make no sense, if they do not.
    pub fn complaint(&self) -> Option<&'static str> {
        if self
            .status
            .is_some_and(|status| !(300..600).contains(&status))
        {
            Some("status must be 300 to 599")
        } else if self.delay_ms.is_some_and(|delay| delay > DELAY_MAX_MS) {
            Some("delay_ms must be at most 60000")
        } else if self
            .failure_rate
            .is_some_and(|rate| !(0.0..=1.0).contains(&rate))
        {
            Some("failure_rate must be 0 to 1")
        } else if u8::from(self.hang) + u8::from(self.reset) + u8::from(self.status.is_some()) > 1 {
            Some("choose one of status, hang and reset")
        } else {
            None
        }
    }

    fn failure(&self) -> Fate {
        if self.hang {
            Fate::Hang
        } else if self.reset {
            Fate::Reset
        } else {
            let status = self.status.and_then(|code| StatusCode::from_u16(code).ok());
            Fate::Answer {
                status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                retry_after_s: self.retry_after_s,
            }
        }
    }
}

/// What happens to one request, after the delay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Accept,
    Answer {
        status: StatusCode,
        retry_after_s: Option<u64>,
    },
    Hang,
    Reset,
}

/// One request's lot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub delay: Duration,
    pub fate: Fate,
}

/// Decides for the `n`th request (from 0) since the faults were set.
pub fn decide(n: u64, faults: &Faults, rng: &mut impl Rng) -> Decision {
    let by_rate = faults
        .failure_rate
        .is_some_and(|rate| rng.random::<f64>() < rate);
    let fails = match (faults.fail_first, faults.failure_rate) {
        (None, None) => faults.hang || faults.reset || faults.status.is_some(),
        (first, _) => first.is_some_and(|first| n < first) || by_rate,
    };
    Decision {
        delay: Duration::from_millis(faults.delay_ms.unwrap_or_default()),
        fate: if fails {
            faults.failure()
        } else {
            Fate::Accept
        },
    }
}

/// The faults in force and how far they have come.
#[derive(Debug)]
pub struct Injector {
    faults: Faults,
    requests: u64,
    rng: StdRng,
}

impl Injector {
    pub fn new(faults: Faults) -> Self {
        Self {
            rng: StdRng::seed_from_u64(faults.seed.unwrap_or_default()),
            requests: 0,
            faults,
        }
    }

    /// The next request's lot.
    pub fn next_decision(&mut self) -> Decision {
        let decision = decide(self.requests, &self.faults, &mut self.rng);
        self.requests += 1;
        decision
    }
}

impl Default for Injector {
    fn default() -> Self {
        Self::new(Faults::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(json: &str) -> Faults {
        serde_json::from_str(json).unwrap()
    }

    fn failures(json: &str, requests: usize) -> Vec<bool> {
        let mut injector = Injector::new(faults(json));
        (0..requests)
            .map(|_| injector.next_decision().fate != Fate::Accept)
            .collect()
    }

    #[test]
    fn the_faults_choose_the_requests_they_meet() {
        for (json, expected) in [
            ("{}", [false, false, false]),
            (r#"{"delay_ms":5}"#, [false, false, false]),
            (r#"{"retry_after_s":5}"#, [false, false, false]),
            (r#"{"status":503}"#, [true, true, true]),
            (r#"{"hang":true}"#, [true, true, true]),
            (r#"{"fail_first":2}"#, [true, true, false]),
            (r#"{"fail_first":1,"reset":true}"#, [true, false, false]),
            (r#"{"failure_rate":1}"#, [true, true, true]),
            (r#"{"failure_rate":0,"status":500}"#, [false, false, false]),
        ] {
            assert_eq!(failures(json, 3), expected, "{json}");
        }
    }

    #[test]
    fn the_failure_is_the_one_that_was_asked_for() {
        let mut rng = StdRng::seed_from_u64(0);
        let answer = |status, retry_after_s| Fate::Answer {
            status,
            retry_after_s,
        };
        for (json, fate) in [
            (
                r#"{"fail_first":1}"#,
                answer(StatusCode::INTERNAL_SERVER_ERROR, None),
            ),
            (
                r#"{"status":429,"retry_after_s":7}"#,
                answer(StatusCode::TOO_MANY_REQUESTS, Some(7)),
            ),
            (r#"{"hang":true}"#, Fate::Hang),
            (r#"{"reset":true}"#, Fate::Reset),
        ] {
            assert_eq!(decide(0, &faults(json), &mut rng).fate, fate, "{json}");
        }
        let slow = decide(0, &faults(r#"{"delay_ms":250}"#), &mut rng);
        assert_eq!(slow.delay, Duration::from_millis(250));
    }

    #[test]
    fn a_seed_repeats_the_run_and_the_rate_is_kept() {
        let json = r#"{"failure_rate":0.3,"seed":7}"#;

        let first = failures(json, 1000);

        assert_eq!(first, failures(json, 1000));
        assert_ne!(first, failures(r#"{"failure_rate":0.3,"seed":8}"#, 1000));
        let failed = first.iter().filter(|failed| **failed).count();
        assert!((250..350).contains(&failed), "{failed} of 1000");
    }

    #[test]
    fn faults_that_make_no_sense_are_told() {
        for json in [
            r#"{"status":200}"#,
            r#"{"status":600}"#,
            r#"{"delay_ms":60001}"#,
            r#"{"failure_rate":1.5}"#,
            r#"{"hang":true,"reset":true}"#,
            r#"{"hang":true,"status":500}"#,
        ] {
            assert!(faults(json).complaint().is_some(), "{json}");
        }
        assert_eq!(
            faults(r#"{"fail_first":3,"retry_after_s":1}"#).complaint(),
            None
        );
        assert!(serde_json::from_str::<Faults>(r#"{"fail":1}"#).is_err());
    }
}
