use super::*;

fn strict() -> Rules {
    Rules {
        strict: true,
        ..rules()
    }
}

fn placed(line: u64, position: Position, started: bool, due: i64) -> Item {
    let order_at = position;
    Item {
        place: Some(Place {
            line,
            order_at,
            started,
        }),
        ..item(position, due)
    }
}

fn release(queues: &mut Queues, turn: &Turn) {
    queues.release(&turn.permit, GOOD, now(0), 0.0);
}

#[test]
fn of_each_line_one_goes_at_a_time_in_order() {
    let mut queues = queues([strict()]);
    for (line, position) in [(1, 3), (1, 1), (2, 4), (1, 2)] {
        queues.insert(0, placed(line, position, false, 0), now(0));
    }
    let turns = queues.take(now(0), 64);
    assert_eq!(positions(&turns), [1, 4]);
    assert_eq!(turns[0].permit.line, Some(1));
    release(&mut queues, &turns[0]);
    assert!(
        queues.take(now(0), 64).is_empty(),
        "its outcome is being committed"
    );
    queues.end(0, 1, 1, false, now(0));
    let turns = queues.take(now(0), 64);
    assert_eq!(positions(&turns), [2]);
    assert_eq!(queues.open(), 3);
}

#[test]
fn one_that_failed_stays_the_head() {
    let mut queues = queues([strict()]);
    queues.insert(0, placed(1, 1, false, 0), now(0));
    queues.insert(0, placed(1, 2, false, 0), now(0));
    let turns = queues.take(now(0), 64);
    release(&mut queues, &turns[0]);
    queues.insert(0, placed(1, 1, true, 5), now(0));
    assert!(queues.take(now(4), 64).is_empty());
    assert_eq!(queues.next_look(now(4)), Some(Duration::from_secs(1)));
    assert_eq!(positions(&queues.take(now(5), 64)), [1]);
}

#[test]
fn one_that_was_started_goes_before_all_that_were_not() {
    let mut queues = queues([strict()]);
    queues.insert(0, placed(1, 1, false, 0), now(0));
    queues.insert(0, placed(1, 9, true, 0), now(0));
    assert_eq!(positions(&queues.take(now(0), 64)), [9]);
}

#[test]
fn a_blocked_line_stops_until_its_head_is_decided_about() {
    type Decide = fn(&mut Queues);
    let decisions: [Decide; 2] = [
        |queues| queues.supersede(0, 1, now(0)),
        |queues| queues.unblock(0, now(0)),
    ];
    for decide in decisions {
        let mut queues = queues([strict()]);
        for (line, position) in [(1, 1), (1, 2), (2, 3)] {
            queues.insert(0, placed(line, position, false, 0), now(0));
        }
        let turns = queues.take(now(0), 64);
        turns.iter().for_each(|turn| release(&mut queues, turn));
        queues.end(0, 1, 1, true, now(0));
        queues.end(0, 2, 3, false, now(0));
        assert!(queues.take(now(0), 64).is_empty());
        assert!(queues.reserve(0, Some(1), now(0)).is_none());
        let asked = queues.waiting_for(0, at(0), 2, Some(1), now(0));
        assert_eq!(
            (asked, queues.oldest_due()),
            (WaitingFor::Order, Some(at(0)))
        );

        decide(&mut queues);

        assert_eq!(positions(&queues.take(now(0), 64)), [2]);
    }
}

#[test]
fn a_line_that_is_found_blocked_after_a_restart_is_blocked() {
    let mut queues = queues([strict()]);
    queues.insert(0, placed(1, 2, false, 0), now(0));
    queues.end(0, 1, 1, true, now(0));
    assert!(queues.take(now(0), 64).is_empty());
    queues.supersede(0, 1, now(0));
    queues.insert(0, placed(1, 3, false, 0), now(0));
    assert_eq!(positions(&queues.take(now(0), 64)), [2]);
}

#[test]
fn a_superseded_head_gives_way_to_the_next() {
    let mut queues = queues([strict()]);
    for position in 1..=3 {
        queues.insert(0, placed(1, position, false, 0), now(0));
    }
    queues.supersede(0, 1, now(0));
    queues.supersede(0, 2, now(0));
    assert_eq!(queues.open(), 1);
    assert_eq!(positions(&queues.take(now(0), 64)), [3]);
}

