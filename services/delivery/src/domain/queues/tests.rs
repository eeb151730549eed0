use jiff::SignedDuration;
use schema::webhooks::WaitingFor;

use super::*;

mod endpoints;
mod forgotten;
mod lines;
mod suspects;
mod whatever;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Both clocks agree, as long as nobody sets one.
fn now(second: u64) -> Now {
    Now {
        wall: at(i64::try_from(second).unwrap()),
        mono: Duration::from_secs(second),
    }
}

fn later(now: Now, millis: u64) -> Now {
    Now {
        wall: now.wall + Duration::from_millis(millis),
        mono: now.mono + Duration::from_millis(millis),
    }
}

const GOOD: Option<Feedback> = Some(Feedback::Lives {
    took: Duration::from_millis(5),
});
const SLOW: Option<Feedback> = Some(Feedback::Lives {
    took: Duration::from_secs(5),
});
const FAILED: Option<Feedback> = Some(Feedback::Failed);
const UNREACHABLE: Option<Feedback> = Some(Feedback::Unreachable);

fn rules() -> Rules {
    Rules {
        client: 1,
        max_in_flight: 10,
        rate_per_s: None,
        strict: false,
        enabled: true,
        longest_wait: SignedDuration::from_hours(1),
        probe_within: None,
    }
}

/// Endpoints 0, 1, … with these rules.
fn queues<const N: usize>(rules: [Rules; N]) -> Queues {
    let mut queues = Queues::new(Capacity::default());
    for (endpoint, rules) in (0..).zip(rules) {
        queues.set_endpoint(endpoint, rules, now(0));
    }
    queues
}

fn item(position: Position, due: i64) -> Item {
    Item {
        position,
        due_at: at(due),
        class: Class::First,
        kind: Kind::of("order.paid"),
        suspect: false,
        place: None,
    }
}

fn retry(position: Position, due: i64) -> Item {
    Item {
        class: Class::Retry,
        ..item(position, due)
    }
}

fn suspect(position: Position, due: i64) -> Item {
    Item {
        suspect: true,
        ..retry(position, due)
    }
}

fn positions(turns: &[Turn]) -> Vec<Position> {
    turns.iter().map(|turn| turn.position).collect()
}

/// Gives all back with this answer.
fn answer(queues: &mut Queues, turns: &[Turn], said: Option<Feedback>, now: Now) {
    for turn in turns {
        queues.release(&turn.permit, said, now, 0.0);
    }
}

/// Endpoint `key` has opened its breaker.
fn trip(queues: &mut Queues, key: Key, now: Now) {
    for _ in 0..3 {
        let permit = queues.reserve(key, None, now).unwrap();
        queues.release(&permit, UNREACHABLE, now, 0.0);
    }
    assert_eq!(queues.breaker(key), "open");
}

#[test]
fn what_is_due_goes_by_time_and_the_rest_waits() {
    let mut queues = queues([rules()]);
    for (position, due) in [(1, 30), (2, 10), (3, 20)] {
        queues.insert(0, item(position, due), now(0));
    }
    assert_eq!(positions(&queues.take(now(20), 64)), [2, 3]);
    assert_eq!(queues.next_look(now(20)), Some(Duration::from_secs(10)));
    assert_eq!((queues.open(), queues.open_of(0)), (3, 3));
    assert_eq!(queues.oldest_due(), Some(at(30)));
}

#[test]
fn nothing_goes_a_nanosecond_before_it_is_due() {
    let mut queues = queues([rules()]);
    let due_at = at(5) + Duration::from_nanos(1);
    queues.insert(
        0,
        Item {
            due_at,
            ..item(1, 0)
        },
        now(0),
    );
    assert!(queues.take(now(5), 64).is_empty());
    let micro = Now {
        wall: at(5) + Duration::from_micros(1),
        ..now(5)
    };
    assert_eq!(positions(&queues.take(micro, 64)), [1]);
}

#[test]
fn one_that_was_ready_by_another_clock_stops_nobody() {
    let mut queues = queues([rules(), rules()]);
    queues.insert(0, item(1, 5), now(5));
    queues.insert(1, item(2, 4), now(5));
    assert_eq!(positions(&queues.take(now(4), 64)), [2]);
    assert_eq!(positions(&queues.take(now(5), 64)), [1]);
}

#[test]
fn a_full_endpoint_holds_its_own_and_nobody_elses() {
    let one = Rules {
        max_in_flight: 1,
        ..rules()
    };
    let mut queues = queues([one.clone(), one]);
    for position in 1..=3 {
        queues.insert(0, item(position, 0), now(0));
    }
    queues.insert(1, item(9, 5), now(0));
    let turns = queues.take(now(5), 64);
    assert_eq!(positions(&turns), [1, 9]);
    assert!(queues.reserve(0, None, now(5)).is_none());
    assert!(queues.take(now(5), 64).is_empty());
    assert_eq!(queues.next_look(now(5)), None, "only a slot can help");

    assert!(queues.release(&turns[0].permit, GOOD, now(5), 0.0));

    assert_eq!(positions(&queues.take(now(5), 64)), [2]);
}

