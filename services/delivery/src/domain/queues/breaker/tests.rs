use proptest::prelude::*;

use super::*;

const GOOD: Option<Answer> = Some(Answer::Success {
    took: Duration::from_millis(5),
});
const FAILED: Option<Answer> = Some(Answer::Failed);
const UNREACHABLE: Option<Answer> = Some(Answer::Unreachable);
const THROTTLED: Option<Answer> = Some(Answer::Throttled { until: None });

const CAP: u32 = 16;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Sends one, which is answered at `mono`.
fn answer(breaker: &mut Breaker, answer: Option<Answer>, mono: Duration) {
    breaker.look(mono);
    assert!(breaker.has_room(), "{:?} at {mono:?}", breaker.state);
    let generation = breaker.start();
    breaker.end(generation, answer, CAP, mono, 0.0);
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
fn seven_bad_of_ten_in_a_minute_open_it_and_fewer_do_not() {
    for (good, bad, apart, opens) in [
        (3, 7, 1, true),
        (4, 6, 1, false),
        (0, 9, 1, false),
        (0, 10, 1, true),
        // Ten bad ones, but never ten in a minute.
        (0, 10, 7, false),
        (30, 70, 0, true),
        (31, 69, 0, false),
    ] {
        let mut breaker = Breaker::new();
        let mut mono = s(1_000);
        for number in 0..good + bad {
            mono += s(apart);
            let said = if number < good { GOOD } else { FAILED };
            answer(&mut breaker, said, mono);
        }
        let found = !breaker.is_closed();
        assert_eq!(found, opens, "{good} good, {bad} bad, {apart} s apart");
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
fn a_success_protects_for_a_minute_only() {
    let mut breaker = Breaker::new();
    answer(&mut breaker, GOOD, s(0));
    for mono in [20, 40, 59] {
        answer(&mut breaker, UNREACHABLE, s(mono));
        assert!(breaker.is_closed());
    }
    answer(&mut breaker, UNREACHABLE, s(60));
    assert_eq!(breaker.open_until(), Some(s(65)));
}

#[test]
fn it_opens_for_five_seconds_and_twice_as_long_each_time_up_to_a_quarter_of_an_hour() {
    let mut breaker = tripped(s(0));
    let mut mono = s(0);
    for length in [5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900] {
        assert_eq!(breaker.open_until(), Some(mono + s(length)));
        mono += s(length);
        breaker.look(mono - Duration::from_nanos(1));
        assert!(!breaker.has_room());
        answer(&mut breaker, FAILED, mono);
    }
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
            let generation = breaker.start();
            breaker.end(generation, UNREACHABLE, CAP, s(0), jitter);
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
    let probe = breaker.start();
    assert!(!breaker.has_room(), "one probe at a time");
    breaker.end(probe, GOOD, CAP, s(6), 0.0);

    for allowed in [1_u32, 2, 4, 8] {
        assert_eq!(breaker.name(), "half_open");
        let started: Vec<_> = (0..allowed).map(|_| breaker.start()).collect();
        assert!(!breaker.has_room(), "{allowed} at once");
        for (number, generation) in started.into_iter().enumerate() {
            let said = if number == 0 { GOOD } else { None };
            breaker.end(generation, said, CAP, s(7), 0.0);
        }
    }
    assert!(breaker.is_closed());

    for _ in 0..10 {
        answer(&mut breaker, FAILED, s(100));
    }
    assert_eq!(
        breaker.open_until(),
        Some(s(105)),
        "the earlier trips are forgotten"
    );
}

#[test]
fn a_failure_in_the_ramp_opens_it_for_longer() {
    for said in [FAILED, UNREACHABLE] {
        let mut breaker = tripped(s(0));
        answer(&mut breaker, GOOD, s(5));
        answer(&mut breaker, GOOD, s(5));
        answer(&mut breaker, said, s(6));
        assert_eq!(breaker.open_until(), Some(s(16)), "{said:?}");
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
        let slow = breaker.start();
        for _ in 0..3 {
            answer(&mut breaker, UNREACHABLE, s(0));
        }
        breaker.end(slow, late, CAP, s(1), 0.0);
        assert_eq!(breaker.open_until(), Some(s(5)), "{late:?}");

        let mut breaker = Breaker::new();
        let slow = breaker.start();
        for _ in 0..3 {
            answer(&mut breaker, UNREACHABLE, s(0));
        }
        breaker.look(s(5));
        breaker.start();
        breaker.end(slow, late, CAP, s(6), 0.0);
        assert!(breaker.is_half_open(), "{late:?}");
        assert!(
            !breaker.has_room(),
            "the probe is still on its way: {late:?}"
        );
    }
}

#[test]
fn one_that_is_careful_begins_with_a_probe_and_does_not_probe_twice() {
    let mut breaker = Breaker::new();
    breaker.be_careful();
    assert!(breaker.is_half_open());
    let probe = breaker.start();
    breaker.be_careful();
    assert!(!breaker.has_room());
    breaker.end(probe, FAILED, CAP, s(1), 0.0);
    assert_eq!(breaker.open_until(), Some(s(6)));
    breaker.be_careful();
    assert!(breaker.is_half_open());
}

fn said() -> impl Strategy<Value = Option<Answer>> {
    prop_oneof![
        Just(GOOD),
        Just(FAILED),
        Just(UNREACHABLE),
        Just(THROTTLED),
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
                out.push(breaker.start());
            }
            if breaker.is_half_open() {
                prop_assert!(current(&breaker, &out) <= 1, "S10: one probe at a time");
            }
            if let Some(until) = breaker.open_until() {
                prop_assert!(until > mono && until - mono <= OPEN_MAX.mul_f64(1.0 + JITTER), "L3");
            }
            if out.len() > 4 {
                let generation = out.swap_remove(which.index(out.len()));
                breaker.end(generation, said, CAP, mono, jitter);
            }
            prop_assert_eq!(breaker.out as usize, current(&breaker, &out));
        }
    }
}