#[test]
fn a_reservation_is_the_head_of_a_line_that_is_empty() {
    let mut queues = queues([strict()]);
    let permit = queues.reserve(0, Some(1), now(0)).unwrap();
    assert!(queues.reserve(0, Some(1), now(0)).is_none());
    assert!(queues.reserve(0, Some(2), now(0)).is_some());
    queues.insert(0, placed(1, 6, false, 0), now(0));
    assert!(queues.take(now(0), 64).is_empty());

    queues.settle(&permit, 5, now(0));
    queues.release(&permit, FAILED, now(0), 0.0);
    queues.insert(0, placed(1, 5, true, 3), now(0));
    assert!(queues.take(now(2), 64).is_empty());
    let turns = queues.take(now(3), 64);
    assert_eq!(positions(&turns), [5]);
    release(&mut queues, &turns[0]);
    queues.end(0, 1, 5, false, now(3));
    assert_eq!(positions(&queues.take(now(3), 64)), [6]);
}

#[test]
fn a_reservation_that_ends_at_once_lets_the_next_go() {
    let mut queues = queues([strict()]);
    let permit = queues.reserve(0, Some(1), now(0)).unwrap();
    queues.insert(0, placed(1, 6, false, 0), now(0));
    queues.end(0, 1, 6, false, now(0));
    assert!(queues.take(now(0), 64).is_empty(), "it was another's end");
    queues.settle(&permit, 5, now(0));
    queues.release(&permit, GOOD, now(0), 0.0);
    queues.end(0, 1, 5, false, now(0));
    assert_eq!(positions(&queues.take(now(0), 64)), [6]);
}

#[test]
fn nothing_is_reserved_before_what_is_expected_in_the_line() {
    let mut queues = queues([strict()]);
    let first = queues.expect(0, 1, now(0));
    let second = queues.expect(0, 1, now(0));
    assert!(queues.reserve(0, Some(1), now(0)).is_none());
    assert!(queues.reserve(0, Some(2), now(0)).is_some(), "another line");
    queues.insert_expected(first, placed(1, 6, false, 0), now(0));
    let turns = queues.take(now(0), 64);
    assert_eq!(positions(&turns), [6]);
    release(&mut queues, &turns[0]);
    queues.end(0, 1, 6, false, now(0));
    assert!(queues.reserve(0, Some(1), now(0)).is_none());
    queues.unexpect(second, now(0));
    assert!(queues.reserve(0, Some(1), now(0)).is_some());
}

#[test]
fn one_that_was_planned_later_waits_for_those_before_it_and_for_no_other() {
    let mut queues = queues([strict()]);
    let tickets = [(); 4].map(|()| queues.expect(0, 1, now(0)));
    queues.insert_expected(tickets[1], placed(1, 6, false, 0), now(0));
    queues.insert_expected(tickets[2], placed(1, 7, false, 0), now(0));
    assert!(queues.take(now(0), 64).is_empty(), "5 is still to come");

    queues.insert_expected(tickets[0], placed(1, 5, false, 0), now(0));
    let turns = queues.take(now(0), 64);
    assert_eq!(positions(&turns), [5]);
    release(&mut queues, &turns[0]);
    let next = queues.take_behind(0, 1, 5, now(0)).unwrap();
    assert_eq!(next.position, 6);
    queues.hand_over(&next, 5, now(0));
    release(&mut queues, &next);
    queues.insert(0, placed(1, 6, true, 0), now(0));
    assert_eq!(
        positions(&queues.take(now(0), 64)),
        [6],
        "one that comes back waits for nobody"
    );
}

#[test]
fn the_one_behind_is_not_taken_before_one_that_was_planned_before_it() {
    let mut queues = queues([strict()]);
    queues.insert(0, placed(1, 1, false, 0), now(0));
    let turns = queues.take(now(0), 64);
    let (first, second) = (queues.expect(0, 1, now(0)), queues.expect(0, 1, now(0)));
    queues.insert_expected(second, placed(1, 3, false, 0), now(0));
    release(&mut queues, &turns[0]);
    assert_eq!(queues.take_behind(0, 1, 1, now(0)), None);
    queues.end(0, 1, 1, false, now(0));
    assert!(queues.take(now(0), 64).is_empty());
    queues.unexpect(first, now(0));
    assert_eq!(positions(&queues.take(now(0), 64)), [3]);
}

