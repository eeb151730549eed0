//! The other side: destinations that answer as they are in the mood for.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

/// What a request meets with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// An answer, after a while.
    Status { status: u16, after: Duration },
    /// 429, with these seconds in Retry-After.
    Throttle { seconds: u32 },
    /// Nobody is there.
    Refuse,
    /// It is received and accepted, and the connection ends before the answer.
    Reset,
    /// As a reset, over a connection that had been kept; over one of its own, as a reset.
    KeptReset,
    /// It is received and accepted, and the answer never comes.
    Mute,
}

impl Reply {
    pub(crate) fn is_acceptance(self) -> bool {
        match self {
            Self::Status { status, .. } => (200..300).contains(&status),
            Self::Reset | Self::KeptReset | Self::Mute => true,
            Self::Throttle { .. } | Self::Refuse => false,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// Well, with an occasional 5xx, slow answer, lost answer or 429.
    Flaky,
    Slow,
    Broken,
    Dead,
    Mute,
    Throttling,
    /// It answers 410.
    Leaving,
    /// So many of a hundred are answered 500.
    Partly {
        percent: u8,
    },
}

/// What one that is well takes.
pub(crate) const QUICK: Duration = Duration::from_millis(20);

impl Mood {
    pub(crate) const ALL: [Self; 8] = [
        Self::Well,
        Self::Flaky,
        Self::Slow,
        Self::Broken,
        Self::Dead,
        Self::Mute,
        Self::Throttling,
        Self::Leaving,
    ];

    pub(crate) fn reply(self, rng: &mut StdRng) -> Reply {
        let within = |rng: &mut StdRng, millis| Duration::from_millis(rng.random_range(1..millis));
        let status = |status, after| Reply::Status { status, after };
        match self {
            Self::Well => status(204, QUICK),
            Self::Flaky => match rng.random_range(0..10) {
                0 => status(500, within(rng, 200)),
                1 => status(400, within(rng, 200)),
                2 => Reply::Mute,
                3 => Reply::Throttle {
                    seconds: rng.random_range(0..90),
                },
                4 => Reply::Refuse,
                5 => Reply::Reset,
                6 => Reply::KeptReset,
                _ => status(200, within(rng, 900)),
            },
            // Beyond the deadline of some.
            Self::Slow => status(200, within(rng, 20_000)),
            Self::Broken => status(503, within(rng, 500)),
            Self::Dead => Reply::Refuse,
            Self::Mute => Reply::Mute,
            Self::Throttling => Reply::Throttle {
                seconds: rng.random_range(1..600),
            },
            Self::Leaving => status(410, QUICK),
            Self::Partly { percent } => match rng.random_range(0..100) < percent {
                true => status(500, QUICK),
                false => status(204, QUICK),
            },
        }
    }
}
