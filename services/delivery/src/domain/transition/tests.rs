use jiff::SignedDuration;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

const FAILURE: Verdict = Verdict::Failure {
    error: "http_5xx",
    retry_after: None,
    gone: false,
};

const GONE: Verdict = Verdict::Failure {
    error: "gone",
    retry_after: None,
    gone: true,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn policy() -> Policy {
    Policy::of_seconds(&[0, 10, 100]).unwrap()
}

/// Applies inputs, each at its second.
fn live(inputs: &[(i64, Input)]) -> (Life, Vec<Effect>) {
    live_under(&policy(), inputs)
}

/// As [`live`], under another policy.
fn live_under(policy: &Policy, inputs: &[(i64, Input)]) -> (Life, Vec<Effect>) {
    let mut rng = StdRng::seed_from_u64(1);
    let mut life = Life::accepted(policy, at(0));
    let mut effects = Vec::new();
    for (second, input) in inputs {
        (life, effects) = transition(&life, *input, policy, at(*second), &mut rng);
    }
    (life, effects)
}

const BY_HAND: Input = Input::Retry {
    trigger: Trigger::Manual,
};
const CANCEL: Input = Input::Stop(ExhaustReason::Canceled);

const fn start(epoch: u64) -> Input {
    Input::Start {
        epoch,
        alone: false,
    }
}

const fn start_alone(epoch: u64) -> Input {
    Input::Start { epoch, alone: true }
}

const fn finish(attempt: u32, epoch: u64, verdict: Verdict) -> Input {
    Input::Finish {
        attempt,
        epoch,
        verdict,
    }
}

#[test]
fn a_2xx_ends_it() {
    let (life, effects) = live(&[(0, start(1)), (1, finish(1, 1, Verdict::Success))]);
    assert_eq!(life.state, State::Delivered);
    assert_eq!((life.due_at, life.open), (None, None));
    assert_eq!(effects, [Effect::Report]);
}

#[test]
fn a_failure_waits_for_the_schedule() {
    let (life, effects) = live(&[(0, start(1)), (1, finish(1, 1, FAILURE))]);
    assert_eq!(life.state, State::Failed);
    let due = life.due_at.unwrap();
    assert!((at(11)..=at(13)).contains(&due), "{due}");
    assert_eq!(effects, [Effect::Report, Effect::Wake { at: due }]);
}

#[test]
fn the_last_failure_exhausts_it() {
    let (life, effects) = live(&[
        (0, start(1)),
        (1, finish(1, 1, FAILURE)),
        (20, start(1)),
        (21, finish(2, 1, FAILURE)),
        (200, start(1)),
        (201, finish(3, 1, FAILURE)),
    ]);
    assert_eq!(life.state, State::Exhausted(ExhaustReason::MaxAttempts));
    assert_eq!(life.due_at, None);
    let shout = Effect::Shout(ExhaustReason::MaxAttempts);
    assert_eq!(effects, [Effect::Report, shout]);
}

#[test]
fn an_interruption_is_due_at_once_and_not_charged() {
    let (life, effects) = live(&[
        (0, start(1)),
        (1, finish(1, 1, FAILURE)),
        (20, start(1)),
        (30, Input::Interrupt { epoch: 2 }),
    ]);
    assert_eq!(life.state, State::Failed);
    assert_eq!((life.started, life.finished, life.interrupted), (2, 1, 1));
    assert_eq!(effects, [Effect::Wake { at: at(30) }]);
}

/// Attempt after attempt of a policy, each begun when it is due and interrupted by the next owner, until nothing is due.
fn interrupted_again_and_again(
    policy: &Policy,
    before: &[(i64, Input)],
    at_most: usize,
) -> Vec<Life> {
    let mut rng = StdRng::seed_from_u64(1);
    let (mut life, _) = live_under(policy, before);
    let mut lives = Vec::new();
    for epoch in 10..10 + at_most as u64 {
        let Some(due) = life.due_at else { break };
        let start = Input::Start { epoch, alone: true };
        (life, _) = transition(&life, start, policy, due, &mut rng);
        let died = due + SignedDuration::from_secs(1);
        (life, _) = transition(
            &life,
            Input::Interrupt { epoch: epoch + 1 },
            policy,
            died,
            &mut rng,
        );
        lives.push(life.clone());
    }
    lives
}

#[test]
fn two_interruptions_in_a_row_are_ours_and_it_is_a_suspect_then() {
    let lives = interrupted_again_and_again(&policy(), &[], 2);
    for (life, second) in lives.iter().zip([1, 2]) {
        assert_eq!((life.state, life.finished), (State::Pending, 0));
        assert_eq!(life.due_at, Some(at(second)), "at once");
    }
    assert!(!lives[0].is_suspect() && lives[1].is_suspect());

    let mut rng = StdRng::seed_from_u64(1);
    let (_, effects) = transition(&lives[1], start(99), &policy(), at(9), &mut rng);
    assert_eq!(effects, [Effect::Refuse(Refusal::NotAlone)]);
}

#[test]
fn from_the_third_in_a_row_on_an_interruption_is_charged_and_the_next_comes_by_the_schedule() {
    let lives = interrupted_again_and_again(&policy(), &[], 99);
    let charged: Vec<u32> = lives.iter().map(|life| life.finished).collect();
    assert_eq!(charged, [0, 0, 1, 2, 3], "of three attempts");
    assert!(
        (at(13)..=at(15)).contains(&lives[2].due_at.unwrap()),
        "{lives:?}"
    );
    assert_eq!(lives[3].state, State::Failed);
    let last = &lives[4];
    assert_eq!(last.state, State::Exhausted(ExhaustReason::Poison));
    assert_eq!((last.started, last.interrupted, last.open), (5, 2, None));
}

#[test]
fn what_its_receiver_has_answered_is_no_poison() {
    let answered = [(0, start(1)), (1, finish(1, 1, FAILURE))];
    let lives = interrupted_again_and_again(&policy(), &answered, 99);
    let last = lives.last().unwrap();
    assert_eq!(last.state, State::Exhausted(ExhaustReason::MaxAttempts));
    assert_eq!((last.started, last.finished), (5, 3));
}

#[test]
fn a_page_is_never_used_up_by_interruptions_and_comes_by_its_schedule() {
    let mut policy = policy();
    policy.ends_by_schedule_only = true;
    let lives = interrupted_again_and_again(&policy, &[], 300);
    assert_eq!(lives.len(), 300);
    let waits = lives.windows(2).map(|pair| {
        let died = pair[0].due_at.unwrap() + SignedDuration::from_secs(1);
        pair[1].due_at.unwrap().duration_since(died).as_secs()
    });
    let waits: Vec<i64> = waits.collect();
    assert_eq!(waits[0], 0);
    assert!((10..=12).contains(&waits[1]), "{waits:?}");
    assert!(
        waits[2..].iter().all(|wait| (100..=120).contains(wait)),
        "{waits:?}"
    );
    assert!(
        lives
            .iter()
            .all(|life| life.finished == 0 && life.state == State::Pending)
    );
}

#[test]
fn what_is_given_back_is_due_at_once_and_never_suspect() {
    let mut given_back = Vec::new();
    for epoch in 1..=5_i64 {
        given_back.push((epoch, start(epoch.cast_unsigned())));
        given_back.push((
            epoch,
            Input::GiveBack {
                epoch: epoch.cast_unsigned(),
            },
        ));
    }
    let (life, effects) = live(&given_back);
    assert_eq!((life.started, life.finished, life.interrupted), (5, 0, 5));
    assert_eq!(life.state, State::Pending);
    assert!(!life.is_suspect());
    assert_eq!(effects, [Effect::Wake { at: at(5) }]);
}

#[test]
fn a_result_clears_the_suspicion() {
    let (life, _) = live(&[
        (0, start(1)),
        (1, Input::Interrupt { epoch: 2 }),
        (2, start(2)),
        (3, Input::Interrupt { epoch: 3 }),
        (4, start_alone(3)),
        (5, finish(3, 3, FAILURE)),
    ]);
    assert!(!life.is_suspect());
    assert_eq!((life.finished, life.interrupted), (1, 2));
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let open = [(0, start(5))];
    let done = [(0, start(5)), (1, finish(1, 5, Verdict::Success))];
    let failed = [(0, start(5)), (1, finish(1, 5, FAILURE))];
    let until = live(&failed).0.due_at.unwrap();
    type Timed = (i64, Input);
    let cases: [(&[Timed], Timed, Refusal); 9] = [
        (&[], (-1, start(5)), Refusal::NotDue { until: at(0) }),
        (&open, (2, start(5)), Refusal::AttemptOpen),
        (&open, (2, finish(1, 4, FAILURE)), Refusal::Stale),
        (&open, (2, finish(2, 5, FAILURE)), Refusal::Stale),
        (&open, (2, Input::Interrupt { epoch: 4 }), Refusal::Stale),
        (&open, (2, Input::GiveBack { epoch: 4 }), Refusal::Stale),
        (&done, (2, start(5)), Refusal::Terminal),
        (&done, (2, finish(1, 5, FAILURE)), Refusal::Stale),
        (&failed, (2, start(5)), Refusal::NotDue { until }),
    ];
    for (before, input, refusal) in cases {
        let (after, effects) = live(&[before, &[input]].concat());
        assert_eq!(effects, [Effect::Refuse(refusal)], "{before:?} {input:?}");
        assert_eq!(after, live(before).0, "{before:?} {input:?}");
    }
}

#[test]
fn a_410_ends_it_and_disables_the_endpoint() {
    let (life, effects) = live(&[(0, start(1)), (1, finish(1, 1, GONE))]);
    assert_eq!(life.state, State::Exhausted(ExhaustReason::Gone));
    let shout = Effect::Shout(ExhaustReason::Gone);
    let disable = Effect::Disable(DisabledReason::Gone);
    assert_eq!(effects, [Effect::Report, shout, disable]);
}

#[test]
fn a_retry_by_hand_begins_a_new_generation_in_any_state() {
    let delivered = [(0, start(1)), (1, finish(1, 1, Verdict::Success))];
    let failed = [(0, start(1)), (1, finish(1, 1, FAILURE))];
    let canceled = [(0, CANCEL)];
    for before in [&[][..], &delivered, &failed, &canceled] {
        let (life, effects) = live(&[before, &[(50, BY_HAND)]].concat());
        assert_eq!(life.state, State::Pending, "{before:?}");
        assert_eq!((life.generation, life.finished), (1, 0), "{before:?}");
        assert_eq!(life.due_at, Some(at(50)), "{before:?}");
        assert_eq!(effects, [Effect::Wake { at: at(50) }], "{before:?}");
    }

    let again = [(50, BY_HAND), (50, start(1)), (51, finish(2, 1, FAILURE))];
    let (life, _) = live(&[&delivered[..], &again].concat());
    assert_eq!((life.started, life.before, life.finished), (2, 1, 1));
    assert_eq!(life.state, State::Failed, "with a full schedule");
}

#[test]
fn the_first_attempt_of_a_generation_tells_what_made_it() {
    let by_hand = [(50, BY_HAND), (50, start(1))];
    let (life, _) = live(&by_hand);
    assert_eq!(life.open.map(|open| open.trigger), Some(Trigger::Manual));

    let interrupted = [(51, Input::Interrupt { epoch: 2 }), (51, start(2))];
    let (life, _) = live(&[&by_hand[..], &interrupted].concat());
    assert_eq!(life.open.map(|open| open.trigger), Some(Trigger::Manual));

    let failed = [(51, finish(1, 1, FAILURE)), (99, start(1))];
    let (life, _) = live(&[&by_hand[..], &failed].concat());
    assert_eq!(life.open.map(|open| open.trigger), Some(Trigger::Schedule));
}

#[test]
fn an_attempt_on_its_way_becomes_the_first_of_the_new_generation() {
    let (life, effects) = live(&[(0, start(1)), (1, BY_HAND)]);
    assert_eq!(effects, []);
    assert_eq!((life.started, life.before, life.generation), (1, 0, 1));
    let (life, _) = live(&[(0, start(1)), (1, BY_HAND), (2, finish(1, 1, FAILURE))]);
    assert_eq!((life.state, life.finished), (State::Failed, 1));
}

#[test]
fn what_is_canceled_has_no_attempt_after_the_one_on_its_way() {
    let canceled = State::Exhausted(ExhaustReason::Canceled);
    let (life, effects) = live(&[(0, CANCEL)]);
    assert_eq!((life.state, life.due_at), (canceled, None));
    assert_eq!(effects, [Effect::Report], "what was asked for is no news");

    let open = [(0, start(1)), (1, CANCEL)];
    let (life, effects) = live(&open);
    assert_eq!((life.state, effects), (State::Pending, vec![]));
    for (input, state) in [
        (finish(1, 1, Verdict::Success), State::Delivered),
        (finish(1, 1, FAILURE), canceled),
        (Input::Interrupt { epoch: 2 }, canceled),
        (Input::GiveBack { epoch: 1 }, canceled),
    ] {
        let (life, _) = live(&[&open[..], &[(2, input)]].concat());
        assert_eq!((life.state, life.stop), (state, None), "{input:?}");
    }
}

#[test]
fn what_is_older_than_its_endpoint_wants_is_not_sent() {
    let expired = State::Exhausted(ExhaustReason::Expired);
    let mut policy = policy();
    policy.max_age = Some(SignedDuration::from_secs(60));
    let (life, effects) = live_under(&policy, &[(61, start(1))]);
    assert_eq!((life.state, life.started), (expired, 0));
    assert_eq!(
        effects,
        [Effect::Report, Effect::Shout(ExhaustReason::Expired)]
    );

    // The attempt after the next wait would come too late.
    let twice = [
        (0, start(1)),
        (1, finish(1, 1, FAILURE)),
        (30, start(1)),
        (31, finish(2, 1, FAILURE)),
    ];
    assert_eq!(live_under(&policy, &twice).0.state, expired);

    policy.ages_from_first_attempt = true;
    let late = [(5_000, start(1)), (5_001, finish(1, 1, FAILURE))];
    let (life, _) = live_under(&policy, &late);
    assert_eq!(life.state, State::Failed, "it has waited for others");
    assert_eq!(life.age_from, at(5_000));
}

#[test]
fn state_words_are_read_back() {
    let plain = [State::Pending, State::Failed, State::Delivered];
    let exhausted = ExhaustReason::ALL.iter().copied().map(State::Exhausted);
    let skipped = SkipReason::ALL.iter().copied().map(State::Skipped);
    for state in plain.into_iter().chain(exhausted).chain(skipped) {
        let read = State::parse(state.status().as_str(), state.reason());
        assert_eq!(read, Some(state));
    }
    assert_eq!(State::parse("exhausted", None), None);
    assert_eq!(State::parse("delivered", Some("poison")), None);
}

/// What chance may do to a delivery. Numbers and epochs are near the true ones, so that most inputs are nearly right.
#[derive(Clone, Debug)]
enum Chance {
    Pass(i64),
    Start { alone: bool },
    Finish { number: u32, success: bool },
    NewOwner,
    TaskDies,
    Stop,
    OldOwnerReports { success: bool },
    ByHand,
    Cancel,
}

fn chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        (0_i64..200).prop_map(Chance::Pass),
        any::<bool>().prop_map(|alone| Chance::Start { alone }),
        (0_u32..3, prop::bool::weighted(0.2))
            .prop_map(|(number, success)| Chance::Finish { number, success }),
        Just(Chance::NewOwner),
        Just(Chance::TaskDies),
        Just(Chance::Stop),
        any::<bool>().prop_map(|success| Chance::OldOwnerReports { success }),
        Just(Chance::ByHand),
        Just(Chance::Cancel),
    ]
}