#[test]
fn a_reservation_whose_delivery_never_came_to_be_leaves_nothing() {
    let mut queues = queues([strict()]);
    let permit = queues.reserve(0, Some(1), now(0)).unwrap();
    queues.insert(0, placed(1, 6, false, 0), now(0));
    assert!(queues.unreserve(&permit, now(0)));
    assert_eq!(positions(&queues.take(now(0), 64)), [6]);
    assert_eq!(queues.open(), 1);
}

#[test]
fn an_end_of_another_moves_nothing() {
    let mut queues = queues([strict()]);
    queues.insert(0, placed(1, 1, false, 0), now(0));
    queues.insert(0, placed(1, 2, false, 0), now(0));
    queues.end(0, 1, 2, false, now(0));
    let turns = queues.take(now(0), 64);
    assert_eq!(positions(&turns), [1]);
    queues.end(0, 1, 2, false, now(0));
    assert!(queues.take(now(0), 64).is_empty());
}

/// Of one line, 1 to 3; the first has been answered and its outcome is being committed.
fn one_answered_and_two_behind(queues: &mut Queues) -> Turn {
    for position in 1..=3 {
        queues.insert(0, placed(1, position, false, 0), now(0));
    }
    let turns = queues.take(now(0), 64);
    release(queues, &turns[0]);
    turns[0]
}

#[test]
fn the_one_behind_is_taken_with_the_outcome_of_the_one_ahead() {
    let mut queues = queues([strict()]);
    one_answered_and_two_behind(&mut queues);

    let second = queues.take_behind(0, 1, 1, now(0)).unwrap();
    assert_eq!((second.position, second.permit.line), (2, Some(1)));
    assert!(queues.take(now(0), 64).is_empty());
    queues.hand_over(&second, 1, now(0));
    assert!(queues.take(now(0), 64).is_empty());

    release(&mut queues, &second);
    queues.end(0, 1, 2, false, now(0));
    assert_eq!(positions(&queues.take(now(0), 64)), [3]);
}

#[test]
fn the_one_behind_a_reservation_is_taken_with_its_outcome() {
    let mut queues = queues([strict()]);
    let permit = queues.reserve(0, Some(1), now(0)).unwrap();
    queues.insert(0, placed(1, 6, false, 0), now(0));
    queues.insert(0, placed(1, 7, false, 0), now(0));
    queues.settle(&permit, 5, now(0));
    queues.release(&permit, GOOD, now(0), 0.0);

    let next = queues.take_behind(0, 1, 5, now(0)).unwrap();
    queues.hand_over(&next, 5, now(0));
    assert!(queues.take(now(0), 64).is_empty());
    release(&mut queues, &next);
    queues.insert(0, placed(1, 6, true, 1), now(0));
    assert_eq!(positions(&queues.take(now(9), 64)), [6]);
}

#[test]
fn one_that_was_taken_and_not_counted_comes_back_to_its_place() {
    let mut queues = queues([strict()]);
    one_answered_and_two_behind(&mut queues);
    let second = queues.take_behind(0, 1, 1, now(0)).unwrap();
    queues.release(&second.permit, None, now(0), 0.0);
    queues.insert(0, placed(1, 2, false, 0), now(0));
    assert!(
        queues.take(now(0), 64).is_empty(),
        "the outcome of the first is not durable"
    );
    queues.end(0, 1, 1, false, now(0));
    assert_eq!(positions(&queues.take(now(0), 64)), [2]);
}

#[test]
fn an_end_of_one_that_was_taken_and_not_counted_frees_nothing() {
    let mut queues = queues([strict()]);
    one_answered_and_two_behind(&mut queues);
    let second = queues.take_behind(0, 1, 1, now(0)).unwrap();
    queues.supersede(0, 2, now(0));
    queues.end(0, 1, 2, false, now(0));
    queues.release(&second.permit, None, now(0), 0.0);
    assert!(queues.take(now(0), 64).is_empty());
    queues.end(0, 1, 1, false, now(0));
    assert_eq!(positions(&queues.take(now(0), 64)), [3]);
    assert_eq!(queues.open(), 1);
}

