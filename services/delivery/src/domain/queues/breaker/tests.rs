use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

const GOOD: Option<Feedback> = Some(Feedback::Lives {
    took: Duration::from_millis(5),
});
const FAILED: Option<Feedback> = Some(Feedback::Failed);
const UNREACHABLE: Option<Feedback> = Some(Feedback::Unreachable);
const THROTTLED: Option<Feedback> = Some(Feedback::Throttled {
    until: Some(jiff::Timestamp::UNIX_EPOCH),
});
const TOO_FAST: Option<Feedback> = Some(Feedback::Throttled { until: None });

const TERMS: Terms = Terms {
    cap: 16,
    probe_within: None,
};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Sends one, which is answered at `mono`.
fn answer(breaker: &mut Breaker, answer: Option<Feedback>, mono: Duration) {
    breaker.look(mono);
    assert!(breaker.has_room(), "{:?} at {mono:?}", breaker.state);
    let generation = breaker.start(mono);
    breaker.end(generation, answer, TERMS, mono, 0.0);
}

/// A breaker that has just opened for the first time.
fn tripped(mono: Duration) -> Breaker {
    let mut breaker = Breaker::new();
    for _ in 0..3 {
        answer(&mut breaker, UNREACHABLE, mono);
    }
    assert_eq!(breaker.name(), "open");
    breaker
}

#[test]
fn it_opens_when_surely_more_than_seven_of_ten_failed_in_a_minute() {
    for (good, bad) in [(0, 15), (1, 20), (2, 25), (18, 80), (30, 117), (264, 737)] {
        for said in [FAILED, UNREACHABLE, TOO_FAST] {
            let mut breaker = Breaker::new();
            breaker.presume_well(s(1_000));
            (0..good).for_each(|_| answer(&mut breaker, GOOD, s(1_000)));
            (1..bad).for_each(|_| answer(&mut breaker, said, s(1_040)));
            assert!(breaker.is_closed(), "{good} good, {bad} bad: {said:?}");
            answer(&mut breaker, said, s(1_040));
            assert_eq!(breaker.name(), "open", "{good} good, {bad} bad: {said:?}");
        }
    }
}

#[test]
fn what_failed_a_minute_ago_is_forgotten() {
    let mut breaker = Breaker::new();
    for number in 0..100 {
        answer(&mut breaker, FAILED, s(5 * number));
        assert!(breaker.is_closed(), "never fifteen in a minute");
    }
}

#[test]
fn three_straight_that_cannot_be_reached_open_it_unless_one_succeeded_lately() {
    for (answers, opens) in [
        (&[UNREACHABLE, UNREACHABLE][..], false),
        (&[UNREACHABLE, UNREACHABLE, UNREACHABLE], true),
        (&[UNREACHABLE, UNREACHABLE, GOOD, UNREACHABLE], false),
        (&[UNREACHABLE, UNREACHABLE, FAILED, UNREACHABLE], false),
        (&[UNREACHABLE, UNREACHABLE, THROTTLED, UNREACHABLE], false),
        (&[UNREACHABLE, UNREACHABLE, None, UNREACHABLE], true),
        (&[GOOD, UNREACHABLE, UNREACHABLE, UNREACHABLE], false),
        (&[UNREACHABLE, UNREACHABLE, TOO_FAST, UNREACHABLE], false),
        (&[FAILED, FAILED, FAILED, FAILED], false),
        (&[THROTTLED; 30], false),
    ] {
        let mut breaker = Breaker::new();
        for said in answers {
            answer(&mut breaker, *said, s(9));
        }
        assert_eq!(!breaker.is_closed(), opens, "{answers:?}");
    }
}

#[test]
fn that_it_lives_or_is_presumed_to_protects_for_a_minute_only() {
    type Begin = fn(&mut Breaker);
    let begins: [Begin; 2] = [
        |breaker| answer(breaker, GOOD, s(0)),
        |breaker| breaker.presume_well(s(0)),
    ];
    for begin in begins {
        let mut breaker = Breaker::new();
        begin(&mut breaker);
        for mono in [20, 40, 59] {
            answer(&mut breaker, UNREACHABLE, s(mono));
            assert!(breaker.is_closed());
        }
        answer(&mut breaker, UNREACHABLE, s(60));
        assert_eq!(breaker.name(), "open");
    }
}

/// How long it stays open each time while nothing succeeds.
fn open_times(breaker: &mut Breaker, mut mono: Duration, times: usize) -> Vec<Duration> {
    let mut found = Vec::new();
    for _ in 0..times {
        let until = breaker.open_until().expect("it is open");
        found.push(until - mono);
        mono = until;
        breaker.look(mono - Duration::from_nanos(1));
        assert!(!breaker.has_room());
        answer(breaker, FAILED, mono);
    }
    found
}

#[test]
fn one_that_never_lived_stays_open_for_twice_as_long_each_time_up_to_a_quarter_of_an_hour() {
    let mut breaker = tripped(s(100));
    let found = open_times(&mut breaker, s(100), 11);
    let expected = [5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900];
    assert_eq!(found, expected.map(s));
}

