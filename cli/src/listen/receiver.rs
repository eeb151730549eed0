//! What a receiver decides and remembers. Values in, values out.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash as _, Hasher as _};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;

/// How many requests are remembered, newest first.
const REMEMBERED_MAX: usize = 1_000;
/// How many webhook-ids are told apart; later ones are not counted as distinct.
const DISTINCT_MAX: usize = 1 << 20;

/// How requests are answered. A signature that does not verify is answered 401 before any of it, except for `hang`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    pub status: StatusCode,
    /// Before any answer.
    pub delay: Duration,
    /// Fails this many requests, counted from the start.
    pub fail_first: u64,
    /// Fails every one whose number is a multiple.
    pub fail_every: Option<NonZeroU64>,
    pub fail_status: StatusCode,
    /// Retry-After of a failing answer, in seconds.
    pub retry_after_s: Option<u64>,
    /// Nothing is answered.
    pub hang: bool,
}

impl Default for Behaviour {
    /// 200 at once, always.
    fn default() -> Self {
        Self {
            status: StatusCode::OK,
            delay: Duration::ZERO,
            fail_first: 0,
            fail_every: None,
            fail_status: StatusCode::INTERNAL_SERVER_ERROR,
            retry_after_s: None,
            hang: false,
        }
    }
}

/// What became of a request's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Valid,
    Invalid,
    /// At least one of the three headers.
    Missing,
    /// No secret was given.
    Unverified,
}

impl Verdict {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Missing => "missing",
            Self::Unverified => "unverified",
        }
    }
}

/// The answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Status {
        status: StatusCode,
        retry_after_s: Option<u64>,
    },
    Never,
}

impl Answer {
    pub(super) fn code(self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(status.as_u16()),
            Self::Never => None,
        }
    }
}

impl Behaviour {
    /// The answer to the `n`th request, from 1.
    pub(super) fn answer(&self, n: u64, signature: Verdict) -> Answer {
        if self.hang {
            return Answer::Never;
        }
        let (status, retry_after_s) = match signature {
            Verdict::Invalid | Verdict::Missing => (StatusCode::UNAUTHORIZED, None),
            Verdict::Valid | Verdict::Unverified if self.fails(n) => {
                (self.fail_status, self.retry_after_s)
            }
            Verdict::Valid | Verdict::Unverified => (self.status, None),
        };
        Answer::Status {
            status,
            retry_after_s,
        }
    }

    fn fails(&self, n: u64) -> bool {
        n <= self.fail_first || self.fail_every.is_some_and(|every| n % every == 0)
    }
}

/// One request, without its body.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Received {
    pub(super) received_at: Timestamp,
    pub(super) webhook_id: Option<String>,
    pub(super) attempt: Option<u32>,
    pub(super) correlation_id: Option<String>,
    pub(super) signature: Verdict,
    pub(super) path: String,
    pub(super) bytes: usize,
    /// In hex.
    pub(super) body_sha256: String,
    /// Null for one that is never answered.
    pub(super) answered: Option<u16>,
}

/// What was received since the start, or since it was last emptied.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// All since the start, which emptying does not change.
    arrived: u64,
    counts: Counts,
    /// Hashes of webhook-ids: what repeats is what a client's own deduplication would drop.
    ids: HashSet<u64>,
    newest: VecDeque<Arc<Received>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) count: u64,
    /// Different webhook-ids among them.
    pub(super) distinct: u64,
    /// Those whose signature was invalid or missing.
    pub(super) refused: u64,
}

impl Receiver {
    /// The number of the request that arrives now, from 1.
    pub(super) fn arrive(&mut self) -> u64 {
        self.arrived += 1;
        self.arrived
    }