#[test]
fn a_clock_that_is_set_back_leaves_nothing_due_beyond_the_longest_wait() {
    let mut queues = queues([rules()]);
    let ahead = 31_536_000;
    queues.insert(0, item(1, 31_536_005), now(ahead));
    queues.insert(0, suspect(2, 31_536_005), now(ahead));
    queues.insert(0, item(3, 60), now(0));
    let third = queues.take(now(ahead), 64);
    assert_eq!(positions(&third), [3]);
    let until = Some(at(31_539_600));
    answer(
        &mut queues,
        &third,
        Some(Feedback::Throttled { until }),
        now(ahead),
    );

    assert!(queues.take(now(100), 64).is_empty());

    assert_eq!(queues.oldest_due(), Some(at(3_700)));
    assert_eq!(
        queues.next_look(now(100)),
        Some(Duration::from_secs(3_600)),
        "so is a pause"
    );
    let first = queues.take(now(3_700), 64);
    assert_eq!(positions(&first), [2]);
    answer(&mut queues, &first, GOOD, now(3_700));
    assert_eq!(positions(&queues.take(now(3_700), 64)), [1]);
}

#[test]
fn a_clock_that_is_set_back_is_noticed_although_nothing_was_taken_while_it_was_ahead() {
    let mut queues = queues([rules()]);
    assert!(queues.take(now(0), 64).is_empty());
    queues.insert(0, item(1, 31_536_005), now(31_536_000));

    assert!(queues.take(now(100), 64).is_empty());

    assert_eq!(queues.oldest_due(), Some(at(3_700)));
}

#[test]
fn clients_take_turns_then_the_endpoints_of_a_client() {
    let of = |client| Rules { client, ..rules() };
    let mut queues = queues([of(1), of(1), of(2)]);
    for (endpoint, position) in [
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 11),
        (1, 12),
        (2, 21),
        (2, 22),
        (2, 23),
    ] {
        queues.insert(endpoint, item(position, 0), now(0));
    }
    assert_eq!(positions(&queues.take(now(0), 4)), [1, 21, 11, 22]);
    assert_eq!(positions(&queues.take(now(0), 64)), [2, 23, 12, 3]);
}

#[test]
fn whoever_was_served_the_longest_ago_is_next() {
    let mut queues = queues([rules(), rules()]);
    for position in 1..=3 {
        queues.insert(0, item(position, 0), now(0));
        queues.insert(1, item(10 + position, 9), now(0));
    }
    assert_eq!(positions(&queues.take(now(0), 1)), [1]);
    assert_eq!(positions(&queues.take(now(9), 64)), [11, 2, 12, 3, 13]);
}

#[test]
fn first_attempts_go_before_retries_and_neither_starves() {
    let mut queues = queues([rules()]);
    for position in 1..=6 {
        queues.insert(0, item(position, 9), now(0));
        queues.insert(0, retry(10 + position, 0), now(0));
    }
    let order = positions(&queues.take(now(9), 10));
    assert_eq!(order, [1, 2, 3, 11, 4, 5, 6, 12, 13, 14]);
}

#[test]
fn a_client_has_its_share_and_leaves_the_rest() {
    let capacity = Capacity {
        total: 10,
        per_client: 3,
    };
    let mut queues = Queues::new(capacity);
    for endpoint in 0..4 {
        let client = if endpoint < 3 { 1 } else { 2 };
        queues.set_endpoint(endpoint, Rules { client, ..rules() }, now(0));
        (0..5).for_each(|position| {
            queues.insert(endpoint, item(10 * endpoint + position, 0), now(0))
        });
    }
    let turns = queues.take(now(0), 64);
    assert_eq!(positions(&turns), [0, 30, 10, 31, 20, 32]);
    assert_eq!(queues.next_look(now(0)), None);
    queues.set_endpoint(4, rules(), now(0));
    assert!(queues.reserve(4, None, now(0)).is_none());
    answer(&mut queues, &turns[..1], GOOD, now(0));
    assert_eq!(
        positions(&queues.take(now(0), 64)),
        [1],
        "least lately served of those that are ready"
    );
}