#[test]
fn one_that_has_lived_stays_open_for_five_seconds_then_a_twentieth_of_the_time_for_which_nothing_succeeds()
 {
    let mut breaker = Breaker::new();
    answer(&mut breaker, GOOD, s(0));
    for _ in 0..3 {
        answer(&mut breaker, UNREACHABLE, s(100));
    }
    let times = open_times(&mut breaker, s(100), 200);
    assert_eq!(times[0], OPEN_FIRST);
    let (mut silent, mut in_first_minute) = (OPEN_FIRST, 1);
    for open in &times[1..] {
        assert_eq!(*open, ((OPEN_FIRST + silent) / OFTEN).min(OPEN_MAX));
        silent += *open;
        in_first_minute += u32::from(silent <= s(60));
    }
    assert_eq!(in_first_minute, 39);
    assert!(silent > s(12 * 3_600), "{silent:?}");
}

#[test]
fn one_success_is_enough_to_begin_anew_whatever_came_before() {
    let mut breaker = tripped(s(0));
    let closed_for: Duration = open_times(&mut breaker, s(0), 6).iter().sum();
    let back = breaker.open_until().unwrap();
    assert!(back > closed_for);
    answer(&mut breaker, GOOD, back);
    // Twenty of 21 are sure.
    for _ in 0..19 {
        answer(&mut breaker, FAILED, back);
        assert_ne!(breaker.name(), "open");
    }
    answer(&mut breaker, FAILED, back);
    assert_eq!(breaker.open_until(), Some(back + OPEN_FIRST));
}

#[test]
fn the_open_time_is_lengthened_by_a_fifth_at_most() {
    for (jitter, millis) in [
        (0.0, 5_000),
        (0.5, 5_500),
        (1.0, 6_000),
        (7.0, 6_000),
        (-1.0, 5_000),
        (f64::NAN, 5_000),
    ] {
        let mut breaker = Breaker::new();
        for _ in 0..3 {
            let generation = breaker.start(s(0));
            breaker.end(generation, UNREACHABLE, TERMS, s(0), jitter);
        }
        let until = Duration::from_millis(millis);
        assert_eq!(breaker.open_until(), Some(until), "{jitter}");
    }
}

#[test]
fn one_probe_then_a_ramp_that_doubles_until_it_is_closed() {
    let mut breaker = tripped(s(0));
    breaker.look(s(5));
    assert!(breaker.is_half_open());
    let probe = breaker.start(s(0));
    assert!(!breaker.has_room(), "one probe at a time");
    breaker.end(probe, GOOD, TERMS, s(6), 0.0);

    for allowed in [1_u32, 2, 4, 8] {
        assert_eq!(breaker.name(), "half_open");
        let started: Vec<_> = (0..allowed).map(|_| breaker.start(s(0))).collect();
        assert!(!breaker.has_room(), "{allowed} at once");
        for (number, generation) in started.into_iter().enumerate() {
            let said = if number == 0 { GOOD } else { None };
            breaker.end(generation, said, TERMS, s(7), 0.0);
        }
    }
    assert!(breaker.is_closed());
}

#[test]
fn a_failure_in_the_ramp_costs_nothing_but_its_place() {
    for said in [FAILED, UNREACHABLE, TOO_FAST] {
        let mut breaker = tripped(s(0));
        answer(&mut breaker, GOOD, s(5));
        answer(&mut breaker, GOOD, s(5));
        for _ in 0..4 {
            answer(&mut breaker, said, s(6));
            assert_eq!(breaker.state, State::Ramp { allowed: 2 }, "{said:?}");
        }
        for _ in 0..3 {
            answer(&mut breaker, said, s(6));
            answer(&mut breaker, GOOD, s(6));
        }
        assert!(breaker.is_closed(), "{said:?}");
    }
}

#[test]
fn a_probe_that_says_nothing_makes_room_for_another() {
    for said in [None, THROTTLED] {
        let mut breaker = tripped(s(0));
        answer(&mut breaker, said, s(5));
        assert!(breaker.is_half_open() && breaker.has_room(), "{said:?}");
    }
}

#[test]
fn what_was_started_before_it_opened_moves_nothing() {
    for late in [GOOD, FAILED, UNREACHABLE, THROTTLED, None] {
        let mut breaker = Breaker::new();
        let slow = breaker.start(s(0));
        for _ in 0..3 {
            answer(&mut breaker, UNREACHABLE, s(0));
        }
        breaker.end(slow, late, TERMS, s(1), 0.0);
        assert_eq!(breaker.open_until(), Some(s(5)), "{late:?}");

        let mut breaker = Breaker::new();
        let slow = breaker.start(s(0));
        for _ in 0..3 {
            answer(&mut breaker, UNREACHABLE, s(0));
        }
        breaker.look(s(5));
        breaker.start(s(0));
        breaker.end(slow, late, TERMS, s(6), 0.0);
        assert!(breaker.is_half_open(), "{late:?}");
        assert!(
            !breaker.has_room(),
            "the probe is still on its way: {late:?}"
        );
    }
}