fn verdict(success: bool) -> Verdict {
    if success { Verdict::Success } else { FAILURE }
}

proptest! {
    #[test]
    fn the_invariants_hold_whatever_comes(seed: u64, chances in prop::collection::vec(chance(), 0..80)) {
        let policy = policy();
        let max = policy.max_attempts();
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut now, mut epoch) = (at(0), 1);
        let mut life = Life::accepted(&policy, now);
        let (mut sends, mut answered_2xx) = (Vec::new(), 0);

        for chance in chances {
            let input = match chance {
                Chance::Pass(seconds) => {
                    now += SignedDuration::from_secs(seconds);
                    continue;
                }
                Chance::Start { alone } => Input::Start { epoch, alone },
                Chance::Finish { number, success } => Input::Finish {
                    attempt: (life.started + number).saturating_sub(1), epoch, verdict: verdict(success),
                },
                Chance::NewOwner => {
                    epoch += 1;
                    Input::Interrupt { epoch }
                }
                Chance::TaskDies => Input::Interrupt { epoch },
                Chance::Stop => Input::GiveBack { epoch },
                Chance::OldOwnerReports { success } => Input::Finish {
                    attempt: life.started, epoch: epoch - 1, verdict: verdict(success),
                },
                Chance::ByHand => BY_HAND,
                Chance::Cancel => CANCEL,
            };
            let before = life.clone();
            let effects;
            (life, effects) = transition(&before, input, &policy, now, &mut rng);

            let refused = matches!(effects[..], [Effect::Refuse(_)]);
            prop_assert_eq!(refused, life == before, "S9: refused is unchanged");
            if before.state.is_terminal() && input != BY_HAND {
                prop_assert_eq!(&life, &before, "S3: terminal is final");
            }
            if life.generation > before.generation {
                answered_2xx = 0;
            }
            for effect in &effects {
                if let Effect::Send { attempt } = effect {
                    prop_assert_eq!(*attempt, before.started + 1, "S7: numbers grow by one");
                    prop_assert!(before.due_at.is_some_and(|due| due <= now), "S11: not before due");
                    prop_assert!(!before.is_suspect() || life.open.is_some_and(|open| open.alone));
                    prop_assert_eq!(answered_2xx, 0, "S8: nothing is sent after a 2xx");
                    sends.push(*attempt);
                }
            }
            if let Input::Finish { verdict: Verdict::Success, .. } = input && !refused {
                answered_2xx += 1;
            }
            prop_assert_eq!(life.state == State::Delivered, answered_2xx == 1, "S4: delivered is a 2xx");
            prop_assert!(life.finished <= max, "S6");
            prop_assert!(life.started - life.before <= max + life.interrupted, "S6");
            prop_assert!(sends.len() <= life.started as usize, "S6: sends are counted");
            prop_assert_eq!(
                life.started - life.before,
                life.finished + life.interrupted + u32::from(life.open.is_some()),
                "no attempt unaccounted"
            );
            if life.state == State::Exhausted(ExhaustReason::MaxAttempts) {
                prop_assert_eq!(life.finished, max, "S5");
            }
            prop_assert_eq!(life.due_at.is_none(), life.state.is_terminal(), "S13: what is open is due some time");
        }
    }
}

#[test]
fn a_410_ends_a_delivery_for_good_but_not_a_page() {
    let inputs = [(0, start(1)), (1, finish(1, 1, GONE))];
    let (life, effects) = live(&inputs);
    assert_eq!(life.state, State::Exhausted(ExhaustReason::Gone));
    assert!(effects.contains(&Effect::Disable(DisabledReason::Gone)));

    let of_pages = Policy::of_pages(&[0, 10], 1).unwrap();
    let (life, effects) = live_under(&of_pages, &inputs);
    assert_eq!(life.state, State::Failed);
    assert!(
        matches!(effects[..], [Effect::Report, Effect::Wake { .. }]),
        "{effects:?}"
    );
}
