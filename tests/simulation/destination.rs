//! The other side: endpoints that answer as they are in the mood for.

use std::time::Duration;

use delivery::domain::queues::Feedback;
use delivery::domain::verdict::Verdict;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use rand::rngs::StdRng;

/// What a request met with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    /// It was received and accepted, and the answer never came.
    LostReply,
    Broken,
    Gone,
    /// 429, with these seconds in Retry-After.
    Throttled(u32),
    Refused,
}

impl Outcome {
    pub(crate) fn is_accepted(self) -> bool {
        matches!(self, Self::Accepted | Self::LostReply)
    }

    pub(crate) fn asked_s(self) -> Option<u32> {
        match self {
            Self::Throttled(seconds) => Some(seconds),
            _ => None,
        }
    }

    /// What the delivery is told.
    pub(crate) fn verdict(self) -> Verdict {
        match self {
            Self::Accepted => Verdict::of_response(200, None),
            Self::Broken => Verdict::of_response(500, None),
            Self::Gone => Verdict::of_response(410, None),
            Self::Throttled(seconds) => Verdict::of_response(429, Some(&seconds.to_string())),
            Self::LostReply => Verdict::of_transport("timeout"),
            Self::Refused => Verdict::of_transport("connection_refused"),
        }
    }

    /// What the queues are told.
    pub(crate) fn answer(self, took: Duration, now: Timestamp) -> Feedback {
        match self {
            Self::Accepted | Self::Gone => Feedback::Lives { took },
            Self::Broken => Feedback::Failed,
            Self::LostReply | Self::Refused => Feedback::Unreachable,
            Self::Throttled(seconds) => Feedback::Throttled {
                until: Some(now + SignedDuration::from_secs(seconds.into())),
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Well, with an occasional 5xx, slow answer, lost reply or 429.
    Flaky,
    Broken,
    Dead,
    /// It is received, and no reply comes back.
    Mute,
    /// It answers 410.
    Leaving,
}

impl Mood {
    pub(crate) const ALL: [Self; 6] = [
        Self::Well,
        Self::Flaky,
        Self::Broken,
        Self::Dead,
        Self::Mute,
        Self::Leaving,
    ];

    /// What it answers, and after how long.
    pub(crate) fn answer(self, rng: &mut StdRng) -> (Outcome, Duration) {
        let outcome = match self {
            Self::Well => Outcome::Accepted,
            Self::Flaky => match rng.random_range(0..8) {
                0 | 1 => Outcome::Broken,
                2 => Outcome::LostReply,
                3 => Outcome::Throttled(rng.random_range(0..90)),
                4 => Outcome::Refused,
                _ => Outcome::Accepted,
            },
            Self::Broken => Outcome::Broken,
            Self::Dead => Outcome::Refused,
            Self::Mute => Outcome::LostReply,
            Self::Leaving => Outcome::Gone,
        };
        let millis = match (self, outcome) {
            (_, Outcome::LostReply) => 15_000,
            (Self::Well, _) => 20,
            _ => rng.random_range(0..14_000),
        };
        (outcome, Duration::from_millis(millis))
    }
}