#[test]
fn one_that_somebody_says_is_well_is_probed_at_once_and_does_not_probe_twice() {
    let mut breaker = tripped(s(0));
    open_times(&mut breaker, s(0), 4);
    breaker.probe_now();
    assert!(breaker.is_half_open());
    let probe = breaker.start(s(1));
    breaker.probe_now();
    assert!(!breaker.has_room());
    breaker.end(probe, FAILED, TERMS, s(1), 0.0);
    assert_eq!(breaker.open_until(), Some(s(6)), "as for the first time");

    let mut breaker = Breaker::new();
    breaker.probe_now();
    assert!(breaker.is_closed());
}

/// One endpoint that is sent twenty a second, and a share of them fails.
struct Trial {
    breaker: Breaker,
    rng: StdRng,
    mono: Duration,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let mut breaker = Breaker::new();
        breaker.presume_well(s(0));
        let (rng, mono) = (StdRng::seed_from_u64(seed), s(0));
        Self { breaker, rng, mono }
    }

    /// For how long it is held in these seconds.
    fn held(&mut self, share: f64, failure: Option<Feedback>, seconds: u64) -> Duration {
        let (end, step) = (self.mono + s(seconds), Duration::from_millis(50));
        let mut held = Duration::ZERO;
        while self.mono < end {
            self.breaker.look(self.mono);
            if self.breaker.has_room() {
                let fails = self.rng.random_bool(share);
                answer(
                    &mut self.breaker,
                    if fails { failure } else { GOOD },
                    self.mono,
                );
            } else {
                held += step;
            }
            self.mono += step;
        }
        held
    }
}

#[test]
fn a_share_below_seven_of_ten_is_served_a_minute_after_an_outage_or_a_start() {
    for failure in [FAILED, UNREACHABLE] {
        for share in [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65] {
            for (seed, outage) in (0..100).flat_map(|seed| [(seed, 0), (seed, 15), (seed, 30)]) {
                let mut trial = Trial::new(seed);
                trial.held(share, failure, 60);
                trial.held(1.0, failure, outage);
                trial.held(share, failure, 60);
                let held = trial.held(share, failure, 60);
                let told = format!("SEED={seed} {share} {outage} {failure:?}");
                assert!(held <= s(1), "{told}: held for {held:?} of a minute");
            }
        }
    }
}

#[test]
fn a_share_above_seven_of_ten_is_held_back_alike_whether_there_was_an_outage_or_not() {
    for share in [0.8, 0.9, 0.95] {
        let part_held = |outage| {
            let (trials, seconds) = (40, 1_200);
            let held: Duration = (0..trials)
                .map(|seed| {
                    let mut trial = Trial::new(seed);
                    trial.held(share, FAILED, 60);
                    trial.held(1.0, FAILED, outage);
                    trial.held(share, FAILED, 60);
                    trial.held(share, FAILED, seconds)
                })
                .sum();
            held.as_secs_f64() / (trials * seconds) as f64
        };
        let (without, with) = (part_held(0), part_held(15));
        assert!((without - with).abs() < 0.03, "{share}: {without}, {with}");
        assert!(without > 0.15, "{share}: {without}");
    }
}

fn said() -> impl Strategy<Value = Option<Feedback>> {
    prop_oneof![
        Just(GOOD),
        Just(FAILED),
        Just(UNREACHABLE),
        Just(THROTTLED),
        Just(TOO_FAST),
        Just(None)
    ]
}

proptest! {
    // S10 and L3, whatever is answered whenever.
    #[test]
    fn nothing_starts_while_it_is_open_and_one_while_it_is_half_open(
        steps in prop::collection::vec((0_u64..20_000, any::<prop::sample::Index>(), said(), 0.0..=1.0), 1..200)
    ) {
        let mut breaker = Breaker::new();
        let (mut mono, mut out): (_, Vec<u64>) = (Duration::ZERO, Vec::new());
        for (millis, which, said, jitter) in steps {
            mono += Duration::from_millis(millis);
            breaker.look(mono);
            let current = |breaker: &Breaker, out: &[u64]| {
                out.iter().filter(|generation| breaker.is_current(**generation)).count()
            };
            if breaker.has_room() {
                prop_assert!(breaker.open_until().is_none(), "S10");
                out.push(breaker.start(mono));
            }
            if breaker.is_half_open() {
                prop_assert!(current(&breaker, &out) <= 1, "S10: one probe at a time");
            }
            if let Some(until) = breaker.open_until() {
                prop_assert!(until > mono && until - mono <= OPEN_MAX.mul_f64(1.0 + JITTER), "L3");
            }
            if out.len() > 4 {
                let generation = out.swap_remove(which.index(out.len()));
                breaker.end(generation, said, TERMS, mono, jitter);
            }
            prop_assert_eq!(breaker.out as usize, current(&breaker, &out));
        }
    }
}