#[test]
fn a_fifth_of_all_slots_is_kept_for_those_that_answer_quickly() {
    let mut queues = Queues::new(Capacity {
        total: 10,
        per_client: 10,
    });
    queues.set_endpoint(0, rules(), now(0));
    queues.set_endpoint(1, rules(), now(0));
    let proof = queues.reserve(1, None, now(0)).unwrap();
    queues.release(&proof, GOOD, now(0), 0.0);
    (0..20).for_each(|position| queues.insert(0, item(position, 0), now(0)));

    let hanging = queues.take(now(0), 64);

    assert_eq!(hanging.len(), 8);
    assert_eq!(queues.next_look(now(0)), None);
    for position in 30..=33 {
        queues.insert(1, item(position, 0), now(0));
    }
    let quick = queues.take(now(0), 64);
    assert_eq!(positions(&quick), [30, 31], "then the total is reached");
    answer(&mut queues, &quick[..1], SLOW, now(0));
    assert!(queues.take(now(0), 64).is_empty(), "it is quick no more");
}

#[test]
fn a_reservation_jumps_no_queue() {
    let mut queues = queues([rules()]);
    queues.insert(0, item(1, 5), now(0));
    let permit = queues.reserve(0, None, now(4)).unwrap();
    assert_eq!(queues.open(), 2);
    assert!(
        queues.reserve(0, None, now(5)).is_none(),
        "one that is due waits before it"
    );
    assert!(queues.release(&permit, GOOD, now(5), 0.0));
    assert!(
        queues.reserve(7, None, now(5)).is_none(),
        "nobody knows that endpoint"
    );
}

#[test]
fn while_slots_are_scarce_no_reservation_is_made_past_those_in_turn() {
    let mut queues = Queues::new(Capacity {
        total: 4,
        per_client: 4,
    });
    queues.set_endpoint(0, rules(), now(0));
    queues.set_endpoint(1, rules(), now(0));
    queues.insert(1, item(1, 0), now(0));
    let first = queues.reserve(0, None, now(0)).unwrap();
    assert!(queues.reserve(0, None, now(0)).is_some());
    assert!(queues.reserve(0, None, now(0)).is_none());
    queues.release(&first, GOOD, now(0), 0.0);
    assert!(queues.reserve(0, None, now(0)).is_some());
}

#[test]
fn a_reservation_leaves_to_the_quick_what_is_kept_for_them() {
    let mut queues = Queues::new(Capacity {
        total: 5,
        per_client: 5,
    });
    queues.set_endpoint(0, rules(), now(0));
    let reserve = |queues: &mut Queues| queues.reserve(0, None, now(0));
    let permits: Vec<Permit> = (0..5).filter_map(|_| reserve(&mut queues)).collect();
    assert_eq!(permits.len(), 4);
    queues.release(&permits[0], GOOD, now(0), 0.0);
    assert!(reserve(&mut queues).is_some());
    assert!(reserve(&mut queues).is_some());
    assert!(reserve(&mut queues).is_none());
}

#[test]
fn nothing_of_an_unknown_endpoint_does_anything() {
    let mut queues = queues([]);
    queues.insert(5, item(1, 0), now(0));
    queues.supersede(5, 1, now(0));
    queues.end(5, 1, 1, true, now(0));
    queues.unblock(5, now(0));
    queues.presume_well(now(0));
    queues.remove_endpoint(5);
    assert!(queues.take(now(9), 64).is_empty());
    assert_eq!((queues.open(), queues.fresh_of(5)), (0, 0));
    assert_eq!(queues.oldest_due(), None);
    assert_eq!(queues.breaker(5), "closed");
}

/// The claim is about work, not about time: how many endpoints are looked at, of 1,000 with a thousand waiting each.
#[test]
fn a_million_that_wait_are_not_looked_at() {
    const ENDPOINTS: Key = 1_000;
    const READY: Key = 10;
    let mut queues = Queues::new(Capacity::default());
    for endpoint in 0..ENDPOINTS {
        let held = Rules {
            client: endpoint % 50,
            enabled: endpoint % 3 != 0 || endpoint < READY,
            ..rules()
        };
        queues.set_endpoint(endpoint, held, now(0));
        if endpoint >= READY && endpoint % 3 == 1 {
            trip(&mut queues, endpoint, now(1));
        }
        for number in 0..1_000 {
            let due = if endpoint < READY || endpoint % 3 != 2 {
                0
            } else {
                1_000
            };
            queues.insert(endpoint, item(endpoint * 1_000 + number, due), now(1));
        }
    }
    assert_eq!(queues.open(), 1_000_000);
    queues.touched = 0;

    let turns = queues.take(now(1), 64);

    assert_eq!(turns.len(), 64);
    assert!(turns.iter().all(|turn| turn.endpoint < READY));
    assert!(
        queues.touched <= 64,
        "{} endpoints were looked at",
        queues.touched
    );
    assert_eq!(queues.next_look(now(1)), Some(Duration::ZERO));
    answer(&mut queues, &turns, GOOD, now(1));
    assert!(
        queues.touched <= 128,
        "{} endpoints were looked at",
        queues.touched
    );
}