#[test]
fn the_one_behind_waits_for_its_turn_where_it_could_not_go_at_once() {
    type Hinder = fn(&mut Queues);
    let hindrances: [(&str, Hinder); 6] = [
        ("it is not due", |queues| {
            queues.supersede(0, 2, now(0));
            queues.supersede(0, 3, now(0));
            queues.insert(0, placed(1, 4, false, 5), now(0));
        }),
        ("it is to be sent alone", |queues| {
            queues.supersede(0, 2, now(0));
            let suspect = Item {
                suspect: true,
                ..placed(1, 2, false, 0)
            };
            queues.insert(0, suspect, now(0));
        }),
        ("another line of the endpoint is due", |queues| {
            queues.insert(0, placed(2, 9, false, 0), now(0));
        }),
        ("the endpoint is disabled", |queues| {
            let rules = Rules {
                enabled: false,
                ..strict()
            };
            queues.set_endpoint(0, rules, now(0));
        }),
        ("order is strict no more", |queues| {
            queues.set_endpoint(0, rules(), now(0));
        }),
        ("the line goes on already", |queues| {
            queues.end(0, 1, 1, false, now(0));
        }),
    ];
    for (why, hinder) in hindrances {
        let mut queues = queues([strict()]);
        one_answered_and_two_behind(&mut queues);
        hinder(&mut queues);
        assert_eq!(queues.take_behind(0, 1, 1, now(0)), None, "{why}");
    }
}

#[test]
fn the_one_behind_jumps_no_other_endpoint_of_its_client_while_its_share_is_scarce() {
    let mut queues = Queues::new(Capacity {
        total: 64,
        per_client: 2,
    });
    queues.set_endpoint(0, strict(), now(0));
    queues.set_endpoint(1, rules(), now(0));
    queues.insert(1, item(8, 0), now(0));
    queues.insert(1, item(9, 0), now(0));
    assert_eq!(positions(&queues.take(now(0), 1)), [8]);
    one_answered_and_two_behind(&mut queues);
    let others = queues.take(now(0), 64);
    assert_eq!(positions(&others), [9]);
    queues.release(&others[0].permit, GOOD, now(0), 0.0);
    queues.insert(1, item(10, 0), now(0));
    assert_eq!(queues.take_behind(0, 1, 1, now(0)), None);
    assert_eq!(positions(&queues.take(now(0), 64)), [10]);
}

#[test]
fn lines_dissolve_when_order_is_strict_no_more() {
    let mut queues = queues([strict()]);
    for position in 1..=3 {
        queues.insert(0, placed(1, position, false, 0), now(0));
    }
    let turns = queues.take(now(0), 64);
    let suspect = Item {
        suspect: true,
        ..placed(2, 4, false, 9)
    };
    queues.insert(0, suspect, now(0));
    queues.set_endpoint(0, rules(), now(0));
    assert_eq!(positions(&queues.take(now(0), 64)), [2, 3]);
    release(&mut queues, &turns[0]);
    queues.insert(0, placed(1, 1, true, 0), now(0));
    queues.end(0, 1, 2, true, now(0));
    assert_eq!(positions(&queues.take(now(0), 64)), [1]);
    assert_eq!((queues.open(), queues.oldest_due()), (4, Some(at(9))));
}

#[test]
fn a_probe_is_the_head_of_another_line_than_the_last_where_one_is_due() {
    let mut queues = queues([strict()]);
    trip(&mut queues, 0, now(0));
    for (line, position) in [(1, 1), (2, 2)] {
        queues.insert(0, placed(line, position, false, 0), now(0));
    }
    let probe = |queues: &mut Queues, second| {
        let turns = queues.take(now(second), 64);
        answer(queues, &turns, FAILED, now(second));
        for turn in &turns {
            let line = turn.permit.line.unwrap();
            queues.insert(0, placed(line, turn.position, true, 0), now(second));
        }
        positions(&turns)
    };
    assert_eq!(probe(&mut queues, 5), [1]);
    assert_eq!(probe(&mut queues, 1_000), [2]);
    assert_eq!(probe(&mut queues, 10_000), [1], "each in turn");
    queues.supersede(0, 2, now(10_001));
    assert_eq!(probe(&mut queues, 20_000), [1], "no other is due");
    assert_eq!(queues.open_of(0), 1);
}