    pub(super) fn remember(&mut self, received: Arc<Received>) {
        self.counts.count += 1;
        if matches!(received.signature, Verdict::Invalid | Verdict::Missing) {
            self.counts.refused += 1;
        }
        if let Some(id) = &received.webhook_id
            && self.ids.len() < DISTINCT_MAX
            && self.ids.insert(hash(id))
        {
            self.counts.distinct += 1;
        }
        self.newest.truncate(REMEMBERED_MAX - 1);
        self.newest.push_front(received);
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// The newest [`REMEMBERED_MAX`], newest first.
    pub(super) fn newest(&self) -> Vec<Arc<Received>> {
        self.newest.iter().map(Arc::clone).collect()
    }

    /// Forgets everything but how many have arrived, so that what fails is not chosen anew.
    pub(super) fn empty(&mut self) {
        *self = Self {
            arrived: self.arrived,
            ..Self::default()
        };
    }
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(id: &str, signature: Verdict) -> Arc<Received> {
        Arc::new(Received {
            received_at: Timestamp::UNIX_EPOCH,
            webhook_id: Some(id.to_owned()),
            attempt: Some(1),
            correlation_id: None,
            signature,
            path: "/".to_owned(),
            bytes: 0,
            body_sha256: String::new(),
            answered: Some(200),
        })
    }

    #[test]
    fn the_number_of_a_request_and_its_signature_choose_the_answer() {
        let usual = Behaviour::default();
        let first_two = Behaviour {
            fail_first: 2,
            ..usual
        };
        let every_third = Behaviour {
            fail_every: NonZeroU64::new(3),
            fail_status: StatusCode::SERVICE_UNAVAILABLE,
            retry_after_s: Some(7),
            ..usual
        };
        let both = Behaviour {
            fail_first: 1,
            ..every_third
        };
        let created = Behaviour {
            status: StatusCode::CREATED,
            ..usual
        };
        for (behaviour, codes) in [
            (usual, [200; 6]),
            (created, [201; 6]),
            (first_two, [500, 500, 200, 200, 200, 200]),
            (every_third, [200, 200, 503, 200, 200, 503]),
            (both, [503, 200, 503, 200, 200, 503]),
        ] {
            let answers = [1, 2, 3, 4, 5, 6].map(|n| behaviour.answer(n, Verdict::Valid));
            assert_eq!(answers.map(Answer::code), codes.map(Some), "{behaviour:?}");
        }

        for (behaviour, n, signature, status, retry_after_s) in [
            (every_third, 3, Verdict::Unverified, 503, Some(7)),
            (every_third, 1, Verdict::Unverified, 200, None),
            (every_third, 3, Verdict::Invalid, 401, None),
            (usual, 1, Verdict::Missing, 401, None),
        ] {
            let answer = Answer::Status {
                status: StatusCode::from_u16(status).unwrap(),
                retry_after_s,
            };
            assert_eq!(behaviour.answer(n, signature), answer, "{signature:?}");
        }

        let hanging = Behaviour {
            hang: true,
            ..first_two
        };
        for signature in [Verdict::Valid, Verdict::Invalid] {
            assert_eq!(hanging.answer(1, signature), Answer::Never);
        }
    }

    #[test]
    fn repeats_and_refusals_are_counted_and_the_newest_are_kept() {
        let mut receiver = Receiver::default();
        for n in 0..REMEMBERED_MAX {
            receiver.remember(received(&format!("evt_{n}"), Verdict::Valid));
        }
        receiver.remember(received("evt_0", Verdict::Invalid));

        let counts = Counts {
            count: 1_001,
            distinct: 1_000,
            refused: 1,
        };
        assert_eq!(receiver.counts(), counts);
        let newest = receiver.newest();
        assert_eq!(newest.len(), REMEMBERED_MAX);
        assert_eq!(newest[0].webhook_id.as_deref(), Some("evt_0"));
        assert_eq!(newest[999].webhook_id.as_deref(), Some("evt_1"));
    }

    #[test]
    fn emptying_does_not_choose_anew_what_fails() {
        let mut receiver = Receiver::default();
        assert_eq!(receiver.arrive(), 1);
        receiver.remember(received("evt_1", Verdict::Valid));

        receiver.empty();

        assert_eq!(receiver.counts(), Counts::default());
        assert!(receiver.newest().is_empty());
        assert_eq!(receiver.arrive(), 2);
    }
}
